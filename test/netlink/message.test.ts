// The request buffer: what is written is what a walk of it reads back, and what does not fit is refused.
import { expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { LinkRow, NeighRow, RouteRow } from "../../src/netbase/rows.ts";
import {
  attributeName,
  IFLA,
  IFLA_VLAN,
  NLA_TYPE_MASK,
  RTA,
  readAttributes,
} from "../../src/netlink/attribute.ts";
import { decodeLink, newLink } from "../../src/netlink/link.ts";
import {
  messageAt,
  messageFlags,
  messageLength,
  messageSeq,
  messageType,
  Requests,
} from "../../src/netlink/message.ts";
import { decodeNeigh, newNeigh } from "../../src/netlink/neigh.ts";
import { toPrefix } from "../../src/netlink/prefix.ts";
import { decodeRoute } from "../../src/netlink/route.ts";
import { newRoute } from "../../src/netlink/routeset.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

test("an address request, byte for byte", () => {
  const m = new Requests();
  const off = m.begin(20, 0x600, 8);
  m.bytes[off] = 2;
  m.bytes[off + 1] = 24;
  m.text(3, "lo");
  m.u8(11, 7);
  expect(Buffer.from(m.bytes.subarray(0, m.length)).toString("hex")).toBe(
    [
      "28000000",
      "1400",
      "0106",
      "01000000",
      "00000000",
      "0218000000000000",
      "07000300",
      "6c6f0000",
      "05000b00",
      "07000000",
    ].join(""),
  );
});

test("messages follow one another with their own lengths and sequence numbers, however much the buffer grows", () => {
  const payload = fc.uint8Array({ maxLength: 3000 });
  fc.assert(
    fc.property(
      fc.array(fc.array(payload, { maxLength: 20 }), { minLength: 1, maxLength: 20 }),
      (messages) => {
        const m = new Requests();
        m.reset();
        messages.forEach((attributes, i) => {
          m.begin(100 + i, i, 4);
          attributes.forEach((bytes, type) => void m.raw(type, bytes));
        });
        expect(m.count).toBe(messages.length);
        let off = 0;
        messages.forEach((attributes, i) => {
          expect(messageAt(m.words, i)).toBe(off);
          expect(messageType(m.words, off)).toBe(100 + i);
          expect(messageFlags(m.words, off)).toBe(i | 1);
          expect(messageSeq(m.words, off)).toBe(m.firstSeq + i);
          const len = messageLength(m.words, off, m.length);
          const got: Uint8Array[] = [];
          const readers = attributes.map((_, type) => ({
            min: 0,
            read(_row: null, _words: Int32Array, bytes: Uint8Array, at: number, n: number) {
              got[type] = bytes.slice(at, at + n);
              return true;
            },
          }));
          expect(readAttributes(readers, null, m.words, m.bytes, off + 20, off + len)).toBe(true);
          expect(got).toEqual(attributes);
          off += (len + 3) & ~3;
        });
        expect(off).toBe(m.length);
      },
    ),
    { numRuns: 50 },
  );
});

test("a buffer that was used before leaves nothing in the next message", () => {
  const m = new Requests();
  m.begin(20, 0, 8);
  m.raw(1, new Uint8Array(100).fill(255));
  m.reset();
  m.begin(20, 0, 8);
  m.text(1, "abcdefghi");
  m.flag(2);
  expect(m.bytes.subarray(16, 24).every((byte) => byte === 0)).toBe(true);
  expect(Buffer.from(m.bytes.subarray(24, m.length)).toString("latin1")).toBe(
    "\x0e\0\x01\0abcdefghi\0\0\0\x04\0\x02\0",
  );
});

test("lengths beyond 16 bits are refused, not wrapped", () => {
  const m = new Requests();
  m.begin(20, 0, 8);
  m.raw(1, new Uint8Array(65531));
  expect(() => m.raw(1, new Uint8Array(65532))).toThrow(RangeError);
  const nexthops = Array.from({ length: 5000 }, () => ({ oif: 1, via: "10.0.0.1" }));
  expect(() => newRoute(m, { dst: "10.0.0.0/8", nexthops })).toThrow("at most 65535");
});

test("a walk stops where a length does not fit", () => {
  const words = new Int32Array(16);
  for (const bad of [0, 15, 65, -1, 0x7fffffff, -0x80000000]) {
    words[0] = bad;
    expect(messageLength(words, 0, 64)).toBe(0);
  }
  words[0] = 64;
  expect(messageLength(words, 0, 64)).toBe(64);
  expect(messageLength(words, 0, 63)).toBe(0);
  expect(messageLength(words, 0, 15)).toBe(0);
});

test("what we write we read back: kinds that this kernel may not have, and long values", () => {
  const m = new Requests();
  newLink(m, { name: "v7", kind: "vlan", link: 3, vlan: 4095, mtu: 1496, lladdr: "02:00:00:00:00:07" });
  const link = new LinkRow();
  expect(decodeLink(m.words, m.bytes, 0, m.length, link)).toBe(true);
  expect(link).toMatchObject({ name: "v7", kind: "vlan", link: 3, vlan: 4095, mtu: 1496, lladdrLen: 6 });

  m.reset();
  const lladdr = Uint8Array.from({ length: 32 }, (_, i) => i);
  newNeigh(m, { ifindex: 70000, dst: "fe80::1", lladdr });
  const neigh = new NeighRow();
  expect(decodeNeigh(m.words, m.bytes, 0, m.length, neigh)).toBe(true);
  expect([neigh.ifindex, neigh.lladdrLen, [...neigh.lladdr]]).toEqual([70000, 32, [...lladdr]]);
  m.reset();
  newNeigh(m, { ifindex: 1, dst: "fe80::1", lladdr: new Uint8Array(33) });
  expect(decodeNeigh(m.words, m.bytes, 0, m.length, neigh)).toBe(false);

  m.reset();
  const nexthops = Array.from({ length: 1000 }, (_, i) => ({ oif: i + 1, via: `10.0.${i >> 8}.${i & 255}` }));
  newRoute(m, { dst: "10.0.0.0/8", nexthops });
  const route = new RouteRow();
  expect(decodeRoute(m.words, m.bytes, 0, m.length, route)).toBe(true);
  expect(route.legs.n).toBe(1000);
  expect([route.legs.ifindex[999], route.legs.gateway[999 * 4]]).toEqual([1000, 0xe703000a | 0]);
});

test("names and prefixes", () => {
  expect(attributeName(RTA, RTA.NH_ID)).toBe("RTA_NH_ID");
  expect(attributeName(IFLA_VLAN, 77)).toBe("IFLA_VLAN_77");
  expect(IFLA.MTU & NLA_TYPE_MASK).toBe(4);
  expect(toPrefix("10.0.0.0/8").prefixLen).toBe(8);
  expect(toPrefix("fd00::").prefixLen).toBe(128);
  for (const bad of [
    "10.0.0.0/",
    "10.0.0.0/33",
    "10.0.0.0/-1",
    "10.0.0.0/8/8",
    "default",
    "",
    "fd00::/129",
    "1.2.3.4/1e1",
  ])
    expect(() => toPrefix(bad)).toThrow(TypeError);
});
