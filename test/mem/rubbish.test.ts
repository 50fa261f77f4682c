// Rubbish is collected when its time has come, and not at every turn.
import { expect, test } from "bun:test";
import { Rubbish } from "../../src/mem/rubbish.ts";
import { objects } from "../objects.ts";

const MADE = 100_000;
const make = (): number => Array.from({ length: MADE }, (_, i) => ({ i })).length;

test("what nobody has any more goes once that was long ago", () => {
  for (const [everyMs, stays] of [
    [1e9, true],
    [0, false],
  ] as const) {
    const rubbish = new Rubbish(everyMs);
    Bun.gc(true);
    const before = objects();
    make();
    rubbish.collect();
    expect(objects() - before >= MADE).toBe(stays);
  }
});
