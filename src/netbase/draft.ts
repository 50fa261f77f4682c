// A next-hop record being written: what a route or its nexthop object says (write, expand), or a record that is there (copy);
// then what follows from the state of links and addresses (derive): dead legs, shares of a multipath route, the source
// address that the kernel would choose.
import { AF_INET, AF_INET6 } from "../wire/address.ts";
import type { AddrTable } from "./addr.ts";
import {
  LINE_WORDS,
  LINK_FLAGS,
  LINK_IGNORE,
  LINK_STATE,
  NH_BOUND,
  NH_DEAD,
  NH_GATEWAY,
  NH_GROUP,
  NH_LEG_NHID,
  NH_LINK,
  NH_MTU,
  NH_NHID,
  NH_OIF,
  NH_PREFSRC,
  NH_SRC,
  NH_TYPE,
  NH_WEIGHT,
} from "./layout.ts";
import type { LinkTable } from "./link.ts";
import type { NexthopObjects, Resolved } from "./objects.ts";
import { legsOf } from "./record.ts";
import { LEG_ENCAP, Legs, type RouteRow } from "./rows.ts";
import {
  isTold,
  OWN_FLAGS,
  ownType,
  RTN_BLACKHOLE,
  RTNH_F_DEAD,
  RTNH_F_LINKDOWN,
  TOLD_DEAD,
} from "./said.ts";

/** What `legState` says of a leg that the kernel takes for dead. */
const DOWN = RTNH_F_DEAD | RTNH_F_LINKDOWN | 0x100;
const IFF_UP = 1;
const RT_SCOPE_HOST = 254;
const RTN_LOCAL = 2;
const RTN_ANYCAST = 4;

const typeOf = (type: number, object: Resolved | undefined): number =>
  object ? (object.blackhole ? RTN_BLACKHOLE : ownType(type)) : type;

export class Draft {
  /** The record: one line a leg (layout.ts), or one if there is none. */
  lines: Int32Array = new Int32Array(64 * LINE_WORDS);
  private readonly words: Int32Array;
  private readonly links: LinkTable;
  private readonly addrs: AddrTable;
  private readonly objects: NexthopObjects;
  private readonly noLegs = new Legs();

  constructor(words: Int32Array, links: LinkTable, addrs: AddrTable, objects: NexthopObjects) {
    this.words = words;
    this.links = links;
    this.addrs = addrs;
    this.objects = objects;
  }

  /** How many words it has. */
  get length(): number {
    return Math.max(this.lines[NH_TYPE]! >>> 16, 1) * LINE_WORDS;
  }

  /** Whether the record at `record` says of its legs' state what `row` tells. */
  hasTold(record: number, { family, nhid, legs }: RouteRow): boolean {
    if (!isTold(family, nhid, legs.n)) return true;
    for (let i = 0, leg = record; i < legs.n; i++, leg += LINE_WORDS)
      if (((this.words[leg + NH_LINK]! >>> 8) & TOLD_DEAD) !== this.told(legs, i)) return false;
    return true;
  }

  private told(legs: Legs, i: number): number {
    if ((legs.flags[i]! & RTNH_F_DEAD) === 0) return 0;
    const slot = this.links.find(legs.ifindex[i]!);
    return slot !== 0 && (this.words[slot + LINK_FLAGS]! & IFF_UP) !== 0 ? TOLD_DEAD : 0;
  }

  /** What a route says, its nexthop object resolved. */
  write(row: RouteRow): void {
    const object = row.nhid !== 0 ? this.objects.resolve(row.nhid) : undefined;
    this.writeLegs(
      typeOf(row.type, object) | (row.hasPrefsrc ? NH_PREFSRC : 0),
      (row.family << 16) | (row.scope << 24),
      row.mtu,
      row.nhid,
      row.prefsrc,
      object?.legs ?? row.legs,
    );
  }

  /** A record whose nexthop object changed, with the object's present legs. */
  expand(record: number): void {
    const { words } = this;
    const object = this.objects.resolve(words[record + NH_NHID]!);
    const src = words.slice(record + NH_SRC, record + NH_SRC + 4);
    this.writeLegs(
      typeOf(words[record + NH_TYPE]! & 0xff, object) | (words[record + NH_TYPE]! & NH_PREFSRC),
      words[record + NH_LINK]! & 0xffff0000,
      words[record + NH_MTU]!,
      words[record + NH_NHID]!,
      src,
      object?.legs ?? this.noLegs,
    );
  }

  private writeLegs(
    type: number,
    link: number,
    mtu: number,
    nhid: number,
    src: Int32Array,
    legs: Legs,
  ): void {
    const n = Math.max(legs.n, 1);
    this.grow(n * LINE_WORDS);
    const { lines } = this;
    lines.fill(0, 0, n * LINE_WORDS);
    for (let i = 0; i < n; i++) {
      const leg = i * LINE_WORDS;
      lines[leg + NH_TYPE] = type | (legs.n << 16);
      lines[leg + NH_LINK] = link;
      lines[leg + NH_MTU] = mtu;
      lines[leg + NH_NHID] = nhid;
      if ((type & NH_PREFSRC) !== 0) for (let k = 0; k < 4; k++) lines[leg + NH_SRC + k] = src[k]!;
      if (i >= legs.n) continue;
      lines[leg + NH_TYPE] |= legs.flags[i]! & LEG_ENCAP;
      lines[leg + NH_OIF] = legs.ifindex[i]!;
      const told = isTold((link >>> 16) & 0xff, nhid, legs.n) ? this.told(legs, i) : 0;
      lines[leg + NH_LINK] = link | legs.gatewayFamily[i]! | (((legs.flags[i]! & OWN_FLAGS) | told) << 8);
      lines[leg + NH_WEIGHT] = legs.weight[i]!;
      lines[leg + NH_LEG_NHID] = legs.nhid[i]!;
      for (let k = 0; k < 4; k++) lines[leg + NH_GATEWAY + k] = legs.gateway[i * 4 + k]!;
    }
  }

  /** A record as it is. */
  copy(record: number): void {
    const n = Math.max(legsOf(this.words, record), 1) * LINE_WORDS;
    this.grow(n);
    for (let i = 0; i < n; i++) this.lines[i] = this.words[record + i]!;
  }

  private grow(words: number): void {
    if (words > this.lines.length) this.lines = new Int32Array(words * 2);
  }

  /** Whether it is what the record at `record` is. */
  isAt(record: number): boolean {
    const { words, lines, length } = this;
    for (let i = 0; i < length; i++) if (words[record + i] !== lines[i]) return false;
    return true;
  }

  /** Works out what follows from links and addresses. */
  derive(): void {
    const { lines } = this;
    const type = lines[NH_TYPE]! & 0xff;
    const n = lines[NH_TYPE]! >>> 16;
    const family = (lines[NH_LINK]! >>> 16) & 0xff;
    const scope = lines[NH_LINK]! >>> 24;
    const prefsrc = (lines[NH_TYPE]! & NH_PREFSRC) !== 0;
    const nhid = lines[NH_NHID]!;
    const reject = type >= RTN_BLACKHOLE;
    // Routes to our own addresses need no carrier, and no interface that is up (fib_sync_down_dev spares next hops of
    // RT_SCOPE_NOWHERE; IPv6's are deleted with a notification, or were added while it was down).
    const own = family === AF_INET ? scope === RT_SCOPE_HOST : type === RTN_LOCAL || type === RTN_ANYCAST;
    let total = 0;
    for (let i = 0, leg = 0; i < n; i++, leg += LINE_WORDS) {
      const told = (lines[leg + NH_LINK]! & (TOLD_DEAD << 8)) !== 0 ? DOWN : 0;
      const state = reject ? 0 : this.legState(lines[leg + NH_OIF]!, family, own) | told;
      lines[leg + NH_LINK] =
        (lines[leg + NH_LINK]! & ~((RTNH_F_DEAD | RTNH_F_LINKDOWN) << 8)) | ((state & 0xff) << 8);
      lines[leg + NH_BOUND] = state >= 0x100 ? -1 : 0;
      if (state < 0x100) total += lines[leg + NH_WEIGHT]!;
      if (!prefsrc)
        lines[leg + NH_SRC] =
          family === AF_INET && !reject
            ? this.addrs.select4(lines[leg + NH_OIF]!, lines[leg + NH_GATEWAY]!, scope)
            : 0;
    }
    // Hash-threshold shares as fib_rebalance and rt6_upper_bound_set make them.
    let sum = 0;
    for (let i = 0, leg = 0; i < n; i++, leg += LINE_WORDS) {
      if (lines[leg + NH_BOUND] === -1) continue;
      sum += lines[leg + NH_WEIGHT]!;
      lines[leg + NH_BOUND] = Math.floor((sum * 0x80000000 + Math.floor(total / 2)) / total) - 1;
    }
    const dead = this.objects.isGone(nhid) || (!reject && total === 0 && (n > 0 || nhid !== 0));
    const flags = (n > 1 ? NH_GROUP : 0) | (dead ? NH_DEAD : 0);
    for (let i = 0, leg = 0; i < Math.max(n, 1); i++, leg += LINE_WORDS)
      lines[leg + NH_TYPE] = (lines[leg + NH_TYPE]! & ~(NH_GROUP | NH_DEAD)) | flags;
  }

  /** RTNH_F_DEAD or RTNH_F_LINKDOWN as the link has it; 0x100 is added where the kernel would skip the leg. */
  private legState(oif: number, family: number, own: boolean): number {
    if (oif === 0) return 0;
    const slot = this.links.find(oif);
    if (slot === 0) return DOWN;
    if (own) return 0;
    if ((this.words[slot + LINK_FLAGS]! & IFF_UP) === 0) return DOWN;
    if (this.words[slot + LINK_STATE]! >>> 24 !== 0) return 0;
    const ignored = (this.words[slot + LINK_IGNORE]! & (family === AF_INET6 ? 2 : 1)) !== 0;
    return RTNH_F_LINKDOWN | (ignored ? 0x100 : 0);
  }
}
