// Programs' sources (source.ts) as functions, over one memory that packets lie in.
import { PART, type Shape, source, STATE_WORDS } from "./source.ts";
import type { Alignment } from "./analyse.ts";
import { type Filter, place } from "./interpret.ts";
import type { Meta } from "./packet.ts";
import type { Program } from "./program.ts";

const PARAMETERS = ["w", "u", "c", "s", "meta", "place"];

/** A part: the verdict, or -1 - the instruction of a later part where it goes on. @param e where it begins, if another went on here */
export type PartFilter = (off: number, len: number, n: number, e: number) => number;
/** A shape's function. @param n word of its first constant */
export type ShapeFilter = (off: number, len: number, n: number) => number;

export class Compiler {
  private readonly state = new Int32Array(STATE_WORDS);
  private readonly given: readonly unknown[];

  /** @param bytes the memory that packets lie in, whole words; @param constants of all filters */
  constructor(bytes: Uint8Array, constants: Int32Array, meta: Meta) {
    const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
    this.given = [words, bytes, constants, this.state, meta, place];
  }

  /** @param text of a part (source.ts); @param isOnly the only one: then it is a ShapeFilter */
  part(text: string, isOnly: boolean): PartFilter {
    const body = `return function filter(off, len, n${isOnly ? "" : ", e"}) {\n${text}\n}`;
    return new Function(...PARAMETERS, body)(...this.given) as PartFilter;
  }

  /** Runs a part over no packet: the first run takes as long as making it does. @param off where one might lie */
  first(part: PartFilter, off: number): void {
    this.state.fill(0);
    part(off, 0, 0, 0);
  }

  /** @param size instructions of a part */
  whole(parts: readonly PartFilter[], size: number = PART): ShapeFilter {
    const [only] = parts;
    if (parts.length === 1) return only as unknown as ShapeFilter;
    return (off, len, n) => {
      let verdict = only!(off, len, n, 0);
      while (verdict < 0) verdict = parts[Math.trunc((-1 - verdict) / size)]!(off, len, n, -1 - verdict);
      return verdict;
    };
  }

  /** All at once. */
  shape({ parts }: Pick<Shape, "parts">, size: number = PART): ShapeFilter {
    return this.whole(
      parts.map((text) => this.part(text, parts.length === 1)),
      size,
    );
  }
}

/**
 * @param program that verify() lets through; @param bytes the memory that packets lie in, whole words
 * @param align where packets begin in it
 */
export function compile(program: Program, bytes: Uint8Array, meta: Meta, align: Alignment): Filter {
  const filter = new Compiler(bytes, NONE, meta).shape({ parts: source(program, align) });
  return filter as unknown as Filter;
}

const NONE = new Int32Array(0);
