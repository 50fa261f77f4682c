// Clients' filters as a net Worker runs them: a shape's function where it is made, the interpreter until then. Functions are
// made between batches, one at a time (`make`), of source text that the control Worker has left in shared memory; which
// filter there is, is a number in a word that changes at any time (layout.ts).
import { makeShape, type ShapeFilter } from "../../filter/compile.ts";
import { machine } from "../../filter/interpret.ts";
import { type Meta, plainMeta } from "../../filter/packet.ts";
import { FRAME_ALIGN } from "./writer.ts";
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
  private readonly bytes: Uint8Array;
  /** Whether the filter in a row lets the frame pass; counts it. Hot: a closure, whose constants are no fields. */
  readonly passes: (row: number, off: number, len: number) => boolean;
  /** By number of the shape: its function, and the stamp of the shape that this is of. */
  private readonly functions: ShapeFilter[] = new Array(SHAPES + 1).fill(nothing);
  private readonly stamps = new Int32Array(SHAPES + 1);
  private shapes = 0;
  /** The next shape to look at; 0: all are made. */
  private looking = 0;
  /** The shape whose function is made, and was never run; 0 none. */
  private fresh = 0;
  private freshStamp = 0;
  private readonly decoder = new TextDecoder();

  /** @param words of the filters' region, that this only reads; @param bytes the frames' memory */
  constructor(words: Int32Array, layout: FilterLayout, bytes: Uint8Array, counts: Counts) {
    this.words = words;
    this.text = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
    this.layout = layout;
    this.bytes = bytes;
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

  /**
   * Between batches: makes at most one function, or runs one for the first time, which takes as long. Returns whether there
   * is more to do.
   */
  make(): boolean {
    const { words, layout, stamps } = this;
    if (this.fresh !== 0) {
      this.functions[this.fresh]!(FRAME_ALIGN, 0, 0);
      stamps[this.fresh] = this.freshStamp;
      this.fresh = 0;
      return true;
    }
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
      this.functions[this.looking] = makeShape(text, this.bytes, words, this.meta);
      this.fresh = this.looking;
      this.freshStamp = stamp;
      return true;
    }
    return false;
  }
}
