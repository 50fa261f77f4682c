// Next-hop records and nexthop objects, as the writer keeps them. Over 400 lines: ids, records and objects count and
// settle each other, and apart each would need the others' insides.
//
//   FIB cell, route row -> id -> nhIndex[id] -> record: one line a leg (layout.ts), immutable
//
// An id stands for what routes say (type, legs, preferred source, metric MTU, nexthop object); equal ones share it,
// counted. What follows from the state of links and addresses (dead legs, shares of a multipath route, the source
// address that the kernel would choose) is worked out here: `settle` writes a new record and turns nhIndex[id] over to
// it by one store, so a link that changes costs as many stores as it has next hops, however many routes use them.
// Old records are reused by epoch (mem/epoch.ts).
import type { Epochs } from "../mem/epoch.ts";
import { AF_INET, AF_INET6 } from "../wire/address.ts";
import type { AddrTable } from "./addr.ts";
import {
  type Layout,
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
  NH_SLOW,
  NH_SRC,
  NH_TYPE,
  NH_WEIGHT,
  NHID_SLOW,
} from "./layout.ts";
import type { Lines } from "./lines.ts";
import type { LinkTable } from "./link.ts";
import { copyLeg, copyLegs, sameLegs } from "./legs.ts";
import { LEG_ENCAP, Legs, type NexthopRow, type RouteRow } from "./rows.ts";
import { legsOf } from "./record.ts";
import { ADDED, CHANGED, Gauge, SAME } from "./stats.ts";
import { RETIRE_LINES } from "./table.ts";

export const RTNH_F_DEAD = 1;
export const RTNH_F_PERVASIVE = 2;
export const RTNH_F_ONLINK = 4;
export const RTNH_F_LINKDOWN = 16;
/** The flags that are the route's own; the others tell of the moment. */
const OWN_FLAGS = RTNH_F_PERVASIVE | RTNH_F_ONLINK;
/** What `legState` says of a leg that the kernel takes for dead. */
const DOWN = RTNH_F_DEAD | RTNH_F_LINKDOWN | 0x100;
/** Among a leg's flags: the kernel said DEAD though the interface is up. */
const TOLD_DEAD = 0x80;
const IFF_UP = 1;
const RT_SCOPE_HOST = 254;
const RTN_UNICAST = 1;
const RTN_LOCAL = 2;
const RTN_ANYCAST = 4;
const RTN_BLACKHOLE = 6;
const MAX_LEGS = 65_535;

/** `retire` kind of a next-hop id. */
export const RETIRE_NEXTHOP = 3;

interface Resolved {
  readonly blackhole: boolean;
  readonly legs: Legs;
}

interface NexthopObject extends Resolved {
  readonly group: boolean;
  stamp: number;
}

/** The type of a route beside its nexthop object, which makes a blackhole of it when it is one. */
const ownType = (type: number): number => (type === RTN_BLACKHOLE ? RTN_UNICAST : type);
const typeOf = (type: number, object: Resolved | undefined): number =>
  object ? (object.blackhole ? RTN_BLACKHOLE : ownType(type)) : type;

export class NexthopTable {
  private readonly words: Int32Array;
  private readonly nhIndex: number;
  private readonly lines: Lines;
  private readonly epochs: Epochs;
  private readonly links: LinkTable;
  private readonly addrs: AddrTable;
  private readonly gauge: Gauge;
  // By id: users, hash of what routes say, next of the same bucket.
  private readonly refs: Int32Array;
  private readonly hashes: Int32Array;
  private readonly chain: Int32Array;
  private readonly buckets: Int32Array;
  private readonly free: number[] = [];
  private top: number = NHID_SLOW; // ids ever used
  private last = 0;
  private scratch = new Int32Array(64 * LINE_WORDS);
  private readonly known = new Map<number, NexthopObject>();
  /** Nexthop objects whose change the records have not followed yet; a missing object means deleted. */
  private readonly dirtyObjects = new Set<number>();
  private readonly deleted = new Set<number>();
  /** Ids whose usability changed since `settle`. */
  private turned = new Set<number>();
  private readonly noLegs = new Legs();
  private stamp = 1;

  constructor(
    words: Int32Array,
    at: Layout,
    lines: Lines,
    epochs: Epochs,
    links: LinkTable,
    addrs: AddrTable,
  ) {
    const capacity = at.capacity.nexthops;
    this.words = words;
    this.nhIndex = at.nhIndex;
    this.lines = lines;
    this.epochs = epochs;
    this.links = links;
    this.addrs = addrs;
    this.gauge = new Gauge(words, "nexthops", capacity);
    this.refs = new Int32Array(capacity + 2);
    this.hashes = new Int32Array(capacity + 2);
    this.chain = new Int32Array(capacity + 2);
    this.buckets = new Int32Array(2 ** Math.ceil(Math.log2(capacity + 2)));
    const slow = lines.take(1);
    words.fill(0, slow, slow + LINE_WORDS);
    words[slow + NH_TYPE] = NH_SLOW;
    words[at.nhIndex + NHID_SLOW] = slow;
  }

  /** The id for a route's next hop, 0 if no route has such a one. */
  find(row: RouteRow): number {
    const id = this.lookup(row);
    if (id === 0) return 0;
    if (row.nhid === 0) {
      if (isTold(row.family, row.legs.n)) this.tell(id, row);
    } else if (!this.legsOfObject(row.nhid | 0)) {
      // The object's own message is still to come: the route's is the latest word.
      this.write(row);
      this.republish(id);
    }
    return id;
  }

  /** As `find`, of a route that goes: what it says of the moment is of no matter. */
  lookup(row: RouteRow): number {
    if (this.last !== 0 && this.refs[this.last]! > 0 && this.says(this.last, row)) return this.last;
    const hash = hashOf(row);
    for (let id = this.buckets[hash & (this.buckets.length - 1)]!; id !== 0; id = this.chain[id]!)
      if (this.hashes[id] === hash && this.says(id, row)) return (this.last = id);
    return 0;
  }

  /**
   * The legs of a multipath route may be dead though their interface is up: it lost its last IPv4 address, or came up
   * without carrier (IPv6, where the last one stays dead when the others are gone). Only the kernel's dumps tell; what one
   * told stands until the next.
   */
  private tell(id: number, { legs }: RouteRow): void {
    const { words } = this;
    const record = words[this.nhIndex + id]!;
    let same = true;
    for (let i = 0; i < legs.n; i++)
      same &&= (words[record + i * LINE_WORDS + NH_LINK]! & (TOLD_DEAD << 8)) === this.told(legs, i) << 8;
    if (same) return;
    this.copy(record);
    for (let i = 0; i < legs.n; i++) {
      const at = i * LINE_WORDS + NH_LINK;
      this.scratch[at] = (this.scratch[at]! & ~(TOLD_DEAD << 8)) | (this.told(legs, i) << 8);
    }
    this.republish(id);
  }

  private told(legs: Legs, i: number): number {
    if ((legs.flags[i]! & RTNH_F_DEAD) === 0) return 0;
    const slot = this.links.find(legs.ifindex[i]!);
    return slot !== 0 && (this.words[slot + LINK_FLAGS]! & IFF_UP) !== 0 ? TOLD_DEAD : 0;
  }

  /** The id for a route's next hop, with one more user; 0 if the table is full. */
  intern(row: RouteRow): number {
    const known = this.find(row);
    if (known !== 0) {
      this.refs[known]!++;
      return known;
    }
    if (this.gauge.full || !this.lines.room(row.legs.n) || row.legs.n > MAX_LEGS) {
      this.gauge.refuse();
      return 0;
    }
    const id = this.free.pop() ?? ++this.top;
    const hash = hashOf(row);
    const bucket = hash & (this.buckets.length - 1);
    this.refs[id] = 1;
    this.hashes[id] = hash;
    this.chain[id] = this.buckets[bucket]!;
    this.buckets[bucket] = id;
    this.gauge.entries++;
    this.write(row);
    this.publish(id);
    this.last = id;
    return id;
  }

  /** One user less. The last one's id and record become free once no reader can hold them. */
  release(id: number): void {
    if (--this.refs[id]! > 0) return;
    const bucket = this.hashes[id]! & (this.buckets.length - 1);
    if (this.buckets[bucket] === id) this.buckets[bucket] = this.chain[id]!;
    else {
      let before = this.buckets[bucket]!;
      while (this.chain[before] !== id) before = this.chain[before]!;
      this.chain[before] = this.chain[id]!;
    }
    this.epochs.retire(RETIRE_NEXTHOP, id);
  }

  /** An id has waited out its epoch. */
  reuse(id: number): void {
    const record = this.words[this.nhIndex + id]!;
    this.lines.give(record, Math.max(legsOf(this.words, record), 1));
    this.words[this.nhIndex + id] = 0;
    this.free.push(id);
    this.gauge.entries--;
  }

  /** Takes over a nexthop object or group. ADDED, CHANGED or SAME. */
  upsertObject(row: NexthopRow): number {
    const id = row.id | 0;
    const before = this.known.get(id);
    const group = row.group !== 0;
    const blackhole = row.blackhole !== 0;
    if (before) {
      before.stamp = this.stamp;
      if (before.group === group && before.blackhole === blackhole && sameLegs(before.legs, row.legs))
        return SAME;
    }
    this.known.set(id, { group, blackhole, legs: copyLegs(row.legs), stamp: this.stamp });
    this.deleted.delete(id);
    this.dirtyObjects.add(id);
    return before ? CHANGED : ADDED;
  }

  /** Forgets a nexthop object: routes that name it are dead until they are swept. */
  removeObject(nhid: number): boolean {
    const id = nhid | 0;
    if (!this.known.delete(id)) return false;
    this.deleted.add(id);
    this.dirtyObjects.add(id);
    return true;
  }

  /** No route names these any more. */
  forget(removed: Iterable<number>): void {
    for (const id of removed) this.deleted.delete(id | 0);
  }

  /** Whether there is a nexthop object or group of this id. */
  has(nhid: number): boolean {
    return this.known.has(nhid | 0);
  }

  /** All nexthop objects, for `show` and the differential test. */
  *allObjects(): Generator<{ id: number; blackhole: boolean; group: boolean; legs: Legs }> {
    for (const [id, { blackhole, group, legs }] of this.known) yield { id, blackhole, group, legs };
  }

  /** Routes come again, and with them what next hops there was no room for. */
  clearMissing(): void {
    this.gauge.clearMissing();
  }

  beginSweep(): number {
    return ++this.stamp;
  }

  /** Removes the nexthop objects that were not upserted since; returns their ids. */
  endSweep(sweep: number): number[] {
    const gone = [...this.known].filter(([, object]) => object.stamp < sweep).map(([id]) => id);
    for (const id of gone) this.removeObject(id);
    return gone;
  }

  /**
   * Brings the records up to date with links, addresses and nexthop objects. Returns the ids whose usability changed
   * (their prefixes need a new answer in the FIB), or undefined if there are none.
   */
  settle(): Set<number> | undefined {
    const { links, addrs, dirtyObjects, words } = this;
    if (links.dirty.size === 0 && !addrs.dirty && dirtyObjects.size === 0 && this.turned.size === 0) return;
    // A group changes with its members.
    for (const [id, object] of this.known)
      if (object.group)
        for (let i = 0; i < object.legs.n; i++)
          if (dirtyObjects.has(object.legs.nhid[i]!)) dirtyObjects.add(id);
    for (let id = NHID_SLOW + 1; id <= this.top; id++) {
      if (this.refs[id] === 0) continue;
      const record = words[this.nhIndex + id]!;
      const nhid = words[record + NH_NHID]!;
      const rewrite = nhid !== 0 && dirtyObjects.has(nhid);
      if (!rewrite && !addrs.dirty && !this.usesDirtyLink(record)) continue;
      // Many records need twice their room, unless what readers have let go of is used again on the way.
      if (!this.lines.room()) this.epochs.advance();
      if (rewrite) this.expand(record);
      else this.copy(record);
      this.republish(id);
    }
    const { turned } = this;
    this.turned = new Set();
    links.dirty.clear();
    addrs.dirty = false;
    dirtyObjects.clear();
    return turned.size > 0 ? turned : undefined;
  }

  /** Whether a record's usability changed before `settle`: a message told so. */
  get unsettled(): boolean {
    return this.turned.size > 0;
  }

  /** Whether a leg of this next hop goes over `oif`. */
  uses(id: number, oif: number): boolean {
    const { words } = this;
    const record = words[this.nhIndex + id]!;
    for (let i = 0, leg = record; i < legsOf(words, record); i++, leg += LINE_WORDS)
      if (words[leg + NH_OIF] === oif) return true;
    return false;
  }

  /** Word offset of an id's present record. */
  record(id: number): number {
    return this.words[this.nhIndex + id]!;
  }

  /** The nexthop object or group that this next hop is, 0 if none. */
  named(id: number): number {
    return this.words[this.record(id) + NH_NHID]! >>> 0;
  }

  private usesDirtyLink(record: number): boolean {
    const { words } = this;
    for (let i = 0, leg = record; i < legsOf(words, record); i++, leg += LINE_WORDS)
      if (this.links.dirty.has(words[leg + NH_OIF]!)) return true;
    return false;
  }

  /**
   * Whether id's record stands for exactly what `row` says. Of a nexthop object's record the id says it all: the legs,
   * and whether it is a blackhole, are the object's, which may have changed since the record was written.
   */
  private says(id: number, row: RouteRow): boolean {
    const { words } = this;
    const { legs } = row;
    const record = words[this.nhIndex + id]!;
    const type = words[record + NH_TYPE]!;
    const named = row.nhid !== 0;
    if (named ? ownType(type & 0xff) !== ownType(row.type) : (type & 0xff) !== row.type) return false;
    if ((type & NH_PREFSRC) !== (row.hasPrefsrc ? NH_PREFSRC : 0)) return false;
    const link = words[record + NH_LINK]!;
    if (((link >>> 16) & 0xff) !== row.family || link >>> 24 !== row.scope) return false;
    if (words[record + NH_MTU] !== (row.mtu | 0) || words[record + NH_NHID] !== (row.nhid | 0)) return false;
    if (row.hasPrefsrc)
      for (let i = 0; i < 4; i++) if (words[record + NH_SRC + i] !== row.prefsrc[i]) return false;
    if (named) return true;
    if (type >>> 16 !== legs.n) return false;
    for (let i = 0, leg = record; i < legs.n; i++, leg += LINE_WORDS) {
      const own = words[leg + NH_LINK]!;
      if (words[leg + NH_OIF] !== legs.ifindex[i] || (own & 0xff) !== legs.gatewayFamily[i]) return false;
      if (((own >>> 8) & OWN_FLAGS) !== (legs.flags[i]! & OWN_FLAGS)) return false;
      if (words[leg + NH_WEIGHT] !== legs.weight[i]) return false;
      if (((words[leg + NH_TYPE]! ^ legs.flags[i]!) & LEG_ENCAP) !== 0) return false;
      for (let k = 0; k < 4; k++) if (words[leg + NH_GATEWAY + k] !== legs.gateway[i * 4 + k]) return false;
    }
    return true;
  }

  /** The legs that a nexthop object stands for, groups resolved; undefined if the object is not known. */
  private legsOfObject(nhid: number): Resolved | undefined {
    const object = this.known.get(nhid);
    if (!object) return this.deleted.has(nhid) ? { legs: this.noLegs, blackhole: false } : undefined;
    if (!object.group) return object;
    const legs = new Legs();
    let blackhole = false;
    for (let i = 0; i < object.legs.n; i++) {
      const member = this.known.get(object.legs.nhid[i]!);
      if (!member || member.group || member.legs.n === 0) continue;
      blackhole ||= member.blackhole;
      const leg = copyLeg(member.legs, 0, legs);
      legs.weight[leg] = object.legs.weight[i]!;
      legs.nhid[leg] = object.legs.nhid[i]!;
    }
    return { legs, blackhole };
  }

  /** Puts what a route says into scratch, its nexthop object resolved. */
  private write(row: RouteRow): void {
    const object = row.nhid !== 0 ? this.legsOfObject(row.nhid | 0) : undefined;
    this.writeLegs(
      typeOf(row.type, object) | (row.hasPrefsrc ? NH_PREFSRC : 0),
      (row.family << 16) | (row.scope << 24),
      row.mtu,
      row.nhid,
      row.prefsrc,
      object?.legs ?? row.legs,
    );
  }

  /** Puts a record whose nexthop object changed into scratch, with the object's present legs. */
  private expand(record: number): void {
    const { words } = this;
    const object = this.legsOfObject(words[record + NH_NHID]!);
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
    if (n * LINE_WORDS > this.scratch.length) this.scratch = new Int32Array(n * LINE_WORDS * 2);
    const { scratch } = this;
    scratch.fill(0, 0, n * LINE_WORDS);
    for (let i = 0; i < n; i++) {
      const leg = i * LINE_WORDS;
      scratch[leg + NH_TYPE] = type | (legs.n << 16);
      scratch[leg + NH_LINK] = link;
      scratch[leg + NH_MTU] = mtu;
      scratch[leg + NH_NHID] = nhid;
      if ((type & NH_PREFSRC) !== 0) scratch.set(src.subarray(0, 4), leg + NH_SRC);
      if (i >= legs.n) continue;
      scratch[leg + NH_TYPE] |= legs.flags[i]! & LEG_ENCAP;
      scratch[leg + NH_OIF] = legs.ifindex[i]!;
      const told = nhid === 0 && isTold((link >>> 16) & 0xff, legs.n) ? this.told(legs, i) : 0;
      scratch[leg + NH_LINK] = link | legs.gatewayFamily[i]! | (((legs.flags[i]! & OWN_FLAGS) | told) << 8);
      scratch[leg + NH_WEIGHT] = legs.weight[i]!;
      scratch[leg + NH_LEG_NHID] = legs.nhid[i]!;
      for (let k = 0; k < 4; k++) scratch[leg + NH_GATEWAY + k] = legs.gateway[i * 4 + k]!;
    }
  }

  /** Copies a record to scratch. */
  private copy(record: number): void {
    const n = Math.max(legsOf(this.words, record), 1) * LINE_WORDS;
    if (n > this.scratch.length) this.scratch = new Int32Array(n * 2);
    for (let i = 0; i < n; i++) this.scratch[i] = this.words[record + i]!;
  }

  /** `publish` of an id that routes use already. */
  private republish(id: number): void {
    const { words, nhIndex } = this;
    const wasDead = words[words[nhIndex + id]! + NH_TYPE]! & NH_DEAD;
    this.publish(id);
    if ((words[words[nhIndex + id]! + NH_TYPE]! & NH_DEAD) !== wasDead) this.turned.add(id);
  }

  /** Works out what follows from links and addresses in scratch, and makes it id's record unless it is that already. */
  private publish(id: number): void {
    this.derive();
    const { words, scratch } = this;
    const n = Math.max(scratch[NH_TYPE]! >>> 16, 1) * LINE_WORDS;
    const old = words[this.nhIndex + id]!;
    if (old !== 0) {
      let same = true;
      for (let i = 0; same && i < n; i++) same = words[old + i] === scratch[i];
      if (same) return;
    }
    const record = this.lines.take(n / LINE_WORDS);
    for (let i = 0; i < n; i++) words[record + i] = scratch[i]!;
    Atomics.store(words, this.nhIndex + id, record);
    if (old !== 0) this.epochs.retire(RETIRE_LINES + Math.max(legsOf(words, old), 1), old);
  }

  private derive(): void {
    const { scratch } = this;
    const type = scratch[NH_TYPE]! & 0xff;
    const n = scratch[NH_TYPE]! >>> 16;
    const family = (scratch[NH_LINK]! >>> 16) & 0xff;
    const scope = scratch[NH_LINK]! >>> 24;
    const prefsrc = (scratch[NH_TYPE]! & NH_PREFSRC) !== 0;
    const nhid = scratch[NH_NHID]!;
    const reject = type >= RTN_BLACKHOLE;
    // Routes to our own addresses need no carrier, and no interface that is up (fib_sync_down_dev spares next hops of
    // RT_SCOPE_NOWHERE; IPv6's are deleted with a notification, or were added while it was down).
    const own = family === AF_INET ? scope === RT_SCOPE_HOST : type === RTN_LOCAL || type === RTN_ANYCAST;
    let total = 0;
    for (let i = 0, leg = 0; i < n; i++, leg += LINE_WORDS) {
      const told = (scratch[leg + NH_LINK]! & (TOLD_DEAD << 8)) !== 0 ? DOWN : 0;
      const state = reject ? 0 : this.legState(scratch[leg + NH_OIF]!, family, own) | told;
      scratch[leg + NH_LINK] =
        (scratch[leg + NH_LINK]! & ~((RTNH_F_DEAD | RTNH_F_LINKDOWN) << 8)) | ((state & 0xff) << 8);
      scratch[leg + NH_BOUND] = state >= 0x100 ? -1 : 0;
      if (state < 0x100) total += scratch[leg + NH_WEIGHT]!;
      if (!prefsrc)
        scratch[leg + NH_SRC] =
          family === AF_INET && !reject
            ? this.addrs.select4(scratch[leg + NH_OIF]!, scratch[leg + NH_GATEWAY]!, scope)
            : 0;
    }
    // Hash-threshold shares as fib_rebalance and rt6_upper_bound_set make them.
    let sum = 0;
    for (let i = 0, leg = 0; i < n; i++, leg += LINE_WORDS) {
      if (scratch[leg + NH_BOUND] === -1) continue;
      sum += scratch[leg + NH_WEIGHT]!;
      scratch[leg + NH_BOUND] = Math.floor((sum * 0x80000000 + Math.floor(total / 2)) / total) - 1;
    }
    const dead = this.deleted.has(nhid) || (!reject && total === 0 && (n > 0 || nhid !== 0));
    const flags = (n > 1 ? NH_GROUP : 0) | (dead ? NH_DEAD : 0);
    for (let i = 0, leg = 0; i < Math.max(n, 1); i++, leg += LINE_WORDS)
      scratch[leg + NH_TYPE] = (scratch[leg + NH_TYPE]! & ~(NH_GROUP | NH_DEAD)) | flags;
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

/** Whether a leg of a route may be dead by what the kernel tells alone. */
const isTold = (family: number, legs: number): boolean => legs > 1 || family === AF_INET6;

const mix = (h: number, w: number): number => {
  const x = Math.imul(h ^ w, 0x85ebca6b);
  return x ^ (x >>> 15);
};

/** A hash of what `says` compares. */
function hashOf(row: RouteRow): number {
  const { legs } = row;
  const type = row.nhid !== 0 ? ownType(row.type) : row.type;
  let h = mix(Math.imul(type | (row.scope << 8) | (row.family << 16), 0x9e3779b1) ^ row.mtu, row.nhid);
  if (row.hasPrefsrc) for (let i = 0; i < 4; i++) h = mix(h, row.prefsrc[i]!);
  if (row.nhid !== 0) return h;
  for (let i = 0; i < legs.n; i++) {
    h = mix(h, legs.ifindex[i]! ^ (legs.weight[i]! << 20));
    for (let k = i * 4; k < i * 4 + 4; k++) h = mix(h, legs.gateway[k]!);
  }
  return h;
}
