// forward.ts is outbound.ts and route.ts for the usual frame: both are given the same frames, of all kinds, and must send the
// same ones, in the same order within a flow, and count the same.
import { expect, setDefaultTimeout, test } from "bun:test";
import { OwnRing } from "../../src/lab/ownring.ts";
import { parseIPv4, parseLladdr } from "../../src/wire/address.ts";
import { checksum, udpFrame } from "../../src/wire/frame.ts";
import { Random } from "../random.ts";
import { World } from "./world.ts";

setDefaultTimeout(120_000); // a loaded machine; nothing here is timed

const seed = Number(process.env["NETD_SEED"] ?? (Math.random() * 2 ** 31) | 0);
console.log(`forward: NETD_SEED=${seed}`);
const LOG2 = 9;
const CARD = "02:00:00:00:00:01";
const MAC = "02:00:00:00:00:05";
const NOT_FAST = 1 << 30; // a flag that says nothing but that there is one

const SOURCES = ["10.99.0.1", "10.99.0.2", "10.99.9.9", "10.77.0.1", "10.88.0.1", "192.0.0.8", "224.0.0.1"];
const TARGETS = [
  ...["10.77.0.2", "10.200.0.1", "10.201.0.1", "10.202.0.1", "10.203.0.1", "10.204.0.1", "10.205.0.1"],
  ...["10.77.0.3", "10.77.0.1", "10.99.0.1", "10.98.0.1", "10.250.0.1", "192.0.0.8", "224.0.0.251"],
  ...["255.255.255.255", "127.0.0.1", "10.206.0.9"],
];

class Side {
  readonly world = new World({ room: OwnRing.bytes(LOG2) + 4096 });
  readonly ring: OwnRing;
  readonly slot: number;

  constructor(fast: boolean) {
    const { world } = this;
    const { sim } = world;
    sim.route("10.200.0.0/16", "10.77.0.2");
    sim.route("10.201.0.0/16", "10.77.0.2", { mtu: 576 });
    sim.route("10.202.0.0/16", undefined, { type: 6 }); // blackhole
    sim.route("10.203.0.0/16", undefined, { type: 7 }); // unreachable
    sim.route("10.204.0.0/16", "10.77.0.4"); // nobody answers there
    sim.route("10.205.0.0/16", "10.77.0.5");
    sim.route("10.206.0.0/24", "10.77.0.2", { oif: 9 });
    sim.neigh("10.77.0.5", "02:00:00:00:00:55", 0x04); // stale
    this.slot = world.table.addClient({
      ...{ fd: -1, mac: parseLladdr(MAC)!, mtu: 1500, flags: fast ? 0 : NOT_FAST, home: 0, ratePps: 0 },
      ...{ pid: 1, uid: 0, gid: 0 },
    });
    const client = { slot: this.slot } as Parameters<World["match"]>[0];
    for (const protocol of [6, 17])
      for (const address of ["10.99.0.1", "10.99.0.2"]) world.match(client, protocol, address);
    world.match(client, 17, "10.77.0.1", 5000);
    const other = world.attach();
    world.match(other, 17, "10.98.0.1");
    const { memory } = sim.link;
    const at = Math.ceil((memory.buffer.byteLength - OwnRing.bytes(LOG2) - 4096) / 4096) * 4096;
    this.ring = new OwnRing(memory, at, LOG2, this.slot);
    this.ring.attach(world.ports);
  }

  counts(): Record<string, number> {
    return {
      ...this.world.sim.counts(),
      ...Object.fromEntries(this.world.own.accounts.read(this.slot).entries()),
    };
  }
}

function frame(random: Random, n: number): Uint8Array {
  const usual = random.chance(70);
  const length = random.pick([42, 46, 60, 64, 100, 257, 600, 1514]);
  const made = udpFrame({
    dstMac: parseLladdr(
      usual || random.chance(80) ? CARD : random.pick([MAC, "02:00:00:00:00:02", "01:00:5e:00:00:fb"]),
    )!,
    srcMac: parseLladdr(usual || random.chance(80) ? MAC : CARD)!,
    src: parseIPv4(usual ? random.pick(SOURCES.slice(0, 2)) : random.pick(SOURCES))!,
    dst: parseIPv4(usual ? random.pick(TARGETS.slice(0, 2)) : random.pick(TARGETS))!,
    sport: random.pick([5000, 5001]),
    dport: random.pick([53, 80]),
    ttl: usual ? 64 : random.pick([0, 1, 2, 64, 255]),
    tos: random.pick([0, 0, 0x10, 0xff]),
    id: n & 0xffff,
    fragment: usual ? 0x4000 : random.pick([0, 0x4000, 0x8000, 0x2000, 0x00b9]),
    ...(!usual && random.chance(20) && length > 60 && { options: new Uint8Array(4).fill(1) }),
    payload: new Uint8Array(Math.max(0, length - 42 - (usual ? 0 : 4))).map(() => random.below(256)),
  });
  if (!usual && random.chance(20)) made[14 + random.below(20)]! ^= 1 << random.below(8);
  if (!usual && random.chance(20)) {
    made[23] = random.pick([1, 6, 17, 47]);
    made.set([0, 0], 24);
    new DataView(made.buffer).setUint16(24, checksum(made, 14, 20));
  }
  return !usual && random.chance(10) ? made.subarray(0, random.below(made.length)) : made;
}

/** Frames by what makes a flow: their bytes from the addresses to the ports. */
const flows = (frames: readonly Uint8Array[]): string[] =>
  frames
    .map(
      (one, i) =>
        [Buffer.from(one.subarray(26, 38)).toString("hex"), i, Buffer.from(one).toString("hex")] as const,
    )
    .sort((a, b) => (a[0] === b[0] ? a[1] - b[1] : a[0] < b[0] ? -1 : 1))
    .map(([, , text]) => text);

test("what the pass forwards is what the general way forwards, and what it leaves is left as it was", () => {
  const random = new Random(seed);
  const fast = new Side(true);
  const slow = new Side(false);
  let sent = 0;
  for (let round = 0; round < 150; round++) {
    const n = 1 + random.below(150);
    for (let i = 0; i < n; i++) {
      const one = frame(random, i);
      if (one.length === 0) continue;
      const lead = random.pick([0, 0, 2, 1]);
      for (const { ring } of [fast, slow]) expect(ring.send(one, lead)).toBe(true);
    }
    const [a, b] = [fast.world.run(), slow.world.run()];
    expect(flows(a)).toEqual(flows(b));
    expect(flows(fast.ring.receive())).toEqual(flows(slow.ring.receive()));
    expect(fast.counts()).toEqual(slow.counts());
    sent += a.length;
    if (random.chance(10)) {
      const state = random.pick([0x02, 0x04, 0x80]);
      for (const { world } of [fast, slow]) world.sim.neigh("10.77.0.2", "02:00:00:00:00:02", state);
    }
    if (random.chance(10)) {
      const mac = `02:00:00:00:02:${random.below(90) + 10}`;
      for (const { world } of [fast, slow]) world.sim.neigh("10.77.0.2", mac);
    }
    for (const { world } of [fast, slow]) world.tick(round * 100);
  }
  expect(sent).toBeGreaterThan(1000);
  for (const { world } of [fast, slow]) expect(world.close()).toBe(0);
});
