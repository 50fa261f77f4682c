// The memory of flows that `established` asks: seen by all net Workers, each direction by itself, bounded, and never one flow
// for another.
import { expect, test } from "bun:test";
import { Flows, flowBytes, HEARD, SENT } from "../../src/switch/filters/flows.ts";
import { Random } from "../random.ts";

const seed = Number(process.env["NETD_SEED"] ?? (Math.random() * 0x7fffffff) | 0);
const WORKERS = 2;

const make = (): Flows[] => {
  const regions = Array.from({ length: WORKERS }, () => new Int32Array(flowBytes / 4));
  return regions.map((_, i) => new Flows(regions, i, 12345));
};
const ask = (flows: Flows, key: readonly number[], which: number): number => {
  flows.key.set(key);
  return flows.last(which);
};
const add = (flows: Flows, key: readonly number[], which: number, now: number): void => {
  flows.key.set(key);
  flows.add(which, now);
};

test("what one Worker saw the others know, by direction, and the latest counts", () => {
  const [one, two] = make() as [Flows, Flows];
  const key = [1, 3, 17, 5, 0x0a, 0, 0, 0, 0x0b, 0, 0, 0];
  add(one, key, SENT, 5);
  expect(ask(two, key, SENT)).toBe(5);
  expect(ask(two, key, HEARD)).toBe(0);
  add(two, key, SENT, 9);
  add(two, key, HEARD, 7);
  for (const flows of [one, two]) expect([ask(flows, key, SENT), ask(flows, key, HEARD)]).toEqual([9, 7]);
  for (let i = 0; i < key.length; i++) expect(ask(one, key.with(i, key[i]! + 1), SENT), `word ${i}`).toBe(0);
});

test(`many more than fit, seed ${seed}: the newest are kept, and none is another's`, () => {
  const r = new Random(seed);
  const all = make();
  const seen = new Map<string, number>();
  const keyOf = (n: number) => [n % 7, 1, 6, n, r.below(1) + n * 31, 0, 0, 0, n ^ 0x5555, 0, 0, 0];
  const FLOWS = 40_000;
  for (let n = 1; n <= FLOWS; n++) {
    add(r.pick(all), keyOf(n), SENT, n);
    seen.set(`${keyOf(n)}`, n);
  }
  let kept = 0;
  for (let n = 1; n <= FLOWS * 2; n++) {
    const last = ask(all[0]!, keyOf(n), SENT);
    if (last === 0) continue;
    expect(last).toBe(seen.get(`${keyOf(n)}`)!);
    kept++;
  }
  expect(kept).toBeGreaterThan(20_000);
  for (let n = FLOWS - 300; n <= FLOWS; n++) expect(ask(all[0]!, keyOf(n), SENT)).toBe(n);
});
