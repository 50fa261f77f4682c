// Frames over a channel's Unix socket, one a datagram: two system calls a batch. Received frames and those to send lie in
// buffers of one memory, which change sides where a frame is answered in place.
//
// The kernel does not tell when the other end of such a socket is closed; it does tell, by a pidfd, when the process that
// made it has ended.
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { peerOf } from "../control/peer.ts";
import { BATCH, type Batch } from "../link/link.ts";
import { GONE, Receiver, Sender } from "../link/uds.ts";
import { frameAddress, frameMemory } from "../mem/frames.ts";
import { ETHERNET } from "../wire/ether.ts";
import type { Pipe } from "./pipe.ts";

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLLIN = 1;
const POLLIN = 1;
const LEAD = 2;
const SENDS = 256;

export class UnixPipe implements Pipe {
  readonly kind = "unix";
  readonly head: number = ETHERNET;
  readonly memory: WebAssembly.Memory;
  readonly longest: number;
  readonly fd: number;
  staged = 0;
  private readonly channel: number;
  private readonly pidfd: number;
  private readonly pollfds = new Int32Array(new ArrayBuffer(8));
  private readonly receiver: Receiver;
  private readonly sender: Sender;
  // Buffers by place: to receive into; to send from, the first `staged` with a frame of so many bytes.
  private readonly from = new Int32Array(BATCH);
  private readonly to = new Int32Array(SENDS);
  private readonly bytes = new Int32Array(SENDS);
  private lost = "";
  private isClosed = false;

  /** @param channel the fd, from now on ours; @param longest bytes of a frame */
  constructor(channel: number, longest: number) {
    this.channel = channel;
    this.longest = longest;
    const stride = (longest + LEAD + 63) & ~63;
    this.memory = frameMemory((BATCH + SENDS) * stride);
    const base = frameAddress(this.memory);
    this.receiver = new Receiver(BATCH, base);
    this.sender = new Sender(BATCH, base);
    for (let i = 0; i < BATCH; i++) this.from[i] = i * stride + LEAD;
    for (let i = 0; i < SENDS; i++) this.to[i] = (BATCH + i) * stride + LEAD;
    for (let i = 0; i < BATCH; i++) this.receiver.set(i, this.from[i]!, longest);
    this.pidfd = peerOf(channel).pidfd;
    this.pollfds.set([this.pidfd, POLLIN]);
    this.fd = check("epoll_create1", libc.epoll_create1(EPOLL_CLOEXEC));
    for (const fd of this.pidfd < 0 ? [channel] : [channel, this.pidfd])
      check("epoll_ctl", libc.epoll_ctl(this.fd, EPOLL_CTL_ADD, fd, ptr(Int32Array.of(EPOLLIN, fd, 0))));
  }

  receive(batch: Batch): void {
    const { receiver, from } = this;
    const n = receiver.receive(this.channel, BATCH);
    batch.n = n;
    for (let i = 0; i < n; i++) {
      batch.off[i] = from[i]!;
      batch.len[i] = receiver.truncated(i) ? 0 : receiver.bytes(i);
    }
  }

  reply(i: number, len: number): boolean {
    const { from, to, staged } = this;
    if (staged === SENDS || this.isClosed) return false;
    const off = from[i]!;
    from[i] = to[staged]!;
    this.receiver.set(i, from[i]!, this.longest);
    to[staged] = off;
    this.push(len);
    return true;
  }

  release(): void {}

  take(): number {
    if (this.staged === SENDS) this.flush();
    return this.staged === SENDS || this.isClosed ? -1 : this.to[this.staged]!;
  }

  push(len: number): void {
    this.bytes[this.staged++] = len;
  }

  flush(): void {
    const { sender, to, bytes } = this;
    while (this.staged > 0 && !this.isClosed) {
      const n = this.staged < BATCH ? this.staged : BATCH;
      for (let i = 0; i < n; i++) sender.set(i, to[i]!, bytes[i]!);
      const sent = sender.send(this.channel, n);
      if (sent < n && sender.refusal === GONE) this.lost = "nobody is at the channel's other end";
      if (sent === 0) return;
      this.staged -= sent;
      // What was sent is free: behind those that wait, which stay in order.
      for (let i = 0; i < this.staged; i++) {
        const free = to[i]!;
        to[i] = to[i + sent]!;
        bytes[i] = bytes[i + sent]!;
        to[i + sent] = free;
      }
    }
  }

  get hasFrames(): boolean {
    return false;
  }

  arm(): boolean {
    return this.lost === "";
  }

  disarm(): void {}

  gone(): string {
    if (this.pidfd >= 0 && libc.poll(ptr(this.pollfds), 1, 0) > 0) this.lost ||= "its process has ended";
    return this.lost;
  }

  close(): void {
    this.isClosed = true;
    for (const fd of [this.fd, this.channel, this.pidfd]) if (fd >= 0) libc.close(fd);
    this.receiver.close();
    this.sender.close();
  }
}
