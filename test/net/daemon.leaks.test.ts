// Fifty starts and stops of the daemon in one process, and some that fail, give back everything they took.
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import type { Holdings } from "./cycles.ts";

setDefaultTimeout(60_000);

const TIMES = 50;

test("fifty starts and stops leave no fd, BPF object, thread, mapping, file or memory", async () => {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "cycles.ts"), `${TIMES}`], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  expect(err).toBe("");
  const { before, after, made, alive, files } = JSON.parse(out) as {
    before: Holdings;
    after: Holdings;
    made: number;
    alive: number;
    files: string[];
  };
  expect(made).toBeGreaterThanOrEqual(TIMES);
  expect(alive).toBe(0);
  expect(files).toEqual([]);
  // The event loops of Workers that have just ended take a moment to close theirs.
  for (const [kind, count] of Object.entries(after.fds)) {
    const slack = /event|statm/.test(kind) ? 4 : 0;
    expect(count, kind).toBeLessThanOrEqual((before.fds[kind] ?? 0) + slack);
  }
  expect(after.threads).toBeLessThanOrEqual(before.threads + 4);
  expect(after.maps).toBeLessThan(before.maps + TIMES / 2); // one in two rounds
  expect(after.rss).toBeLessThan(before.rss + 32 * 1024); // two rounds' frames
});
