// src/xdp/program.ts against bpf/steer.h.
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { steerCounters, steerLayout } from "../../src/xdp/program.ts";
import { compile, expectLayouts } from "../ffi/headers.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const header = `#include "${join(import.meta.dir, "../../bpf/steer.h")}"`;

test("keys and values lie as the header says", () => {
  const structs = Object.entries(steerLayout).filter(([, value]) => typeof value === "object");
  expect(structs.length).toBe(10);
  expectLayouts(header, Object.fromEntries(structs) as Record<string, Record<string, number>>);
});

test("constants and counters are the header's, in its order", () => {
  const constants = {
    ...Object.fromEntries(Object.entries(steerLayout).filter(([name]) => name.startsWith("STEER_"))),
    ...Object.fromEntries(
      steerCounters.map((name, index) => [`STEER_${name.replace(/[A-Z]/g, "_$&").toUpperCase()}`, index]),
    ),
    STEER_COUNTERS: steerCounters.length,
  };
  const check = (plus: number): string =>
    Object.entries(constants as Record<string, number>)
      .map(([name, value]) => `_Static_assert(${name} == ${value + plus}, "${name}");`)
      .join("\n");
  expect(compile(`${header}\n${check(0)}`)).toBe("");
  expect(compile(`${header}\n${check(1)}`, "-ferror-limit=0").match(/static.assert\S* failed/g)?.length).toBe(
    Object.keys(constants).length,
  );
});
