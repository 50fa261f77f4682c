// The FIB at the size of the Internet's table: 1M IPv4 and 200k IPv6 routes. Time a lookup for random destinations
// (every prefix is as likely) and for localised ones (4096 destinations, over and over), changes a second, memory.
// Against DPDK's rte_fib (dpdk-test-fib: DIR-24-8, and its trie for IPv6) over the same routes and addresses, and
// against a linear scan in C. DPDK is installed (Debian: dpdk-dev) if it is missing; where that fails its part is left
// out, with a note.
// Of each side the best pass counts: neighbours on the machine cost neither.
// Verification: the linear scan's answers, for both families, before and after a third of the routes has gone.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { epochBytes } from "../src/mem/epoch.ts";
import { Region } from "../src/mem/region.ts";
import { defaultCapacity, layout, NH_GATEWAY } from "../src/netbase/layout.ts";
import { NetbaseReader, NetbaseWriter } from "../src/netbase/netbase.ts";
import { LinkRow, RouteRow } from "../src/netbase/rows.ts";
import { AF_INET, AF_INET6 } from "../src/wire/address.ts";
import { installed } from "./crowd.ts";
import { type Bench, compilePeer, type Context, pinned, runChild, type Sample, script } from "./harness.ts";
import {
  addressLines,
  generator,
  type Prefixes,
  prefixes4,
  prefixes6,
  routeLines,
  traffic,
} from "./prefixes.ts";

const ROUTES4 = 1_000_000;
const ROUTES6 = 200_000;
const LOOKUPS = 1_000_000;
const TRAFFIC: [kind: string, flows: number][] = [
  ["random", LOOKUPS],
  ["localised", 4096],
];
const CHECKED = 300;
const IFINDEX = 2;
const NLM_F_CREATE = 0x400;
const GOAL_MIB = 128;
const GOAL_UPDATES = 100_000;

const name = (family: 4 | 6, what: string): string =>
  `IPv${family}, ${family === 4 ? "1M" : "200k"} routes, ${what}`;

/** A netbase with one link, and routes put in and taken out one by one. */
class World {
  readonly region = Region.create("bench-netbase", layout(defaultCapacity).bytes);
  private readonly epochs = Region.create("bench-epochs", epochBytes(1));
  readonly writer = new NetbaseWriter(this.region, this.epochs, defaultCapacity);
  private readonly row = new RouteRow();

  constructor() {
    const link = new LinkRow();
    link.ifindex = IFINDEX;
    link.flags = 1;
    link.name = "bench";
    this.writer.links.upsert(link);
    this.writer.commit();
    this.row.table = 254;
    this.row.type = 1;
    this.row.legs.add();
    this.row.legs.ifindex[0] = IFINDEX;
  }

  /** Opened last, and once: it maps the tables a second time. */
  reader(): NetbaseReader {
    return NetbaseReader.open(this.region.ref, this.epochs.ref, 0);
  }

  /** Adds (or removes) the prefixes of `order`, with a commit every 256, as the mirror has it; returns changes a second. */
  change(prefixes: Prefixes, order: ArrayLike<number>, add: boolean): number {
    const { row, writer } = this;
    const { words, lengths, hops } = prefixes;
    const six = prefixes.family === 6;
    const { dst, legs } = row;
    row.family = legs.gatewayFamily[0] = six ? AF_INET6 : AF_INET;
    row.priority = six ? 1024 : 0;
    legs.gateway.fill(0, 0, 4);
    dst.fill(0);
    const start = Bun.nanoseconds();
    for (let k = 0; k < order.length; k++) {
      const i = order[k]!;
      if (six) for (let w = 0; w < 4; w++) dst[w] = words[i * 4 + w]!;
      else dst[0] = words[i]!;
      row.dstLen = lengths[i]!;
      legs.gateway[0] = six ? 0x80fe : 0x0a | (hops[i]! << 24);
      if (six) legs.gateway[3] = hops[i]! << 24;
      if ((add ? writer.routes.upsert(row, NLM_F_CREATE) : writer.routes.remove(row)) <= 0)
        throw new Error(`route ${i} of IPv${prefixes.family}: not ${add ? "added" : "removed"}`);
      if ((k & 255) === 255) writer.commit();
    }
    writer.commit();
    return (order.length * 1e9) / (Bun.nanoseconds() - start);
  }

  /** What the tables take, by the kernel's count of the region's pages. */
  get mebibytes(): number {
    const blocks = Bun.spawnSync(["stat", "-L", "-c", "%b", `/proc/${process.pid}/fd/${this.region.fd}`]);
    return Number(blocks.stdout.toString()) / 2048;
  }
}

const all = (n: number): Int32Array => Int32Array.from({ length: n }, (_, i) => i);

function shuffled(n: number): Int32Array {
  const next = generator(42);
  const order = all(n);
  for (let i = n - 1; i > 0; i--) {
    const k = (next() >>> 0) % (i + 1);
    [order[i], order[k]] = [order[k]!, order[i]!];
  }
  return order;
}

const BATCH = 64; // as dpdk-test-fib has it

const out = new Int32Array(BATCH);

function all4({ fib4 }: NetbaseReader, addresses: Int32Array, at: number): number {
  fib4.lookupAll(addresses, at, out);
  return out[0]!;
}

function all6({ fib6 }: NetbaseReader, addresses: Int32Array, at: number): number {
  fib6.lookupAll(addresses, at * 4, out);
  return out[0]!;
}

function one4({ fib4 }: NetbaseReader, addresses: Int32Array, at: number): number {
  let sum = 0;
  for (let i = at; i < at + BATCH; i++) sum ^= fib4.lookup(addresses[i]!);
  return sum;
}

function one6({ fib6 }: NetbaseReader, a: Int32Array, at: number): number {
  let sum = 0;
  for (let i = at * 4; i < (at + BATCH) * 4; i += 4)
    sum ^= fib6.lookup(a[i]!, a[i + 1]!, a[i + 2]!, a[i + 3]!);
  return sum;
}

type Lookup = typeof one4;

/** ns a lookup: the best of some passes over all addresses. */
function time(reader: NetbaseReader, lookup: Lookup, addresses: Int32Array, n: number): number {
  const passes: number[] = [];
  let sum = 0;
  for (let pass = 0; pass < 20; pass++) {
    const start = Bun.nanoseconds();
    for (let at = 0; at + BATCH <= n; at += BATCH) sum ^= lookup(reader, addresses, at);
    passes.push((Bun.nanoseconds() - start) / n);
  }
  if (sum === 1) console.error("");
  return Math.min(...passes);
}

const print = (what: string, value: number): void => console.log(JSON.stringify({ case: what, value }));

const children: Record<string, () => void> = {
  lookups() {
    const world = new World();
    const sets = [prefixes4(ROUTES4), prefixes6(ROUTES6)];
    for (const set of sets) world.change(set, all(set.n), true);
    const reader = world.reader();
    for (const set of sets)
      for (const [kind, flows] of TRAFFIC) {
        const addresses = traffic(set, LOOKUPS, flows);
        const all = set.family === 6 ? all6 : all4;
        const one = set.family === 6 ? one6 : one4;
        print(name(set.family, kind), time(reader, all, addresses, LOOKUPS));
        print(name(set.family, `${kind}, one by one`), time(reader, one, addresses, LOOKUPS));
      }
  },
  updates() {
    const world = new World();
    for (const set of [prefixes4(ROUTES4), prefixes6(ROUTES6)]) {
      // A tenth of the routes, in random order, in a full table.
      const order = shuffled(set.n).subarray(0, set.n / 10);
      world.change(set, all(set.n), true);
      const removed: number[] = [];
      const added: number[] = [];
      for (let i = 0; i < 4; i++) {
        removed.push(world.change(set, order, false));
        added.push(world.change(set, order, true));
      }
      print(name(set.family, "add"), Math.max(...added));
      print(name(set.family, "delete"), Math.max(...removed));
    }
  },
  memory() {
    const world = new World();
    const before = world.mebibytes;
    const four = prefixes4(ROUTES4);
    world.change(four, all(four.n), true);
    const six = prefixes6(ROUTES6);
    world.change(six, all(six.n), true);
    print("tables of 1M IPv4 and 200k IPv6 routes", world.mebibytes - before);
  },
  scan() {
    const n = Number(process.argv[3]);
    const world = new World();
    const set = prefixes4(ROUTES4);
    world.change(set, shuffled(ROUTES4).subarray(0, n), true);
    print(`${n} prefixes`, time(world.reader(), one4, traffic(set, 4096), 4096));
  },
};

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
  const ours = (...args: string[]) => runChild(script(import.meta.path, ...args));
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
          sample[name(family, kind)] = sample[name(family, `${kind}, one by one`)] = best / perNs;
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

if (import.meta.main) children[process.argv[2]!]!();
