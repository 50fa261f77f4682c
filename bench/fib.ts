// The FIB at the size of the Internet's table: 1M IPv4 and 200k IPv6 routes. Time a lookup for random destinations
// (every prefix is as likely) and for localised ones (4096 destinations, over and over; also with a random IPv6 route
// removed and added every 100,000 lookups, 1000 a second, since a reader forgets what it kept near it), changes a second,
// memory.
// Against DPDK's rte_fib (dpdk-test-fib: DIR-24-8, and its trie for IPv6) over the same routes and addresses, and
// against a linear scan in C. DPDK is installed (Debian: dpdk-dev) if it is missing; where that fails its part is left
// out, with a note.
// Of each side the best pass counts: neighbours on the machine cost neither.
// Verification: the linear scan's answers, for both families, before and after a third of the routes has gone.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { NH_GATEWAY } from "../src/netbase/layout.ts";
import { installed } from "./crowd.ts";
import { type Bench, compilePeer, type Context, pinned, runChild, type Sample, script } from "./harness.ts";
import { all, CHANGING, LOOKUPS, name, ROUTES4, ROUTES6, shuffled, TRAFFIC, World } from "./lookups.ts";
import { addressLines, type Prefixes, prefixes4, prefixes6, routeLines, traffic } from "./prefixes.ts";

const CHECKED = 300;
const GOAL_NS = 10; // localised
const GOAL_MIB = 128;
const GOAL_UPDATES = 100_000;

class Setup {
  readonly directory = mkdtempSync(join(tmpdir(), "netd-bench-fib-"));
  readonly linear = compilePeer("fib");

  write(file: string, text: string): string {
    const path = join(this.directory, file);
    writeFileSync(path, text);
    return path;
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true });
  }
}

/** dpdk-test-fib's averages over routes and addresses, by their names ("add", "lookup", "delete"), in cycles. */
function dpdk(family: 4 | 6, routes: string, addresses: string): Map<string, number[]> {
  const eal = [
    "--no-huge",
    "-m",
    "2500",
    "--no-pci",
    "--no-telemetry",
    "--no-shconf",
    "-l",
    `${cpus().length - 1}`,
  ];
  const groups = family === 4 ? "32767" : "500000";
  const command = ["dpdk-test-fib", ...eal, "--", "-f", routes, "-t", addresses, "-e", "4", "-g", groups];
  const child = Bun.spawnSync(pinned(family === 6 ? [...command, "-6"] : command), {
    stdout: "pipe",
    stderr: "pipe",
  });
  const averages = new Map<string, number[]>();
  for (const [, what, cycles] of child.stdout.toString().matchAll(/^AVG FIB (\w+) ([\d.]+)/gm))
    averages.set(what!, [...(averages.get(what!) ?? []), Number(cycles)]);
  if (!averages.has("lookup")) throw new Error(`dpdk-test-fib: ${child.stdout}${child.stderr}`);
  return averages;
}

/** TSC cycles a nanosecond, as the kernel found them out. */
function cyclesPerNs(): number {
  const mhz = /^cpu MHz\s*: ([\d.]+)/m.exec(readFileSync("/proc/cpuinfo", "utf8"));
  return Number(mhz?.[1] ?? "2000") / 1000;
}

async function verify(ctx: Context): Promise<void> {
  using setup = new Setup();
  const world = new World();
  const sets = [prefixes4(ROUTES4 / 5), prefixes6(ROUTES6 / 5)];
  for (const set of sets) world.change(set, shuffled(set.n), true);
  const reader = world.reader();
  let checked = 0;
  for (const part of ["all", "two thirds"]) {
    for (const set of sets) {
      const { family, words, lengths, hops } = set;
      const size = family === 4 ? 1 : 4;
      const kept = all(set.n).filter((i) => part === "all" || i % 3 !== 0);
      const routes = {
        ...set,
        n: kept.length,
        words: Int32Array.from(
          Array.from(kept).flatMap((i) => [...words.subarray(i * size, (i + 1) * size)]),
        ),
        lengths: Uint8Array.from(kept, (i) => lengths[i]!),
        hops: Uint8Array.from(kept, (i) => hops[i]!),
      };
      if (part !== "all")
        world.change(
          set,
          all(set.n).filter((i) => i % 3 === 0),
          false,
        );
      const addresses = traffic(set, CHECKED);
      const files = [
        setup.write("routes", routeLines(routes)),
        setup.write("addresses", addressLines(family, addresses)),
      ];
      const judge = Bun.spawnSync([setup.linear, "verify", ...files])
        .stdout.toString()
        .trim()
        .split("\n")
        .map(Number);
      judge.forEach((want, i) => {
        const nh =
          family === 4
            ? reader.fib4.lookup(addresses[i]!)
            : reader.fib6.lookup(
                addresses[i * 4]!,
                addresses[i * 4 + 1]!,
                addresses[i * 4 + 2]!,
                addresses[i * 4 + 3]!,
              );
        const got = nh === 0 ? 0 : reader.words[nh + NH_GATEWAY + size - 1]! >>> 24;
        if (got !== want)
          throw new Error(`IPv${family}, ${part} of the routes, address ${i}: ${got}, not ${want}`);
        checked++;
      });
      reader.quiesce();
    }
  }
  ctx.note(`${checked} lookups are those of a linear scan`);
  reader.close();
  world.region.close();
}

async function run(ctx: Context): Promise<void> {
  using setup = new Setup();
  const ours = (...args: string[]) => runChild(script(join(import.meta.dir, "lookups.ts"), ...args));
  const sets = [prefixes4(ROUTES4), prefixes6(ROUTES6)];
  if (installed("/usr/bin/dpdk-test-fib", "dpdk-dev")) {
    const runs = sets.flatMap((set) => {
      const routes = setup.write(`routes${set.family}`, routeLines(set));
      return TRAFFIC.map(([kind, flows]) => ({
        kind,
        family: set.family,
        routes,
        addresses: setup.write(
          `${kind}${set.family}`,
          addressLines(set.family, traffic(set, LOOKUPS, flows)),
        ),
      }));
    });
    const perNs = cyclesPerNs();
    const changes: Sample = {};
    await ctx.compare({
      unit: "ns/lookup",
      better: "lower",
      peerName: "DPDK rte_fib",
      ours: () => ours("lookups"),
      peer: () => {
        const sample: Sample = {};
        for (const { kind, family, routes, addresses } of runs) {
          const best = Math.min(
            ...Array.from({ length: family === 4 ? 4 : 1 }, () => {
              const averages = dpdk(family, routes, addresses);
              for (const [what, cycles] of averages)
                if (what !== "lookup") changes[name(family, what)] = (perNs * 1e9) / Math.min(...cycles);
              return averages.get("lookup")![0]!;
            }),
          );
          for (const way of ["", ", one by one", CHANGING]) sample[name(family, kind + way)] = best / perNs;
        }
        return sample;
      },
    });
    await ctx.compare({
      unit: "changes/s",
      better: "higher",
      peerName: "DPDK rte_fib",
      ours: () => ours("updates"),
      peer: () => changes,
    });
  } else ctx.note("no dpdk-test-fib here, and apt-get install dpdk-dev failed: DPDK's part is left out");
  const localised = [4, 6].flatMap((family) =>
    ["", ", one by one"].map((way) => name(family as 4 | 6, `localised${way}`)),
  );
  await ctx.compare({
    unit: "ns/lookup",
    better: "lower",
    peerName: "goal",
    rounds: 1,
    ours: async () => {
      const sample = await ours("lookups");
      return Object.fromEntries(localised.map((what) => [what, sample[what]!]));
    },
    peer: () => Object.fromEntries(localised.map((what) => [what, GOAL_NS])),
  });
  await ctx.compare({
    unit: "changes/s",
    better: "higher",
    peerName: "goal",
    rounds: 1,
    ours: () => ours("updates"),
    peer: () =>
      Object.fromEntries(
        [4, 6].flatMap((family) =>
          ["add", "delete"].map((what) => [name(family as 4 | 6, what), GOAL_UPDATES]),
        ),
      ),
  });
  await ctx.compare({
    unit: "MiB",
    better: "lower",
    peerName: "goal",
    rounds: 1,
    ours: () => ours("memory"),
    peer: () => ({ "tables of 1M IPv4 and 200k IPv6 routes": GOAL_MIB }),
  });
  const scanned = {
    routes: setup.write("routes", routeLines(pick(sets[0]!, 4000))),
    addresses: setup.write("addresses", addressLines(4, traffic(sets[0]!, 4096))),
  };
  for (const n of ["16", "1000", "4000"])
    await ctx.compare({
      unit: "ns/lookup",
      better: "lower",
      peerName: "linear scan in C",
      rounds: 1,
      ours: () => ours("scan", n),
      peer: () => runChild([setup.linear, "time", scanned.routes, scanned.addresses, n]),
    });
}

/** The first `n` in the order that `scan` adds them. */
function pick(set: Prefixes, n: number): Prefixes {
  const order = shuffled(set.n).subarray(0, n);
  return {
    ...set,
    n,
    words: Int32Array.from(order, (i) => set.words[i]!),
    lengths: Uint8Array.from(order, (i) => set.lengths[i]!),
    hops: Uint8Array.from(order, (i) => set.hops[i]!),
  };
}

export const bench: Bench = {
  name: "fib",
  about: "longest-prefix match with 1M IPv4 and 200k IPv6 routes: lookups, changes, memory",
  verify,
  run,
};
