// Which clients have closed their channel while their process lives on. A pair of datagram sockets says nothing of that: no
// hang-up, and an error only to who sends. The kernel's list of Unix sockets does: whose peer is no socket of anybody any
// more has peer inode 0, or none. One dump for all clients, now and then.
//
//   nlmsghdr (16) | unix_diag_req: family, protocol, pad | states | inode | show | cookie (8)
//   answer: family, type, state, pad | inode | cookie (8) | attributes: UNIX_DIAG_PEER, the peer's inode
// Source: linux/unix_diag.h; net/unix/diag.c. It is a part of the kernel that can be missing: then nothing is closed here.
import { fstatSync } from "node:fs";
import { NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR } from "../netlink/constants.ts";
import { NetlinkSocket } from "../netlink/socket.ts";

const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const AF_UNIX = 1;
const UDIAG_SHOW_PEER = 4;
const UNIX_DIAG_PEER = 2;
const REQUEST_BYTES = 16 + 24;
const MESSAGE = 16; // bytes of unix_diag_msg
const REPLY_MS = 1000;

export class UnixDiag {
  private readonly socket: NetlinkSocket;
  private readonly request = new DataView(new ArrayBuffer(REQUEST_BYTES));
  private sequence = 0;
  private blind = false;

  /** In the calling thread's namespace: where the channels were made. @throws SysError */
  constructor() {
    this.socket = new NetlinkSocket({ protocol: NETLINK_SOCK_DIAG, slots: 4, timeoutMs: REPLY_MS });
    this.request.setUint32(0, REQUEST_BYTES, true);
    this.request.setUint16(4, SOCK_DIAG_BY_FAMILY, true);
    this.request.setUint16(6, NLM_F_REQUEST | NLM_F_DUMP, true);
    this.request.setUint8(16, AF_UNIX);
    this.request.setUint32(20, 0xffffffff, true); // any state
    this.request.setUint32(28, UDIAG_SHOW_PEER, true);
  }

  close(): void {
    this.socket.close();
  }

  /** Those of our sockets whose other end is closed. */
  closed<T extends { readonly fd: number }>(ours: Iterable<T>): T[] {
    const left = new Map<number, T>();
    for (const one of ours) left.set(fstatSync(one.fd).ino, one);
    if (this.blind || left.size === 0) return [];
    this.request.setUint32(8, ++this.sequence, true);
    const complete =
      this.socket.send(new Uint8Array(this.request.buffer), 0, REQUEST_BYTES) === 0 &&
      this.read((inode, peer) => {
        if (peer !== 0) left.delete(inode);
      });
    return complete ? [...left.values()] : []; // a dump that was cut short says nothing
  }

  /** Reads a dump to its end. Returns whether it is whole. */
  private read(each: (inode: number, peer: number) => void): boolean {
    for (;;) {
      const n = this.socket.receive(4, true);
      if (n < 0) return false;
      const { words, bytes } = this.socket;
      for (let i = 0; i < n; i++) {
        const end = this.socket.offset(i) + this.socket.length(i);
        for (let at = this.socket.offset(i); at + 16 <= end; at += (words[at >> 2]! + 3) & ~3) {
          const length = words[at >> 2]!;
          if (length < 16 || at + length > end) return false;
          if (words[(at >> 2) + 2] !== this.sequence) continue; // of a dump that was given up
          const type = words[(at >> 2) + 1]! & 0xffff;
          if (type === NLMSG_DONE) return true;
          if (type === NLMSG_ERROR) {
            this.blind = true;
            return false;
          }
          const view = new DataView(bytes.buffer, at + 16, length - 16);
          each(view.getUint32(4, true), peerOf(view));
        }
      }
    }
  }
}

function peerOf(view: DataView): number {
  for (let off = MESSAGE; off + 8 <= view.byteLength; ) {
    const length = view.getUint16(off, true);
    if (length < 4) break;
    if (view.getUint16(off + 2, true) === UNIX_DIAG_PEER) return view.getUint32(off + 4, true);
    off += (length + 3) & ~3;
  }
  return 0;
}
