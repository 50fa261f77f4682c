// Fragments in the XDP program (BPF_PROG_TEST_RUN), in every order: later ones follow the first, as long as that is known.
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { AF_INET, AF_INET6 } from "../../src/wire/address.ts";
import { concat, ETH_P_8021Q, extension, TCP, UDP, u16 } from "./frames.ts";
import {
  FAMILIES,
  fragment,
  Harness,
  ICMP,
  ICMPV6,
  icmp,
  key,
  l4,
  listener,
  match,
  PORTED,
  remote,
  SCTP,
} from "./harness.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

let bpf: Harness;
let id = 0;
beforeAll(() => {
  bpf = new Harness();
});
beforeEach(() => bpf.reset());
afterAll(() => bpf.close());

const REST = new Uint8Array(8);

/** Fragment `part` of 0..2 of a packet to this port; 24 and 8 bytes, and the rest. */
function piece(family: number, protocol: number, part: number, dport = 5353, packet = id): Uint8Array {
  const head = concat(l4(protocol, 1000, dport), new Uint8Array(24)).subarray(0, 24);
  if (protocol === UDP) head.set(u16(40), 4); // of the whole packet
  return fragment(family, protocol, packet, [0, 24, 32][part]!, part < 2, part === 0 ? head : REST);
}

const orders = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
];

for (const family of FAMILIES)
  test(`family ${family}: every order, to a client's port and to one of the kernel's`, () => {
    for (const protocol of PORTED)
      for (const [kind, wanted] of Object.entries({
        listener: listener(family, protocol),
        flow: match(family, protocol),
        wild: match(family, protocol, { dport: -1, sport: 1000 }),
        any: match(family, protocol, { dst: key([]), dstPrefix: 0 }),
      })) {
        for (const order of orders)
          for (const part of order) expect(hit(protocol, part, 5353)).toBe("fragment");
        bpf.maps.add(wanted);
        for (const order of orders)
          for (const dport of [5353, 5354]) {
            if (kind === "wild" && dport === 5354) continue;
            id++;
            for (const part of order) {
              // Before the first, nobody knows; user space holds what could be a client's, and gets the first one too.
              const theirs = order[0] !== 0 || dport === 5353;
              const expected = theirs ? "redirected" : part === 0 ? "noMatch" : "fragment";
              expect([kind, protocol, order, dport, part, hit(protocol, part, dport)]).toEqual([
                kind,
                protocol,
                order,
                dport,
                part,
                expected,
              ]);
            }
          }
        // Another protocol's, and another host's, are nobody's.
        const other = protocol === SCTP ? TCP : SCTP;
        id++;
        expect(hit(other, 1, 5353)).toBe("fragment");
        expect(hit(other, 0, 5353)).toBe("noMatch");
        expect(hit(other, 2, 5353)).toBe("fragment");
        bpf.maps.remove(wanted);
      }
    function hit(protocol: number, part: number, dport: number): string {
      return bpf.verdict(piece(family, protocol, part, dport));
    }
  });

test("packets are told apart by id, both addresses, and for IPv4 the protocol", () => {
  for (const family of FAMILIES) {
    // Unknown ones to this destination are held, so the kernel's are those that were seen.
    bpf.maps.add(listener(family, UDP));
    const [a, b] = [++id, ++id];
    expect(bpf.verdict(piece(family, UDP, 0, 5354, a))).toBe("noMatch");
    expect(bpf.verdict(piece(family, UDP, 1, 5354, a))).toBe("fragment");
    expect(bpf.verdict(piece(family, UDP, 1, 5354, b))).toBe("redirected");
    const src = [...remote(family).slice(0, -1), 77];
    expect(bpf.verdict(fragment(family, UDP, a, 24, true, REST, { src }))).toBe("redirected");
    expect(bpf.verdict(fragment(family, UDP, a, 24, true, REST))).toBe("fragment");
    // A packet with the same id later: its first fragment counts.
    expect(bpf.verdict(piece(family, UDP, 0, 5353, a))).toBe("redirected");
    expect(bpf.verdict(piece(family, UDP, 2, 5353, a))).toBe("redirected");
  }
});

test("IPv6: the chain may go on behind the fragment header, and later fragments then do not name the protocol", () => {
  bpf.maps.add(listener(AF_INET6, UDP));
  const body = extension(UDP, concat(l4(UDP), new Uint8Array(4)));
  body.set(u16(100), 12);
  for (const order of ["first", "later"])
    for (const dport of [5353, 5354]) {
      body.set(u16(dport), 10);
      id++;
      const held = order === "later";
      if (held) expect(bpf.verdict(fragment(AF_INET6, 60, id, 24, false, REST))).toBe("redirected");
      const theirs = held || dport === 5353;
      const first = bpf.verdict(fragment(AF_INET6, 60, id, 0, true, body));
      expect(first).toBe(theirs ? "redirected" : "noMatch");
      // RFC 8200: only the first fragment's next header counts.
      for (const next of [60, TCP])
        expect(bpf.verdict(fragment(AF_INET6, next, id, 24, false, REST))).toBe(
          theirs ? "redirected" : "fragment",
        );
    }
  // To an address without any match.
  const dst = [...remote(AF_INET6).slice(0, 15), 99];
  expect(bpf.verdict(fragment(AF_INET6, 60, ++id, 24, false, REST, { dst }))).toBe("fragment");
});

test("IPv6: an atomic fragment is a whole packet, and is remembered by nobody", () => {
  bpf.maps.add(listener(AF_INET6, UDP));
  id++;
  expect(bpf.verdict(fragment(AF_INET6, UDP, id, 0, false, l4(UDP)))).toBe("redirected");
  expect(bpf.verdict(fragment(AF_INET6, UDP, id, 0, false, l4(UDP, 1, 5354)))).toBe("noMatch");
  expect(bpf.verdict(fragment(AF_INET6, UDP, id, 24, false, REST))).toBe("redirected"); // held, as unknown
  const two = concat([44, 0, 0, 0, 0, 0, 0, 1], [UDP, 0, 0, 0, 0, 0, 0, 1], l4(UDP));
  expect(bpf.verdict(fragment(AF_INET6, 44, id, 0, false, two.subarray(8)))).toBe("other");
});

test("first fragments cut off in the L4 header are malformed, cut at every length", () => {
  for (const family of FAMILIES)
    for (const protocol of PORTED) {
      bpf.maps.add(listener(family, protocol));
      id++;
      const bytes = piece(family, protocol, 0);
      for (let length = 14; length < bytes.length; length++)
        if (bpf.verdict(bytes.subarray(0, length)) !== "malformed")
          throw new Error(`${family} ${protocol} cut at ${length}: not malformed`);
      const tiny = fragment(family, protocol, id, 0, true, l4(protocol).subarray(0, 8));
      const whole = protocol !== TCP && protocol !== SCTP && protocol !== 33;
      expect([protocol, bpf.verdict(tiny)]).toEqual([protocol, whole ? "redirected" : "malformed"]);
    }
});

test("echo in fragments, and ICMP to an address that only a client has", () => {
  for (const family of FAMILIES) {
    const protocol = family === AF_INET ? ICMP : ICMPV6;
    const type = family === AF_INET ? 0 : 129;
    bpf.maps.add(match(family, protocol, { dport: 7, sport: 0 }));
    id++;
    expect(bpf.verdict(fragment(family, protocol, id, 16, false, REST))).toBe("redirected");
    expect(bpf.verdict(fragment(family, protocol, id, 0, true, icmp(type, 7, REST)))).toBe("redirected");
    id++;
    expect(bpf.verdict(fragment(family, protocol, id, 0, true, icmp(type, 8, REST)))).toBe("noMatch");
    expect(bpf.verdict(fragment(family, protocol, id, 16, false, REST))).toBe("fragment");
    const dst = [...remote(family).slice(0, -1), 9];
    id++;
    expect(bpf.verdict(fragment(family, protocol, id, 16, false, REST, { dst }))).toBe("fragment");
    bpf.maps.addOwned(family, key(dst));
    id++;
    expect(bpf.verdict(fragment(family, protocol, id, 16, false, REST, { dst }))).toBe("redirected");
    id++;
    expect(bpf.verdict(fragment(family, UDP, id, 16, false, REST, { dst }))).toBe("fragment");
    bpf.maps.removeOwned(family, key(dst));
    bpf.maps.remove(match(family, protocol, { dport: 7, sport: 0 }));
  }
});

test("tagged fragments, and those from where nobody is, are the kernel's", () => {
  bpf.maps.add(listener(AF_INET, UDP));
  id++;
  const tags: [number, number][] = [[ETH_P_8021Q, 5]];
  expect(bpf.verdict(fragment(AF_INET, UDP, id, 0, true, l4(UDP), { tags }))).toBe("fragment");
  expect(bpf.verdict(fragment(AF_INET, UDP, id, 24, false, REST, { tags }))).toBe("fragment");
  expect(bpf.verdict(fragment(AF_INET, UDP, id, 0, true, l4(UDP), { src: [127, 0, 0, 1] }))).toBe("martian");
});

test("more packets in pieces than there is room for: the latest are known", () => {
  bpf.maps.add(listener(AF_INET, UDP));
  for (let i = 0; i < 20_000; i++) bpf.verdict(piece(AF_INET, UDP, 0, 5354, i));
  expect(bpf.verdict(piece(AF_INET, UDP, 1, 5354, 19_999))).toBe("fragment");
  let known = 0;
  for (let i = 0; i < 20_000; i += 100)
    if (bpf.verdict(piece(AF_INET, UDP, 1, 5354, i)) === "fragment") known++;
  expect(known).toBeLessThan(100);
});
