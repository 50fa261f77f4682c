// Our side of bench/loop.ts, run as a child: the net loop over a sim link. The same arguments and output as peers/loop.c.
//   bun bench/turns.ts NETBASE EPOCHS MATCHES FRAMES time SECONDS BATCH
//   bun bench/turns.ts NETBASE EPOCHS MATCHES FRAMES check OUT
import { readFileSync } from "node:fs";
import { SimLink } from "../src/link/sim.ts";
import { Drop, dropNames } from "../src/switch/drops.ts";
import { Runner, readFrames, type World, writeFrames } from "./world.ts";

const SLICE = 16384;
const WARM_UP_MS = 500; // until the last compile

const powerOfTwo = (n: number): number => 2 ** Math.ceil(Math.log2(n));

function time(world: World, frames: readonly Uint8Array[], seconds: number, batch: number): void {
  const link = new SimLink(powerOfTwo(frames.length), 2048, true);
  for (const frame of frames) link.inject(frame);
  const runner = new Runner(world, link, batch);
  for (const end = Bun.nanoseconds() + WARM_UP_MS * 1e6; Bun.nanoseconds() < end; ) runner.turns();
  const slices: number[] = [];
  const end = Bun.nanoseconds() + seconds * 1e9;
  for (let last = Bun.nanoseconds(); last < end; ) {
    let done = 0;
    while (done < SLICE) done += runner.turns();
    const now = Bun.nanoseconds();
    slices.push((now - last) / done);
    last = now;
  }
  const { rxPackets, txPackets } = runner.counters.snapshot();
  if (rxPackets !== txPackets) throw new Error("frames were dropped");
  console.log(
    JSON.stringify({ case: "ns", value: slices.sort((a, b) => a - b)[Math.floor(slices.length / 10)] }),
  );
}

function verify(world: World, frames: readonly Uint8Array[], out: string): void {
  const link = new SimLink(powerOfTwo(frames.length));
  for (const frame of frames) link.inject(frame);
  const runner = new Runner(world, link, 64);
  for (let received = 0; received < frames.length; ) received += runner.turns();
  writeFrames(out, link.sent());
  const { txPackets, ...counts } = runner.counters.snapshot();
  console.log(JSON.stringify({ case: String(Drop.sent), value: txPackets }));
  dropNames.forEach((name, reason) => {
    const count = reason > 0 ? counts[name]! : 0;
    if (count > 0) console.log(JSON.stringify({ case: String(reason), value: count }));
  });
}

const [netbase = "", epochs = "", matches = "", file = "", mode, arg = "", batch] = Bun.argv.slice(2);
const frames = readFrames(readFileSync(file));
if (mode === "time") time({ netbase, epochs, matches }, frames, Number(arg), Number(batch));
else verify({ netbase, epochs, matches }, frames, arg);
