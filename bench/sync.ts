// The mirror against a C program that only walks the messages (bench/peers/nlwalk.c), in a namespace made for it:
// how long all of 1M routes, and of 64k neighbours, take from the first request until every table is filled; and how
// many events a second are taken over while the kernel makes them as fast as it can, with a buffer of 32 MiB.
// Neither side is pinned: a long dump is received on a thread of its own. Of each side the best of some times counts; how
// long the first of a process takes, most of it the compiler's time, is a case of its own.
import { readFileSync } from "node:fs";
import { Host } from "../src/lab/host.ts";
import { epochBytes } from "../src/mem/epoch.ts";
import { Region } from "../src/mem/region.ts";
import { type Capacity, defaultCapacity, layout } from "../src/netbase/layout.ts";
import { NetbaseReader, NetbaseWriter } from "../src/netbase/netbase.ts";
import { libc } from "../ffi/libc.ts";
import { ptr } from "../ffi/memory.ts";
import { AF_INET } from "../src/netlink/constants.ts";
import { Mirror } from "../src/netlink/mirror.ts";
import type { Requests } from "../src/netlink/message.ts";
import { delNeigh, newNeigh } from "../src/netlink/neigh.ts";
import { Netns } from "../src/netlink/netns.ts";
import { delRoute, newRoute } from "../src/netlink/routeset.ts";
import { swap32 } from "../src/wire/address.ts";
import { type Bench, type Context, compilePeer, type Sample, script } from "./harness.ts";

const ROUTES = 1_000_000;
const NEIGHBOURS = 65_536;
const GATEWAYS = 256;
const EVENTS = 100_000;
/** Each burst of events comes so often in a row: a listener of ours is at its speed after the first. */
const BURSTS = 3;
const BATCH = 20_000;
const RECEIVE_BYTES = 32 << 20;
const IDLE_MS = 300;
const POLLIN = 1;

const address = (value: number) => ({ family: AF_INET, words: [swap32(value)] });
const NET = 0x0a000000; // 10.0.0.0/8 is on link: neighbours and gateways
/** The i-th route: /24s from 32.0.0.0 on, spread so that the FIB is not filled in order. */
const route = (i: number) => ({
  dst: { ...address(0x20000000 + ((Math.imul(i, 0x9e3779b1) >>> 0) % 0x5fffff) * 256), prefixLen: 24 },
  via: address(NET + 2 + (i % GATEWAYS)),
});
const neighbour = (i: number) => ({
  dst: address(NET + 2 + i),
  lladdr: [2, 0, 0, i >>> 16, (i >>> 8) & 255, i & 255],
});

/** A namespace with one interface, and the other end of it. */
function world(): { host: Host; far: Host; ifindex: number } {
  const host = new Host("bench sync");
  const far = new Host("bench sync far");
  const [ifindex] = host.veth("nd0", far, "peer0");
  host.addr("nd0", "10.0.0.1/8");
  return { host, far, ifindex };
}

/** Has the kernel do `n` requests, in batches. */
function each(host: Host, n: number, write: (m: Requests, i: number) => void): void {
  for (let from = 0; from < n; from += BATCH)
    host.nl.batch((m) => {
      for (let i = from; i < Math.min(from + BATCH, n); i++) write(m, i);
    });
}

/** A mirror of the namespace in tables of its own. */
function mirror(netns: Netns) {
  const capacity: Capacity = { ...defaultCapacity, neighbours4: NEIGHBOURS + 1000 };
  const base = Region.create("bench-netbase", layout(capacity).bytes);
  const epochs = Region.create("bench-epochs", epochBytes(1));
  const writer = new NetbaseWriter(base, epochs, capacity);
  return { base, epochs, writer, mirror: new Mirror({ netns, writer, receiveBytes: RECEIVE_BYTES }) };
}

/** Most KiB resident at any time; getrusage would tell the most of this process or whoever spawned it. */
const peak = (): number => Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]);

/**
 * Our side of a dump: a new mirror's first synchronisation, TIMES times; the best, in ms. From the first request on, as
 * the peer has it: sockets and empty tables are there.
 */
function dumpOurs(netns: Netns, name: string, times: number): void {
  let best = Number.POSITIVE_INFINITY;
  let entries = "";
  for (let i = 0; i < times; i++) {
    const made = mirror(netns);
    const start = performance.now();
    made.mirror.sync();
    best = Math.min(best, performance.now() - start);
    const { routes4, neighbours4 } = made.writer.stats;
    entries = `${routes4.entries} routes, ${neighbours4.entries} neighbours`;
    made.mirror.close();
    made.base.close();
    made.epochs.close();
  }
  console.error(`ours: ${entries}; resident at most ${Math.round(peak() / 1024)} MiB`);
  console.log(JSON.stringify({ case: name, value: best }));
}

/** Our side of events: applies them until none comes for a while; events a second. */
function listenOurs(netns: Netns, name: string): void {
  const { mirror: one } = mirror(netns);
  one.sync();
  const before = one.counts.events;
  const cpu = process.cpuUsage();
  const pollfd = new Int32Array(new ArrayBuffer(8));
  pollfd.set([one.fd, POLLIN]);
  console.log("ready");
  let first = 0;
  let last = 0;
  let seen = before;
  while (libc.poll(ptr(pollfd), 1, first === 0 ? 60_000 : IDLE_MS) > 0) {
    first ||= performance.now();
    while (one.turn() === 0);
    if (one.counts.events !== seen) last = performance.now();
    seen = one.counts.events;
  }
  const { user, system } = process.cpuUsage(cpu);
  const each = ((user + system) / (seen - before)).toFixed(2);
  console.error(`ours: ${seen - before} events, ${one.counts.overruns} overruns, ${each} us of CPU each`);
  console.log(JSON.stringify({ case: name, value: ((seen - before) / (last - first)) * 1000 }));
}

/** Starts a listener, and once it is ready makes events as fast as the kernel takes them. */
async function listen(ctx: Context, command: string[], make: () => number): Promise<Sample> {
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
  let output = "";
  for await (const chunk of child.stdout) {
    const before = output;
    output += new TextDecoder().decode(chunk);
    if (before.includes("ready\n") || !output.includes("ready\n")) continue;
    const start = performance.now();
    const made = make();
    ctx.note(`the kernel made ${Math.round(made / (performance.now() - start))} thousand events a second`);
  }
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")} failed`);
  const { case: name, value } = JSON.parse(output.split("\n").find((line) => line.startsWith("{"))!);
  return { [name]: value };
}

async function once(command: string[]): Promise<Sample> {
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
  const output = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")} failed`);
  const { case: name, value } = JSON.parse(output.split("\n").find((line) => line.startsWith("{"))!);
  return { [name]: value };
}

const ours = (...args: string[]) => script(import.meta.path, ...args);

export const bench: Bench = {
  name: "sync",
  about:
    "mirroring 1M routes and 64k neighbours, and keeping up with events, against C that only walks messages",

  verify() {
    const { host, far, ifindex } = world();
    try {
      each(host, 30_000, (m, i) => newRoute(m, route(i)));
      each(host, 1000, (m, i) => newNeigh(m, { ifindex, ...neighbour(i) }));
      const made = mirror(host.netns);
      made.mirror.sync();
      const reader = new NetbaseReader(made.base, made.epochs, 0);
      for (let i = 0; i < 30_000; i++) {
        const { dst, via } = route(i);
        const nh = reader.fib4.lookup(dst.words[0]!);
        if (nh === 0 || reader.words[nh + 3] !== via.words[0])
          throw new Error(`route ${i} is not in the mirror`);
      }
      for (let i = 0; i < 1000; i++) {
        const { dst, lladdr } = neighbour(i);
        if (
          reader.neigh4.find(dst.words[0]!, ifindex) !== 0x80 ||
          (reader.neigh4.mac1 & 0xffff) !== (lladdr[4]! | (lladdr[5]! << 8))
        )
          throw new Error(`neighbour ${i} is not in the mirror`);
      }
      made.mirror.close();
    } finally {
      host.close();
      far.close();
    }
  },

  async run(ctx) {
    const walk = compilePeer("nlwalk");
    const { host, far, ifindex } = world();
    const ns = host.netns.path;
    try {
      const rates = { unit: "events/s", better: "higher", peerName: "nlwalk.c" } as const;
      const routeEvents = () => {
        for (let i = 0; i < BURSTS; i++) {
          each(host, EVENTS, (m, i) => newRoute(m, route(i)));
          each(host, EVENTS, (m, i) => delRoute(m, { dst: route(i).dst }));
        }
        return BURSTS * 2 * EVENTS;
      };
      await ctx.compare({
        ...rates,
        ours: () => listen(ctx, ours("listen", ns, "route events"), routeEvents),
        peer: () => listen(ctx, [walk, "listen", "route4", ns, "route events"], routeEvents),
      });
      const neighEvents = () => {
        for (let i = 0; i < BURSTS; i++) {
          each(host, NEIGHBOURS, (m, i) => newNeigh(m, { ifindex, ...neighbour(i) }));
          each(host, NEIGHBOURS, (m, i) => delNeigh(m, { ifindex, dst: neighbour(i).dst }));
        }
        return BURSTS * 3 * NEIGHBOURS; // a permanent one's end is told twice
      };
      await ctx.compare({
        ...rates,
        ours: () => listen(ctx, ours("listen", ns, "neighbour events"), neighEvents),
        peer: () => listen(ctx, [walk, "listen", "neigh4", ns, "neighbour events"], neighEvents),
      });
      const times = { unit: "ms", better: "lower", peerName: "nlwalk.c" } as const;
      each(host, NEIGHBOURS, (m, i) => newNeigh(m, { ifindex, ...neighbour(i) }));
      for (const [name, often] of [
        ["64k neighbours", "32"],
        ["64k neighbours, a process's first", "1"],
      ] as const)
        await ctx.compare({
          ...times,
          ours: () => once(ours("dump", ns, name, often)),
          peer: () => once([walk, "neigh4", ns, name, often]),
        });
      each(host, NEIGHBOURS, (m, i) => delNeigh(m, { ifindex, dst: neighbour(i).dst }));
      each(host, ROUTES, (m, i) => newRoute(m, route(i)));
      await ctx.compare({
        ...times,
        ours: () => once(ours("dump", ns, "1M routes", "3")),
        peer: () => once([walk, "route4", ns, "1M routes", "3"]),
      });
    } finally {
      host.close();
      far.close();
    }
  },
};

if (import.meta.main) {
  const [mode, path, name, times = "1"] = process.argv.slice(2) as [string, string, string, string?];
  if (mode === "dump") dumpOurs(Netns.open(path), name, Number(times));
  else listenOurs(Netns.open(path), name);
  process.exit(0);
}
