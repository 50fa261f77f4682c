// The FIB as the writer keeps it: `paint` gives a range of addresses, one prefix, a new answer. One object a family.
//
// Every cell says under which key (rank of the table, prefix length) it got its answer, so the cells alone decide
// what a prefix may cover: with `exact` false, all that is not more specific; with `exact` true, only what this same
// prefix had painted (its removal). A range that lies inside one node replaces that node: a copy is made, and becomes
// visible by the store of the one cell that points to it. Whatever covers more changes cell by cell; each store is
// a complete answer for its addresses. Prefixes of up to 8 bits, the default route among them, have a table of their own,
// by byte 0: it says what a cell of 0 stands for. 10.0.0.0/8 would fill 65,536 cells of the first level, on 256 pages.
import type { Epochs } from "../mem/epoch.ts";
import { runsTo } from "./fib.ts";
import { CELL_KEY_SHIFT, HUGE_WORDS, NODE_CELLS, NODE_COUNTS } from "./layout.ts";
import type { Lines } from "./lines.ts";

const NODE = 0x80000000 | 0;
const OFFSET = 0x7fffffff;
const PAGE_SHIFT = 10; // first-level cells a page of memory: pages never written are all 0
const HUGE_SHIFT = 9; // pages a huge page
const DENSE = 128; // pages in use from which on a huge page is worth its memory
/** Up to so many bits a prefix is wide: a cell of 0 leads to it. */
export const WIDE_BITS = 8;

const firstIdx = (w0: number): number => ((w0 & 0xffff) << 8) | ((w0 >>> 16) & 0xff);
const lineCount = (runs: number): number => (NODE_CELLS + runs + 15) >>> 4;

/** `retire` kinds of lines (nodes, records): RETIRE_LINES + how many. */
export const RETIRE_LINES = 256;

export class FibTable {
  private readonly words: Int32Array;
  private readonly first: number;
  private readonly wide: number;
  private readonly lines: Lines;
  private readonly epochs: Epochs;
  private readonly touched = new Uint8Array(1 << (24 - PAGE_SHIFT));
  private readonly inUse = new Uint16Array(1 << (24 - PAGE_SHIFT - HUGE_SHIFT)); // pages of each huge page
  private readonly dense: (at: number) => void;
  // The node being changed, unpacked: runs in order, where each begins and its cell.
  private readonly starts = new Int32Array(260);
  private readonly cells = new Int32Array(260);
  private runs = 0;
  // The change being made.
  private key = 0;
  private exact = false;
  private cell = 0;
  private zeroAt = 0; // what 0 stands for: a word of `wide`
  private w0 = 0;
  private w1 = 0;
  private w2 = 0;
  private w3 = 0;
  private len = 0;

  /**
   * @param first word offset of the first level; @param wide of the table of wide prefixes
   * @param dense told of the word offset of a huge page (HUGE_WORDS) of the first level that is well used from now on
   */
  constructor(
    words: Int32Array,
    first: number,
    wide: number,
    lines: Lines,
    epochs: Epochs,
    dense: (at: number) => void,
  ) {
    this.dense = dense;
    this.words = words;
    this.first = first;
    this.wide = wide;
    this.lines = lines;
    this.epochs = epochs;
  }

  /**
   * Gives the addresses of a prefix the answer `cell`, wherever the present answer's key is at most `key`, or,
   * with `exact`, equal to it. Words are memory words with the bits beyond `len` zero.
   */
  paint(
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    len: number,
    key: number,
    exact: boolean,
    cell: number,
  ): void {
    this.key = key;
    this.exact = exact;
    this.cell = cell;
    this.zeroAt = this.wide + (w0 & 0xff);
    if (len <= WIDE_BITS) {
      for (const end = this.zeroAt + (1 << (WIDE_BITS - len)); this.zeroAt < end; this.zeroAt++)
        if (this.covers(0)) this.words[this.zeroAt] = cell;
      return;
    }
    const at = firstIdx(w0);
    if (len <= 24) {
      this.paintFirst(at, len);
      return;
    }
    this.w0 = w0;
    this.w1 = w1;
    this.w2 = w2;
    this.w3 = w3;
    this.len = len;
    if (this.touched[at >>> PAGE_SHIFT] === 0) this.touch(at >>> PAGE_SHIFT);
    this.descend(this.first + at, 24);
  }

  /** Has a wide prefix answer for what longer ones of lower keys had: nothing is left of them. */
  uncover(w0: number, len: number, key: number): void {
    this.key = key;
    this.exact = false;
    this.cell = 0;
    this.paintFirst(firstIdx(w0), len);
  }

  /** First-level cells lie in the order of bytes 1, 0, 2: up to 16 bits a prefix has blocks of 256 here and there. */
  private paintFirst(at: number, len: number): void {
    if (len >= 16) {
      this.paintCells(at, at + (1 << (24 - len)));
      return;
    }
    const bytes0 = len >= WIDE_BITS ? 1 : 1 << (WIDE_BITS - len);
    const bytes1 = len >= WIDE_BITS ? 1 << (16 - len) : 256;
    for (let b1 = 0; b1 < bytes1; b1++)
      for (let b0 = 0; b0 < bytes0; b0++) {
        const block = at + (b1 << 16) + (b0 << 8);
        this.paintCells(block, block + 256);
      }
  }

  private paintCells(from: number, to: number): void {
    const { words, first, touched } = this;
    for (let i = from; i < to; i++) {
      const page = i >>> PAGE_SHIFT;
      if (touched[page] === 0) {
        const next = Math.min((page + 1) << PAGE_SHIFT, to);
        if (this.cell === 0 || !this.covers(0)) {
          i = next - 1; // nothing but zeros, and zeros they stay
          continue;
        }
        this.touch(page);
      }
      const cell = words[first + i]!;
      if (cell < 0) {
        const left = this.paintNode(cell & OFFSET);
        if (left !== cell) words[first + i] = left;
      } else if (this.covers(cell)) words[first + i] = this.cell;
    }
  }

  private touch(page: number): void {
    const huge = page >>> HUGE_SHIFT;
    this.touched[page] = 1;
    this.inUse[huge]!++;
    if (this.inUse[huge] === DENSE) this.dense(this.first + huge * HUGE_WORDS);
  }

  /** Whether the present answer `cell` (a leaf) is one that this change replaces. */
  private covers(cell: number): boolean {
    const key = (cell === 0 ? this.words[this.zeroAt]! : cell) >>> CELL_KEY_SHIFT;
    return this.exact ? key === this.key : key <= this.key;
  }

  /** Paints all of a node, in place. Returns the cell that its parent should have: the node, or a leaf if it is one. */
  private paintNode(node: number): number {
    const { words } = this;
    const runs = runsTo(words, node, 255);
    const cells = node + NODE_CELLS;
    let same = true;
    for (let i = 0; i < runs; i++) {
      const cell = words[cells + i]!;
      if (cell < 0) {
        const left = this.paintNode(cell & OFFSET);
        if (left !== cell) words[cells + i] = left;
      } else if (this.covers(cell)) words[cells + i] = this.cell;
      same &&= words[cells + i] === words[cells];
    }
    const only = words[cells]!;
    if (!same || only < 0) return node | NODE;
    this.epochs.retire(RETIRE_LINES + lineCount(runs), node);
    return only;
  }

  /** Byte `level / 8` of the prefix. */
  private byteAt(level: number): number {
    const word = level < 32 ? this.w0 : level < 64 ? this.w1 : level < 96 ? this.w2 : this.w3;
    return (word >>> (level & 24)) & 0xff;
  }

  /** Paints inside the cell at word `at`, which answers for all addresses that share the prefix's first `level` bits. */
  private descend(at: number, level: number): void {
    const { words } = this;
    const present = words[at]!;
    if (present >= 0) {
      if (present !== this.cell && this.covers(present)) words[at] = this.chain(present, level);
      return;
    }
    const node = present & OFFSET;
    const byte = this.byteAt(level);
    const rest = this.len - level;
    if (rest > 8) {
      const cellAt = node + NODE_CELLS - 1 + runsTo(words, node, byte);
      const cell = words[cellAt]!;
      if (cell < 0) {
        this.descend(cellAt, level + 8);
        if (words[cellAt]! < 0) return;
      } else if (cell === this.cell || !this.covers(cell)) return;
      // A leaf becomes a node of its own here, or a node has become a leaf that may now join its neighbours.
      this.unpack(node);
      if (cell >= 0) this.assign(byte, byte + 1, this.chain(cell, level + 8));
    } else {
      this.unpack(node);
      this.paintRuns(byte, byte + (1 << (8 - rest)));
    }
    const left = this.pack(node);
    if (left !== present) words[at] = left;
  }

  /** A new chain of nodes for the rest of the prefix, all of it `present` but for the prefix. Returns its cell. */
  private chain(present: number, level: number): number {
    const byte = this.byteAt(level);
    const rest = this.len - level;
    const inner = rest > 8 ? this.chain(present, level + 8) : this.cell;
    const to = rest > 8 ? byte + 1 : byte + (1 << (8 - rest));
    if (byte === 0 && to === 256 && inner >= 0) return inner;
    const node = this.lines.take(1);
    let n = 0;
    const { words } = this;
    words.fill(0, node, node + NODE_CELLS);
    const run = (from: number, cell: number): void => {
      words[node + (from >>> 5)]! |= 1 << (from & 31);
      words[node + NODE_CELLS + n++] = cell;
    };
    if (byte > 0) run(0, present);
    run(byte, inner);
    if (to < 256) run(to, present);
    this.count(node);
    return node | NODE;
  }

  /** Fills in a node's counts from its bitmap. */
  private count(node: number): void {
    const { words } = this;
    let before = 0;
    for (let i = 0; i < 8; i++) {
      const at = node + NODE_COUNTS + (i >>> 2);
      const shift = (i & 3) << 3;
      words[at] = (words[at]! & ~(0xff << shift)) | (before << shift);
      for (let bits = words[node + i]!; bits !== 0; bits &= bits - 1) before++;
    }
  }

  private unpack(node: number): void {
    const { words, starts, cells } = this;
    let n = 0;
    for (let i = 0; i < 8; i++)
      for (let bits = words[node + i]!; bits !== 0; bits &= bits - 1) {
        starts[n] = (i << 5) | (31 - Math.clz32(bits & -bits));
        cells[n] = words[node + NODE_CELLS + n]!;
        n++;
      }
    this.runs = n;
  }

  /** Makes a run begin at `start`; returns its place. */
  private splitAt(start: number): number {
    const { starts, cells } = this;
    let i = 0;
    while (i < this.runs && starts[i]! < start) i++;
    if (i < this.runs && starts[i] === start) return i;
    if (start === 256) return i;
    starts.copyWithin(i + 1, i, this.runs);
    cells.copyWithin(i + 1, i, this.runs);
    starts[i] = start;
    cells[i] = cells[i - 1]!;
    this.runs++;
    return i;
  }

  private assign(from: number, to: number, cell: number): void {
    this.splitAt(to);
    this.cells[this.splitAt(from)] = cell;
  }

  private paintRuns(from: number, to: number): void {
    this.splitAt(to);
    const { starts, cells } = this;
    for (let i = this.splitAt(from); i < this.runs && starts[i]! < to; i++) {
      const cell = cells[i]!;
      if (cell < 0) cells[i] = this.paintNode(cell & OFFSET);
      else if (this.covers(cell)) cells[i] = this.cell;
    }
  }

  /** Publishes the unpacked runs in place of `node`; returns the cell to store where the node hung. */
  private pack(node: number): number {
    const { words, starts, cells } = this;
    // Join equal neighbours; children never equal each other.
    let n = 0;
    for (let i = 0; i < this.runs; i++)
      if (n === 0 || cells[i] !== cells[n - 1]) {
        starts[n] = starts[i]!;
        cells[n++] = cells[i]!;
      }
    const old = runsTo(words, node, 255);
    if (n === 1 && cells[0]! >= 0) {
      this.epochs.retire(RETIRE_LINES + lineCount(old), node);
      return cells[0]!;
    }
    let same = n === old;
    for (let i = 0; same && i < n; i++)
      same = (words[node + (starts[i]! >>> 5)]! & (1 << (starts[i]! & 31))) !== 0;
    if (same) {
      for (let i = 0; i < n; i++)
        if (words[node + NODE_CELLS + i] !== cells[i]) words[node + NODE_CELLS + i] = cells[i]!;
      return node | NODE;
    }
    const fresh = this.lines.take(lineCount(n));
    words.fill(0, fresh, fresh + NODE_CELLS);
    for (let i = 0; i < n; i++) {
      words[fresh + (starts[i]! >>> 5)]! |= 1 << (starts[i]! & 31);
      words[fresh + NODE_CELLS + i] = cells[i]!;
    }
    this.count(fresh);
    this.epochs.retire(RETIRE_LINES + lineCount(old), node);
    return fresh | NODE;
  }
}
