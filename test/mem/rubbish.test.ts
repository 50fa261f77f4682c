// Rubbish is collected once its time has come.
import { expect, test } from "bun:test";
import { Rubbish } from "../../src/mem/rubbish.ts";
import { objects } from "../objects.ts";

const MADE = 100_000;
const make = (): number => Array.from({ length: MADE }, (_, i) => ({ i })).length;

test("what nobody has any more goes", () => {
  const rubbish = new Rubbish(0);
  Bun.gc(true);
  const before = objects();
  make();
  rubbish.collect();
  expect(objects() - before).toBeLessThan(MADE / 2);
});
