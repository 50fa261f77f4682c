// Fragments whose first one goes to a group, is an echo request, or is to a closed port; and how long whose are remembered.
// Those of plain packets: switch.test.ts.
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { parseLladdr } from "../../src/wire/address.ts";
import * as f from "./packets.ts";
import { type TestClient, World } from "./world.ts";

setDefaultTimeout(60_000);

const OWN = "10.77.0.50";
const OWN6 = "fd77::50";
const OWN_MAC = "02:00:00:00:00:50";
const PAYLOAD = Array.from({ length: 61 }, (_, i) => i); // three fragments, of which the last is shorter
const ORDERS = [
  [0, 1, 2],
  [2, 1, 0],
  [1, 0, 2],
  [2, 0, 1],
];

let world: World;
let a: TestClient;
let b: TestClient;
let c: TestClient;

function start(options: ConstructorParameters<typeof World>[0] = {}): void {
  world = new World(options);
  [a, b, c] = [world.attach(), world.attach({ mac: OWN_MAC }), world.attach({ mac: "02:00:00:00:00:51" })];
  world.match(b, f.UDP, OWN, 80);
  world.match(b, f.UDP, OWN6, 80);
  world.owned(b, OWN);
  world.owned(b, OWN6);
}

beforeEach(() => start());
afterEach(() => expect(world.close()).toBe(0));

const same = (got: Uint8Array[], ...wanted: Uint8Array[]) =>
  expect(got.map(f.hex)).toEqual(wanted.map(f.hex));
const alike = (got: Uint8Array[], ...wanted: Uint8Array[]) =>
  expect(got.map(f.hex).sort()).toEqual(wanted.map(f.hex).sort());

/** An L4 packet in fragments of 24 bytes. */
function cut(l4: Uint8Array, id: number, spec: f.Spec): Uint8Array[] {
  const { protocol = f.UDP } = spec;
  const six = spec.src?.includes(":");
  return Array.from({ length: Math.ceil(l4.length / 24) }, (_, i) => {
    const more = (i + 1) * 24 < l4.length;
    const piece = l4.slice(i * 24, more ? (i + 1) * 24 : undefined);
    if (!six) return f.packet({ ...spec, id, fragment: (more ? 0x2000 : 0) | (i * 3), l4: piece });
    const bytes = f.concat([protocol, 0], f.u16((i * 24) | Number(more)), [0, 0, 0, id]);
    return f.packet({ ...spec, l4: piece, extensions: { first: 44, bytes } });
  });
}

interface Ends {
  src: string;
  dst: string;
  dstMac: string;
}
const MDNS: Ends = { src: f.THEM, dst: "224.0.0.251", dstMac: "01:00:5e:00:00:fb" };
const MDNS6: Ends = { src: f.THEM6, dst: "ff02::fb", dstMac: "33:33:00:00:00:fb" };
const BROADCAST: Ends = { src: f.THEM, dst: "10.77.0.255", dstMac: "ff:ff:ff:ff:ff:ff" };
const toGroup = (ends: f.Spec & { src: string; dst: string }, dport: number, id: number) =>
  cut(f.udp({ ...ends, dport, payload: PAYLOAD }), id, ends);

describe.each([MDNS, MDNS6, BROADCAST])("to the group $dst", (ends) => {
  beforeEach(() => {
    for (const client of [a, b]) world.group(client, f.UDP, ends.dst, 5353);
    world.group(c, f.UDP, ends.dst, 5354);
  });

  test.each(ORDERS)(
    "each of its clients gets each once, the kernel has its own: order %p %p %p",
    (...order) => {
      const frames = toGroup(ends, 5353, 1);
      for (const i of order) world.tap.send(frames[i]!); // the copies that the tc program made
      same(world.run());
      for (const client of [a, b]) alike(client.receive(), ...frames);
      same(c.receive());
      same(world.tap.receive());
      expect(world.drops()).toEqual({});
    },
  );

  test.each(ORDERS)("from a client to the others and the wire: order %p %p %p", (...order) => {
    const own = ends === MDNS6 ? OWN6 : OWN;
    const spec = { ...ends, src: own, srcMac: OWN_MAC };
    const frames = cut(f.udp({ ...spec, sport: 80, dport: 5353, payload: PAYLOAD }), 2, spec);
    for (const i of order) b.send(frames[i]!);
    alike(world.run(), ...frames);
    alike(a.receive(), ...frames);
    for (const client of [b, c]) same(client.receive());
    alike(world.tap.receive(), ...frames.map((frame) => f.concat(parseLladdr(f.CARD)!, frame.slice(6))));
  });

  test("nobody's are the kernel's, which has them; those without a first one go nowhere after a while", () => {
    const nobodys = toGroup(ends, 9, 3);
    for (const frame of nobodys) world.tap.send(frame);
    world.tap.send(toGroup(ends, 5353, 4)[1]!);
    world.run();
    world.tick(1000);
    for (const client of [a, b, c]) same(client.receive());
    same(world.tap.receive());
    expect(world.drops()).toEqual({ no_match: 3, bad_fragment: 1 });
  });

  test("who comes later gets no part, and who is in the place of one that left", () => {
    const frames = toGroup(ends, 5353, 5);
    world.tap.send(frames[0]!);
    world.run();
    const { slot } = a;
    world.table.removeClient(slot);
    world.table.freeClient(slot);
    const next = world.attach();
    expect(next.slot).toBe(slot);
    for (const client of [next, c]) world.group(client, f.UDP, ends.dst, 5353);
    for (const frame of frames.slice(1)) world.tap.send(frame);
    world.run();
    same(b.receive(), ...frames);
    for (const client of [next, c]) same(client.receive());
  });
});

test("a filter that refuses the first fragment to a group refuses all, for its client alone", () => {
  const entry = world.group(a, f.UDP, MDNS.dst, 5353);
  world.filter(a, "receive", "udp src port 7", entry);
  world.group(b, f.UDP, MDNS.dst, 5353);
  const frames = toGroup(MDNS, 5353, 6);
  for (const i of [1, 0, 2]) world.tap.send(frames[i]!);
  world.run();
  same(a.receive());
  alike(b.receive(), ...frames);
});

test("a group whose only client refuses the first fragment is a group still: the others are no more the kernel's", () => {
  const entry = world.group(a, f.UDP, MDNS.dst, 5353);
  world.filter(a, "receive", "udp src port 7", entry);
  const frames = toGroup(MDNS, 5353, 7);
  for (const order of [
    [0, 1, 2],
    [1, 0, 2],
  ]) {
    for (const i of order) world.wire(frames[i]!);
    world.run();
    same(a.receive());
    same(world.tap.receive());
  }
});

test("fragments to groups, many at once in any order: a property", () => {
  const groups = [
    [MDNS, 5353],
    [MDNS, 5354],
    [MDNS6, 5353],
    [BROADCAST, 137],
  ] as const;
  const packets = fc.array(fc.record({ group: fc.nat(3), from: fc.nat(2) }), { minLength: 1, maxLength: 8 });
  const members = fc.array(fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }), {
    minLength: 4,
    maxLength: 4,
  });
  fc.assert(
    fc.property(packets, members, fc.infiniteStream(fc.nat(1e6)), (sent, inGroup, random) => {
      expect(world.close()).toBe(0);
      start();
      const all = [a, b, c];
      for (const [g, [ends, port]] of groups.entries())
        for (const [i, client] of all.entries())
          if (inGroup[g]![i]) world.group(client, f.UDP, ends.dst, port);
      const wanted: string[][] = [[], [], []];
      const outward: string[] = [];
      let ofB = 0;
      const frames = sent.flatMap(({ group, from }, id) => {
        const [ends, port] = groups[group]!;
        const isB = from === 0 && ++ofB <= 4; // b has an address to send from; 8 of its fragments may wait
        const own = ends === MDNS6 ? OWN6 : OWN;
        const spec = isB ? { ...ends, src: own, srcMac: OWN_MAC } : ends;
        const pieces = cut(f.udp({ ...spec, sport: 80, dport: port, payload: PAYLOAD.slice(id) }), id, spec);
        for (const [i, client] of all.entries())
          if (inGroup[group]![i] && !(isB && client === b)) wanted[i]!.push(...pieces.map(f.hex));
        if (isB) outward.push(...pieces.map(f.hex));
        return pieces.map((bytes) => ({ bytes, isB }));
      });
      const order = frames
        .map((frame) => ({ frame, at: random.next().value! }))
        .toSorted((x, y) => x.at - y.at);
      for (const { frame } of order) (frame.isB ? b : world.tap).send(frame.bytes);
      const out = world.run();
      expect(out.map(f.hex).sort()).toEqual(outward.sort());
      for (const [i, client] of all.entries())
        expect(client.receive().map(f.hex).sort()).toEqual(wanted[i]!.sort());
      expect(
        world.tap
          .receive()
          .map((frame) => f.hex(frame.slice(6)))
          .sort(),
      ).toEqual(outward.map((text) => text.slice(12)).sort());
    }),
    { numRuns: 200 },
  );
});

describe.each([
  [f.THEM, OWN],
  [f.THEM6, OWN6],
])("to an address that a client alone has, from %s", (them, own) => {
  const ends = { src: them, dst: own, dstMac: OWN_MAC };
  const back = { src: own, dst: them, srcMac: OWN_MAC, dstMac: f.PEER };
  const protocol = own === OWN ? f.ICMP : f.ICMPV6;
  const [ask, answer] = own === OWN ? [8, 0] : [128, 129];
  const ping = (type: number, at: typeof ends | typeof back) =>
    cut(f.icmp(type, 0, f.concat(f.u16(77, 1), PAYLOAD), at), 9, { ...at, protocol });

  test.each(ORDERS)("an echo in fragments is answered in fragments: order %p %p %p", (...order) => {
    const [request, reply] = [ping(ask!, ends), ping(answer!, back)];
    for (const i of order) {
      world.wire(request[i]!);
      for (const frame of world.run()) expect(reply.map(f.hex)).toContain(f.hex(frame));
    }
    for (const frame of request) world.wire(frame); // again, of which nothing waits
    same(world.run(), ...reply);
    same(b.receive());
    same(world.tap.receive());
  });

  test("all parts of the answer come, whichever order", () => {
    const request = ping(ask!, ends);
    for (const frame of request.toReversed()) world.wire(frame);
    alike(world.run(), ...ping(answer!, back));
    for (const frame of request) world.tap.send(frame); // this host's own: its answer is given back
    same(world.run());
    same(world.tap.receive(), ...ping(answer!, back));
  });

  test("another client's echo is answered too", () => {
    world.match(a, f.UDP, f.US, 5000);
    world.match(a, f.UDP, f.US6, 5000);
    const us = own === OWN ? f.US : f.US6;
    const request = ping(ask!, { ...ends, src: us, srcMac: f.CARD } as typeof ends);
    for (const i of [1, 0, 2]) a.send(request[i]!);
    same(world.run());
    alike(a.receive(), ...ping(answer!, { ...back, dst: us, dstMac: f.CARD }));
  });

  test("its client's, if it takes ICMP", () => {
    world.match(b, protocol, own);
    const request = ping(ask!, ends);
    for (const frame of request) world.wire(frame);
    same(world.run());
    same(b.receive(), ...request);
  });

  test("a closed port refuses the first fragment, and what follows goes nowhere", () => {
    const frames = cut(f.udp({ ...ends, dport: 81, payload: PAYLOAD }), 10, ends);
    for (const frame of frames) world.wire(frame);
    const [out, ...more] = world.run();
    expect(more).toEqual([]);
    const [type, code] = own === OWN ? [3, 3] : [1, 4];
    const error = f.icmp(type!, code!, f.concat([0, 0, 0, 0], frames[0]!.slice(14)), { src: own, dst: them });
    expect(f.hex(out)).toBe(f.hex(f.icmpPacket(error, { ...back, id: 0 })));
    expect(world.drops()).toEqual({ bad_fragment: frames.length - 1 });
    same(world.tap.receive());
  });
});

test("a match for any address takes nothing from a group, whole or in fragments", () => {
  world.group(a, f.UDP, MDNS.dst, 5353);
  const any = { dst: new Int32Array(4), dstPrefix: 0, src: new Int32Array(4), srcPrefix: 0, sport: -1 };
  expect(
    world.table.add({ ...any, family: 2, protocol: f.UDP, dport: 5353 }, c.slot, "match"),
  ).toBeGreaterThan(0);
  const frame = f.udpPacket({ ...MDNS, dport: 5353 });
  const frames = [frame, ...toGroup(MDNS, 5353, 11)];
  for (const one of frames) world.tap.send(one);
  world.run();
  same(a.receive(), ...frames);
  same(c.receive());
});

test("weakness: the fragment map grows without bound: who begins many packets forgets but its own", () => {
  world.match(a, f.UDP, f.US, 5000);
  const out = (client: TestClient, id: number) => {
    const spec = client === a ? { src: f.US, srcMac: f.CARD } : { src: OWN, srcMac: OWN_MAC };
    const sport = client === a ? 5000 : 80;
    const all = { ...spec, dst: f.THEM, dstMac: f.PEER };
    return cut(f.udp({ ...all, sport, payload: PAYLOAD }), id, all);
  };
  const frames = out(b, 1);
  b.send(frames[0]!);
  same(world.run(), frames[0]!);
  for (let id = 0; id < 4096; id += 64) {
    for (let i = 0; i < 64; i++) a.send(out(a, id + i)[0]!);
    expect(world.run()).toHaveLength(64);
    world.tick(1);
  }
  b.send(frames[1]!);
  same(world.run(), frames[1]!);
});

test("who sends so much to groups that others' lists of who got what are forgotten: their fragments are counted", () => {
  world.match(a, f.UDP, f.US, 5000);
  for (const client of [b, c]) world.group(client, f.UDP, MDNS.dst, 5353);
  const out = (client: TestClient, id: number) => {
    const spec = client === a ? { src: f.US, srcMac: f.CARD } : { src: OWN, srcMac: OWN_MAC };
    const all = { ...MDNS, ...spec };
    return cut(f.udp({ ...all, sport: client === a ? 5000 : 80, dport: 5353, payload: PAYLOAD }), id, all);
  };
  const frames = out(b, 1);
  b.send(frames[0]!);
  same(world.run(), frames[0]!);
  same(c.receive(), frames[0]!);
  for (let id = 0; id < 7000; id += 10) {
    for (let i = 0; i < 10; i++) a.send(out(a, id + i)[0]!);
    expect(world.run()).toHaveLength(10);
    for (const end of [b, c]) end.receive();
  }
  b.send(frames[1]!);
  same(world.run(), frames[1]!);
  same(c.receive());
  expect(b.counts()).toMatchObject({ bad_fragment: 1 });
});
