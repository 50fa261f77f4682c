// The switch table as readers have it, over a mapping that they may only read: which client gets a packet, without a
// lock and without ever waiting for the writer. search.ts says how.
import { AF_INET, AF_INET6 } from "../../wire/address.ts";
import type { SwitchCapacity } from "../boot.ts";
import { makeMayHave4, makeMayHave6, makeMayMeet4, makeMayName4 } from "./destinations.ts";
import { type Entry, isEntry, numbersIn, readEntry } from "./entry.ts";
import { firstOf, fold, hashOf, nextOf, sameTags, tagsOf } from "./hash.ts";
import {
  BEHIND_SHIFT,
  CLIENT_GEN,
  CLIENT_WORDS,
  ENTRY_DST,
  ENTRY_META,
  ENTRY_OWNER,
  ENTRY_PORTS,
  H_ANSWERED,
  H_NOW,
  H_SEED,
  H_VERSION,
  type Half,
  layout,
  type Layout,
  MORE_NEXT,
  MORE_SHIFT,
  NUMBER_SHIFT,
  OWNER_CLIENT,
  placeOf,
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

  /** Whether somebody may have packets to an IPv4 address; most often the search for one who has can be spared. */
  readonly mayHave4: (dst: number) => boolean;
  /** The same for the four words of `header` at `at`. */
  readonly mayHave6: (header: Int32Array, at: number) => boolean;
  /** The same, but for matches of any address: those are about this host's. */
  readonly mayName4: (dst: number) => boolean;
  /** Whether somebody may have packets to an IPv4 address from another for being between these two. */
  readonly mayMeet4: (dst: number, src: number) => boolean;

  /** @param buffer the table's memory, which its writer has already set up */
  constructor(buffer: ArrayBuffer, capacity: SwitchCapacity) {
    this.layout = layout(capacity);
    this.words = new Int32Array(buffer, 0, this.layout.bytes >> 2);
    const { words, found } = this;
    this.find4 = makeSearch4(words, this.layout, found);
    this.find6 = makeSearch6(words, this.layout, found);
    this.mayHave4 = makeMayHave4(words, this.layout);
    this.mayHave6 = makeMayHave6(words, this.layout);
    this.mayName4 = makeMayName4(words, this.layout);
    this.mayMeet4 = makeMayMeet4(words, this.layout);
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
    for (const half of [this.layout.four, this.layout.six])
      for (const entry of numbersIn(this.words, half)) {
        const one = this.entry(entry);
        if (one !== undefined && one.kind !== "owned" && one.kind !== "head") yield one;
      }
  }

  /** The entry with this number, if there is one. Cold. */
  entry(entry: number): Entry | undefined {
    const { words, found, layout: at } = this;
    while (isEntry(words, at, entry)) {
      const { version } = this;
      const one = readEntry(words, at, entry);
      found[FOUND_ENTRY] = 0;
      if (this.version === version && isEntry(words, at, entry)) return one;
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
      const n = this.members(this.number4(address, ports & ~0xffff, meta), out, entries);
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
      const n = this.members(this.number6(header, address, ports & ~0xffff, meta), out, entries);
      this.found[FOUND_ENTRY] = 0;
      if (this.version === version) return n;
    }
  }

  /** Whose DHCP answer has this transaction id (memory word): the client's slot, or -1. */
  findDhcp(xid: number): number {
    for (;;) {
      const { version } = this;
      const client = this.ownerOf(this.number4(xid, 0, META_DHCP));
      if (this.version === version) return client;
    }
  }

  /** Which client alone has an IPv4 address: its slot, or -1. */
  owner4(address: number): number {
    for (;;) {
      const { version } = this;
      const client = this.ownerOf(this.number4(address, 0, META_OWNED));
      if (this.version === version) return client;
    }
  }

  /** The same for the four words of `header` at `address`. */
  owner6(header: Int32Array, address: number): number {
    for (;;) {
      const { version } = this;
      const client = this.ownerOf(this.number6(header, address, 0, META_OWNED | META_SIX));
      if (this.version === version) return client;
    }
  }

  private ownerOf(entry: number): number {
    this.found[FOUND_ENTRY] = this.found[FOUND_TOUCH] = entry;
    return entry === 0 ? -1 : this.words[placeOf(this.layout, entry) + ENTRY_OWNER]! & OWNER_CLIENT;
  }

  /** Of an entry without a source: its number, or 0. */
  private number4(dst: number, ports: number, meta: number): number {
    const hash = hashOf(this.words[H_SEED]!, dst, 0, ports, meta);
    return this.search(this.layout.four, hash, dst, 0, 0, 0, ports, meta);
  }

  private number6(header: Int32Array, dst: number, ports: number, meta: number): number {
    const d0 = header[dst]!;
    const d1 = header[dst + 1]!;
    const d2 = header[dst + 2]!;
    const d3 = header[dst + 3]!;
    const seed = this.words[H_SEED]!;
    const hash = hashOf(seed, fold(seed, d0, d1, d2, d3), fold(seed, 0, 0, 0, 0), ports, meta);
    return this.search(this.layout.six, hash, d0, d1, d2, d3, ports, meta);
  }

  private search(
    half: Half,
    hash: number,
    d0: number,
    d1: number,
    d2: number,
    d3: number,
    ports: number,
    meta: number,
  ): number {
    const { words } = this;
    const four = half.addressWords === 1;
    const home = hash & half.mask;
    let bucket = home;
    do {
      const word = words[half.tags + bucket]!;
      for (let same = sameTags(word, tagsOf(hash)); same !== 0; same = nextOf(same)) {
        const n = firstOf(same);
        const place = half.entries + bucket * half.bucketWords + n * half.entryWords;
        if (
          words[place + ENTRY_META] === meta &&
          words[place + ENTRY_PORTS] === ports &&
          words[place + ENTRY_DST] === d0 &&
          (four ||
            (words[place + ENTRY_DST + 1] === d1 &&
              words[place + ENTRY_DST + 2] === d2 &&
              words[place + ENTRY_DST + 3] === d3))
        )
          return half.first + (bucket << NUMBER_SHIFT) + n;
      }
      if (word >>> BEHIND_SHIFT === 0) return 0;
      bucket = (bucket + 1) & half.mask;
    } while (bucket !== home);
    return 0;
  }

  /** Writes whose the members behind a group's head are. */
  private members(head: number, out: Int32Array, entries: Int32Array | undefined): number {
    const { words, layout: at } = this;
    let n = 0;
    for (let entry = head; entry !== 0 && n < out.length; ) {
      entry = words[at.more + (entry << MORE_SHIFT) + MORE_NEXT]!;
      if (entry === 0) break;
      if (entries !== undefined) entries[n] = entry;
      out[n++] = words[placeOf(at, entry) + ENTRY_OWNER]! & OWNER_CLIENT;
    }
    return n;
  }
}
