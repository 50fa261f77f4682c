// A mirror without events turns ten times a second, for months, in a thread that the collector seldom visits.
import { expect, setDefaultTimeout, test } from "bun:test";
import { Host } from "../../src/lab/host.ts";
import { Mirrored } from "../diff/mirrored.ts";
import { objects } from "../objects.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

test("a mirror with nothing to do makes no rubbish", () => {
  const host = new Host("idle");
  const mirrored = new Mirrored(host.netns);
  try {
    mirrored.settle();
    for (let i = 0; i < 100_000; i++) mirrored.mirror.turn(); // compiled code makes less
    const before = objects();
    for (let i = 0; i < 20_000; i++) mirrored.mirror.turn();
    expect(objects() - before).toBeLessThan(20_000);
  } finally {
    mirrored.close();
    host.close();
  }
});
