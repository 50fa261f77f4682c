// The decoders on bytes that no kernel sends: they never throw, never look beyond the message, leave nothing of one
// message in the next, and take every real message. NETD_FUZZ_SECONDS runs longer, NETD_SEED repeats a run.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Host } from "../../src/lab/host.ts";
import {
  AddrRow,
  type Legs,
  LinkRow,
  NeighRow,
  NexthopRow,
  RouteRow,
  RuleRow,
} from "../../src/netbase/rows.ts";
import { readAck } from "../../src/netlink/ack.ts";
import { addrReaders, decodeAddr, dumpAddrs } from "../../src/netlink/addr.ts";
import type { Readers } from "../../src/netlink/attribute.ts";
import * as nl from "../../src/netlink/constants.ts";
import { decodeLink, dumpLinks, linkReaders, newLink } from "../../src/netlink/link.ts";
import { Requests } from "../../src/netlink/message.ts";
import { decodeNeigh, dumpNeighs, newNeigh } from "../../src/netlink/neigh.ts";
import { decodeNexthop, dumpNexthops, newNexthop, nexthopReaders } from "../../src/netlink/nexthop.ts";
import { decodeRoute } from "../../src/netlink/route.ts";
import { dumpRoutes, newRoute } from "../../src/netlink/routeset.ts";
import { decodeRule, dumpRules, newRule, ruleReaders } from "../../src/netlink/rule.ts";
import { Random } from "../random.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const SECONDS = Number(process.env["NETD_FUZZ_SECONDS"] ?? 1);
const SEED = Number(process.env["NETD_SEED"] ?? Date.now() & 0x7fffffff);

interface Decoder {
  name: string;
  headerBytes: number;
  // biome-ignore lint/suspicious/noExplicitAny: each row goes to its own decoder
  decode: (words: Int32Array, bytes: Uint8Array, off: number, len: number, row: any) => boolean;
  row: () => object;
  dump: (m: Requests) => void;
  // biome-ignore lint/suspicious/noExplicitAny: only their types matter here
  readers?: Readers<any>;
}
const decoders: Decoder[] = [
  {
    name: "link",
    headerBytes: 16,
    decode: decodeLink,
    row: () => new LinkRow(),
    dump: dumpLinks,
    readers: linkReaders,
  },
  {
    name: "addr",
    headerBytes: 8,
    decode: decodeAddr,
    row: () => new AddrRow(),
    dump: dumpAddrs,
    readers: addrReaders,
  },
  { name: "route", headerBytes: 12, decode: decodeRoute, row: () => new RouteRow(), dump: dumpRoutes },
  { name: "neigh", headerBytes: 12, decode: decodeNeigh, row: () => new NeighRow(), dump: dumpNeighs },
  {
    name: "nexthop",
    headerBytes: 8,
    decode: decodeNexthop,
    row: () => new NexthopRow(),
    dump: dumpNexthops,
    readers: nexthopReaders,
  },
  {
    name: "rule",
    headerBytes: 12,
    decode: decodeRule,
    row: () => new RuleRow(),
    dump: dumpRules,
    readers: ruleReaders,
  },
];

/** Real messages, by decoder. */
const corpus = new Map<string, Uint8Array[]>();
let host: Host;
let far: Host;
beforeAll(() => {
  host = new Host("here");
  far = new Host("there");
  const [nd0] = host.veth("nd0", far, "peer0");
  host.addr("nd0", "10.0.0.1/24");
  host.addr("nd0", "fd00::1/64");
  host.nl.call((m) => {
    newLink(m, { name: "br0", kind: "bridge" });
    newLink(m, { name: "mv0", kind: "macvlan", link: nd0 });
    const legs = Array.from({ length: 20 }, (_, i) => ({
      oif: nd0,
      via: i & 1 ? "10.0.0.2" : "fd00::2",
      weight: i + 1,
    }));
    newRoute(m, { dst: "10.1.0.0/16", nexthops: legs, mtu: 1300, tos: 4, priority: 9, prefsrc: "10.0.0.1" });
    newRoute(m, { dst: "10.2.0.0/16", oif: nd0, via: "fd00::9" });
    newRoute(m, { dst: "fd01::/64", nexthops: [{ via: "fd00::2" }, { via: "fd00::3" }], pref: 1 });
    newNexthop(m, { id: 1, oif: nd0, via: "10.0.0.2" });
    newNexthop(m, { id: 2, oif: nd0, via: "10.0.0.3" });
    newNexthop(m, { id: 3, group: [{ id: 1, weight: 300 }, { id: 2 }], buckets: 8 });
    newNexthop(m, { id: 4, group: [{ id: 1 }, { id: 2 }] });
    newNexthop(m, { id: 5, blackhole: true });
    newRoute(m, { dst: "10.3.0.0/16", nhid: 4 });
    newNeigh(m, { ifindex: nd0, dst: "10.0.0.9", lladdr: "02:00:00:00:00:09" });
    newNeigh(m, { ifindex: nd0, dst: "fd00::9", lladdr: "02:00:00:00:00:09", flags: nl.NTF_ROUTER });
    newRule(m, {
      family: 2,
      src: "10.0.0.0/8",
      iifname: "nd0",
      oifname: "lo",
      fwmark: 1,
      fwmask: 3,
      ipProto: 6,
    });
    newRule(m, { family: 10, dst: "fd00::/8", suppressPrefixLen: 3, priority: 7 });
  });
  for (const { name, dump } of decoders) {
    const messages: Uint8Array[] = [];
    host.nl.dump(dump, (_words, bytes, off, len) => void messages.push(bytes.slice(off, off + len)));
    corpus.set(name, messages);
  }
});
afterAll(() => {
  host.close();
  far.close();
});

const numbers = new Random(SEED);
const random = (below: number): number => numbers.below(below);

/** A row as comparable text. Array contents count up to the lengths that the row itself names. */
function show(row: object): string {
  return JSON.stringify(row, function (this: Record<string, unknown>, key, value) {
    if (key === "lladdr") return Array.from(value as Uint8Array).slice(0, this["lladdrLen"] as number);
    if (key === "legs") {
      const legs = value as Legs;
      const { n } = legs;
      return [legs.ifindex, legs.flags, legs.weight, legs.gatewayFamily, legs.nhid]
        .map((list) => Array.from(list.subarray(0, n)))
        .concat([Array.from(legs.gateway.subarray(0, n * 4))]);
    }
    return ArrayBuffer.isView(value) ? Array.from(value as Int32Array) : value;
  });
}

const room = new Int32Array(32768);
const roomBytes = new Uint8Array(room.buffer);
const OFF = 512;

/** Decodes `message` with `poison` before and after it. */
function decode(decoder: Decoder, message: Uint8Array, poison: number, row: object): string {
  roomBytes.fill(poison, 0, OFF + message.length + 4096);
  roomBytes.set(message, OFF);
  const taken = decoder.decode(room, roomBytes, OFF, message.length, row);
  expect(typeof taken).toBe("boolean");
  return `${taken} ${taken ? show(row) : ""}`;
}

/** The same whatever lies around it and whatever the row held before. */
function probe(decoder: Decoder, message: Uint8Array, dirty: object): void {
  const clean = decode(decoder, message, 0, decoder.row());
  expect(decode(decoder, message, 0xff, dirty)).toBe(clean);
  expect(decode(decoder, message, random(256), dirty)).toBe(clean);
}

function mutate(message: Uint8Array): Uint8Array {
  let out = message.slice();
  const words = () => new Uint16Array(out.buffer, 0, out.length >> 1);
  for (let n = 1 + random(4); n > 0 && out.length >= 20; n--) {
    switch (random(5)) {
      case 0: // any byte
        out[16 + random(out.length - 16)] = random(256);
        break;
      case 1: // cut
        out = out.slice(0, 16 + random(out.length - 15));
        break;
      case 2: // a 16-bit field, which may be a length, to a bound
        words()[8 + random(words().length - 8)] = [0, 1, 3, 4, 5, 7, 8, 20, 0x7fff, 0x8000, 0xffff][
          random(11)
        ]!;
        break;
      case 3: {
        // more bytes at the end: an attribute of any type and length
        const more = new Uint8Array(out.length + 4 + random(64));
        more.set(out);
        for (let i = out.length; i < more.length; i++) more[i] = random(256);
        const head = (out.length + 3) & ~3;
        if (head + 4 <= more.length) more.set([more.length - head, 0, random(70), 0], head);
        out = more;
        break;
      }
      case 4: {
        // the message twice over: attributes that come again
        const twice = new Uint8Array(out.length * 2);
        twice.set(out);
        twice.set(out.subarray(16), out.length);
        if (twice.length < 20_000) out = twice;
        break;
      }
    }
  }
  return out;
}

test("every real message is taken, and each length of it that is cut off is safe", () => {
  for (const decoder of decoders) {
    const messages = corpus.get(decoder.name)!;
    expect(messages.length, decoder.name).toBeGreaterThan(1);
    const dirty = decoder.row();
    for (const message of messages) {
      expect(decode(decoder, message, 0, decoder.row()), decoder.name).toStartWith("true");
      for (let len = 0; len <= message.length; len += len < 64 ? 1 : 7)
        probe(decoder, message.subarray(0, len), dirty);
    }
  }
});

test("every attribute of every decoder table, at every length from 0 to 40, alone", () => {
  for (const decoder of decoders) {
    const types = decoder.readers
      ? Object.keys(decoder.readers).map(Number)
      : Array.from({ length: 33 }, (_, i) => i);
    expect(types.length).toBeGreaterThan(2);
    const dirty = decoder.row();
    for (const type of types)
      for (let length = 0; length <= 40; length++) {
        const m = new Requests();
        m.begin(24, 0, decoder.headerBytes);
        m.raw(
          type,
          Array.from({ length }, () => random(256)),
        );
        probe(decoder, m.bytes.slice(0, m.length), dirty);
      }
  }
});

test(
  `mutated messages (NETD_SEED=${SEED})`,
  () => {
    const end = performance.now() + SECONDS * 1000;
    const dirty = decoders.map((decoder) => decoder.row());
    let rounds = 0;
    for (; performance.now() < end; rounds++) {
      const which = random(decoders.length);
      const messages = corpus.get(decoders[which]!.name)!;
      const message = mutate(messages[random(messages.length)]!);
      try {
        probe(decoders[which]!, message, dirty[which]!);
      } catch (error) {
        throw new Error(
          `${decoders[which]!.name} NETD_SEED=${SEED} round ${rounds}: ${Buffer.from(message).toString("hex")}`,
          {
            cause: error,
          },
        );
      }
    }
    console.log(`NETD_SEED=${SEED}: ${rounds} messages`);
  },
  SECONDS * 1000 + 60_000,
);

test(`mutated acks (NETD_SEED=${SEED})`, () => {
  const request = new Requests();
  newLink(request, { name: "a", kind: "veth", peer: { name: "b" } });
  newRoute(request, { dst: "10.0.0.0/8", nexthops: [{ via: "10.0.0.1" }, { oif: 1 }] });
  const routeOff = request.words[0]!;
  const end = performance.now() + SECONDS * 300;
  while (performance.now() < end) {
    const m = new Requests();
    const off = m.begin(random(2) ? nl.NLMSG_ERROR : nl.NLMSG_DONE, random(1024), 20);
    m.words[off >> 2] = -random(200);
    m.words[(off >> 2) + 1] = random(2) ? 16 : random(0x7fffffff);
    m.text(1, "text");
    m.u32(2, random(request.length + 50));
    m.u32(5, random(80));
    m.u32(6, random(request.length + 50));
    const message = mutate(m.bytes.slice(0, m.length));
    roomBytes.fill(random(256), 0, OFF + message.length + 4096);
    roomBytes.set(message, OFF);
    const error = readAck(room, roomBytes, OFF, message.length, request, random(2) ? routeOff : 0);
    expect(typeof (error?.message ?? "")).toBe("string");
  }
});
