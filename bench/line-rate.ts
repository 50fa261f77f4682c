// One core's frames a second through all of it: received by memif, parsed, matched, held against spoofing, routed (FIB, next hop,
// neighbour), rewritten, copied, sent. Three ways, each beside its peer in the same run:
//
//   alone       the path without a generator (forwarding.ts), against the same in C at -O3 over the same tables (peers/forward.c)
//   generated   dpdk-testpmd on the other core as client by memif; what is sent is taken by a card that is memory
//   back        testpmd sends by one port what comes back by the other, against a testpmd that forwards in the daemon's place
//
// Verification: what ours sends is what C sends, byte by byte; frames of a real testpmd arrive as they were sent.
import { existsSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { layout as netbaseLayout, defaultCapacity } from "../src/netbase/layout.ts";
import * as netbaseOffsets from "../src/netbase/layout.ts";
import * as tableOffsets from "../src/switch/table/layout.ts";
import { layout as tableLayout } from "../src/switch/table/layout.ts";
import { parseLladdr } from "../src/wire/address.ts";
import type { Options } from "./forwarding.ts";
import {
  type Bench,
  buildFile,
  compilePeer,
  type Context,
  cores,
  runChild,
  type Sample,
  script,
} from "./harness.ts";
import {
  CAPACITY,
  CARD_MAC,
  CLIENT_MAC,
  createRouted,
  IFINDEX,
  type Routed,
  routedFrames,
  type RoutedOptions,
} from "./routed.ts";
import { Testpmd } from "../test/peers/testpmd.ts";
import { plot, type Point, shares } from "./plot.ts";
import { writeFrames } from "./world.ts";

const child = join(import.meta.dir, "forwarding.ts");
const build = join(import.meta.dir, "..", "build");

/** A case: what the world has, and what comes. */
interface Case extends RoutedOptions, Pick<Options, "bytes" | "flows" | "log2" | "senders"> {}

export const BASE: Case = {
  routes: 100_000,
  neighbours: 1000,
  matches: 0,
  clients: 1,
  bytes: 64,
  flows: 256,
  log2: 11,
};

const CASES: readonly (readonly [string, Partial<Case>])[] = [
  ["64 bytes", {}],
  ...[128, 256, 512, 1024, 1500].map((bytes) => [`${bytes} bytes`, { bytes }] as const),
  ["one flow", { flows: 1 }],
  ["10,000 flows", { flows: 10_000 }],
  ["1M flows", { flows: 1_000_000, log2: 14 }],
  [
    "1M flows, and a connection of another client's",
    { flows: 1_000_000, log2: 14, clients: 2, connections: 1 },
  ],
  ["1 route", { routes: 1 }],
  ["1M routes, 1M flows", { routes: 1_000_000, flows: 1_000_000, log2: 14 }],
  ["1M routes", { routes: 1_000_000 }],
  ["10 matches", { matches: 10 }],
  ["100,000 matches of 64 clients", { matches: 100_000, clients: 64 }],
  ["64 clients send", { clients: 64, senders: 64, log2: 8 }],
];

const GENERATED: readonly (readonly [string, Partial<Case>])[] = [
  ["64 bytes, one flow", { flows: 1 }],
  ...[64, 128, 256, 512, 1024, 1500].map((bytes) => [`${bytes} bytes`, { bytes }] as const),
  ["10,000 flows", { flows: 10_000 }],
  ["1M flows", { flows: 1_000_000 }],
  ["1 route", { routes: 1 }],
  ["1M routes", { routes: 1_000_000 }],
];
const WARM_UP_MS = 1500;

function words(text: string): [number, number] {
  const bytes = new Uint8Array(8);
  bytes.set(parseLladdr(text)!);
  const [a, b] = new Uint32Array(bytes.buffer);
  return [a!, b!];
}

function compile(): string {
  const numbers: Record<string, unknown> = { ...netbaseOffsets, ...tableOffsets, IFINDEX };
  for (const [name, value] of Object.entries(netbaseLayout(defaultCapacity))) numbers[`L_${name}`] = value;
  for (const [name, value] of Object.entries(tableLayout(CAPACITY).four)) numbers[`L_four_${name}`] = value;
  [numbers["CARD0"], numbers["CARD1"]] = words(CARD_MAC);
  [numbers["MAC0"], numbers["MAC1"]] = words(CLIENT_MAC);
  const lines = Object.entries(numbers).filter(([, value]) => typeof value === "number");
  const text = `// Made by bench/line-rate.ts.\n${lines.map(([name, value]) => `#define ${name} ${value}`).join("\n")}\n`;
  const include = buildFile("forward.h", text);
  return compilePeer("forward", [`-I${build}`], [include]);
}

export class Setup {
  readonly peer = compile();
  private readonly worlds = new Map<string, Routed>();

  world({ routes, neighbours, matches, clients, connections = 0, back = false }: Case): Routed {
    const options = { routes, neighbours, matches, clients, connections, back };
    return this.worlds.getOrInsertComputed(JSON.stringify(options), () => createRouted(options));
  }

  ours(mode: "alone" | "pause" | "check", one: Case, seconds: number): Promise<Sample> {
    return runChild(script(child, mode, JSON.stringify({ ...one, ...this.world(one), seconds })));
  }

  c(mode: "time" | "check", one: Case, seconds: number): Promise<Sample> {
    const { netbase, table } = this.world(one);
    const frames = join(build, "forward.frames");
    writeFrames(frames, routedFrames(2 ** one.log2, one.flows, one.bytes));
    return runChild([this.peer, netbase, table, frames, String(one.log2), mode, String(seconds)]);
  }

  /** Ours with testpmd as its client: millions of frames a second that were received, sent, and sent back. */
  async generated(mode: "memif" | "drop", one: Case, seconds: number): Promise<Sample> {
    const socket = join(build, `line-rate-${process.pid}.sock`);
    const options: Options = { ...one, ...this.world(one), seconds, socket };
    const ours = runChild(script(child, mode, JSON.stringify(options)));
    await untilThere(socket);
    await using _ = generator(socket, one);
    return await ours.finally(() => unlinkSync(socket));
  }

  /** The same of a testpmd in the daemon's place. */
  async testpmd(mode: "rxonly" | "macswap", one: Case, seconds: number): Promise<number> {
    const socket = join(build, `line-rate-${process.pid}.sock`);
    await using server = new Testpmd({
      ...{ ports: [{ path: socket, id: 0 }], mode, role: "server", core: cores.measured, log2: one.log2 },
    });
    await untilThere(socket);
    await using _ = generator(socket, one);
    const name = mode === "rxonly" ? "RX-packets" : "TX-packets";
    await Bun.sleep(WARM_UP_MS);
    const before = await nextCount(server, name);
    await Bun.sleep(seconds * 1000);
    const after = await nextCount(server, name);
    unlinkSync(socket);
    return (after.count - before.count) / ((after.at - before.at) / 1000) / 1e6;
  }
}

/** testpmd on the other core, as client 0. */
const generator = (path: string, { log2, bytes, flows }: Case): Testpmd =>
  new Testpmd({
    ...{ ports: [{ path, id: 0, mac: CLIENT_MAC }], log2, core: cores.other },
    ...(flows === 1
      ? {
          mode: "txonly",
          more: [`--eth-peer=0,${CARD_MAC}`, "--tx-ip=10.254.0.0,10.253.0.1", `--txpkts=${bytes}`],
        }
      : { mode: "flowgen", more: [`--flowgen-flows=${flows}`, `--txpkts=${bytes}`] }),
  });

async function untilThere(path: string): Promise<void> {
  for (let i = 0; !existsSync(path); i++) {
    if (i > 1000) throw new Error(`nobody made ${path}`);
    await Bun.sleep(10);
  }
}

/** testpmd's next count as it prints it, once a second, and when that was. */
async function nextCount(testpmd: Testpmd, name: string): Promise<{ count: number; at: number }> {
  const { length } = testpmd.output;
  for (let i = 0; i < 500; i++) {
    await Bun.sleep(10);
    const at = performance.now();
    if (/NIC statistics[\s\S]*Tx-pps/.test(testpmd.output.slice(length)))
      return { count: testpmd.count(name) ?? 0, at };
  }
  throw new Error(`testpmd says nothing: ${testpmd.output.slice(-500)}`);
}

async function verify(ctx: Context): Promise<void> {
  const setup = new Setup();
  for (const bytes of [60, 64, 65, 128, 301, 1514]) {
    const one = { ...BASE, routes: 1000, bytes, flows: 10_000 };
    const [ours, theirs] = [await setup.ours("check", one, 0), await setup.c("check", one, 0)];
    if (ours["sent"] !== 2 ** one.log2 || ours["sum"] !== theirs["sum"] || ours["sent"] !== theirs["sent"])
      throw new Error(`${bytes} bytes: ours sent ${JSON.stringify(ours)}, C ${JSON.stringify(theirs)}`);
  }
  ctx.note("what ours sends is what C sends");
}

/** What testpmd makes, and what becomes of it. */
async function generated(ctx: Context, setup: Setup, seconds: number): Promise<void> {
  const points: Point[] = [];
  // A line that both write goes from core to core three times as fast at some times as at others, for all alike.
  const rate = { unit: "Mpps", better: "higher", rounds: 4, best: true } as const;
  await ctx.compare({
    ...{ ...rate, peerName: "testpmd rxonly" },
    ours: async () => ({
      "received and dropped": (await setup.generated("drop", BASE, seconds))["received"]!,
    }),
    peer: async () => ({ "received and dropped": await setup.testpmd("rxonly", BASE, seconds) }),
  });
  for (const [name, change] of GENERATED) {
    const one = { ...BASE, ...change };
    const label = `routed, ${name}`;
    await ctx.compare({
      ...{ ...rate, peerName: "testpmd rxonly" },
      ours: async () => ({ [label]: (await setup.generated("memif", one, seconds))["sent"]! }),
      peer: async () => ({ [label]: await setup.testpmd("rxonly", one, seconds) }),
    });
    const { ours, peer } = ctx.results.at(-1)!;
    points.push({ name, bytes: one.bytes, ours, peer });
  }
  const back = { ...BASE, back: true };
  await ctx.compare({
    ...{ ...rate, peerName: "testpmd macswap" },
    ours: async () => ({ "there and back": (await setup.generated("memif", back, seconds))["back"]! }),
    peer: async () => ({ "there and back": await setup.testpmd("macswap", back, seconds) }),
  });
  for (const { name, bytes, ours } of points) ctx.note(shares(name, bytes, ours));
  ctx.note(`plot: ${buildFile("line-rate.svg", plot(points))}`);
}

export const bench: Bench = {
  name: "line-rate",
  about: "frames of clients by memif, routed and sent, one core; goals: 37.2 Mpps at 64 bytes, 0.85 of C",
  verify,
  async run(ctx) {
    const setup = new Setup();
    const seconds = ctx.seconds ?? 0.5;
    for (const [name, change] of CASES) {
      const one = { ...BASE, ...change };
      await ctx.compare({
        unit: "ns/frame",
        better: "lower",
        peerName: "C -O3",
        ours: async () => ({ [`alone, ${name}`]: (await setup.ours("alone", one, seconds))["ns"]! }),
        peer: async () => ({ [`alone, ${name}`]: (await setup.c("time", one, seconds))["ns"]! }),
      });
    }
    await ctx.compare({
      ...{ unit: "us", better: "lower", peerName: "C, empty spin" },
      ours: async () => ({ "longest pause on the core": (await setup.ours("pause", BASE, 10))["pause"]! }),
      peer: async () => {
        const { "longest pause while on the core": pause } = await runChild([compilePeer("spin"), "10"]);
        return { "longest pause on the core": pause! };
      },
    });
    await generated(ctx, setup, Math.max(seconds, 1));
  },
};
