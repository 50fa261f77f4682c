// Streams between two clients by memif through the daemon, every byte looked at; and clients that come and go.
//   NETD_FRAMES=100000000 bun test test/net/memif.stream.test.ts     NETD_CYCLES=10000 for the other one
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { LAB_LLADDR } from "../../src/lab/lab.ts";
import { MemifClient } from "../../src/link/memif/client.ts";
import { parseIPv4, parseLladdr } from "../../src/wire/address.ts";
import { udpFrame } from "../../src/wire/frame.ts";
import type { Stream } from "../link/streamer.ts";
import { SwitchRig } from "./switch.ts";
import { until } from "./wait.ts";

setDefaultTimeout(3_600_000);

const FRAMES = Number(process.env["NETD_FRAMES"] ?? 200_000);
const CYCLES = Number(process.env["NETD_CYCLES"] ?? 200);
const MAC = "02:00:00:00:99:01";
const NETS = ["10.99.1", "10.99.2"];
const LOG2 = 10;

const workers: Worker[] = [];
afterEach(() => {
  for (const worker of workers.splice(0)) worker.terminate();
});

const start = (): Promise<SwitchRig> =>
  SwitchRig.start(
    {},
    "--set",
    `memif.clients=${NETS.map((net, id) => `${id} ${net}.0/24 mac=02:00:00:00:99:0${id + 1}`).join()}`,
  );

interface Row {
  readonly client: number;
  readonly path: string;
  readonly toPackets: number;
  readonly fromPackets: number;
  readonly drops: Record<string, number>;
}

async function stream(
  rig: SwitchRig,
  window: number,
): Promise<{ shared: Int32Array; rows: () => Promise<Row[]> }> {
  const head = udpFrame({
    dstMac: parseLladdr(LAB_LLADDR)!,
    srcMac: parseLladdr(MAC)!,
    src: parseIPv4(`${NETS[0]}.1`)!,
    dst: parseIPv4(`${NETS[1]}.1`)!,
    sport: 5000,
    dport: 5001,
    payload: new Uint8Array(0),
  });
  head.set([0, 0], 40); // no UDP checksum
  const shared = new Int32Array(new SharedArrayBuffer(16));
  const server = join(rig.scratch.path, "memif.sock");
  const run = async (role: Stream["role"], id: number): Promise<void> => {
    const worker = new Worker(new URL("../link/streamer.ts", import.meta.url).href);
    workers.push(worker);
    let said = "";
    worker.onmessage = (event: MessageEvent<string>) => {
      said = event.data;
    };
    worker.postMessage({
      role,
      options: { server, id, log2: LOG2 },
      head,
      frames: FRAMES,
      window,
      shared,
    } satisfies Stream);
    await until(`the ${role}er`, () => said !== "");
    expect(said).toMatch(/ready|done/);
  };
  await run("receive", 1);
  await run("send", 0);
  return { shared, rows: () => rig.netd.ask<Row[]>("clients") };
}

const byId = (rows: readonly Row[], id: number): Row => rows.find(({ path }) => path.endsWith(`#${id}`))!;

test(`${FRAMES} frames, paced by their receiver: all of them, in order, every byte as it was`, async () => {
  await using rig = await start();
  const { shared } = await stream(rig, 2 ** (LOG2 - 1));
  await until("all frames", () => shared[1] === FRAMES, 3_000_000);
  expect([shared[0], shared[2]]).toEqual([FRAMES, 0]);
  Atomics.store(shared, 3, 1);
});

test(`${FRAMES} frames as fast as they can be sent: what does not arrive is counted`, async () => {
  await using rig = await start();
  const { shared, rows } = await stream(rig, 0);
  await until("all frames to be sent", () => shared[0] === FRAMES, 3_000_000);
  const settled = await until("the counts to add up", async () => {
    const all = await rows();
    const [sender, receiver] = [byId(all, 0), byId(all, 1)];
    const lost = receiver.drops["channel_full"] ?? 0;
    return sender.fromPackets === FRAMES && receiver.toPackets + lost === FRAMES && { lost, receiver };
  });
  await until("what was delivered to be received", () => shared[1] === settled.receiver.toPackets);
  expect(shared[2]).toBe(0);
  console.log(`${settled.lost} of ${FRAMES} found the channel full`);
  Atomics.store(shared, 3, 1);
});

test(`${CYCLES} clients come and go, half of them without a word: nothing is left`, async () => {
  await using rig = await start();
  const server = join(rig.scratch.path, "memif.sock");
  const { pid } = rig.netd.child;
  const state = () => ({
    fds: readdirSync(`/proc/${pid}/fd`).length,
    maps: readFileSync(`/proc/${pid}/maps`, "utf8")
      .split("\n")
      .filter((line) => line.includes("memfd:memif")).length,
  });
  const cycle = (n: number) => {
    using client = new MemifClient({ server, id: n % 2, log2: 4 + (n % 5), rings: 1 + (n % 2) });
    if (n % 2 === 0) client.toServer[0]!.send(0);
  };
  const gone = () => until("the client to be gone", async () => (await rig.clients()).length === 0);
  for (let n = 0; n < 4; n++) {
    cycle(n);
    await gone();
  }
  const before = state();
  for (let n = 0; n < CYCLES; n++) {
    cycle(n);
    if (n % 2 === 1) await gone();
  }
  await gone();
  await until("fds and mappings to be given back", () => Bun.deepEquals(state(), before));
});
