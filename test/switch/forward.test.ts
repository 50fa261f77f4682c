// The pass over frames by memif (src/switch/forward) is outbound.ts and route.ts for the usual frame: both are given the same
// frames, of all kinds, and must send the same ones, in the same order within a flow, and count the same, whatever changes
// between two batches: matches, routes, neighbours, the clients that frames are for.
import { expect, setDefaultTimeout, test } from "bun:test";
import { MODE_ETHERNET, MODE_IP } from "../../src/link/memif/message.ts";
import { PortWriter } from "../../src/link/memif/port.ts";
import { OwnRing } from "../../src/lab/ownring.ts";
import type { Match } from "../../src/switch/table/pattern.ts";
import { parseIPv4, parseLladdr } from "../../src/wire/address.ts";
import { ETHERNET } from "../../src/wire/ether.ts";
import { checksum, udpFrame } from "../../src/wire/frame.ts";
import { Random } from "../random.ts";
import { type TestClient, World } from "./world.ts";

setDefaultTimeout(120_000); // a loaded machine; nothing here is timed

const seed = Number(process.env["NETD_SEED"] ?? (Math.random() * 2 ** 31) | 0);
console.log(`forward: NETD_SEED=${seed}`);
const LOG2 = 9;
const NEIGHBOURS = 60; // in 256 places: many are not in their first one
const CARD = "02:00:00:00:00:01";
const MAC = "02:00:00:00:00:05";
const SPAN = Math.ceil(OwnRing.bytes(LOG2) / 4096) * 4096;
const NOT_FAST = 1 << 30; // a flag that says nothing but that there is one

const SOURCES = [
  "10.99.0.1",
  "10.99.0.2",
  "10.99.9.9",
  "10.77.0.1",
  "10.88.0.1",
  "192.0.0.8",
  "192.0.0.9",
  "224.0.0.1",
];
const TARGETS = [
  ...["10.77.0.2", "10.200.0.1", "10.201.0.1", "10.202.0.1", "10.203.0.1", "10.204.0.1", "10.205.0.1"],
  ...["10.77.0.3", "10.77.0.1", "10.99.0.1", "10.98.0.1", "10.250.0.1", "192.0.0.8", "224.0.0.251"],
  ...["255.255.255.255", "127.0.0.1", "10.206.0.9"],
];

/** Where most go: a neighbour, by a gateway, by another for a part of it, to clients and where clients come and go. */
const USUAL = [
  ...[
    "10.77.0.2",
    "10.200.0.1",
    "10.200.0.2",
    "10.200.0.3",
    "10.205.0.1",
    "10.98.0.1",
    "10.98.0.2",
    "10.98.0.3",
  ],
  ...["10.77.0.30", "10.77.0.50", "10.77.0.70"],
];
/** Who uses the port of whoever has it at the card's own address, or the one beside it in a connection. */
const SHARED = SOURCES[3]!;
const COMERS = ["10.200.0.2", "10.98.0.3", "10.77.0.50"];

class Side {
  readonly world = new World({ room: 2 * SPAN, capacity: { neighbours4: 64 } });
  readonly ring: OwnRing;
  /** Another client by memif, and one by Unix socket. */
  readonly second: OwnRing;
  readonly other: TestClient;
  readonly slot: number;
  readonly client: TestClient;
  readonly secondSlot: number;
  private readonly entries = new Map<string, number>();

  constructor(fast: boolean, mode: number) {
    const { world } = this;
    const { sim } = world;
    sim.route("0.0.0.0/0", "10.77.0.31");
    sim.route("10.200.0.0/16", "10.77.0.2");
    sim.route("10.201.0.0/16", "10.77.0.2", { mtu: 576 });
    sim.route("10.202.0.0/16", undefined, { type: 6 }); // blackhole
    sim.route("10.203.0.0/16", undefined, { type: 7 }); // unreachable
    sim.route("10.204.0.0/16", "10.77.0.4"); // nobody answers there
    sim.route("10.205.0.0/16", "10.77.0.5");
    sim.route("10.206.0.0/24", "10.77.0.2", { oif: 9 });
    sim.neigh("10.77.0.5", "02:00:00:00:00:55", 0x04); // stale
    for (let i = 0; i < NEIGHBOURS - 2; i++) sim.neigh(`10.77.0.${20 + i}`, `02:00:00:00:01:${20 + i}`);
    const row = { fd: -1, mac: parseLladdr(MAC)!, home: 0, ratePps: 0, pid: 1, uid: 0, gid: 0 };
    this.slot = world.table.addClient({ ...row, mtu: 1400, flags: fast ? 0 : NOT_FAST });
    const client = { slot: this.slot } as TestClient;
    this.client = client;
    for (const protocol of [6, 17])
      for (const address of ["10.99.0.1", "10.99.0.2"]) world.match(client, protocol, address);
    world.match(client, 17, "10.77.0.1", 5000);
    this.other = world.attach();
    world.match(this.other, 17, "10.98.0.1");
    this.secondSlot = world.table.addClient({ ...row, mtu: 700, flags: 0 });
    world.match({ slot: this.secondSlot } as TestClient, 17, "10.98.0.2", 53);
    world.owned({ slot: this.secondSlot } as TestClient, "10.98.0.2"); // its other ports are closed
    const { memory, place } = sim.link;
    this.ring = new OwnRing(memory, place.from, LOG2, this.slot, mode);
    this.second = new OwnRing(memory, place.from + SPAN, LOG2, this.secondSlot);
    const ports = new PortWriter(world.ports);
    for (const ring of [this.ring, this.second]) ring.attach(ports);
  }

  /** The client has all of the network that the alias is in, or not any more. */
  widen(): void {
    const { world, entries, slot } = this;
    const entry = entries.get("alias");
    if (entry !== undefined) {
      world.table.remove(entry);
      entries.delete("alias");
      return;
    }
    const dst = Int32Array.of(parseIPv4("192.0.0.0")!, 0, 0, 0);
    const any = { src: new Int32Array(4), srcPrefix: 0, sport: -1, dport: -1 };
    const match = { family: 2, protocol: 17, dst, dstPrefix: 24, ...any } as const;
    entries.set("alias", world.table.add(match, slot, "match"));
  }

  /** A match of the other client's comes, or goes. */
  toggle(address: string, protocol: number): void {
    const { world, entries } = this;
    const name = `${address} ${protocol}`;
    const entry = entries.get(name);
    if (entry === undefined) entries.set(name, world.match(this.other, protocol, address));
    else {
      world.table.remove(entry);
      entries.delete(name);
    }
  }

  /** A connection from the card's own address comes, or goes: the client's, or the other's. */
  connect(remote: string, isOther: boolean): void {
    const { world, entries } = this;
    const entry = entries.get(remote);
    if (entry === undefined) {
      const made = world.match(isOther ? this.other : this.client, 17, SHARED, 5001, remote, 53);
      if (made > 0) entries.set(remote, made); // else it was claimed by a frame
    } else {
      world.table.remove(entry);
      entries.delete(remote);
    }
  }

  /** A match of a port at any address comes, or goes: the client's, or the other's. */
  open(port: number, isOther: boolean): void {
    const { world, entries } = this;
    const entry = entries.get(`*:${port}`);
    if (entry === undefined) {
      const dst = { dst: new Int32Array(4), dstPrefix: 0, dport: port };
      const match = {
        family: 2,
        protocol: 17,
        ...dst,
        src: new Int32Array(4),
        srcPrefix: 0,
        sport: -1,
      } as const;
      const made = world.table.add(match, (isOther ? this.other : this.client).slot, "match");
      if (made > 0) entries.set(`*:${port}`, made);
    } else {
      world.table.remove(entry);
      entries.delete(`*:${port}`);
    }
  }

  /** Whether this host has an address. */
  local(address: string, type: number, priority: number): void {
    this.world.sim.route(`${address}/32`, undefined, { type, priority });
  }

  /** All that came out, by who got it. */
  got(): Uint8Array[][] {
    return [this.world.run(), this.ring.receive(), this.second.receive(), this.other.receive()];
  }

  counts(): Record<string, number> {
    const { accounts } = this.world.own;
    const rows = [this.slot, this.secondSlot, this.other.slot].flatMap((slot) => [...accounts.read(slot)]);
    return { ...this.world.sim.counts(), ...Object.fromEntries(rows.entries()) };
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
    src: parseIPv4(usual ? random.pick([...SOURCES.slice(0, 3), SHARED]) : random.pick(SOURCES))!,
    dst: parseIPv4(usual ? random.pick(USUAL) : random.pick(TARGETS))!,
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

/** Frames, or packets, by what makes a flow: their bytes from the addresses to the ports. */
const flows = (frames: readonly Uint8Array[]): string[] =>
  frames
    .map((one, i) => {
      const at = (one[0]! & 0xf0) === 0x40 ? 12 : 26;
      return [
        Buffer.from(one.subarray(at, at + 12)).toString("hex"),
        i,
        Buffer.from(one).toString("hex"),
      ] as const;
    })
    .sort((a, b) => (a[0] === b[0] ? a[1] - b[1] : a[0] < b[0] ? -1 : 1))
    .map(([, , text]) => text);

/** What changes between two batches. */
function changes(random: Random, round: number): ((side: Side) => void)[] {
  const made: ((side: Side) => void)[] = [];
  const now = (percent: number, make: () => (side: Side) => void) => {
    if (random.chance(percent)) made.push(make());
  };
  now(10, () => {
    const state = random.pick([0x02, 0x04, 0x80]);
    return ({ world }) => world.sim.neigh("10.77.0.2", "02:00:00:00:00:02", state);
  });
  now(20, () => {
    const [address, mac] = [random.pick([2, 30, 50]), `02:00:00:00:02:${random.below(90) + 10}`];
    return ({ world }) => world.sim.neigh(`10.77.0.${address}`, mac);
  });
  now(30, () => {
    const address = `10.77.0.${random.pick([2, 5, 30, 31, 50, 70])}`;
    const mac = `02:00:00:00:03:${random.below(90) + 10}`;
    return random.chance(50)
      ? ({ world }) => world.sim.unneigh(address)
      : ({ world }) => world.sim.neigh(address, mac);
  });
  now(20, () => {
    const [address, protocol] = [random.pick(COMERS), random.pick([6, 17])];
    return (side) => side.toggle(address, protocol);
  });
  now(20, () => {
    const [prefix, via] = [
      random.pick(["10.200.0.3/32", "10.200.0.0/30"]),
      `10.77.0.${random.pick([30, 31, 5, 2])}`,
    ];
    const [mtu, priority] = [random.pick([0, 0, 576]), random.below(1000)];
    const type = random.pick([1, 1, 1, 6, 7]);
    return ({ world }) => world.sim.route(prefix, type === 1 ? via : undefined, { mtu, type, priority });
  });
  now(10, () => (side) => side.widen());
  now(20, () => {
    const [port, isOther] = [random.pick([53, 80, 5000, 5001]), random.chance(50)];
    return (side) => side.open(port, isOther);
  });
  now(20, () => {
    const type = random.pick([1, 2]);
    return (side) => side.local("10.99.9.9", type, 1000 - round);
  });
  now(20, () => {
    const [remote, isOther] = [random.pick(USUAL), random.chance(50)];
    return (side) => side.connect(remote, isOther);
  });
  now(5, () => {
    const mtu = random.pick([0, 1000, 1500]);
    return ({ world }) => {
      world.sim.setLink({ mtu });
      world.sim.transmit.refresh();
    };
  });
  return made;
}

test.each([
  ["Ethernet", MODE_ETHERNET],
  ["IP", MODE_IP],
])(
  "%s mode: what the pass forwards is what the general way forwards, and what it leaves is left as it was",
  (_, mode) => {
    const random = new Random(seed);
    const fast = new Side(true, mode);
    const slow = new Side(false, mode);
    const sent = [0, 0, 0, 0];
    for (let round = 0; round < 150; round++) {
      const n = 1 + random.below(150);
      for (let i = 0; i < n; i++) {
        const one = frame(random, i).subarray(mode === MODE_IP ? ETHERNET : 0);
        if (one.length === 0) continue;
        const lead = random.pick([0, 0, 2, 1]);
        for (const { ring } of [fast, slow]) expect(ring.send(one, lead)).toBe(true);
      }
      const [a, b] = [fast.got(), slow.got()];
      expect(a.map(flows)).toEqual(b.map(flows));
      expect(fast.counts()).toEqual(slow.counts());
      for (const [i, frames] of a.entries()) sent[i]! += frames.length;
      for (const change of changes(random, round)) for (const side of [fast, slow]) change(side);
      for (const { world } of [fast, slow]) world.tick(round * 100);
    }
    expect(sent[0]).toBeGreaterThan(500);
    for (const n of sent) expect(n).toBeGreaterThan(20); // some of each
    for (const side of [fast, slow]) {
      side.got(); // the last tick may have sent what waited
      expect(side.world.close()).toBe(0);
    }
  },
);

test("a claim is touched in each second that a frame of its flow is sent in", () => {
  const { world, ring, slot } = new Side(true, MODE_ETHERNET);
  const match: Match = {
    ...{ family: 2, protocol: 17, dst: Int32Array.of(parseIPv4(SHARED)!, 0, 0, 0), dstPrefix: 32 },
    ...{ dport: 5001, src: Int32Array.of(parseIPv4("10.77.0.2")!, 0, 0, 0), srcPrefix: 32, sport: 53 },
  };
  const entry = world.table.add(match, slot, "claim") as number;
  expect(entry).toBeGreaterThan(0);
  for (let second = 1; second < 4; second++) {
    world.table.setNow(second);
    world.tick(second * 1000);
    for (let i = 0; i < 3; i++)
      ring.send(
        udpFrame({
          ...{ dstMac: parseLladdr(CARD)!, srcMac: parseLladdr(MAC)!, sport: 5001, dport: 53, ttl: 64 },
          ...{ src: parseIPv4(SHARED)!, dst: parseIPv4("10.77.0.2")!, payload: new Uint8Array(22) },
        }),
      );
    expect(world.run().length).toBe(3);
    expect(world.own.touches[entry]).toBe(second);
  }
  expect(world.close()).toBe(0);
});

test("a hop less: the checksum is what adding up gives, where it would be -0 too", () => {
  const sides = [new Side(true, MODE_ETHERNET), new Side(false, MODE_ETHERNET)];
  const made = (id: number) =>
    udpFrame({
      ...{ dstMac: parseLladdr(CARD)!, srcMac: parseLladdr(MAC)!, sport: 5000, dport: 53, ttl: 64, id },
      ...{ src: parseIPv4("10.99.0.1")!, dst: parseIPv4("10.77.0.2")!, payload: new Uint8Array(22) },
    });
  const ids = Array.from({ length: 65536 }, (_, id) => id);
  const least = ids.find((id) => made(id)[24] === 0xfe && made(id)[25] === 0xff)!;
  expect(least).toBeGreaterThan(0);
  for (const side of sides) {
    for (const id of [least, 1, 1000]) side.ring.send(made(id));
    for (const one of side.got()[0]!) {
      const theirs = [one[24], one[25]];
      one.fill(0, 24, 26);
      const sum = checksum(one, 14, 20);
      expect(theirs).toEqual([sum >>> 8, sum & 0xff]);
    }
    expect(side.world.close()).toBe(0);
  }
});
