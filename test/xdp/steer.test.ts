// The steering program by BPF_PROG_TEST_RUN, with a real AF_XDP socket in its map: what is redirected, and under which
// reason the rest passes. Exhaustive where a field has up to 16 bits.
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { AF_INET, AF_INET6 } from "../../src/wire/address.ts";
import { type Match, SteerProgram, steerCounters, steerLayout } from "../../src/xdp/program.ts";
import { createSocket, type XdpSocket } from "../../src/xdp/socket.ts";
import { Card, MAC } from "./card.ts";
import {
  ADDRESS4,
  ADDRESS6,
  concat,
  ETH_P_8021AD,
  ETH_P_8021Q,
  ETH_P_IP,
  ETH_P_IPV6,
  ethernet,
  extension,
  ipv4,
  ipv6,
  TCP,
  tcp,
  UDP,
  u16,
  udp,
  words,
} from "./frames.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const XDP_PASS = 2;
const XDP_REDIRECT = 4;
const PORT = 5353;
const S_TAG = steerLayout.STEER_VLAN_8021AD;

let card: Card;
let socket: XdpSocket;
let program: SteerProgram;

const match = (fields: Partial<Match> = {}): Match => {
  const family = fields.family ?? AF_INET;
  const address = words(family === AF_INET ? ADDRESS4 : ADDRESS6);
  return { family, proto: UDP, address, port: PORT, ...fields };
};
const match6 = (fields: Partial<Match> = {}): Match => match({ family: AF_INET6, ...fields });

beforeAll(() => {
  card = new Card(2);
  socket = card.run(() =>
    createSocket({
      ifname: "nd0",
      ifindex: card.ifindex,
      queue: 0,
      frames: 64,
      frameBytes: 2048,
      rxSize: 64,
      txSize: 64,
      mode: "copy",
    }),
  );
});

// A fresh program a test: no match outlives its test.
beforeEach(() => {
  program?.close();
  program = SteerProgram.load();
  program.setAddress(MAC);
  program.setSocket(0, socket.ref.fd);
});

afterAll(() => {
  program.close();
  socket.close();
  card.close();
});

/** A test that runs in the card's namespace, as BPF_PROG_TEST_RUN has to. */
const inside = (name: string, fn: () => void): void => test(name, () => card.run(fn));

const run = (frame: Uint8Array, queue = 0): number =>
  program.testRun(frame, { ifindex: card.ifindex, queue });

/** What became of one frame: the counter's name. Fails if more than one moved, or if the action contradicts it. */
function verdict(frame: Uint8Array, queue = 0): string {
  const before = program.counters();
  const action = run(frame, queue);
  const after = program.counters();
  const moved = steerCounters.filter((name) => after[name] !== before[name]);
  expect(moved.length).toBe(1);
  expect(after[moved[0]!] - before[moved[0]!]).toBe(1);
  expect(action).toBe(moved[0] === "redirected" ? XDP_REDIRECT : XDP_PASS);
  return moved[0]!;
}

/** Every value of the u16 at `offset` for which the frame is redirected. */
function redirected16(frame: Uint8Array, offset: number): number[] {
  const found: number[] = [];
  for (let value = 0; value < 65536; value++) {
    frame[offset] = value >> 8;
    frame[offset + 1] = value & 0xff;
    const action = run(frame);
    if (action === XDP_REDIRECT) found.push(value);
    else if (action !== XDP_PASS) throw new Error(`value ${value}: action ${action}`);
  }
  return found;
}

/** The values that `redirected16` tried, by counter. */
const tally = (): Record<string, number> =>
  Object.fromEntries(Object.entries(program.counters()).filter(([, n]) => n > 0));

const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

const L3 = 14;
const L4 = L3 + 20;
const L4_6 = L3 + 40;
const frame4 = (): Uint8Array => ethernet(ETH_P_IP, ipv4(udp(PORT)));
const frame6 = (): Uint8Array => ethernet(ETH_P_IPV6, ipv6(udp(PORT)));

inside("all ethertypes: IPv4 and IPv6 under their own alone", () => {
  program.addMatch(match());
  program.addMatch(match6());
  expect(redirected16(frame4(), 12)).toEqual([ETH_P_IP]);
  expect(tally()).toEqual({ redirected: 1, malformed: 1, other: 65534 }); // malformed: IPv4 as 0x86dd
  expect(redirected16(frame6(), 12)).toEqual([ETH_P_IPV6]);
  expect(tally()).toEqual({ redirected: 2, malformed: 2, other: 2 * 65534 });
});

inside("all ethertypes inside a VLAN tag", () => {
  program.addMatch(match({ vlans: [5] }));
  expect(redirected16(ethernet(ETH_P_IP, ipv4(udp(PORT)), [[ETH_P_8021Q, 5]]), 16)).toEqual([ETH_P_IP]);
});

for (const [name, proto, family] of [
  ["UDP over IPv4", UDP, AF_INET],
  ["TCP over IPv4", TCP, AF_INET],
  ["UDP over IPv6", UDP, AF_INET6],
  ["TCP over IPv6", TCP, AF_INET6],
] as const)
  inside(`all destination ports, ${name}: hits and misses`, () => {
    const ports = [0, 1, 53, 5353, 0x3535, 32767, 65534, 65535];
    for (const port of ports) program.addMatch(match({ proto, family, port }));
    // The same ports for the other protocol and family are other keys.
    for (const port of [54, 443]) {
      program.addMatch(match({ proto: proto === UDP ? TCP : UDP, family, port }));
      program.addMatch(match({ proto, family: family === AF_INET ? AF_INET6 : AF_INET, port }));
    }
    const l4 = proto === UDP ? udp(0) : tcp(0);
    const frame =
      family === AF_INET
        ? ethernet(ETH_P_IP, ipv4(l4, { proto }))
        : ethernet(ETH_P_IPV6, ipv6(l4, { next: proto }));
    expect(redirected16(frame, (family === AF_INET ? L4 : L4_6) + 2)).toEqual(ports);
    expect(tally()).toEqual({ redirected: ports.length, noMatch: 65536 - ports.length });
  });

inside("a full match table still hits all, and says so when it refuses one more", () => {
  for (let port = 0; port < 65536; port++) program.addMatch(match({ port }));
  expect(redirected16(frame4(), L4 + 2).length).toBe(65536);
  expect(() => program.addMatch(match6())).toThrow(/update map matches: E2BIG \(the map is full\)/);
  program.addMatch(match({ port: 77 })); // there already
  expect(program.removeMatch(match({ port: 77 }))).toBe(true);
  program.addMatch(match6());
  expect(verdict(frame6())).toBe("redirected");
});

inside("all protocols: UDP and TCP alone are looked up", () => {
  // A body that is a valid header of both: what would be TCP's sequence number holds UDP's length.
  const body = concat(u16(0x3b00), u16(PORT), u16(24), [0, 0, 0, 0, 0, 0, 0x50], new Uint8Array(11));
  program.addMatch(match());
  program.addMatch(match6());
  for (let proto = 0; proto < 256; proto++) {
    const expected = proto === UDP ? "redirected" : proto === TCP ? "noMatch" : "other";
    expect([proto, verdict(ethernet(ETH_P_IP, ipv4(body, { proto })))]).toEqual([proto, expected]);
    // As an extension header the body says: 59, no next header, follows; as routing it has segments left.
    const expected6 = proto === 44 ? "fragment" : expected;
    expect([proto, verdict(ethernet(ETH_P_IPV6, ipv6(body, { next: proto })))]).toEqual([proto, expected6]);
  }
});

inside("IHL 0..15 and every version", () => {
  program.addMatch(match());
  program.addMatch(match6());
  for (let ihl = 0; ihl < 16; ihl++) {
    const expected = ihl < 5 ? "malformed" : "redirected";
    // Below 5 the header still has its 20 bytes, so that nothing else is wrong.
    expect([ihl, verdict(ethernet(ETH_P_IP, ipv4(udp(PORT), { ihl })))]).toEqual([ihl, expected]);
  }
  for (let version = 0; version < 16; version++) {
    expect(verdict(ethernet(ETH_P_IP, ipv4(udp(PORT), { version })))).toBe(
      version === 4 ? "redirected" : "malformed",
    );
    expect(verdict(ethernet(ETH_P_IPV6, ipv6(udp(PORT), { version })))).toBe(
      version === 6 ? "redirected" : "malformed",
    );
  }
});

inside("an IHL of 4 is malformed even where a whole UDP header could be read at that place", () => {
  const dst = [10, 77, ...u16(PORT)]; // would be the ports, and the payload's first bytes the length
  program.addMatch(match({ address: words(dst) }));
  const payload = concat(u16(8), [0, 0], udp(PORT));
  expect(verdict(ethernet(ETH_P_IP, ipv4(payload, { ihl: 4, dst })))).toBe("malformed");
  expect(verdict(ethernet(ETH_P_IP, ipv4(udp(PORT), { dst })))).toBe("redirected");
});

inside("an IHL that reaches beyond the total length, or the frame", () => {
  program.addMatch(match());
  for (let ihl = 6; ihl < 16; ihl++)
    for (const total of [20, ihl * 4 - 1, ihl * 4, ihl * 4 + 7])
      expect(verdict(ethernet(ETH_P_IP, ipv4(udp(PORT), { ihl, total })))).toBe("malformed");
  expect(verdict(ethernet(ETH_P_IP, ipv4(udp(PORT), { ihl: 15 }).subarray(0, 40)))).toBe("malformed");
});

const tagSets: [string, [number, number][], number[]][] = [
  ["untagged", [], []],
  ["802.1Q", [[ETH_P_8021Q, 5]], [5]],
  ["802.1ad", [[ETH_P_8021AD, 5]], [5 | S_TAG]],
  [
    "Q in Q",
    [
      [ETH_P_8021AD, 5],
      [ETH_P_8021Q, 7],
    ],
    [5 | S_TAG, 7],
  ],
  ["priority tag", [[ETH_P_8021Q, 0xe000]], []],
  [
    "priority tag, then 802.1Q",
    [
      [ETH_P_8021Q, 0],
      [ETH_P_8021Q, 5],
    ],
    [5],
  ],
];

const bodies: [string, number, Uint8Array, Partial<Match>][] = [
  ["UDP", ETH_P_IP, ipv4(udp(PORT)), {}],
  ["TCP", ETH_P_IP, ipv4(tcp(PORT, [1, 2]), { proto: TCP }), { proto: TCP }],
  ["TCP with options", ETH_P_IP, ipv4(tcp(PORT, [1], 15), { proto: TCP }), { proto: TCP }],
  ["UDP behind IPv4 options", ETH_P_IP, ipv4(udp(PORT), { ihl: 15 }), {}],
  ["UDP over IPv6", ETH_P_IPV6, ipv6(udp(PORT)), { family: AF_INET6 }],
  ["TCP over IPv6", ETH_P_IPV6, ipv6(tcp(PORT), { next: TCP }), { family: AF_INET6, proto: TCP }],
  [
    "UDP behind two extension headers",
    ETH_P_IPV6,
    ipv6(extension(60, extension(UDP, udp(PORT), 1)), { next: 0 }),
    { family: AF_INET6 },
  ],
];

for (const [tagging, tags, vlans] of tagSets)
  inside(`${tagging}: truncated at every length, then padded`, () => {
    for (const [name, ethertype, body, fields] of bodies) {
      program.addMatch(match({ ...fields, vlans }));
      const frame = ethernet(ethertype, body, tags);
      for (let length = 14; length < frame.length; length++)
        expect([name, length, verdict(frame.subarray(0, length))]).toEqual([name, length, "malformed"]);
      for (let padding = 0; padding < 47; padding++)
        expect([name, padding, verdict(concat(frame, new Uint8Array(padding)))]).toEqual([
          name,
          padding,
          "redirected",
        ]);
    }
  });

inside("VLAN ids are part of the key", () => {
  for (const [, , vlans] of tagSets.slice(0, 4)) {
    program.addMatch(match({ vlans }));
    for (const [name, tags, other] of tagSets) {
      const same = vlans.join() === other.join();
      expect([vlans, name, verdict(ethernet(ETH_P_IP, ipv4(udp(PORT)), tags))]).toEqual([
        vlans,
        name,
        same ? "redirected" : "noMatch",
      ]);
    }
    program.removeMatch(match({ vlans }));
  }
});

inside("all 65,536 tag control words: the id counts, priority and DEI do not", () => {
  program.addMatch(match({ vlans: [5] }));
  const frame = ethernet(ETH_P_IP, ipv4(udp(PORT)), [[ETH_P_8021Q, 0]]);
  expect(redirected16(frame, 14)).toEqual(range(0, 15).map((priority) => (priority << 12) | 5));
});

inside("three tags are the kernel's", () => {
  program.addMatch(match());
  program.addMatch(match({ vlans: [5, 7] }));
  for (const id of [0, 5, 9])
    for (const tpid of [ETH_P_8021Q, ETH_P_8021AD])
      expect(
        verdict(
          ethernet(ETH_P_IP, ipv4(udp(PORT)), [
            [tpid, id],
            [ETH_P_8021Q, 0],
            [tpid, 0],
          ]),
        ),
      ).toBe("other");
});

inside("all total lengths", () => {
  program.addMatch(match());
  const body = ipv4(udp(PORT)); // 32 bytes
  const frame = concat(ethernet(ETH_P_IP, body), new Uint8Array(30));
  expect(redirected16(frame, L3 + 2)).toEqual(range(body.length, body.length + 30));
  expect(tally()).toEqual({ redirected: 31, malformed: 65536 - 31 });
});

inside("all IPv6 payload lengths", () => {
  program.addMatch(match6());
  const frame = concat(ethernet(ETH_P_IPV6, ipv6(udp(PORT))), new Uint8Array(30));
  expect(redirected16(frame, L3 + 4)).toEqual(range(12, 42));
  expect(tally()).toEqual({ redirected: 31, malformed: 65536 - 31 });
});

inside("all UDP lengths, all TCP data offsets", () => {
  program.addMatch(match());
  program.addMatch(match6());
  for (const [frame, l4] of [
    [frame4(), L4],
    [frame6(), L4_6],
  ] as const)
    expect(redirected16(frame, l4 + 4)).toEqual(range(8, 12));
  program.addMatch(match({ proto: TCP }));
  for (let offset = 0; offset < 16; offset++) {
    const body = tcp(PORT, new Uint8Array(20)); // room for options up to offset 10
    body[12] = offset << 4;
    const expected = offset >= 5 && offset <= 10 ? "redirected" : "malformed";
    expect([offset, verdict(ethernet(ETH_P_IP, ipv4(body, { proto: TCP })))]).toEqual([offset, expected]);
  }
});

inside("all fragment words: any fragment passes, DF and the reserved bit do not matter", () => {
  program.addMatch(match());
  expect(redirected16(frame4(), L3 + 6)).toEqual([0, 0x4000, 0x8000, 0xc000]);
  expect(tally()).toEqual({ redirected: 4, fragment: 65532 });
});

inside(
  "fault 8: fragments, wrong versions, multicast, other hosts' frames and bad lengths are not redirected",
  () => {
    program.addMatch(match());
    const multicast = Uint8Array.of(1, 0, 0x5e, 0x4d, 0, 1);
    const stranger = Uint8Array.of(2, 0, 0, 0, 0, 9);
    const body = ipv4(udp(PORT));
    expect(verdict(ethernet(ETH_P_IP, body))).toBe("redirected");
    expect(verdict(ethernet(ETH_P_IP, ipv4(udp(PORT), { fragment: 0x2000 })))).toBe("fragment");
    expect(verdict(ethernet(ETH_P_IP, ipv4(udp(PORT), { fragment: 1 })))).toBe("fragment");
    expect(verdict(ethernet(ETH_P_IP, ipv4(udp(PORT), { version: 6 })))).toBe("malformed");
    expect(verdict(ethernet(ETH_P_IP, body, [], multicast))).toBe("notMine");
    expect(verdict(ethernet(ETH_P_IP, body, [], stranger))).toBe("notMine");
    expect(verdict(ethernet(ETH_P_IP, ipv4(udp(PORT), { total: 33 })))).toBe("malformed");
  },
);

inside("all first bytes of the source, in both families: what no single host can be is the kernel's", () => {
  program.addMatch(match());
  program.addMatch(match6());
  const four = frame4();
  const six = frame6();
  for (let byte = 0; byte < 256; byte++) {
    four[L3 + 12] = byte;
    const martian = byte === 0 || byte === 127 || (byte >= 224 && byte < 240);
    expect([byte, verdict(four)]).toEqual([byte, martian ? "martian" : "redirected"]);
    six[L3 + 8] = byte;
    expect([byte, verdict(six)]).toEqual([byte, byte === 255 ? "martian" : "redirected"]);
  }
  four.fill(255, L3 + 12, L3 + 16);
  expect(verdict(four)).toBe("martian");
  four[L3 + 15] = 254;
  expect(verdict(four)).toBe("redirected");
  six.fill(0, L3 + 8, L3 + 24);
  for (let last = 0; last < 256; last++) {
    six[L3 + 23] = last;
    expect([last, verdict(six)]).toEqual([last, last < 2 ? "martian" : "redirected"]);
  }
});

inside("destination MAC: every bit counts, broadcast and no address yet are not ours", () => {
  program.addMatch(match());
  const frame = frame4();
  for (let bit = 0; bit < 48; bit++) {
    frame[bit >> 3]! ^= 1 << (bit & 7);
    expect(verdict(frame)).toBe("notMine");
    frame[bit >> 3]! ^= 1 << (bit & 7);
  }
  frame.fill(0xff, 0, 6);
  expect(verdict(frame)).toBe("notMine");
  program.setAddress(new Uint8Array(6).fill(0xff)); // not even if somebody sets it
  expect(verdict(frame)).toBe("notMine");
  const other = Uint8Array.of(0, 0x11, 0x22, 0x33, 0x44, 0x55);
  program.setAddress(other);
  expect(verdict(frame4())).toBe("notMine");
  expect(verdict(ethernet(ETH_P_IP, ipv4(udp(PORT)), [], other))).toBe("redirected");
});

inside("a program without an address passes everything", () => {
  const fresh = SteerProgram.load();
  fresh.addMatch(match());
  fresh.setSocket(0, socket.ref.fd);
  expect(fresh.testRun(frame4(), { ifindex: card.ifindex, queue: 0 })).toBe(XDP_PASS);
  expect(fresh.counters().notMine).toBe(1);
  fresh.close();
});

inside("destination address: every bit counts, in both families", () => {
  program.addMatch(match());
  program.addMatch(match6());
  for (const [frame, at, bits] of [
    [frame4(), L3 + 16, 32],
    [frame6(), L3 + 24, 128],
  ] as const) {
    expect(verdict(frame)).toBe("redirected");
    for (let bit = 0; bit < bits; bit++) {
      frame[at + (bit >> 3)]! ^= 1 << (bit & 7);
      expect(verdict(frame)).toBe("noMatch");
      frame[at + (bit >> 3)]! ^= 1 << (bit & 7);
    }
  }
});

inside("an IPv6 address that begins like an IPv4 one is another key", () => {
  const dst = [...ADDRESS4, ...new Array(12).fill(0)];
  const frame = ethernet(ETH_P_IPV6, ipv6(udp(PORT), { dst }));
  program.addMatch(match());
  expect(verdict(frame)).toBe("noMatch");
  program.addMatch(match6({ address: words(dst) }));
  expect(verdict(frame)).toBe("redirected");
});

inside("chains of extension headers: six are followed, the seventh is the kernel's", () => {
  program.addMatch(match6());
  for (const kind of [0, 43, 60])
    for (let count = 0; count <= 9; count++) {
      let body = udp(PORT);
      for (let i = 0; i < count; i++) body = extension(i === 0 ? UDP : kind, body, i % 3);
      const frame = ethernet(ETH_P_IPV6, ipv6(body, { next: count === 0 ? UDP : kind }));
      expect([kind, count, verdict(frame)]).toEqual([kind, count, count <= 6 ? "redirected" : "other"]);
    }
});

inside("extension headers of every length; one that reaches beyond the payload", () => {
  program.addMatch(match6());
  for (let units = 0; units < 256; units++) {
    const body = extension(UDP, udp(PORT), units);
    expect(verdict(ethernet(ETH_P_IPV6, ipv6(body, { next: 60 })))).toBe("redirected");
    const short = extension(UDP, udp(PORT));
    short[1] = units;
    expect(verdict(ethernet(ETH_P_IPV6, ipv6(short, { next: 60 })))).toBe(
      units === 0 ? "redirected" : "malformed",
    );
  }
  // Within the frame, but beyond what IPv6 says it carries.
  const padded = concat(
    ethernet(ETH_P_IPV6, ipv6(extension(UDP, udp(PORT)), { next: 60, length: 7 })),
    new Uint8Array(64),
  );
  expect(verdict(padded)).toBe("malformed");
  // A UDP length that fits what IPv6 carries, but not what is left of it behind the extension header.
  for (const [length, expected] of [
    [12, "redirected"],
    [13, "malformed"],
    [20, "malformed"],
  ] as const) {
    const body = extension(UDP, udp(PORT, [1, 2, 3, 4], length));
    const frame = concat(ethernet(ETH_P_IPV6, ipv6(body, { next: 60 })), new Uint8Array(64));
    expect([length, verdict(frame)]).toEqual([length, expected]);
  }
});

inside("a fragment header anywhere in the chain, even an atomic one, is the kernel's", () => {
  program.addMatch(match6());
  const fragment = (offset: number): Uint8Array => concat([UDP, 0, ...u16(offset), 0, 0, 0, 1], udp(PORT));
  for (const offset of [0, 1, 8, 0xfff8])
    for (let before = 0; before < 6; before++) {
      let body = fragment(offset);
      for (let i = 0; i < before; i++) body = extension(i === 0 ? 44 : 60, body);
      const frame = ethernet(ETH_P_IPV6, ipv6(body, { next: before === 0 ? 44 : 60 }));
      expect(verdict(frame)).toBe("fragment");
    }
});

inside("a routing header with segments left is not at its destination yet", () => {
  program.addMatch(match6());
  for (let left = 0; left < 256; left++) {
    const frame = ethernet(ETH_P_IPV6, ipv6(extension(UDP, udp(PORT), 2, left), { next: 43 }));
    expect(verdict(frame)).toBe(left === 0 ? "redirected" : "other");
  }
});

inside(
  "a queue without a socket passes, counted; it redirects once it has one, and no more when that is gone",
  () => {
    program.addMatch(match());
    expect(verdict(frame4(), 1)).toBe("noSocket");
    program.setSocket(1, socket.ref.fd);
    expect(verdict(frame4(), 1)).toBe("redirected");
    program.removeSocket(1);
    expect(verdict(frame4(), 1)).toBe("noSocket");
    expect(verdict(frame4(), 0)).toBe("redirected");
    expect(() => program.setSocket(steerLayout.STEER_QUEUES, socket.ref.fd)).toThrow("E2BIG");
    expect(() => program.setSocket(0, 0)).toThrow("update map xsks queue 0");
  },
);

inside("matches come and go", () => {
  expect(verdict(frame4())).toBe("noMatch");
  program.addMatch(match());
  program.addMatch(match());
  expect(verdict(frame4())).toBe("redirected");
  expect(program.removeMatch(match())).toBe(true);
  expect(program.removeMatch(match())).toBe(false);
  expect(verdict(frame4())).toBe("noMatch");
});
