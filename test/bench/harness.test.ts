// The harness's own promises: which way a ratio points, the shape of a result line, and what a child may print.
import { expect, test } from "bun:test";
import {
  Context,
  compilePeer,
  median,
  parseSample,
  type Result,
  ratio,
  runChild,
  table,
} from "../../bench/harness.ts";

test("a ratio over 1 means that ours is better, whichever way the unit points", () => {
  expect(ratio("higher", 12, 10)).toBeCloseTo(1.2);
  expect(ratio("lower", 12, 10)).toBeCloseTo(1 / 1.2);
});

test("median of odd and even counts", () => {
  expect(median([9, 1, 5])).toBe(5);
  expect(median([4, 1, 3, 100])).toBe(3.5);
});

test("compare alternates, takes medians and reports exactly the documented keys", async () => {
  const order: string[] = [];
  const lines: string[] = [];
  const values = { ours: [10, 30, 20], peer: [40, 50, 1000] };
  const side = (name: "ours" | "peer") => () => {
    order.push(name);
    return { a: values[name].shift()! };
  };
  const context = new Context("demo", undefined, (result: Result) => lines.push(JSON.stringify(result)));
  await context.compare({
    unit: "ns",
    better: "lower",
    peerName: "C",
    ours: side("ours"),
    peer: side("peer"),
  });
  expect(order).toEqual(["ours", "peer", "peer", "ours", "ours", "peer"]);
  expect(lines).toEqual([
    '{"bench":"demo","case":"a","unit":"ns","ours":20,"peer":50,"peerName":"C","ratio":2.5}',
  ]);
  expect(table(context.results).split("\n")[1]).toMatch(/^a +ns +20 +50 +2\.50 +C$/);
});

test("a case that only one side measured is an error", async () => {
  const context = new Context("demo", undefined, () => {});
  const comparison = { unit: "ns", better: "lower", peerName: "C", rounds: 1 } as const;
  expect(context.compare({ ...comparison, ours: () => ({ a: 1 }), peer: () => ({ b: 1 }) })).rejects.toThrow(
    '"a"',
  );
});

test("a child's lines become a sample, and a line of another shape is an error", () => {
  expect(parseSample('{"case":"x","value":1.5}\n{"case":"y","value":2}\n')).toEqual({ x: 1.5, y: 2 });
  expect(() => parseSample('{"case":"x"}')).toThrow();
  expect(() => parseSample('{"case":"x","value":null}')).toThrow();
});

test("a child that fails or measures nothing is an error", async () => {
  expect(await runChild(["echo", '{"case":"x","value":3}'])).toEqual({ x: 3 });
  expect(runChild(["false"])).rejects.toThrow("exit status 1");
  expect(runChild(["true"])).rejects.toThrow("measured nothing");
});

test("a peer that does not exist does not compile", () => {
  expect(() => compilePeer("no-such-peer")).toThrow();
});
