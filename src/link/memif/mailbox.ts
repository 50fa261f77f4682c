// memif's messages over one end of its socket, with the fds that come along: what server and client have in common.
//
//   one mapping, which the kernel reads and writes:  msghdr 0 | iovec 56 | control 72, 64 bytes | message 136
//
// Source: unix(7), cmsg(3), recvmsg(2).
import { libc } from "../../../ffi/libc.ts";
import { bufferAt, mapPrivate, type Pointer, unmap } from "../../../ffi/memory.ts";
import { encode, type Message, MESSAGE_BYTES } from "./message.ts";

const MSG_CTRUNC = 0x08;
const MSG_TRUNC = 0x20;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;

const FLAGS = 48;
const IOVEC = 56;
const CONTROL = 72;
const CONTROL_BYTES = 64;
const ONE_FD = 20; // bytes of a cmsghdr with one fd; 24 with its padding
const MESSAGE = 136;
const BYTES = MESSAGE + MESSAGE_BYTES;

/** What came: a message's bytes (none: the other side closed), its fds, and whether some of either were cut off. */
export interface Received {
  readonly bytes: Uint8Array;
  /** the receiver's to close */
  readonly fds: number[];
  readonly cut: boolean;
}

export class Mailbox {
  private readonly fd: number;
  private readonly memory = mapPrivate(BYTES, true);
  private readonly view: DataView;
  private readonly bytes: Uint8Array;

  /** @param fd a SOCK_SEQPACKET socket; it stays the caller's */
  constructor(fd: number) {
    this.fd = fd;
    const buffer = bufferAt(this.memory, BYTES);
    this.view = new DataView(buffer);
    this.bytes = new Uint8Array(buffer);
  }

  /** Sends a message, with `passed` if it is a fd. Returns as sendmsg(2) does, errno and all. */
  send(message: Message, flags: number, passed = -1): number {
    this.bytes.set(encode(message), MESSAGE);
    this.header(passed < 0 ? 0 : 24);
    this.view.setBigUint64(CONTROL, BigInt(ONE_FD), true);
    this.view.setInt32(CONTROL + 8, SOL_SOCKET, true);
    this.view.setInt32(CONTROL + 12, SCM_RIGHTS, true);
    this.view.setInt32(CONTROL + 16, passed, true);
    return Number(libc.sendmsg(this.fd, this.memory as Pointer, flags | MSG_NOSIGNAL));
  }

  /** The next message, or undefined where recvmsg(2) fails: errno says why. */
  receive(flags: number): Received | undefined {
    this.header(CONTROL_BYTES);
    const n = Number(libc.recvmsg(this.fd, this.memory as Pointer, flags | MSG_CMSG_CLOEXEC));
    if (n < 0) return undefined;
    return {
      bytes: this.bytes.slice(MESSAGE, MESSAGE + n),
      fds: this.fds(),
      cut: (this.view.getInt32(FLAGS, true) & (MSG_CTRUNC | MSG_TRUNC)) !== 0,
    };
  }

  /** Gives the memory back. */
  close(): void {
    unmap(this.memory, BYTES);
  }

  private header(controlBytes: number): void {
    const { view, memory } = this;
    view.setBigUint64(0, 0n, true);
    view.setUint32(8, 0, true);
    view.setBigUint64(16, BigInt(memory + IOVEC), true);
    view.setBigUint64(24, 1n, true);
    view.setBigUint64(32, BigInt(memory + CONTROL), true);
    view.setBigUint64(40, BigInt(controlBytes), true);
    view.setInt32(FLAGS, 0, true);
    view.setBigUint64(IOVEC, BigInt(memory + MESSAGE), true);
    view.setBigUint64(IOVEC + 8, BigInt(MESSAGE_BYTES), true);
  }

  private fds(): number[] {
    const { view } = this;
    const end = CONTROL + Number(view.getBigUint64(40, true));
    const fds: number[] = [];
    for (let at = CONTROL; at + 16 <= end; ) {
      const length = Number(view.getBigUint64(at, true));
      if (length < 16) break;
      if (view.getInt32(at + 8, true) === SOL_SOCKET && view.getInt32(at + 12, true) === SCM_RIGHTS)
        for (let fd = at + 16; fd + 4 <= Math.min(at + length, end); fd += 4)
          fds.push(view.getInt32(fd, true));
      at += (length + 7) & ~7;
    }
    return fds;
  }
}
