// The FIB as readers see it: longest-prefix match in a bounded number of steps, whatever the number of routes.
//
//   bytes 0..2 of the address -> first level, 2^24 cells    a cell: leaf (key << 22 | next-hop id)
//   byte 3, 4, ...            -> nodes, one a byte           or node (sign bit | word offset)
//   byte 0                    -> what a 0 stands for         or 0: prefixes of up to 8 bits, the default route among them
// The first level lies in the order of bytes 1, 0, 2, which a memory word gives by two shifts. A lookup of random
// destinations waits for memory, and the fewer instructions one has, the more of them wait at the same time: this
// order instead of 0, 1, 2 makes it a third faster, and so does keeping the nodes out of `lookup` (bench/fib.ts).
// A node (layout.ts) holds its 256 answers as runs: the number of bits set up to the byte is the run's place. A node
// of up to 6 runs is one cache line. IPv4 needs at most one node, IPv6 at most 13, two or three for the usual /32..48.
//
// Written by table.ts: every change becomes visible by the store of one cell, so a lookup gives the answer before or
// after, never something between. Nodes are replaced, not rewritten, and reused by epoch (mem/epoch.ts).
// After DIR-24-8 (Gupta, Lin, McKeown 1998) and the bitmap compression of Lulea and Poptrie.
import { CELL_NH_MASK, H_WIDE4, type Layout, NODE_CELLS, NODE_COUNTS } from "./layout.ts";

// Closures over constants instead of methods that read fields: 1 ns a lookup (bench loop). Sums that are cut to 32 bits
// (`| 0`) need no check for overflow; with fewer instructions more lookups are under way at a time (bench fib).

/** The cell that the node at word offset `node` has for `byte`. */
export function step(words: Int32Array, node: number, byte: number): number {
  return words[(node + NODE_CELLS - 1 + runsTo(words, node, byte)) | 0]!;
}

/** How many runs begin at or before `byte`: 1 to 256. */
export function runsTo(words: Int32Array, node: number, byte: number): number {
  const word = byte >>> 5;
  let bits = words[(node + word) | 0]! << (31 - (byte & 31));
  bits = (bits - ((bits >>> 1) & 0x55555555)) | 0;
  bits = ((bits & 0x33333333) + ((bits >>> 2) & 0x33333333)) | 0;
  bits = Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
  const before = words[(node + NODE_COUNTS + (word >>> 2)) | 0]! >>> ((word & 3) << 3);
  return (bits + (before & 255)) | 0;
}

export class Fib4 {
  /** The next-hop record for `dst` (memory word): its word offset, 0 if there is no route. Look at NH_SPECIAL. */
  readonly lookup: (dst: number) => number;
  /**
   * `lookup` for the `out.length` destinations from `dst[at]` on. It goes over them twice, first for their cells alone, so
   * that memory fetches all of them at the same time: a third less where destinations are random.
   */
  readonly lookupAll: (dst: Int32Array, at: number, out: Int32Array) => void;

  constructor(words: Int32Array, at: Layout) {
    const { nhIndex } = at;
    const first = new Int32Array(words.buffer, words.byteOffset + at.fib4 * 4, 1 << 24);
    const rest = (leaf: number, dst: number): number => {
      let cell = leaf;
      if (cell < 0) cell = step(words, cell & 0x7fffffff, dst >>> 24);
      if (cell === 0) cell = words[H_WIDE4 + (dst & 0xff)]!;
      return words[nhIndex + (cell & CELL_NH_MASK)]!;
    };
    const lookup = (dst: number): number => {
      const cell = first[((dst & 0xffff) << 8) | ((dst >>> 16) & 0xff)]!;
      return cell > 0 ? words[(nhIndex + (cell & CELL_NH_MASK)) | 0]! : rest(cell, dst);
    };
    this.lookup = lookup;
    this.lookupAll = (dst, from, out) => {
      const n = out.length;
      for (let i = 0; i < n; i = (i + 1) | 0) {
        const ip = dst[(from + i) | 0]!;
        out[i] = first[((ip & 0xffff) << 8) | ((ip >>> 16) & 0xff)]!;
      }
      for (let i = 0; i < n; i = (i + 1) | 0) {
        const cell = out[i]!;
        out[i] = cell > 0 ? words[(nhIndex + (cell & CELL_NH_MASK)) | 0]! : rest(cell, dst[(from + i) | 0]!);
      }
    };
  }
}
