// One client's control socket, from the accept on: messages and fds in, a Session's answers out. Non-blocking; the caller
// waits in epoll and calls `read` when there is something. A client that breaks the rules is told why, and closed.
// Source: unix(7), cmsg(3); F_GET_SEALS: fcntl(2).
import { readlinkSync, statSync } from "node:fs";
import { errno } from "../../../ffi/errno.ts";
import { libc } from "../../../ffi/libc.ts";
import { bufferAt, mapPrivate, type Pointer, unmap } from "../../../ffi/memory.ts";
import { decode, encode, type Message, MESSAGE_BYTES } from "./message.ts";
import { type FdFacts, Refusal, Session, type Limits } from "./session.ts";

const MSG_DONTWAIT = 0x40;
const MSG_CTRUNC = 0x08;
const MSG_TRUNC = 0x20;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const EAGAIN = 11;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;
const F_GET_SEALS = 1034;
const F_SEAL_SHRINK = 2;

// One mapping:  msghdr 0 | iovec 56 | control 72, 64 bytes | message 136
const IOVEC = 56;
const CONTROL = 72;
const CONTROL_BYTES = 64;
const MESSAGE = 136;
const BYTES = MESSAGE + MESSAGE_BYTES;

function factsOf(fd: number): FdFacts {
  const path = `/proc/self/fd/${fd}`;
  const seals = libc.fcntl(fd, F_GET_SEALS, 0);
  const isEventfd = readlinkSync(path) === "anon_inode:[eventfd]";
  // A write to an eventfd that is full would wait for its reader, which is the client.
  if (isEventfd) libc.fcntl(fd, F_SETFL, libc.fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
  return { bytes: statSync(path).size, shrinkSealed: seals >= 0 && (seals & F_SEAL_SHRINK) !== 0, isEventfd };
}

export class Connection {
  readonly fd: number;
  readonly session: Session;
  /** Why it ended, once it has. */
  ended = "";
  private readonly memory = mapPrivate(BYTES, true);
  private readonly view: DataView;
  private readonly bytes: Uint8Array;

  /** Greets the client. @param fd accepted, and from now on ours */
  constructor(fd: number, name: string, limits: Limits) {
    this.fd = fd;
    this.session = new Session(limits);
    const buffer = bufferAt(this.memory, BYTES);
    this.view = new DataView(buffer);
    this.bytes = new Uint8Array(buffer);
    this.say(this.session.hello(name));
  }

  /**
   * Takes what has come. True once the client is connected and its rings can be mapped: the caller answers with
   * `connected` or `refuse`. `ended` says whether it is over.
   */
  read(): boolean {
    while (this.ended === "") {
      this.header(CONTROL_BYTES);
      const n = Number(libc.recvmsg(this.fd, this.memory as Pointer, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
      if (n < 0 && errno() === EAGAIN) return false;
      if (n <= 0) {
        this.ended = "the client closed its socket";
        return false;
      }
      const fds = this.received();
      try {
        if (fds.length > 1 || (this.view.getInt32(48, true) & (MSG_CTRUNC | MSG_TRUNC)) !== 0)
          throw new Refusal("a message with more than one file descriptor, or of more than 128 bytes");
        const message = decode(this.bytes.slice(MESSAGE, MESSAGE + n));
        if (message === undefined) throw new Refusal(`${n} bytes that are no message of memif 2.0`);
        const fd = fds[0] ?? -1;
        const known = this.session.fds.length;
        const answer = this.session.take(message, fd, fd < 0 ? undefined : factsOf(fd));
        if (this.session.fds.length > known) fds.length = 0; // the session has it now
        if (this.session.state === "over") {
          this.ended = message.type === "disconnect" ? `the client left: ${message.reason}` : "over";
          return false;
        }
        if (message.type === "connect") return true;
        if (answer) this.say(answer);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        this.refuse(error.message);
      } finally {
        for (const fd of fds) libc.close(fd);
      }
    }
    return false;
  }

  connected(name: string): void {
    this.say({ type: "connected", name });
  }

  /** Tells the client why it has to go. */
  refuse(reason: string): void {
    this.say({ type: "disconnect", code: 1, reason });
    this.ended = reason;
  }

  /** Closes the socket and every fd that came by it. */
  close(): void {
    for (const fd of this.session.fds) libc.close(fd);
    libc.close(this.fd);
    unmap(this.memory, BYTES);
  }

  private say(message: Message): void {
    this.bytes.set(encode(message), MESSAGE);
    this.header(0);
    // A client that does not read its 128-byte messages does not get them.
    libc.sendmsg(this.fd, this.memory as Pointer, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  private header(controlBytes: number): void {
    const { view, memory } = this;
    view.setBigUint64(0, 0n, true);
    view.setUint32(8, 0, true);
    view.setBigUint64(16, BigInt(memory + IOVEC), true);
    view.setBigUint64(24, 1n, true);
    view.setBigUint64(32, BigInt(memory + CONTROL), true);
    view.setBigUint64(40, BigInt(controlBytes), true);
    view.setInt32(48, 0, true);
    view.setBigUint64(IOVEC, BigInt(memory + MESSAGE), true);
    view.setBigUint64(IOVEC + 8, BigInt(MESSAGE_BYTES), true);
  }

  /** The fds of the message that was just received. */
  private received(): number[] {
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
