// Addresses of our interfaces, both families: slots with a sequence number each (layout.ts), and the choice of a
// source address for a destination. Written by the netlink Worker, read by all.
import { AF_INET } from "../wire/address.ts";
import { fence } from "./fence.ts";
import {
  ADDR_FLAGS,
  ADDR_IFINDEX,
  ADDR_LOCAL,
  ADDR_META,
  ADDR_ORDER,
  ADDR_PEER,
  ADDR_SEQ,
  ADDR_STAMP,
  ADDR_WORDS,
  type Layout,
} from "./layout.ts";
import { MASKS } from "./rib.ts";
import type { AddrRow } from "./rows.ts";
import { ADDED, CHANGED, Gauge, SAME } from "./stats.ts";

export const IFA_F_SECONDARY = 0x01;
export const IFA_F_DEPRECATED = 0x20;
export const IFA_F_TENTATIVE = 0x40;
export const IFA_F_DADFAILED = 0x08;
export const IFA_F_OPTIMISTIC = 0x04;
const RT_SCOPE_LINK = 253;
const RT_SCOPE_HOST = 254;

export interface Addr {
  readonly family: number;
  readonly ifindex: number;
  readonly prefixLen: number;
  readonly scope: number;
  readonly flags: number;
  readonly local: Int32Array;
  readonly peer: Int32Array;
}

export class AddrReader {
  protected readonly words: Int32Array;
  protected readonly slots: number;
  protected readonly count: number;

  constructor(words: Int32Array, at: Layout) {
    this.words = words;
    this.slots = at.addrs;
    this.count = at.capacity.addresses;
  }

  /** All addresses, per interface in the kernel's order; only those of `ifindex` if it is given. */
  all(ifindex = 0): Addr[] {
    const found: { order: number; addr: Addr }[] = [];
    const out = new Int32Array(ADDR_WORDS);
    for (let i = 1; i <= this.high; i++) {
      if (!this.read(this.slots + i * ADDR_WORDS, out)) continue;
      if (ifindex !== 0 && out[ADDR_IFINDEX] !== ifindex) continue;
      const meta = out[ADDR_META]!;
      const addr = {
        family: meta & 0xff,
        ifindex: out[ADDR_IFINDEX]!,
        prefixLen: (meta >>> 8) & 0xff,
        scope: (meta >>> 16) & 0xff,
        flags: out[ADDR_FLAGS]!,
        local: out.slice(ADDR_LOCAL, ADDR_LOCAL + 4),
        peer: out.slice(ADDR_PEER, ADDR_PEER + 4),
      };
      found.push({ order: out[ADDR_ORDER]!, addr });
    }
    found.sort((a, b) => a.addr.ifindex - b.addr.ifindex || a.order - b.order);
    return found.map(({ addr }) => addr);
  }

  /** The IPv4 addresses of an interface, as words, in the kernel's order. */
  own4(ifindex: number): number[] {
    return this.all(ifindex)
      .filter((addr) => addr.family === AF_INET)
      .map((addr) => addr.local[0]!);
  }

  /** Slots that have ever been used: word 0 of slot 0 counts them. */
  protected get high(): number {
    return this.words[this.slots]!;
  }

  /** Copies a slot as it was at one moment; false if it is free. */
  protected read(slot: number, out: Int32Array): boolean {
    const { words } = this;
    for (;;) {
      const seq = words[slot + ADDR_SEQ]!;
      for (let i = 0; i < ADDR_WORDS; i++) out[i] = words[slot + i]!;
      if ((seq & 1) === 0 && fence() && words[slot + ADDR_SEQ] === seq) return out[ADDR_META] !== 0;
    }
  }
}

export class AddrTable extends AddrReader {
  private readonly gauge: Gauge;
  private readonly free: number[] = [];
  private readonly byIfindex = new Map<number, number[]>(); // slots, IPv4 in the order of inet_insert_ifa
  private stamp = 1;
  private order = 0;
  /** The address that the dump told last: its interface, and its order before. */
  private toldIfindex = 0;
  private toldOrder = 0;
  /** Whether addresses changed since the next hops last looked. */
  dirty = false;

  constructor(words: Int32Array, at: Layout) {
    super(words, at);
    this.gauge = new Gauge(words, "addresses", at.capacity.addresses);
  }

  /**
   * Takes over an address. ADDED, CHANGED, SAME or REFUSED.
   * @param dump it comes out of a dump, which tells an interface's addresses in the kernel's order
   */
  upsert(row: AddrRow, dump = false): number {
    const { words } = this;
    const meta = row.family | (row.prefixLen << 8) | (row.scope << 16);
    let slot = this.slotOf(row);
    const known = slot !== 0;
    if (known) {
      words[slot + ADDR_STAMP] = this.stamp;
      if (dump) this.reorder(slot);
      if (words[slot + ADDR_META] === meta && words[slot + ADDR_FLAGS] === row.flags) {
        let same = true;
        for (let i = 0; i < 4; i++) same &&= words[slot + ADDR_PEER + i] === row.peer[i];
        if (same) return SAME;
      }
    } else {
      if (this.gauge.full) return this.gauge.refuse();
      slot = this.free.pop() ?? this.slots + ++words[this.slots]! * ADDR_WORDS;
    }
    const seq = words[slot + ADDR_SEQ]!;
    Atomics.store(words, slot + ADDR_SEQ, seq + 1);
    words[slot + ADDR_META] = meta;
    words[slot + ADDR_IFINDEX] = row.ifindex;
    words[slot + ADDR_FLAGS] = row.flags;
    for (let i = 0; i < 4; i++) {
      words[slot + ADDR_LOCAL + i] = row.local[i]!;
      words[slot + ADDR_PEER + i] = row.peer[i]!;
    }
    words[slot + ADDR_STAMP] = this.stamp;
    if (!known) words[slot + ADDR_ORDER] = ++this.order;
    Atomics.store(words, slot + ADDR_SEQ, seq + 2);
    this.dirty = true;
    if (known) return CHANGED;
    const list = this.byIfindex.get(row.ifindex);
    if (list) list.push(slot);
    else this.byIfindex.set(row.ifindex, [slot]);
    this.gauge.entries++;
    return ADDED;
  }

  /** Puts an address after those of its interface that the dump told before. */
  private reorder(slot: number): void {
    const { words } = this;
    const before = words[slot + ADDR_ORDER]!;
    const ifindex = words[slot + ADDR_IFINDEX]!;
    if (ifindex === this.toldIfindex && before < this.toldOrder) this.dirty = true;
    this.toldIfindex = ifindex;
    this.toldOrder = before;
    words[slot + ADDR_ORDER] = ++this.order;
  }

  /** Forgets an address; false if it was not there. */
  remove(row: AddrRow): boolean {
    const slot = this.slotOf(row);
    if (slot !== 0) this.drop(slot);
    return slot !== 0;
  }

  /** Forgets all addresses of an interface that is gone. */
  removeLink(ifindex: number): void {
    for (const slot of [...(this.byIfindex.get(ifindex) ?? [])]) this.drop(slot);
  }

  /** Begins a mark and sweep: what is upserted from now on survives `endSweep` with the number returned. */
  beginSweep(): number {
    this.toldIfindex = 0;
    this.gauge.clearMissing();
    return ++this.stamp;
  }

  /** Removes the addresses (of one family and interface, if given) that were not upserted since; returns how many. */
  endSweep(sweep: number, only: { family?: number; ifindex?: number } = {}): number {
    const { words } = this;
    let n = 0;
    for (let i = 1; i <= this.high; i++) {
      const slot = this.slots + i * ADDR_WORDS;
      const meta = words[slot + ADDR_META]!;
      if (meta === 0 || words[slot + ADDR_STAMP]! >= sweep) continue;
      if (only.family !== undefined && (meta & 0xff) !== only.family) continue;
      if (only.ifindex !== undefined && words[slot + ADDR_IFINDEX] !== only.ifindex) continue;
      this.drop(slot);
      n++;
    }
    return n;
  }

  /** How many addresses of a family an interface has. */
  countOf(family: number, ifindex: number): number {
    return (this.byIfindex.get(ifindex) ?? []).filter(
      (slot) => (this.words[slot + ADDR_META]! & 0xff) === family,
    ).length;
  }

  /**
   * The kernel's inet_select_addr: the source for a route over `oif` whose next hop is `dst` (0: on link) and whose
   * scope is `scope`. A primary address of the interface, best in `dst`'s subnet; failing that, of any interface.
   */
  select4(oif: number, dst: number, scope: number): number {
    const { words } = this;
    let found = 0;
    for (const slot of this.primaries(oif)) {
      // localnet_scope: without route_localnet, addresses of scope link count as link, narrower ones as host.
      if (Math.min(scopeOf(words[slot + ADDR_META]!), RT_SCOPE_HOST) > scope) continue;
      const mask = MASKS[(words[slot + ADDR_META]! >>> 8) & 0xff]!;
      if (dst === 0 || ((words[slot + ADDR_PEER]! ^ dst) & mask) === 0) return words[slot + ADDR_LOCAL]!;
      found ||= words[slot + ADDR_LOCAL]!;
    }
    if (found !== 0) return found;
    for (const ifindex of [...this.byIfindex.keys()].sort((a, b) => a - b))
      for (const slot of this.primaries(ifindex)) {
        const own = scopeOf(words[slot + ADDR_META]!);
        if (own !== RT_SCOPE_LINK && own <= scope) return words[slot + ADDR_LOCAL]!;
      }
    return 0;
  }

  /** Primary IPv4 addresses as the kernel orders them: narrower scopes first, then as they came. */
  private primaries(ifindex: number): number[] {
    const { words } = this;
    return (this.byIfindex.get(ifindex) ?? [])
      .filter(
        (slot) =>
          (words[slot + ADDR_META]! & 0xff) === AF_INET &&
          (words[slot + ADDR_FLAGS]! & IFA_F_SECONDARY) === 0,
      )
      .sort(
        (a, b) =>
          scopeOf(words[b + ADDR_META]!) - scopeOf(words[a + ADDR_META]!) ||
          words[a + ADDR_ORDER]! - words[b + ADDR_ORDER]!,
      );
  }

  /** Same interface and address; for IPv4 the subnet too, as the kernel allows one address with several. */
  private slotOf(row: AddrRow): number {
    const { words } = this;
    for (const slot of this.byIfindex.get(row.ifindex) ?? []) {
      const meta = words[slot + ADDR_META]!;
      if ((meta & 0xff) !== row.family) continue;
      let same = true;
      for (let i = 0; i < 4; i++) same &&= words[slot + ADDR_LOCAL + i] === row.local[i];
      if (same && row.family === AF_INET)
        same = ((meta >>> 8) & 0xff) === row.prefixLen && words[slot + ADDR_PEER] === row.peer[0];
      if (same) return slot;
    }
    return 0;
  }

  private drop(slot: number): void {
    const { words } = this;
    const ifindex = words[slot + ADDR_IFINDEX]!;
    const left = this.byIfindex.get(ifindex)!.filter((other) => other !== slot);
    if (left.length > 0) this.byIfindex.set(ifindex, left);
    else this.byIfindex.delete(ifindex);
    const seq = words[slot + ADDR_SEQ]!;
    Atomics.store(words, slot + ADDR_SEQ, seq + 1);
    words.fill(0, slot + 1, slot + ADDR_WORDS);
    Atomics.store(words, slot + ADDR_SEQ, seq + 2);
    this.free.push(slot);
    this.gauge.entries--;
    this.dirty = true;
  }
}

const scopeOf = (meta: number): number => (meta >>> 16) & 0xff;
