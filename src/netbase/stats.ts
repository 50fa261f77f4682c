// How full each table is, in the header for all to read: entries, capacity, what was refused since the start because
// the table was full, and whether something is missing now. A full table keeps what it has.
import { H_STATS, KINDS, type Kind } from "./layout.ts";

export interface TableStats {
  readonly entries: number;
  readonly capacity: number;
  /** Rows refused since the start for want of room. */
  readonly refused: number;
  /** Rows were refused and no resync has begun since. */
  readonly missing: boolean;
}

const at = (kind: Kind): number => H_STATS + KINDS.indexOf(kind) * 4;

/** What upsert and remove return. */
export const REFUSED = -1; // the table is full
export const SAME = 0; // nothing changed (or: not there, for remove; not mirrored, for routes of other tables)
export const ADDED = 1;
export const CHANGED = 2;
export const REMOVED = 3;

/** One table's line of the statistics, written by the table's owner. */
export class Gauge {
  private readonly words: Int32Array;
  private readonly at: number;

  constructor(words: Int32Array, kind: Kind, capacity: number) {
    this.words = words;
    this.at = at(kind);
    words[this.at + 1] = capacity;
  }

  get entries(): number {
    return this.words[this.at]!;
  }

  set entries(n: number) {
    this.words[this.at] = n;
  }

  get capacity(): number {
    return this.words[this.at + 1]!;
  }

  get full(): boolean {
    return this.words[this.at]! >= this.words[this.at + 1]!;
  }

  /** Counts one that found no room. Returns REFUSED. */
  refuse(): number {
    this.words[this.at + 2]!++;
    this.words[this.at + 3] = 1;
    return REFUSED;
  }

  /** A dump begins: whatever was missing will come again. */
  clearMissing(): void {
    this.words[this.at + 3] = 0;
  }
}

export function readStats(words: Int32Array): Record<Kind, TableStats> {
  const one = (kind: Kind): TableStats => ({
    entries: words[at(kind)]!,
    capacity: words[at(kind) + 1]!,
    refused: words[at(kind) + 2]! >>> 0,
    missing: words[at(kind) + 3] !== 0,
  });
  return Object.fromEntries(KINDS.map((kind) => [kind, one(kind)])) as Record<Kind, TableStats>;
}
