// The FIB of IPv6 as readers see it: the nodes of fib.ts, three of them for the usual /48, each a load that waits for the
// one before. So a reader keeps what it found, by /64, in memory of its own:
//
//   recent[hash of the /64]   w0 | w1 | count (a double) | next-hop id | -       half a cache line
//
// None of it goes stale. The writer counts its changes of IPv6 routes in H_CHANGES6, in one of 256 counts by the address's
// /32: a route of 32 bits and more is in one of them, a shorter one is counted in all that it reaches into. What was
// kept under another count than the present one is not good any more; the count is read before the walk whose end is
// kept under it. Counts are doubles, and never come round. Next-hop ids are kept, and what they stand for is looked up
// each time. A /64 with longer routes inside has no one answer, and is not kept. Strangers' traffic can at worst push
// others out.
import { step } from "./fib.ts";
import { CELL_NH_MASK, CHANGES6, H_CHANGES6, H_WIDE6, type Layout } from "./layout.ts";

const RECENT_BITS = 16; // 2 MiB; of 4096 flows 1 in 17 shares its place with another
const CHUNK = 64; // lookups under way at a time

/** Which count an address's changes are in: by the bytes of its /32 that allocations differ in. */
export const changesOf = (w0: number): number => ((w0 >>> 24) ^ (w0 >>> 16) ^ (w0 >>> 8)) & (CHANGES6 - 1);

// Closures over constants, and sums cut to 32 bits, as in fib.ts.

export class Fib6 {
  /** The next-hop record for the address in four memory words: its word offset, 0 if there is no route. */
  readonly lookup: (w0: number, w1: number, w2: number, w3: number) => number;
  /**
   * `lookup` for the `out.length` destinations, four words each, from `dst[at]` on. It takes those that are not kept
   * one level at a time, so that memory fetches the nodes of all of them at once: half the time where there are many.
   */
  readonly lookupAll: (dst: Int32Array, at: number, out: Int32Array) => void;

  constructor(words: Int32Array, at: Layout) {
    const { nhIndex } = at;
    const first = new Int32Array(words.buffer, words.byteOffset + at.fib6 * 4, 1 << 24);
    const changes = new Float64Array(words.buffer, words.byteOffset + H_CHANGES6 * 4, CHANGES6);
    const recent = new Int32Array(8 << RECENT_BITS);
    const counts = new Float64Array(recent.buffer);
    const left = new Int32Array(CHUNK); // of a chunk: those that are not kept
    const leftCounts = new Float64Array(CHUNK);

    const place = (w0: number, w1: number): number =>
      (Math.imul(Math.imul(w0, 0x9e3779b1) ^ w1, 0x85ebca6b) >>> (32 - RECENT_BITS)) << 3;
    const idOf = (cell: number, w0: number): number =>
      (cell === 0 ? words[H_WIDE6 + (w0 & 0xff)]! : cell) & CELL_NH_MASK;
    const firstOf = (w0: number): number => first[((w0 & 0xffff) << 8) | ((w0 >>> 16) & 0xff)]!;
    /** From the byte at `from` of a word on, to its end. */
    const along = (node: number, word: number, from: number): number => {
      let cell = node;
      for (let shift = from; cell < 0 && shift < 32; shift += 8)
        cell = step(words, cell & 0x7fffffff, (word >>> shift) & 0xff);
      return cell;
    };
    /** From byte 6 of the address on; keeps what is the answer for all of the /64. */
    const finish = (node: number, count: number, w0: number, w1: number, w2: number, w3: number): number => {
      const cell = along(node, w1, 16);
      if (cell < 0) return words[(nhIndex + idOf(along(along(cell, w2, 0), w3, 0), w0)) | 0]!;
      const at = place(w0, w1);
      const id = idOf(cell, w0);
      recent[at] = w0;
      recent[(at + 1) | 0] = w1;
      counts[(at + 2) >> 1] = count;
      recent[(at + 4) | 0] = id;
      return words[(nhIndex + id) | 0]!;
    };
    const walk = (w0: number, w1: number, w2: number, w3: number): number => {
      const count = changes[changesOf(w0)]!;
      let cell = firstOf(w0);
      if (cell < 0) cell = step(words, cell & 0x7fffffff, w0 >>> 24);
      if (cell < 0) cell = step(words, cell & 0x7fffffff, w1 & 0xff);
      if (cell < 0) cell = step(words, cell & 0x7fffffff, (w1 >>> 8) & 0xff);
      return finish(cell, count, w0, w1, w2, w3);
    };
    // Short enough to be compiled into the caller.
    this.lookup = (w0, w1, w2, w3) => {
      const at = place(w0, w1);
      return ((recent[at]! ^ w0) | (recent[(at + 1) | 0]! ^ w1)) === 0 &&
        counts[(at + 2) >> 1] === changes[changesOf(w0)]
        ? words[(nhIndex + recent[(at + 4) | 0]!) | 0]!
        : walk(w0, w1, w2, w3);
    };

    /** Takes those of `left` that are at a node one byte further. */
    const stepLeft = (n: number, dst: Int32Array, at: number, shift: number, out: Int32Array, to: number) => {
      for (let k = 0; k < n; k = (k + 1) | 0) {
        const i = left[k]!;
        const cell = out[(to + i) | 0]!;
        if (cell < 0)
          out[(to + i) | 0] = step(words, cell & 0x7fffffff, (dst[(at + (i << 2)) | 0]! >>> shift) & 0xff);
      }
    };
    const chunk = (dst: Int32Array, from: number, out: Int32Array, to: number, n: number): void => {
      let missed = 0;
      for (let i = 0; i < n; i = (i + 1) | 0) {
        const w0 = dst[(from + (i << 2)) | 0]!;
        const w1 = dst[(from + (i << 2) + 1) | 0]!;
        const at = place(w0, w1);
        const count = changes[changesOf(w0)]!;
        if (((recent[at]! ^ w0) | (recent[(at + 1) | 0]! ^ w1)) === 0 && counts[(at + 2) >> 1] === count)
          out[(to + i) | 0] = words[(nhIndex + recent[(at + 4) | 0]!) | 0]!;
        else {
          leftCounts[missed] = count;
          out[(to + i) | 0] = firstOf(w0);
          left[missed] = i;
          missed = (missed + 1) | 0;
        }
      }
      stepLeft(missed, dst, from, 24, out, to);
      stepLeft(missed, dst, from + 1, 0, out, to);
      stepLeft(missed, dst, from + 1, 8, out, to);
      for (let k = 0; k < missed; k = (k + 1) | 0) {
        const i = left[k]!;
        const a = (from + (i << 2)) | 0;
        out[(to + i) | 0] = finish(
          out[(to + i) | 0]!,
          leftCounts[k]!,
          dst[a]!,
          dst[a + 1]!,
          dst[a + 2]!,
          dst[a + 3]!,
        );
      }
    };
    this.lookupAll = (dst, from, out) => {
      for (let done = 0; done < out.length; done += CHUNK)
        chunk(dst, from + done * 4, out, done, Math.min(out.length - done, CHUNK));
    };
  }
}
