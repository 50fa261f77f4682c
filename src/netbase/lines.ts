// The writer's allocator of 64-byte lines: next-hop records (a line a leg) and FIB nodes.
// Blocks of 1, 2, 4 ... lines, free lists by size; a larger block is split when its own size has run out, and never
// joined again. Freed blocks must have waited out their epoch (mem/epoch.ts) before they come back here.
import { type Layout, LINE_WORDS } from "./layout.ts";

const SIZES = 17; // up to 65,536 lines: a next hop of as many legs

export class Lines {
  private readonly base: number;
  private readonly end: number;
  private readonly reserve: number;
  private readonly free: number[][] = Array.from({ length: SIZES }, () => []);
  private top: number;
  /** Lines in use. */
  used = 0;

  constructor(at: Layout) {
    this.base = at.lines;
    this.end = at.lines + at.lineCount * LINE_WORDS;
    this.reserve = 4096 * LINE_WORDS;
    this.top = this.base + LINE_WORDS; // word offset `base` stays unused
  }

  /** Whether something may still be added; what is left beyond that is for changes that remove. */
  get room(): boolean {
    return this.end - this.top > this.reserve;
  }

  /** The word offset of a block of at least `lines` lines, contents undefined. */
  take(lines: number): number {
    const size = sizeOf(lines);
    this.used += 1 << size;
    const own = this.free[size]!.pop();
    if (own !== undefined) return own;
    const words = LINE_WORDS << size;
    if (this.room || !this.split(size)) {
      if (this.top + words > this.end)
        throw new RangeError("netbase: out of lines (does a reader never quiesce?)");
      this.top += words;
      return this.top - words;
    }
    return this.free[size]!.pop()!;
  }

  /** Gives back a block that was taken with the same `lines`. */
  give(offset: number, lines: number): void {
    const size = sizeOf(lines);
    this.used -= 1 << size;
    this.free[size]!.push(offset);
  }

  private split(size: number): boolean {
    for (let larger = size + 1; larger < SIZES; larger++) {
      const block = this.free[larger]!.pop();
      if (block === undefined) continue;
      for (let half = larger - 1; half >= size; half--) this.free[half]!.push(block + (LINE_WORDS << half));
      this.free[size]!.push(block);
      return true;
    }
    return false;
  }
}

/** Rounded up to a power of two: what `take` really gives. */
export const sizeOf = (lines: number): number => 32 - Math.clz32(lines - 1);
