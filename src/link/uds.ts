// Clients' channels: Unix datagram (or seqpacket) sockets, one Ethernet frame a message, many messages a system call.
// The frames stay where they are, in a link's memory: io vectors point at them. Headers and vectors lie in mmapped memory
// and are filled in once, but for addresses and lengths.
//
//   n x struct mmsghdr   name 0 | namelen 8 | iov 16 | iovlen 24 | control 32 | controllen 40 | flags 48 | msg_len 56
//   n x struct iovec     base 0 | len 8
// Sources: sendmmsg(2), recvmmsg(2), bits/socket.h.
import { errno } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { bufferAt, mapPrivate, type Pointer, unmap } from "../../ffi/memory.ts";

const MMSGHDR = 16; // words
const IOVEC = 4;
const IOV = 4;
const IOV_LEN = 6;
const FLAGS = 12;
const MSG_LEN = 14;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const EAGAIN = 11;
const ENOMEM = 12;
const EMSGSIZE = 90;
const ENOBUFS = 105;

class Messages {
  protected readonly pointer: Pointer;
  protected readonly words: Int32Array;
  private readonly mappedBytes: number;
  private readonly iov: number;
  // Where frames are: the address of offset 0, and the offset from which on the address has a higher upper half.
  private readonly low: number;
  private readonly high: number;
  private readonly carry: number;

  /** @param base address of the memory that offsets are into */
  constructor(count: number, base: number) {
    this.mappedBytes = count * (MMSGHDR + IOVEC) * 4;
    const address = mapPrivate(this.mappedBytes);
    this.pointer = address as Pointer;
    this.words = new Int32Array(bufferAt(address, this.mappedBytes));
    this.iov = count * MMSGHDR;
    this.low = base | 0;
    this.high = Math.floor(base / 2 ** 32);
    this.carry = 2 ** 32 - (base % 2 ** 32);
    for (let i = 0; i < count; i++) {
      const iov = address + (this.iov + i * IOVEC) * 4;
      this.words[i * MMSGHDR + IOV] = iov | 0;
      this.words[i * MMSGHDR + IOV + 1] = Math.floor(iov / 2 ** 32);
      this.words[i * MMSGHDR + IOV_LEN] = 1;
    }
  }

  /** Message `i` is the `len` bytes at `off`; or is received there, `len` bytes at most. */
  set(i: number, off: number, len: number): void {
    const { words } = this;
    const at = this.iov + i * IOVEC;
    words[at] = (this.low + off) | 0;
    words[at + 1] = off >= this.carry ? this.high + 1 : this.high;
    words[at + 2] = len;
  }

  close(): void {
    unmap(this.pointer as unknown as number, this.mappedBytes);
  }
}

/** Why not all were sent. */
export const FULL = 1;
export const GONE = 2;

export class Sender extends Messages {
  /** After `send` that did not send all: FULL, or GONE where nobody is at the other end. */
  refusal = 0;

  /** Sends messages 0..n; returns how many were taken. Never waits. @param fd -1: not open yet, which is as good as full */
  send(fd: number, n: number): number {
    const sent = fd < 0 ? 0 : libc.sendmmsg(fd, this.pointer, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent === n) return n;
    this.refusal = FULL;
    if (sent >= 0) return sent;
    const error = errno();
    if (error !== EAGAIN && error !== ENOBUFS && error !== ENOMEM && error !== EMSGSIZE) this.refusal = GONE;
    return 0;
  }
}

export class Receiver extends Messages {
  /** Receives up to `n` messages; returns how many, 0 if there are none. Never waits; passed fds are refused by the kernel. */
  receive(fd: number, n: number): number {
    const got = libc.recvmmsg(fd, this.pointer, n, MSG_DONTWAIT, null);
    return got < 0 ? 0 : got;
  }

  /** Bytes of message `i` that are there. */
  bytes(i: number): number {
    return this.words[i * MMSGHDR + MSG_LEN]!;
  }

  /** Whether message `i` was longer than `max`. */
  truncated(i: number): boolean {
    return (this.words[i * MMSGHDR + FLAGS]! & MSG_TRUNC) !== 0;
  }
}
