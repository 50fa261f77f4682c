// Clients' filters as a net Worker runs them: a shape's functions where they are made, the interpreter until then. They are
// made between batches, one at a time (`make`), of source text that the control Worker has left in shared memory; which
// filter there is, is a number in a word that changes at any time (layout.ts).
import { Compiler, type PartFilter, type ShapeFilter } from "../../filter/compile.ts";
import { machine } from "../../filter/interpret.ts";
import { type Meta, plainMeta } from "../../filter/packet.ts";
import { BETWEEN, FRAME_ALIGN } from "./writer.ts";
import type { Counts } from "./counts.ts";
import {
  type FilterLayout,
  H_SHAPES,
  ROW_CONSTANTS,
  ROW_ID,
  ROW_PROGRAM,
  ROW_SHAPE,
  ROW_STAMP,
  ROW_WORDS,
  SHAPE_BYTES,
  SHAPE_STAMP,
  SHAPE_TEXT,
  SHAPES,
  shapeOf,
} from "./layout.ts";

const nothing: ShapeFilter = () => 0;

export class Programs {
  /** Set before a filter runs. */
  readonly meta: Meta = plainMeta();
  private readonly words: Int32Array;
  private readonly text: Uint8Array;
  private readonly layout: FilterLayout;
  /** Whether the filter in a row lets the frame pass; counts it. Hot: a closure, whose constants are no fields. */
  readonly passes: (row: number, off: number, len: number) => boolean;
  /** By number of the shape: its function, and the stamp of the shape that this is of. */
  private readonly functions: ShapeFilter[] = new Array(SHAPES + 1).fill(nothing);
  private readonly stamps = new Int32Array(SHAPES + 1);
  private shapes = 0;
  /** The next shape to look at; 0: all are made. */
  private looking = 0;
  private readonly compiler: Compiler;
  /** The shape that is being made, of which parts; 0 none. */
  private making = 0;
  private makingStamp = 0;
  private texts: readonly string[] = [];
  private parts: PartFilter[] = [];
  /** The last of `parts` was never run. */
  private isFresh = false;
  private readonly decoder = new TextDecoder();

  /** @param words of the filters' region, that this only reads; @param bytes the frames' memory */
  constructor(words: Int32Array, layout: FilterLayout, bytes: Uint8Array, counts: Counts) {
    this.words = words;
    this.text = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
    this.layout = layout;
    this.compiler = new Compiler(bytes, words, this.meta);
    const interpret = machine(words, bytes, this.meta);
    const { stamps, functions } = this;
    const { add } = counts;
    const { rows } = layout;
    this.passes = (row, off, len) => {
      const at = (rows + Math.imul(row, ROW_WORDS)) | 0;
      const shape = words[at + ROW_SHAPE]!;
      const verdict =
        stamps[shape] === words[at + ROW_STAMP] && shape !== 0
          ? functions[shape]!(off, len, words[at + ROW_CONSTANTS]!)
          : interpret(words[at + ROW_PROGRAM]!, off, len);
      const id = words[at + ROW_ID]!;
      if (id !== 0) add(row, id, verdict !== 0);
      return verdict !== 0;
    };
  }

  /** Whether there may be something to make. */
  get isDue(): boolean {
    return this.making !== 0 || this.looking !== 0 || this.words[H_SHAPES] !== this.shapes;
  }

  /**
   * Between batches: makes at most one function, of a shape's part, or runs one for the first time, which takes as long.
   * Returns whether there is more to do.
   */
  make(): boolean {
    if (this.making === 0) return this.look();
    const { compiler, texts, parts, making } = this;
    if (this.isFresh) {
      compiler.first(parts.at(-1)!, FRAME_ALIGN);
      this.isFresh = false;
      if (parts.length === texts.length) {
        this.functions[making] = compiler.whole(parts);
        this.stamps[making] = this.makingStamp;
        this.making = 0;
      }
    } else {
      parts.push(compiler.part(texts[parts.length]!, texts.length === 1));
      this.isFresh = true;
    }
    return true;
  }

  /** Finds the next shape that is to be made. */
  private look(): boolean {
    const { words, layout, stamps } = this;
    const newest = words[H_SHAPES]!;
    if (newest !== this.shapes) {
      this.shapes = newest;
      this.looking = 1;
    }
    for (; this.looking !== 0; this.looking = this.looking === SHAPES ? 0 : this.looking + 1) {
      const at = shapeOf(layout, this.looking);
      const stamp = words[at + SHAPE_STAMP]!;
      if (stamp === 0 || stamp === stamps[this.looking]) continue;
      const from = words[at + SHAPE_TEXT]! * 4;
      const text = this.decoder.decode(this.text.slice(from, from + words[at + SHAPE_BYTES]!));
      stamps[this.looking] = 0;
      this.making = this.looking;
      this.makingStamp = stamp;
      this.texts = text.split(BETWEEN);
      this.parts = [];
      return true;
    }
    return false;
  }
}
