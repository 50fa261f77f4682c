// Frames over memif: shared memory, no system call as long as both sides are awake. The client owns the memory. Its queues
// are shared out among the daemon's net Workers. An answer in place goes out by the queue that its frame came by: the one of
// the Worker that has the flow.
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { BATCH, type Batch } from "../link/link.ts";
import { MemifClient } from "../link/memif/client.ts";
import { MODE_ETHERNET, MODE_IP } from "../link/memif/message.ts";
import { ETHERNET } from "../wire/ether.ts";
import type { Pipe } from "./pipe.ts";

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLLIN = 1;
const EPOLLET = 1 << 31;
const LEAD = 2;

export class MemifPipe implements Pipe {
  readonly kind = "memif";
  readonly head: number;
  readonly memory: WebAssembly.Memory;
  readonly longest: number;
  readonly fd: number;
  private readonly client: MemifClient;
  private readonly queues: number;
  /** Frames by queue that wait for `flush`, and how many more there is room for, as it was seen last. */
  private readonly waiting: Int32Array;
  private readonly room: Int32Array;
  /** Slots of the frames last received, before frames of several parts were left out, and of which queue. */
  private readonly slots = new Int32Array(BATCH);
  private taken = 0;
  private queue = 0;
  private lost = "";
  private isClosed = false;

  /**
   * @param socket connected to the daemon, from now on ours; @param mtu bytes of a packet at most
   * @param log2 of the slots of each ring
   */
  constructor(socket: number, mtu: number, ip: boolean, queues: number, log2: number) {
    this.head = ip ? 0 : ETHERNET;
    this.longest = mtu + this.head;
    this.client = new MemifClient({
      server: socket,
      mode: ip ? MODE_IP : MODE_ETHERNET,
      rings: queues,
      log2,
      lead: ip ? 0 : LEAD,
      bufferBytes: (this.longest + LEAD + 63) & ~63,
    });
    const { memory, fromServer } = this.client;
    this.memory = memory;
    this.queues = fromServer.length;
    this.waiting = new Int32Array(this.queues);
    this.room = new Int32Array(this.queues);
    for (const ring of fromServer) ring.interrupts(false);
    this.fd = check("epoll_create1", libc.epoll_create1(EPOLL_CLOEXEC));
    this.watch(this.client.socket, EPOLLIN);
    // Every write to an eventfd is an edge, told once: nobody has to read it.
    for (const { eventfd } of fromServer) this.watch(eventfd, EPOLLIN | EPOLLET);
  }

  get staged(): number {
    let staged = 0;
    for (let q = 0; q < this.queues; q++) staged += this.waiting[q]!;
    return staged;
  }

  receive(batch: Batch): void {
    const { queues, slots } = this;
    batch.n = 0;
    for (let k = 0; k < queues; k++) {
      this.queue = this.queue + 1 < queues ? this.queue + 1 : 0; // in turn
      const from = this.client.fromServer[this.queue]!;
      const ready = from.ready;
      if (ready === 0) continue;
      this.taken = ready < BATCH ? ready : BATCH;
      let isRest = false;
      for (let i = 0; i < this.taken; i++) {
        const isPart = from.more(i);
        if (!isPart && !isRest) {
          slots[batch.n] = i;
          batch.off[batch.n] = from.at(i);
          batch.len[batch.n++] = from.length(i);
        }
        isRest = isPart; // longer than a buffer: the card's MTU has grown
      }
      return;
    }
  }

  reply(i: number, len: number): boolean {
    const { client, queue, waiting } = this;
    const at = waiting[queue]!;
    if (!this.hasRoom(queue)) return false;
    const to = client.toServer[queue]!;
    client.fromServer[queue]!.swap(this.slots[i]!, to, at);
    to.fill(at, len);
    waiting[queue] = at + 1;
    return true;
  }

  release(): void {
    if (this.taken > 0) this.client.fromServer[this.queue]!.release(this.taken);
    this.taken = 0;
  }

  take(): number {
    return this.hasRoom(0) ? this.client.toServer[0]!.slot(this.waiting[0]!) : -1;
  }

  push(len: number): void {
    this.client.toServer[0]!.fill(this.waiting[0]!++, len);
  }

  flush(): void {
    const { client, waiting, room } = this;
    if (this.isClosed) return;
    for (let q = 0; q < this.queues; q++) {
      const n = waiting[q]!;
      if (n === 0) continue;
      client.toServer[q]!.send(n);
      waiting[q] = 0;
      room[q] = room[q]! - n;
    }
  }

  private watch(fd: number, events: number): void {
    check("epoll_ctl", libc.epoll_ctl(this.fd, EPOLL_CTL_ADD, fd, ptr(Int32Array.of(events, fd, 0))));
  }

  private hasRoom(queue: number): boolean {
    const { room, waiting } = this;
    if (this.isClosed) return false;
    if (waiting[queue]! < room[queue]!) return true;
    room[queue] = this.client.toServer[queue]!.room;
    return waiting[queue]! < room[queue]!;
  }

  get hasFrames(): boolean {
    for (const ring of this.client.fromServer) if (ring.ready > 0) return true;
    return false;
  }

  arm(): boolean {
    for (const ring of this.client.fromServer) ring.interrupts(true);
    if (!this.hasFrames) return this.lost === "";
    this.disarm();
    return false;
  }

  disarm(): void {
    for (const ring of this.client.fromServer) ring.interrupts(false);
  }

  gone(): string {
    this.lost ||= this.client.ended;
    return this.lost;
  }

  close(): void {
    this.isClosed = true;
    libc.close(this.fd);
    this.client[Symbol.dispose]();
  }
}
