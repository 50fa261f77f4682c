// Child of gc.test.ts: the net loop over frames that are answered, by the usual way and the unusual one, until FRAMES went
// through it; then frames that are objects, so that the test sees that collections would be logged.
//   bun test/switch/gcloop.ts FRAMES
import { writeSync } from "node:fs";
import { CARD_LLADDR, SimLoop } from "../../src/lab/simloop.ts";
import { Counters } from "../../src/mem/counters.ts";
import { LOOP_COUNTERS } from "../../src/switch/loop.ts";
import { parseIPv4, parseLladdr } from "../../src/wire/address.ts";
import { udpFrame } from "../../src/wire/frame.ts";

const STDERR = 2;
const WARM_UP = 4_000_000; // frames until the last compile
const counters = new Counters<string>(LOOP_COUNTERS, new ArrayBuffer(Counters.bytes(LOOP_COUNTERS)), 0);
const mac = parseLladdr(CARD_LLADDR)!;
const sim = new SimLoop({ frames: 256, hairpin: true });
sim.serve("10.77.0.1", 7);
sim.serve("10.77.0.2", 8);
sim.route("10.77.0.0/24");
sim.neigh("10.77.0.1", CARD_LLADDR);
sim.neigh("10.77.0.2", CARD_LLADDR, 4); // STALE: every other answer goes the unusual way
for (let i = 0; i < 128; i++) {
  const [src, dst] = [parseIPv4("10.77.0.2")!, parseIPv4("10.77.0.1")!];
  const payload = new Uint8Array(i % 8 ? 22 : i);
  sim.link.inject(udpFrame({ dstMac: mac, srcMac: mac, src, dst, sport: 8, dport: 7, payload }));
}

function run(frames: number): void {
  for (let done = 0; done < frames; ) {
    for (let i = 0; i < 1024; i++) {
      done += sim.loop.turn();
      sim.netbase.quiesce();
    }
    sim.transmit.refresh();
    sim.loop.publish(counters);
  }
}

run(WARM_UP);
Bun.gc(true);
writeSync(STDERR, "\nBEGIN\n");
run(Number(Bun.argv[2]));
writeSync(STDERR, "\nEND\n");
const { rxPackets, txPackets } = counters.snapshot();
if (rxPackets !== txPackets) throw new Error(`${rxPackets} frames in, ${txPackets} out`);
let kept: object[] = [];
for (let i = 0; i < 1_000_000; i++) {
  kept.push({ i });
  if (kept.length > 1000) kept = [];
}
