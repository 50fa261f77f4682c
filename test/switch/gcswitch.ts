// Child of gc.test.ts: the switch over frames from the wire to a client, from that client to the wire, to another client
// under the alias and to the kernel and back, all of it judged by filters and rules and acknowledged, until FRAMES went through it; then frames that are objects, so that the test
// sees that collections would be logged. The test's own side allocates nothing either.
//   bun test/switch/gcswitch.ts FRAMES
import { writeSync } from "node:fs";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { Counters } from "../../src/mem/counters.ts";
import { LOOP_COUNTERS } from "../../src/switch/loop.ts";
import * as f from "./packets.ts";
import { ALIAS4, World } from "./world.ts";

const STDERR = 2;
const MSG_DONTWAIT = 0x40;
const WARM_UP = 400_000;
const counters = new Counters<string>(LOOP_COUNTERS, new ArrayBuffer(Counters.bytes(LOOP_COUNTERS)), 0);
const RULES = ["allow out established udp", "allow out ip or ip6", "allow in established", "allow in udp"];
const world = new World({ rules: RULES });
const { sim } = world;
const a = world.attach();
const b = world.attach();
world.match(a, f.UDP, f.US, 5000);
world.match(a, f.UDP, f.US6, 5000);
const entry = world.match(a, f.UDP, f.US, 9);
world.filter(a, "receive", "udp port 5000 or port 9");
world.filter(a, "receive", "udp src port 4000", entry);
world.filter(a, "transmit", "udp src port 5000 or udp src port 80");
const acks = world.acknowledge(a);
world.match(b, f.UDP, f.US, 80);
const mac = { srcMac: f.CARD, dstMac: f.PEER };
const inward = [f.udpPacket(), f.udpPacket({ src: f.THEM6, dst: f.US6 }), f.udpPacket({ dport: 9 })];
const outward = [
  f.udpPacket({ src: f.US, sport: 5000, dst: f.THEM, dport: 9, ...mac }),
  f.udpPacket({ src: f.US, sport: 5000, dst: ALIAS4, dport: 80, ...mac }),
  f.udpPacket({ src: f.US, sport: 5000, dst: ALIAS4, dport: 81, ...mac }),
  f.udpPacket({ src: f.US, sport: 80, dst: f.THEM, dport: 5, srcMac: f.PEER }),
  f.arp(),
].map((frame) => {
  const bytes = new Uint8Array(new ArrayBuffer(frame.length));
  bytes.set(frame);
  return bytes;
});
const sink = new Uint8Array(new ArrayBuffer(4096));
const off = new Int32Array(1);
const len = new Int32Array(1);
const { link } = sim;

const drain = (fd: number): void => {
  while (Number(libc.recvfrom(fd, ptr(sink), sink.length, MSG_DONTWAIT, null, null)) > 0);
};

function run(frames: number): void {
  for (let done = 0; done < frames; ) {
    for (let i = 0; i < 16; i++) {
      for (const frame of inward) {
        const base = link.take();
        link.bytes.set(frame, base + 2);
        off[0] = base + 2;
        len[0] = frame.length;
        link.rx.put(off, len, 1);
      }
      for (const frame of outward) libc.sendto(a.fd, ptr(frame), frame.length, MSG_DONTWAIT, null, 0);
      done += sim.loop.turn() + world.switch.turn();
      while (link.tx.take(off, len, 1) === 1) link.recycle(off[0]!);
    }
    drain(a.fd);
    drain(acks.fd);
    drain(b.fd);
    drain(world.tap.fd);
    world.claims.serve();
    world.tick(1);
    sim.netbase.quiesce();
    sim.loop.publish(counters);
  }
}

run(WARM_UP);
Bun.gc(true);
writeSync(STDERR, "\nBEGIN\n");
run(Number(Bun.argv[2]));
writeSync(STDERR, "\nEND\n");
const { toClients, toKernel, txPackets } = counters.snapshot();
if (!toClients || !toKernel || !txPackets)
  throw new Error(`${toClients} to clients, ${toKernel}, ${txPackets}`);
let kept: object[] = [];
for (let i = 0; i < 1_000_000; i++) {
  kept.push({ i });
  if (kept.length > 1000) kept = [];
}
