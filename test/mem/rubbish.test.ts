// Rubbish is collected once its time has come.
import { expect, test } from "bun:test";
import { Rubbish } from "../../src/mem/rubbish.ts";
import { objects } from "../objects.ts";

const MADE = 100_000;
let last: object = {};
/** One by one: the collector takes what it finds on the stack for alive, and would keep all of an array. */
const make = (): void => {
  for (let i = 0; i < MADE; i++) last = { last: i };
};

test("what nobody has any more goes", () => {
  const rubbish = new Rubbish(0);
  Bun.gc(true);
  const before = objects();
  make();
  expect(last).toEqual({ last: MADE - 1 });
  rubbish.collect();
  expect(objects() - before).toBeLessThan(MADE / 2);
});
