// Room for what recvmmsg takes from a netlink socket: so many datagrams at a time, in one mapped buffer, never a copy.
// One thread uses it, for one socket (socket.ts) or for many, one after the other (wait.ts).
//
//   buffer: slot 0 | slot 1 | ... | mmsghdr[slots] (64 bytes each) | iovec[slots] (16) | sockaddr_nl[slots] (16)
//   A slot takes one datagram, which may hold many messages (a dump's chunk: up to 32 KiB).
import { errno, SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { bufferAt, mapPrivate, type Pointer, ptr, unmap } from "../../ffi/memory.ts";

const SOL_SOCKET = 1;
const SO_MEMINFO = 55;
const SK_MEMINFO_DROPS = 8;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;
const MSG_WAITFORONE = 0x10000;
const EINTR = 4;

export const SLOT_BYTES: number = 128 * 1024;
/** Slots start on different cache sets: at a power of two apart they would share one. */
const SLOT_SKEW = 320;
const MMSGHDR_BYTES = 64;

export class Slots {
  readonly slots: number;
  /** The receive buffer, for the decoders. Empty after `free`. */
  words: Int32Array;
  bytes: Uint8Array;
  /** Datagrams that were longer than a slot: as good as an overrun. */
  truncated = 0;
  /** Datagrams from another process. */
  foreign = 0;

  private readonly stride: number;
  private readonly mapping: number;
  private readonly mappingBytes: number;
  private readonly headers: Pointer;
  private readonly headerWord: number;
  private readonly nameWord: number;
  private readonly meminfo = new Uint32Array(new ArrayBuffer(36));
  private readonly meminfoLength = new Int32Array(new ArrayBuffer(4));

  /**
   * @param slots most datagrams that one receive takes
   * @param slotBytes longest datagram; longer ones are cut, counted in `truncated` and not delivered
   */
  constructor(slots: number, slotBytes: number) {
    this.slots = slots;
    this.stride = ((slotBytes + 63) & ~63) + SLOT_SKEW;
    const headerOff = this.stride * slots;
    const iovecOff = headerOff + slots * MMSGHDR_BYTES;
    const nameOff = iovecOff + slots * 16;
    this.mappingBytes = nameOff + slots * 16;
    this.mapping = mapPrivate(this.mappingBytes, true);
    const buffer = bufferAt(this.mapping, this.mappingBytes);
    this.words = new Int32Array(buffer);
    this.bytes = new Uint8Array(buffer);
    this.headers = (this.mapping + headerOff) as Pointer;
    this.headerWord = headerOff >> 2;
    this.nameWord = nameOff >> 2;
    const view = new DataView(buffer);
    const address = (off: number, to: number) => view.setBigUint64(off, BigInt(this.mapping + to), true);
    for (let i = 0; i < slots; i++) {
      const header = headerOff + i * MMSGHDR_BYTES;
      const iovec = iovecOff + i * 16;
      address(header, nameOff + i * 16);
      view.setUint32(header + 8, 12, true);
      address(header + 16, iovec);
      view.setUint32(header + 24, 1, true);
      address(iovec, i * this.stride);
      view.setUint32(iovec + 8, slotBytes, true);
    }
  }

  /** As NetlinkSocket.receive. */
  receiveFrom(fd: number, max: number, wait: boolean): number {
    let n: number;
    do {
      n = libc.recvmmsg(fd, this.headers, max, wait ? MSG_WAITFORONE : MSG_DONTWAIT, null);
      if (n < 0) n = -errno();
    } while (n === -EINTR);
    const { words } = this;
    for (let i = 0; i < n; i++) {
      const header = this.headerWord + i * (MMSGHDR_BYTES / 4);
      if (words[this.nameWord + i * 4 + 1] !== 0) {
        this.foreign++;
        words[header + 14] = 0;
      } else if ((words[header + 12]! & MSG_TRUNC) !== 0) {
        this.truncated++;
        words[header + 14] = 0;
      }
    }
    return n;
  }

  /** Byte offset of slot i in `words` and `bytes`. */
  offset(i: number): number {
    return i * this.stride;
  }

  /** Bytes that the last receive put into slot i. */
  length(i: number): number {
    return this.words[this.headerWord + i * (MMSGHDR_BYTES / 4) + 14]!;
  }

  /** As NetlinkSocket.drops. */
  dropsOf(fd: number): number {
    this.meminfoLength[0] = 36;
    const result = libc.getsockopt(fd, SOL_SOCKET, SO_MEMINFO, ptr(this.meminfo), ptr(this.meminfoLength));
    if (result < 0) throw new SysError("getsockopt SO_MEMINFO", errno());
    return this.meminfo[SK_MEMINFO_DROPS]!;
  }

  free(): void {
    this.words = new Int32Array(0);
    this.bytes = new Uint8Array(0);
    unmap(this.mapping, this.mappingBytes);
  }
}
