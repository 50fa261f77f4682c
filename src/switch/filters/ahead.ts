// Looking ahead, as table/ahead.ts does for searches: the lines that judging a batch will look at are loaded first, those of
// all its frames side by side. For each the row of its match's filter, and where that is counted. Of few filters all of that
// is in the second-level cache.
import { AHEAD } from "../table/ahead.ts";
import type { Counts } from "./counts.ts";
import { type FilterLayout, H_FILTERS, ROW_WORDS } from "./layout.ts";

const MANY = 1024;

/** Of the switch table, one a frame; 0 where there is none. */
export type FilterAhead = (entries: Int32Array, n: number) => void;

export function makeFilterAhead(words: Int32Array, at: FilterLayout, counts: Counts): FilterAhead {
  const rows = new Int32Array(AHEAD);
  return (entries, n) => {
    if (words[H_FILTERS]! < MANY) return;
    for (let i = 0; i < n; i++) rows[i] = words[at.entries + entries[i]!]!;
    let sum = 0;
    for (let i = 0; i < n; i++)
      sum ^= words[at.rows + Math.imul(rows[i]!, ROW_WORDS)]! ^ counts.peek(rows[i]!);
    rows[0] = sum;
  };
}
