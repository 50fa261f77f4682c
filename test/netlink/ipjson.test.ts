// Both ways, for every kind: what `ip` made, dumped by the library exactly as `ip -j` shows it; what the library made,
// seen by `ip -j` exactly so.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Netlink } from "netd/netlink";
import { Host } from "../../src/lab/host.ts";
import { type IpObject, ipJson } from "../../src/netlink/ipjson.ts";
import type { KindName } from "../../src/netlink/notice.ts";
import { type Json, run } from "./view.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

let host: Host;
let nl: Netlink;
beforeAll(async () => {
  host = new Host("ipjson");
  nl = await Netlink.open({ netns: host.netns });
  await nl.links.add({ name: "v0", info: { kind: "veth", data: { peer: { name: "v1" } } }, up: true });
  await nl.links.change("v1", { up: true });
  await nl.addrs.add({ link: "v1", address: "10.0.0.1/24" });
  await nl.addrs.add({ link: "v1", address: "fd00::1/64", flags: ["nodad"] });
});
afterAll(async () => {
  await nl.close();
  host.close();
});

const ip = (...args: string[]): Json[] => {
  const text = run(host, "ip", "-j", ...args);
  return text.trim() === "" ? [] : JSON.parse(text).filter((o: object) => Object.keys(o).length > 0);
};
const theirs: { readonly [K in KindName]: () => Json[] } = {
  links: () => ip("link"),
  addrs: () =>
    ip("addr").flatMap((link) =>
      link.addr_info.map((o: object) => ({ ifindex: link.ifindex, ifname: link.ifname, ...o })),
    ),
  routes: () => [...ip("-4", "route", "show", "table", "all"), ...ip("-6", "route", "show", "table", "all")],
  nexthops: () => ip("nexthop"),
  neighs: () => [
    ...ip("-4", "neigh", "show", "nud", "all"),
    ...ip("-6", "neigh", "show", "nud", "all"),
    ...ip("neigh", "show", "proxy"),
  ],
  rules: () => [...ip("-4", "rule"), ...ip("-6", "rule")],
};

async function ours(kind: KindName): Promise<IpObject[]> {
  const names = new Map((await nl.links.dump().toArray()).map(({ index, name }) => [index, name]));
  const name = (index: number) => names.get(index) ?? `if${index}`;
  const objects: object[] = await nl[kind].dump().toArray();
  if (kind === "neighs") objects.push(...(await nl.neighs.dump({ proxy: true }).toArray()));
  return objects.map((object) => ipJson(kind, object as never, name));
}

const sorted = (kind: KindName, list: IpObject[]): IpObject[] =>
  kind === "neighs" || kind === "addrs"
    ? list
        .map((o) => [JSON.stringify(Object.entries(o).sort()), o] as const)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([, o]) => o)
    : list;

/** Times that go on while we look are only compared roughly. */
const calm = (list: IpObject[]): IpObject[] =>
  list.map(({ expires, valid_life_time, preferred_life_time, ...o }) => ({
    ...o,
    ...(expires !== undefined && { expires: "some" }),
    ...(valid_life_time !== undefined && {
      valid: Number(valid_life_time) > 4e9,
      preferred: Number(preferred_life_time) > 4e9,
    }),
  }));

async function agree(kind: KindName): Promise<Json[]> {
  for (let tries = 0; ; tries++) {
    const before = calm(sorted(kind, await ours(kind)));
    const seen = theirs[kind]();
    const shown = calm(sorted(kind, seen));
    if (Bun.deepEquals(before, shown)) return seen;
    if (tries >= 20 || Bun.deepEquals(before, calm(sorted(kind, await ours(kind)))))
      expect(before).toEqual(shown);
  }
}

const made: [KindName, string][] = [
  [
    "links",
    `ip link add br0 type bridge; ip link set br0 up; ip link set v0 master br0 mtu 1300; ip link set v1 alias hello
     ip link add mv0 link v1 type macvlan mode bridge; ip link add vl0 link v1 type vlan id 5; ip link add ifbx type ifb
     ip link add dm type dummy; ip tuntap add tap0 mode tap; ip link property add dev v1 altname second altname third
     ip link set ifbx group 7 arp off promisc on; ip link add gone type veth peer name far netns 1; true`,
  ],
  [
    "addrs",
    `ip addr add 10.0.0.9/24 dev v1; ip addr add 10.5.0.1 peer 10.5.0.2/32 dev v1 metric 5
     ip addr add 10.6.0.1/24 brd + dev v1 scope link noprefixroute label v1:x
     ip addr add fd05::1/64 dev v1 valid_lft 1000 preferred_lft 0; ip addr add fd06::1 peer fd06::2 dev v1 nodad`,
  ],
  [
    "routes",
    `ip route add 10.1.0.0/16 tos 0x10 via 10.0.0.2 metric 7 mtu 1300 initcwnd 9 src 10.0.0.1 congctl cubic
     ip route add 10.2.0.0/16 via inet6 fd00::2 dev v1; ip route add default via 10.0.0.3 proto static
     ip route add 10.3.0.0/16 nexthop via 10.0.0.2 weight 3 nexthop via inet6 fe80::9 dev v1 nexthop via 44.0.0.1 dev v1 onlink weight 256
     ip route add blackhole 10.4.0.0/16 table 1000; ip route add prohibit 10.4.0.0/17 table 4000000000; ip route add throw 10.4.0.0/18
     ip -6 route add default via fd00::2 pref high expires 1000; ip -6 route add fd76::/64 dev v1 mtu 1280 pref low
     ip -6 route add fd77::/64 nexthop via fd00::2 weight 2 nexthop via fd00::3; ip -6 route add fd78::/64 from fd00::/64 via fd00::4`,
  ],
  [
    "nexthops",
    `ip nexthop add id 1 via 10.0.0.2 dev v1; ip nexthop add id 2 via fd00::2 dev v1; ip nexthop add id 3 blackhole
     ip nexthop add id 4 dev v1; ip nexthop add id 5 via 10.0.0.3 dev v1 onlink; ip -6 nexthop add id 4294967295 dev v1 proto 99
     ip nexthop add id 10 group 1,3/5; ip nexthop add id 11 group 1/5 type resilient buckets 8 idle_timer 3
     ip route add 10.60.0.0/16 nhid 10; ip -6 route add fd60::/64 nhid 2`,
  ],
  [
    "neighs",
    `ip neigh add 10.0.0.7 lladdr 02:00:00:00:00:07 dev v1; ip neigh add fd00::7 lladdr 02:00:00:00:00:08 dev v1 nud stale router
     ip neigh add proxy 10.0.0.66 dev v1; ip neigh add 10.0.0.10 lladdr 02:00:00:00:00:09 dev v1 nud noarp extern_learn
     ip neigh add 10.0.0.8 dev v1 nud none managed; ip neigh add 10.0.0.11 lladdr 02:00:00:00:00:0b dev v1 protocol zebra`,
  ],
  [
    "rules",
    `ip rule add from 10.0.0.0/24 to 10.9.0.1 iif v1 oif lo fwmark 3/7 table 1000 priority 100; ip rule add iif nowhere table 7
     ip rule add not from 1.1.1.1 tos 0x10 goto 32766; ip -6 rule add l3mdev; ip rule add blackhole priority 5 ipproto tcp
     ip rule add table main suppress_prefixlength 0; ip -6 rule add from fd00::/64 prohibit priority 8 protocol bgp
     ip rule add uidrange 0-5 sport 1-7 dport 80 table main priority 9; ip rule add fwmark 9 table 4000000000 priority 7`,
  ],
];

test.each(made)("made by ip, dumped as ip -j shows it: %s", async (kind, script) => {
  const before = theirs[kind]().length;
  run(host, "sh", "-c", script);
  expect((await agree(kind)).length).toBeGreaterThan(before + 3);
  for (const [other] of made) await agree(other);
});

test("made by the library, seen by ip -j exactly so", async () => {
  const find = (list: Json[], key: string, value: unknown) => list.find((o) => o[key] === value);
  await nl.links.add({
    name: "our0",
    info: { kind: "macvlan", data: { mode: "private" } },
    link: "v1",
    mtu: 1280,
    group: 3,
  });
  expect(find(await agree("links"), "ifname", "our0")).toMatchObject({ link: "v1", mtu: 1280, group: "3" });
  expect(ip("-d", "link", "show", "our0")[0].linkinfo).toMatchObject({
    info_kind: "macvlan",
    info_data: { mode: "private" },
  });
  await nl.links.change("our0", { up: true, address: "02:00:00:00:00:42", alias: "ours" });
  expect(find(await agree("links"), "ifname", "our0")).toMatchObject({
    address: "02:00:00:00:00:42",
    ifalias: "ours",
  });
  await nl.addrs.add({
    link: "our0",
    address: "10.30.0.1/24",
    broadcast: "10.30.0.255",
    priority: 9,
    label: "our0:1",
  });
  await nl.addrs.add({
    link: "our0",
    address: "fd30::1/64",
    flags: ["nodad"],
    lifetime: { preferred: 500, valid: 1000 },
  });
  expect(find(await agree("addrs"), "local", "10.30.0.1")).toMatchObject({
    label: "our0:1",
    metric: 9,
    prefixlen: 24,
  });
  expect(find(await agree("addrs"), "local", "fd30::1")).toMatchObject({ dynamic: true, nodad: true });
  await nl.routes.add({
    dst: "10.31.0.0/16",
    via: "10.30.0.2",
    tos: 8,
    priority: 3,
    metrics: { mtu: 1200 },
    protocol: "bgp",
  });
  await nl.routes.add({ dst: "10.32.0.0/16", type: "unreachable", table: 500 });
  await nl.routes.add({ dst: "fd31::/64", nexthops: [{ via: "fd30::2", weight: 4 }, { via: "fd30::3" }] });
  const routes = await agree("routes");
  expect(find(routes, "dst", "10.31.0.0/16")).toEqual({
    dst: "10.31.0.0/16",
    tos: "0x08",
    gateway: "10.30.0.2",
    dev: "our0",
    protocol: "bgp",
    metric: 3,
    flags: [],
    metrics: [{ mtu: 1200 }],
  });
  expect(find(routes, "dst", "10.32.0.0/16")).toMatchObject({
    type: "unreachable",
    table: "500",
    protocol: "static",
  });
  expect(find(routes, "dst", "fd31::/64").nexthops).toMatchObject([
    { gateway: "fd30::2", weight: 4 },
    { gateway: "fd30::3", dev: "our0" },
  ]);
  await nl.nexthops.add({ id: 77, link: "our0", via: "10.30.0.3", protocol: "zebra" });
  await nl.nexthops.add({
    id: 78,
    group: [{ id: 77, weight: 6 }],
    resilient: { buckets: 4, idleTimer: 200 },
  });
  const nexthops = await agree("nexthops");
  expect(find(nexthops, "id", 77)).toMatchObject({ gateway: "10.30.0.3", dev: "our0", protocol: "zebra" });
  expect(find(nexthops, "id", 78)).toMatchObject({
    type: "resilient",
    resilient_args: { buckets: 4, idle_timer: 2 },
  });
  await nl.neighs.add({
    link: "our0",
    dst: "10.30.0.9",
    lladdr: "02:00:00:00:00:99",
    state: "reachable",
    flags: ["router"],
  });
  await nl.neighs.add({ link: "our0", dst: "fd30::9", proxy: true });
  const neighs = await agree("neighs");
  expect(find(neighs, "dst", "10.30.0.9")).toMatchObject({ lladdr: "02:00:00:00:00:99", router: null });
  expect(find(neighs, "dst", "fd30::9")).toMatchObject({ proxy: null });
  await nl.rules.add({
    family: "inet",
    priority: 300,
    table: "local",
    dst: "10.30.0.0/16",
    fwmark: 5,
    invert: true,
  });
  expect(find(await agree("rules"), "priority", 300)).toEqual({
    priority: 300,
    not: null,
    src: "all",
    dst: "10.30.0.0",
    dstlen: 16,
    fwmark: "0x5",
    table: "local",
  });
});
