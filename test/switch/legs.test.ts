// Which leg of a route a client's packets take: by their flow, as the kernel's layer 4 policy has it (net/ipv4/route.c
// fib_multipath_hash, net/ipv6/route.c rt6_multipath_hash, net/core/flow_dissector.c): the ports of a whole packet count,
// wherever they are; those of a fragment do not, so that all of a datagram go one way.
import { afterAll, expect, test } from "bun:test";
import { RouteRow } from "../../src/netbase/rows.ts";
import { parseAddress } from "../../src/wire/address.ts";
import { Random } from "../random.ts";
import { CARD, concat, echo, icmpPacket, packet, u16, UDP, udp, udpPacket } from "./packets.ts";
import { World } from "./world.ts";

const MACS = ["02:00:00:00:00:02", "02:00:00:00:00:03"];
const CLIENT = "02:00:00:00:00:05";
const ENDS = [
  { src: "10.99.0.1", dst: "10.210.0.1" },
  { src: "fd99::1", dst: "fda0::1" },
] as const;

const world = new World();
afterAll(() => world.close());
const { sim } = world;
const client = world.attach({ mac: CLIENT });
for (const [prefix, gateways] of [
  ["10.210.0.0/16", ["10.77.0.2", "10.77.0.3"]],
  ["fda0::/16", ["fd77::2", "fd77::3"]],
] as const) {
  const [dst, dstLen] = prefix.split("/");
  const { family, words } = parseAddress(dst!)!;
  const row = Object.assign(new RouteRow(), { family, dstLen: Number(dstLen), table: 254, type: 1 });
  row.dst.set(words);
  gateways.forEach((gateway, i) => {
    row.legs.ifindex[row.legs.add()] = 2;
    row.legs.weight[i] = 1;
    row.legs.gatewayFamily[i] = family;
    row.legs.gateway.set(parseAddress(gateway)!.words, i * 4);
    if (family === 2) sim.neigh(gateway, MACS[i]!);
    else sim.neigh6(gateway, MACS[i]!);
  });
  sim.writer.routes.upsert(row, 0x400);
}
sim.commit();
for (const { src } of ENDS) for (const protocol of [UDP, 1, 58]) world.match(client, protocol, src);
const random = new Random(77);
const macs = { srcMac: CLIENT, dstMac: CARD };

/** Which leg a packet of the client's goes by. */
function legOf(frame: Uint8Array): number {
  client.send(frame);
  const sent = world.run();
  expect(sent).toHaveLength(1);
  const [mac] = sent.map((bytes) => Buffer.from(bytes.subarray(0, 6)).toString("hex"));
  return MACS.findIndex((one) => one.replaceAll(":", "") === mac);
}

/** A frame with 4 bytes of options that say nothing behind its IPv4 header. */
function withOptions(frame: Uint8Array): Uint8Array {
  const out = concat(frame.subarray(0, 34), [1, 1, 1, 1], frame.subarray(34));
  const view = new DataView(out.buffer);
  out[14] = 0x46;
  view.setUint16(16, view.getUint16(16) + 4);
  view.setUint16(24, 0);
  let sum = 0;
  for (let at = 14; at < 38; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(24, ~sum & 0xffff);
  return out;
}

for (const ends of ENDS) {
  const four = ends.src === "10.99.0.1";
  const name = four ? "IPv4" : "IPv6";
  const port = () => 1024 + random.below(60_000);
  const legs = (make: (sport: number) => Uint8Array) => Array.from({ length: 64 }, () => legOf(make(port())));
  const payload = Uint8Array.from({ length: 32 }, () => random.below(256));
  const fragment = (offset: number, more: boolean) => {
    const l4 = udp({ ...ends, sport: port(), payload: payload.map(() => random.below(256)) });
    const part = offset === 0 ? l4.subarray(0, 24) : l4.subarray(24);
    if (four) return packet({ ...macs, ...ends, l4: part, fragment: (offset >> 3) | (more ? 0x2000 : 0) });
    const bytes = concat([UDP, 0], u16(offset | (more ? 1 : 0)), [0, 0, 0, 9]);
    return packet({ ...macs, ...ends, l4: part, extensions: { first: 44, bytes } });
  };

  test(`${name}: the layer 3 policy has one leg for all between two hosts`, () => {
    sim.writer.setHashPolicy(0, 0);
    expect(new Set(legs((sport) => udpPacket({ ...macs, ...ends, sport }))).size).toBe(1);
  });

  test(`${name}: the layer 4 policy spreads flows, and keeps each on its leg`, () => {
    sim.writer.setHashPolicy(1, 1);
    expect(new Set(legs((sport) => udpPacket({ ...macs, ...ends, sport })))).toEqual(new Set([0, 1]));
    for (let i = 0; i < 20; i++) {
      const sport = port();
      const whole = udpPacket({ ...macs, ...ends, sport });
      const leg = legOf(whole);
      const more = Uint8Array.from({ length: 9 }, () => random.below(256));
      expect(legOf(udpPacket({ ...macs, ...ends, sport, payload: more }))).toBe(leg);
      if (four) expect(legOf(withOptions(whole))).toBe(leg);
    }
  });

  test(`${name}: fragments of all datagrams between two hosts take one leg, and so do pings`, () => {
    sim.writer.setHashPolicy(1, 1);
    const parts = Array.from({ length: 32 }, () => [
      legOf(fragment(0, true)),
      legOf(fragment(24, true)),
      legOf(fragment(24, false)),
    ]);
    expect(new Set(parts.flat()).size).toBe(1);
    const pings = legs((id) => icmpPacket(echo(four ? 8 : 128, id, ends), { ...macs, ...ends }));
    expect(new Set(pings).size).toBe(1);
  });
}
