// Filters and rules as `netd show` has them (view.ts): the filters' region and what the net Workers count, read where they
// lie, as any reader does.
import type { Parts } from "./daemon.ts";
import type { Entry } from "./switch/table/entry.ts";
import { Counts } from "./switch/filters/counts.ts";
import {
  RECEIVE,
  ROW_CLIENT,
  ROW_DIRECTION,
  ROW_ENTRY,
  ROW_ID,
  ROW_LENGTH,
  ROW_SHAPE,
  rowOf,
} from "./switch/filters/layout.ts";
import type { FilterView, MatchView } from "./view.ts";

/** @param describe a match of the table */
export function* filterViews(
  { switchboard }: Pick<Parts, "switchboard">,
  describe: (entry: Entry) => MatchView,
): Generator<FilterView> {
  if (!switchboard) return;
  const { filters, table } = switchboard;
  const { words, layout, counts, rules } = filters;
  for (let row = 1; row <= layout.capacity.filters; row++) {
    const at = rowOf(layout, row);
    const id = words[at + ROW_ID]!;
    if (id === 0) continue;
    const slot = words[at + ROW_CLIENT]!;
    const direction = words[at + ROW_DIRECTION] === RECEIVE ? "in" : "out";
    const entry = words[at + ROW_ENTRY] === 0 ? undefined : table.entry(words[at + ROW_ENTRY]!);
    const instructions = words[at + ROW_LENGTH]!;
    const isCompiled = words[at + ROW_SHAPE] !== 0;
    if (Atomics.load(words, at + ROW_ID) !== id) continue; // another one by now
    const { pid = 0, uid = 0, command = "" } = switchboard.client(slot) ?? {};
    yield {
      layer: "client",
      direction,
      ...{ client: slot, pid, uid, command },
      ...(entry && { match: describe(entry) }),
      instructions,
      run: isCompiled ? "compiled" : "interpreted",
      ...Counts.sum(counts, row, id),
    };
  }
  for (const [i, { uid, isOut, deny, text, program }] of rules.entries()) {
    const decided = Counts.sumRule(counts, i);
    yield {
      layer: uid < 0 ? "system" : "user",
      direction: isOut ? "out" : "in",
      ...(uid >= 0 && { uid }),
      rule: text,
      ...(program && { instructions: program.length, run: "compiled" }),
      passed: deny ? 0 : decided,
      refused: deny ? decided : 0,
    };
  }
}
