// The differential test: random changes of everything that is mirrored, of both families; after each handful has
// settled, every table is compared with `ip -j`, and random lookups with `ip route get`.
// NETD_SEED repeats a run, NETD_CHANGES makes it longer (10,000 in CI).
import { expect, setDefaultTimeout, test } from "bun:test";
import { World } from "./changes.ts";
import { differences, kernelTables, ourTables } from "./compare.ts";
import { lookupDifferences } from "./lookups.ts";
import { Mirrored } from "./mirrored.ts";
import { Random, seedOf } from "./random.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const CHANGES = Number(process.env["NETD_CHANGES"] ?? 10_000);
const STEPS = 120; // a round; half of them are refused by the kernel
const LOOKUPS = 1000;
/** The kernel goes on by itself for a while after a change: neighbours are probed, carrier follows. */
const TRIES = 20;

/** @param receiveBytes of the event socket: with little, events are lost, and dumps must make up for them */
function differential(changes: number, receiveBytes: number): Mirrored["mirror"]["counts"] {
  const seed = seedOf();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const world = new World(random);
  const mirrored = new Mirrored(world.near.netns, { receiveBytes });
  try {
    for (let done = 0; done < changes; ) {
      const log: string[] = [];
      for (let i = 0; i < STEPS; i++) {
        const step = world.step();
        if (!world.do(step)) continue;
        done++;
        log.push(step.text);
        // Sometimes the mirror follows at once, sometimes it has everything to do in the end.
        if (random.chance(20)) mirrored.mirror.turn();
      }
      let found: string[] = [];
      for (let tries = 0; tries < TRIES; tries++) {
        mirrored.settle();
        found = differences(ourTables(mirrored), kernelTables(world.near));
        if (found.length === 0) found = lookupDifferences(mirrored, world.near, random, LOOKUPS);
        if (found.length === 0) break;
        mirrored.wait(50);
      }
      if (found.length > 0)
        throw new Error(`seed ${seed}, change ${done}:\n${found.join("\n")}\nafter\n${log.join("\n")}`);
    }
    return mirrored.mirror.counts;
  } finally {
    mirrored.close();
    world.close();
  }
}

test(
  `${CHANGES} random changes leave every table and lookup as the kernel has it`,
  () => {
    const { malformed, overruns } = differential(CHANGES, 32 << 20);
    expect([malformed, overruns]).toEqual([0, 0]);
  },
  CHANGES * 30,
);

test(
  `${CHANGES / 10} random changes of which most events are lost`,
  () => {
    const { malformed, overruns, swept } = differential(CHANGES / 10, 2048);
    expect(malformed).toBe(0);
    expect(overruns).toBeGreaterThan(10);
    expect(swept).toBeGreaterThan(100);
  },
  CHANGES * 30,
);
