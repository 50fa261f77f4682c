// Clients' filters as their one writer has them, the control Worker. Layout and what readers may rely on: layout.ts.
import { Epochs } from "../../mem/epoch.ts";
import { decode, type Program, programWords } from "../../filter/program.ts";
import { shapeOf as shapeOfProgram } from "../../filter/source.ts";
import { H_EPOCH } from "../table/layout.ts";
import { Arena } from "./arena.ts";
import {
  type Direction,
  type FilterCapacity,
  type FilterLayout,
  filterLayout,
  GROUP_META,
  GROUP_PLAN,
  GROUP_PORTS,
  GROUP_WORDS,
  GROUPS,
  H_FILTERS,
  H_SHAPES,
  hashGroup,
  placeOf,
  ROW_CLIENT,
  ROW_CONSTANTS,
  ROW_DIRECTION,
  ROW_ENTRY,
  ROW_ID,
  ROW_LENGTH,
  ROW_OWN,
  ROW_PROGRAM,
  ROW_SHAPE,
  ROW_STAMP,
  ROW_WORDS,
  rowOf,
  SHAPE_BYTES,
  SHAPE_STAMP,
  SHAPE_TEXT,
  SHAPES,
  shapeOf,
} from "./layout.ts";

import { placePlan } from "./planwords.ts";

/** Where packets begin in net Workers' memory: 2 bytes after a whole word. */
export const FRAME_ALIGN = 2;

/** Between the parts of a shape's text. */
export const BETWEEN = "\f";

// What waits until no net Worker can look at it: kinds. A block's kind is BLOCK and its class.
const RETIRE_ROW = 0;
const RETIRE_SHAPE = 1;
const RETIRE_BLOCK = 2;

interface ShapeUse {
  readonly shape: number;
  readonly stamp: number;
  users: number;
}

export class FilterWriter {
  readonly words: Int32Array;
  readonly layout: FilterLayout;
  private readonly bytes: Uint8Array;
  private readonly epochs: Epochs;
  private readonly arena: Arena;
  private readonly texts: Arena;
  private readonly spareRows: number[];
  private readonly spareShapes: number[];
  private readonly shapes = new Map<string, ShapeUse>();
  /** Text of each row's shape; and the classes of blocks. */
  private readonly textOf: (string | undefined)[] = [];
  private readonly sizeOf = new Map<number, number>();
  private ids = 0;
  private groups = 0;

  /** @param epochs, table where the net Workers say what they may still hold: the switch's */
  constructor(buffer: ArrayBuffer, capacity: FilterCapacity, epochs: Int32Array, table: Int32Array) {
    const at = filterLayout(capacity);
    this.layout = at;
    this.words = new Int32Array(buffer, 0, at.end);
    this.bytes = new Uint8Array(buffer, 0, at.end * 4);
    this.arena = new Arena(at.arena, at.texts);
    this.texts = new Arena(at.texts, at.end);
    const down = (n: number): number[] => Array.from({ length: n }, (_, i) => n - i);
    this.spareRows = down(capacity.filters);
    this.spareShapes = down(SHAPES);
    this.epochs = new Epochs(epochs, table, H_EPOCH, (kind, thing) => {
      if (kind === RETIRE_ROW) this.spareRows.push(thing);
      else if (kind === RETIRE_SHAPE) this.spareShapes.push(thing);
      else this.arenaOf(thing).give(thing, kind - RETIRE_BLOCK);
    });
  }

  /** How many there are, or may still be looked at. */
  get used(): number {
    return this.layout.capacity.filters - this.spareRows.length;
  }

  /** The row of the filter that is there; 0 if there is none. */
  find(slot: number, entry: number, direction: Direction): number {
    return this.words[placeOf(this.layout, slot, entry, direction)]!;
  }

  /**
   * Puts a filter there, instead of the one that is. False if there is no room: then nothing has changed.
   * @param program one that verify() lets through; @param entry 0: for all of the client's packets
   */
  put(slot: number, entry: number, direction: Direction, program: Program): boolean {
    const { words, layout } = this;
    const place = placeOf(layout, slot, entry, direction);
    const row = this.make(program);
    if (row === 0) return false;
    const at = rowOf(layout, row);
    words[at + ROW_CLIENT] = slot;
    words[at + ROW_ENTRY] = entry;
    words[at + ROW_DIRECTION] = direction;
    this.ids = (this.ids + 1) & 0x7fffffff || 1;
    Atomics.store(words, at + ROW_ID, this.ids);
    const before = words[place]!;
    Atomics.store(words, place, row);
    if (before !== 0) this.retire(before);
    return true;
  }

  /** Takes the filter away that is there. False if there is none. */
  remove(slot: number, entry: number, direction: Direction): boolean {
    const place = placeOf(this.layout, slot, entry, direction);
    const row = this.words[place]!;
    if (row === 0) return false;
    Atomics.store(this.words, place, 0);
    this.retire(row);
    return true;
  }

  lengthOf(row: number): number {
    return this.words[rowOf(this.layout, row) + ROW_LENGTH]!;
  }

  program(row: number): Program {
    const at = rowOf(this.layout, row);
    const from = this.words[at + ROW_PROGRAM]! * 4;
    return decode(this.bytes.slice(from, from + this.words[at + ROW_LENGTH]! * 8));
  }

  idOf(row: number): number {
    return this.words[rowOf(this.layout, row) + ROW_ID]!;
  }

  /**
   * Gives a group another plan, or none: then, as where there is no room, all its members are asked.
   * @param key the group's meta, ports and address
   */
  plan(key: readonly number[], plan: Int32Array | undefined): void {
    const { words } = this;
    const at = this.group(key, plan !== undefined);
    if (at === 0) return;
    const before = words[at + GROUP_PLAN]!;
    const block = plan === undefined ? 0 : this.take(plan.length);
    if (block !== 0) {
      placePlan(plan!, block);
      words.set(plan!, block);
    }
    Atomics.store(words, at + GROUP_PLAN, block);
    if (before !== 0) this.retireBlock(before);
  }

  /** Where a group is; a new one where it is not yet, if it is to be `made`; 0: there is none, or no room. */
  private group(key: readonly number[], made: boolean): number {
    const { words, layout } = this;
    const [meta, ports, d0, d1, d2, d3] = key as [number, number, number, number, number, number];
    for (let i = hashGroup(meta, ports, d0, d1, d2, d3); ; i++) {
      const at = layout.groups + (i & (GROUPS - 1)) * GROUP_WORDS;
      if (words[at + GROUP_META] === 0) {
        if (!made || this.groups === GROUPS / 2) return 0;
        this.groups++;
        words.set(key.slice(1), at + GROUP_PORTS);
        Atomics.store(words, at + GROUP_META, meta);
        return at;
      }
      if (key.every((word, n) => words[at + GROUP_META + n] === word)) return at;
    }
  }

  /** Gives back what no net Worker can look at any more. */
  reclaim(): void {
    this.epochs.advance();
  }

  /** A row with the program, its constants and its shape; 0 if there is no room. */
  private make(program: Program): number {
    const { words, layout, spareRows } = this;
    if (spareRows.length === 0) this.reclaim();
    const row = spareRows.pop();
    if (row === undefined) return 0;
    const { parts, constants } = shapeOfProgram(program, FRAME_ALIGN);
    const code = programWords(program);
    const isFew = constants.length <= ROW_WORDS - ROW_OWN;
    const block = this.take(code.length + (isFew ? 0 : constants.length));
    if (block === 0) {
      spareRows.push(row);
      return 0;
    }
    words.set(code, block);
    const at = rowOf(layout, row);
    words[at + ROW_PROGRAM] = block;
    words[at + ROW_LENGTH] = program.length;
    const place = isFew ? at + ROW_OWN : block + code.length;
    words[at + ROW_CONSTANTS] = place;
    words.set(constants, place);
    const text = parts.join(BETWEEN);
    const use = this.use(text);
    words[at + ROW_SHAPE] = use?.shape ?? 0;
    words[at + ROW_STAMP] = use?.stamp ?? 0;
    this.textOf[row] = use && text;
    words[H_FILTERS]!++;
    return row;
  }

  /** A shape with one user more; undefined if there is no room: its filters are interpreted. */
  private use(text: string): ShapeUse | undefined {
    const { words, shapes } = this;
    const known = shapes.get(text);
    if (known !== undefined) {
      known.users++;
      return known;
    }
    const block = this.take(Math.ceil(text.length / 4), this.texts); // of integers and our own words: a byte a character
    if (block === 0) return undefined;
    const shape = this.spareShapes.pop();
    if (shape === undefined) {
      this.give(block);
      return undefined;
    }
    new TextEncoder().encodeInto(text, this.bytes.subarray(block * 4));
    const at = shapeOf(this.layout, shape);
    const made = { shape, stamp: words[H_SHAPES]! + 1, users: 1 };
    words[at + SHAPE_TEXT] = block;
    words[at + SHAPE_BYTES] = text.length;
    Atomics.store(words, at + SHAPE_STAMP, made.stamp);
    Atomics.store(words, H_SHAPES, made.stamp);
    shapes.set(text, made);
    return made;
  }

  private retire(row: number): void {
    const { words, layout, epochs, shapes } = this;
    const at = rowOf(layout, row);
    Atomics.store(words, at + ROW_ID, 0);
    words[H_FILTERS]!--;
    this.retireBlock(words[at + ROW_PROGRAM]!);
    const text = this.textOf[row];
    const use = text === undefined ? undefined : shapes.get(text);
    if (use !== undefined && --use.users === 0) {
      const shape = shapeOf(layout, use.shape);
      Atomics.store(words, shape + SHAPE_STAMP, 0);
      this.retireBlock(words[shape + SHAPE_TEXT]!);
      shapes.delete(text!);
      epochs.retire(RETIRE_SHAPE, use.shape);
    }
    epochs.retire(RETIRE_ROW, row);
  }

  private take(words: number, arena = this.arena): number {
    const size = Arena.classOf(words);
    let block = arena.take(size);
    if (block === 0) {
      this.reclaim();
      block = arena.take(size);
    }
    if (block !== 0) this.sizeOf.set(block, size);
    return block;
  }

  private give(block: number): void {
    this.arenaOf(block).give(block, this.sizeOf.get(block)!);
  }

  private arenaOf(block: number): Arena {
    return block < this.layout.texts ? this.arena : this.texts;
  }

  private retireBlock(block: number): void {
    this.epochs.retire(RETIRE_BLOCK + this.sizeOf.get(block)!, block);
  }
}
