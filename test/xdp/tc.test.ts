// The tc programs, frame by frame (BPF_PROG_TEST_RUN): what the kernel sends that is a client's, and what netd gives back.
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { AF_INET, AF_INET6 } from "../../src/wire/address.ts";
import { MAC } from "./card.ts";
import { concat, ETH_P_8021Q, ethernet, extension, TCP, UDP, u16 } from "./frames.ts";
import {
  errorOf,
  FAMILIES,
  fragment,
  frame,
  Harness,
  ICMP,
  ICMPV6,
  icmp,
  key,
  l4,
  listener,
  match,
  own,
  PORTED,
  remote,
  sent,
} from "./harness.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const NEXT = -1;
const REDIRECT = 7;
const BROADCAST = new Uint8Array(6).fill(0xff);
const CLIENT_MAC = Uint8Array.of(2, 9, 9, 9, 9, 9);

let bpf: Harness;
beforeAll(() => {
  bpf = new Harness();
});
beforeEach(() => bpf.reset());
afterAll(() => bpf.close());

const client = (family: number): number[] => [...own(family).slice(0, -1), 9];
/** The kernel's test run takes no shorter frames than those with an IP header. */
const shortest = (family: number): number => (family === AF_INET ? 34 : 54);

for (const program of ["lo_egress", "card_egress"] as const)
  test(`${program}: what hits a match of a client's, in every protocol, at every length`, () => {
    const lo = program === "lo_egress";
    for (const family of FAMILIES)
      for (const protocol of PORTED) {
        const dst = lo ? own(family) : client(family);
        const bytes = frame(family, protocol, l4(protocol), { dst, src: own(family) });
        const fields = { dst: key(dst), src: key(own(family)) };
        for (const wanted of [
          match(family, protocol, fields),
          { ...listener(family, protocol), dst: key(dst) },
          match(family, protocol, { ...fields, dport: -1 }),
        ]) {
          expect(bpf.tc(program, bytes)).toBe(NEXT);
          bpf.maps.add(wanted);
          bpf.maps.addOwned(family, key(client(family)));
          expect([family, protocol, bpf.tc(program, bytes)]).toEqual([family, protocol, REDIRECT]);
          for (let length = shortest(family); length < bytes.length; length++)
            if (bpf.tc(program, bytes.subarray(0, length)) !== NEXT)
              throw new Error(`${family} ${protocol} cut at ${length}: redirected`);
          const near = frame(family, protocol, l4(protocol, 1000, 5354), { dst, src: own(family) });
          // A closed port of a client's own address is netd's to refuse.
          const isRefused = !lo && protocol !== ICMP && protocol !== ICMPV6;
          if (wanted.dport >= 0) expect(bpf.tc(program, near)).toBe(isRefused ? REDIRECT : NEXT);
          const tagged = frame(family, protocol, l4(protocol), {
            dst,
            src: own(family),
            tags: [[ETH_P_8021Q, 5]],
          });
          expect(bpf.tc("card_egress", tagged)).toBe(NEXT);
          bpf.maps.removeOwned(family, key(client(family)));
          bpf.maps.remove(wanted);
        }
      }
    const { toTap, local } = bpf.program.counters();
    expect(lo ? toTap : local).toBe(0);
    expect(lo ? local : toTap).toBe(lo ? 30 : 30 + 20); // and the closed ports
  });

test("extension headers and long packets: the headers are looked at, wherever they end", () => {
  bpf.maps.add(listener(AF_INET6, TCP));
  let body = concat(l4(TCP), new Uint8Array(1200));
  for (let i = 0; i < 6; i++) body = extension(i === 0 ? TCP : 60, body, 1);
  expect(bpf.tc("lo_egress", frame(AF_INET6, 60, body))).toBe(REDIRECT);
});

test("lo: loopback addresses are nobody's, whatever the pattern", () => {
  for (const family of FAMILIES) {
    const loopback = family === AF_INET ? [127, 0, 0, 1] : [...new Array<number>(15).fill(0), 1];
    bpf.maps.add(match(family, UDP, { dst: key([]), dstPrefix: 0, src: key([]), srcPrefix: 0, sport: -1 }));
    expect(bpf.tc("lo_egress", frame(family, UDP, l4(UDP), { src: loopback, dst: loopback }))).toBe(NEXT);
    expect(bpf.tc("lo_egress", frame(family, UDP, l4(UDP), { src: own(family) }))).toBe(REDIRECT);
  }
});

test("the card: a pattern that leaves out the destination hits addresses that only clients have", () => {
  for (const family of FAMILIES) {
    bpf.maps.add(match(family, UDP, { dst: key([]), dstPrefix: 0, src: key([]), srcPrefix: 0, sport: -1 }));
    const to = (dst: number[]): number =>
      bpf.tc("card_egress", frame(family, UDP, l4(UDP), { src: own(family), dst }));
    expect(to(remote(family))).toBe(NEXT);
    bpf.maps.addOwned(family, key(client(family)));
    expect(to(client(family))).toBe(REDIRECT);
    expect(to(remote(family))).toBe(NEXT);
  }
});

test("the card: ARP, neighbour solicitations and ICMP for an address that only a client has", () => {
  const arp = (target: number[]): Uint8Array =>
    ethernet(
      0x0806,
      concat([0, 1, 8, 0, 6, 4, 0, 1], MAC, own(AF_INET), [0, 0, 0, 0, 0, 0], target),
      [],
      BROADCAST,
    );
  const solicitation = (target: number[]): Uint8Array =>
    frame(AF_INET6, ICMPV6, concat([135, 0, 0, 0, 0, 0, 0, 0], target), {
      src: own(AF_INET6),
      dst: [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 9],
      mac: Uint8Array.of(0x33, 0x33, 0xff, 0, 0, 9),
    });
  const ping = (family: number, dst: number[]): Uint8Array =>
    frame(family, family === AF_INET ? ICMP : ICMPV6, icmp(family === AF_INET ? 8 : 128, 1), {
      src: own(family),
      dst,
    });
  const all = (): number[] =>
    [
      arp(client(AF_INET)),
      solicitation(client(AF_INET6)),
      ping(AF_INET, client(AF_INET)),
      ping(AF_INET6, client(AF_INET6)),
    ].map((bytes) => bpf.tc("card_egress", bytes));
  bpf.maps.add(listener(AF_INET, TCP)); // so that there is a switch
  expect(all()).toEqual([NEXT, NEXT, NEXT, NEXT]);
  for (const family of FAMILIES) bpf.maps.addOwned(family, key(client(family)));
  expect(all()).toEqual([REDIRECT, REDIRECT, REDIRECT, REDIRECT]);
  for (const bytes of [
    arp(remote(AF_INET)),
    solicitation(remote(AF_INET6)),
    ping(AF_INET, remote(AF_INET)),
    ping(AF_INET6, remote(AF_INET6)),
    arp(client(AF_INET)).subarray(0, 41),
    solicitation(client(AF_INET6)).subarray(0, 77),
  ])
    expect(bpf.tc("card_egress", bytes)).toBe(NEXT);
});

test("an error of the kernel's to a client that shares its address goes by what it quotes", () => {
  for (const family of FAMILIES) {
    const quoted = sent(family, UDP, l4(UDP, 5353, 1000));
    const bytes = errorOf(family, quoted, { src: own(family) });
    expect(bpf.tc("lo_egress", bytes)).toBe(NEXT);
    bpf.maps.add(match(family, UDP));
    expect(bpf.tc("lo_egress", bytes)).toBe(REDIRECT);
    const header = family === AF_INET ? 20 : 40;
    for (let length = 0; length < quoted.length; length++)
      expect(bpf.tc("lo_egress", errorOf(family, quoted.subarray(0, length), { src: own(family) }))).toBe(
        length < header + 4 ? NEXT : REDIRECT,
      );
  }
});

test("fragments follow the first, in the kernel's order", () => {
  const rest = new Uint8Array(8);
  for (const family of FAMILIES) {
    bpf.maps.add(listener(family, UDP));
    for (const [id, dport, expected] of [
      [1, 5353, REDIRECT],
      [2, 5354, NEXT],
    ] as const) {
      const head = concat(u16(1000), u16(dport), u16(24), [0, 0], rest);
      const src = own(family);
      expect(bpf.tc("lo_egress", fragment(family, UDP, id, 0, true, head, { src }))).toBe(expected);
      expect(bpf.tc("lo_egress", fragment(family, UDP, id, 16, false, rest, { src }))).toBe(expected);
    }
  }
});

test("the tap: what is for the card's MAC goes there, all else is the tap's", () => {
  const to = (mac: Uint8Array): number => bpf.tc("tap_ingress", frame(AF_INET, UDP, l4(UDP), { mac }));
  expect(to(MAC)).toBe(REDIRECT);
  for (const mac of [BROADCAST, CLIENT_MAC]) expect(to(mac)).toBe(NEXT);
  for (let bit = 0; bit < 48; bit++) {
    const mac = MAC.slice();
    mac[bit >> 3]! ^= 1 << (bit & 7);
    expect(to(mac)).toBe(NEXT);
  }
  expect(bpf.program.counters().givenBack).toBe(1);
});

test("the card's ingress: frames from the wire with the mark's MAC are nobody's, in XDP too", () => {
  const mac = Uint8Array.of(2, 0x6e, 0x65, 0x74, 0x64, 0);
  bpf.maps.add(listener(AF_INET, UDP));
  const bytes = frame(AF_INET, UDP, l4(UDP), { mac });
  expect(bpf.verdict(bytes)).toBe("notMine");
  bpf.maps.addMac(mac); // not even if somebody asks for it
  expect(bpf.verdict(bytes)).toBe("notMine");
  expect(bpf.tc("card_ingress", bytes)).toBe(NEXT);
});

test("without entries the programs do nothing", () => {
  for (const program of ["lo_egress", "card_egress", "card_ingress"] as const)
    for (const family of FAMILIES)
      expect(bpf.tc(program, frame(family, UDP, l4(UDP), { mac: BROADCAST }))).toBe(NEXT);
  expect(Object.values(bpf.program.counters()).every((count) => count === 0)).toBe(true);
});
