// One frame through the net loop, without a kernel: received from a descriptor ring (src/link/sim.ts), Ethernet, IPv4 and
// UDP checked with both checksums, matched, answered, routed (FIB, next hop, neighbour), transmitted. Ours against the
// same in C at -O3 (peers/loop.c), over the very same tables (bench/world.ts).
// Verification: every kind of frame, whole and broken, through both; every byte sent and every drop count is compared,
// and what is sent, with what it should be.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Drop, dropNames, SWITCH_REASON } from "../src/switch/drops.ts";
import { parseIPv4 } from "../src/wire/address.ts";
import { checksum } from "../src/wire/frame.ts";
import { type Bench, buildFile, compilePeer, runChild, type Sample, script } from "./harness.ts";
import { generator } from "./prefixes.ts";
import { createWorld, header, question, readFrames, type World, writeFrames } from "./world.ts";

const IN_FLIGHT = 1024; // frames that go round in a timed run
const SIZES = [64, 128, 256, 512, 1024, 1500];
const BATCHES = [1, 4, 16, 64, 256];
const MUTATIONS = 6000;

type Side = "ours" | "peer";

class Setup {
  readonly directory = mkdtempSync(join(tmpdir(), "netd-bench-loop-"));
  private readonly program: string;

  constructor() {
    const include = buildFile("loop.h", header());
    this.program = compilePeer("loop", [`-I${join(include, "..")}`], [include]);
  }

  async run(side: Side, world: World, frames: readonly Uint8Array[], ...args: string[]): Promise<Sample> {
    const file = join(this.directory, "frames");
    writeFrames(file, frames);
    const shared = [world.netbase, world.epochs, world.matches, file, ...args];
    return await runChild(
      side === "ours" ? script(join(import.meta.dir, "turns.ts"), ...shared) : [this.program, ...shared],
    );
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true });
  }
}

/** The same frames every time. */
function random(seed: number): (below: number) => number {
  const next = generator(seed);
  return (below) => (next() >>> 0) % below;
}

/** Frames that are answered: all lengths, options, priority tags, no UDP checksum, any tos, ttl and id. */
function good(): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let bytes = 42; bytes <= 1514; bytes++) frames.push(question(bytes, bytes));
  const pick = random(1);
  for (let i = 0; i < 500; i++) {
    const options = new Uint8Array(pick(11) * 4).fill(1);
    const change = { options, tos: pick(256), ttl: pick(256), id: pick(65536), fragment: pick(2) * 0x4000 };
    let frame = question(i, 60 + pick(1000), change);
    if (pick(3) === 0) frame.fill(0, 40 + options.length, 42 + options.length); // no UDP checksum
    for (let tags = pick(3); tags > 0; tags--)
      frame = Buffer.concat([
        frame.subarray(0, 12),
        Uint8Array.of(0x81, 0, pick(8) << 5, 0),
        frame.subarray(12),
      ]);
    if (pick(2)) frame = Buffer.concat([frame, new Uint8Array(pick(40))]); // padding after the IPv4 packet
    frames.push(frame);
  }
  return frames;
}

/** Frames that are dropped, by every reason that one link has. */
function bad(): Uint8Array[] {
  const frames = [
    question(1, 64).subarray(0, 41),
    question(1, 64, { dstMac: Uint8Array.of(2, 0, 0, 0, 0, 9) }),
    question(2, 64, { fragment: 0x2000 }),
    question(2, 64, { fragment: 0x0010 }),
    question(3, 64, { dport: 8 }),
    question(4, 64, { dst: parseIPv4("10.200.5.9")!, dport: 8 }),
  ];
  for (const odd of [
    "10.150.2.1",
    "10.150.6.1",
    "10.150.7.1",
    "10.150.8.1",
    "10.151.0.1",
    "10.152.0.1",
    "10.154.0.1",
    "10.155.0.1",
    "10.9.9.9",
  ])
    frames.push(question(5, 64, { src: parseIPv4(odd)! }));
  for (const bytes of [576, 590, 591, 1000])
    frames.push(question(6, bytes, { src: parseIPv4("10.153.0.1")! }));
  for (const bytes of [1515, 1600]) frames.push(question(7, bytes));
  frames.push(question(8, 64, { sport: 7 }));
  const tcp = question(9, 64);
  tcp[23] = 6;
  tcp.fill(0, 24, 26);
  new DataView(tcp.buffer).setUint16(24, checksum(tcp, 14, 20));
  frames.push(tcp);
  return frames;
}

/** Whole frames with up to three bytes changed, some of them cut: whatever comes of it. */
function mutated(): Uint8Array[] {
  const pick = random(7);
  return Array.from({ length: MUTATIONS }, (_, i) => {
    const frame = question(i, 42 + pick(120), { options: new Uint8Array(pick(4) ? 0 : pick(11) * 4) });
    for (let changes = pick(4); changes > 0; changes--) frame[pick(pick(2) ? 54 : frame.length)] = pick(256);
    return pick(5) ? frame : frame.subarray(0, pick(frame.length + 1));
  });
}

/** What the answer to a good question is, worked out without any of the code under test: RFC 862. */
function answerTo(frame: Uint8Array): Uint8Array {
  let at = 12;
  while (frame[at] === 0x81) at += 4;
  const ip = frame.subarray(at + 2);
  const headerBytes = (ip[0]! & 15) * 4;
  const udp = ip.subarray(headerBytes, (ip[2]! << 8) | ip[3]!);
  const flow = ip[14]!;
  return question(flow, 42 + udp.length - 8, {
    dstMac: Uint8Array.of(2, 0, 0x5e, 0x10, 0x20, 2 + (flow % 16)),
    srcMac: Uint8Array.of(2, 0, 0, 0, 0, 1),
    src: parseIPv4([...ip.subarray(16, 20)].join("."))!,
    dst: parseIPv4([...ip.subarray(12, 16)].join("."))!,
    sport: (udp[2]! << 8) | udp[3]!,
    dport: (udp[0]! << 8) | udp[1]!,
    payload: udp.subarray(8),
    fragment: 0x4000,
  });
}

async function verify(): Promise<void> {
  using setup = new Setup();
  const world = createWorld(false);
  const whole = good();
  const frames = [...whole, ...bad(), ...mutated()];
  const result = async (side: Side) => {
    const out = join(setup.directory, side);
    writeFileSync(out, "");
    const counts = await setup.run(side, world, frames, "check", out);
    return { counts, sent: readFrames(readFileSync(out)) };
  };
  const ours = await result("ours");
  const peer = await result("peer");
  if (!Bun.deepEquals(ours.counts, peer.counts))
    throw new Error(
      `counts by reason: ours ${JSON.stringify(ours.counts)}, C ${JSON.stringify(peer.counts)}`,
    );
  const hex = (bytes: Uint8Array | undefined) => (bytes ? Buffer.from(bytes).toString("hex") : "nothing");
  ours.sent.forEach((frame, i) => {
    if (hex(frame) !== hex(peer.sent[i]))
      throw new Error(`frame ${i}: ours ${hex(frame)}\nC ${hex(peer.sent[i])}`);
  });
  whole.forEach((frame, i) => {
    const wanted = hex(answerTo(frame));
    if (hex(ours.sent[i]) !== wanted) throw new Error(`answer ${i}: ${hex(ours.sent[i])}\nnot ${wanted}`);
  });
  const total = Object.values(ours.counts).reduce((sum, count) => sum + count, 0);
  if (total !== frames.length) throw new Error(`${frames.length} frames in, ${total} accounted for`);
  // link_down and tx_full are states of the link; what they do is tested in test/switch, as is the switch.
  const never = dropNames
    .slice(0, Drop[SWITCH_REASON])
    .filter((_, reason) => !(reason in ours.counts) && reason !== Drop.link_down && reason !== Drop.tx_full);
  if (never.length > 0) throw new Error(`no frame was dropped as ${never.join(", ")}`);
}

export const bench: Bench = {
  name: "loop",
  about:
    "one frame received, checked, answered, routed and sent, in memory; goal: 64 bytes under 40 ns, 0.8 of C",
  verify,
  async run(ctx) {
    using setup = new Setup();
    const world = createWorld(true);
    const seconds = String(ctx.seconds ?? 0.3);
    const frames = (sizes: readonly number[]) =>
      Array.from({ length: IN_FLIGHT }, (_, i) => question(i, sizes[i % sizes.length]!));
    const measure = async (name: string, sizes: readonly number[], batch: number) => {
      const side = (which: Side) => async () => {
        const sample = await setup.run(which, world, frames(sizes), "time", seconds, String(batch));
        return { [name]: sample["ns"]! };
      };
      const comparison = { unit: "ns/frame", better: "lower", peerName: "C -O3", rounds: 5 } as const;
      await ctx.compare({ ...comparison, ours: side("ours"), peer: side("peer") });
      const { ours, peer } = ctx.results.at(-1)!;
      ctx.note(`${name}: ${(1000 / ours).toFixed(1)} Mpps, C ${(1000 / peer).toFixed(1)} Mpps`);
    };
    for (const bytes of SIZES) await measure(`${bytes} bytes, batch 64`, [bytes], 64);
    for (const batch of BATCHES) if (batch !== 64) await measure(`64 bytes, batch ${batch}`, [64], batch);
    const imix = [64, 64, 64, 64, 64, 64, 64, 576, 576, 576, 576, 1500];
    await measure("IMIX, batch 64", imix, 64);
  },
};
