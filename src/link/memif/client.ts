// The client's side of memif: it owns the memory. One memfd, sealed against shrinking, is the only region:
//
//   rings: S2M 0.., M2S 0..   each 128 + 16 * slots bytes | buffers: one a slot of every ring, `bufferBytes` each
//
// S2M: we write frames into the slots' buffers, and head. M2S: every slot always has an empty buffer behind it; we
// take what the server has filled up to tail, and offer the slots again by head. A frame that has come can be sent as it
// lies: its slot and one of S2M change their buffers (`swap`).
// Source: as message.ts and ring.ts.
import { check, errno, SysError } from "../../../ffi/errno.ts";
import { cstring, libc } from "../../../ffi/libc.ts";
import { type Pointer, ptr } from "../../../ffi/memory.ts";
import { frameAddress, frameMemory } from "../../mem/frames.ts";
import { Mailbox } from "./mailbox.ts";
import { decode, type Message, MODE_ETHERNET, VERSION } from "./message.ts";
import { COOKIE } from "./ring.ts";
import { Windows } from "./window.ts";

const AF_UNIX = 1;
const SOCK_SEQPACKET_CLOEXEC = 5 | 0o2000000;
const MFD_CLOEXEC_ALLOW_SEALING = 3;
const F_ADD_SEALS = 1033;
const F_SEAL_SHRINK = 2;
const EFD_CLOEXEC_NONBLOCK = 0o2004000;
const MADV_POPULATE_WRITE = 23;
const POLLIN = 1;
const MSG_DONTWAIT = 0x40;
const ETIMEDOUT = 110;
const EPROTO = 71;
const ECONNREFUSED = 111;
const DESCRIPTORS = 32;
const TAIL = 16;
const HEAD = 1;

export interface ClientOptions {
  /** the server's socket, or a fd that is connected to it, which is the client's from now on */
  readonly server: string | number;
  readonly id?: number;
  readonly mode?: number;
  readonly secret?: Uint8Array;
  readonly name?: string;
  /** queues each way */
  readonly rings?: number;
  /** log2 of the slots of each ring */
  readonly log2?: number;
  readonly bufferBytes?: number;
  /** where in its buffer a frame begins: 2 puts an IP header behind an Ethernet header at a whole word */
  readonly lead?: number;
  readonly timeoutMs?: number;
}

/** One direction of one queue, in our own memory. Frames are given and taken by their byte offset in `bytes`. */
export class ClientRing {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  readonly eventfd: number;
  readonly size: number;
  readonly bufferBytes: number;
  private readonly base: number;
  private readonly one = new BigUint64Array(new ArrayBuffer(8)).fill(1n);
  private head = 0;
  private tail = 0;

  /** @param buffers offset of the first buffer; @param stride from one to the next */
  constructor(
    buffer: ArrayBufferLike,
    offset: number,
    log2: number,
    buffers: number,
    stride: number,
    bufferBytes: number,
  ) {
    this.words = new Int32Array(buffer);
    this.bytes = new Uint8Array(buffer);
    this.size = 2 ** log2;
    this.bufferBytes = bufferBytes;
    this.base = offset >>> 2;
    this.eventfd = check("eventfd for a memif ring", libc.eventfd(0, EFD_CLOEXEC_NONBLOCK));
    this.words[this.base] = COOKIE;
    for (let i = 0; i < this.size; i++) {
      const d = this.base + DESCRIPTORS + i * 4;
      this.words[d + 1] = bufferBytes;
      this.words[d + 2] = buffers + i * stride;
    }
  }

  private descriptor(cursor: number): number {
    return this.base + DESCRIPTORS + ((cursor & (this.size - 1)) << 2);
  }

  private publish(head: number): void {
    const at = this.base + HEAD;
    this.head = head & 0xffff;
    // The lower half is the flags, which the other side may change: it is taken as it is now.
    for (;;) {
      const old = Atomics.load(this.words, at);
      if (Atomics.compareExchange(this.words, at, old, (this.head << 16) | (old & 0xffff)) === old) return;
    }
  }

  private served(): number {
    return Atomics.load(this.words, this.base + TAIL) & 0xffff;
  }

  // To the server (S2M)

  /** Slots that may be filled now. */
  get room(): number {
    return this.size - ((this.head - this.served()) & 0xffff);
  }

  /** Offset of the `i`-th buffer to fill, `i` below `room`. */
  slot(i: number): number {
    return this.words[this.descriptor(this.head + i) + 2]!;
  }

  /** The `i`-th slot holds `len` bytes, and the frame goes on in the next one if there is `more`. */
  fill(i: number, len: number, more = false): void {
    const d = this.descriptor(this.head + i);
    this.words[d] = more ? 1 : 0; // region 0
    this.words[d + 1] = len;
  }

  /** Sends the first `n` slots. */
  send(n: number): void {
    this.publish(this.head + n);
    if ((Atomics.load(this.words, this.base + HEAD) & 1) === 0) this.ring();
  }

  // From the server (M2S)

  /** Offers all buffers. */
  offer(): void {
    this.publish(this.tail + this.size);
  }

  /** Frames that have come. */
  get ready(): number {
    return (this.served() - this.tail) & 0xffff;
  }

  /** Offset and length of the `i`-th buffer that has come, `i` below `ready`; a frame may go on in the next (`more`). */
  at(i: number): number {
    return this.words[this.descriptor(this.tail + i) + 2]!;
  }

  length(i: number): number {
    return this.words[this.descriptor(this.tail + i) + 1]!;
  }

  more(i: number): boolean {
    return (this.words[this.descriptor(this.tail + i)]! & 1) !== 0;
  }

  /** Gives the `i`-th buffer that has come to slot `j` of `to`, a ring to the server, and takes that one's instead. */
  swap(i: number, to: ClientRing, j: number): void {
    const { words } = this;
    const mine = this.descriptor(this.tail + i) + 2;
    const other = to.descriptor(to.head + j) + 2;
    const held = words[mine]!;
    words[mine] = words[other]!;
    words[other] = held;
  }

  /** The first `n` buffers have been looked at: they are offered again. */
  release(n: number): void {
    for (let i = 0; i < n; i++) {
      const d = this.descriptor(this.tail + i);
      this.words[d] = this.words[d]! & ~0xffff;
      this.words[d + 1] = this.bufferBytes;
    }
    this.tail = (this.tail + n) & 0xffff;
    this.publish(this.tail + this.size);
  }

  /** Whether the server need wake us when frames come. */
  interrupts(wanted: boolean): void {
    if (wanted) Atomics.and(this.words, this.base + HEAD, ~1);
    else Atomics.or(this.words, this.base + HEAD, 1);
  }

  private ring(): void {
    libc.write(this.eventfd, ptr(this.one), 8);
  }
}

/** A connected client. */
export class MemifClient implements Disposable {
  /** What the rings and buffers are in. */
  readonly memory: WebAssembly.Memory;
  readonly toServer: ClientRing[] = [];
  readonly fromServer: ClientRing[] = [];
  /** What the server calls its interface. */
  readonly peerName: string;
  /** Readable when the server has something to say: that it ends. */
  readonly socket: number;
  private readonly pollfds = new Int32Array(new ArrayBuffer(8));
  private readonly op: string;
  private readonly memfd: number;
  private readonly memoryBytes: number;
  private readonly windows: Windows | undefined;
  private readonly mailbox: Mailbox | undefined;

  /** Connects, and waits for the server's answers. @throws SysError with the server's reason */
  constructor(options: ClientOptions) {
    const {
      server,
      id = 0,
      mode = MODE_ETHERNET,
      rings = 1,
      log2 = 10,
      bufferBytes = 2048,
      lead = 0,
    } = options;
    this.op = typeof server === "string" ? `connect memif ${server}` : "connect memif";
    this.memfd = -1;
    this.socket = typeof server === "number" ? server : -1;
    try {
      if (typeof server === "string") {
        this.socket = check("socket memif", libc.socket(AF_UNIX, SOCK_SEQPACKET_CLOEXEC, 0));
        const name = new Uint8Array(new ArrayBuffer(110));
        name[0] = AF_UNIX;
        name.set(Buffer.from(server).subarray(0, 107), 2);
        check(this.op, libc.connect(this.socket, ptr(name), name.length), "is netd running with memif on?");
      }
      this.pollfds.set([this.socket, POLLIN]);
      this.mailbox = new Mailbox(this.socket);
      const timeout = options.timeoutMs ?? 5000;
      this.expect("hello", timeout);
      const slots = 2 ** log2;
      const ringBytes = 128 + 16 * slots;
      const buffersAt = Math.ceil((2 * rings * ringBytes) / 4096) * 4096;
      this.memoryBytes = buffersAt + 2 * rings * slots * bufferBytes;
      this.memfd = check(
        "memfd_create memif",
        libc.memfd_create(cstring("memif"), MFD_CLOEXEC_ALLOW_SEALING),
      );
      check("ftruncate memif", libc.ftruncate(this.memfd, this.memoryBytes));
      check("seal memif", libc.fcntl(this.memfd, F_ADD_SEALS, F_SEAL_SHRINK));
      this.memory = frameMemory(0, this.memoryBytes);
      this.windows = new Windows(this.memory, 0, this.memory.buffer.byteLength);
      this.windows.map(this.memfd, this.memoryBytes);
      libc.madvise(frameAddress(this.memory) as Pointer, this.memoryBytes, MADV_POPULATE_WRITE);
      const { buffer } = this.memory;
      for (let i = 0; i < 2 * rings; i++) {
        const first = buffersAt + i * slots * bufferBytes + lead;
        const ring = new ClientRing(buffer, i * ringBytes, log2, first, bufferBytes, bufferBytes - lead);
        (i < rings ? this.toServer : this.fromServer).push(ring);
      }
      const secret = new Uint8Array(24);
      secret.set(options.secret ?? []);
      this.say({ type: "init", version: VERSION, id, mode, secret, name: options.name ?? "netd-client" });
      this.expect("ack", timeout);
      this.say({ type: "addRegion", index: 0, bytes: this.memoryBytes }, this.memfd);
      this.expect("ack", timeout);
      for (let i = 0; i < 2 * rings; i++) {
        const s2m = i < rings;
        const index = i % rings;
        const ring = (s2m ? this.toServer : this.fromServer)[index]!;
        this.say(
          { type: "addRing", s2m, index, region: 0, offset: i * ringBytes, log2, privateBytes: 0 },
          ring.eventfd,
        );
        this.expect("ack", timeout);
      }
      this.say({ type: "connect", name: options.name ?? "netd-client" });
      this.peerName = this.expect("connected", timeout).name;
      for (const ring of this.fromServer) ring.offer();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Why it is over; empty as long as it is not. */
  get ended(): string {
    if (libc.poll(ptr(this.pollfds), 1, 0) === 0) return "";
    const received = this.mailbox!.receive(MSG_DONTWAIT);
    const message = received && decode(received.bytes);
    return message?.type === "disconnect" ? message.reason : "the server closed";
  }

  /** Nothing of it may be used afterwards. */
  [Symbol.dispose](): void {
    for (const { eventfd } of [...this.toServer, ...this.fromServer]) libc.close(eventfd);
    if (this.socket >= 0) libc.close(this.socket);
    this.windows?.unmap(0, this.memoryBytes);
    if (this.memfd >= 0) libc.close(this.memfd);
    this.mailbox?.close();
  }

  private say(message: Message, fd = -1): void {
    check(this.op, this.mailbox!.send(message, 0, fd));
  }

  private expect<T extends Message["type"]>(type: T, timeoutMs: number): Extract<Message, { type: T }> {
    if (libc.poll(ptr(this.pollfds), 1, timeoutMs) <= 0)
      throw new SysError(this.op, ETIMEDOUT, `no ${type} from the server in ${timeoutMs} ms`);
    const received = this.mailbox!.receive(0);
    if (received === undefined) throw new SysError(this.op, errno(), `while waiting for ${type}`);
    for (const fd of received.fds) libc.close(fd); // a server passes none
    const message = decode(received.bytes);
    if (message?.type === type) return message as Extract<Message, { type: T }>;
    if (message?.type === "disconnect") throw new SysError(this.op, ECONNREFUSED, message.reason);
    const what =
      received.bytes.length === 0
        ? "the server closed"
        : `${message?.type ?? "no message"} instead of ${type}`;
    throw new SysError(this.op, EPROTO, what);
  }
}
