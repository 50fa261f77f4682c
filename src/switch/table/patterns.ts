// The patterns in use, as the writer keeps them: how many matches have each, and for searches one list a family in the
// table, the most specific first. A list is never changed while it is the active one: the other one is written, and
// becomes active by one store.
import { H_PATTERNS, type Layout, PATTERN_WORDS, WILD_PATTERNS } from "./layout.ts";
import { isFast, META_SIX, writePattern } from "./pattern.ts";

export class Patterns {
  private readonly words: Int32Array;
  private readonly lists: Layout["patterns"];
  private readonly publish: () => void;
  private readonly counts = new Map<number, number>();

  /** @param publish told after a change that a search could see */
  constructor(words: Int32Array, at: Layout, publish: () => void) {
    this.words = words;
    this.lists = at.patterns;
    this.publish = publish;
    words[H_PATTERNS] = at.patterns[0];
    words[H_PATTERNS + 1] = at.patterns[2];
  }

  /** Whether there is room for a match of this pattern. */
  takes(pattern: number): boolean {
    if (this.counts.has(pattern) || isFast(pattern)) return true;
    let wild = 0;
    for (const one of this.counts.keys()) if (!isFast(one)) wild++;
    return wild < WILD_PATTERNS;
  }

  /** One match more. */
  hold(pattern: number): void {
    const count = this.counts.get(pattern) ?? 0;
    this.counts.set(pattern, count + 1);
    if (count === 0) this.write(pattern & META_SIX);
  }

  /** One match less. */
  release(pattern: number): void {
    const count = this.counts.get(pattern)! - 1;
    if (count > 0) {
      this.counts.set(pattern, count);
      return;
    }
    this.counts.delete(pattern);
    this.write(pattern & META_SIX);
  }

  /** Those of the same family that come after this one in the order. */
  after(pattern: number): number[] {
    return this.family(pattern & META_SIX).filter((one) => one < pattern);
  }

  private family(six: number): number[] {
    return [...this.counts.keys()].filter((one) => (one & META_SIX) === six).sort((a, b) => b - a);
  }

  private write(six: number): void {
    const { words, lists } = this;
    const active = six === 0 ? H_PATTERNS : H_PATTERNS + 1;
    const [one, other] = six === 0 ? [lists[0], lists[1]] : [lists[2], lists[3]];
    const list = words[active] === one ? other : one;
    let at = list;
    for (const pattern of this.family(six)) {
      writePattern(pattern, words, at);
      at += PATTERN_WORDS;
    }
    words[at] = 0;
    Atomics.store(words, active, list);
    this.publish();
  }
}
