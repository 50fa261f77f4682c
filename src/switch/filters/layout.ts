// Clients' filters in shared memory: where everything lies, in words. Written by the control Worker alone (writer.ts), read
// by the net Workers (judge.ts) and whoever shows it. All from the capacity alone.
//
//   header      how many shapes there have been, and filters there are
//   of clients  2 words a client: the rows of the filters for what it gets, and for what it sends; 0 none
//   of entries  a word an entry of the switch table: the row of a match's filter
//   rows        16 words a filter, numbered from 1: one cache line
//   shapes      4 words each: what filters have in common, as source text (filter/compile.ts)
//   groups      8 words each: the plans of groups whose members have filters (plan.ts)
//   arena       programs with their constants behind them, plans
//   texts       shapes': apart, so that a program has room, if only to be interpreted, whatever others have compiled
//
// A filter is put in another's place by one store, of its row's number, and what it had is used again when no net Worker
// can still look at it (mem/epoch.ts): readers need neither a lock nor a version. A row's words are written before its
// number is, and never again.
//
// Each net Worker has a region of its own beside it, netd-filters-N, which it alone writes: how many packets each filter
// and each rule let pass or refused (counts.ts), and the flows that it saw (flows.ts).
import type { SwitchCapacity } from "../boot.ts";
import { numberCount } from "../table/layout.ts";

export const H_SHAPES = 0; // stamp of the newest shape
export const H_FILTERS = 1; // how many filters there are

export const RECEIVE = 0;
export const TRANSMIT = 1;
export type Direction = typeof RECEIVE | typeof TRANSMIT;

// Words of a row.
export const ROW_WORDS = 16;
export const ROW_ID = 0; // another one with each filter; 0: none here
export const ROW_CLIENT = 1;
export const ROW_ENTRY = 2; // the match's entry; 0: for all of the client's packets
export const ROW_DIRECTION = 3;
export const ROW_PROGRAM = 4; // word of its first instruction, two words each
export const ROW_LENGTH = 5; // instructions
export const ROW_CONSTANTS = 6; // word of the first
export const ROW_SHAPE = 7; // number; 0: interpreted
export const ROW_STAMP = 8; // of the shape
/** Where its constants are, if they are few: with the row in one cache line. */
export const ROW_OWN = 9;

// Words of a shape.
export const SHAPE_WORDS = 4;
export const SHAPE_STAMP = 0; // another one with each shape; 0: none here
export const SHAPE_TEXT = 1; // word of its first byte
export const SHAPE_BYTES = 2;
export const SHAPES = 4096; // numbered from 1

// Words of a group.
export const GROUP_WORDS = 8;
export const GROUP_PLAN = 0; // word of its plan; 0 none
export const GROUP_META = 1; // groupMeta (table/pattern.ts); 0: no group here
export const GROUP_PORTS = 2; // as in a header, the source port 0
export const GROUP_ADDRESS = 3;
export const GROUPS = 1024; // at most half of them are taken

/** Where the search for a group begins. */
export function hashGroup(
  meta: number,
  ports: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
): number {
  let h = Math.imul(meta ^ ports, 0x9e3779b1) ^ d0;
  h = Math.imul(h ^ (h >>> 15), 0x85ebca6b) ^ d1;
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35) ^ d2;
  h = Math.imul(h ^ (h >>> 16), 0x27d4eb2f) ^ d3;
  return ((h ^ (h >>> 15)) & (GROUPS - 1)) >>> 0;
}

/** Words of the arena a filter, on average, and of texts. */
const ARENA_EACH = 128;
const ARENA_LEAST = 1 << 16;

export interface FilterCapacity extends SwitchCapacity {
  readonly filters: number;
}

export interface FilterLayout {
  readonly capacity: FilterCapacity;
  readonly clients: number;
  readonly entries: number;
  readonly rows: number;
  readonly shapes: number;
  readonly groups: number;
  readonly arena: number;
  readonly texts: number;
  /** one behind its last word */
  readonly end: number;
}

export function filterLayout(capacity: FilterCapacity): FilterLayout {
  let next = 16;
  const take = (words: number): number => {
    const at = next;
    next += Math.ceil(words / 16) * 16;
    return at;
  };
  return {
    capacity,
    clients: take(capacity.clients * 2),
    entries: take(numberCount(capacity)),
    rows: take((capacity.filters + 1) * ROW_WORDS),
    shapes: take((SHAPES + 1) * SHAPE_WORDS),
    groups: take(GROUPS * GROUP_WORDS),
    arena: take(Math.max(capacity.filters * ARENA_EACH, ARENA_LEAST)),
    texts: take(Math.max(capacity.filters * ARENA_EACH, ARENA_LEAST)),
    end: next,
  };
}

/** Bytes of the region. */
export const filterBytes = (capacity: FilterCapacity): number => filterLayout(capacity).end * 4;

/** Where the number of a filter's row stands. @param entry 0: the filter is for all of the client's packets */
export const placeOf = (at: FilterLayout, slot: number, entry: number, direction: Direction): number =>
  entry === 0 ? at.clients + slot * 2 + direction : at.entries + entry;

export const rowOf = (at: FilterLayout, row: number): number => at.rows + row * ROW_WORDS;
export const shapeOf = (at: FilterLayout, shape: number): number => at.shapes + shape * SHAPE_WORDS;
