// What a scope allows, by hand and against a model that knows only single packets.
import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  type Detail,
  detailOf,
  intersect,
  isWithin,
  outsideFlow,
  outsideMac,
  outsideMatch,
  scopeOf,
  type Wanted,
} from "../../src/grants/scope.ts";
import { parseAddress } from "../../src/wire/address.ts";
import { readPrefix, within } from "../../src/wire/prefix.ts";
import { PROTOCOLS } from "../../src/wire/protocol.ts";
import { detail } from "./make.ts";

const SEED = Number(process.env["NETD_SEED"] ?? Date.now() & 0x7fffffff);

const wanted = (protocol: string, to: string, dport: number, from = "0.0.0.0/0"): Wanted => {
  const dst = readPrefix(to)!;
  const src = readPrefix(from)!;
  return {
    family: dst.family,
    protocol: PROTOCOLS[protocol]!,
    dst: dst.words,
    dstPrefix: dst.prefix,
    dport,
    src: src.words,
    srcPrefix: src.prefix,
  };
};
const web = wanted("tcp", "10.0.0.1", 8080);

test("each field: a match that it allows, and one that it does not", () => {
  const cases: [Partial<Detail>, Wanted, Wanted, string][] = [
    [{ protocols: ["tcp"] }, web, wanted("udp", "10.0.0.1", 8080), "protocols"],
    [{ addresses: ["10.0.0.1"] }, web, wanted("tcp", "10.0.0.2", 8080), "addresses"],
    [{ addresses: ["10.0.0.0/8"] }, web, wanted("tcp", "0.0.0.0/0", 8080), "addresses"],
    [
      { addresses: ["10.0.0.0/8"] },
      wanted("tcp", "10.1.0.0/16", 1),
      wanted("tcp", "8.0.0.0/6", 1),
      "addresses",
    ],
    [{ addresses: ["fd00::/8"] }, wanted("tcp", "fd00::1", 1, "::/0"), web, "addresses"],
    [{ ports: [8080] }, web, wanted("tcp", "10.0.0.1", 8081), "ports"],
    [{ ports: [[8000, 8099]] }, web, wanted("tcp", "10.0.0.1", -1), "ports"],
    [
      {
        ports: [
          [0, 30000],
          [30001, 65535],
        ],
      },
      wanted("tcp", "10.0.0.1", -1),
      web,
      "",
    ],
    [{ remotes: ["192.0.2.0/24"] }, wanted("tcp", "10.0.0.1", 80, "192.0.2.7"), web, "remotes"],
  ];
  for (const [said, allowed, not, field] of cases) {
    const scope = scopeOf(detail(said));
    expect(outsideMatch(scope, "eth0", allowed)).toBeUndefined();
    expect(outsideMatch(scope, "eth0", not)).toBe((field || undefined) as "ports");
  }
  const eth0 = scopeOf(detail({ interfaces: ["eth0"] }));
  expect(outsideMatch(eth0, "eth0", web)).toBeUndefined();
  expect(outsideMatch(eth0, "eth1", web)).toBe("interfaces");
});

test("flows begin from the transmit sources, whatever the port; from the addresses if none are said", () => {
  const flow = wanted("tcp", "10.0.0.1", 50000, "192.0.2.1");
  expect(
    outsideFlow(scopeOf(detail({ addresses: ["10.0.0.1"], ports: [80] })), "eth0", flow),
  ).toBeUndefined();
  expect(outsideFlow(scopeOf(detail({ addresses: ["10.0.0.2"] })), "eth0", flow)).toBe("transmit");
  expect(outsideFlow(scopeOf(detail({ transmit: [] })), "eth0", flow)).toBe("transmit");
  expect(
    outsideFlow(scopeOf(detail({ transmit: ["10.0.0.0/24"], remotes: ["192.0.2.0/25"] })), "eth0", flow),
  ).toBeUndefined();
  expect(outsideFlow(scopeOf(detail({ remotes: ["192.0.2.128/25"] })), "eth0", flow)).toBe("remotes");
  expect(outsideFlow(scopeOf(detail({ protocols: ["udp"] })), "eth0", flow)).toBe("protocols");
});

test("a MAC of its own: those that are said; else any where every address is allowed, and none elsewhere", () => {
  const [one, two] = ["02:00:00:00:00:01", "02:00:00:00:00:02"] as const;
  const macs = (...details: Partial<Detail>[]) => {
    const scope = details.map((said) => scopeOf(detail(said))).reduce((a, b) => intersect(a, b)!);
    return [one, two].filter((mac) => outsideMac(scope, mac) === undefined);
  };
  expect(macs({})).toEqual([one, two]);
  expect(macs({ macs: [] })).toEqual([]);
  expect(macs({ addresses: ["10.0.0.1"] })).toEqual([]);
  expect(macs({ addresses: ["10.0.0.1"], macs: ["02:00:00:00:00:01"] })).toEqual([one]);
  expect(macs({ macs: ["02:00:00:00:00:02".toUpperCase()] })).toEqual([two]);
  expect(macs({}, { macs: [two] })).toEqual([two]);
  expect(macs({ macs: [one] }, { macs: [one, two] })).toEqual([one]);
  expect(macs({ macs: [one] }, { addresses: ["10.0.0.1"] })).toEqual([]);
  expect(detailOf(scopeOf(detail({ addresses: ["10.0.0.1"], macs: [two, one] })))["macs"]).toEqual([
    one,
    two,
  ]);
});

test("nothing in common is nothing", () => {
  const pairs: [Partial<Detail>, Partial<Detail>][] = [
    [{ protocols: ["tcp"] }, { protocols: ["udp"] }],
    [{ interfaces: ["eth0"] }, { interfaces: ["eth1"] }],
    [{ addresses: ["10.0.0.0/8"] }, { addresses: ["11.0.0.0/8"] }],
    [{ remotes: ["10.0.0.0/8"] }, { remotes: [] }],
    [{ ports: [1], transmit: [] }, { ports: [2] }],
  ];
  for (const [a, b] of pairs) expect(intersect(scopeOf(detail(a)), scopeOf(detail(b)))).toBeUndefined();
});

const somePrefixes = fc.array(
  fc
    .tuple(fc.integer({ min: 0, max: 15 }), fc.integer({ min: 24, max: 32 }))
    .map(([n, bits]) => `10.0.0.${n * 16}/${bits}`),
  { maxLength: 4 },
);
const somePorts = fc.array(
  fc
    .tuple(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 0, max: 20 }))
    .map(([a, b]): [number, number] => (a < b ? [a, b] : [b, a])),
  { maxLength: 4 },
);
const someDetail = fc
  .record(
    {
      protocols: fc.subarray(["tcp", "udp", "icmp"]),
      addresses: somePrefixes,
      ports: somePorts,
      remotes: somePrefixes,
      transmit: somePrefixes,
      matches: fc.integer({ min: 1, max: 5 }),
      packets_per_second: fc.integer({ min: 1, max: 5 }),
    },
    { requiredKeys: [] },
  )
  .map(detail);
const somePacket = fc.tuple(
  fc.constantFrom("tcp", "udp", "icmp"),
  fc.integer({ min: 0, max: 255 }),
  fc.integer({ min: 0, max: 20 }),
  fc.integer({ min: 0, max: 255 }),
);

/** What a detail says of one packet, word for word. */
function says(
  said: Detail,
  [protocol, dst, port, src]: [string, number, number, number],
  flow: boolean,
): boolean {
  const under = (list: readonly string[] | undefined, last: number) =>
    list === undefined ||
    within(
      list.map((text) => readPrefix(text)!),
      2,
      parseAddress(`10.0.0.${last}`)!.words,
      32,
    );
  if (said.protocols && !said.protocols.includes(protocol)) return false;
  if (!under(said.remotes, src)) return false;
  if (flow) return under(said.transmit ?? said.addresses, dst);
  const ports = said.ports as [number, number][] | undefined;
  return (
    under(said.addresses, dst) && (ports === undefined || ports.some(([a, b]) => a <= port && port <= b))
  );
}

test(`an intersection allows exactly what all its parts do, seed ${SEED}`, () => {
  fc.assert(
    fc.property(
      fc.array(someDetail, { minLength: 1, maxLength: 4 }),
      fc.array(somePacket, { minLength: 20 }),
      (details, packets) => {
        const scope = details
          .map(scopeOf)
          .reduce<ReturnType<typeof intersect>>((a, b) => a && intersect(a, b), scopeOf(detail()));
        for (const packet of packets) {
          const [protocol, dst, port, src] = packet;
          const asked = wanted(protocol, `10.0.0.${dst}`, port, `10.0.0.${src}`);
          for (const flow of [false, true]) {
            const allowed = scope && (flow ? outsideFlow : outsideMatch)(scope, "eth0", asked) === undefined;
            expect(allowed ?? false).toBe(details.every((one) => says(one, packet, flow)));
          }
        }
        if (!scope) return;
        const limits = (key: "matches" | "packets_per_second") =>
          Math.min(...details.map((d) => d[key] ?? Infinity));
        expect([scope.matches, scope.packetsPerSecond]).toEqual([
          limits("matches"),
          limits("packets_per_second"),
        ]);
        for (const one of details) expect(isWithin(scope, scopeOf(one))).toBe(true);
      },
    ),
    { seed: SEED, numRuns: 300 },
  );
});

test("within: what is equal or less, and nothing that is more in any field", () => {
  const outer = scopeOf(
    detail({ protocols: ["tcp"], addresses: ["10.0.0.0/8"], ports: [[1, 100]], matches: 4 }),
  );
  const inner = { protocols: ["tcp"], addresses: ["10.1.2.3/8"], ports: [[5, 50], 51], matches: 4 };
  expect(isWithin(scopeOf(detail(inner)), outer)).toBe(true);
  for (const wider of [
    { protocols: ["tcp", "udp"] },
    { addresses: undefined },
    { ports: [101] },
    { matches: 5 },
    { transmit: ["11.0.0.1"] },
    { macs: ["02:00:00:00:00:01"] },
  ])
    expect(isWithin(scopeOf(detail({ ...inner, ...wider })), outer)).toBe(false);
  expect(detailOf(scopeOf(detail({ ports: [3, 1, 2], addresses: ["10.0.0.5/24", "10.0.0.9"] })))).toEqual({
    addresses: ["10.0.0.0/24"],
    ports: [[1, 3]],
    transmit: ["10.0.0.0/24"],
  });
});
