// The switch table as readers have it, over a mapping that they may only read: which client gets a packet, without a
// lock and without ever waiting for the writer. search.ts says how.
import { AF_INET, AF_INET6 } from "../../wire/address.ts";
import { type Ahead, makeAhead } from "./ahead.ts";
import type { SwitchCapacity } from "../boot.ts";
import { type Entry, isEntry, readEntry } from "./entry.ts";
import { hash4, hash6 } from "./hash.ts";
import {
  CLIENT_GEN,
  CLIENT_WORDS,
  ENTRY_DST,
  ENTRY_META,
  ENTRY_NEXT,
  ENTRY_OWNER,
  ENTRY_PORTS,
  ENTRY_SHIFT,
  ENTRY_WORDS,
  entryCount,
  H_ANSWERED,
  H_NOW,
  H_SEED,
  H_VERSION,
  layout,
  type Layout,
  OWNER_CLIENT,
} from "./layout.ts";
import { groupMeta, META_DHCP, META_OWNED, META_SIX } from "./pattern.ts";
import {
  FOUND_ENTRY,
  FOUND_TOUCH,
  FOUND_WORDS,
  makeSearch4,
  makeSearch6,
  type Search4,
  type Search6,
} from "./search.ts";

export class TableReader {
  readonly words: Int32Array;
  readonly layout: Layout;
  /** What the last `find` found: FOUND_ENTRY, FOUND_TOUCH (search.ts). */
  readonly found: Int32Array = new Int32Array(FOUND_WORDS);
  /**
   * Whose IPv4 packet this is: the client's slot, or -1. Addresses are memory words.
   * @param ports as they lie in the header: source port in the low half, destination port in the high one
   */
  readonly find4: Search4;
  /** The same for IPv6: the addresses are four words each of `header`, at `dst` and `src`. */
  readonly find6: Search6;
  /** Loads what the searches for a batch will look at (ahead.ts). */
  readonly ahead: Ahead;

  /** @param buffer the table's memory, which its writer has already set up */
  constructor(buffer: ArrayBuffer, capacity: SwitchCapacity) {
    this.layout = layout(capacity);
    this.words = new Int32Array(buffer, 0, this.layout.bytes >> 2);
    const { words, found } = this;
    this.find4 = makeSearch4(words, this.layout, found);
    this.find6 = makeSearch6(words, this.layout, found);
    this.ahead = makeAhead(words, this.layout);
  }

  /** Another one whenever anything has changed. */
  get version(): number {
    return this.words[H_VERSION]!;
  }

  /** Seconds by the clock of touches. */
  get now(): number {
    return this.words[H_NOW]!;
  }

  /** How many of net Worker `worker`'s requests are answered. */
  answered(worker: number): number {
    return this.words[H_ANSWERED + worker]!;
  }

  /** Word offset of a client's row (CLIENT_*). */
  client(slot: number): number {
    return this.layout.clients + slot * CLIENT_WORDS;
  }

  /** Slots of all clients. Cold. */
  *clients(): Generator<number> {
    for (let slot = 0; slot < this.layout.capacity.clients; slot++)
      if ((this.words[this.client(slot) + CLIENT_GEN]! & 1) === 1) yield slot;
  }

  /** All matches, claims, groups and DHCP transactions, in no order. Cold. */
  *entries(): Generator<Entry> {
    for (let entry = 1; entry <= entryCount(this.layout.capacity); entry++) {
      const one = this.entry(entry);
      if (one !== undefined && one.kind !== "owned") yield one;
    }
  }

  /** The entry with this number, if there is one. Cold. */
  entry(entry: number): Entry | undefined {
    const { words, found } = this;
    const at = this.layout.entries + entry * ENTRY_WORDS;
    while (isEntry(words, at)) {
      const version = this.version;
      const one = readEntry(words, at, entry);
      found[FOUND_ENTRY] = 0;
      if (this.version === version && isEntry(words, at)) return one;
    }
    return undefined;
  }

  /**
   * Writes the slots of the clients in an IPv4 group to `out`, and the numbers of their entries to `entries`; returns how many.
   * @param ports a header's word
   */
  groups4(protocol: number, address: number, ports: number, out: Int32Array, entries?: Int32Array): number {
    const meta = groupMeta(AF_INET, protocol);
    for (;;) {
      const { version } = this;
      const n = this.members(this.place4(address, ports & ~0xffff, meta), out, entries);
      this.found[FOUND_ENTRY] = 0;
      if (this.version === version) return n;
    }
  }

  /** The same for IPv6; the address is four words of `header` at `address`. */
  groups6(
    header: Int32Array,
    address: number,
    protocol: number,
    ports: number,
    out: Int32Array,
    entries?: Int32Array,
  ): number {
    const meta = groupMeta(AF_INET6, protocol);
    for (;;) {
      const { version } = this;
      const n = this.members(this.place6(header, address, ports & ~0xffff, meta), out, entries);
      this.found[FOUND_ENTRY] = 0;
      if (this.version === version) return n;
    }
  }

  /** Whose DHCP answer has this transaction id (memory word): the client's slot, or -1. */
  findDhcp(xid: number): number {
    for (;;) {
      const { version } = this;
      const at = this.place4(xid, 0, META_DHCP);
      const client = this.ownerAt(at);
      if (this.version === version) return client;
    }
  }

  /** Which client alone has an IPv4 address: its slot, or -1. */
  owner4(address: number): number {
    for (;;) {
      const { version } = this;
      const at = this.place4(address, 0, META_OWNED);
      const client = this.ownerAt(at);
      if (this.version === version) return client;
    }
  }

  /** The same for the four words of `header` at `address`. */
  owner6(header: Int32Array, address: number): number {
    for (;;) {
      const { version } = this;
      const at = this.place6(header, address, 0, META_OWNED | META_SIX);
      const client = this.ownerAt(at);
      if (this.version === version) return client;
    }
  }

  private ownerAt(at: number): number {
    const entry = at === 0 ? 0 : (at - this.layout.entries) >>> ENTRY_SHIFT;
    this.found[FOUND_ENTRY] = this.found[FOUND_TOUCH] = entry;
    return at === 0 ? -1 : this.words[at + ENTRY_OWNER]! & OWNER_CLIENT;
  }

  /** Of an entry without a source: its place, or 0. */
  private place4(dst: number, ports: number, meta: number): number {
    return this.place(hash4(this.words[H_SEED]!, dst, 0, ports, meta), dst, 0, 0, 0, ports, meta);
  }

  private place6(header: Int32Array, dst: number, ports: number, meta: number): number {
    const d0 = header[dst]!;
    const d1 = header[dst + 1]!;
    const d2 = header[dst + 2]!;
    const d3 = header[dst + 3]!;
    const hash = hash6(this.words[H_SEED]!, d0, d1, d2, d3, 0, 0, 0, 0, ports, meta);
    return this.place(hash, d0, d1, d2, d3, ports, meta);
  }

  private place(hash: number, d0: number, d1: number, d2: number, d3: number, ports: number, meta: number) {
    const { words } = this;
    const { slots, slotMask, numberMask, entries } = this.layout;
    for (let i = hash & slotMask; ; i = (i + 1) & slotMask) {
      const word = words[slots + i]!;
      if (word === 0) return 0;
      const at = entries + (word & numberMask) * ENTRY_WORDS;
      if (
        ((word ^ hash) & ~numberMask) === 0 &&
        words[at + ENTRY_META] === meta &&
        words[at + ENTRY_PORTS] === ports &&
        words[at + ENTRY_DST] === d0 &&
        words[at + ENTRY_DST + 1] === d1 &&
        words[at + ENTRY_DST + 2] === d2 &&
        words[at + ENTRY_DST + 3] === d3
      )
        return at;
    }
  }

  private members(first: number, out: Int32Array, entries: Int32Array | undefined): number {
    const { words, layout } = this;
    let n = 0;
    for (let at = first; at !== 0 && n < out.length; ) {
      if (entries !== undefined) entries[n] = (at - layout.entries) >>> ENTRY_SHIFT;
      out[n++] = words[at + ENTRY_OWNER]! & OWNER_CLIENT;
      const next = words[at + ENTRY_NEXT]!;
      at = next === 0 ? 0 : layout.entries + next * ENTRY_WORDS;
    }
    return n;
  }
}
