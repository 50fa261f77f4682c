// What single steps leave in the tables, byte for byte where a frame or another reader depends on it.
import { expect, setDefaultTimeout, test } from "bun:test";
import {
  LINK_SRC_HEAD,
  LINK_SRC_TAIL,
  LINE_WORDS,
  NH_BOUND,
  NH_GATEWAY,
  NH_LINK,
  NH_MTU,
  NH_OIF,
  NH_SPECIAL,
  NH_SRC,
  NH_TYPE,
} from "../../src/netbase/layout.ts";
import { NexthopRow, type RouteRow } from "../../src/netbase/rows.ts";
import { formatIPv4 } from "../../src/wire/address.ts";
import { objects } from "../objects.ts";
import { Random } from "../random.ts";
import {
  addr,
  type Leg,
  link,
  lookup,
  makeNetbase,
  type Netbase,
  neigh,
  route,
  small,
  words,
} from "./make.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const CREATE = 0x600;
const APPEND = 0xe00;
const REPLACE = 0x100;
const DUMP = 0x2;

const oifOf = ({ reader }: Netbase, text: string): number => {
  const nh = lookup(reader, text);
  return nh === 0 ? 0 : reader.words[nh + NH_OIF]!;
};

function object(id: number, legs: Leg[], change: Partial<NexthopRow> = {}): NexthopRow {
  const row = new NexthopRow();
  Object.assign(row.legs, route("0.0.0.0/0", legs).legs);
  return Object.assign(row, { id, family: 2 }, change);
}

function group(id: number, members: [id: number, weight: number][]): NexthopRow {
  const row = object(id, [], { group: 1 });
  for (const [nhid, weight] of members) {
    const leg = row.legs.add();
    row.legs.nhid[leg] = nhid;
    row.legs.weight[leg] = weight;
  }
  return row;
}

test("a link's address lies ready for an Ethernet header", () => {
  using nb = makeNetbase();
  const row = link(7, { lladdr: Uint8Array.of(1, 2, 3, 4, 5, 6) });
  nb.writer.links.upsert(row);
  const slot = nb.reader.links.find(7);
  expect(nb.reader.words[slot + LINK_SRC_HEAD]).toBe(0x02010000);
  expect(nb.reader.words[slot + LINK_SRC_TAIL]).toBe(0x06050403);
  expect(nb.reader.links.get(7)).toMatchObject({
    ifindex: 7,
    name: "eth7",
    mtu: 1500,
    operstate: 6,
    carrier: 1,
    vlan: -1,
  });
  expect(nb.reader.links.named("eth7")).toBe(7);
  expect(nb.writer.links.upsert(row)).toBe(0);
  expect(nb.writer.links.upsert(link(7, { name: "renamed" }))).toBe(2);
  expect(nb.reader.links.named("eth7")).toBe(0);
});

test("a neighbour's address lies ready for an Ethernet header", () => {
  using nb = makeNetbase();
  const { writer, reader } = nb;
  expect(writer.neighs.upsert(neigh(2, "10.0.0.9", "01:02:03:04:05:06", 0x04))).toBe(1);
  expect(reader.neigh4.find(words("10.0.0.9")[0]!, 2)).toBe(0x04);
  expect([reader.neigh4.mac0, reader.neigh4.mac1 & 0xffff]).toEqual([0x04030201, 0x0605]);
  expect(reader.neigh4.find(words("10.0.0.9")[0]!, 3)).toBe(0);
  const w = words("fd77::9");
  expect(writer.neighs.upsert(neigh(2, "fd77::9", "0a:02:03:04:05:06", 0x80))).toBe(1);
  expect(reader.neigh6.find(w[0]!, w[1]!, w[2]!, w[3]!, 2)).toBe(0x80);
  expect([reader.neigh6.mac0, reader.neigh6.mac1 & 0xffff]).toEqual([0x0403020a, 0x0605]);
  expect(reader.neighs().map(({ ifindex, state }) => [ifindex, state])).toEqual([
    [2, 4],
    [2, 0x80],
  ]);
  expect(writer.neighs.remove(neigh(2, "10.0.0.9", ""))).toBe(3);
  expect(reader.neigh4.find(words("10.0.0.9")[0]!, 2)).toBe(0);
});

test("neighbours: usable states enter; FAILED, DEL and no address leave or stay out", () => {
  using nb = makeNetbase();
  const { writer, reader } = nb;
  const find = () => reader.neigh4.find(words("10.0.0.9")[0]!, 2);
  for (const state of [0x02, 0x04, 0x08, 0x10, 0x40, 0x80]) {
    writer.neighs.upsert(neigh(2, "10.0.0.9", "02:02:03:04:05:06", state));
    expect(find()).toBe(state);
  }
  writer.neighs.upsert(neigh(2, "10.0.0.9", "02:02:03:04:05:06", 0x20)); // FAILED
  expect(find()).toBe(0);
  writer.neighs.upsert(neigh(2, "10.0.0.9", "", 0x02));
  expect(find()).toBe(0);
});

test("neighbours: the sweep takes what was not told of since it began, however many there were before", () => {
  using nb = makeNetbase();
  const { neighs } = nb.writer;
  neighs.upsert(neigh(2, "10.0.0.1", "02:00:00:00:00:01"));
  for (let n = 0; n < 600; n++) {
    neighs.upsert(neigh(2, "10.0.0.2", "02:00:00:00:00:02"));
    const sweep = neighs.beginSweep(2);
    neighs.upsert(neigh(2, "10.0.0.1", "02:00:00:00:00:01"));
    expect(neighs.endSweep(2, sweep)).toBe(1);
  }
  expect(nb.reader.neighs().map(({ dst }) => formatIPv4(dst[0]!))).toEqual(["10.0.0.1"]);
});

test("neighbours: telling them all makes nothing for empty places", () => {
  using nb = makeNetbase({ neighbours4: 50_000, neighbours6: 50_000 });
  nb.writer.neighs.upsert(neigh(2, "10.0.0.1", "02:00:00:00:00:01"));
  const before = objects();
  for (let i = 0; i < 10; i++) expect(nb.reader.neighs()).toHaveLength(1);
  expect(objects() - before).toBeLessThan(10_000);
});

test("an IPv4 route takes the source that inet_select_addr would", () => {
  using nb = makeNetbase();
  const { writer, reader } = nb;
  writer.addrs.upsert(addr(2, "10.0.0.1/24"));
  writer.addrs.upsert(addr(2, "10.0.1.1/24"));
  writer.addrs.upsert(addr(2, "10.0.1.2/24", { flags: 1 })); // secondary
  writer.addrs.upsert(addr(3, "192.168.0.1/24", { scope: 253 }));
  const rows: [RouteRow, string, string][] = [
    [route("10.9.0.0/16", [[2, "10.0.1.9"]]), "10.9.0.1", "10.0.1.1"], // in the gateway's subnet
    [route("10.8.0.0/16", [[2, "172.16.0.1"]]), "10.8.0.1", "10.0.0.1"], // first primary
    [route("10.7.0.0/16", [[3]], { scope: 253 }), "10.7.0.1", "192.168.0.1"], // scope link may use a link's
    [route("10.6.0.0/16", [[3]]), "10.6.0.1", "10.0.0.1"], // scope universe may not: any interface's
    [route("10.5.0.0/16", [[2]], { hasPrefsrc: 1, prefsrc: words("10.0.1.2") }), "10.5.0.1", "10.0.1.2"],
  ];
  for (const [row] of rows) writer.routes.upsert(row, CREATE);
  writer.commit();
  const source = (text: string) => formatIPv4(reader.words[lookup(reader, text) + NH_SRC]!);
  for (const [, text, want] of rows) expect(`${text} ${source(text)}`).toBe(`${text} ${want}`);
  writer.addrs.remove(addr(2, "10.0.1.1/24"));
  writer.commit();
  expect(source("10.9.0.1")).toBe("10.0.0.1");
});

test("aliases: first is best by priority and order; removal exposes the next (suite of firedancer: ties)", () => {
  using nb = makeNetbase();
  const { writer } = nb;
  const at = () => oifOf(nb, "10.1.0.1");
  writer.routes.upsert(route("10.1.0.0/16", [[2]], { priority: 5 }), CREATE);
  expect(at()).toBe(2);
  writer.routes.upsert(route("10.1.0.0/16", [[3]], { priority: 5 }), CREATE); // prepend
  expect(at()).toBe(3);
  writer.routes.upsert(route("10.1.0.0/16", [[4]], { priority: 5 }), APPEND);
  expect(at()).toBe(3);
  writer.routes.upsert(route("10.1.0.0/16", [[4]], { priority: 1 }), CREATE);
  expect(at()).toBe(4);
  writer.routes.remove(route("10.1.0.0/16", [[4]], { priority: 1 }));
  expect(at()).toBe(3);
  writer.routes.upsert(route("10.1.0.0/16", [[1]], { priority: 5 }), REPLACE); // in place of the first
  expect(at()).toBe(1);
  writer.routes.remove(route("10.1.0.0/16", [[1]], { priority: 5 }));
  expect(at()).toBe(2);
  writer.routes.remove(route("10.1.0.0/16", [[2]], { priority: 5 }));
  expect(at()).toBe(4);
  expect(writer.routes.remove(route("10.1.0.0/16", [[3]], { priority: 5 }))).toBe(0); // not there any more
  expect(at()).toBe(4);
});

test("what a removed default route of table local reveals: main's default, and not table default behind it", () => {
  using nb = makeNetbase();
  const { writer } = nb;
  writer.routes.splitLocal();
  writer.routes.upsert(route("10.1.0.0/16", [[4]], { table: 253 }), CREATE);
  writer.routes.upsert(route("10.2.0.0/16", [[2]]), CREATE);
  writer.routes.upsert(route("0.0.0.0/0", [[3]]), CREATE);
  const local = route("0.0.0.0/0", [[1]], { table: 255 });
  const answers = () => ["10.1.0.1", "10.2.0.1", "192.0.2.1"].map((text) => oifOf(nb, text));
  expect(answers()).toEqual([3, 2, 3]);
  writer.routes.upsert(local, CREATE);
  expect(answers()).toEqual([1, 1, 1]);
  writer.routes.remove(local);
  expect(answers()).toEqual([3, 2, 3]);
  writer.routes.remove(route("0.0.0.0/0", [[3]]));
  expect(answers()).toEqual([4, 2, 0]);
});

test("a link that takes a prefix and its default route along leaves nothing of table default behind", () => {
  using nb = makeNetbase();
  const { writer, reader } = nb;
  const last = route("0.0.0.0/0", [], { table: 253, type: 7 });
  writer.routes.upsert(route("10.1.0.0/16", [[2]]), CREATE);
  writer.routes.upsert(route("0.0.0.0/0", [[2]]), CREATE);
  writer.routes.upsert(last, CREATE);
  const types = () =>
    ["10.1.0.1", "192.0.2.1"].map((text) => reader.words[lookup(reader, text) + NH_TYPE]! & 0xff);
  expect(types()).toEqual([1, 1]);
  writer.links.upsert(link(2, { flags: 0x11002 }));
  writer.commit();
  expect(types()).toEqual([7, 7]);
  writer.routes.remove(last);
  expect([lookup(reader, "10.1.0.1"), lookup(reader, "192.0.2.1")]).toEqual([0, 0]);
  writer.links.upsert(link(2));
  writer.commit();
  expect(types()).toEqual([1, 1]);
});

test("a dump puts aliases into the order in which it tells them", () => {
  using nb = makeNetbase();
  const { writer } = nb;
  for (const oif of [2, 3, 4]) writer.routes.upsert(route("10.1.0.0/16", [[oif]]), APPEND);
  const sweep = writer.routes.beginSweep(2);
  for (const oif of [4, 1, 2]) writer.routes.upsert(route("10.1.0.0/16", [[oif]]), DUMP);
  expect(writer.routes.endSweep(2, sweep)).toBe(1);
  expect(Array.from(nb.reader.rib4.all(), (row) => row.legs.ifindex[0])).toEqual([4, 1, 2]);
});

test("the sweep removes what its filter is about, and only that", () => {
  using nb = makeNetbase();
  const { writer } = nb;
  writer.routes.upsert(route("10.1.0.0/16", [[2]]), CREATE);
  writer.routes.upsert(route("10.2.0.0/16", [[3]]), CREATE);
  writer.routes.upsert(route("10.3.0.0/16", [[2], [3]]), CREATE);
  writer.routes.upsert(route("10.4.0.0/16", [[2]], { table: 255 }), CREATE);
  const sweep = writer.routes.beginSweep(2);
  writer.routes.upsert(route("10.1.0.0/16", [[2]]), DUMP);
  expect(writer.routes.endSweep(2, sweep, { oif: 3, table: 254 })).toBe(2);
  expect(["10.1.0.1", "10.2.0.1", "10.3.0.1", "10.4.0.1"].map((text) => oifOf(nb, text))).toEqual([
    2, 0, 0, 2,
  ]);
});

test("what found no room is missing until everything comes again: a dump of a part does not have it", () => {
  using nb = makeNetbase({ routes4: 1 });
  const { writer } = nb;
  const missing = () => writer.stats.routes4.missing;
  writer.routes.upsert(route("10.1.0.0/16", [[2]]), CREATE);
  writer.routes.upsert(route("10.2.0.0/16", [[3]]), CREATE);
  expect(missing()).toBe(true);
  const sweep = writer.routes.beginSweep(2, false);
  writer.routes.upsert(route("10.1.0.0/16", [[2]]), DUMP);
  writer.routes.endSweep(2, sweep, { oif: 2 });
  expect(missing()).toBe(true);
  writer.routes.beginSweep(2);
  expect(missing()).toBe(false);
});

test("a route whose leg is told to be dead stays, though there is no room for that", () => {
  using nb = makeNetbase({ nexthops: 1 });
  const { writer, reader } = nb;
  const row = route("2001:db8::/32", [[2, "fe80::1"]]);
  expect(writer.routes.upsert(row, CREATE)).toBe(1);
  const sweep = writer.routes.beginSweep(10);
  row.legs.flags[0] = 1; // RTNH_F_DEAD
  expect(writer.routes.upsert(row, DUMP)).toBe(-1);
  expect(writer.routes.endSweep(10, sweep)).toBe(0);
  writer.commit();
  expect(lookup(reader, "2001:db8::1")).not.toBe(0);
  expect(writer.stats.nexthops).toEqual({ entries: 1, capacity: 1, refused: 1, missing: true });
});

test("lines that ran out are there again once routes have gone, for routes of other lengths too", () => {
  using nb = makeNetbase();
  const { writer, reader } = nb;
  const random = new Random(5);
  const hex = () => random.below(65_536).toString(16);
  for (const len of [128, 64, 128, 48, 128]) {
    const added: string[] = [];
    for (let i = 0; i < small.routes6; i++) {
      const text = `2001:${Array.from({ length: 7 }, hex).join(":")}`;
      if (writer.routes.upsert(route(`${text}/${len}`, [[2, "fe80::1"]]), CREATE) > 0) added.push(text);
      writer.commit();
      reader.quiesce();
    }
    // Thirteen nodes each: not all of the long ones find room.
    if (len < 128) expect(added).toHaveLength(small.routes6);
    else expect(added.length).toBeLessThan(small.routes6);
    expect(added.length).toBeGreaterThan(4000);
    for (const text of added) {
      expect(lookup(reader, text)).not.toBe(0);
      writer.routes.remove(route(`${text}/${len}`, [[2, "fe80::1"]]));
      writer.commit();
      reader.quiesce();
    }
    writer.commit();
    expect([writer.stats.routes6.entries, writer.stats.lines.entries]).toEqual([0, 1]);
  }
});

test("multipath legs share 31 bits by weight, as fib_rebalance gives them", () => {
  using nb = makeNetbase();
  nb.writer.routes.upsert(
    route("10.0.0.0/8", [
      [2, "10.0.0.2", 1],
      [3, "10.0.0.3", 2],
      [4, "10.0.0.4", 1],
    ]),
    CREATE,
  );
  nb.writer.commit();
  const { words: w } = nb.reader;
  const nh = lookup(nb.reader, "10.1.1.1");
  const bounds = () => [0, 1, 2].map((leg) => w[lookup(nb.reader, "10.1.1.1") + leg * LINE_WORDS + NH_BOUND]);
  expect(w[nh + NH_TYPE]! & NH_SPECIAL).not.toBe(0);
  expect(bounds()).toEqual([0x1fffffff, 0x5fffffff, 0x7fffffff]);
  nb.writer.links.upsert(link(3, { flags: 0x11002 }));
  nb.writer.commit();
  expect(bounds()).toEqual([0x3fffffff, -1, 0x7fffffff]);
});

test("flows stick to their leg and are spread by weight; the policy decides what a flow is", () => {
  using nb = makeNetbase();
  const { writer, reader } = nb;
  writer.routes.upsert(
    route("10.0.0.0/8", [
      [2, "10.0.0.2", 1],
      [3, "10.0.0.3", 3],
    ]),
    CREATE,
  );
  writer.commit();
  const dst = words("10.1.1.1")[0]!;
  const pick = (src: number, ports: number) =>
    reader.words[reader.select4(reader.fib4.lookup(dst), dst, src, 17, ports, 0) + NH_OIF];
  const share = (of: (i: number) => number | undefined) => {
    let n = 0;
    for (let i = 0; i < 10_000; i++) if (of(Math.imul(i, 0x9e3779b1)) === 3) n++;
    return n / 10_000;
  };
  expect(share((x) => pick(x, 0))).toBeCloseTo(0.75, 1);
  expect(new Set(Array.from({ length: 1000 }, (_, i) => pick(5, i))).size).toBe(1); // policy 0: ports do not matter
  writer.setHashPolicy(1, 1);
  expect(share((x) => pick(5, x))).toBeCloseTo(0.75, 1);
  expect(pick(5, 77)).toBe(pick(5, 77));
});

test("IPv6: an append tells all legs, a delete one of them", () => {
  using nb = makeNetbase();
  const { writer, reader } = nb;
  const legs = () => reader.words[lookup(reader, "2001:db8::1")! + NH_TYPE]! >>> 16;
  writer.routes.upsert(route("2001:db8::/32", [[2, "fe80::1"]]), CREATE);
  writer.routes.upsert(
    route("2001:db8::/32", [
      [3, "fe80::2"],
      [2, "fe80::1"],
    ]),
    APPEND,
  );
  expect(legs()).toBe(2);
  expect(writer.routes.remove(route("2001:db8::/32", [[3, "fe80::2"]]))).toBe(2);
  expect(legs()).toBe(1);
  expect(oifOf(nb, "2001:db8::1")).toBe(2);
  expect(writer.routes.remove(route("2001:db8::/32", [[3, "fe80::2"]]))).toBe(0);
  expect(writer.routes.remove(route("2001:db8::/32", [[2, "fe80::1"]]))).toBe(3);
  expect(lookup(reader, "2001:db8::1")).toBe(0);
});

test("nexthop objects that a sweep finds gone are told by their ids, of 32 bits, and take their routes along", () => {
  using nb = makeNetbase();
  const { writer, reader } = nb;
  const { objects } = writer.nexthops;
  const id = 0xffff_fff0;
  objects.upsert(object(id, [[2, "10.0.0.2"]]));
  writer.routes.upsert(route("10.1.0.0/16", [], { nhid: id }), CREATE);
  const gone = objects.endSweep(objects.beginSweep());
  expect(gone).toEqual([id]);
  expect(writer.routes.endSweep(2, Number.POSITIVE_INFINITY, { nhids: new Set(gone) })).toBe(1);
  writer.commit();
  expect(lookup(reader, "10.1.0.1")).toBe(0);
});

test("IPv6: a router's preference decides among routes of one metric", () => {
  using nb = makeNetbase();
  for (const [oif, pref] of [
    [2, 0],
    [3, 3],
    [4, 1],
  ] as const)
    nb.writer.routes.upsert(route("::/0", [[oif, `fe80::${oif}`]], { protocol: 9, pref }), CREATE);
  expect(oifOf(nb, "2001:db8::1")).toBe(4);
});

test("nexthop objects: routes follow a replaced object, a group's members, and die with a deleted one", () => {
  using nb = makeNetbase();
  const { writer, reader } = nb;
  writer.nexthops.objects.upsert(object(10, [[2, "10.0.0.2"]]));
  writer.nexthops.objects.upsert(object(11, [[3, "10.0.0.3"]]));
  writer.nexthops.objects.upsert(
    group(20, [
      [10, 1],
      [11, 1],
    ]),
  );
  writer.routes.upsert(route("10.1.0.0/16", [], { nhid: 10 }), CREATE);
  writer.routes.upsert(route("10.2.0.0/16", [], { nhid: 20 }), CREATE);
  writer.routes.upsert(route("0.0.0.0/0", [[4]]), CREATE);
  writer.commit();
  const nh = (text: string) => lookup(reader, text);
  expect(oifOf(nb, "10.1.0.1")).toBe(2);
  expect(reader.words[nh("10.2.0.1") + NH_TYPE]! >>> 16).toBe(2);
  writer.nexthops.objects.upsert(object(10, [[4, "10.0.0.4"]]));
  writer.commit();
  expect([oifOf(nb, "10.1.0.1"), oifOf(nb, "10.2.0.1")]).toEqual([4, 4]);
  expect(formatIPv4(reader.words[nh("10.1.0.1") + NH_GATEWAY]!)).toBe("10.0.0.4");
  writer.nexthops.objects.upsert(object(10, [], { blackhole: 1 }));
  writer.commit();
  expect(reader.words[nh("10.1.0.1") + NH_TYPE]! & 0xff).toBe(6);
  writer.nexthops.objects.remove(10);
  writer.nexthops.objects.upsert(group(20, [[11, 1]]));
  writer.commit();
  expect(oifOf(nb, "10.1.0.1")).toBe(4); // the default route's
  expect(oifOf(nb, "10.2.0.1")).toBe(3);
});

test("nexthop objects: a route that is told of because its object was replaced takes no other's place", () => {
  for (const [prefix, via, legs] of [
    ["10.1.0.0/16", "10.0.0.9", []],
    ["2001:db8::/32", "fe80::9", [[2]]],
  ] as const) {
    using nb = makeNetbase();
    const { writer, reader } = nb;
    const rows = () => [...(prefix.includes(":") ? reader.rib6 : reader.rib4).all()].length;
    writer.nexthops.objects.upsert(object(10, [[3, via]]));
    writer.routes.upsert(route(prefix, legs as unknown as Leg[]), CREATE);
    writer.routes.upsert(route(prefix, [[3, via]], { nhid: 10 }), APPEND);
    for (const [told, change] of [
      [route(prefix, [[1]], { nhid: 10, type: 6 }), { blackhole: 1 }],
      [route(prefix, [[4, via]], { nhid: 10 }), {}],
    ] as const) {
      writer.nexthops.objects.upsert(object(10, [[4, via]], change));
      expect(writer.routes.upsert(told, REPLACE)).toBe(0);
      expect(rows()).toBe(2);
    }
  }
});

test("a route's MTU, RTA_VIA and onlink are in its record", () => {
  using nb = makeNetbase();
  const row = route("10.1.0.0/16", [[2, "fe80::9"]], { mtu: 1280 });
  row.legs.flags[0] = 4;
  nb.writer.routes.upsert(row, CREATE);
  const { words: w } = nb.reader;
  const nh = lookup(nb.reader, "10.1.0.1");
  expect(w[nh + NH_MTU]).toBe(1280);
  expect(w[nh + NH_LINK]! & 0xffff).toBe(10 | (4 << 8));
  expect([...w.slice(nh + NH_GATEWAY, nh + NH_GATEWAY + 4)]).toEqual([...words("fe80::9")]);
});

test("a route that goes in the same batch in which its legs are told dead leaves no answer behind", () => {
  using nb = makeNetbase();
  const { routes } = nb.writer;
  const legs: Leg[] = [
    [2, "fe80::1"],
    [3, "fe80::2"],
  ];
  routes.upsert(route("::/0", [[4, "fe80::9"]]), CREATE);
  routes.upsert(route("fd01::/16", legs), CREATE);
  routes.upsert(route("fd02::/16", legs), CREATE);
  nb.writer.commit();
  expect(oifOf(nb, "fd02::1")).toBe(2);
  const dead = route("fd01::/16", legs);
  dead.legs.flags.fill(1, 0, 2);
  const sweep = routes.beginSweep(10, true);
  routes.upsert(route("::/0", [[4, "fe80::9"]]), DUMP);
  routes.upsert(dead, DUMP);
  routes.endSweep(10, sweep, {});
  nb.writer.commit();
  expect([oifOf(nb, "fd01::1"), oifOf(nb, "fd02::1")]).toEqual([4, 4]);
});

test("memory comes back only when readers have quiesced", () => {
  using nb = makeNetbase();
  const { writer, reader } = nb;
  writer.routes.upsert(route("10.1.0.0/16", [[2, "10.0.0.2"]]), CREATE);
  reader.quiesce();
  const held = lookup(reader, "10.1.0.1");
  const before = [...reader.words.slice(held, held + LINE_WORDS)];
  writer.routes.remove(route("10.1.0.0/16", [[2, "10.0.0.2"]]));
  for (let i = 0; i < 50; i++) {
    writer.commit();
    writer.routes.upsert(route("10.2.0.0/16", [[3, `10.0.0.${i}`]]), REPLACE);
  }
  expect([...reader.words.slice(held, held + LINE_WORDS)]).toEqual(before); // still what it was
  const lines = writer.stats.lines.entries;
  reader.quiesce();
  for (let i = 0; i < 3; i++) {
    writer.commit();
    reader.quiesce();
  }
  expect(writer.stats.lines.entries).toBeLessThan(lines);
  reader.offline();
  writer.routes.remove(route("10.2.0.0/16", [[3, "10.0.0.49"]]));
  writer.commit();
  expect(writer.stats.nexthops.entries).toBe(0); // nobody is online: at once
  reader.online();
});
