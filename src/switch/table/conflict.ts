// Whether a new match would take packets that another client's match gets now: one that shares packets with it and comes
// after it in the order. Patterns that give nothing that the new one leaves open are asked with one probe, which is all
// that there is for a connected match, a listener and a claim; for the others the entries are gone through.
import type { Buckets } from "./buckets.ts";
import { numbersIn, readKeyAt } from "./entry.ts";
import {
  ENTRY_DST,
  ENTRY_META,
  ENTRY_OWNER,
  ENTRY_PORTS,
  KEY_SRC,
  KEY_WORDS,
  type Layout,
  OWNER_CLIENT,
  PATTERN_DST,
  PATTERN_PORTS,
  PATTERN_SRC,
  PATTERN_WORDS,
  placeOf,
} from "./layout.ts";
import { META_SIX, patternOf, writePattern } from "./pattern.ts";
import type { Patterns } from "./patterns.ts";

export class Conflicts {
  private readonly words: Int32Array;
  private readonly layout: Layout;
  private readonly buckets: (key: Int32Array) => Buckets;
  private readonly patterns: Patterns;
  private readonly own = new Int32Array(PATTERN_WORDS);
  private readonly other = new Int32Array(PATTERN_WORDS);
  private readonly probe = new Int32Array(KEY_WORDS);
  private readonly key = new Int32Array(KEY_WORDS);

  constructor(words: Int32Array, at: Layout, buckets: (key: Int32Array) => Buckets, patterns: Patterns) {
    this.words = words;
    this.layout = at;
    this.buckets = buckets;
    this.patterns = patterns;
  }

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
      probe[KEY_SRC + i] = key[KEY_SRC + i]! & other[PATTERN_SRC + i]!;
    }
    probe[ENTRY_PORTS] = key[ENTRY_PORTS]! & other[PATTERN_PORTS]!;
    probe[ENTRY_META] = other[0]! | (key[ENTRY_META]! & 0xff);
    const entry = this.buckets(probe).find(probe);
    return entry !== 0 && this.ownerAt(placeOf(this.layout, entry)) !== client;
  }

  private scanFor(key: Int32Array, pattern: number, client: number): boolean {
    const { words, layout } = this;
    const meta = pattern | (key[ENTRY_META]! & 0xff);
    const half = (pattern & META_SIX) === 0 ? layout.four : layout.six;
    for (const entry of numbersIn(words, half)) {
      const place = placeOf(layout, entry);
      if (words[place + ENTRY_META] !== meta || this.ownerAt(place) === client) continue;
      readKeyAt(words, half, place, this.key);
      if (this.meets(key, this.key)) return true;
    }
    return false;
  }

  /** Whether a packet could be both keys'. */
  private meets(one: Int32Array, two: Int32Array): boolean {
    const { own, other } = this;
    const differ = (value: number, mask: number) =>
      ((one[value]! ^ two[value]!) & own[mask]! & other[mask]!) !== 0;
    for (let i = 0; i < 4; i++)
      if (differ(ENTRY_DST + i, PATTERN_DST + i) || differ(KEY_SRC + i, PATTERN_SRC + i)) return false;
    return !differ(ENTRY_PORTS, PATTERN_PORTS);
  }

  private ownerAt(place: number): number {
    return this.words[place + ENTRY_OWNER]! & OWNER_CLIENT;
  }
}
