// The library from outside, as `import { Netlink } from "netd/netlink"` gives it: changes, gets, dumps and their filters,
// batches, errors, aborts, namespaces. What it shows against what `ip` shows is in ipjson.test.ts.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readlinkSync } from "node:fs";
import { Netlink, NetlinkError, Netns, type Route, type RouteSpec } from "netd/netlink";
import { SysError } from "../../ffi/errno.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

let ns: Netns;
let nl: Netlink;
beforeAll(async () => {
  ns = Netns.create();
  nl = await Netlink.open({ netns: ns });
  await nl.links.change("lo", { up: true });
  await nl.links.add({
    name: "v0",
    info: { kind: "veth", data: { peer: { name: "v1", mtu: 1400 } } },
    up: true,
  });
  await nl.links.change("v1", { up: true });
  await nl.addrs.add({ link: "v1", address: "10.0.0.1/24" });
  await nl.addrs.add({ link: "v1", address: "fd00::1/64", flags: ["nodad"] });
});
afterAll(async () => {
  await nl.close();
  ns.close();
});

const refusal = async (what: Promise<unknown>): Promise<NetlinkError> => {
  const error = await what.then(
    () => new Error("the kernel took it"),
    (thrown) => thrown,
  );
  expect(error).toBeInstanceOf(NetlinkError);
  return error;
};

test("links: added, changed, renamed, enslaved, moved, got and deleted", async () => {
  await nl.links.add({ name: "br0", info: { kind: "bridge", data: { ageingTime: 1000 } } });
  await nl.links.add({ name: "mv0", link: "v1", info: { kind: "macvlan", data: { mode: "private" } } });
  await nl.links.add({ name: "ifb7", index: 777, info: { kind: "ifb" }, address: "02:00:00:00:00:07" });
  const bridge = (await nl.links.get("br0"))!;
  expect(bridge.info).toMatchObject({ kind: "bridge", data: { ageingTime: 1000 } });
  await nl.links.change("v0", { master: "br0", mtu: 1300 });
  expect(await nl.links.get("v0")).toMatchObject({ master: bridge.index, mtu: 1300, link: nl.ifindex("v1") });
  expect((await nl.links.dump({ master: "br0" }).toArray()).map((link) => link.name)).toEqual(["v0"]);
  expect((await nl.links.dump({ kind: "macvlan" }).toArray()).map((link) => link.name)).toEqual(["mv0"]);
  expect(await nl.links.get(777)).toMatchObject({ name: "ifb7", address: "02:00:00:00:00:07" });
  await nl.links.change("ifb7", { name: "renamed", alias: "a link" });
  await nl.links.addNames("renamed", ["quite-a-long-alternative-name", "b"]);
  await nl.links.deleteNames(777, ["b"]);
  const again = await nl.links.get("quite-a-long-alternative-name");
  expect(again).toMatchObject({ index: 777, name: "renamed", alias: "a link" });
  expect(again!.altNames).toEqual(["quite-a-long-alternative-name"]);

  using far = Netns.create();
  await nl.links.change("renamed", { netnsFd: far.fd });
  expect(await nl.links.get(777)).toBeUndefined();
  await using there = await Netlink.open({ netns: far });
  expect((await there.links.get("renamed"))!.address).toBe("02:00:00:00:00:07");
  await there.links.delete("renamed");
  await nl.links.delete("br0");
  await nl.links.delete("mv0");
  expect(await nl.links.get("mv0")).toBeUndefined();
  expect((await refusal(nl.links.delete("mv0"))).code).toBe("ENODEV");
});

test("addresses", async () => {
  await nl.addrs.add({ link: "v1", address: "10.5.0.1/32", peer: "10.5.0.2", scope: "link" });
  await nl.addrs.add({ link: "v1", address: "fd05::1/64", lifetime: { preferred: 50, valid: 100 } });
  expect(await nl.addrs.get({ link: "v1", address: "10.5.0.1" })).toMatchObject({
    peer: "10.5.0.2",
    scope: 253,
  });
  expect((await nl.addrs.get({ link: "v1", address: "fd05::1/64" }))!.times).toMatchObject({
    preferred: 50,
    valid: 100,
  });
  await nl.addrs.replace({ link: "v1", address: "fd05::1/64", lifetime: { preferred: 0, valid: 100 } });
  expect((await nl.addrs.get({ link: "v1", address: "fd05::1/64" }))!.flags).toContain("deprecated");
  expect(
    (await nl.addrs.dump({ link: "v1", family: "inet" }).toArray()).map(({ address }) => address).sort(),
  ).toEqual(["10.0.0.1/24", "10.5.0.1/32"]);
  expect((await refusal(nl.addrs.add({ link: "v1", address: "10.0.0.1/24" }))).code).toBe("EEXIST");
  await nl.addrs.delete({ link: "v1", address: "10.5.0.1/32", peer: "10.5.0.2" });
  await nl.addrs.delete({ link: "v1", address: "fd05::1/64" });
  expect(await nl.addrs.get({ link: "v1", address: "fd05::1/64" })).toBeUndefined();
});

const of = async (dst: string): Promise<Route[]> =>
  (await nl.routes.dump({ table: "main" }).toArray()).filter((route) => route.dst === dst);

test("routes: add, append, prepend, change, replace, delete, and where packets go", async () => {
  const dst = "10.1.0.0/16";
  await nl.routes.add({ dst, via: "10.0.0.2", metrics: { mtu: 1300, initcwnd: 9 } });
  await nl.routes.append({ dst, via: "10.0.0.3" });
  await nl.routes.prepend({ dst, via: "10.0.0.4" });
  expect((await of(dst)).map((route) => route.via)).toEqual(["10.0.0.4", "10.0.0.2", "10.0.0.3"]);
  expect((await of(dst))[1]!.metrics).toEqual({ mtu: 1300, initcwnd: 9 });
  await nl.routes.replace({ dst, via: "10.0.0.5" });
  await nl.routes.delete({ dst, via: "10.0.0.3" });
  expect((await of(dst)).map((route) => route.via)).toEqual(["10.0.0.5", "10.0.0.2"]);
  expect((await refusal(nl.routes.change({ dst: "10.99.0.0/16", via: "10.0.0.2" }))).code).toBe("ENOENT");

  await nl.routes.add({
    dst: "10.2.0.0/16",
    nexthops: [
      { via: "10.0.0.2", weight: 3 },
      { via: "fd00::2", oif: "v1" },
    ],
  });
  expect((await of("10.2.0.0/16"))[0]!.nexthops).toMatchObject([
    { via: "10.0.0.2", weight: 3 },
    { via: "fd00::2", weight: 1 },
  ]);
  await nl.routes.add({ dst: "::/0", via: "fd00::2", pref: "high", expires: 1000 });
  const [six] = await of("::/0");
  expect(six).toMatchObject({ pref: "high", priority: 1024 });
  expect(six!.times!.expires).toBeGreaterThan(90_000);
  await nl.routes.add({ dst: "0.0.0.0/0", type: "blackhole", table: 70_000, protocol: "bgp" });
  expect(await nl.routes.dump({ table: 70_000 }).toArray()).toMatchObject([
    { type: "blackhole", protocol: 186 },
  ]);
  expect(await nl.routes.dump({ table: 70_001 }).toArray()).toEqual([]);
  expect(await nl.routes.get("10.2.3.4")).toMatchObject({ dst: "10.2.3.4/32", oif: nl.ifindex("v1") });
  expect(await nl.routes.get({ dst: "10.2.3.4", fibMatch: true })).toMatchObject({ dst: "10.2.0.0/16" });
  expect((await refusal(nl.routes.get("99.0.0.1"))).code).toBe("ENETUNREACH");

  // What was dumped can be given back.
  const dumped = await nl.routes.dump({ protocol: "static" }).toArray();
  for (const route of dumped) await nl.routes.delete(route);
  for (const route of dumped) await nl.routes.append(route);
  const stable = (routes: Route[]) => routes.map(({ times, ...rest }) => rest);
  expect(stable(await nl.routes.dump({ protocol: "static" }).toArray())).toEqual(stable(dumped));
  for (const protocol of ["static", "bgp"] as const)
    for (const route of await nl.routes.dump({ protocol }).toArray()) await nl.routes.delete(route);
});

test("encapsulation and attributes without a name stay as they are", async () => {
  // MPLS may be missing in the kernel; an address family of seg6 too. IP tunnels always are there.
  const encap = Uint8Array.of(12, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 7, 8, 0, 2, 0, 10, 9, 9, 9);
  const route = { dst: "10.77.0.0/16", oif: "v1", encapType: 2, encap } as const;
  const added = await nl.routes.add(route).then(
    () => true,
    (error: NetlinkError) => error.text,
  );
  if (added !== true) return expect(added).toMatch(/not supported|encapsulation/);
  const [seen] = await of("10.77.0.0/16");
  expect(seen).toMatchObject({ encapType: 2 });
  await nl.routes.delete(seen!);
  await nl.routes.add(seen!);
  expect(await of("10.77.0.0/16")).toEqual([seen!]);
  await nl.routes.delete(seen!);
});

test("nexthops, groups, resilient groups", async () => {
  await nl.nexthops.add({ id: 7, link: "v1", via: "10.0.0.2" });
  await nl.nexthops.add({ id: 8, link: "v1", via: "10.0.0.3", onlink: true });
  await nl.nexthops.add({ id: 3, blackhole: true });
  await nl.nexthops.add({
    id: 9,
    group: [{ id: 7 }, { id: 8, weight: 3 }],
    resilient: { buckets: 8, idleTimer: 500 },
  });
  expect(await nl.nexthops.get(9)).toMatchObject({
    groupType: "resilient",
    group: [
      { id: 7, weight: 1 },
      { id: 8, weight: 3 },
    ],
    resilient: { buckets: 8, idleTimer: 500, unbalancedTimer: 0 },
  });
  expect((await nl.nexthops.dump({ groups: true }).toArray()).map(({ id }) => id)).toEqual([9]);
  await nl.routes.add({ dst: "10.9.0.0/16", nhid: 9 });
  const [route] = await of("10.9.0.0/16");
  expect(route).toMatchObject({ nhid: 9, nexthops: [{ via: "10.0.0.2" }, { via: "10.0.0.3" }] });
  await nl.routes.replace(route!);
  for (const id of [9, 8, 7, 3]) await nl.nexthops.delete(id);
  expect(await nl.nexthops.get(9)).toBeUndefined();
  expect(await of("10.9.0.0/16")).toEqual([]);
});

test("neighbours: permanent, used, managed, proxied", async () => {
  await nl.neighs.add({ link: "v1", dst: "10.0.0.9", lladdr: "02:00:00:00:00:09" });
  expect(await nl.neighs.get({ link: "v1", dst: "10.0.0.9" })).toMatchObject({
    state: "permanent",
    lladdr: "02:00:00:00:00:09",
  });
  await nl.neighs.change({ link: "v1", dst: "10.0.0.9", lladdr: "02:00:00:00:00:0a", state: "stale" });
  expect(await nl.neighs.get({ link: "v1", dst: "10.0.0.9" })).toMatchObject({ state: "stale" });
  await nl.neighs.add({ link: "v1", dst: "10.0.0.66", proxy: true });
  expect(await nl.neighs.dump({ proxy: true }).toArray()).toMatchObject([
    { dst: "10.0.0.66", flags: ["proxy"] },
  ]);
  await nl.neighs.add({ link: "v1", dst: "10.0.0.67", managed: true });
  await nl.neighs.add({ link: "v1", dst: "10.0.0.68", use: true });
  expect(await nl.neighs.get({ link: "v1", dst: "10.0.0.67" })).toMatchObject({ extFlags: ["managed"] });
  expect(await nl.neighs.get({ link: "v1", dst: "10.0.0.68" })).toMatchObject({ state: "incomplete" });
  expect((await nl.neighs.dump({ state: "stale" }).toArray()).map(({ dst }) => dst)).toEqual(["10.0.0.9"]);
  for (const dst of ["10.0.0.9", "10.0.0.67"]) await nl.neighs.delete({ link: "v1", dst });
  await nl.neighs.delete({ link: "v1", dst: "10.0.0.66", proxy: true });
  expect(await nl.neighs.dump({ proxy: true }).toArray()).toEqual([]);
});

test("rules", async () => {
  await nl.rules.add({ family: "inet", table: 1000, src: "10.0.0.0/24", priority: 9, fwmark: 3, fwmask: 7 });
  await nl.rules.add({ family: "inet6", action: "prohibit", dst: "fd09::/16", invert: true, priority: 10 });
  await nl.rules.add({
    family: "inet",
    goto: 9,
    ipProto: 6,
    dportRange: { start: 80, end: 90 },
    priority: 8,
  });
  expect(await nl.rules.get({ family: "inet", priority: 9 })).toMatchObject({
    table: 1000,
    src: "10.0.0.0/24",
    fwmask: 7,
  });
  expect(await nl.rules.get({ family: "inet6", priority: 10 })).toMatchObject({
    action: "prohibit",
    flags: ["invert"],
  });
  expect(await nl.rules.get({ family: "inet", priority: 8 })).toMatchObject({
    goto: 9,
    dportRange: { start: 80, end: 90 },
  });
  for (const priority of [8, 9]) await nl.rules.delete({ family: "inet", priority });
  await nl.rules.delete({ family: "inet6", priority: 10 });
  expect(await nl.rules.get({ family: "inet", priority: 9 })).toBeUndefined();
});

test("a batch goes on past what is refused, and says what was and why", async () => {
  const batch = nl.batch();
  expect(batch.routes.add({ dst: "10.40.0.0/16", via: "10.0.0.2" })).toBe(0);
  expect(batch.routes.add({ dst: "10.41.0.0/16", via: "9.9.9.9" })).toBe(1);
  expect(() => batch.routes.add({ dst: "nonsense", via: "9.9.9.9" })).toThrow("not an IP address");
  expect(batch.neighs.add({ link: "v1", dst: "10.0.0.9", lladdr: "02:00:00" })).toBe(2);
  expect(batch.routes.delete({ dst: "10.40.0.0/16" })).toBe(3);
  expect(batch.size).toBe(4);
  const refused = await batch.send();
  expect(refused.map(({ index, error }) => [index, error.code, error.message])).toEqual([
    [1, "ENETUNREACH", "RTM_NEWROUTE: ENETUNREACH (Nexthop has invalid gateway)"],
    [2, "EINVAL", expect.stringContaining("Invalid link address")],
  ]);
  expect(batch.size).toBe(0);
  expect(await of("10.40.0.0/16")).toEqual([]);
  for (let i = 0; i < 50_000; i++) batch.routes.add({ dst: `20.${i >> 8}.${i & 255}.0/24`, via: "10.0.0.2" });
  expect(await batch.send()).toEqual([]);
  let seen = 0;
  for await (const route of nl.routes.dump({ family: "inet", oif: "v1" }))
    if (route.dst.startsWith("20.")) seen++;
  expect(seen).toBe(50_000);
  for (let i = 0; i < 50_000; i++) batch.routes.delete({ dst: `20.${i >> 8}.${i & 255}.0/24` });
  expect(await batch.send()).toEqual([]);
});

test("columns say what objects say", async () => {
  const batch = nl.batch();
  for (let i = 0; i < 20_000; i++) {
    const dst = `20.${i >> 8}.${i & 255}.0/24`;
    if (i % 7 === 0) batch.routes.add({ dst, type: "blackhole", priority: i });
    else if (i % 7 === 1) batch.routes.add({ dst, via: "fd00::9", oif: "v1" });
    else if (i % 7 === 2)
      batch.routes.add({ dst, nexthops: [{ via: "10.0.0.2" }, { via: "10.0.0.3", weight: 9 }] });
    else batch.routes.add({ dst, via: `10.0.0.${2 + (i % 9)}`, priority: i, protocol: 99 });
  }
  for (let i = 0; i < 3000; i++)
    batch.neighs.add({
      link: "v1",
      dst: `10.0.${1 + (i >> 8)}.${i & 255}`,
      lladdr: "02:00:00:00:00:09",
      flags: ["router"],
    });
  batch.routes.add({ dst: "fd33::/64", via: "fd00::4", table: 1000 });
  expect(await batch.send()).toEqual([]);
  for (const family of ["inet", "inet6"] as const) {
    const columns = await nl.routes.columns({ family });
    const objects = await nl.routes.dump({ family }).toArray();
    expect(columns.length).toBe(objects.length);
    objects.forEach((route, i) => {
      const legs = columns.legs.get(i);
      const seen = [
        columns.prefix(i),
        columns.table[i],
        columns.priority[i],
        columns.protocol[i],
        columns.oif[i],
      ];
      const want = [route.dst, route.table, route.priority ?? 0, route.protocol, route.oif ?? 0];
      if (!Bun.deepEquals(seen, want)) expect(seen).toEqual(want);
      const via = legs && legs.length === 1 ? legs[0]!.via : columns.via(i);
      if (via !== route.via) expect(via).toBe(route.via);
      if (route.nexthops)
        expect(legs!.map((l) => [l.via, l.weight])).toEqual(route.nexthops.map((l) => [l.via, l.weight]));
    });
  }
  const neighs = await nl.neighs.columns({ link: "v1" });
  const objects = await nl.neighs.dump({ link: "v1", family: "inet" }).toArray();
  expect(
    Array.from({ length: neighs.length }, (_, i) => [
      neighs.address(i),
      neighs.lladdrText(i),
      neighs.flags[i],
    ]),
  ).toEqual(objects.map((o) => [o.dst, o.lladdr ?? "", o.flags.includes("router") ? 128 : 0]));
  for (const route of await nl.routes.dump({ oif: "v1", type: "unicast" }).toArray())
    if (route.protocol !== 2) batch.routes.delete(route);
  for (const route of await nl.routes.dump({ type: "blackhole" }).toArray()) batch.routes.delete(route);
  for (const neigh of objects) batch.neighs.delete(neigh);
  // The kernel may have collected a neighbour by itself meanwhile.
  expect((await batch.send()).filter(({ error }) => error.code !== "ENOENT")).toEqual([]);
});

test("errors: errno, attribute, what cannot be written", async () => {
  const error = await refusal(
    nl.links.add({ name: "x", info: { kind: "veth", data: { peer: { name: "sixteen-letters!" } } } }),
  );
  expect(error).toMatchObject({
    errno: 34,
    code: "ERANGE",
    attribute: "IFLA_LINKINFO.IFLA_INFO_DATA.VETH_INFO_PEER.IFLA_IFNAME",
  });
  expect(await refusal(nl.links.change("nowhere", { up: true }))).toMatchObject({ code: "ENODEV" });
  const wrong = (spec: object) => nl.routes.add(spec as never);
  await expect(wrong({ dst: "10.0.0.0/33", oif: 1 })).rejects.toThrow("not a prefix");
  await expect(wrong({ dst: "10.0.0.0/8", oif: 1, color: "red" })).rejects.toThrow('no field "color"');
  await expect(wrong({ dst: "10.0.0.0/8", oif: 1, type: "blue" })).rejects.toThrow('no route type "blue"');
  await expect(wrong({ dst: "10.0.0.0/8", nexthops: [{ oif: 1, weight: 257 }] })).rejects.toThrow(
    "weight 257",
  );
  await expect(wrong({ dst: "10.0.0.0/8", oif: 1, priority: 2 ** 32 })).rejects.toThrow(
    "no number of 32 bits",
  );
  await expect(wrong({ dst: "10.0.0.0/8", oif: 1, tos: 256 })).rejects.toThrow("256 is neither");
  await expect(wrong({ dst: "10.0.0.0/8", oif: 1, table: 2 ** 32 })).rejects.toThrow("is neither a number");
  const long = { dst: "10.0.0.0/8", oif: 1, attr200: new Uint8Array(70_000) };
  await expect(wrong(long)).rejects.toThrow("at most 65531 fit");
});

test("an aborted signal stops what has not begun", async () => {
  const signal = AbortSignal.abort(new Error("enough"));
  await expect(nl.routes.add({ dst: "10.50.0.0/16", via: "10.0.0.2" }, { signal })).rejects.toThrow("enough");
  await expect(nl.routes.dump({}, { signal }).toArray()).rejects.toThrow("enough");
  await expect(nl.links.get("lo", { signal })).rejects.toThrow("enough");
  await expect(nl.batch().send({ signal })).rejects.toThrow("enough");
  expect(await of("10.50.0.0/16")).toEqual([]);
  const later = new AbortController();
  await expect(
    (async () => {
      for await (const _ of nl.links.dump({}, { signal: later.signal })) later.abort(new Error("now"));
    })(),
  ).rejects.toThrow("now");
});

test("dumps side by side, and left in the middle", async () => {
  const three = await Promise.all([1, 2, 3].map(() => nl.addrs.dump().toArray()));
  expect(three[1]).toEqual(three[0]!);
  for await (const link of nl.links.dump()) if (link.name === "lo") break;
  expect((await nl.links.dump().toArray()).length).toBe(3);
});

test("any namespace, without moving the caller's thread", async () => {
  const own = readlinkSync("/proc/thread-self/ns/net");
  await using byPath = await Netlink.open({ netns: ns.path });
  expect((await byPath.links.get("v1"))!.name).toBe("v1");
  await using byPid = await Netlink.open({ netns: process.pid });
  await using ours = await Netlink.open();
  const names = async (from: Netlink) => (await from.links.dump().toArray()).map(({ name }) => name);
  expect(await names(byPid)).toEqual(await names(ours));
  expect(readlinkSync("/proc/thread-self/ns/net")).toBe(own);
  await expect(Netlink.open({ netns: "no-such-name" })).rejects.toBeInstanceOf(SysError);
});

test("impossible routes are no types", () => {
  const route = (spec: RouteSpec) => spec;
  route({ dst: "10.0.0.0/8", type: "blackhole" });
  // @ts-expect-error a way to nowhere has no gateway
  route({ dst: "10.0.0.0/8", type: "blackhole", via: "10.0.0.1" });
  // @ts-expect-error one next hop or several
  route({ dst: "10.0.0.0/8", oif: 1, nexthops: [{ oif: 1 }] });
  // @ts-expect-error several are at least one
  route({ dst: "10.0.0.0/8", nexthops: [] });
  // @ts-expect-error a route leads somewhere
  route({ dst: "10.0.0.0/8" });
  // @ts-expect-error an object or a next hop
  route({ dst: "10.0.0.0/8", nhid: 3, via: "10.0.0.1" });
});
