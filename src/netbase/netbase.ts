// netbase: what the kernel knows of links, addresses, routes, next hops and neighbours, in shared memory (layout.ts).
// NetbaseWriter belongs to the netlink Worker, which feeds it rows; NetbaseReader is everybody else's, over a mapping
// that cannot be written.
//
// The writer calls `commit()` after each batch of rows: next hops follow changed links and addresses then, and memory
// that readers have let go of is reused. Routes and neighbours are visible at once.
// A reader calls `quiesce()` between batches, and what it was given before is no longer good then (mem/epoch.ts).
import { EpochReader, Epochs } from "../mem/epoch.ts";
import { Region, type RegionRef } from "../mem/region.ts";
import { AF_INET6 } from "../wire/address.ts";
import { AddrReader, AddrTable } from "./addr.ts";
import { RouteFamily } from "./family.ts";
import { fence } from "./fence.ts";
import { Fib4 } from "./fib.ts";
import { Fib6 } from "./fib6.ts";
import { NeighReader4, NeighReader6 } from "./find.ts";
import {
  type Capacity,
  capacityKeys,
  H_CAPACITY,
  H_EPOCH,
  H_FLOW_SEED,
  H_HASH_POLICY4,
  H_HASH_POLICY6,
  H_MAGIC,
  H_NEIGH_SEED,
  H_NEIGH4,
  H_NEIGH6,
  type Kind,
  layout,
  type Layout,
  LINE_WORDS,
  MAGIC,
  NH_BOUND,
  NH_DEAD,
  NH_GROUP,
  NH_SLOW,
  NH_TYPE,
} from "./layout.ts";
import { Lines } from "./lines.ts";
import { LinkReader, LinkTable } from "./link.ts";
import { Many } from "./many.ts";
import { NeighFamily, RETIRE_NEIGH4, RETIRE_NEIGH6 } from "./neigh.ts";
import { NexthopTable, RETIRE_NEXTHOP } from "./nexthop.ts";
import { Rib } from "./rib.ts";
import type { NeighRow, RouteRow } from "./rows.ts";
import { Gauge, readStats, type TableStats } from "./stats.ts";
import { RETIRE_ROW4, RETIRE_ROW6, type RouteFilter } from "./sweep.ts";
import { RETIRE_LINES } from "./table.ts";

/** Routes of both families; see RouteFamily for what the results mean. */
export class RouteTable {
  readonly four: RouteFamily;
  readonly six: RouteFamily;

  constructor(four: RouteFamily, six: RouteFamily) {
    this.four = four;
    this.six = six;
  }

  private of(family: number): RouteFamily {
    return family === AF_INET6 ? this.six : this.four;
  }

  /** @param flags nlmsg_flags of the message: NLM_F_MULTI of a dump, CREATE, APPEND, REPLACE of an event */
  upsert(row: RouteRow, flags: number): number {
    return this.of(row.family).upsert(row, flags);
  }

  remove(row: RouteRow): number {
    return this.of(row.family).remove(row);
  }

  /** For dumps of some routes alone; see RouteFamily. */
  touch(row: RouteRow): boolean {
    return this.of(row.family).touch(row);
  }

  /** Begins a mark and sweep of one family; returns the number that `endSweep` wants. */
  beginSweep(family: number, whole = true): number {
    return this.of(family).beginSweep(whole);
  }

  /** Removes what was not upserted since `sweep` began, of those routes that `only` is about; returns how many. */
  endSweep(family: number, sweep: number, only: RouteFilter = {}): number {
    return this.of(family).endSweep(sweep, only);
  }

  /** A policy rule was seen: IPv4's local table is one of its own from now on (rib.ts). */
  splitLocal(): void {
    this.four.splitLocal();
  }
}

/** Neighbours of both families. */
export class NeighTable {
  private readonly four: NeighFamily;
  private readonly six: NeighFamily;

  constructor(four: NeighFamily, six: NeighFamily) {
    this.four = four;
    this.six = six;
  }

  private of(family: number): NeighFamily {
    return family === AF_INET6 ? this.six : this.four;
  }

  upsert(row: NeighRow): number {
    return this.of(row.family).upsert(row);
  }

  remove(row: NeighRow): number {
    return this.of(row.family).remove(row);
  }

  /** Forgets all neighbours on an interface that is gone. */
  removeLink(ifindex: number): void {
    this.four.removeLink(ifindex);
    this.six.removeLink(ifindex);
  }

  beginSweep(family: number): number {
    return this.of(family).beginSweep();
  }

  /** @param ifindex only the neighbours on this interface, 0 for all */
  endSweep(family: number, sweep: number, ifindex = 0): number {
    return this.of(family).endSweep(sweep, ifindex);
  }
}

export class NetbaseWriter {
  readonly words: Int32Array;
  readonly links: LinkTable;
  readonly addrs: AddrTable;
  readonly nexthops: NexthopTable;
  readonly routes: RouteTable;
  readonly neighs: NeighTable;
  private readonly lines: Lines;
  private readonly linesGauge: Gauge;
  private readonly epochs: Epochs;
  private readonly neigh4: NeighFamily;
  private readonly neigh6: NeighFamily;

  /** Formats a fresh region of `layout(capacity).bytes`; `epochs` has `epochBytes(readers)`. */
  constructor(region: Region, epochs: Region, capacity: Capacity) {
    const at = layout(capacity);
    if (region.bytes < at.bytes)
      throw new RangeError(`netbase region of ${region.bytes} bytes: ${at.bytes} needed`);
    const words = new Int32Array(region.buffer);
    this.words = words;
    capacityKeys.forEach((key, i) => {
      words[H_CAPACITY + i] = capacity[key];
    });
    crypto.getRandomValues(words.subarray(H_NEIGH_SEED, H_FLOW_SEED + 1));
    words[H_NEIGH4] = at.neigh4;
    words[H_NEIGH6] = at.neigh6;
    this.epochs = new Epochs(new Int32Array(epochs.buffer), words, H_EPOCH, (kind, thing) =>
      this.free(kind, thing),
    );
    // A walk of the page tables costs a reader as much as the rest of a lookup, where what it looks at is used all over.
    const dense = (at: number, words = 1): void => void region.collapse(at * 4, words * 4);
    this.lines = new Lines(at, dense);
    this.linesGauge = new Gauge(words, "lines", this.lines.capacity);
    this.links = new LinkTable(words, at);
    this.addrs = new AddrTable(words, at);
    this.nexthops = new NexthopTable(words, at, this.lines, this.epochs, this.links, this.addrs);
    this.routes = new RouteTable(
      new RouteFamily(words, at, false, this.lines, this.epochs, this.nexthops, dense),
      new RouteFamily(words, at, true, this.lines, this.epochs, this.nexthops, dense),
    );
    this.neigh4 = new NeighFamily(words, at, false, this.epochs, dense);
    this.neigh6 = new NeighFamily(words, at, true, this.epochs, dense);
    this.neighs = new NeighTable(this.neigh4, this.neigh6);
    Atomics.store(words, H_MAGIC, MAGIC);
  }

  /** Ends a batch of changes. */
  commit(): void {
    const turned = this.nexthops.settle();
    if (turned) {
      this.routes.four.refresh(turned);
      this.routes.six.refresh(turned);
    }
    this.epochs.advance();
    this.linesGauge.entries = this.lines.used;
  }

  /** net.ipv4.fib_multipath_hash_policy and net.ipv6's, for how flows are spread over legs. */
  setHashPolicy(four: number, six: number): void {
    this.words[H_HASH_POLICY4] = four;
    this.words[H_HASH_POLICY6] = six;
  }

  get stats(): Record<Kind, TableStats> {
    return readStats(this.words);
  }

  private free(kind: number, thing: number): void {
    if (kind >= RETIRE_LINES) this.lines.give(thing, kind - RETIRE_LINES);
    else if (kind === RETIRE_ROW4) this.routes.four.reuse(thing);
    else if (kind === RETIRE_ROW6) this.routes.six.reuse(thing);
    else if (kind === RETIRE_NEXTHOP) this.nexthops.reuse(thing);
    else if (kind === RETIRE_NEIGH4) this.neigh4.reuse();
    else if (kind === RETIRE_NEIGH6) this.neigh6.reuse();
  }
}

export class NetbaseReader {
  /** All of netbase; offsets that lookups return are into this. */
  readonly words: Int32Array;
  readonly layout: Layout;
  readonly fib4: Fib4;
  readonly fib6: Fib6;
  readonly neigh4: NeighReader4;
  readonly neigh6: NeighReader6;
  readonly links: LinkReader;
  readonly addrs: AddrReader;
  readonly rib4: Rib;
  readonly rib6: Rib;
  private readonly epoch: EpochReader;
  private readonly regions: Region[];
  private readonly neighFamilies: NeighFamily[];

  /** Maps a netbase that its writer has formatted. `slot` is this reader's own in the epochs region. */
  static open(netbase: RegionRef, epochs: RegionRef, slot: number): NetbaseReader {
    return new NetbaseReader(Region.open(netbase, "read-only"), Region.open(epochs, "read-write"), slot);
  }

  constructor(netbase: Region, epochs: Region, slot: number) {
    const words = new Int32Array(netbase.buffer);
    if (words[H_MAGIC] !== MAGIC) throw new RangeError("netbase: not formatted yet");
    const capacity = Object.fromEntries(capacityKeys.map((key, i) => [key, words[H_CAPACITY + i]!]));
    const at = layout(capacity as unknown as Capacity);
    this.regions = [netbase, epochs];
    this.words = words;
    this.layout = at;
    this.fib4 = new Fib4(words, at);
    this.fib6 = new Fib6(words, at);
    this.neigh4 = new NeighReader4(words, at);
    this.neigh6 = new NeighReader6(words, at);
    this.links = new LinkReader(words, at);
    this.addrs = new AddrReader(words, at);
    this.rib4 = new Rib(words, at, false);
    this.rib6 = new Rib(words, at, true);
    this.neighFamilies = [new NeighFamily(words, at, false), new NeighFamily(words, at, true)];
    this.epoch = new EpochReader(new Int32Array(epochs.buffer), slot, words, H_EPOCH);
    this.epoch.quiesce();
  }

  /** Says that nothing is held any more that lookups gave; also ends `offline`. */
  quiesce(): void {
    this.epoch.quiesce();
  }

  /** Before sleeping: nothing is held, and nothing will be looked up until `online`. */
  offline(): void {
    this.epoch.offline();
  }

  online(): void {
    this.epoch.quiesce();
  }

  /** Orders the loads before against those after. */
  fence(): void {
    fence();
  }

  /**
   * Decides what a lookup left open (NH_SPECIAL) for an IPv4 packet: returns the word offset of one leg's line, or 0
   * if there is no route after all. Addresses are memory words, `ports` the packet's word of both ports (0 if none).
   */
  select4(nh: number, dst: number, src: number, protocol: number, ports: number, tos: number): number {
    const { words } = this;
    let record = nh;
    if ((words[record + NH_TYPE]! & (NH_SLOW | NH_DEAD)) !== 0) {
      const row = this.rib4.match(dst, 0, 0, 0, tos);
      if (row === 0) return 0;
      record = this.rib4.record(row);
    }
    if ((words[record + NH_TYPE]! & NH_GROUP) === 0) return record;
    return this.leg(record, this.flow4(dst, src, protocol, ports));
  }

  /** The same for IPv6; `at` words of `address`: destination, then source, four words each. */
  select6(
    nh: number,
    address: Int32Array,
    at: number,
    protocol: number,
    ports: number,
    flowlabel: number,
  ): number {
    const { words } = this;
    let record = nh;
    if ((words[record + NH_TYPE]! & (NH_SLOW | NH_DEAD)) !== 0) {
      const row = this.rib6.match(address[at]!, address[at + 1]!, address[at + 2]!, address[at + 3]!, 0);
      if (row === 0) return 0;
      record = this.rib6.record(row);
    }
    if ((words[record + NH_TYPE]! & NH_GROUP) === 0) return record;
    return this.leg(record, this.flow6(address, at, protocol, ports, flowlabel));
  }

  /** The flow's 31-bit hash: addresses alone, or with protocol and ports, as the kernel's policy says. */
  flow4(dst: number, src: number, protocol: number, ports: number): number {
    const { words } = this;
    let h = mix(words[H_FLOW_SEED]!, src);
    h = mix(h, dst);
    if (words[H_HASH_POLICY4] === 1) h = mix(mix(h, ports), protocol);
    return finish(h);
  }

  flow6(address: Int32Array, at: number, protocol: number, ports: number, flowlabel: number): number {
    const { words } = this;
    let h = words[H_FLOW_SEED]!;
    for (let i = 0; i < 8; i++) h = mix(h, address[at + i]!);
    h = mix(h, words[H_HASH_POLICY6] === 1 ? ports : flowlabel);
    return finish(mix(h, protocol));
  }

  /** The leg of a multipath record that takes a hash. */
  leg(record: number, hash: number): number {
    const { words } = this;
    const end = record + (words[record + NH_TYPE]! >>> 16) * LINE_WORDS;
    for (let leg = record; leg < end; leg += LINE_WORDS) if (hash <= words[leg + NH_BOUND]!) return leg;
    return 0;
  }

  /** For looking up many neighbours at a time, in `words` words of memory of its own. @throws RangeError (many.ts) */
  many(words: number): Many {
    return new Many(this.regions[0]!, this.layout, this.words[H_NEIGH_SEED]!, words);
  }

  /** All neighbours of both families, for `show`. */
  neighs(): ReturnType<NeighFamily["all"]> {
    return this.neighFamilies.flatMap((family) => family.all());
  }

  get stats(): Record<Kind, TableStats> {
    return readStats(this.words);
  }

  /** Goes offline and unmaps. Nothing of this reader may be used afterwards. */
  close(): void {
    this.offline();
    for (const region of this.regions) region.unmap();
  }
}

const mix = (h: number, w: number): number => {
  const x = Math.imul(h ^ w, 0x85ebca6b);
  return x ^ (x >>> 15);
};

const finish = (h: number): number => {
  const x = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 1;
};
