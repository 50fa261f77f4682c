// Large tables as columns: one typed array a field, no object a row. Decoded as the dump comes, so that only columns
// are ever in memory. Addresses are words in network byte order (10.0.0.1 is 0x0100000a): one a row for IPv4, four
// for IPv6, row i's from i * width.
//
// The usual route and neighbour are written out, in the kernel's own order of attributes; numbers are attribute.ts's
// (test/netlink/headers.test.ts). Everything else goes through the row decoders (route.ts, neigh.ts).
import { SysError } from "../../ffi/errno.ts";
import { NeighRow, RouteRow } from "../netbase/rows.ts";
import { formatAddress, formatLladdr } from "../wire/address.ts";
import { AF_INET, NLMSG_OVERRUN } from "./constants.ts";
import { decodeNeigh } from "./neigh.ts";
import { decodeRoute } from "./route.ts";
import type { ChunkSink } from "./pull.ts";

const EBADMSG = 74;
const FIRST = 1 << 12;

/** Arrays that grow together. */
function grown<A extends Int32Array | Uint32Array | Uint16Array | Uint8Array>(array: A, length: number): A {
  const wider = new (array.constructor as new (n: number) => A)(length);
  wider.set(array);
  return wider;
}

abstract class Columns implements ChunkSink {
  /** Rows there are. */
  length = 0;
  /** @ignore what pull.ts asks for: type and flags of all messages, ored */
  heads = 0;
  /** AF_INET or AF_INET6 */
  readonly family: number;
  /** Words an address. */
  readonly width: 1 | 4;
  protected room = FIRST;

  constructor(family: number) {
    this.family = family;
    this.width = family === AF_INET ? 1 : 4;
  }

  /** Makes room for as many rows, before there are any: growing copies. */
  expect(rows: number): void {
    while (this.room < rows) this.room *= 2;
    if (this.room > FIRST) this.resize(this.room);
  }

  begin(): void {
    this.length = 0;
  }

  abstract chunk(words: Int32Array, bytes: Uint8Array, off: number, end: number): number;
  protected abstract resize(room: number): void;

  /** Room for what a chunk of `bytes` may hold. */
  protected reserve(bytes: number): void {
    const most = this.length + Math.ceil(bytes / 28);
    if (most <= this.room) return;
    while (this.room < most) this.room *= 2;
    this.resize(this.room);
  }

  protected addressAt(column: Int32Array, i: number, family = this.family): string {
    return formatAddress(family, column, i * this.width);
  }
}

/** Routes of one family. Rows of several next hops have `oif` 0 and theirs in `legs`. */
export class RouteColumns extends Columns {
  dst: Int32Array;
  dstLen: Uint8Array = new Uint8Array(FIRST);
  tos: Uint8Array = new Uint8Array(FIRST);
  table: Uint32Array = new Uint32Array(FIRST);
  /** RTPROT_* */
  protocol: Uint8Array = new Uint8Array(FIRST);
  /** RT_SCOPE_* */
  scope: Uint8Array = new Uint8Array(FIRST);
  /** RTN_* */
  type: Uint8Array = new Uint8Array(FIRST);
  /** RTM_F_* and RTNH_F_* */
  flags: Uint32Array = new Uint32Array(FIRST);
  priority: Uint32Array = new Uint32Array(FIRST);
  oif: Int32Array = new Int32Array(FIRST);
  /** of the row's own family; 0 where there is none, or one of the other family (then in `legs`) */
  gateway: Int32Array;
  nhid: Uint32Array = new Uint32Array(FIRST);
  /** Next hops of the rows that have several, or one of the other family: by row. */
  legs: Map<number, { oif: number; via: string | undefined; weight: number; flags: number }[]> = new Map();
  private readonly row = new RouteRow();

  constructor(family: number) {
    super(family);
    this.dst = new Int32Array(FIRST * this.width);
    this.gateway = new Int32Array(FIRST * this.width);
  }

  /** "10.0.0.0/8" */
  prefix(i: number): string {
    return `${this.addressAt(this.dst, i)}/${this.dstLen[i]}`;
  }

  /** The gateway, if it is one and of the row's family. */
  via(i: number): string | undefined {
    for (let k = 0; k < this.width; k++)
      if (this.gateway[i * this.width + k]) return this.addressAt(this.gateway, i);
    return undefined;
  }

  override begin(): void {
    super.begin();
    this.legs.clear();
  }

  override chunk(words: Int32Array, bytes: Uint8Array, from: number, end: number): number {
    this.reserve(end - from);
    const { dst, dstLen, tos, table, protocol, scope, type, flags, priority, oif, gateway, nhid } = this;
    const four = this.family === AF_INET;
    let { length: i, heads } = this;
    let w = from >> 2;
    const last = end >> 2;
    while (w + 4 <= last) {
      const length = words[w]!;
      const head = words[w + 1]!;
      if (length < 28 || length > end - w * 4 || (head & 0xffff) <= NLMSG_OVERRUN) break;
      heads |= head;
      const next = w + ((length + 3) >> 2);
      const first = words[w + 4]!;
      const second = words[w + 5]!;
      // TABLE | DST | perhaps PRIORITY | perhaps GATEWAY | OIF, and nothing else
      let at = w + 11;
      let metric = 0;
      let via = 0;
      let usual =
        four && words[w + 7] === 0x000f0008 /* RTA_TABLE */ && words[w + 9] === 0x00010008; /* RTA_DST */
      if (usual) {
        if (words[at] === 0x00060008 /* RTA_PRIORITY */) {
          metric = words[at + 1]!;
          at += 2;
        }
        if (words[at] === 0x00050008 /* RTA_GATEWAY */) {
          via = words[at + 1]!;
          at += 2;
        }
        usual = at + 2 === next && words[at] === 0x00040008 /* RTA_OIF */;
      }
      if (usual) {
        dst[i] = words[w + 10]!;
        dstLen[i] = first >>> 8;
        tos[i] = first >>> 24;
        table[i] = words[w + 8]!;
        protocol[i] = second >>> 8;
        scope[i] = second >>> 16;
        type[i] = second >>> 24;
        flags[i] = words[w + 6]!;
        priority[i] = metric;
        oif[i] = words[at + 1]!;
        gateway[i] = via;
        nhid[i] = 0;
      } else this.other(words, bytes, w * 4, length, i);
      i++;
      w = next;
    }
    this.length = i;
    this.heads = heads;
    return w * 4;
  }

  protected override resize(room: number): void {
    const { width } = this;
    this.dst = grown(this.dst, room * width);
    this.gateway = grown(this.gateway, room * width);
    for (const name of ["dstLen", "tos", "protocol", "scope", "type"] as const)
      this[name] = grown(this[name], room);
    for (const name of ["table", "flags", "priority", "nhid"] as const) this[name] = grown(this[name], room);
    this.oif = grown(this.oif, room);
  }

  private other(words: Int32Array, bytes: Uint8Array, off: number, length: number, i: number): void {
    const { row, width } = this;
    if (!decodeRoute(words, bytes, off, length, row)) throw new SysError("decode netlink dump", EBADMSG);
    const { legs } = row;
    for (let k = 0; k < width; k++) {
      this.dst[i * width + k] = row.dst[k]!;
      this.gateway[i * width + k] = 0;
    }
    this.dstLen[i] = row.dstLen;
    this.tos[i] = row.tos;
    this.table[i] = row.table;
    this.protocol[i] = row.protocol;
    this.scope[i] = row.scope;
    this.type[i] = row.type;
    this.flags[i] = row.flags;
    this.priority[i] = row.priority;
    this.nhid[i] = row.nhid;
    const one = legs.n === 1;
    this.oif[i] = one ? legs.ifindex[0]! : 0;
    const via = (leg: number) => legs.gatewayFamily[leg]!;
    if (one && via(0) === this.family)
      for (let k = 0; k < width; k++) this.gateway[i * width + k] = legs.gateway[k]!;
    if (legs.n > 1 || (one && via(0) !== 0 && via(0) !== this.family))
      this.legs.set(
        i,
        Array.from({ length: legs.n }, (_, leg) => ({
          oif: legs.ifindex[leg]!,
          via: via(leg) ? formatAddress(via(leg), legs.gateway, leg * 4) : undefined,
          weight: legs.weight[leg]!,
          flags: legs.flags[leg]!,
        })),
      );
  }
}

/** Neighbours of one family. */
export class NeighColumns extends Columns {
  dst: Int32Array;
  link: Int32Array = new Int32Array(FIRST);
  /** NUD_* */
  state: Uint16Array = new Uint16Array(FIRST);
  /** NTF_*, and NTF_EXT_* from bit 8 on */
  flags: Uint32Array = new Uint32Array(FIRST);
  /** Eight bytes a row, `lladdrLen` of them used; longer ones are in `long`. */
  lladdr: Uint8Array = new Uint8Array(FIRST * 8);
  lladdrLen: Uint8Array = new Uint8Array(FIRST);
  long: Map<number, Uint8Array> = new Map();
  private readonly row = new NeighRow();

  constructor(family: number) {
    super(family);
    this.dst = new Int32Array(FIRST * this.width);
  }

  address(i: number): string {
    return this.addressAt(this.dst, i);
  }

  /** "02:00:00:00:00:01", or "" for an entry that has none. */
  lladdrText(i: number): string {
    return formatLladdr(this.long.get(i) ?? this.lladdr.subarray(i * 8, i * 8 + this.lladdrLen[i]!));
  }

  override begin(): void {
    super.begin();
    this.long.clear();
  }

  override chunk(words: Int32Array, bytes: Uint8Array, from: number, end: number): number {
    this.reserve(end - from);
    const { row, width, dst, link, state, flags, lladdr, lladdrLen } = this;
    let { length: i, heads } = this;
    const four = this.family === AF_INET;
    const last = end >> 2;
    let w = from >> 2;
    for (let len: number; w + 4 <= last; w += (len + 3) >> 2, i++) {
      len = words[w]!;
      const head = words[w + 1]!;
      if (len < 28 || len > end - w * 4 || (head & 0xffff) <= NLMSG_OVERRUN) break;
      heads |= head;
      // DST | LLADDR of 6 bytes, and what columns do not have (no NDA_FLAGS_EXT fits into this length)
      if (
        four &&
        len === 76 &&
        words[w + 7] === 0x00010008 /* NDA_DST */ &&
        words[w + 9] === 0x0002000a &&
        words[w + 12] === 0x00040008 /* NDA_PROBES */ &&
        words[w + 14] === 0x00030014
      ) {
        const third = words[w + 6]!;
        const low = words[w + 10]!;
        dst[i] = words[w + 8]!;
        link[i] = words[w + 5]!;
        state[i] = third;
        flags[i] = (third >>> 16) & 0xff;
        lladdrLen[i] = 6;
        const to = i * 8;
        lladdr[to] = low;
        lladdr[to + 1] = low >>> 8;
        lladdr[to + 2] = low >>> 16;
        lladdr[to + 3] = low >>> 24;
        lladdr[to + 4] = words[w + 11]!;
        lladdr[to + 5] = words[w + 11]! >>> 8;
        continue;
      }
      if (!decodeNeigh(words, bytes, w * 4, len, row)) throw new SysError("decode netlink dump", EBADMSG);
      for (let k = 0; k < width; k++) dst[i * width + k] = row.dst[k]!;
      link[i] = row.ifindex;
      state[i] = row.state;
      flags[i] = row.flags;
      const { lladdrLen: n } = row;
      lladdrLen[i] = n;
      for (let k = 0; k < n && k < 8; k++) lladdr[i * 8 + k] = row.lladdr[k]!;
      if (n > 8) this.long.set(i, row.lladdr.slice(0, n));
    }
    this.length = i;
    this.heads = heads;
    return w * 4;
  }

  protected override resize(room: number): void {
    this.dst = grown(this.dst, room * this.width);
    this.link = grown(this.link, room);
    this.state = grown(this.state, room);
    this.flags = grown(this.flags, room);
    this.lladdr = grown(this.lladdr, room * 8);
    this.lladdrLen = grown(this.lladdrLen, room);
  }
}
