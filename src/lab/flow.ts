// A flow: one connected UDP socket of the peer's kernel that keeps a window of numbered datagrams in the air and
// counts what comes back. Closed loop: it can ask for no more than is answered, so that what is lost is a fault.
//
// Memory, mmapped because the kernel reads pointers in it: `BATCH` struct mmsghdr (64 bytes), `BATCH` struct iovec
// (16), `BATCH` payloads; once for sending, once for receiving. Source: recvmmsg(2), struct mmsghdr.
import { check, errno } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { bufferAt, mapPrivate, type Pointer, ptr, unmap } from "../../ffi/memory.ts";
import { formatIPv4 } from "../wire/address.ts";

const AF_INET = 2;
const SOCK_DGRAM_NONBLOCK_CLOEXEC = 2 | 0x800 | 0x80000;
const MSG_DONTWAIT = 0x40;
const EAGAIN = 11;
const ECONNREFUSED = 111;
const BATCH = 32;
const MMSGHDR = 64;
const SILENCE_MS = 300; // without an answer for so long, what is in the air is lost

export interface FlowSpec {
  name: string;
  /** memory words */
  source: number;
  destination: number;
  port: number;
  payloadBytes: number;
  /** datagrams in the air at most */
  window: number;
}

/** struct sockaddr_in; `port` 0 lets the kernel choose. */
function sockaddr(address: number, port: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(16));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port);
  view.setInt32(4, address, true);
  return bytes;
}

/** `BATCH` messages of `bytes` bytes each, ready for sendmmsg or recvmmsg. */
class Messages {
  readonly address: number;
  readonly words: Int32Array;
  private readonly payload: number;
  private readonly stride: number;
  private readonly bytes: number;

  constructor(payloadBytes: number) {
    this.stride = (payloadBytes + 63) & ~63;
    this.payload = BATCH * (MMSGHDR + 16);
    this.bytes = this.payload + BATCH * this.stride;
    this.address = mapPrivate(this.bytes);
    const buffer = bufferAt(this.address, this.bytes);
    this.words = new Int32Array(buffer);
    const view = new DataView(buffer);
    for (let i = 0; i < BATCH; i++) {
      const iovec = BATCH * MMSGHDR + i * 16;
      view.setBigUint64(i * MMSGHDR + 16, BigInt(this.address + iovec), true);
      view.setBigUint64(i * MMSGHDR + 24, 1n, true);
      view.setBigUint64(iovec, BigInt(this.address + this.payload + i * this.stride), true);
      view.setBigUint64(iovec + 8, BigInt(payloadBytes), true);
    }
  }

  /** Word index of message `i`'s payload. */
  at(i: number): number {
    return (this.payload + i * this.stride) >> 2;
  }

  /** Bytes received into message `i`. */
  length(i: number): number {
    return this.words[(i * MMSGHDR + 56) >> 2]!;
  }

  close(): void {
    unmap(this.address, this.bytes);
  }
}

export class Flow {
  readonly fd: number;
  /** Totals. `unresolved`: sent before the first answer ever came, and not answered. */
  sent = 0;
  received = 0;
  lost = 0;
  unresolved = 0;
  corrupt = 0;
  private readonly spec: FlowSpec;
  private readonly out: Messages;
  private readonly in: Messages;
  private inAir = 0;
  private sequence = 0;
  private heardAt = 0;

  /** Opens the socket in the calling thread's network namespace. */
  constructor(spec: FlowSpec) {
    this.spec = spec;
    this.out = new Messages(spec.payloadBytes);
    this.in = new Messages(spec.payloadBytes);
    this.fd = check("socket AF_INET", libc.socket(AF_INET, SOCK_DGRAM_NONBLOCK_CLOEXEC, 0));
    const source = sockaddr(spec.source, 0);
    check(`bind ${formatIPv4(spec.source)}`, libc.bind(this.fd, ptr(source), 16));
    const destination = sockaddr(spec.destination, spec.port);
    check(`connect ${formatIPv4(spec.destination)}`, libc.connect(this.fd, ptr(destination), 16));
  }

  /** Whether everything sent was answered or given up. */
  get idle(): boolean {
    return this.inAir === 0;
  }

  /** Fills the window. Before the first answer one datagram is in the air: the neighbour may not be resolved. */
  send(now: number): void {
    const window = this.received === 0 ? 1 : this.spec.window;
    const n = Math.min(window - this.inAir, BATCH);
    if (n <= 0) return;
    for (let i = 0; i < n; i++) {
      const at = this.out.at(i);
      this.out.words[at] = this.sequence + i;
      this.out.words[at + 1] = ~(this.sequence + i);
    }
    const done = libc.sendmmsg(this.fd, this.out.address as Pointer, n, MSG_DONTWAIT);
    if (done < 0) {
      const code = errno();
      if (code !== EAGAIN && code !== ECONNREFUSED) check(`sendmmsg ${this.spec.name}`, done);
      return;
    }
    if (this.inAir === 0) this.heardAt = now;
    this.sequence = (this.sequence + done) | 0;
    this.sent += done;
    this.inAir += done;
  }

  /** Takes what came back; gives up what is silent for too long. */
  receive(now: number): void {
    for (;;) {
      const n = libc.recvmmsg(this.fd, this.in.address as Pointer, BATCH, MSG_DONTWAIT, null);
      if (n <= 0) break;
      for (let i = 0; i < n; i++) {
        const at = this.in.at(i);
        const whole = this.in.length(i) === this.spec.payloadBytes;
        if (!whole || this.in.words[at] !== ~this.in.words[at + 1]!) this.corrupt++;
      }
      this.received += n;
      // An answer that was given up already takes its loss back.
      const late = Math.max(0, n - this.inAir);
      const lost = Math.min(late, this.lost);
      this.lost -= lost;
      this.unresolved -= late - lost;
      this.inAir -= n - late;
      this.heardAt = now;
      if (n < BATCH) break;
    }
    if (this.inAir > 0 && now - this.heardAt > SILENCE_MS) {
      if (this.received === 0) this.unresolved += this.inAir;
      else this.lost += this.inAir;
      this.inAir = 0;
    }
  }

  close(): void {
    libc.close(this.fd);
    this.out.close();
    this.in.close();
  }
}
