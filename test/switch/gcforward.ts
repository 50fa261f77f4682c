// Child of gc.test.ts: the pass over frames by memif, to the wire and to another client by memif, until FRAMES went through it; then frames that are objects, so that the test sees that collections would be
// logged. The test's own side allocates nothing either.
//   bun test/switch/gcforward.ts FRAMES
import { writeSync } from "node:fs";
import { Counters } from "../../src/mem/counters.ts";
import { PortWriter } from "../../src/link/memif/port.ts";
import { OwnRing } from "../../src/lab/ownring.ts";
import { LOOP_COUNTERS } from "../../src/switch/loop.ts";
import { parseIPv4, parseLladdr } from "../../src/wire/address.ts";
import { udpFrame } from "../../src/wire/frame.ts";
import { CARD, UDP } from "./packets.ts";
import { type TestClient, World } from "./world.ts";

const STDERR = 2;
const WARM_UP = 400_000;
const LOG2 = 8;
const MAC = "02:00:00:00:00:05";
const SPAN = Math.ceil(OwnRing.bytes(LOG2) / 4096) * 4096;
const counters = new Counters<string>(LOOP_COUNTERS, new ArrayBuffer(Counters.bytes(LOOP_COUNTERS)), 0);
const world = new World({ room: 2 * SPAN });
const { sim } = world;
const { link } = sim;
const ports = new PortWriter(world.ports);
const [sender, receiver] = [0, 1].map((n) => {
  const row = { fd: -1, mac: parseLladdr(MAC)!, mtu: 1500, flags: 0, home: 0, ratePps: 0 };
  const slot = world.table.addClient({ ...row, pid: 1, uid: 0, gid: 0 });
  const ring = new OwnRing(link.memory, link.place.from + n * SPAN, LOG2, slot);
  ring.attach(ports);
  world.match({ slot } as TestClient, UDP, `10.99.0.${n + 1}`);
  return ring;
}) as [OwnRing, OwnRing];
for (let i = 0; i < sender.size; i++)
  sender.put(
    i,
    udpFrame({
      ...{ dstMac: parseLladdr(CARD)!, srcMac: parseLladdr(MAC)!, sport: 5000, dport: i },
      src: parseIPv4("10.99.0.1")!,
      dst: parseIPv4(i % 4 === 0 ? "10.99.0.2" : "10.77.0.2")!,
      payload: new Uint8Array(22),
    }),
  );
const off = new Int32Array(64);
const len = new Int32Array(64);

function run(frames: number): void {
  for (let done = 0; done < frames; ) {
    sender.refill();
    for (let n = sender.size; n > 0; ) {
      const taken = sim.loop.turn() + world.switch.turn();
      n -= taken;
      done += taken;
      for (let k = link.tx.take(off, len, 64); k > 0; ) link.recycle(off[--k]!);
      receiver.drain();
      sim.netbase.quiesce();
    }
    world.tick(1);
    sim.loop.publish(counters);
  }
}

run(WARM_UP);
Bun.gc(true);
writeSync(STDERR, "\nBEGIN\n");
run(Number(Bun.argv[2]));
writeSync(STDERR, "\nEND\n");
const { toClients, txPackets, channel_full: full } = counters.snapshot();
if (!toClients || !txPackets || full)
  throw new Error(`${toClients} to clients, ${txPackets} sent, ${full} lost`);
let kept: object[] = [];
for (let i = 0; i < 1_000_000; i++) {
  kept.push({ i });
  if (kept.length > 1000) kept = [];
}
