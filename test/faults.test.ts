// The numbered faults of the best known netlink mirror and XDP net tile, each with a test by its number: `(fault N)` or
// `fault N:` in its name. Where such a test belongs depends on what it needs, so they are in many files; this is the list.
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const FAULTS = [
  "a limited solicit leaves a placeholder that blocks every later one",
  "spoofed sources fill the neighbour table, and nothing is evicted",
  "a table joined with less than it is sized for; a capacity that is no power of two aborts",
  "a link that goes down takes its IPv4 routes along without a word",
  "over 256 interfaces, routes are never learned",
  "a resync flushes, then refills",
  "a new key is published over the old entry's address",
  "the XDP program redirects fragments, groups, others' frames and bad lengths",
  "an interface index over 65535 aborts; a wrong one kills the netlink thread",
  "neighbours in use are never refreshed",
  "an overrun resyncs routes alone; sequence, sender and truncation are not checked",
  "a lookup takes as long as there are routes",
  "TOS, multipath, RTA_VIA, dead legs and nexthop objects are ignored",
];

/** The numbers of faults that names of tests have, of all files. */
function* numbers(): Generator<number> {
  for (const file of readdirSync(import.meta.dir, { recursive: true, encoding: "utf8" }))
    if (file.endsWith(".test.ts"))
      for (const [, name] of readFileSync(join(import.meta.dir, file), "utf8").matchAll(
        /^(?:test(?:\.\w+\(.*\))?|inside)\(\s*["`]([^"`]+)["`]/gm,
      ))
        for (const [, list] of name!.matchAll(/\bfaults? (\d+(?:(?:,| and) \d+)*)/g))
          yield* list!.match(/\d+/g)!.map(Number);
}

test("each numbered fault has a test by its number, and each such test is about one", () => {
  const found = new Set(numbers());
  expect(FAULTS.map((fault, i) => [i + 1, fault] as const).filter(([n]) => !found.has(n))).toEqual([]);
  expect([...found].filter((n) => n < 1 || n > FAULTS.length)).toEqual([]);
});
