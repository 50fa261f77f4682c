// What the XDP program redirects for the switch's clients, frame by frame (BPF_PROG_TEST_RUN): protocols, flows, patterns,
// further MACs and addresses, DHCP, and ICMP errors by what they quote.
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { AF_INET, AF_INET6 } from "../../src/wire/address.ts";
import type { WildMatch } from "../../src/xdp/maps.ts";
import { steerLayout } from "../../src/xdp/program.ts";
import { MAC } from "./card.ts";
import { concat, ETH_P_8021AD, ETH_P_8021Q, ethernet, extension, TCP, UDP, u16 } from "./frames.ts";
import {
  DCCP,
  errorOf,
  FAMILIES,
  frame,
  Harness,
  ICMP,
  ICMPV6,
  icmp,
  ip,
  key,
  l4,
  listener,
  match,
  own,
  PORTED,
  remote,
  SCTP,
  sent,
  UDPLITE,
} from "./harness.ts";
import { Random } from "../random.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const BROADCAST = new Uint8Array(6).fill(0xff);
const STRANGER = Uint8Array.of(2, 0, 0, 0, 9, 9);
const echo = (family: number, reply = true): number =>
  family === AF_INET ? (reply ? 0 : 8) : reply ? 129 : 128;
const icmpOf = (family: number): number => (family === AF_INET ? ICMP : ICMPV6);

let bpf: Harness;
beforeAll(() => {
  bpf = new Harness();
});
beforeEach(() => bpf.reset());
afterAll(() => bpf.close());

const cases = FAMILIES.flatMap((family) => PORTED.map((protocol) => [family, protocol] as const));

for (const [family, protocol] of cases)
  test(`family ${family}, protocol ${protocol}: flows hit by all five fields, listeners by three`, () => {
    const other = { 6: UDP, 17: TCP }[protocol] ?? TCP;
    const variants: [string, Uint8Array][] = [
      ["exact", frame(family, protocol, l4(protocol))],
      ["sport", frame(family, protocol, l4(protocol, 1001))],
      ["dport", frame(family, protocol, l4(protocol, 1000, 5354))],
      ["src", frame(family, protocol, l4(protocol), { src: [...remote(family).slice(0, -1), 3] })],
      ["dst", frame(family, protocol, l4(protocol), { dst: [...own(family).slice(0, -1), 9] })],
      ["protocol", frame(family, other, l4(other))],
      ["vlan", frame(family, protocol, l4(protocol), { tags: [[ETH_P_8021Q, 5]] })],
      ["priority", frame(family, protocol, l4(protocol), { tags: [[ETH_P_8021Q, 0x6000]] })],
      ["mac", frame(family, protocol, l4(protocol), { mac: STRANGER })],
    ];
    const hits = (): string[] => variants.filter(([, bytes]) => bpf.redirected(bytes)).map(([name]) => name);
    expect(hits()).toEqual([]);
    expect(bpf.maps.add(match(family, protocol))).toBe(true);
    expect(bpf.maps.add(match(family, protocol))).toBe(false);
    expect(hits()).toEqual(["exact", "priority"]);
    expect(bpf.maps.remove(match(family, protocol))).toBe(true);
    expect(bpf.maps.remove(match(family, protocol))).toBe(false);
    expect(hits()).toEqual([]);
    bpf.maps.add(listener(family, protocol));
    expect(hits()).toEqual(["exact", "sport", "src", "priority"]);
    bpf.maps.remove(listener(family, protocol));
    expect(hits()).toEqual([]);
  });

const tagSets: [string, [number, number][]][] = [
  ["untagged", []],
  ["priority tag", [[ETH_P_8021Q, 0]]],
  [
    "two priority tags",
    [
      [ETH_P_8021AD, 0],
      [ETH_P_8021Q, 0],
    ],
  ],
];

for (const [name, tags] of tagSets)
  test(`${name}: every protocol behind every chain of extension headers, truncated at every length`, () => {
    for (const [family, protocol] of cases) {
      bpf.maps.add(match(family, protocol));
      const chains = family === AF_INET ? [[]] : [[], [0], [60, 43], [0, 43, 60, 60, 60, 60]];
      for (const chain of chains) {
        let body = l4(protocol);
        let next = protocol;
        for (const header of chain.toReversed()) {
          body = extension(next, body, 1);
          next = header;
        }
        const bytes = frame(family, next, body, { tags });
        expect([family, protocol, chain, bpf.verdict(bytes)]).toEqual([
          family,
          protocol,
          chain,
          "redirected",
        ]);
        for (let length = 14; length < bytes.length; length++)
          if (bpf.verdict(bytes.subarray(0, length)) !== "malformed")
            throw new Error(`${family} ${protocol} ${chain} cut at ${length}: not malformed`);
      }
    }
  });

test("an L4 header that IP cuts off, though the frame goes on: malformed up to the header's length", () => {
  const header: Record<number, number> = { [TCP]: 20, [UDP]: 12, [SCTP]: 12, [DCCP]: 12, [UDPLITE]: 12 };
  for (const [family, protocol] of cases) {
    bpf.maps.add(match(family, protocol));
    const body = l4(protocol);
    for (let length = 0; length <= body.length; length++) {
      const bytes = concat(frame(family, protocol, body.subarray(0, length)), body.subarray(length), [0, 0]);
      const expected = length < header[protocol]! ? "malformed" : "redirected"; // UDP: its length says 12
      expect([family, protocol, length, bpf.verdict(bytes)]).toEqual([family, protocol, length, expected]);
    }
  }
});

test("UDP-Lite: a coverage of 0 is all, below 8 or beyond the packet is malformed; DCCP's offset counts", () => {
  bpf.maps.add(match(AF_INET, UDPLITE));
  bpf.maps.add(match(AF_INET, DCCP));
  for (let coverage = 0; coverage < 20; coverage++) {
    const bytes = frame(AF_INET, UDPLITE, concat(u16(1000), u16(5353), u16(coverage), [0, 0, 1, 2, 3, 4]));
    const right = coverage === 0 || (coverage >= 8 && coverage <= 12);
    expect([coverage, bpf.verdict(bytes)]).toEqual([coverage, right ? "redirected" : "malformed"]);
  }
  for (let offset = 0; offset < 256; offset++) {
    const body = l4(DCCP); // 16 bytes
    body[4] = offset;
    const right = offset === 3 || offset === 4;
    expect([offset, bpf.verdict(frame(AF_INET, DCCP, body))]).toEqual([
      offset,
      right ? "redirected" : "malformed",
    ]);
  }
});

test("protocols without a match of theirs pass; those that nobody can have are the kernel's", () => {
  for (const family of FAMILIES) bpf.maps.add(listener(family, TCP));
  for (const family of FAMILIES)
    for (let protocol = 0; protocol < 256; protocol++) {
      if ([0, 43, 44, 60].includes(protocol)) continue;
      const bytes = frame(family, protocol, l4(protocol === TCP || protocol === UDP ? protocol : SCTP));
      const known = [...PORTED, icmpOf(family)].includes(protocol) && protocol !== TCP && protocol !== DCCP;
      const expected = protocol === TCP ? "redirected" : known ? "noMatch" : "other";
      if (protocol === DCCP || protocol === icmpOf(family) || protocol === UDPLITE) continue; // not SCTP's header
      expect([family, protocol, bpf.verdict(bytes)]).toEqual([family, protocol, expected]);
    }
});

test("echo: the identifier is the destination port, of replies and requests", () => {
  for (const family of FAMILIES) {
    const flow = match(family, icmpOf(family), { dport: 77, sport: 0 });
    bpf.maps.add(flow);
    for (const reply of [true, false]) {
      expect(bpf.verdict(frame(family, icmpOf(family), icmp(echo(family, reply), 77)))).toBe("redirected");
      expect(bpf.verdict(frame(family, icmpOf(family), icmp(echo(family, reply), 78)))).toBe("noMatch");
    }
    const bytes = frame(family, icmpOf(family), icmp(echo(family), 77));
    for (let length = 14; length < bytes.length; length++)
      expect(bpf.verdict(bytes.subarray(0, length))).toBe("malformed");
    // The other family's ICMP is nobody's.
    expect(bpf.verdict(frame(family, icmpOf(family === AF_INET ? AF_INET6 : AF_INET), icmp(0, 77)))).toBe(
      "other",
    );
    bpf.maps.remove(flow);
    // Without a port: all of it.
    bpf.maps.add(listener(family, icmpOf(family), -1));
    const expected = family === AF_INET ? 256 : 256 - 9; // neighbours, routers and multicast listeners
    let count = 0;
    for (let type = 0; type < 256; type++) {
      // An error counts by what it quotes: here, a packet of ours with that protocol.
      const quoted = sent(family, icmpOf(family), icmp(echo(family, false), 5));
      if (bpf.redirected(frame(family, icmpOf(family), icmp(type, 1, quoted)))) count++;
    }
    expect(count).toBe(expected);
  }
});

test("patterns: prefixes and missing ports in every combination, as a model says", () => {
  const random = new Random(4711);
  for (const family of FAMILIES) {
    bpf.reset();
    const all = family === AF_INET ? 32 : 128;
    const near = all - 8;
    const added: WildMatch[] = [];
    const shapes: [number, boolean, number, boolean][] = [];
    for (const dstPrefix of [0, near, all])
      for (const srcPrefix of [0, near, all])
        for (const ports of [0, 1, 2, 3])
          shapes.push([dstPrefix, (ports & 1) > 0, srcPrefix, (ports & 2) > 0]);
    random.shuffle(shapes);
    for (const [dstPrefix, dport, srcPrefix, sport] of shapes.slice(0, 30)) {
      const candidate = match(family, random.pick(PORTED), {
        dstPrefix,
        srcPrefix,
        dport: dport ? 5350 + random.below(3) : -1,
        sport: sport ? 1000 + random.below(3) : -1,
        dst: masked([...own(family).slice(0, -2), random.below(3), random.below(3)], dstPrefix),
        src: masked([...remote(family).slice(0, -2), random.below(3), random.below(3)], srcPrefix),
      });
      bpf.maps.add(candidate);
      added.push(candidate);
    }
    let hits = 0;
    for (let round = 0; round < 600; round++) {
      if (round % 20 === 19 && added.length > 5)
        bpf.maps.remove(added.splice(random.below(added.length), 1)[0]!);
      const protocol = random.pick(PORTED);
      const [sport, dport] = [1000 + random.below(4), 5350 + random.below(4)];
      const src = [...remote(family).slice(0, -2), random.below(4), random.below(4)];
      const dst = [...own(family).slice(0, -2), random.below(4), random.below(4)];
      const expected = added.some(
        (a) =>
          a.protocol === protocol &&
          (a.dport < 0 || a.dport === dport) &&
          (a.sport < 0 || a.sport === sport) &&
          masked(dst, a.dstPrefix).join() === a.dst.join() &&
          masked(src, a.srcPrefix).join() === a.src.join(),
      );
      if (expected) hits++;
      const got = bpf.verdict(frame(family, protocol, l4(protocol, sport, dport), { src, dst }));
      expect([round, got]).toEqual([round, expected ? "redirected" : "noMatch"]);
    }
    expect(hits).toBeGreaterThan(100);
    for (const left of added) expect(bpf.maps.remove(left)).toBe(true);
    expect(bpf.verdict(frame(family, SCTP, l4(SCTP)))).toBe("other"); // no switch any more
  }
});

function masked(bytes: number[], prefix: number): Int32Array {
  return key(bytes.map((byte, i) => byte & (0xff00 >> Math.min(8, Math.max(0, prefix - 8 * i)))));
}

test("32 patterns have room, the next is refused and changes nothing; a place that is given up is used again", () => {
  const wild = (dstPrefix: number): WildMatch =>
    match(AF_INET, UDP, { dst: masked(own(AF_INET), dstPrefix), dstPrefix, dport: -1 });
  for (let prefix = 0; prefix < steerLayout.STEER_PATTERNS; prefix++) bpf.maps.add(wild(prefix));
  expect(() => bpf.maps.add(wild(32))).toThrow(/add a match with wildcards: ENOSPC/);
  expect(bpf.verdict(frame(AF_INET, UDP, l4(UDP)))).toBe("redirected");
  for (let prefix = 0; prefix < 31; prefix++) bpf.maps.remove(wild(prefix));
  bpf.maps.remove(wild(31));
  expect(bpf.verdict(frame(AF_INET, UDP, l4(UDP)))).toBe("noMatch");
  bpf.maps.add(wild(32));
  expect(bpf.verdict(frame(AF_INET, UDP, l4(UDP)))).toBe("redirected");
});

test("further MACs are ours too; a group address never is", () => {
  bpf.maps.add(listener(AF_INET, UDP));
  const to = (mac: Uint8Array): Uint8Array => frame(AF_INET, UDP, l4(UDP), { mac });
  expect(bpf.verdict(to(STRANGER))).toBe("notMine");
  bpf.maps.addMac(STRANGER);
  bpf.maps.addMac(BROADCAST);
  expect(bpf.verdict(to(STRANGER))).toBe("redirected");
  expect(bpf.verdict(to(MAC))).toBe("redirected");
  expect(bpf.verdict(to(BROADCAST))).toBe("notMine");
  for (let bit = 0; bit < 48; bit++) {
    const mac = STRANGER.slice();
    mac[bit >> 3]! ^= 1 << (bit & 7);
    expect(bpf.verdict(to(mac))).toBe("notMine");
  }
  expect(bpf.maps.removeMac(STRANGER)).toBe(true);
  expect(bpf.verdict(to(STRANGER))).toBe("notMine");
});

const arp = (operation: number, sender: number[], target: number[]): Uint8Array =>
  concat([0, 1, 8, 0, 6, 4, 0, operation], [2, 0, 0, 0, 0, 2], sender, [0, 0, 0, 0, 0, 0], target);

test("ARP for an address that only a client has: whoever asks or answers, at every length", () => {
  const [a, b, c] = [
    [10, 77, 0, 9],
    [10, 77, 0, 2],
    [10, 77, 0, 1],
  ];
  const verdict = (message: Uint8Array, mac = BROADCAST, tags: [number, number][] = []): string =>
    bpf.verdict(ethernet(0x0806, message, tags, mac));
  expect(verdict(arp(1, b!, a!))).toBe("notMine");
  expect(verdict(arp(1, b!, a!), MAC)).toBe("other");
  bpf.maps.addOwned(AF_INET, key(a!));
  for (const mac of [BROADCAST, MAC]) {
    expect(verdict(arp(1, b!, a!), mac)).toBe("redirected");
    expect(verdict(arp(2, b!, a!), mac)).toBe("redirected");
    expect(verdict(arp(1, a!, a!), mac)).toBe("redirected");
    expect(verdict(arp(1, [0, 0, 0, 0], a!), mac)).toBe("redirected");
    expect(verdict(arp(1, b!, c!), mac)).not.toBe("redirected");
  }
  expect(verdict(arp(1, b!, a!), STRANGER)).toBe("notMine");
  expect(verdict(arp(1, b!, a!), MAC, [[ETH_P_8021Q, 5]])).toBe("other");
  for (let length = 0; length < 28; length++)
    expect([length, verdict(arp(1, b!, a!).subarray(0, length), MAC)]).toEqual([length, "other"]);
  for (const [at, value] of [
    [1, 6],
    [2, 9],
    [4, 8],
    [5, 16],
  ] as const) {
    const bent = arp(1, b!, a!);
    bent[at] = value;
    expect(verdict(bent, MAC)).toBe("other");
  }
  bpf.maps.removeOwned(AF_INET, key(a!));
  expect(verdict(arp(1, b!, a!), MAC)).toBe("other");
});

test("neighbour discovery for an address that only a client has, from the unspecified address too", () => {
  const client = [...own(AF_INET6).slice(0, 15), 9];
  const node = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 9];
  const message = (type: number, target: number[]): Uint8Array => concat([type, 0, 0, 0, 0, 0, 0, 0], target);
  const multicast = Uint8Array.of(0x33, 0x33, 0xff, 0, 0, 9);
  const options = { mac: multicast, dst: node };
  const solicitation = frame(AF_INET6, ICMPV6, message(135, client), options);
  expect(bpf.verdict(solicitation)).toBe("notMine");
  bpf.maps.addOwned(AF_INET6, key(client));
  expect(bpf.verdict(solicitation)).toBe("redirected");
  const probe = frame(AF_INET6, ICMPV6, message(135, client), { ...options, src: new Array(16).fill(0) });
  expect(bpf.verdict(probe)).toBe("redirected");
  expect(bpf.verdict(frame(AF_INET6, ICMPV6, message(136, client)))).toBe("redirected");
  expect(bpf.verdict(frame(AF_INET6, ICMPV6, message(136, remote(AF_INET6)), { dst: client }))).toBe(
    "redirected",
  );
  expect(bpf.verdict(frame(AF_INET6, ICMPV6, message(135, own(AF_INET6)), options))).not.toBe("redirected");
  for (const type of [130, 131, 132, 133, 134, 137, 143])
    expect(bpf.verdict(frame(AF_INET6, ICMPV6, message(type, client)))).toBe("other");
  for (let length = 0; length < 24; length++)
    expect(bpf.redirected(frame(AF_INET6, ICMPV6, message(135, client).subarray(0, length), options))).toBe(
      false,
    );
  // ICMP to the address, of any kind; and what has ports, of which closed ones are silent with the firewall on; nothing else.
  expect(bpf.verdict(frame(AF_INET6, ICMPV6, icmp(128, 7), { dst: client }))).toBe("redirected");
  expect(bpf.verdict(errorOf(AF_INET6, [1, 2, 3], { dst: client }))).toBe("redirected");
  for (const protocol of PORTED) {
    const closed = frame(AF_INET6, protocol, l4(protocol), { dst: client });
    expect(bpf.verdict(closed)).toBe("redirected");
    bpf.maps.setFirewall("on");
    expect(bpf.verdict(closed)).toBe("dropped");
    bpf.maps.setFirewall("off");
  }
});

test("DHCP: an answer with a wanted transaction id, broadcast or not", () => {
  const message = (xid: number, operation = 2, sport = 67, dport = 68): Uint8Array => {
    const body = new Uint8Array(240);
    body[0] = operation;
    new DataView(body.buffer).setUint32(4, xid);
    return concat(u16(sport), u16(dport), u16(248), [0, 0], body);
  };
  const all = [255, 255, 255, 255];
  const verdict = (bytes: Uint8Array, mac = BROADCAST, dst = all): string =>
    bpf.verdict(frame(AF_INET, UDP, bytes, { mac, dst }));
  expect(verdict(message(0x3903f326))).toBe("notMine");
  bpf.maps.addDhcp(0x3903f326);
  expect(verdict(message(0x3903f326))).toBe("redirected");
  expect(verdict(message(0x3903f326), MAC, [10, 77, 0, 200])).toBe("redirected");
  expect(verdict(message(0x3903f326), STRANGER)).toBe("notMine");
  for (const other of [message(0x3903f327), message(0x3903f326, 1), message(0x3903f326, 2, 68, 67)])
    expect(verdict(other)).toBe("notMine");
  for (let length = 8; length < 16; length++) {
    const short = message(0x3903f326).slice(0, length);
    short.set(u16(length), 4);
    expect(verdict(short)).toBe("notMine");
  }
  bpf.maps.removeDhcp(0x3903f326);
  expect(verdict(message(0x3903f326))).toBe("notMine");
});

for (const family of FAMILIES)
  test(`family ${family}: an ICMP error goes where the packet that it quotes came from, however short the quote`, () => {
    const types = family === AF_INET ? [3, 4, 5, 11, 12] : [1, 2, 3, 4, 100, 127];
    const header = family === AF_INET ? 20 : 40;
    for (const protocol of [...PORTED, icmpOf(family)]) {
      const isEcho = protocol === icmpOf(family);
      const body = isEcho ? icmp(echo(family, false), 5353) : l4(protocol, 5353, 1000);
      const packet = sent(family, protocol, body);
      const needed = header + (isEcho ? 6 : 4);
      for (const wanted of [
        match(family, protocol, isEcho ? { sport: 0 } : {}),
        listener(family, protocol),
        match(family, protocol, { dport: -1 }),
      ]) {
        if (isEcho && wanted.dport < 0) continue; // its sport is 0
        expect(bpf.verdict(errorOf(family, packet))).not.toBe("redirected");
        bpf.maps.add(wanted);
        for (const type of types)
          expect(bpf.verdict(frame(family, icmpOf(family), icmp(type, 0, packet)))).toBe("redirected");
        for (let length = 0; length <= packet.length; length++) {
          const got = bpf.verdict(errorOf(family, packet.subarray(0, length)));
          expect([protocol, length, got]).toEqual([
            protocol,
            length,
            length < needed ? "noMatch" : "redirected",
          ]);
        }
        // What lies behind the packet in the frame is no part of it.
        const padded = concat(errorOf(family, packet.subarray(0, needed - 1)), packet.subarray(needed - 1));
        expect(bpf.verdict(padded)).toBe("noMatch");
        const whole = errorOf(family, packet);
        for (let length = 14; length < whole.length; length++)
          expect(bpf.verdict(whole.subarray(0, length))).toBe("malformed");
        // The flow's other direction, another host's packet, and an error that came to somebody else.
        const theirs = ip(family, protocol, isEcho ? body : l4(protocol, 1000, 5353));
        expect(bpf.verdict(errorOf(family, theirs))).toBe("noMatch");
        expect(bpf.verdict(errorOf(family, packet, { dst: remote(family) }))).toBe("noMatch");
        bpf.maps.remove(wanted);
      }
    }
  });

test("a quoted packet with options, extension headers, or of a fragment", () => {
  bpf.maps.add(listener(AF_INET, UDP));
  bpf.maps.add(listener(AF_INET6, UDP));
  const body = l4(UDP, 5353, 1000);
  for (let ihl = 0; ihl < 16; ihl++) {
    const packet = concat(
      sent(AF_INET, UDP, []).subarray(0, 20),
      new Uint8Array(Math.max(0, ihl - 5) * 4),
      body,
    );
    packet[0] = 0x40 | ihl;
    expect([ihl, bpf.verdict(errorOf(AF_INET, packet))]).toEqual([ihl, ihl < 5 ? "noMatch" : "redirected"]);
  }
  const packet = sent(AF_INET, UDP, body);
  for (const [word, expected] of [
    [0x2000, "redirected"],
    [0x4000, "redirected"],
    [0x0001, "noMatch"],
    [0x3fff, "noMatch"],
  ] as const) {
    packet.set(u16(word), 6);
    expect(bpf.verdict(errorOf(AF_INET, packet))).toBe(expected);
  }
  for (let count = 0; count <= 8; count++) {
    let inner: Uint8Array = body;
    for (let i = 0; i < count; i++) inner = extension(i === 0 ? UDP : 60, inner, i % 2);
    const six = sent(AF_INET6, count === 0 ? UDP : 60, inner);
    const verdict = bpf.verdict(errorOf(AF_INET6, six));
    expect([count, verdict]).toEqual([count, count <= 6 ? "redirected" : "noMatch"]);
    for (let length = 40; count <= 6 && length < six.length; length++)
      expect(bpf.redirected(errorOf(AF_INET6, six.subarray(0, length)))).toBe(length >= six.length - 8);
  }
  for (const [offset, expected] of [
    [1, "redirected"],
    [0, "redirected"],
    [8, "noMatch"],
  ] as const) {
    const six = sent(AF_INET6, 44, concat([UDP, 0, ...u16(offset), 0, 0, 0, 1], body));
    expect(bpf.verdict(errorOf(AF_INET6, six))).toBe(expected);
  }
});
