// Neighbours: one open-addressing hash table a family. One writer, the netlink Worker; readers without locks (find.ts).
//
//   IPv4  [ ip | ifindex, state << 24 | mac 0..3 | mac 4..5, seq << 16 ]               four a cache line
//   IPv6  [ ip x 4 | ifindex, state << 24 | - | mac 0..3 | mac 4..5, seq << 16 ]        two
//
// An entry changes so that nobody ever waits for the writer, not even for one that the kernel put aside in the middle:
//   - its state, by one store of its key word;
//   - its link-layer address, with another sequence number, by one 64-bit store;
//   - it is deleted: key word first, then another sequence number; only then may the slot be used again, key word last.
// A reader takes what it found if the sequence number is still the same after it has read all, else it looks again.
// Entries never move: a deleted one leaves a mark that lookups pass; marks at the end of a run become empty again. When
// marks take up the room, the table is rebuilt in a second area, which becomes the active one by one store; the first is
// reused once all readers have quiesced (mem/epoch.ts). Slots are at least three times the capacity, so that most lookups end
// at the first (bench neigh), the hash is seeded, a lookup visits at most NEIGH_WINDOW slots.
//
// Only neighbours that a frame can be sent to are here (USABLE). What is unresolved has no entry and takes no room,
// so nobody can fill the table with addresses that do not answer.
import type { Epochs } from "../mem/epoch.ts";
import { AF_INET, AF_INET6 } from "../wire/address.ts";
import { fence } from "./fence.ts";
import { hash4, hash6 } from "./find.ts";
import {
  H_NEIGH_SEED,
  H_NEIGH4,
  H_NEIGH6,
  HUGE_WORDS,
  IFINDEX_LIMIT,
  type Layout,
  NEIGH_GONE,
  NEIGH_IFINDEX_MASK,
  NEIGH_WINDOW,
  NEIGH4_KEY,
  NEIGH4_MAC0,
  NEIGH4_WORDS,
  NEIGH6_KEY,
  NEIGH6_MAC0,
  NEIGH6_WORDS,
} from "./layout.ts";
import type { NeighRow } from "./rows.ts";
import { ADDED, CHANGED, Gauge, REMOVED, SAME } from "./stats.ts";

/** REACHABLE, STALE, DELAY, PROBE, NOARP, PERMANENT. */
export const USABLE: number = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;
const NTF_PROXY = 0x08;
/** For endSweep: no stamp is new enough. */
const ALL = 256;
const LAST_STAMP = 255;
/** A table has one entry for so many of its words, as a power of two, when huge pages are worth their memory. */
const DENSE_SHIFT = 13;

export interface Neigh {
  readonly family: number;
  readonly ifindex: number;
  readonly state: number;
  readonly dst: Int32Array;
  /** 6 bytes */
  readonly lladdr: Uint8Array;
}

/** `retire` kinds: the area that a rebuild left. */
export const RETIRE_NEIGH4 = 4;
export const RETIRE_NEIGH6 = 5;

/** One family's table as the writer keeps it, and as cold readers walk it. */
export class NeighFamily {
  private readonly words: Int32Array;
  private readonly pairs: Float64Array; // the same memory, for 64-bit stores
  private readonly next = new Int32Array(2);
  private readonly nextPair: Float64Array = new Float64Array(this.next.buffer);
  private readonly epochs: Epochs | undefined;
  private readonly six: boolean;
  private readonly first: number; // word offset of the first of the two areas
  private readonly mask: number;
  private readonly entry: number; // words
  private readonly shift: number; // log2 of that
  private readonly key: number; // word of the key in an entry
  private readonly active: number; // header word
  private readonly mac: number; // word of the link-layer address in an entry
  private readonly gauge: Gauge | undefined;
  private readonly stamps: Uint8Array;
  private marks = 0; // deleted entries that lookups pass
  private spare = true; // the other area is free
  private stamp = 1;
  private readonly dense: (at: number, words: number) => void;
  private readonly joinAt: number; // entries

  /**
   * @param epochs the writer's; absent for a reader, who may only `all()`
   * @param dense told of where the table lies, once it is well used and if it is as long as a huge page (HUGE_WORDS)
   */
  constructor(
    words: Int32Array,
    at: Layout,
    six: boolean,
    epochs?: Epochs,
    dense: (at: number, words: number) => void = () => {},
  ) {
    this.words = words;
    this.epochs = epochs;
    this.dense = dense;
    this.six = six;
    this.first = six ? at.neigh6 : at.neigh4;
    this.mask = six ? at.neighMask6 : at.neighMask4;
    this.entry = six ? NEIGH6_WORDS : NEIGH4_WORDS;
    this.shift = Math.log2(this.entry);
    this.key = six ? NEIGH6_KEY : NEIGH4_KEY;
    this.active = six ? H_NEIGH6 : H_NEIGH4;
    this.mac = six ? NEIGH6_MAC0 : NEIGH4_MAC0;
    this.joinAt = ((this.mask + 1) * this.entry) >> DENSE_SHIFT;
    this.pairs = new Float64Array(words.buffer, words.byteOffset, words.length >> 1);
    this.stamps = new Uint8Array(epochs ? this.mask + 1 : 0);
    if (!epochs) return;
    const { neighbours4, neighbours6 } = at.capacity;
    this.gauge = six
      ? new Gauge(words, "neighbours6", neighbours6)
      : new Gauge(words, "neighbours4", neighbours4);
  }

  /** Takes over a neighbour; one that no frame can be sent to is removed. ADDED, CHANGED, SAME, REMOVED or REFUSED. */
  upsert(row: NeighRow): number {
    if ((row.flags & NTF_PROXY) !== 0) return SAME;
    if ((row.state & USABLE) === 0 || row.lladdrLen !== 6) return this.remove(row);
    if (row.ifindex <= 0 || row.ifindex >= IFINDEX_LIMIT) return SAME;
    const { words } = this;
    const gauge = this.gauge!;
    const { lladdr: mac } = row;
    const key = row.ifindex | ((row.state & 0xff) << 24);
    const mac0 = mac[0]! | (mac[1]! << 8) | (mac[2]! << 16) | (mac[3]! << 24);
    const mac1 = mac[4]! | (mac[5]! << 8);
    let at = this.find(row);
    if (at > 0) {
      const other = words[at + this.mac] !== mac0 || (words[at + this.mac + 1]! & 0xffff) !== mac1;
      this.stamps[this.slotOf(at)] = this.stamp;
      if (other) this.setMac(at, mac0, mac1);
      else if (words[at + this.key] === key) return SAME;
      Atomics.store(words, at + this.key, key);
      return CHANGED;
    }
    if (gauge.full) return gauge.refuse();
    if (gauge.entries + this.marks > (this.mask + 1) * 0.4 && this.rebuild()) at = this.find(row);
    if (at === 0) return gauge.refuse();
    at = -at;
    if (words[at + this.key] === NEIGH_GONE) this.marks--;
    for (let i = 0; i < this.key; i++) words[at + i] = row.dst[i]!;
    this.setMac(at, mac0, mac1);
    Atomics.store(words, at + this.key, key);
    this.stamps[this.slotOf(at)] = this.stamp;
    if (++gauge.entries === this.joinAt) this.join(words[this.active]!);
    return ADDED;
  }

  /** Forgets a neighbour: REMOVED, or SAME if it was not there. */
  remove(row: NeighRow): number {
    const at = this.find(row);
    if (at <= 0) return SAME;
    this.clear(at);
    return REMOVED;
  }

  /** Forgets all neighbours on an interface that is gone. */
  removeLink(ifindex: number): void {
    this.endSweep(ALL, ifindex);
  }

  beginSweep(): number {
    this.gauge!.clearMissing();
    if (this.stamp === LAST_STAMP) {
      this.stamps.fill(0);
      this.stamp = 0;
    }
    return ++this.stamp;
  }

  /** Removes the neighbours (of one interface, if given) that were not upserted since; returns how many. */
  endSweep(sweep: number, ifindex = 0): number {
    const { words, entry } = this;
    let n = 0;
    for (let slot = 0; slot <= this.mask; slot++) {
      const at = words[this.active]! + slot * entry;
      const key = words[at + this.key]!;
      if (key === 0 || key === NEIGH_GONE || this.stamps[slot]! >= sweep) continue;
      if (ifindex !== 0 && (key & NEIGH_IFINDEX_MASK) !== ifindex) continue;
      this.clear(at);
      n++;
    }
    return n;
  }

  /** The area that a rebuild left has waited out its epoch. */
  reuse(): void {
    this.spare = true;
  }

  /** All neighbours, in no order. */
  all(): Neigh[] {
    const { words, entry } = this;
    const found: Neigh[] = [];
    const base = words[this.active]!;
    for (let slot = 0; slot <= this.mask; slot++) {
      // Most are empty: nothing is made for those.
      const key = words[base + slot * entry + this.key]!;
      const one = key === 0 || key === NEIGH_GONE ? undefined : this.load(base + slot * entry);
      if (one) found.push(one);
    }
    return found;
  }

  /** The entry at `at`, if it is still there. */
  private load(at: number): Neigh | undefined {
    const { words } = this;
    const dst = new Int32Array(4);
    for (;;) {
      const mac1 = words[at + this.mac + 1]!;
      const key = words[at + this.key]!;
      for (let i = 0; i < this.key; i++) dst[i] = words[at + i]!;
      const mac0 = words[at + this.mac]!;
      if (!fence() || words[at + this.mac + 1] !== mac1) continue;
      if (key === 0 || key === NEIGH_GONE) return undefined;
      const lladdr = Uint8Array.of(mac0, mac0 >> 8, mac0 >> 16, mac0 >> 24, mac1, mac1 >> 8);
      const family = this.six ? AF_INET6 : AF_INET;
      return { family, ifindex: key & NEIGH_IFINDEX_MASK, state: key >>> 24, dst, lladdr };
    }
  }

  /** Has an area in huge pages: entries lie all over it, and a page's first touch costs as much as ten entries. */
  private join(area: number): void {
    const words = (this.mask + 1) * this.entry;
    if (words >= HUGE_WORDS) this.dense(area, words);
  }

  private slotOf(at: number): number {
    return (at - this.words[this.active]!) >> this.shift;
  }

  /** The entry's word offset; if there is none, minus that of a slot that could take it; 0 if there is none of these. */
  private find(row: NeighRow): number {
    const { words, entry, mask } = this;
    const base = words[this.active]!;
    let room = 0;
    let i = this.hash(row.dst, row.ifindex) & mask;
    for (let n = 0; n < NEIGH_WINDOW; n++) {
      const at = base + i * entry;
      const key = words[at + this.key]!;
      if (key === 0) return room || -at;
      if (key === NEIGH_GONE) room ||= -at;
      else if ((key & NEIGH_IFINDEX_MASK) === row.ifindex && this.isIp(at, row.dst)) return at;
      i = (i + 1) & mask;
    }
    return room;
  }

  private hash(ip: Int32Array, ifindex: number): number {
    const seed = this.words[H_NEIGH_SEED]!;
    return this.six ? hash6(seed, ip[0]!, ip[1]!, ip[2]!, ip[3]!, ifindex) : hash4(seed, ip[0]!, ifindex);
  }

  private isIp(at: number, ip: Int32Array): boolean {
    for (let i = 0; i < this.key; i++) if (this.words[at + i] !== ip[i]) return false;
    return true;
  }

  /**
   * The address and the next sequence number, in one store: as a double, which costs a tenth of a BigInt. The sequence
   * leaves out what would make it a NaN, whose bits may change on the way.
   */
  private setMac(at: number, mac0: number, mac1: number): void {
    const { next, mac } = this;
    let seq = (this.words[at + mac + 1]! >>> 16) + 2;
    if ((seq & 0x7ff0) === 0x7ff0) seq += 0x10;
    next[0] = mac0;
    next[1] = (seq << 16) | mac1;
    this.pairs[(at + mac) >> 1] = this.nextPair[0]!;
  }

  private clear(at: number): void {
    const { words, entry, mask } = this;
    const base = words[this.active]!;
    let slot = this.slotOf(at);
    const after = base + ((slot + 1) & mask) * entry + this.key;
    this.gauge!.entries--;
    if (words[after] !== 0) {
      this.mark(at, NEIGH_GONE);
      this.marks++;
      return;
    }
    // Nothing comes after: no lookup needs to pass here, nor the marks before.
    this.mark(at, 0);
    for (;;) {
      slot = (slot - 1) & mask;
      const before = base + slot * entry;
      if (words[before + this.key] !== NEIGH_GONE) return;
      this.mark(before, 0);
      this.marks--;
    }
  }

  /** Deletes what is there. */
  private mark(at: number, key: number): void {
    const { words } = this;
    Atomics.store(words, at + this.key, key);
    Atomics.add(words, at + this.mac + 1, 0x20000);
  }

  /** Copies the entries, without the marks, to the other area, and makes that the active one. */
  private rebuild(): boolean {
    if (!this.spare) return false;
    const { words, entry, mask } = this;
    const size = (mask + 1) * entry;
    const from = words[this.active]!;
    const to = from === this.first ? this.first + size : this.first;
    const stamps = this.stamps.slice();
    const ip = new Int32Array(4);
    this.join(to);
    words.fill(0, to, to + size);
    for (let slot = 0; slot <= mask; slot++) {
      const at = from + slot * entry;
      const key = words[at + this.key]!;
      if (key === 0 || key === NEIGH_GONE) continue;
      for (let i = 0; i < this.key; i++) ip[i] = words[at + i]!;
      let i = this.hash(ip, key & NEIGH_IFINDEX_MASK) & mask;
      while (words[to + i * entry + this.key] !== 0) i = (i + 1) & mask;
      for (let k = 0; k < entry; k++) words[to + i * entry + k] = words[at + k]!;
      this.stamps[i] = stamps[slot]!;
    }
    Atomics.store(words, this.active, to);
    this.marks = 0;
    this.spare = false;
    this.epochs!.retire(this.six ? RETIRE_NEIGH6 : RETIRE_NEIGH4, from);
    return true;
  }
}
