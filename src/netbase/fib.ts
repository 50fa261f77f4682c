// The FIB as readers see it: longest-prefix match in a bounded number of steps, whatever the number of routes.
//
//   bytes 0..2 of the address -> first level, 2^24 cells    a cell: leaf (key << 22 | next-hop id)
//   byte 3, 4, ...            -> nodes, one a byte           or node (sign bit | word offset)
//                                                            or 0: the default route (header)
// The first level lies in the order of bytes 1, 0, 2, which a memory word gives by two shifts. A lookup of random
// destinations waits for memory, and the fewer instructions one has, the more of them wait at the same time: this
// order instead of 0, 1, 2 makes it a third faster, and so does keeping the nodes out of `lookup` (bench/fib.ts).
// A node (layout.ts) holds its 256 answers as runs: the number of bits set up to the byte is the run's place. A node
// of up to 6 runs is one cache line. IPv4 needs at most one node, IPv6 at most 13, two or three for the usual /32..48.
//
// Written by table.ts: every change becomes visible by the store of one cell, so a lookup gives the answer before or
// after, never something between. Nodes are replaced, not rewritten, and reused by epoch (mem/epoch.ts).
// After DIR-24-8 (Gupta, Lin, McKeown 1998) and the bitmap compression of Lulea and Poptrie.
import { CELL_NH_MASK, H_DEFAULT4, H_DEFAULT6, type Layout, NODE_CELLS, NODE_COUNTS } from "./layout.ts";

/** The cell that the node at word offset `node` has for `byte`. */
export function step(words: Int32Array, node: number, byte: number): number {
  return words[node + NODE_CELLS - 1 + runsTo(words, node, byte)]!;
}

/** How many runs begin at or before `byte`: 1 to 256. */
export function runsTo(words: Int32Array, node: number, byte: number): number {
  const word = byte >>> 5;
  let bits = words[node + word]! & (-1 >>> (31 - (byte & 31)));
  bits -= (bits >>> 1) & 0x55555555;
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
  bits = Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
  return bits + ((words[node + NODE_COUNTS + (word >>> 2)]! >>> ((word & 3) << 3)) & 255);
}

export class Fib4 {
  /** The next-hop record for `dst` (memory word): its word offset, 0 if there is no route. Look at NH_SPECIAL. */
  readonly lookup: (dst: number) => number;

  constructor(words: Int32Array, at: Layout) {
    const { fib4, nhIndex } = at;
    const rest = (first: number, dst: number): number => {
      let cell = first;
      if (cell < 0) cell = step(words, cell & 0x7fffffff, dst >>> 24);
      if (cell === 0) cell = words[H_DEFAULT4]!;
      return words[nhIndex + (cell & CELL_NH_MASK)]!;
    };
    // A closure over constants, not a method that reads fields: 1 ns (bench loop).
    this.lookup = (dst) => {
      const cell = words[fib4 + (((dst & 0xffff) << 8) | ((dst >>> 16) & 0xff))]!;
      return cell > 0 ? words[nhIndex + (cell & CELL_NH_MASK)]! : rest(cell, dst);
    };
  }
}

export class Fib6 {
  private readonly words: Int32Array;
  private readonly first: number;
  private readonly nhIndex: number;

  constructor(words: Int32Array, at: Layout) {
    this.words = words;
    this.first = at.fib6;
    this.nhIndex = at.nhIndex;
  }

  /** The next-hop record for the address in four memory words: its word offset, 0 if there is no route. */
  lookup(w0: number, w1: number, w2: number, w3: number): number {
    const words = this.words;
    let cell = words[this.first + (((w0 & 0xffff) << 8) | ((w0 >>> 16) & 0xff))]!;
    if (cell < 0) {
      cell = step(words, cell & 0x7fffffff, w0 >>> 24);
      if (cell < 0) cell = step(words, cell & 0x7fffffff, w1 & 0xff);
      if (cell < 0) cell = step(words, cell & 0x7fffffff, (w1 >>> 8) & 0xff);
      if (cell < 0) cell = this.rest(cell, w1, w2, w3);
    }
    if (cell === 0) cell = words[H_DEFAULT6]!;
    return words[this.nhIndex + (cell & CELL_NH_MASK)]!;
  }

  /** From byte 6 on. */
  private rest(node: number, w1: number, w2: number, w3: number): number {
    const words = this.words;
    let cell = node;
    for (let shift = 16; cell < 0 && shift < 32; shift += 8)
      cell = step(words, cell & 0x7fffffff, (w1 >>> shift) & 0xff);
    for (let shift = 0; cell < 0 && shift < 32; shift += 8)
      cell = step(words, cell & 0x7fffffff, (w2 >>> shift) & 0xff);
    for (let shift = 0; cell < 0 && shift < 32; shift += 8)
      cell = step(words, cell & 0x7fffffff, (w3 >>> shift) & 0xff);
    return cell;
  }
}
