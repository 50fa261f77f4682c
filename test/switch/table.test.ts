import { expect, test } from "bun:test";
import { Region } from "../../src/mem/region.ts";
import { AHEAD, LARGE, makeAhead } from "../../src/switch/table/ahead.ts";
import { TableReader } from "../../src/switch/table/find.ts";
import {
  CLIENT_FD,
  CLIENT_MAC0,
  CLIENT_MAC1,
  tableBytes,
  WILD_PATTERNS,
} from "../../src/switch/table/layout.ts";
import { type Match, portsWord } from "../../src/switch/table/pattern.ts";
import { FOUND_ENTRY } from "../../src/switch/table/search.ts";
import { CONFLICT, FULL, TableWriter } from "../../src/switch/table/table.ts";

const row = {
  fd: 3,
  mac: new Uint8Array(6),
  mtu: 1500,
  flags: 0,
  home: 0,
  ratePps: 0,
  pid: 1,
  uid: 0,
  gid: 0,
};

function setUp(capacity = { clients: 4, matches: 100 }) {
  const buffer = new ArrayBuffer(tableBytes(capacity));
  const writer = new TableWriter(buffer, capacity, 7);
  return { writer, reader: new TableReader(buffer, capacity) };
}

const match = (change: Partial<Match>): Match => ({
  family: 2,
  protocol: 6,
  dst: Int32Array.of(0x0100000a, 0, 0, 0),
  dstPrefix: 32,
  dport: 80,
  src: new Int32Array(4),
  srcPrefix: 0,
  sport: -1,
  ...change,
});

test("the documented order: source prefix, source port, destination port, destination prefix", () => {
  const { writer, reader } = setUp();
  const client = writer.addClient(row);
  const src = Int32Array.of(0x0200000a, 0, 0, 0);
  // From the last to the first: each added one gets the packet.
  const order = [
    { dport: -1, dstPrefix: 0 },
    { dport: -1, dstPrefix: 32 },
    { dport: 80, dstPrefix: 0 },
    { dport: 80, dstPrefix: 32 },
    { sport: 9, dport: -1, dstPrefix: 0 },
    { sport: 9, dport: 80, dstPrefix: 32 },
    { src, srcPrefix: 8, dport: -1, dstPrefix: 0 },
    { src, srcPrefix: 8, sport: 9, dport: -1, dstPrefix: 0 },
    { src, srcPrefix: 32, dport: -1, dstPrefix: 0 },
    { src, srcPrefix: 32, sport: 9, dport: 80, dstPrefix: 32 },
  ];
  const entries = order.map((change) => writer.add(match(change), client, "match"));
  for (const entry of entries.toReversed()) {
    expect(reader.find4(6, 0x0100000a, 0x0200000a, portsWord(9, 80))).toBe(client);
    expect(reader.found[0]).toBe(entry);
    writer.remove(entry);
  }
  expect(reader.find4(6, 0x0100000a, 0x0200000a, portsWord(9, 80))).toBe(-1);
});

test("a connected match inside another's listener is refused; a listener around another's connected match is not", () => {
  const { writer } = setUp();
  const [one, other] = [writer.addClient(row), writer.addClient(row)];
  const connected = match({ src: Int32Array.of(5, 0, 0, 0), srcPrefix: 32, sport: 9 });
  expect(writer.add(match({}), one, "match")).toBeGreaterThan(0);
  expect(writer.add(connected, other, "claim")).toBe(CONFLICT);
  writer.remove(writer.find(match({})));
  expect(writer.add(connected, other, "claim")).toBeGreaterThan(0);
  expect(writer.add(match({}), one, "match")).toBeGreaterThan(0);
});

test("patterns are bounded; listeners and connected matches have room whatever others do", () => {
  const { writer } = setUp();
  const client = writer.addClient(row);
  for (let prefix = 0; prefix < 32; prefix++)
    expect(writer.add(match({ dstPrefix: prefix }), client, "match")).toBeGreaterThan(0);
  expect(WILD_PATTERNS).toBe(32);
  expect(writer.add(match({ dport: -1 }), client, "match")).toBe(FULL);
  expect(writer.add(match({ protocol: 17, dstPrefix: 9 }), client, "match")).toBeGreaterThan(0);
  expect(writer.add(match({}), client, "match")).toBeGreaterThan(0);
  expect(writer.add(match({ srcPrefix: 32, sport: 1 }), client, "match")).toBeGreaterThan(0);
});

test("matches leave room for one owned address a client", () => {
  const { writer, reader } = setUp({ clients: 2, matches: 3 });
  const client = writer.addClient(row);
  for (let port = 1; port <= 3; port++)
    expect(writer.add(match({ dport: port }), client, "match")).toBeGreaterThan(0);
  expect(writer.add(match({ dport: 4 }), client, "match")).toBe(FULL);
  const address = (n: number) => Int32Array.of(n, 0, 0, 0);
  expect([1, 2, 3].map((n) => writer.addOwned(2, address(n), client))).toEqual([true, true, false]);
  expect([1, 2, 3].map((n) => reader.owner4(n))).toEqual([client, client, -1]);
  writer.removeOwned(2, address(1));
  writer.removeOwned(2, address(9));
  writer.remove(writer.find(match({ dport: 1 })));
  expect(writer.add(match({ dport: 4 }), client, "match")).toBeGreaterThan(0);
  expect(writer.add(match({ dport: 5 }), client, "match")).toBe(FULL);
});

test("clients' rows", () => {
  const { writer, reader } = setUp({ clients: 2, matches: 3 });
  const mac = Uint8Array.of(2, 1, 0x83, 4, 5, 0xf6);
  const slot = writer.addClient({ ...row, mac });
  const words = (at: number) => reader.words[reader.client(slot) + at];
  expect([words(CLIENT_FD), words(CLIENT_MAC0), words(CLIENT_MAC1)]).toEqual([3, 0x04830102, 0xf605]);
  writer.updateClient(slot, { ...row, fd: 9, mac: Uint8Array.of(0xff, 1, 2, 0xff, 4, 5) });
  expect([words(CLIENT_FD), words(CLIENT_MAC0), words(CLIENT_MAC1)]).toEqual([9, 0xff0201ff | 0, 0x0504]);
  expect([writer.addClient(row), writer.addClient(row)]).toEqual([1, -1]);
});

test("capacities that do not fit say so", () => {
  for (const capacity of [
    { clients: 0, matches: 1 },
    { clients: 1, matches: 0 },
    { clients: 1, matches: 2 ** 25 },
    { clients: 2 ** 24, matches: 1 },
  ])
    expect(() => tableBytes(capacity)).toThrow(RangeError);
});

test("a large table: looking ahead and huge pages change nothing, whatever the frames are", () => {
  const capacity = { clients: 4, matches: 50_000 };
  const region = Region.create("table", tableBytes(capacity));
  const writer = new TableWriter(region.buffer, capacity, 7);
  const mapping = Region.open(region.ref, "read-only");
  const reader = new TableReader(mapping.buffer, capacity);
  const ahead = makeAhead(reader);
  for (let i = 0; i < 4; i++) writer.addClient(row);
  const n = 40_000;
  const at = (i: number) => Int32Array.of(0x0a | (i << 8), 0, 0, 0);
  for (let i = 0; i < n; i++) writer.add(match({ dst: at(i) }), i % 4, "match");
  expect(writer.entries).toBeGreaterThan(LARGE);
  const words = crypto.getRandomValues(new Int32Array(16_384));
  const offs = Int32Array.from({ length: 300 }, (_, i) => i * 128 + 2);
  // IPv4, IPv6 and noise.
  for (const [i, off] of offs.entries())
    words[(off + 10) >> 2] = [0x0008_0000, 0xdd86_0000 | 0, words[i]!][i % 3]!;
  const before = words.slice();
  for (let i = 0; i < n; i++) {
    if (i % 1000 === 0) ahead.look(words, offs, i % 7 === 0 ? 300 : 64, i % 2000 === 0);
    if (i === n / 2) writer.gather(region);
    expect(reader.find4(6, at(i)[0]!, 1, portsWord(9, 80))).toBe(i % 4);
  }
  expect(words).toEqual(before);
  mapping.unmap();
  region.close();
});

test.each([2, 10] as const)(
  "looking ahead in a large table: what the searches will find (family %d)",
  (family) => {
    const capacity = { clients: 1, matches: 20_000 };
    const { writer, reader } = setUp(capacity);
    writer.addClient(row);
    const size = family === 2 ? 4 : 16;
    const full = size * 8;
    const address = (...words: number[]) => Int32Array.from({ length: 4 }, (_, i) => words[i] ?? 0);
    const own = (i: number) => (family === 2 ? address(0x0a | (i << 8)) : address(0xfd, 0, 0, i));
    const peer = family === 2 ? address(0x0100_000a) : address(0xfe, 0, 0, 1);
    // Every other one is connected.
    for (let i = 0; i < 5000; i++)
      writer.add(
        match({
          family,
          dst: own(i),
          dstPrefix: full,
          ...(i % 2 && { src: peer, srcPrefix: full, sport: 9 }),
        }),
        0,
        i % 2 ? "claim" : "match",
      );
    expect(writer.entries).toBeGreaterThan(LARGE);
    const ahead = makeAhead(reader);

    const frames = new Int32Array(AHEAD * 32);
    const bytes = new Uint8Array(frames.buffer);
    const offs = Int32Array.from({ length: AHEAD + 9 }, (_, i) => (i % AHEAD) * 128 + 2);
    const ip = (i: number) => (offs[i]! + 14) >> 2;
    const source = family === 2 ? 3 : 2;
    for (let i = 0; i < AHEAD; i++) {
      const base = ip(i) * 4;
      bytes.set(family === 2 ? [8, 0, 0x45] : [0x86, 0xdd, 0x60], base - 2);
      bytes[base + (family === 2 ? 9 : 6)] = 6;
      frames.set(peer.subarray(0, size / 4), ip(i) + source);
      frames.set(own(i * 17).subarray(0, size / 4), ip(i) + source + size / 4);
      frames[ip(i) + source + size / 2] = portsWord(9, 80);
    }
    const found = (i: number): number => {
      const at = ip(i) + source;
      if (family === 2) reader.find4(6, frames[at + 1]!, frames[at]!, portsWord(9, 80));
      else reader.find6(frames, at + 4, at, 6, portsWord(9, 80));
      return reader.found[FOUND_ENTRY]!;
    };
    expect(ahead.look(frames, offs, AHEAD + 9, false)).toBe(AHEAD);
    const wanted = Array.from({ length: AHEAD }, (_, i) => found(i));
    expect(wanted.every((entry) => entry > 0)).toBe(true);
    // A tag has seven bits: now and then it is another's.
    expect(wanted.filter((entry, i) => entry !== ahead.entries[i]).length).toBeLessThan(AHEAD / 20);
  },
);
