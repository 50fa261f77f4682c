// One frame through the switch, without a kernel: parsed, matched, checked for whom it is or whose it is, copied to its
// channel (crossing.ts), at 10, 1000 and 100,000 matches. What it costs with few is what it is held against: a table that
// is large should not show, within 1.5 times.
// And the search alone, against the same in C at -O3 over the very same table (peers/switch.c).
// Verification: frames of every match and of none, from clients that own their source and from others; every single
// one's fate is what the matches say. The C program finds what ours finds.
import { join } from "node:path";
import { Region } from "../src/mem/region.ts";
import * as offsets from "../src/switch/table/layout.ts";
import { FILTERS_TO, layout, tableBytes } from "../src/switch/table/layout.ts";
import type { Match } from "../src/switch/table/pattern.ts";
import { TableWriter } from "../src/switch/table/table.ts";
import { CAPACITY, CLIENTS, IPPROTO_UDP, macOf, ownWord, peerWord, PORT, REMOTE_PORT } from "./crossing.ts";
import { type Bench, buildFile, compilePeer, runChild, type Sample, script } from "./harness.ts";
import { createWorld, type World } from "./world.ts";

const COUNTS = [10, 1000, 100_000];
const WAYS = ["in", "out"] as const;
const FAMILIES = ["4", "6"] as const;
const child = join(import.meta.dir, "crossing.ts");

type Family = (typeof FAMILIES)[number];
type Way = (typeof WAYS)[number];

/** A table with `count` matches, as a path. Even ones are connected, odd ones listen. @param flags of its clients */
function createTable(family: Family, count: number, flags: number): string {
  const six = family === "6";
  const table = Region.create("bench-switch", tableBytes(CAPACITY));
  const writer = new TableWriter(table.buffer, CAPACITY, 0x5bd1e995);
  const row = { fd: -1, mtu: 1500, flags, home: 0, ratePps: 0, pid: 1, uid: 0, gid: 0 };
  for (let client = 0; client < CLIENTS; client++) writer.addClient({ ...row, mac: macOf(client) });
  const full = six ? 128 : 32;
  const address = (word: typeof ownWord, n: number) =>
    Int32Array.from({ length: 4 }, (_, i) => (six || i === 0 ? word(six, n, i) : 0));
  for (let n = 0; n < count; n++) {
    const connected = n % 2 === 0;
    const match: Match = {
      family: six ? 10 : 2,
      protocol: IPPROTO_UDP,
      dst: address(ownWord, n),
      dstPrefix: full,
      dport: PORT,
      src: address(peerWord, n),
      srcPrefix: connected ? full : 0,
      sport: connected ? REMOTE_PORT : -1,
    };
    const entry = writer.add(match, n % CLIENTS, connected ? "claim" : "match");
    if (entry < 0) throw new Error(`match ${n} refused: ${entry}`);
  }
  writer.gather(table);
  return `/proc/${process.pid}/fd/${table.fd}`;
}

/** All offsets and numbers of the table as a C header. */
function header(): string {
  const numbers: Record<string, unknown> = { ...offsets, CLIENTS, PORT, REMOTE_PORT };
  for (const [name, value] of Object.entries(layout(CAPACITY).four)) numbers[`L_four_${name}`] = value;
  const lines = Object.entries(numbers).filter(([, value]) => typeof value === "number");
  return `// Made by bench/switch.ts.\n${lines.map(([name, value]) => `#define ${name} ${value}`).join("\n")}\n`;
}

function compile(): string {
  const include = buildFile("switch.h", header());
  return compilePeer("switch", [`-I${join(include, "..")}`], [include]);
}

export class Setup {
  readonly world: World = createWorld(false);
  private readonly tables = new Map<string, string>();

  cross(family: Family, way: Way | "find", count: number, ...args: string[]): Promise<Sample> {
    const { netbase, epochs } = this.world;
    return runChild(
      script(child, netbase, epochs, this.table(family, count), String(count), way, family, ...args),
    );
  }

  /** IPv4, to clients whose matches have a filter each. */
  filtered(count: number, seconds: string): Promise<Sample> {
    const { netbase, epochs } = this.world;
    const table = this.table("4", count, FILTERS_TO);
    return runChild(
      script(child, netbase, epochs, table, String(count), "in", "4", "time", seconds, String(count)),
    );
  }

  table(family: Family, count: number, flags = 0): string {
    const name = `${family} ${count} ${flags}`;
    return this.tables.getOrInsertComputed(name, () => createTable(family, count, flags));
  }
}

async function verify(): Promise<void> {
  const setup = new Setup();
  const peer = compile();
  for (const family of FAMILIES)
    for (const count of COUNTS) {
      for (const way of WAYS) await setup.cross(family, way, count, "check");
      if (family === "6") continue;
      const ours = await setup.cross(family, "find", count, "check");
      const theirs = await runChild([peer, setup.table(family, count), String(count), "check"]);
      if (ours["found"] !== theirs["found"])
        throw new Error(`${count} matches: ours found ${ours["found"]}, C ${theirs["found"]}`);
    }
}

export const bench: Bench = {
  name: "switch",
  about:
    "a frame parsed, matched, checked and copied, by matches; goal: 100k cost at most 1.5 times what 10 do",
  verify,
  async run(ctx) {
    const setup = new Setup();
    const peer = compile();
    const seconds = String(ctx.seconds ?? 0.25);
    for (const family of FAMILIES)
      for (const way of WAYS)
        for (const count of COUNTS.slice(1)) {
          const name = `IPv${family} ${way === "in" ? "to a client" : "from a client"}, ${count} matches`;
          const at = (n: number) => async () => ({
            [name]: (await setup.cross(family, way, n, "time", seconds))["ns"]!,
          });
          const comparison = { unit: "ns/frame", better: "lower", peerName: "10 matches" } as const;
          await ctx.compare({ ...comparison, ours: at(count), peer: at(COUNTS[0]!) });
        }
    for (const count of COUNTS) {
      const name = `IPv4 search alone, ${count} matches`;
      const path = setup.table("4", count);
      await ctx.compare({
        unit: "ns/search",
        better: "lower",
        peerName: "C -O3, same table",
        ours: async () => ({ [name]: (await setup.cross("4", "find", count, "time", seconds))["ns"]! }),
        peer: async () => ({ [name]: (await runChild([peer, path, String(count), "time", seconds]))["ns"]! }),
      });
    }
  },
};
