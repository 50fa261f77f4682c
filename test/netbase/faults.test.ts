// The numbered faults of Firedancer's tables (its netlink tile, netbase and neighbour map), each as a test of ours:
// what it did wrong is in the test's name. The others of the list are tests of the mirror, the XDP program and the
// datapath; number 7 is in torture.test.ts.
import { expect, setDefaultTimeout, test } from "bun:test";
import { Fib4 } from "../../src/netbase/fib.ts";
import { H_NEIGH_SEED, layout, NH_LINK, NH_OIF, NH_TYPE } from "../../src/netbase/layout.ts";
import { link, lookup, makeNetbase, neigh, route, small, words } from "./make.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const CREATE = 0x600;
const DUMP = 0x2;
const ip = (n: number): string => `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`;
const mac = "02:00:00:00:00:01";

test("fault 1: what is being resolved leaves no placeholder that could block a later request", () => {
  using nb = makeNetbase();
  for (const state of [0x01, 0x20, 0x00]) nb.writer.neighs.upsert(neigh(2, "10.0.0.9", "", state));
  expect(nb.reader.neigh4.find(words("10.0.0.9")[0]!, 2)).toBe(0);
  expect(nb.writer.stats.neighbours4.entries).toBe(0);
});

test("fault 2: 100,000 spoofed sources that never resolve keep no legitimate neighbour out", () => {
  using nb = makeNetbase({ neighbours4: 4096 });
  for (let n = 0; n < 100_000; n++) nb.writer.neighs.upsert(neigh(2, ip(n), "", n & 1 ? 0x20 : 0x01));
  for (let n = 0; n < 4096; n++) expect(nb.writer.neighs.upsert(neigh(2, ip(n * 7), mac))).toBe(1);
  expect(nb.writer.stats.neighbours4).toMatchObject({ entries: 4096, refused: 0 });
});

for (const capacity of [1, 3, 7, 100, 1000, 4999])
  test(`fault 3: a neighbour table for ${capacity} takes ${capacity}, keeps them when full, and recovers`, () => {
    using nb = makeNetbase({ neighbours4: capacity, neighbours6: capacity });
    const { writer, reader } = nb;
    for (const six of [false, true]) {
      const at = (n: number) => (six ? `fd00::${(n + 1).toString(16)}` : ip(n));
      const find = (n: number) => {
        const w = words(at(n));
        return six ? reader.neigh6.find(w[0]!, w[1]!, w[2]!, w[3]!, 2) : reader.neigh4.find(w[0]!, 2);
      };
      for (let n = 0; n < capacity; n++) expect(writer.neighs.upsert(neigh(2, at(n), mac))).toBe(1);
      for (let n = 0; n < 10; n++) expect(writer.neighs.upsert(neigh(2, at(capacity + n), mac))).toBe(-1);
      for (let n = 0; n < capacity; n++) expect(find(n)).toBe(2);
      const stats = () => writer.stats[six ? "neighbours6" : "neighbours4"];
      expect(stats()).toEqual({ entries: capacity, capacity, refused: 10, missing: true });
      expect(writer.neighs.remove(neigh(2, at(0), ""))).toBe(3);
      expect(writer.neighs.upsert(neigh(2, at(capacity), mac))).toBe(1);
      expect([find(0), find(capacity)]).toEqual([0, 2]);
      writer.neighs.beginSweep(six ? 10 : 2);
      expect(stats().missing).toBe(false);
    }
  });

test("fault 3: tables that always are full of comings and goings never refuse what there is room for", () => {
  using nb = makeNetbase({ neighbours4: 1000 });
  const { writer, reader } = nb;
  for (let n = 0; n < 1000; n++) writer.neighs.upsert(neigh(2, ip(n), mac));
  for (let n = 1000; n < 60_000; n++) {
    writer.neighs.remove(neigh(2, ip(n - 1000), ""));
    expect(writer.neighs.upsert(neigh(2, ip(n), mac))).toBe(1);
    if (n % 100 !== 0) continue;
    writer.commit();
    reader.quiesce();
  }
  for (let n = 59_000; n < 60_000; n++) expect(reader.neigh4.find(words(ip(n))[0]!, 2)).toBe(2);
});

test("fault 3: addresses that follow each other fill the table under any seed", () => {
  // The first few are seeds under which the hash that was here at first refused some.
  for (const seed of [426, 771, 833, 936, 1353, ...Array(20).keys()]) {
    using nb = makeNetbase({ neighbours4: 16_384 });
    nb.writer.words[H_NEIGH_SEED] = Math.imul(seed, 0x9e3779b1);
    for (let n = 0; n < 16_384; n++) nb.writer.neighs.upsert(neigh(2, ip(n), mac));
    expect(nb.writer.stats.neighbours4).toMatchObject({ entries: 16_384, refused: 0 });
  }
});

test("fault 4: when a link goes down or away, no packet follows its routes, told or not", () => {
  using nb = makeNetbase();
  const { writer, reader } = nb;
  const oif = () => reader.words[lookup(reader, "10.1.0.1") + NH_OIF];
  writer.routes.upsert(route("0.0.0.0/0", [[3]]), CREATE);
  writer.routes.upsert(route("10.1.0.0/16", [[2]]), CREATE);
  expect(oif()).toBe(2);
  writer.links.upsert(link(2, { flags: 0x11002 }));
  writer.commit();
  expect(oif()).toBe(3);
  writer.links.upsert(link(2));
  writer.commit();
  expect(oif()).toBe(2);
  writer.links.remove(2);
  writer.commit();
  expect(oif()).toBe(3);
});

test("fault 5: 12,000 interfaces, and routes over each", () => {
  using nb = makeNetbase({ links: 12_000, routes4: 12_000, nexthops: 12_000 });
  const { writer, reader } = nb;
  for (let n = 5; n <= 12_000; n++) expect(writer.links.upsert(link(n, { name: `if${n}` }))).toBe(1);
  for (let n = 1; n <= 12_000; n++) {
    expect(writer.routes.upsert(route(`${ip(n)}/32`, [[n]]), DUMP)).toBe(1);
    reader.quiesce();
  }
  writer.commit();
  for (let n = 1; n <= 12_000; n++) expect(reader.words[lookup(reader, ip(n)) + NH_OIF]).toBe(n);
  expect(writer.links.upsert(link(12_001))).toBe(-1);
  expect(writer.stats.links).toEqual({ entries: 12_000, capacity: 12_000, refused: 1, missing: true });
});

test("fault 6: during a resync, even one over capacity, no route is missing for a moment", () => {
  using nb = makeNetbase({ routes4: 1000 });
  const { writer, reader } = nb;
  const rows = Array.from({ length: 1500 }, (_, n) => route(`${ip(n * 256)}/24`, [[2]]));
  for (let n = 0; n < 1000; n++) writer.routes.upsert(rows[n]!, CREATE);
  const all = () => {
    for (let n = 0; n < 1000; n++) if (lookup(reader, ip(n * 256 + 1)) === 0) return false;
    return true;
  };
  for (let round = 0; round < 3; round++) {
    const sweep = writer.routes.beginSweep(2);
    for (let n = 0; n < 1500; n++) {
      writer.routes.upsert(rows[n]!, DUMP);
      if (n % 250 === 0) expect(all()).toBe(true);
    }
    expect(writer.routes.endSweep(2, sweep)).toBe(0);
    expect(all()).toBe(true);
  }
  expect(writer.stats.routes4).toMatchObject({ entries: 1000, refused: 1500, missing: true });
  for (let n = 0; n < 500; n++) writer.routes.remove(rows[n]!);
  for (let i = 0; i < 2; i++) {
    writer.commit();
    reader.quiesce();
  }
  const sweep = writer.routes.beginSweep(2);
  for (let n = 500; n < 1500; n++) expect(writer.routes.upsert(rows[n]!, DUMP)).toBeGreaterThanOrEqual(0);
  writer.routes.endSweep(2, sweep);
  expect(writer.stats.routes4).toMatchObject({ entries: 1000, missing: false });
});

test("fault 9: interface indexes beyond 65,535 work; one that is too large or wrong is refused and counted", () => {
  using nb = makeNetbase();
  const { writer, reader } = nb;
  for (const ifindex of [65_535, 65_536, 1_000_000]) {
    expect(writer.links.upsert(link(ifindex))).toBe(1);
    expect(writer.neighs.upsert(neigh(ifindex, "10.0.0.9", mac))).toBe(1);
    expect(writer.routes.upsert(route(`10.${ifindex % 200}.0.0/16`, [[ifindex]]), CREATE)).toBe(1);
    writer.commit();
    expect(reader.links.get(ifindex)?.ifindex).toBe(ifindex);
    expect(reader.neigh4.find(words("10.0.0.9")[0]!, ifindex)).toBe(2);
    expect(reader.words[lookup(reader, `10.${ifindex % 200}.0.1`) + NH_OIF]).toBe(ifindex);
  }
  expect(reader.neigh4.find(words("10.0.0.9")[0]!, 65_536 + (1 << 24))).toBe(0);
  for (const ifindex of [0, -1, 1 << 24, 0x7fffffff]) {
    expect(writer.links.upsert(link(ifindex))).toBe(-1);
    expect(reader.links.find(ifindex)).toBe(0);
    expect(writer.neighs.upsert(neigh(ifindex, "10.0.0.10", mac))).toBeLessThanOrEqual(0);
  }
  expect(writer.stats.links.refused).toBe(4);
});

test("fault 12: a lookup visits one cell and at most one node, with one route or with 4000", () => {
  using nb = makeNetbase();
  const { writer, reader } = nb;
  // Counted, not timed: how many words of the region the lookup reads, besides the cell.
  let reads = 0;
  const counted = new Proxy(reader.words, {
    get(target, key) {
      reads++;
      return Reflect.get(target, key);
    },
  });
  const fib = new Fib4(counted, layout(small));
  const most = () => {
    let worst = 0;
    for (let n = 0; n < 4000; n++) {
      reads = 0;
      expect(fib.lookup(words(ip(n * 131))[0]!)).not.toBe(0);
      worst = Math.max(worst, reads);
    }
    return worst;
  };
  writer.routes.upsert(route("0.0.0.0/0", [[2]]), CREATE);
  expect(most()).toBe(2); // the default route, its record
  for (let n = 0; n < 4000; n++)
    writer.routes.upsert(route(`${ip(n * 131)}/${n % 33}`, [[2 + (n % 3)]]), CREATE);
  expect(most()).toBeWithin(3, 6); // a node's bits, count and cell besides
});

test("fault 13: tos, multipath, RTA_VIA, dead legs; unreachable, prohibit and blackhole stay apart", () => {
  using nb = makeNetbase();
  const { writer, reader } = nb;
  const select = (text: string, tos = 0) => {
    const dst = words(text)[0]!;
    const nh = reader.fib4.lookup(dst);
    return nh === 0 ? 0 : reader.select4(nh, dst, words("10.0.0.1")[0]!, 17, 0, tos);
  };
  const oif = (text: string, tos = 0) => reader.words[select(text, tos) + NH_OIF];
  writer.routes.upsert(route("10.1.0.0/16", [[2]]), CREATE);
  writer.routes.upsert(route("10.1.1.0/24", [[3]], { tos: 0x10 }), CREATE);
  expect([oif("10.1.1.1"), oif("10.1.1.1", 0x10), oif("10.1.1.1", 0xf3), oif("10.1.1.1", 0x1c)]).toEqual([
    2, 3, 3, 2,
  ]);
  writer.routes.upsert(
    route("10.2.0.0/16", [
      [2, "10.0.0.2"],
      [3, "fe80::3"],
    ]),
    CREATE,
  );
  writer.links.upsert(link(2, { flags: 0x11002 }));
  writer.commit();
  expect(oif("10.2.0.1")).toBe(3);
  expect(reader.words[select("10.2.0.1") + NH_LINK]! & 0xff).toBe(10);
  for (const type of [6, 7, 8]) {
    writer.routes.upsert(route(`10.${100 + type}.0.0/16`, [], { type }), CREATE);
    expect(reader.words[select(`10.${100 + type}.0.1`) + NH_TYPE]! & 0xff).toBe(type);
  }
  writer.routes.upsert(route("10.2.5.0/24", [], { type: 9 }), CREATE); // throw: on to table default
  expect(select("10.2.5.1")).toBe(0);
  writer.routes.upsert(route("10.0.0.0/8", [[4]], { table: 253 }), CREATE);
  expect(oif("10.2.5.1")).toBe(4);
});

test("many next hops of many legs follow a link that comes and goes, in memory that is nearly full", () => {
  using nb = makeNetbase({ nexthops: 2000, routes4: 2000, routes6: 1, neighbours4: 1, neighbours6: 1 });
  const { writer, reader } = nb;
  const legs = (n: number) =>
    Array.from({ length: 8 }, (_, i): [number, string] => [2 + (i & 1), ip(n * 8 + i)]);
  let n = 0;
  while (writer.routes.upsert(route(`${ip(n * 256)}/24`, legs(n)), CREATE) === 1) n++;
  writer.commit();
  expect(writer.stats.lines.entries).toBeGreaterThan(8000);
  // A reader that goes on all the while, as one in another thread does.
  reader.offline();
  for (const flags of [0x11002, 0x11043, 0x11002, 0x11043]) {
    writer.links.upsert(link(2, { flags }));
    writer.commit();
  }
  reader.online();
  for (let i = 0; i < n; i++) expect(lookup(reader, ip(i * 256 + 1))).not.toBe(0);
});
