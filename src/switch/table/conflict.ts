// Whether a new match would take packets that another client's match gets now: one that shares packets with it and comes
// after it in the order. Patterns that give nothing that the new one leaves open are asked with one probe, which is all
// that there is for a connected match, a listener and a claim; for the others the entries are gone through.
import {
  ENTRY_DST,
  ENTRY_META,
  ENTRY_OWNER,
  ENTRY_PORTS,
  ENTRY_SRC,
  ENTRY_WORDS,
  entryCount,
  type Layout,
  OWNER_CLIENT,
  PATTERN_DST,
  PATTERN_PORTS,
  PATTERN_SRC,
  PATTERN_WORDS,
} from "./layout.ts";
import { patternOf, writePattern } from "./pattern.ts";
import type { Patterns } from "./patterns.ts";
import type { Slots } from "./slots.ts";

export class Conflicts {
  private readonly words: Int32Array;
  private readonly layout: Layout;
  private readonly slots: Slots;
  private readonly patterns: Patterns;
  private readonly own = new Int32Array(PATTERN_WORDS);
  private readonly other = new Int32Array(PATTERN_WORDS);
  private readonly probe = new Int32Array(ENTRY_WORDS);

  constructor(words: Int32Array, at: Layout, slots: Slots, patterns: Patterns) {
    this.words = words;
    this.layout = at;
    this.slots = slots;
    this.patterns = patterns;
  }

  /** @param key a match's values, ENTRY_DST to ENTRY_META */
  find(key: Int32Array, client: number): boolean {
    const { own, other } = this;
    const pattern = patternOf(key[ENTRY_META]!);
    writePattern(pattern, own, 0);
    for (const later of this.patterns.after(pattern)) {
      writePattern(later, other, 0);
      if (this.isWithin() ? this.probeFor(key, client) : this.scanFor(key, later, client)) return true;
    }
    return false;
  }

  /** Whether `other` gives nothing that `own` leaves open. */
  private isWithin(): boolean {
    for (let i = PATTERN_PORTS; i < PATTERN_SRC + 4; i++)
      if ((this.other[i]! & ~this.own[i]!) !== 0) return false;
    return true;
  }

  private probeFor(key: Int32Array, client: number): boolean {
    const { other, probe } = this;
    for (let i = 0; i < 4; i++) {
      probe[ENTRY_DST + i] = key[ENTRY_DST + i]! & other[PATTERN_DST + i]!;
      probe[ENTRY_SRC + i] = key[ENTRY_SRC + i]! & other[PATTERN_SRC + i]!;
    }
    probe[ENTRY_PORTS] = key[ENTRY_PORTS]! & other[PATTERN_PORTS]!;
    probe[ENTRY_META] = other[0]! | (key[ENTRY_META]! & 0xff);
    const entry = this.slots.find(probe, 0);
    return entry !== 0 && this.ownerAt(this.layout.entries + entry * ENTRY_WORDS) !== client;
  }

  private scanFor(key: Int32Array, pattern: number, client: number): boolean {
    const { words, layout } = this;
    const meta = pattern | (key[ENTRY_META]! & 0xff);
    const end = layout.entries + (entryCount(layout.capacity) + 1) * ENTRY_WORDS;
    for (let at = layout.entries + ENTRY_WORDS; at < end; at += ENTRY_WORDS)
      if (words[at + ENTRY_META] === meta && this.ownerAt(at) !== client && this.meets(key, at)) return true;
    return false;
  }

  /** Whether a packet could be both the key's and the entry's. */
  private meets(key: Int32Array, at: number): boolean {
    const { words, own, other } = this;
    const differ = (value: number, mask: number) =>
      ((words[at + value]! ^ key[value]!) & own[mask]! & other[mask]!) !== 0;
    for (let i = 0; i < 4; i++)
      if (differ(ENTRY_DST + i, PATTERN_DST + i) || differ(ENTRY_SRC + i, PATTERN_SRC + i)) return false;
    return !differ(ENTRY_PORTS, PATTERN_PORTS);
  }

  private ownerAt(at: number): number {
    return this.words[at + ENTRY_OWNER]! & OWNER_CLIENT;
  }
}
