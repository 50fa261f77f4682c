// A control socket: AF_UNIX, SOCK_DGRAM, at a path. The kernel says who sent a datagram (peer.ts), and a sender
// is answered at the path that it bound; those that have none, or an abstract one, are not heard (usnetd's rule).
// Non-blocking: an answer that does not fit into its reader's queue is the reader's loss.
//
//   mapped memory, because C keeps no pointer but the kernel reads them from here:
//   msghdr (56) | iovec (16) | name: sockaddr_un (112) | control (2048) | request (65536) | answer
//
// The main thread makes the path (a umask is the whole process's) and takes it away; the control Worker has the fd.
// Source: unix(7), recvmsg(2).
import { chmodSync, chownSync, lstatSync, mkdirSync, rmdirSync, unlinkSync } from "node:fs";
import { dirname } from "node:path";
import { check, errno, SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { bufferAt, mapPrivate, type Pointer, ptr, unmap } from "../../ffi/memory.ts";
import { ownsPath, type Peer, pidfdOpen, readAncillary } from "./peer.ts";
import { ANSWER_BYTES, REQUEST_BYTES } from "./protocol.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_SEQPACKET = 5;
const SOCK_NONBLOCK_CLOEXEC = 0o2004000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_PASSCRED = 16;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SO_PASSPIDFD = 76;
const SO_PASSRIGHTS = 83;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_TRUNC = 0x20;
const MSG_CMSG_CLOEXEC = 0x40000000;
const EACCES = 13;
const EEXIST = 17;
const EADDRINUSE = 98;

const IOVEC = 56;
const NAME = 72;
const NAME_BYTES = 112;
const CONTROL = NAME + NAME_BYTES;
const CONTROL_BYTES = 2048; // as many fds as a sender can pass, credentials and a pidfd
const REQUEST = CONTROL + CONTROL_BYTES;
const REQUEST_ROOM = 65_536; // more than REQUEST_BYTES: a longer request is seen to be one
const ANSWER = REQUEST + REQUEST_ROOM;
const BYTES = ANSWER + ANSWER_BYTES;
/** Requests wait here while others are worked on: net.unix.max_dgram_qlen bounds their number. */
const QUEUE_BYTES = 4 << 20;

const FORBIDDEN = "run netd as root, or choose paths in a directory that this user may write: switch.sockets";

/** A request as it came. */
export interface Received {
  /** where its sender is bound: the path's bytes, one a character */
  readonly path: string;
  readonly peer: Peer;
  /** the receiver's to close */
  readonly pidfd: number;
  /** good until the next receive() */
  readonly bytes: Uint8Array;
}

/** sockaddr_un of a path; its length is what is used of it. */
function address(path: Uint8Array): Uint8Array<ArrayBuffer> {
  const name = new Uint8Array(new ArrayBuffer(2 + path.length + 1));
  name[0] = AF_UNIX;
  name.set(path, 2);
  return name;
}

/** Takes away what a dead server left at `path`. @throws SysError if a live one has it, or it is no socket */
export function clearPath(path: string): void {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (!stat) return;
  const op = `control socket ${path}`;
  if (!stat.isSocket()) throw new SysError(op, EEXIST, "not a socket; choose another path");
  const name = address(Buffer.from(path));
  for (const type of [SOCK_DGRAM, SOCK_SEQPACKET]) {
    const fd = check(op, libc.socket(AF_UNIX, type | SOCK_NONBLOCK_CLOEXEC, 0));
    const connected = libc.connect(fd, ptr(name), name.length) === 0;
    libc.close(fd);
    if (connected)
      throw new SysError(
        op,
        EADDRINUSE,
        "another process serves it (usnetd, or another netd?); stop it, or choose other paths: switch.sockets",
      );
  }
  unlinkSync(path);
}

/** A socket bound to a path of ours. */
export interface Bound {
  readonly path: string;
  readonly fd: number;
  /** Closes it, and takes its path away if it is still the same. */
  close(): void;
}

/**
 * Binds a socket to `path`; its directory is made if it is missing. Main thread.
 * @param group gid of who may use it beside root
 * @param mode of its path
 * @param type "requests" takes datagrams, "channel" connections (SEQPACKET)
 * @throws SysError; then nothing is left
 */
export function bindPath(
  path: string,
  group: number | undefined,
  mode: number,
  type: "requests" | "channel",
): Bound {
  clearPath(path);
  const directory = dirname(path);
  const made = mkdirSync(directory, { recursive: true, mode: 0o755 }) !== undefined;
  const op = `control socket ${path}`;
  const kind = type === "requests" ? SOCK_DGRAM : SOCK_SEQPACKET;
  const fd = check(op, libc.socket(AF_UNIX, kind | SOCK_NONBLOCK_CLOEXEC, 0));
  let inode = -1;
  const close = () => {
    libc.close(fd);
    if (inode >= 0 && lstatSync(path, { throwIfNoEntry: false })?.ino === inode) unlinkSync(path);
    if (!made) return;
    try {
      rmdirSync(directory);
    } catch {
      // Somebody else uses it by now.
    }
  };
  try {
    const name = address(Buffer.from(path));
    const umask = process.umask(0o177); // bind(2) applies it: there is no moment at which others could connect
    try {
      if (libc.bind(fd, ptr(name), name.length) < 0) {
        const number = errno();
        throw new SysError(op, number, number === EACCES ? FORBIDDEN : "");
      }
    } finally {
      process.umask(umask);
    }
    inode = lstatSync(path).ino;
    if (group !== undefined) chownSync(path, -1, group);
    chmodSync(path, mode);
    if (type === "channel") check(op, libc.listen(fd, 16));
    else {
      check(op, set(fd, SO_PASSCRED, 1));
      set(fd, SO_PASSPIDFD, 1); // where the kernel has them
      set(fd, SO_PASSRIGHTS, 0);
      if (set(fd, SO_SNDBUFFORCE, QUEUE_BYTES) < 0) set(fd, SO_SNDBUF, QUEUE_BYTES);
      if (set(fd, SO_RCVBUFFORCE, QUEUE_BYTES) < 0) set(fd, SO_RCVBUF, QUEUE_BYTES);
    }
    return { path, fd, close };
  } catch (error) {
    close();
    throw error;
  }
}

const set = (fd: number, option: number, value: number): number =>
  libc.setsockopt(fd, SOL_SOCKET, option, ptr(Int32Array.of(value)), 4);

/** The control Worker's side of a socket that takes requests. */
export class ControlSocket {
  readonly fd: number;
  readonly path: string;
  /** Datagrams of senders that cannot be answered. */
  unheard = 0;
  private readonly memory = mapPrivate(BYTES, true);
  private readonly view: DataView<ArrayBuffer>;
  private readonly bytes: Uint8Array<ArrayBuffer>;
  private readonly encoder = new TextEncoder();

  constructor(fd: number, path: string) {
    this.fd = fd;
    this.path = path;
    const buffer = bufferAt(this.memory, BYTES);
    this.view = new DataView(buffer);
    this.bytes = new Uint8Array(buffer);
  }

  /** The next request that can be answered, or undefined. */
  receive(): Received | undefined {
    const { view } = this;
    for (;;) {
      this.header(NAME_BYTES, REQUEST, REQUEST_ROOM, CONTROL_BYTES);
      const n = Number(libc.recvmsg(this.fd, this.memory as Pointer, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
      if (n < 0) return undefined; // EAGAIN; whatever else it is, epoll says so again
      const { peer, pidfd } = readAncillary(
        new DataView(view.buffer, CONTROL, CONTROL_BYTES),
        view.getUint32(40, true),
      );
      const nameBytes = view.getUint32(8, true);
      const name = this.bytes.subarray(NAME + 2, NAME + Math.min(nameBytes, NAME_BYTES));
      const end = name.indexOf(0);
      const path = Buffer.from(end < 0 ? name : name.subarray(0, end)).toString("latin1");
      const owner = peer && pidfd < 0 ? pidfdOpen(peer.pid) : pidfd;
      if (nameBytes > 2 && path !== "" && peer !== undefined && owner >= 0 && ownsPath(path, peer)) {
        // One too long for its room is told from one that just fits by its last byte's place.
        const cut = (view.getInt32(48, true) & MSG_TRUNC) !== 0;
        return {
          path,
          peer,
          pidfd: owner,
          bytes: this.bytes.subarray(REQUEST, REQUEST + (cut ? REQUEST_BYTES + 1 : n)),
        };
      }
      if (owner >= 0) libc.close(owner);
      this.unheard++;
    }
  }

  /** Answers at `path`, with a fd if one is given. Returns 0 or -errno: -EAGAIN is a full queue. */
  send(path: string, answer: string, fd = -1): number {
    const name = address(Buffer.from(path, "latin1"));
    this.bytes.set(name, NAME);
    const { written } = this.encoder.encodeInto(answer, this.bytes.subarray(ANSWER, BYTES));
    this.header(name.length, ANSWER, written, fd < 0 ? 0 : 24);
    if (fd >= 0) {
      this.view.setBigUint64(CONTROL, 20n, true);
      this.view.setInt32(CONTROL + 8, SOL_SOCKET, true);
      this.view.setInt32(CONTROL + 12, SCM_RIGHTS, true);
      this.view.setInt32(CONTROL + 16, fd, true);
    }
    const sent = Number(libc.sendmsg(this.fd, this.memory as Pointer, MSG_DONTWAIT | MSG_NOSIGNAL));
    return sent < 0 ? -errno() : 0;
  }

  /** Gives its memory back; the fd is the main thread's. */
  close(): void {
    unmap(this.memory, BYTES);
  }

  private header(nameBytes: number, iov: number, iovBytes: number, controlBytes: number): void {
    const { view, memory } = this;
    const address = (off: number, to: number) => view.setBigUint64(off, BigInt(memory + to), true);
    address(0, NAME);
    view.setUint32(8, nameBytes, true);
    address(16, IOVEC);
    view.setBigUint64(24, 1n, true);
    address(32, CONTROL);
    view.setBigUint64(40, BigInt(controlBytes), true);
    view.setInt32(48, 0, true);
    address(IOVEC, iov);
    view.setBigUint64(IOVEC + 8, BigInt(iovBytes), true);
  }
}
