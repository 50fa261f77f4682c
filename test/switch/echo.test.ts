import { afterAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Batch } from "../../src/link/link.ts";
import { SimLink } from "../../src/link/sim.ts";
import { dropNames } from "../../src/switch/drops.ts";
import { Echo } from "../../src/switch/echo.ts";
import { MatchTable } from "../../src/switch/match.ts";
import { parseIPv4, parseLladdr } from "../../src/wire/address.ts";
import { checksum, pseudo, type UdpFrame, udpFrame } from "../../src/wire/frame.ts";

const IPPROTO_UDP = 17;
const us = parseIPv4("10.77.0.1")!;
const them = parseIPv4("10.77.0.2")!;
const ourMac = parseLladdr("02:00:00:00:00:01")!;
const theirMac = parseLladdr("02:00:00:00:00:02")!;

const link = new SimLink(64);
afterAll(() => link.close());
const matches = new MatchTable(new ArrayBuffer(MatchTable.bytes(16)), 16);
matches.set({ protocol: IPPROTO_UDP, address: us, port: 7 }, 0);
const echo = (partial: boolean) => {
  const it = new Echo(link.words, matches, partial);
  it.mac0 = 0x00000002;
  it.mac1 = 0x0100;
  return it;
};
const whole = echo(false);

/** Runs one frame through; gives the drop's name, or the answer's bytes. */
function answer(frame: Uint8Array, at = 0, it = whole): string | Uint8Array {
  const batch = new Batch();
  link.bytes.fill(0xee);
  link.inject(frame, at);
  link.receive(batch, 1);
  const reason = it.answer(batch, 0);
  const bytes = link.bytes.slice(batch.off[0], batch.off[0]! + batch.len[0]!);
  batch.dropped[0] = batch.off[0]!;
  batch.drops = 1;
  link.release(batch);
  return reason === 0 ? bytes : dropNames[reason]!;
}

const question: UdpFrame = {
  dstMac: ourMac,
  srcMac: theirMac,
  src: them,
  dst: us,
  sport: 4000,
  dport: 7,
  payload: new TextEncoder().encode("hello, netd"),
};
const changed = (at: number, value: number, from = question) => {
  const frame = udpFrame(from);
  frame[at] = value;
  return frame;
};
/** As `changed`, with the IPv4 checksum made right again. */
const rechecked = (at: number, value: number, from = question) => {
  const frame = changed(at, value, from);
  frame[24] = frame[25] = 0;
  new DataView(frame.buffer).setUint16(24, checksum(frame, 14, (frame[14]! & 15) * 4));
  return frame;
};

/** What a right answer is, from RFC 862 and the headers' definitions. */
const wanted = (spec: UdpFrame) =>
  udpFrame({
    ...spec,
    src: spec.dst,
    dst: spec.src,
    sport: spec.dport,
    dport: spec.sport,
    options: new Uint8Array(0),
    ttl: 64,
    tos: 0,
    id: 0,
    fragment: 0x4000,
  });

describe("Echo", () => {
  test("answers any datagram with exactly its payload and right headers", () => {
    fc.assert(
      fc.property(
        fc.record({
          payload: fc.uint8Array({ maxLength: 1472 }),
          src: fc.integer(),
          sport: fc.integer({ min: 0, max: 65535 }).filter((port) => port !== 7),
          ttl: fc.integer({ min: 0, max: 255 }),
          tos: fc.integer({ min: 0, max: 255 }),
          id: fc.integer({ min: 0, max: 65535 }),
          fragment: fc.constantFrom(0, 0x4000),
          options: fc.integer({ min: 0, max: 10 }).map((n) => new Uint8Array(n * 4).fill(1)),
          at: fc.integer({ min: 0, max: 16 }).map((n) => n * 4),
          padding: fc.integer({ min: 0, max: 20 }),
        }),
        ({ at, padding, ...fields }) => {
          const spec = { ...question, ...fields };
          const frame = udpFrame(spec);
          const padded = new Uint8Array(frame.length + padding).fill(0xaa);
          padded.set(frame);
          const got = answer(padded, at);
          const want = wanted(spec);
          expect(typeof got).not.toBe("string");
          expect(got.slice(12)).toEqual(want.slice(12)); // Ethernet addresses are transmit's part
        },
      ),
      { numRuns: 500 },
    );
  });

  test("an answer to a datagram without checksum has one", () => {
    const frame = changed(40, 0);
    frame[41] = 0;
    expect(answer(frame).slice(12)).toEqual(wanted(question).slice(12));
  });

  test("completes a checksum that the local kernel left partial, if told to", () => {
    const frame = udpFrame(question);
    const view = new DataView(frame.buffer);
    const length = view.getUint16(38);
    let sum = pseudo(frame, length);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    view.setUint16(40, sum, true);
    expect(answer(frame)).toBe("bad_udp_checksum");
    expect(answer(frame, 0, echo(true)).slice(12)).toEqual(wanted(question).slice(12));
  });

  test.each([
    ["runt", udpFrame(question).slice(0, 41)],
    ["other_host", changed(5, 9)],
    ["other_host", changed(0, 3)],
    ["not_ipv4", changed(12, 0x86)],
    ["bad_header", rechecked(14, 0x65)],
    ["bad_header", changed(14, 0x44)],
    ["bad_header", rechecked(17, 27)],
    ["bad_header", rechecked(16, 1)],
    ["bad_ip_checksum", changed(24, 0x77)],
    ["bad_ip_checksum", changed(24, 0x77, { ...question, options: new Uint8Array(8) })],
    ["fragment", rechecked(20, 0x20)],
    ["fragment", rechecked(21, 1)],
    ["not_udp", rechecked(23, 6)],
    ["bad_udp_length", changed(39, 7)],
    ["bad_udp_length", changed(38, 1)],
    ["bad_udp_checksum", changed(41, 0x77)],
    ["bad_udp_checksum", changed(52, 0x77)],
    ["no_match", udpFrame({ ...question, dport: 8 })],
    ["no_match", udpFrame({ ...question, dst: them })],
    ["echo_loop", udpFrame({ ...question, sport: 7 })],
  ])("drops as %s", (reason, frame) => {
    expect(answer(frame)).toBe(reason);
  });

  test("bytes of any kind never throw and never read as an answer to nobody", () => {
    const seed = Math.trunc(Math.random() * 2 ** 31);
    console.log(`echo fuzz seed ${seed}`);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 128 }), fc.nat(127), fc.nat(255), (noise, at, value) => {
        expect(typeof answer(noise)).toBe("string");
        const frame = udpFrame(question);
        if (at < frame.length) frame[at] = value;
        const got = answer(frame);
        if (typeof got !== "string") expect(got.length).toBeLessThanOrEqual(frame.length);
      }),
      { seed, numRuns: 2000 },
    );
  });
});
