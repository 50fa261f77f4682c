// The writer's allocator of 64-byte lines: next-hop records (a line a leg) and FIB nodes.
// Free lists by size: exact up to 32 lines, powers of two above. Where a size has run out, a larger block is cut. What was
// cut is joined again only when room has run out and much has been freed since. Freed blocks must have waited out their
// epoch (mem/epoch.ts) before they come back here.
import { HUGE_WORDS, type Layout, LINE_WORDS } from "./layout.ts";

const EXACT = 32;
const SIZES = EXACT + 12; // the last: 65,536 lines and more, a next hop of as many legs
/** Lines that nothing is added in: what is left is for changes that remove. */
const RESERVE = 4096;

export class Lines {
  private readonly first: number;
  private readonly end: number;
  /** Lines that something may be added in. */
  readonly capacity: number;
  private readonly free: number[][] = Array.from({ length: SIZES }, () => []);
  private readonly dense: (at: number) => void;
  private top: number;
  /** Lines in free blocks of 32 and more: any node and nearly any record finds room in one. */
  private large = 0;
  /** The most in use since blocks were joined. */
  private most = 0;
  /** Lines in use. */
  used = 0;

  /** @param dense told of the word offset of a huge page (HUGE_WORDS) of lines that has just been taken up */
  constructor(at: Layout, dense: (at: number) => void) {
    this.dense = dense;
    this.first = at.lines;
    this.capacity = at.lineCount - RESERVE;
    this.end = at.lines + at.lineCount * LINE_WORDS;
    this.top = at.lines;
  }

  /** Whether a block of `lines` may still be added. */
  room(lines = 1): boolean {
    if (this.untouched > RESERVE + lines) return true;
    this.most = Math.max(this.most, this.used);
    if (this.most - this.used > this.capacity >> 5) this.join();
    return this.untouched > RESERVE + lines || (lines <= EXACT && this.large > RESERVE);
  }

  private get untouched(): number {
    return (this.end - this.top) / LINE_WORDS;
  }

  /** The word offset of a block of at least `lines` lines, contents undefined. */
  take(lines: number): number {
    const size = sizeOf(lines);
    const count = linesOf(size);
    this.used += count;
    const own = this.pop(size);
    if (own !== 0) return own;
    if (this.untouched <= RESERVE + count) {
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
    this.push(offset, size);
  }

  private push(at: number, size: number): void {
    this.free[size]!.push(at);
    if (size >= EXACT) this.large += linesOf(size);
  }

  /** A free block of just this size, 0 if there is none. */
  private pop(size: number): number {
    const at = this.free[size]!.pop();
    if (at === undefined) return 0;
    if (size >= EXACT) this.large -= linesOf(size);
    return at;
  }

  /** A block out of a larger free one, 0 if there is none. */
  private cut(size: number): number {
    for (let larger = size + 1; larger < SIZES; larger++) {
      const block = this.pop(larger);
      if (block === 0) continue;
      let at = block + linesOf(size) * LINE_WORDS;
      for (let rest = linesOf(larger) - linesOf(size); rest > 0; ) {
        const piece = Math.min(rest, EXACT);
        this.push(at, piece);
        at += piece * LINE_WORDS;
        rest -= piece;
      }
      return block;
    }
    return 0;
  }

  /** Makes as few free blocks as possible of those that lie side by side; what is free at the end was never taken. */
  private join(): void {
    const { first, free } = this;
    this.most = this.used;
    const isFree = new Uint8Array(this.capacity + RESERVE);
    free.forEach((blocks, size) => {
      for (const at of blocks) {
        const line = (at - first) / LINE_WORDS;
        isFree.fill(1, line, line + linesOf(size));
      }
      blocks.length = 0;
    });
    this.large = 0;
    let top = (this.top - first) / LINE_WORDS;
    while (top > 0 && isFree[top - 1] === 1) top--;
    this.top = first + top * LINE_WORDS;
    for (let line = isFree.indexOf(1); line >= 0 && line < top; line = isFree.indexOf(1, line)) {
      const used = isFree.indexOf(0, line);
      while (line < used) {
        const size = largestIn(used - line);
        this.push(first + line * LINE_WORDS, size);
        line += linesOf(size);
      }
    }
  }
}

/** The free list for blocks of at least `lines`. */
const sizeOf = (lines: number): number => (lines <= EXACT ? lines : EXACT + (27 - Math.clz32(lines - 1)));

/** How many lines a block of that list really has. */
const linesOf = (size: number): number => (size <= EXACT ? size : 32 << (size - EXACT));

/** The list whose blocks are the largest of at most `lines`. */
const largestIn = (lines: number): number =>
  lines <= EXACT ? lines : Math.min(EXACT + (26 - Math.clz32(lines)), SIZES - 1);
