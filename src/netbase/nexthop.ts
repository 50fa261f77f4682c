// Next-hop records, as the writer keeps them.
//
//   FIB cell, route row -> id -> nhIndex[id] -> record: one line a leg (layout.ts), immutable
//
// An id stands for what routes say (type, legs, preferred source, metric MTU, nexthop object; said.ts) and for what was told
// of their legs' state; equal ones share it, counted. What follows from links, addresses and nexthop objects is worked out in
// draft.ts: `settle` writes a new record and turns nhIndex[id] over to it by one store, so a link that changes costs as many
// stores as it has next hops, however many routes use them. Old records are reused by epoch (mem/epoch.ts).
import type { Epochs } from "../mem/epoch.ts";
import type { AddrTable } from "./addr.ts";
import { Draft } from "./draft.ts";
import { type Layout, LINE_WORDS, NH_DEAD, NH_NHID, NH_OIF, NH_SLOW, NH_TYPE, NHID_SLOW } from "./layout.ts";
import type { Lines } from "./lines.ts";
import type { LinkTable } from "./link.ts";
import { NexthopObjects } from "./objects.ts";
import { legsOf } from "./record.ts";
import type { RouteRow } from "./rows.ts";
import { alike, hashOf, says } from "./said.ts";
import { Gauge } from "./stats.ts";
import { RETIRE_LINES } from "./table.ts";

const MAX_LEGS = 65_535;

/** `retire` kind of a next-hop id. */
export const RETIRE_NEXTHOP = 3;

export class NexthopTable {
  readonly objects: NexthopObjects = new NexthopObjects();
  private readonly draft: Draft;
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
  /** Ids whose usability changed since `settle`. */
  private turned = new Set<number>();

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
    this.draft = new Draft(words, links, addrs, this.objects);
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
    const id = this.search(row, true);
    if (id !== 0 && row.nhid !== 0 && !this.objects.resolve(row.nhid)) {
      // The object's own message is still to come: the route's is the latest word.
      this.draft.write(row);
      this.republish(id);
    }
    return id;
  }

  /** As `find`, whatever is told of the legs' state: of a route that goes, or has another state by now. */
  lookup(row: RouteRow): number {
    return this.search(row, false);
  }

  private search(row: RouteRow, told: boolean): number {
    if (this.last !== 0 && this.refs[this.last]! > 0 && this.is(this.last, row, told)) return this.last;
    const hash = hashOf(row);
    for (let id = this.buckets[hash & (this.buckets.length - 1)]!; id !== 0; id = this.chain[id]!)
      if (this.hashes[id] === hash && this.is(id, row, told)) return (this.last = id);
    return 0;
  }

  private is(id: number, row: RouteRow, told: boolean): boolean {
    const record = this.words[this.nhIndex + id]!;
    return says(this.words, record, row) && (!told || this.draft.hasTold(record, row));
  }

  /** Whether two ids stand for the same next hop, perhaps in another state. */
  areAlike(a: number, b: number): boolean {
    return (
      a === b || (this.hashes[a] === this.hashes[b] && alike(this.words, this.record(a), this.record(b)))
    );
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
    this.draft.write(row);
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

  /** Routes come again, and with them what next hops there was no room for. */
  clearMissing(): void {
    this.gauge.clearMissing();
  }

  /**
   * Brings the records up to date with links, addresses and nexthop objects. Returns the ids whose usability changed
   * (their prefixes need a new answer in the FIB), or undefined if there are none.
   */
  settle(): Set<number> | undefined {
    const { links, addrs, objects, words, draft } = this;
    const { dirty } = objects;
    if (links.dirty.size === 0 && !addrs.dirty && dirty.size === 0 && this.turned.size === 0) return;
    objects.spread();
    for (let id = NHID_SLOW + 1; id <= this.top; id++) {
      if (this.refs[id] === 0) continue;
      const record = words[this.nhIndex + id]!;
      const nhid = words[record + NH_NHID]!;
      const rewrite = nhid !== 0 && dirty.has(nhid);
      if (!rewrite && !addrs.dirty && !this.usesDirtyLink(record)) continue;
      // Many records need twice their room, unless what readers have let go of is used again on the way.
      if (!this.lines.room()) this.epochs.advance();
      if (rewrite) draft.expand(record);
      else draft.copy(record);
      this.republish(id);
    }
    const { turned } = this;
    this.turned = new Set();
    links.dirty.clear();
    addrs.dirty = false;
    dirty.clear();
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

  /** `publish` of an id that routes use already. */
  private republish(id: number): void {
    const { words, nhIndex } = this;
    const wasDead = words[words[nhIndex + id]! + NH_TYPE]! & NH_DEAD;
    this.publish(id);
    if ((words[words[nhIndex + id]! + NH_TYPE]! & NH_DEAD) !== wasDead) this.turned.add(id);
  }

  /** Works out the rest of the draft, and makes it id's record unless it is that already. */
  private publish(id: number): void {
    const { words, draft } = this;
    draft.derive();
    const old = words[this.nhIndex + id]!;
    if (old !== 0 && draft.isAt(old)) return;
    const { length } = draft;
    const record = this.lines.take(length / LINE_WORDS);
    for (let i = 0; i < length; i++) words[record + i] = draft.lines[i]!;
    Atomics.store(words, this.nhIndex + id, record);
    if (old !== 0) this.epochs.retire(RETIRE_LINES + Math.max(legsOf(words, old), 1), old);
  }
}
