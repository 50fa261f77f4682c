// The writer's allocator of 64-byte lines: next-hop records (a line a leg) and FIB nodes.
// Free lists by size: exact up to 32 lines, powers of two above. Where a size has run out, a larger block is cut, and
// never joined again. Freed blocks must have waited out their epoch (mem/epoch.ts) before they come back here.
import { HUGE_WORDS, type Layout, LINE_WORDS } from "./layout.ts";

const EXACT = 32;
const SIZES = EXACT + 12; // the last: 65,536 lines and more, a next hop of as many legs

export class Lines {
  private readonly end: number;
  private readonly reserve: number;
  private readonly free: number[][] = Array.from({ length: SIZES }, () => []);
  private readonly dense: (at: number) => void;
  private top: number;
  /** Lines in use. */
  used = 0;

  /** @param dense told of the word offset of a huge page (HUGE_WORDS) of lines that has just been taken up */
  constructor(at: Layout, dense: (at: number) => void) {
    this.dense = dense;
    this.end = at.lines + at.lineCount * LINE_WORDS;
    this.reserve = 4096 * LINE_WORDS;
    this.top = at.lines;
  }

  /** Whether something may still be added; what is left beyond that is for changes that remove. */
  get room(): boolean {
    return this.end - this.top > this.reserve;
  }

  /** The word offset of a block of at least `lines` lines, contents undefined. */
  take(lines: number): number {
    const size = sizeOf(lines);
    const count = linesOf(size);
    this.used += count;
    const own = this.free[size]!.pop();
    if (own !== undefined) return own;
    if (!this.room) {
      const cut = this.cut(size);
      if (cut !== 0) return cut;
    }
    const at = this.top;
    if (at + count * LINE_WORDS > this.end)
      throw new RangeError("netbase: out of lines (is there a reader that never quiesces?)");
    this.top += count * LINE_WORDS;
    if (at % HUGE_WORDS > this.top % HUGE_WORDS) this.dense(at);
    return at;
  }

  /** Gives back a block that was taken with the same `lines`. */
  give(offset: number, lines: number): void {
    const size = sizeOf(lines);
    this.used -= linesOf(size);
    this.free[size]!.push(offset);
  }

  /** A block out of a larger free one, 0 if there is none. */
  private cut(size: number): number {
    for (let larger = size + 1; larger < SIZES; larger++) {
      const block = this.free[larger]!.pop();
      if (block === undefined) continue;
      let at = block + linesOf(size) * LINE_WORDS;
      for (let rest = linesOf(larger) - linesOf(size); rest > 0; ) {
        const piece = Math.min(rest, EXACT);
        this.free[piece]!.push(at);
        at += piece * LINE_WORDS;
        rest -= piece;
      }
      return block;
    }
    return 0;
  }
}

/** The free list for blocks of at least `lines`. */
const sizeOf = (lines: number): number => (lines <= EXACT ? lines : EXACT + (27 - Math.clz32(lines - 1)));

/** How many lines a block of that list really has. */
const linesOf = (size: number): number => (size <= EXACT ? size : 32 << (size - EXACT));
