// The mirror, rule by rule: what the kernel does without telling, what happens when events are lost, and the faults of
// reference systems that concern synchronisation, by name. test/diff has the random part.
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { Host } from "../../src/lab/host.ts";
import {
  H_HASH_POLICY4,
  H_HASH_POLICY6,
  LINE_WORDS,
  LINK_IGNORE,
  NH_ENCAP,
  NH_TYPE,
} from "../../src/netbase/layout.ts";
import { delAddr, newAddr } from "../../src/netlink/addr.ts";
import * as nl from "../../src/netlink/constants.ts";
import { delLink, newLink, setLink } from "../../src/netlink/link.ts";
import { Requests } from "../../src/netlink/message.ts";
import { delNeigh, newNeigh } from "../../src/netlink/neigh.ts";
import { delNexthop, newNexthop } from "../../src/netlink/nexthop.ts";
import { delRoute, newRoute, type RouteSpec } from "../../src/netlink/routeset.ts";
import { delRule, newRule } from "../../src/netlink/rule.ts";
import { NetlinkSocket } from "../../src/netlink/socket.ts";
import { parseAddress, parseIPv4 } from "../../src/wire/address.ts";
import { differences, kernelTables, ourTables } from "../diff/compare.ts";
import { Mirrored } from "../diff/mirrored.ts";
import { lookup } from "../netbase/make.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const stack: { close(): void }[] = [];
afterEach(() => {
  for (const one of stack.splice(0).reverse()) one.close();
});
const use = <T extends { close(): void }>(one: T): T => {
  stack.push(one);
  return one;
};

/** Two namespaces, `n` veth pairs a0.. (10.0.i.1/24, fd00:0:0:i::1/64) between them, and a mirror of the first. */
function world(n = 2, options: ConstructorParameters<typeof Mirrored>[1] = {}) {
  const host = use(new Host("mirror"));
  const far = use(new Host("mirror far"));
  const ifindex: number[] = [];
  for (let i = 0; i < n; i++) {
    ifindex.push(host.veth(`a${i}`, far, `b${i}`)[0]);
    host.addr(`a${i}`, `10.0.${i}.1/24`);
    host.addr(`a${i}`, `fd00:0:0:${i}::1/64`);
  }
  const mirrored = use(new Mirrored(host.netns, options));
  return { host, far, ifindex, mirrored, counts: mirrored.mirror.counts };
}

/** Lets everything settle, and holds every table against the kernel's. */
function same(mirrored: Mirrored, host: Host): void {
  let found: string[] = [];
  for (let tries = 0; tries < 40; tries++) {
    mirrored.settle();
    found = differences(ourTables(mirrored), kernelTables(host));
    if (found.length === 0) return;
    mirrored.wait(50);
  }
  expect(found).toEqual([]);
}

const routes = (mirrored: Mirrored, prefix: string): string[] => {
  const { routes4, routes6 } = ourTables(mirrored);
  return [...routes4, ...routes6].filter((line) => line.includes(` ${prefix} `));
};

test("link down: its IPv4 routes go though the kernel tells of none (fault 4), a multipath leg dies", () => {
  const { host, mirrored } = world();
  host.route({ dst: "10.50.0.0/16", via: "10.0.0.2" });
  host.route({ dst: "10.51.0.0/16", nexthops: [{ via: "10.0.0.2" }, { via: "10.0.1.2" }] });
  host.route({ dst: "fd50::/32", nexthops: [{ via: "fd00::2" }, { via: "fd00:0:0:1::2" }] });
  same(mirrored, host);
  expect(routes(mirrored, "10.50.0.0/16")).toHaveLength(1);
  host.down("a0");
  same(mirrored, host);
  expect(routes(mirrored, "10.50.0.0/16")).toEqual([]);
  expect(routes(mirrored, "10.0.0.0/24")).toEqual([]);
  expect(routes(mirrored, "10.51.0.0/16")[0]).toContain("dead");
  expect(routes(mirrored, "fd50::/32")[0]).toContain("dead");
  host.up("a0");
  same(mirrored, host);
  expect(routes(mirrored, "10.51.0.0/16")[0]).not.toContain("dead");
});

test("the kernel tells of the link before it takes the routes: the mirror waits until it has", async () => {
  const { host, ifindex, mirrored } = world(1);
  const ROUTES = 60_000;
  host.nl.batch((m) => {
    for (let i = 0; i < ROUTES; i++)
      newRoute(m, {
        dst: { family: nl.AF_INET, words: [0x20 | ((i & 255) << 8) | ((i >>> 8) << 16)], prefixLen: 24 },
        via: "10.0.0.2",
      });
  });
  mirrored.settle();
  expect(mirrored.writer.stats.routes4.entries).toBeGreaterThan(ROUTES);
  const child = Bun.spawn(host.command("ip", "link", "set", "a0", "down"));
  while (mirrored.reader.links.get(ifindex[0]!)!.flags & nl.IFF_UP) mirrored.mirror.turn();
  mirrored.settle();
  expect(await child.exited).toBe(0);
  mirrored.settle();
  expect(mirrored.writer.stats.routes4.entries).toBeLessThan(10);
}, 20_000);

test("a reader finds the next best route the moment the mirror knows that the link is down", () => {
  const { host, ifindex, mirrored } = world();
  host.route({ dst: "10.50.0.0/16", via: "10.0.0.2" });
  host.route({ dst: "10.50.0.0/16", via: "10.0.1.2", priority: 5 });
  mirrored.settle();
  const oif = () => {
    const nh = mirrored.reader.fib4.lookup(parseIPv4("10.50.1.1")!);
    return nh === 0 ? 0 : mirrored.reader.words[nh + 1]!;
  };
  expect(oif()).toBe(ifindex[0]!);
  host.down("a0");
  mirrored.mirror.turn();
  mirrored.reader.quiesce();
  expect(oif()).toBe(ifindex[1]!);
});

test("carrier lost and back: legs follow", () => {
  const { host, far, mirrored } = world();
  host.route({ dst: "10.51.0.0/16", nexthops: [{ via: "10.0.0.2" }, { via: "10.0.1.2" }] });
  far.down("b0");
  same(mirrored, host);
  expect(routes(mirrored, "10.51.0.0/16")[0]).toContain("linkdown");
  far.up("b0");
  same(mirrored, host);
  expect(routes(mirrored, "10.51.0.0/16")[0]).not.toContain("linkdown");
});

test("the last IPv4 address takes all other routes along in silence; a new one brings dead legs back", () => {
  const { host, ifindex, mirrored } = world();
  host.route({ dst: "10.50.0.0/16", via: "10.0.0.2" });
  host.route({ dst: "10.51.0.0/16", nexthops: [{ via: "10.0.0.2" }, { via: "10.0.1.2" }] });
  mirrored.settle();
  host.nl.call((m) => delAddr(m, { ifindex: ifindex[0]!, local: "10.0.0.1/24" }));
  same(mirrored, host);
  expect(routes(mirrored, "10.50.0.0/16")).toEqual([]);
  expect(routes(mirrored, "10.51.0.0/16")[0]).toContain("dead");
  host.addr("a0", "10.0.0.1/24");
  same(mirrored, host);
  expect(routes(mirrored, "10.51.0.0/16")[0]).not.toContain("dead");
});

test("an address that is another interface's route's source: the route goes, or forgets it", () => {
  const { host, ifindex, mirrored } = world();
  host.addr("a0", "10.0.0.9/24");
  host.route({ dst: "10.50.0.0/16", via: "10.0.1.2", prefsrc: "10.0.0.9" });
  host.route({ dst: "fd50::/32", via: "fd00:0:0:1::2", prefsrc: "fd00::1" });
  mirrored.settle();
  host.nl.call((m) => delAddr(m, { ifindex: ifindex[0]!, local: "10.0.0.9/24" }));
  host.nl.call((m) => delAddr(m, { ifindex: ifindex[0]!, local: "fd00::1/64" }));
  same(mirrored, host);
  expect(routes(mirrored, "10.50.0.0/16")).toEqual([]);
  expect(routes(mirrored, "fd50::/32")[0]).toContain("src - ");
});

test("IPv6: an address that is gone before the kernel told of it: a route forgets it as its source", () => {
  const { host, ifindex, mirrored } = world(1);
  const spec = { ifindex: ifindex[0]!, local: "fd00::9/64", flags: nl.IFA_F_NODAD };
  host.nl.batch((m) => {
    newAddr(m, spec);
    newRoute(m, { dst: "fd50::/32", type: nl.RTN_BLACKHOLE, prefsrc: "fd00::9" });
    delAddr(m, spec);
  });
  same(mirrored, host);
  expect(routes(mirrored, "fd50::/32")[0]).toContain("src - ");
});

test("an IPv6 route whose time is over is gone before the kernel collects it; one that was prolonged is not", () => {
  const { host, mirrored } = world(1);
  const ip = (...args: string[]) =>
    expect(Bun.spawnSync(host.command("ip", "-6", "route", ...args)).exitCode).toBe(0);
  ip("add", "fd50::/32", "via", "fd00::2", "expires", "1");
  ip("add", "fd52::/32", "via", "fd00::2", "expires", "1");
  mirrored.settle();
  const there = () => ["fd50", "fd52"].filter((net) => routes(mirrored, `${net}::/32`).length > 0);
  expect(there()).toEqual(["fd50", "fd52"]);
  ip("replace", "fd52::/32", "via", "fd00::2", "expires", "1000");
  for (let tries = 0; tries < 10 && there().length > 1; tries++) {
    mirrored.wait(Math.min(mirrored.mirror.turn(), 1000));
    mirrored.settle();
  }
  // It is in the kernel's table still, and in none of its answers.
  expect(Bun.spawnSync(host.command("ip", "route", "get", "fd50::1")).exitCode).not.toBe(0);
  expect(there()).toEqual(["fd52"]);
});

test("routes with a tunnel's head are told apart from those without, leg by leg", () => {
  const { host, mirrored } = world();
  const ip = (args: string) =>
    expect(Bun.spawnSync(host.command("ip", ...args.split(" "))).stderr.toString()).toBe("");
  const head = "encap ip id 5 dst 10.0.0.2";
  ip(`route add 10.50.0.0/16 ${head} via 10.0.0.2 dev a0`);
  ip(`route add 10.51.0.0/16 nexthop via 10.0.1.2 dev a1 nexthop ${head} via 10.0.0.2 dev a0`);
  ip(`nexthop add id 1 ${head} via 10.0.0.2 dev a0`);
  ip("nexthop add id 2 via 10.0.1.2 dev a1");
  ip("nexthop add id 3 group 1/2");
  ip("route add 10.52.0.0/16 nhid 1");
  ip("route add 10.53.0.0/16 nhid 3");
  ip("route add fd50::/32 encap ip6 id 5 dst fd00::2 via fd00::2 dev a0");
  ip("route add fd51::/32 via fd00::2 dev a0");
  mirrored.settle(); // ip -j has two keys "dst" for these, so that they cannot be compared
  const { reader } = mirrored;
  const heads = (address: string) => {
    const { family, words: w } = parseAddress(address)!;
    const nh =
      family === nl.AF_INET ? reader.fib4.lookup(w[0]!) : reader.fib6.lookup(w[0]!, w[1]!, w[2]!, w[3]!);
    const legs = reader.words[nh + NH_TYPE]! >>> 16;
    return Array.from(
      { length: legs },
      (_, i) => (reader.words[nh + i * LINE_WORDS + NH_TYPE]! & NH_ENCAP) !== 0,
    );
  };
  expect(["10.50.0.1", "10.51.0.1", "10.52.0.1", "10.53.0.1", "fd50::1", "fd51::1"].map(heads)).toEqual([
    [true],
    [false, true],
    [true],
    [true, false],
    [true],
    [false],
  ]);
  ip("route replace 10.50.0.0/16 via 10.0.0.2 dev a0");
  mirrored.settle();
  expect(heads("10.50.0.1")).toEqual([false]);
});

test("a smaller MTU of the link lowers that of its IPv6 routes", () => {
  const { host, ifindex, mirrored } = world();
  host.route({ dst: "fd50::/32", via: "fd00::2", mtu: 1400 });
  mirrored.settle();
  host.nl.call((m) => setLink(m, { ifindex: ifindex[0]!, mtu: 1300 }));
  same(mirrored, host);
  expect(routes(mirrored, "fd50::/32")[0]).toContain("mtu 1300");
});

for (const compat of [1, 0])
  test(`nexthop objects: replaced, deleted, their id used again (nexthop_compat_mode=${compat})`, () => {
    const { host, ifindex, mirrored } = world();
    host.sysctl("net/ipv4/nexthop_compat_mode", compat);
    const [a, b] = ifindex as [number, number];
    host.nl.call((m) => newNexthop(m, { id: 1, via: "10.0.0.2", oif: a }));
    host.nl.call((m) => newNexthop(m, { id: 2, via: "10.0.1.2", oif: b }));
    host.nl.call((m) => newNexthop(m, { id: 3, group: [{ id: 1 }, { id: 2, weight: 3 }] }));
    host.nl.call((m) => newNexthop(m, { id: 4, via: "fd00::2", oif: a }));
    host.route({ dst: "10.50.0.0/16", nhid: 1 });
    host.route({ dst: "10.51.0.0/16", nhid: 3 });
    host.route({ dst: "fd50::/32", nhid: 4 });
    const kernel = () => kernelTables(host);
    const check = () => {
      for (let tries = 0; tries < 40; tries++) {
        mirrored.settle();
        const [ours, theirs] = [ourTables(mirrored), kernel()];
        // Without compat mode the kernel tells routes by id alone: legs are what the objects say.
        for (const tables of compat ? [] : [ours, theirs])
          for (const name of ["routes4", "routes6"] as const)
            tables[name] = tables[name].map((line) => line.replace(/(nhid [1-9]\d*) via .*/, "$1"));
        const found = differences(ours, theirs);
        if (found.length === 0) return;
        if (tries === 39) expect(found).toEqual([]);
        mirrored.wait(20);
      }
    };
    check();
    const replace = nl.NLM_F_CREATE | nl.NLM_F_REPLACE;
    host.nl.call((m) => newNexthop(m, { id: 1, via: "10.0.1.9", oif: b }, replace));
    check();
    expect(routes(mirrored, "10.50.0.0/16")[0]).toContain(`10.0.1.9 dev ${b}`);
    // Deleted and made again, before the mirror looks: routes of the first must not come to life.
    host.nl.call((m) => delNexthop(m, 1));
    host.nl.call((m) => newNexthop(m, { id: 1, via: "10.0.0.3", oif: a }));
    host.route({ dst: "10.52.0.0/16", nhid: 1 });
    check();
    expect(routes(mirrored, "10.50.0.0/16")).toEqual([]);
    expect(routes(mirrored, "10.52.0.0/16")).toHaveLength(1);
    expect(routes(mirrored, "10.51.0.0/16")[0]).toContain("nhid 3");
    host.nl.call((m) => delNexthop(m, 2));
    check();
    expect(routes(mirrored, "10.51.0.0/16")).toEqual([]);
    host.down("a0");
    check();
    expect(ourTables(mirrored).nexthops).toEqual([]);
    expect(routes(mirrored, "fd50::/32")).toEqual([]);
  });

test("a nexthop object becomes a blackhole and back: its route is that one still, not the first of its prefix", () => {
  const { host, ifindex, mirrored } = world(1);
  host.nl.call((m) => newNexthop(m, { id: 1, via: "10.0.0.2", oif: ifindex[0]! }));
  const append = nl.NLM_F_CREATE | nl.NLM_F_APPEND;
  host.nl.call((m) => newRoute(m, { dst: "10.0.0.0/24", nhid: 1 }, append));
  same(mirrored, host);
  const { entries } = mirrored.writer.stats.routes4;
  for (const spec of [
    { id: 1, blackhole: true, family: nl.AF_INET },
    { id: 1, via: "10.0.0.3", oif: ifindex[0]! },
  ]) {
    host.nl.call((m) => newNexthop(m, spec, nl.NLM_F_CREATE | nl.NLM_F_REPLACE));
    mirrored.settle();
    expect(mirrored.writer.stats.routes4.entries).toBe(entries);
    same(mirrored, host);
    expect(routes(mirrored, "10.0.0.0/24")).toHaveLength(2);
  }
  expect(mirrored.mirror.counts.swept).toBe(0);
});

for (const flags of [nl.NLM_F_CREATE | nl.NLM_F_EXCL, nl.NLM_F_CREATE | nl.NLM_F_REPLACE])
  test(`a nexthop object that went with its link, without a word, and was made again (flags 0x${flags.toString(16)})`, () => {
    const { host, ifindex, mirrored } = world();
    const [a, b] = ifindex as [number, number];
    host.nl.call((m) => newNexthop(m, { id: 1, via: "10.0.0.2", oif: a }));
    host.nl.call((m) => newNexthop(m, { id: 2, via: "fd00::2", oif: a }));
    host.route({ dst: "10.50.0.0/16", nhid: 1 });
    host.route({ dst: "fd50::/32", nhid: 2 });
    same(mirrored, host);
    host.down("a0");
    // Before the mirror looks: objects of the same ids over another link, and one route of the new ones.
    host.nl.call((m) => newNexthop(m, { id: 1, via: "10.0.1.2", oif: b }, flags));
    host.nl.call((m) => newNexthop(m, { id: 2, via: "fd00:0:0:1::2", oif: b }, flags));
    host.route({ dst: "10.51.0.0/16", nhid: 1 });
    same(mirrored, host);
    expect([...routes(mirrored, "10.50.0.0/16"), ...routes(mirrored, "fd50::/32")]).toEqual([]);
    expect(routes(mirrored, "10.51.0.0/16")).toHaveLength(1);
  });

test("IPv6: a replaced nexthop object and a replaced route are told alike: the other routes of the prefix stay, or go", () => {
  const { host, ifindex, mirrored } = world(1);
  const object = (via: string) => ({ id: 1, via, oif: ifindex[0]! });
  const replace = nl.NLM_F_CREATE | nl.NLM_F_REPLACE;
  host.nl.call((m) => newNexthop(m, object("fd00::2")));
  host.route({ dst: "fd50::/32", type: nl.RTN_UNREACHABLE });
  host.nl.call((m) => newRoute(m, { dst: "fd50::/32", nhid: 1 }, nl.NLM_F_CREATE | nl.NLM_F_APPEND));
  same(mirrored, host);
  host.nl.call((m) => newNexthop(m, object("fd00::3"), replace));
  same(mirrored, host);
  expect(routes(mirrored, "fd50::/32")).toHaveLength(2);
  host.nl.call((m) => newRoute(m, { dst: "fd50::/32", nhid: 1 }, replace));
  same(mirrored, host);
  expect(routes(mirrored, "fd50::/32")).toHaveLength(1);
});

test("IPv6: the route that is replaced is the first that came, not the preferred one", () => {
  const { host, ifindex, mirrored } = world(1);
  const dst = "fd50::/32";
  host.nl.call((m) => newNexthop(m, { id: 1, via: "fd00::2", oif: ifindex[0]! }));
  host.route({ dst, type: nl.RTN_UNREACHABLE });
  host.nl.call((m) => newRoute(m, { dst, nhid: 1, pref: 1 }, nl.NLM_F_CREATE | nl.NLM_F_APPEND));
  same(mirrored, host);
  host.nl.call((m) => newRoute(m, { dst, type: nl.RTN_THROW }, nl.NLM_F_REPLACE));
  same(mirrored, host);
  expect(routes(mirrored, dst)).toHaveLength(2);
});

test("IPv6: a route that dumps hide between the legs of another is there still, and is found when they are gone", () => {
  const { host, mirrored } = world();
  const dst = "fd50::/32";
  const append = nl.NLM_F_CREATE | nl.NLM_F_APPEND;
  host.route({ dst, via: "fd00::2" });
  host.nl.call((m) => newRoute(m, { dst, type: nl.RTN_PROHIBIT }, append));
  host.nl.call((m) => newRoute(m, { dst, via: "fd00:0:0:1::2" }, append));
  mirrored.mirror.resync();
  same(mirrored, host);
  expect(kernelTables(host).routes6.filter((line) => line.includes(` ${dst} `))).toHaveLength(1);
  expect(routes(mirrored, dst)).toHaveLength(2);
  host.nl.call((m) => delRoute(m, { dst, via: "fd00::2" }));
  host.nl.call((m) => delRoute(m, { dst, via: "fd00:0:0:1::2" }));
  same(mirrored, host);
  expect(routes(mirrored, dst)).toEqual([expect.stringContaining("type 8 ")]);
  host.nl.call((m) => delRoute(m, { dst }));
  same(mirrored, host);
  expect(routes(mirrored, dst)).toEqual([]);
});

test("IPv6: one leg deleted, one appended; IPv4: APPEND, prepend, REPLACE keep the kernel's order", () => {
  const { host, mirrored } = world();
  const six = (via: string) => ({ dst: "fd50::/32", via });
  host.route({
    dst: "fd50::/32",
    nexthops: [{ via: "fd00::2" }, { via: "fd00::3" }, { via: "fd00:0:0:1::2" }],
  });
  host.nl.call((m) => delRoute(m, six("fd00::3")));
  same(mirrored, host);
  host.nl.call((m) => newRoute(m, six("fd00:0:0:1::9"), nl.NLM_F_CREATE | nl.NLM_F_APPEND));
  same(mirrored, host);
  const four = (via: string) => ({ dst: "10.50.0.0/16", via });
  const append = nl.NLM_F_CREATE | nl.NLM_F_APPEND;
  host.nl.call((m) => newRoute(m, four("10.0.0.2")));
  host.nl.call((m) => newRoute(m, four("10.0.0.3"), append));
  host.nl.call((m) => newRoute(m, four("10.0.0.4"), nl.NLM_F_CREATE));
  same(mirrored, host);
  host.nl.call((m) => newRoute(m, four("10.0.1.2"), nl.NLM_F_REPLACE));
  same(mirrored, host);
  const order = routes(mirrored, "10.50.0.0/16").map((line) => /via (\S+)/.exec(line)![1]);
  expect(order).toEqual(["10.0.1.2", "10.0.0.2", "10.0.0.3"]);
});

test("IPv6: a leg whose MTU changed with its interface has it once the legs before it are gone", () => {
  const { host, ifindex, mirrored } = world(3);
  const [a, b, c] = ifindex;
  const dst = "fd11::/32";
  const mtus = () => routes(mirrored, dst).map((line) => / mtu \S+/.exec(line)![0]);
  const via = (i: number) => ({ via: `fd00:0:0:${i}::9`, oif: ifindex[i]! });
  for (const [resized, gone] of [
    [b, 0],
    [a, 0],
    [c, 2],
  ] as const) {
    host.nl.call((m) => newRoute(m, { dst, mtu: 1400, nexthops: [via(0), via(1), via(2)] }));
    same(mirrored, host);
    host.nl.call((m) => setLink(m, { ifindex: resized!, mtu: 1300 }));
    same(mirrored, host);
    host.nl.call((m) => delRoute(m, { dst, ...via(gone) }));
    same(mirrored, host);
    host.nl.call((m) => delRoute(m, { dst, ...via(1) }));
    same(mirrored, host);
    expect(mtus()).toHaveLength(1);
    host.nl.call((m) => delRoute(m, { dst }));
    host.nl.call((m) => setLink(m, { ifindex: resized!, mtu: 1500 }));
    same(mirrored, host);
  }
});

test("IPv6: a leg that came up without carrier is dead, and stays so when it is the last, until carrier comes", () => {
  const { host, far, ifindex, mirrored } = world(2);
  const [a] = ifindex;
  const dst = "fd11::/32";
  const via = (i: number) => ({ via: `fd00:0:0:${i}::9`, oif: ifindex[i]! });
  const other = "fd12::/32";
  host.nl.call((m) => newRoute(m, { dst, nexthops: [via(0), via(1)] }));
  host.nl.call((m) => setLink(m, { ifindex: a!, up: false }));
  far.nl.call((m) => setLink(m, { name: "b0", up: false }));
  host.nl.call((m) => setLink(m, { ifindex: a!, up: true }));
  same(mirrored, host);
  host.nl.call((m) => delRoute(m, { dst, ...via(1) }));
  same(mirrored, host);
  expect(routes(mirrored, dst)[0]).toContain("dead,linkdown");
  expect(lookup(mirrored.reader, "fd11::1")).toBe(0);
  host.nl.call((m) => newRoute(m, { dst: other, via: "fd00:0:0:1::8", oif: ifindex[1]! }));
  same(mirrored, host);
  far.nl.call((m) => setLink(m, { name: "b0", up: true }));
  same(mirrored, host);
  expect(routes(mirrored, dst)[0]).not.toContain("dead");
  expect(lookup(mirrored.reader, "fd11::1")).not.toBe(0);
});

test("IPv6: routes whose legs differ are dumped when one goes; of those that come after them no more is asked", () => {
  const { host, ifindex, mirrored, counts } = world(2);
  const dst = "fd11::/32";
  const via = (i: number) => ({ via: `fd00:0:0:${i}::9`, oif: ifindex[i]! });
  const append = nl.NLM_F_CREATE | nl.NLM_F_APPEND;
  host.nl.call((m) => newRoute(m, { dst, mtu: 1400, ...via(0) }));
  host.nl.call((m) => newRoute(m, { dst, mtu: 1300, ...via(1) }, append));
  same(mirrored, host);
  expect(routes(mirrored, dst)).toHaveLength(1);
  host.nl.call((m) => delRoute(m, { dst, ...via(0) }));
  same(mirrored, host);
  expect(routes(mirrored, dst)[0]).toContain("mtu 1300");
  host.nl.call((m) => delRoute(m, { dst }));
  same(mirrored, host);
  const { dumps } = counts;
  for (let i = 0; i < 3; i++) {
    host.nl.call((m) => newRoute(m, { dst, ...via(0) }));
    same(mirrored, host);
    host.nl.call((m) => delRoute(m, { dst }));
    same(mirrored, host);
  }
  expect(counts.dumps).toBe(dumps);
});

test("a full table has what was missing once there is room for it, be it for the last one", () => {
  const { host } = world(1);
  const route = (i: number) => ({ dst: `10.50.${i}.0/24`, via: "10.0.0.2" });
  const before = kernelTables(host).routes4.length;
  const capacity = before + 100;
  for (let i = 0; i < 101; i++) host.nl.call((m) => newRoute(m, route(i)));
  const mirrored = use(new Mirrored(host.netns, {}, { routes4: capacity }));
  const stats = () => mirrored.writer.stats.routes4;
  const follow = (ms: number) => {
    for (const end = performance.now() + ms; performance.now() < end; mirrored.wait(20))
      mirrored.mirror.turn();
  };
  follow(1500);
  expect(stats()).toMatchObject({ entries: capacity, missing: true });
  const { dumps } = mirrored.mirror.counts;
  follow(1500);
  expect(mirrored.mirror.counts.dumps).toBe(dumps); // as long as there is no room, nothing is tried
  const known = Array.from({ length: 101 }, (_, i) => i).find(
    (i) => routes(mirrored, `10.50.${i}.0/24`).length > 0,
  )!;
  host.nl.call((m) => delRoute(m, route(known)));
  follow(2500);
  same(mirrored, host);
  expect(stats()).toMatchObject({ entries: capacity, missing: false });
}, 30_000);

test("nexthop objects have ids of 32 bits", () => {
  const { host, ifindex, mirrored } = world(1);
  const id = 0xffff_ffff;
  host.nl.call((m) => newNexthop(m, { id, via: "10.0.0.2", oif: ifindex[0]! }));
  host.nl.call((m) => newRoute(m, { dst: "10.50.0.0/16", nhid: id }));
  same(mirrored, host);
  expect(routes(mirrored, "10.50.0.0/16")[0]).toContain(`nhid ${id} via 10.0.0.2`);
  host.nl.call((m) => delNexthop(m, id));
  same(mirrored, host);
  expect(routes(mirrored, "10.50.0.0/16")).toEqual([]);
});

test("IPv6: two routes over one next hop, of which one is dead by what became of its legs, and the other is not", () => {
  const { host, far, ifindex, mirrored } = world(2);
  const [a] = ifindex;
  const via = (i: number) => ({ via: "fe80::9", oif: ifindex[i]! });
  const [dead, alive] = ["fd11::/32", "fd12::/32"];
  const lookups = () => ["fd11::1", "fd12::1"].map((dst) => lookup(mirrored.reader, dst) !== 0);
  host.nl.call((m) => newRoute(m, { dst: dead!, nexthops: [via(0), via(1)] }));
  host.nl.call((m) => setLink(m, { ifindex: a!, up: false }));
  far.nl.call((m) => setLink(m, { name: "b0", up: false }));
  host.nl.call((m) => setLink(m, { ifindex: a!, up: true }));
  same(mirrored, host);
  host.nl.call((m) => delRoute(m, { dst: dead!, ...via(1) }));
  host.nl.call((m) => newRoute(m, { dst: alive!, ...via(0) }));
  same(mirrored, host);
  expect(lookups()).toEqual([false, true]);
  mirrored.mirror.resync();
  same(mirrored, host);
  expect(lookups()).toEqual([false, true]);
  host.nl.call((m) => delRoute(m, { dst: alive!, ...via(0) }));
  same(mirrored, host);
  expect(lookups()).toEqual([false, false]);
  host.nl.call((m) => newRoute(m, { dst: alive!, ...via(0) }));
  far.nl.call((m) => setLink(m, { name: "b0", up: true }));
  same(mirrored, host);
  expect(lookups()).toEqual([true, true]);
});

test("IPv6: a leg with an MTU of its own, from before the mirror was there", () => {
  const { host, ifindex } = world(2);
  const dst = "fd11::/32";
  const via = (i: number) => ({ via: `fd00:0:0:${i}::9`, oif: ifindex[i]! });
  const append = nl.NLM_F_CREATE | nl.NLM_F_APPEND;
  host.nl.call((m) => newRoute(m, { dst, mtu: 1400, ...via(0) }, append));
  host.nl.call((m) => newRoute(m, { dst, mtu: 1390, ...via(1) }, append));
  for (const gone of [0, 1]) {
    const mirrored = use(new Mirrored(host.netns));
    host.nl.call((m) => delRoute(m, { dst, ...via(gone) }));
    same(mirrored, host);
    host.nl.call((m) => newRoute(m, { dst, mtu: 1400 - 10 * gone, ...via(gone) }, append));
  }
});

test("IPv4 routes that differ in nothing that is told: one deleted, the other is there still, and where it was", () => {
  const { host, mirrored } = world();
  const dst = "10.50.0.0/16";
  const append = nl.NLM_F_CREATE | nl.NLM_F_APPEND;
  host.nl.call((m) => newRoute(m, { dst, via: "10.0.0.2" }));
  host.nl.call((m) => newRoute(m, { dst, via: "10.0.1.2" }, append));
  mirrored.settle();
  host.nl.call((m) => newRoute(m, { dst, nexthops: [{ via: "10.0.0.2", weight: 5 }] }, append));
  const gateways = () => routes(mirrored, dst).map((line) => /via (\S+)/.exec(line)![1]);
  same(mirrored, host);
  expect(gateways()).toEqual(["10.0.0.2", "10.0.1.2"]);
  host.nl.call((m) => delRoute(m, { dst, via: "10.0.0.2" }));
  same(mirrored, host);
  expect(gateways()).toEqual(["10.0.1.2", "10.0.0.2"]);
  host.nl.call((m) => delRoute(m, { dst, via: "10.0.0.2" }));
  same(mirrored, host);
  expect(gateways()).toEqual(["10.0.1.2"]);
});

test("IPv4: a route is replaced by one that looks like another that is there", () => {
  const { host, mirrored } = world(1);
  const dst = "10.50.0.0/16";
  host.route({ dst, type: nl.RTN_UNREACHABLE });
  host.nl.call((m) => newRoute(m, { dst, via: "10.0.0.2" }, nl.NLM_F_CREATE | nl.NLM_F_APPEND));
  same(mirrored, host);
  host.nl.call((m) => newRoute(m, { dst, nexthops: [{ via: "10.0.0.2", weight: 5 }] }, nl.NLM_F_REPLACE));
  same(mirrored, host);
  expect(routes(mirrored, dst)).toHaveLength(1);
});

test("a link moves away and back, is renamed, and its index is used again", () => {
  const { host, far, ifindex, mirrored } = world();
  host.nl.call((m) => setLink(m, { ifindex: ifindex[0]!, netnsFd: far.netns.fd }));
  same(mirrored, host);
  far.nl.call((m) => setLink(m, { name: "a0", netnsFd: host.netns.fd }));
  host.nl.call((m) => setLink(m, { ifindex: host.ifindex("a0"), rename: "other" }));
  same(mirrored, host);
  host.nl.call((m) => delLink(m, { name: "other" }));
  host.nl.call((m) => newLink(m, { name: "new", kind: "bridge", ifindex: ifindex[0]!, up: true }));
  host.addr("new", "10.7.0.1/24");
  same(mirrored, host);
  expect(mirrored.reader.links.get(ifindex[0]!)!.name).toBe("new");
});

test("a port that leaves its bridge is still there", () => {
  const { host, ifindex, mirrored } = world();
  host.nl.call((m) => newLink(m, { name: "br", kind: "bridge", up: true }));
  host.nl.call((m) => setLink(m, { ifindex: ifindex[0]!, master: host.ifindex("br") }));
  same(mirrored, host);
  host.nl.call((m) => setLink(m, { ifindex: ifindex[0]!, master: 0 }));
  same(mirrored, host);
  host.nl.call((m) => delLink(m, { name: "br" }));
  same(mirrored, host);
});

test("over 256 interfaces (fault 5), one with an index over 65535 (fault 9)", () => {
  const host = use(new Host("many"));
  const links = Array.from({ length: 300 }, (_, i) => `v${i}`);
  host.nl.batch((m) => {
    for (const [i, name] of links.entries())
      newLink(m, { name, kind: "ifb", up: true, ...(i === 7 && { ifindex: 1_000_000 }) });
  });
  const mirrored = use(new Mirrored(host.netns));
  host.nl.batch((m) => {
    for (let i = 0; i < 300; i++)
      newAddr(m, {
        ifindex: i === 7 ? 1_000_000 : host.ifindex(`v${i}`),
        local: `10.${i >> 8}.${i & 255}.1/24`,
      });
  });
  same(mirrored, host);
  expect(mirrored.reader.links.get(1_000_000)!.name).toBe("v7");
  expect(mirrored.writer.stats.links.entries).toBe(301);
  host.nl.batch((m) => {
    for (const name of links) delLink(m, { name });
  });
  same(mirrored, host);
}, 60_000);

test("events lost: every table is right again, not routes alone (fault 11)", () => {
  const { host, ifindex, mirrored, counts } = world(2, { receiveBytes: 4096 });
  const churn = (from: number) =>
    host.nl.batch((m) => {
      for (let i = 0; i < 200; i++) {
        newRoute(m, { dst: `10.${60 + from}.${i}.0/24`, via: "10.0.0.2" });
        newRoute(m, { dst: `fd${from + 50}:${i}::/32`, via: "fd00::2" });
        newNeigh(m, { ifindex: ifindex[1]!, dst: `10.0.1.${i + 2}`, lladdr: `02:00:00:00:0${from}:01` });
        newNeigh(m, { ifindex: ifindex[1]!, dst: `fd00:0:0:1::${i + 2}`, lladdr: `02:00:00:00:0${from}:01` });
      }
      newNexthop(m, { id: 10 + from, via: "10.0.0.7", oif: ifindex[0]! });
      newAddr(m, { ifindex: ifindex[0]!, local: `10.0.0.${100 + from}/24` });
      setLink(m, { ifindex: ifindex[1]!, mtu: 1400 + from });
    });
  for (let round = 1; round <= 3; round++) {
    churn(round);
    mirrored.mirror.turn();
  }
  same(mirrored, host);
  host.nl.batch((m) => {
    for (let round = 1; round <= 3; round++)
      for (let i = 0; i < 200; i++) {
        delRoute(m, { dst: `10.${60 + round}.${i}.0/24` });
        delRoute(m, { dst: `fd${round + 50}:${i}::/32` });
        delNeigh(m, { ifindex: ifindex[1]!, dst: `10.0.1.${i + 2}` });
      }
    delNexthop(m, 12);
    delAddr(m, { ifindex: ifindex[0]!, local: "10.0.0.101/24" });
    delLink(m, { name: "a1" });
  });
  same(mirrored, host);
  expect(counts.overruns).toBeGreaterThan(0);
  expect(counts.resyncs).toBeGreaterThanOrEqual(counts.overruns);
  expect(counts.swept).toBeGreaterThan(0);
  expect(counts.slowestMs).toBeGreaterThan(0);
});

test("a loss that only the socket's drop counter tells is a loss", () => {
  const { host, mirrored, counts } = world(2, { receiveBytes: 4096 });
  const NETLINK_NO_ENOBUFS = 5;
  const on = Int32Array.of(1);
  expect(libc.setsockopt(mirrored.mirror.fd, nl.SOL_NETLINK, NETLINK_NO_ENOBUFS, ptr(on), 4)).toBe(0);
  host.nl.batch((m) => {
    for (let i = 0; i < 250; i++) newRoute(m, { dst: `10.60.${i}.0/24`, via: "10.0.0.2" });
  });
  same(mirrored, host);
  expect(counts.overruns).toBeGreaterThan(0);
});

test("messages that the kernel did not send are not believed (fault 11)", () => {
  const { host, ifindex, mirrored } = world();
  const forger = use(new NetlinkSocket({ netns: host.netns }));
  const m = new Requests();
  newRoute(m, { dst: "10.66.6.0/24", via: "10.0.0.2", oif: ifindex[0]! });
  const to = new DataView(new ArrayBuffer(12));
  to.setUint16(0, nl.AF_NETLINK, true);
  to.setUint32(4, mirrored.mirror.socket.portid, true);
  const sent = libc.sendto(forger.fd, ptr(m.bytes), m.length, 0, ptr(new Uint8Array(to.buffer)), 12);
  expect(Number(sent)).toBe(m.length);
  expect(mirrored.wait(1000)).toBe(true);
  same(mirrored, host);
  expect(mirrored.mirror.socket.foreign).toBe(1);
  expect(routes(mirrored, "10.66.6.0/24")).toEqual([]);
});

test("a full table keeps what it has, says so, and recovers when there is room", () => {
  const host = use(new Host("full"));
  const far = use(new Host("full far"));
  host.veth("a0", far, "b0");
  host.addr("a0", "10.0.0.1/24");
  const mirrored = use(new Mirrored(host.netns, {}, { routes4: 40 }));
  const dst = (i: number) => `10.50.${i}.0/24`;
  host.nl.batch((m) => {
    for (let i = 0; i < 100; i++) newRoute(m, { dst: dst(i), via: "10.0.0.2" });
  });
  mirrored.settle();
  const { routes4 } = mirrored.writer.stats;
  expect(routes4).toMatchObject({ entries: 40, missing: true });
  expect(routes4.refused).toBeGreaterThan(0);
  expect(routes(mirrored, "10.0.0.0/24")).toHaveLength(1);
  host.nl.batch((m) => {
    for (let i = 0; i < 80; i++) delRoute(m, { dst: dst(i) });
  });
  const end = performance.now() + 5000;
  while (mirrored.writer.stats.routes4.missing && performance.now() < end) {
    mirrored.settle();
    mirrored.wait(50);
  }
  same(mirrored, host);
});

test("next hops that found no room: routes are dumped again when there is some, and then no more", () => {
  const host = use(new Host("nexthops"));
  const far = use(new Host("nexthops far"));
  host.veth("a0", far, "b0");
  host.addr("a0", "10.0.0.1/24");
  const mirrored = use(new Mirrored(host.netns, {}, { nexthops: 30 }));
  const { counts } = mirrored.mirror;
  const stats = () => mirrored.writer.stats;
  const rest = (ms: number) => {
    for (const end = performance.now() + ms; performance.now() < end; mirrored.wait(50)) mirrored.settle();
  };
  const dst = (i: number) => `10.50.${i}.0/24`;
  host.nl.batch((m) => {
    for (let i = 2; i < 100; i++) newRoute(m, { dst: dst(i), via: `10.0.0.${i}` });
  });
  mirrored.settle();
  expect([stats().nexthops.missing, stats().routes4.missing]).toEqual([true, true]);
  const { dumps } = counts;
  rest(2500);
  expect(counts.dumps).toBe(dumps); // there is no room: nothing is looked for
  host.nl.batch((m) => {
    for (let i = 2; i < 90; i++) delRoute(m, { dst: dst(i) });
  });
  for (const end = performance.now() + 5000; stats().routes4.missing && performance.now() < end; ) rest(50);
  same(mirrored, host);
  expect([stats().nexthops.missing, stats().routes4.missing]).toEqual([false, false]);
  const settled = counts.dumps;
  rest(2500);
  expect(counts.dumps).toBe(settled);
});

test("policy rules beyond the defaults are told, and so is a missing default; local becomes a table of its own", () => {
  let told: string[] | undefined;
  const { host, mirrored, counts } = world(1, { onBeyond: (beyond) => (told = beyond) });
  mirrored.settle();
  expect(told).toEqual([]);
  host.nl.call((m) => newRule(m, { family: nl.AF_INET, priority: 100, table: 77, src: "10.9.0.0/16" }));
  mirrored.settle();
  expect(told).toEqual(["policy rule not followed: 100: from 10.9.0.0/16 lookup 77"]);
  expect(counts.rulesBeyond).toBe(1);
  host.nl.call((m) => delRule(m, { family: nl.AF_INET, priority: 100, table: 77, src: "10.9.0.0/16" }));
  host.nl.call((m) => delRule(m, { family: nl.AF_INET6, priority: 32766, table: nl.RT_TABLE_MAIN }));
  mirrored.settle();
  expect(told).toEqual(["policy rule not followed: no rule for table main (IPv6)"]);
  expect(mirrored.writer.routes.four.maxRank).toBe(2);
  expect(mirrored.writer.routes.four.rankOf(nl.RT_TABLE_LOCAL)).toBe(2);
});

test("IPv6 routes by source are told, and none of them is taken for one by destination", () => {
  let told: string[] | undefined;
  const { host, ifindex, mirrored, counts } = world(1, { onBeyond: (beyond) => (told = beyond) });
  const [oif] = ifindex;
  const sourced = { dst: "fd55::/32", src: "fd00::/64" };
  const text = "IPv6 route by source not followed: fd55::/32 from fd00::/64 metric 1024 of table main";
  const change = (
    how: (m: Requests, spec: RouteSpec, flags?: number) => void,
    via: string,
    flags?: number,
  ) => {
    host.nl.call((m) => how(m, { ...sourced, via, oif: oif! }, flags));
    mirrored.settle();
  };
  host.nl.call((m) => newRoute(m, { ...sourced, via: "fe80::1", oif: oif!, table: 77 })); // nobody looks there
  change(newRoute, "fe80::1");
  expect([told, counts.routesBeyond]).toEqual([[text], 1]);
  expect(lookup(mirrored.reader, "fd55::1")).toBe(0);
  change(newRoute, "fe80::2", nl.NLM_F_CREATE | nl.NLM_F_APPEND);
  change(delRoute, "fe80::1");
  expect([told, counts.routesBeyond]).toEqual([[text], 1]);
  const again = use(new Mirrored(host.netns, { onBeyond: (beyond) => (told = beyond) }));
  expect([told, again.mirror.counts.routesBeyond]).toEqual([[text], 1]);
  change(delRoute, "fe80::2");
  expect([told, counts.routesBeyond]).toEqual([[], 0]);
});

test("the flow hash's policy is the namespace's; one that lookups do not follow is told", () => {
  let told: string[] | undefined;
  const { host } = world(1);
  const policies = ({ reader }: Mirrored) => [reader.words[H_HASH_POLICY4], reader.words[H_HASH_POLICY6]];
  host.sysctl("net/ipv4/fib_multipath_hash_policy", 1);
  host.sysctl("net/ipv6/fib_multipath_hash_policy", 3);
  const mirrored = use(new Mirrored(host.netns, { onBeyond: (beyond) => (told = beyond) }));
  expect(policies(mirrored)).toEqual([1, 3]);
  expect(told).toEqual(["net.ipv6.fib_multipath_hash_policy 3 not followed: legs are chosen as by 0"]);
  host.sysctl("net/ipv6/fib_multipath_hash_policy", 0);
  for (const end = performance.now() + 8000; told!.length > 0 && performance.now() < end; ) {
    mirrored.settle();
    mirrored.wait(100);
  }
  expect(told).toEqual([]);
  expect(policies(mirrored)).toEqual([1, 0]);
});

test("ignore_routes_with_linkdown: per family, of old interfaces and new ones", () => {
  const { host, ifindex, mirrored } = world();
  const ignores = (index: number) => mirrored.reader.words[mirrored.reader.links.find(index) + LINK_IGNORE];
  expect(ignores(ifindex[0]!)).toBe(0);
  host.sysctl("net/ipv4/conf/a0/ignore_routes_with_linkdown", 1);
  host.sysctl("net/ipv6/conf/a1/ignore_routes_with_linkdown", 1);
  mirrored.settle();
  expect([ignores(ifindex[0]!), ignores(ifindex[1]!)]).toEqual([1, 2]);
  host.sysctl("net/ipv4/conf/default/ignore_routes_with_linkdown", 1);
  const made = host.link({ name: "br", kind: "bridge" });
  mirrored.settle();
  expect(ignores(made)).toBe(1);
  const again = use(new Mirrored(host.netns));
  expect(again.reader.words[again.reader.links.find(made) + LINK_IGNORE]).toBe(1);
});

test("neighbours of interfaces that are not in use are left out; a link that goes takes its neighbours along", () => {
  const host = use(new Host("in use"));
  const far = use(new Host("in use far"));
  const [a] = host.veth("a0", far, "b0");
  const [b] = host.veth("a1", far, "b1");
  const mirrored = use(new Mirrored(host.netns, { neighbours: new Set([a]) }));
  for (const ifindex of [a, b])
    host.nl.call((m) => newNeigh(m, { ifindex, dst: "10.0.0.9", lladdr: "02:00:00:00:00:09" }));
  mirrored.settle();
  expect(mirrored.reader.neighs().map((neigh) => neigh.ifindex)).toEqual([a]);
  host.nl.call((m) => delLink(m, { name: "a0" }));
  mirrored.settle();
  expect(mirrored.reader.neighs()).toEqual([]);
});

test("a neighbour whose last state is told after its end is found out", () => {
  const { host, ifindex, mirrored } = world(1);
  const spec = { ifindex: ifindex[0]!, dst: "10.0.0.9", lladdr: "02:00:00:00:00:09" };
  host.nl.call((m) => newNeigh(m, { ...spec, state: nl.NUD_STALE }));
  host.nl.call((m) => delNeigh(m, spec));
  same(mirrored, host);
  const late = new Requests();
  newNeigh(late, { ...spec, state: nl.NUD_PROBE });
  const { apply } = mirrored.mirror;
  apply.message("neighs4", nl.RTM_NEWNEIGH, late.words, late.bytes, 0, late.length);
  expect(mirrored.reader.neigh4.find(parseIPv4("10.0.0.9")!, ifindex[0]!)).toBe(nl.NUD_PROBE);
  same(mirrored, host);
  expect(mirrored.reader.neigh4.find(parseIPv4("10.0.0.9")!, ifindex[0]!)).toBe(0);
});

test("a failed dump is repeated", () => {
  const { host, mirrored, counts } = world();
  host.route({ dst: "10.50.0.0/16", via: "10.0.0.2" });
  // The dump socket is another file now: the next dump cannot be asked for.
  const { dumper } = mirrored.mirror as unknown as { dumper: { socket: { fd: number } } };
  const SYS_dup2 = 33;
  libc.syscall(SYS_dup2, host.netns.fd, dumper.socket.fd, 0, 0, 0, 0);
  mirrored.mirror.resync();
  same(mirrored, host);
  expect(counts.failed).toBeGreaterThan(0);
});
