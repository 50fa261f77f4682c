// The differential test: random changes of everything that is mirrored, of both families; after each handful has
// settled, every table is compared with `ip -j`, and random lookups with `ip route get`.
//   ./run test test/diff --rounds 50     so many times the 10,000 changes of CI, each with a seed of its own
// NETD_SEED repeats a round (and those after it); NETD_CHANGES makes rounds longer or shorter.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { formatAddress } from "../../src/wire/address.ts";
import type { NeighRow } from "../../src/netbase/rows.ts";
import { World } from "./changes.ts";
import { differences, kernelTables, ourTables, removeForgotten } from "./compare.ts";
import { lookupDifferences } from "./lookups.ts";
import { Mirrored } from "./mirrored.ts";
import { Random } from "../random.ts";
import { seedOf } from "./seed.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

/** Of the command line, which Bun keeps from tests. */
const ROUNDS = Number(/\0--rounds[=\0](\d+)\0/.exec(readFileSync("/proc/self/cmdline", "latin1"))?.[1] ?? 1);
const CHANGES = Number(process.env["NETD_CHANGES"] ?? 10_000);
const STEPS = 120; // a round; half of them are refused by the kernel
const LOOKUPS = 1000;
/** The kernel goes on by itself for a while after a change: neighbours are probed, carrier follows. */
const TRIES = 20;

/** What the kernel said of each neighbour of late: nothing else tells why one is there that should not be. */
class Neighbourhood {
  private readonly said = new Map<string, string[]>();

  hear(type: number, { ifindex, family, dst, state }: NeighRow): void {
    const key = `${ifindex} ${formatAddress(family, dst)} `;
    const list = this.said.get(key) ?? [];
    this.said.set(key, list);
    list.push(`${performance.now().toFixed()} ms: message ${type} state 0x${state.toString(16)}`);
    if (list.length > 10) list.shift();
  }

  about(found: readonly string[]): string {
    return [...this.said]
      .filter(([key]) => found.some((line) => line.startsWith("neighs") && line.includes(` ${key}`)))
      .map(([key, list]) => `\n${key}\n  ${list.join("\n  ")}`)
      .join("");
  }
}

/** @param receiveBytes of the event socket: with little, events are lost, and dumps must make up for them */
function differential(seed: number, changes: number, receiveBytes: number): Mirrored["mirror"]["counts"] {
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const world = new World(random);
  const neighbourhood = new Neighbourhood();
  const mirrored: Mirrored = new Mirrored(world.near.netns, {
    receiveBytes,
    onNeighbour: (type) => neighbourhood.hear(type, mirrored.mirror.apply.neigh),
  });
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
      // Nothing here goes back to the event loop, and mapped tables count as heap: left to itself the collector waits for
      // as much rubbish again, 800 MB.
      Bun.gc(true);
      removeForgotten(world.near);
      let found: string[] = [];
      for (let tries = 0; tries < TRIES; tries++) {
        mirrored.settle();
        found = differences(ourTables(mirrored), kernelTables(world.near));
        if (found.length === 0) found = lookupDifferences(mirrored, world.near, random, LOOKUPS);
        if (found.length === 0) break;
        mirrored.wait(50);
      }
      if (found.length > 0)
        throw new Error(
          `seed ${seed}, change ${done}:\n${found.join("\n")}${neighbourhood.about(found)}\nafter\n${log.join("\n")}`,
        );
    }
    return mirrored.mirror.counts;
  } finally {
    mirrored.close();
    world.close();
  }
}

const first = seedOf();
for (let seed = first; seed < first + ROUNDS; seed++) {
  test(
    `${CHANGES} random changes leave every table and lookup as the kernel has it`,
    () => {
      const { malformed, overruns } = differential(seed, CHANGES, 32 << 20);
      expect([malformed, overruns]).toEqual([0, 0]);
    },
    CHANGES * 30,
  );

  test(
    `${CHANGES / 10} random changes of which most events are lost`,
    () => {
      const { malformed, overruns, swept } = differential(seed, CHANGES / 10, 2048);
      expect(malformed).toBe(0);
      expect(overruns).toBeGreaterThan(CHANGES / 1000);
      expect(swept).toBeGreaterThan(CHANGES / 100);
    },
    CHANGES * 30,
  );
}
