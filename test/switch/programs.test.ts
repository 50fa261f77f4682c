// Clients' filters as the control Worker writes them and a net Worker makes functions of them, one step at a time.
import { expect, test } from "bun:test";
import { pcapCompile } from "../../ffi/libpcap.ts";
import { decode, type Program } from "../../src/filter/program.ts";
import { PART } from "../../src/filter/source.ts";
import { Counts } from "../../src/switch/filters/counts.ts";
import {
  filterBytes,
  filterLayout,
  H_FILTERS,
  RECEIVE,
  ROW_SHAPE,
  rowOf,
} from "../../src/switch/filters/layout.ts";
import { Programs } from "../../src/switch/filters/programs.ts";
import { FilterWriter } from "../../src/switch/filters/writer.ts";
import { parseIPv4 } from "../../src/wire/address.ts";
import { udpFrame } from "../../src/wire/frame.ts";

const OFF = 2;

function setUp(clients: number) {
  const capacity = { clients, matches: 8, filters: clients };
  const memory = new ArrayBuffer(filterBytes(capacity));
  const writer = new FilterWriter(memory, capacity, new Int32Array(16), new Int32Array(16));
  const counts = new Counts(new ArrayBuffer(Counts.bytes(capacity.filters)), capacity.filters);
  const bytes = new Uint8Array(4096);
  const layout = filterLayout(capacity);
  return { writer, layout, bytes, programs: new Programs(new Int32Array(memory), layout, bytes, counts) };
}

const from = (sport: number): Uint8Array =>
  udpFrame({
    dstMac: new Uint8Array(6),
    srcMac: new Uint8Array(6),
    src: parseIPv4("10.0.0.2")!,
    dst: parseIPv4("10.0.0.1")!,
    sport,
    dport: 9,
    payload: new Uint8Array(10),
  });
const ports = (first: number, n: number): Program =>
  decode(pcapCompile(Array.from({ length: n }, (_, i) => `udp src port ${first + i * 2}`).join(" or ")));

test("a long program is compiled part by part, and decides the same before, meanwhile and after", () => {
  const { writer, bytes, programs } = setUp(1);
  const program = ports(1000, 300);
  const parts = Math.ceil(program.length / PART);
  expect(parts).toBeGreaterThan(1);
  expect(writer.put(0, 0, RECEIVE, program)).toBe(true);
  const row = writer.find(0, 0, RECEIVE);
  const takes = (port: number): boolean => {
    const frame = from(port);
    bytes.set(frame, OFF);
    return programs.passes(row, OFF, frame.length);
  };
  let steps = 0;
  for (let more = true; more; steps++) {
    for (const port of [1000, 1298, 1598]) expect([takes(port), takes(port + 1)]).toEqual([true, false]);
    expect(takes(1600)).toBe(false);
    more = programs.make();
  }
  // To find it; a function and its first run for each part; to find that there is no more.
  expect(steps).toBe(2 + 2 * parts);
});

test("where there is no room for texts, programs are interpreted; where others go, there is room again", () => {
  const { writer, layout, bytes, programs } = setUp(64);
  // What is added is part of a shape: each is another one.
  const shape = (i: number): Program => [
    ...Array.from({ length: 500 }, (_, n) => ({ code: 0x04, jt: 0, jf: 0, k: n * i })),
    { code: 0x06, jt: 0, jf: 0, k: i },
  ];
  const isCompiled = (i: number) => writer.words[rowOf(layout, writer.find(i, 0, RECEIVE)) + ROW_SHAPE] !== 0;
  for (let i = 0; i < 64; i++) expect(writer.put(i, 0, RECEIVE, shape(i))).toBe(true);
  const compiled = Array.from({ length: 64 }, (_, i) => i).filter(isCompiled);
  expect(compiled.length).toBeGreaterThan(0);
  expect(compiled.length).toBeLessThan(64);
  while (programs.make());
  bytes.set(from(1), OFF);
  for (let i = 0; i < 64; i++) expect(programs.passes(writer.find(i, 0, RECEIVE), OFF, 60)).toBe(i !== 0);

  for (const i of compiled) writer.remove(i, 0, RECEIVE);
  expect(writer.put(0, 0, RECEIVE, shape(100))).toBe(true);
  expect(isCompiled(0)).toBe(true);
});

test("how many filters there are stands in the header, whatever takes whose place", () => {
  const { writer } = setUp(8);
  const program: Program = [{ code: 0x06, jt: 0, jf: 0, k: 1 }];
  for (const slot of [0, 1, 2, 1]) writer.put(slot, 0, RECEIVE, program);
  expect(writer.words[H_FILTERS]).toBe(3);
  writer.remove(1, 0, RECEIVE);
  expect(writer.remove(1, 0, RECEIVE)).toBe(false);
  expect(writer.words[H_FILTERS]).toBe(2);
});
