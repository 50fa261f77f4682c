// The switch table as readers have it, over a mapping that they may only read: which client gets a packet, without a
// lock and without ever waiting for the writer. A search is good if the version is the same after it as before
// (slots.ts); if not, the writer has changed something meanwhile, and it is made again.
//
// `found` is written between the two looks at the version, which also keeps the compiler from taking the second for the
// first. Plain loads are in order on x86; elsewhere this would need acquires.
import type { SwitchCapacity } from "./boot.ts";
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
  ENTRY_SRC,
  ENTRY_WORDS,
  entryCount,
  H_ANSWERED,
  H_NOW,
  H_PATTERNS,
  H_SEED,
  H_VERSION,
  layout,
  type Layout,
  OWNER_CLIENT,
  PATTERN_DST,
  PATTERN_PORTS,
  PATTERN_SRC,
  PATTERN_WORDS,
} from "./layout.ts";
import { groupMeta, META_DHCP, META_OWNED, META_SIX } from "./pattern.ts";
import { AF_INET, AF_INET6 } from "../wire/address.ts";

export class TableReader {
  readonly words: Int32Array;
  readonly layout: Layout;
  /** Word 0: the entry that the last `find` found, for touching; 0 if it found none. */
  readonly found: Int32Array = new Int32Array(1);
  /**
   * Whose IPv4 packet this is: the client's slot, or -1. Addresses are memory words.
   * @param ports as they lie in the header: source port in the low half, destination port in the high one
   */
  readonly find4: (protocol: number, dst: number, src: number, ports: number) => number;
  /** The same for IPv6: the addresses are four words each of `header`, at `dst` and `src`. */
  readonly find6: (header: Int32Array, dst: number, src: number, protocol: number, ports: number) => number;
  /** Whose DHCP answer has this transaction id (memory word): the client's slot, or -1. */
  readonly findDhcp: (xid: number) => number;

  /** @param buffer the table's memory, which its writer has already set up */
  constructor(buffer: ArrayBuffer, capacity: SwitchCapacity) {
    this.layout = layout(capacity);
    this.words = new Int32Array(buffer, 0, this.layout.bytes >> 2);
    const { words, found } = this;
    const { slots, slotMask, numberMask, entries } = this.layout;
    const seed = words[H_SEED]!;

    this.find4 = (protocol, dst, src, ports) => {
      for (;;) {
        const version = words[H_VERSION]!;
        let at = 0;
        let pattern = words[H_PATTERNS]!;
        search: for (let form = words[pattern]!; form !== 0; form = words[pattern]!) {
          const meta = form | protocol;
          const p = ports & words[pattern + PATTERN_PORTS]!;
          const d = dst & words[pattern + PATTERN_DST]!;
          const s = src & words[pattern + PATTERN_SRC]!;
          const hash = hash4(seed, d, s, p, meta);
          let i = hash & slotMask;
          for (let word = words[slots + i]!; word !== 0; word = words[slots + i]!) {
            if (((word ^ hash) & ~numberMask) === 0) {
              at = entries + (word & numberMask) * ENTRY_WORDS;
              if (
                words[at + ENTRY_DST] === d &&
                words[at + ENTRY_META] === meta &&
                words[at + ENTRY_PORTS] === p &&
                words[at + ENTRY_SRC] === s
              )
                break search;
              at = 0;
            }
            i = (i + 1) & slotMask;
          }
          pattern += PATTERN_WORDS;
        }
        const client = at === 0 ? -1 : words[at + ENTRY_OWNER]! & OWNER_CLIENT;
        found[0] = at === 0 ? 0 : ((at - entries) / ENTRY_WORDS) | 0;
        if (words[H_VERSION] === version) return client;
      }
    };

    this.find6 = (header, dst, src, protocol, ports) => {
      for (;;) {
        const version = words[H_VERSION]!;
        let at = 0;
        let pattern = words[H_PATTERNS + 1]!;
        search: for (let form = words[pattern]!; form !== 0; form = words[pattern]!) {
          const meta = form | protocol;
          const p = ports & words[pattern + PATTERN_PORTS]!;
          const d0 = header[dst]! & words[pattern + PATTERN_DST]!;
          const d1 = header[dst + 1]! & words[pattern + PATTERN_DST + 1]!;
          const d2 = header[dst + 2]! & words[pattern + PATTERN_DST + 2]!;
          const d3 = header[dst + 3]! & words[pattern + PATTERN_DST + 3]!;
          const s0 = header[src]! & words[pattern + PATTERN_SRC]!;
          const s1 = header[src + 1]! & words[pattern + PATTERN_SRC + 1]!;
          const s2 = header[src + 2]! & words[pattern + PATTERN_SRC + 2]!;
          const s3 = header[src + 3]! & words[pattern + PATTERN_SRC + 3]!;
          const hash = hash6(seed, d0, d1, d2, d3, s0, s1, s2, s3, p, meta);
          let i = hash & slotMask;
          for (let word = words[slots + i]!; word !== 0; word = words[slots + i]!) {
            if (((word ^ hash) & ~numberMask) === 0) {
              at = entries + (word & numberMask) * ENTRY_WORDS;
              if (
                words[at + ENTRY_DST + 3] === d3 &&
                words[at + ENTRY_META] === meta &&
                words[at + ENTRY_PORTS] === p &&
                words[at + ENTRY_DST + 2] === d2 &&
                words[at + ENTRY_DST + 1] === d1 &&
                words[at + ENTRY_DST] === d0 &&
                words[at + ENTRY_SRC + 3] === s3 &&
                words[at + ENTRY_SRC + 2] === s2 &&
                words[at + ENTRY_SRC + 1] === s1 &&
                words[at + ENTRY_SRC] === s0
              )
                break search;
              at = 0;
            }
            i = (i + 1) & slotMask;
          }
          pattern += PATTERN_WORDS;
        }
        const client = at === 0 ? -1 : words[at + ENTRY_OWNER]! & OWNER_CLIENT;
        found[0] = at === 0 ? 0 : ((at - entries) / ENTRY_WORDS) | 0;
        if (words[H_VERSION] === version) return client;
      }
    };

    this.findDhcp = (xid) => {
      for (;;) {
        const version = words[H_VERSION]!;
        const at = this.place4(xid, 0, META_DHCP);
        const client = at === 0 ? -1 : words[at + ENTRY_OWNER]! & OWNER_CLIENT;
        found[0] = at === 0 ? 0 : ((at - entries) / ENTRY_WORDS) | 0;
        if (words[H_VERSION] === version) return client;
      }
    };
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
    const { words, found } = this;
    const { entries, capacity } = this.layout;
    for (let entry = 1; entry <= entryCount(capacity); entry++) {
      const at = entries + entry * ENTRY_WORDS;
      for (let again = true; again && isEntry(words, at); ) {
        const version = this.version;
        const one = readEntry(words, at, entry);
        found[0] = 0;
        again = this.version !== version || !isEntry(words, at);
        if (!again && one.kind !== "owned") yield one;
      }
    }
  }

  /** Writes the slots of the clients in an IPv4 group to `out`; returns how many. @param ports a header's word */
  groups4(protocol: number, address: number, ports: number, out: Int32Array): number {
    const meta = groupMeta(AF_INET, protocol);
    for (;;) {
      const { version } = this;
      const n = this.members(this.place4(address, ports & ~0xffff, meta), out);
      this.found[0] = 0;
      if (this.version === version) return n;
    }
  }

  /** The same for IPv6; the address is four words of `header` at `address`. */
  groups6(header: Int32Array, address: number, protocol: number, ports: number, out: Int32Array): number {
    const meta = groupMeta(AF_INET6, protocol);
    for (;;) {
      const { version } = this;
      const n = this.members(this.place6(header, address, ports & ~0xffff, meta), out);
      this.found[0] = 0;
      if (this.version === version) return n;
    }
  }

  /** Which client alone has an IPv4 address: its slot, or -1. */
  owner4(address: number): number {
    for (;;) {
      const { version } = this;
      const at = this.place4(address, 0, META_OWNED);
      const client = at === 0 ? -1 : this.words[at + ENTRY_OWNER]! & OWNER_CLIENT;
      this.found[0] = 0;
      if (this.version === version) return client;
    }
  }

  /** The same for the four words of `header` at `address`. */
  owner6(header: Int32Array, address: number): number {
    for (;;) {
      const { version } = this;
      const at = this.place6(header, address, 0, META_OWNED | META_SIX);
      const client = at === 0 ? -1 : this.words[at + ENTRY_OWNER]! & OWNER_CLIENT;
      this.found[0] = 0;
      if (this.version === version) return client;
    }
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

  private members(first: number, out: Int32Array): number {
    const { words } = this;
    let n = 0;
    for (let at = first; at !== 0 && n < out.length; ) {
      out[n++] = words[at + ENTRY_OWNER]! & OWNER_CLIENT;
      const next = words[at + ENTRY_NEXT]!;
      at = next === 0 ? 0 : this.layout.entries + next * ENTRY_WORDS;
    }
    return n;
  }
}
