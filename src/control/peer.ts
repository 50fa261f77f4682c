// Who sent a request, by the kernel's word: pid, uid and gid from SCM_CREDENTIALS, and a pidfd, which stays that process
// however often its pid is used again, and becomes readable when the process ends. From SCM_PIDFD (Linux 6.5) where the
// kernel gives it with the datagram; else from pidfd_open(2), which may find another process that has the pid by then.
//
//   cmsghdr: length (64 bits) | level | type | data, and the next one at a multiple of 8
// Sources: unix(7), cmsg(3), pidfd_open(2); linux/socket.h.
import { lstatSync } from "node:fs";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SCM_CREDENTIALS = 2;
const SCM_PIDFD = 4;
const SO_PEERCRED = 17;
const SO_PEERPIDFD = 77;
const SYS_PIDFD_OPEN = 434;

export interface Peer {
  /** in the daemon's pid namespace; 0 from outside of it */
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** What came with a datagram beside its bytes. Fds that a sender passes are closed: nothing here takes any. */
export interface Ancillary {
  readonly peer: Peer | undefined;
  /** the receiver's to close; -1: none */
  readonly pidfd: number;
}

export function readAncillary(view: DataView, length: number): Ancillary {
  let peer: Peer | undefined;
  let pidfd = -1;
  for (let at = 0; at + 16 <= length; ) {
    const bytes = view.getUint32(at, true);
    if (bytes < 16 || at + bytes > length) break;
    const type = view.getInt32(at + 8, true) === SOL_SOCKET ? view.getInt32(at + 12, true) : -1;
    if (type === SCM_CREDENTIALS && bytes >= 28)
      peer = {
        pid: view.getInt32(at + 16, true),
        uid: view.getUint32(at + 20, true),
        gid: view.getUint32(at + 24, true),
      };
    else if (type === SCM_PIDFD && bytes >= 20) pidfd = view.getInt32(at + 16, true);
    else if (type === SCM_RIGHTS)
      for (let fd = at + 16; fd + 4 <= at + bytes; fd += 4) libc.close(view.getInt32(fd, true));
    at += (bytes + 7) & ~7;
  }
  return { peer, pidfd };
}

/** A pidfd of the process with this pid now; negative if there is none. */
export const pidfdOpen = (pid: number): number => Number(libc.syscall(SYS_PIDFD_OPEN, pid, 0, 0, 0, 0, 0));

/** Who connected a SEQPACKET socket. */
export function peerOf(fd: number): Ancillary {
  const length = new Int32Array(new ArrayBuffer(4));
  const value = new Int32Array(new ArrayBuffer(12));
  length[0] = 12;
  if (libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ptr(value), ptr(length)) < 0)
    return { peer: undefined, pidfd: -1 };
  const peer = { pid: value[0]!, uid: value[1]! >>> 0, gid: value[2]! >>> 0 };
  length[0] = 4;
  const known = libc.getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, ptr(value), ptr(length)) === 0;
  return { peer, pidfd: known ? value[0]! : pidfdOpen(peer.pid) };
}

/**
 * Whether the socket at `path` is the sender's own to be answered at: root's word is taken, another user's socket must
 * belong to that user. Else a client could bind in a mount namespace of its own, or in a directory that it then moves,
 * and have root's answers sent to sockets that it may not write to.
 */
export function ownsPath(path: string, { uid }: Peer): boolean {
  if (!path.startsWith("/")) return false;
  if (uid === 0) return true;
  const stat = lstatSync(Buffer.from(path, "latin1"), { throwIfNoEntry: false });
  return stat?.isSocket() === true && stat.uid === uid;
}
