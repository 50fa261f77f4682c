// Links. An array from ifindex to slot (sparse memory, so a million indexes cost what is used), and slots of fixed
// size with a sequence number each (layout.ts). Written by the netlink Worker, read by all.
import { fence } from "./fence.ts";
import {
  IFINDEX_LIMIT,
  type Layout,
  LINK_FLAGS,
  LINK_IFINDEX,
  LINK_IGNORE,
  LINK_KIND,
  LINK_LINK,
  LINK_LLADDR,
  LINK_LLADDR_LEN,
  LINK_MASTER,
  LINK_MTU,
  LINK_NAME,
  LINK_SEQ,
  LINK_SRC_HEAD,
  LINK_SRC_TAIL,
  LINK_STAMP,
  LINK_STATE,
  LINK_VLAN,
  LINK_WORDS,
} from "./layout.ts";
import type { LinkRow } from "./rows.ts";
import { ADDED, CHANGED, Gauge, SAME } from "./stats.ts";

/** A link as plain values, with LinkRow's meanings. */
export type Link = Omit<LinkRow, never>;

export class LinkReader {
  protected readonly words: Int32Array;
  protected readonly index: number;
  protected readonly slots: number;
  protected readonly count: number;

  constructor(words: Int32Array, at: Layout) {
    this.words = words;
    this.index = at.linkIndex;
    this.slots = at.links;
    this.count = at.capacity.links;
  }

  /** Word offset of the link's slot (LINK_*), 0 if there is no such link. */
  find(ifindex: number): number {
    return ifindex >>> 0 < IFINDEX_LIMIT ? this.words[this.index + ifindex]! : 0;
  }

  /** Copies a slot as it was at one moment into `out[0..31]`; false if there is no such link. */
  read(ifindex: number, out: Int32Array): boolean {
    const { words } = this;
    for (;;) {
      const slot = this.find(ifindex);
      if (slot === 0) return false;
      const seq = words[slot + LINK_SEQ]!;
      for (let i = 0; i < LINK_WORDS; i++) out[i] = words[slot + i]!;
      if ((seq & 1) === 0 && fence() && words[slot + LINK_SEQ] === seq) return out[LINK_IFINDEX] === ifindex;
    }
  }

  /** The link as plain values, or undefined. */
  get(ifindex: number): Link | undefined {
    const out = new Int32Array(LINK_WORDS);
    return this.read(ifindex, out) ? toLink(out) : undefined;
  }

  /** All links, by slot. */
  all(): Link[] {
    const links: Link[] = [];
    for (let i = 1; i <= this.count; i++) {
      const ifindex = this.words[this.slots + i * LINK_WORDS + LINK_IFINDEX]!;
      const link = ifindex === 0 ? undefined : this.get(ifindex);
      if (link) links.push(link);
    }
    return links;
  }

  /** The ifindex of the link of this name, 0 if there is none. */
  named(name: string): number {
    return this.all().find((link) => link.name === name)?.ifindex ?? 0;
  }
}

const text = (words: Int32Array, at: number): string => {
  const bytes = Buffer.from(words.buffer, words.byteOffset + at * 4, 16);
  const end = bytes.indexOf(0);
  return bytes.toString("utf8", 0, end < 0 ? 16 : end);
};

function toLink(words: Int32Array): Link {
  const state = words[LINK_STATE]!;
  return {
    ifindex: words[LINK_IFINDEX]!,
    flags: words[LINK_FLAGS]!,
    mtu: words[LINK_MTU]! >>> 0,
    type: state & 0xffff,
    operstate: (state >>> 16) & 0xff,
    carrier: state >>> 24,
    master: words[LINK_MASTER]!,
    link: words[LINK_LINK]!,
    vlan: words[LINK_VLAN]!,
    lladdrLen: words[LINK_LLADDR_LEN]!,
    lladdr: new Uint8Array(words.buffer, words.byteOffset + LINK_LLADDR * 4, 32).slice(),
    name: text(words, LINK_NAME),
    kind: text(words, LINK_KIND),
  };
}

export class LinkTable extends LinkReader {
  private readonly gauge: Gauge;
  private readonly free: number[] = [];
  private top = 0; // slots ever used
  private stamp = 1;
  private readonly next = new Int32Array(LINK_WORDS);
  private readonly nextBytes = Buffer.from(this.next.buffer);
  /** ifindexes whose flags, carrier or existence changed since the next hops last looked. */
  readonly dirty = new Set<number>();

  constructor(words: Int32Array, at: Layout) {
    super(words, at);
    this.gauge = new Gauge(words, "links", at.capacity.links);
  }

  /** Takes over a link. ADDED, CHANGED, SAME or REFUSED. */
  upsert(row: LinkRow): number {
    const { words, next, nextBytes } = this;
    if (row.ifindex <= 0 || row.ifindex >= IFINDEX_LIMIT) return this.gauge.refuse();
    let slot = this.find(row.ifindex);
    next.fill(0);
    next[LINK_IFINDEX] = row.ifindex;
    next[LINK_FLAGS] = row.flags;
    next[LINK_MTU] = row.mtu;
    next[LINK_STATE] = (row.type & 0xffff) | ((row.operstate & 0xff) << 16) | ((row.carrier & 0xff) << 24);
    next[LINK_LLADDR_LEN] = row.lladdrLen;
    next[LINK_MASTER] = row.master;
    next[LINK_LINK] = row.link;
    next[LINK_VLAN] = row.vlan;
    nextBytes.set(row.lladdr.subarray(0, Math.min(row.lladdrLen, 32)), LINK_LLADDR * 4);
    next[LINK_SRC_HEAD] = next[LINK_LLADDR]! << 16;
    next[LINK_SRC_TAIL] = (next[LINK_LLADDR]! >>> 16) | (next[LINK_LLADDR + 1]! << 16);
    nextBytes.write(row.name, LINK_NAME * 4, 15);
    nextBytes.write(row.kind, LINK_KIND * 4, 15);
    if (slot !== 0) {
      words[slot + LINK_STAMP] = this.stamp;
      next[LINK_SEQ] = words[slot + LINK_SEQ]!;
      next[LINK_STAMP] = this.stamp;
      next[LINK_IGNORE] = words[slot + LINK_IGNORE]!;
      let same = true;
      for (let i = 0; same && i < LINK_WORDS; i++) same = words[slot + i] === next[i];
      if (same) return SAME;
      if (words[slot + LINK_FLAGS] !== row.flags || words[slot + LINK_STATE] !== next[LINK_STATE])
        this.dirty.add(row.ifindex);
      this.write(slot);
      return CHANGED;
    }
    if (this.gauge.full) return this.gauge.refuse();
    slot = this.free.pop() ?? this.slots + ++this.top * LINK_WORDS;
    next[LINK_STAMP] = this.stamp;
    this.write(slot);
    Atomics.store(words, this.index + row.ifindex, slot);
    this.gauge.entries++;
    this.dirty.add(row.ifindex);
    return ADDED;
  }

  /** Forgets a link; false if it was not there. Its routes and addresses are for the mirror to sweep. */
  remove(ifindex: number): boolean {
    const slot = this.find(ifindex);
    if (slot === 0) return false;
    Atomics.store(this.words, this.index + ifindex, 0);
    this.next.fill(0);
    this.write(slot);
    this.free.push(slot);
    this.gauge.entries--;
    this.dirty.add(ifindex);
    return true;
  }

  /** Whether the kernel skips next hops over this link while it has no carrier (ignore_routes_with_linkdown). */
  setIgnoreLinkdown(ifindex: number, four: boolean, six: boolean): void {
    const slot = this.find(ifindex);
    const value = (four ? 1 : 0) | (six ? 2 : 0);
    if (slot === 0 || this.words[slot + LINK_IGNORE] === value) return;
    this.words[slot + LINK_IGNORE] = value;
    this.dirty.add(ifindex);
  }

  /** Begins a mark and sweep: what is upserted from now on survives `endSweep` with the number returned. */
  beginSweep(): number {
    this.gauge.clearMissing();
    return ++this.stamp;
  }

  /** Removes the links that were not upserted since; returns their ifindexes. */
  endSweep(sweep: number): number[] {
    const { words } = this;
    const gone: number[] = [];
    for (let i = 1; i <= this.top; i++) {
      const slot = this.slots + i * LINK_WORDS;
      if (words[slot + LINK_IFINDEX] !== 0 && words[slot + LINK_STAMP]! < sweep)
        gone.push(words[slot + LINK_IFINDEX]!);
    }
    for (const ifindex of gone) this.remove(ifindex);
    return gone;
  }

  private write(slot: number): void {
    const { words, next } = this;
    const seq = words[slot + LINK_SEQ]!;
    Atomics.store(words, slot + LINK_SEQ, seq + 1);
    for (let i = LINK_SEQ + 1; i < LINK_WORDS; i++) words[slot + i] = next[i]!;
    Atomics.store(words, slot + LINK_SEQ, seq + 2);
  }
}
