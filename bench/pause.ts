// The longest pause of the net loop, in 10 s, against an empty spin in C on the same core: what is ours of it, and what
// the machine's. Both read the clock all the time and keep the longest time between two readings.
//
// Our side is a process as netd is one: the loop (bench/world.ts, over a sim link) in a Worker that is pinned, the main
// thread keeping all other threads off its core (src/repin.ts). Batches of 4, so that a whole round, 64 turns and what a
// net Worker does between them, takes some 15 us: shorter pauses cannot be told from work.
// On a machine that others use too, the second case is the one to look at: the time in which another thread had the core
// (run delay in /proc/thread-self/schedstat) is taken off each pause, for both sides.
import { keepClear, pinSelf } from "../src/repin.ts";
import { SimLink } from "../src/link/sim.ts";
import { type Bench, compilePeer, cores, runChild, script } from "./harness.ts";
import { Pauses } from "./pauses.ts";
import { createWorld, question, Runner, type World } from "./world.ts";

declare const self: Worker;

const BATCH = 4;
const IN_FLIGHT = 1024;
const WARM_UP_NS = 3e9;

interface Boot {
  readonly world: World;
  readonly core: number;
  readonly seconds: number;
  /** stands still once for so long, to prove that it would be seen; 0 for a real run */
  readonly stallNs: number;
}

interface Measured {
  /** microseconds */
  readonly longest: number;
  /** the same without the time in which another thread had the core */
  readonly running: number;
  readonly frames: number;
  readonly drops: number;
}

function measure(boot: Boot): Measured {
  if (!pinSelf(boot.core)) throw new Error(`cannot pin to core ${boot.core}`);
  const link = new SimLink(IN_FLIGHT, 2048, true);
  for (let i = 0; i < IN_FLIGHT; i++) link.inject(question(i, 64));
  const runner = new Runner(boot.world, link, BATCH);
  for (const end = Bun.nanoseconds() + WARM_UP_NS; Bun.nanoseconds() < end; ) runner.turns();
  const pauses = new Pauses();
  const begin = Bun.nanoseconds();
  while (Bun.nanoseconds() < begin + boot.stallNs);
  do runner.turns();
  while (pauses.turn() < begin + boot.seconds * 1e9);
  const { rxPackets, txPackets } = runner.counters.snapshot();
  return {
    longest: pauses.longest / 1000,
    running: pauses.running / 1000,
    frames: rxPackets!,
    drops: rxPackets! - txPackets!,
  };
}

/** The child process of our side: prints what its Worker measured. */
function main(core: number, seconds: number, stallNs: number): void {
  const worker = new Worker(import.meta.url);
  const clear = keepClear([core]);
  worker.onmessage = ({ data }: MessageEvent<Measured>) => {
    clear.stop();
    for (const [name, value] of Object.entries(data)) console.log(JSON.stringify({ case: name, value }));
    process.exit(0);
  };
  worker.onerror = (event) => {
    console.error(event.message);
    process.exit(1);
  };
  worker.postMessage({ world: createWorld(true), core, seconds, stallNs } satisfies Boot);
}

const ours = (seconds: number, stallNs = 0) => {
  const args = [String(cores.measured), String(seconds), String(stallNs)];
  return runChild(script(import.meta.path, ...args), { core: -1 });
};

export const bench: Bench = {
  name: "pause",
  about:
    "the longest pause of the pinned net loop in 10 s; goal: none over 1 ms that the machine did not cause",
  async verify() {
    const { longest, frames, drops } = await ours(0.5, 20e6);
    if (!(frames! > 100_000) || drops !== 0) throw new Error(`${frames} frames, ${drops} dropped`);
    if (!(longest! >= 20_000)) throw new Error(`a pause of 20 ms was seen as ${longest} us`);
  },
  async run(ctx) {
    const seconds = ctx.seconds ?? 10;
    const spin = compilePeer("spin");
    await ctx.compare({
      unit: "us",
      better: "lower",
      peerName: "C, empty spin",
      rounds: 3,
      ours: async () => {
        const { longest, running } = await ours(seconds);
        return { "longest pause": longest!, "longest pause while on the core": running! };
      },
      peer: () => runChild([spin, String(seconds)]),
    });
  },
};

if (!Bun.isMainThread) self.onmessage = (event: MessageEvent<Boot>) => postMessage(measure(event.data));
else if (import.meta.main) {
  const [core, seconds, stallNs] = Bun.argv.slice(2).map(Number);
  main(core!, seconds!, stallNs!);
}
