// Every kind both ways: what `ip` made is decoded as `ip -j` shows it, and what we made is what `ip` shows.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Host } from "../../src/lab/host.ts";
import { delAddr, newAddr } from "../../src/netlink/addr.ts";
import * as nl from "../../src/netlink/constants.ts";
import { delLink, newLink, setLink } from "../../src/netlink/link.ts";
import { delNeigh, newNeigh, useNeigh } from "../../src/netlink/neigh.ts";
import { delNexthop, newNexthop } from "../../src/netlink/nexthop.ts";
import { defaultRoute } from "../../src/netlink/prefix.ts";
import { delRoute, newRoute } from "../../src/netlink/routeset.ts";
import { delRule, newRule } from "../../src/netlink/rule.ts";
import { addrs, ip, kinds, links, neighs, nexthops, routes, rules, run } from "./view.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

let host: Host;
let far: Host;
let nd0: number;
beforeAll(() => {
  host = new Host("here");
  far = new Host("there");
  [nd0] = host.veth("nd0", far, "peer0", { lladdr: "02:00:00:00:00:01" });
  host.addr("nd0", "10.0.0.1/24");
  host.addr("nd0", "fd00::1/64");
});
afterAll(() => {
  host.close();
  far.close();
});

/** Our decoding of everything is what ip shows of it, provided that nothing changed while ip looked. */
function agree(): void {
  for (const kind of Object.values(kinds)) {
    for (let tries = 0; ; tries++) {
      const before = kind.ours(host);
      const seen = kind.theirs(host);
      if (Bun.deepEquals(before, seen)) break;
      if (tries < 20 && !Bun.deepEquals(before, kind.ours(host))) continue;
      expect(before).toEqual(seen);
    }
  }
}

describe("made by ip, decoded by us", () => {
  const made = (lines: string) => {
    for (const line of lines.trim().split("\n")) run(host, "sh", "-c", line.trim());
    agree();
  };
  test("links", () => {
    made(`ip link add br0 type bridge && ip link set br0 up
      ip link add v0 type veth peer name v1 && ip link set v0 master br0 mtu 1300
      ip link add mv0 link nd0 type macvlan mode bridge
      ip link add ifbx type ifb && ip link set ifbx arp off
      ip link set v1 name renamed1 && ip link set renamed1 up`);
    expect(links.ours(host).map((o) => [o["ifname"], o["kind"], o["master"], o["link"]])).toEqual([
      ["lo", undefined, undefined, undefined],
      ["nd0", "veth", undefined, undefined], // the far end's index means nothing here
      ["br0", "bridge", undefined, undefined],
      ["renamed1", "veth", undefined, "v0"],
      ["v0", "veth", "br0", "renamed1"],
      ["mv0", "macvlan", undefined, "nd0"],
      ["ifbx", "ifb", undefined, undefined],
    ]);
  });
  test("addresses", () => {
    made(`ip addr add 10.0.0.9/24 dev nd0
      ip addr add 10.5.0.1 peer 10.5.0.2/32 dev nd0
      ip addr add 10.6.0.1/24 dev nd0 scope link noprefixroute
      ip addr add fd05::1/64 dev nd0 valid_lft 1000 preferred_lft 0
      ip addr add fd06::1 peer fd06::2 dev nd0 nodad`);
    const found = addrs.ours(host).map((o) => o["local"]);
    expect(found).toEqual(expect.arrayContaining(["10.0.0.9", "10.5.0.1", "10.6.0.1", "fd05::1", "fd06::1"]));
  });
  test("routes", () => {
    made(`ip route add 10.1.0.0/16 tos 0x10 via 10.0.0.2 metric 7 mtu 1300 src 10.0.0.1
      ip route add 10.2.0.0/16 via inet6 fd00::2 dev nd0
      ip route add 10.3.0.0/16 nexthop via 10.0.0.2 weight 3 nexthop via inet6 fe80::9 dev nd0 nexthop via 44.0.0.1 dev nd0 onlink weight 256
      ip route add blackhole 10.4.0.0/16 table 1000
      ip route add prohibit 10.4.0.0/17 table 4000000000 && ip route add throw 10.4.0.0/18 && ip route add unreachable 10.4.0.0/19
      ip route add 10.9.0.0/16 via 192.168.1.1 dev nd0 onlink && ip route add default via 10.0.0.3
      ip route add 10.9.0.0/16 dev renamed1 metric 4294967295
      ip -6 route add unreachable fd09::/64 && ip -6 route add blackhole fd0a::/64 && ip -6 route add prohibit fd0b::/64
      ip -6 route add default via fd00::2 pref high && ip -6 route add fd76::/64 dev nd0 mtu 1280 pref low
      ip -6 route add fd77::/64 nexthop via fd00::2 weight 2 nexthop via fd00::3
      ip -6 route add fd78::/64 from fd00::/64 via fd00::4 && ip -6 route add fd79::9 via fe80::1 dev nd0 proto ra metric 5`);
    expect(routes.ours(host).find((o) => o["dst"] === "10.4.0.0/17")?.["table"]).toBe("4000000000");
  });
  test("next hops", () =>
    made(`ip nexthop add id 1 via 10.0.0.2 dev nd0 && ip nexthop add id 2 via fd00::2 dev nd0
      ip nexthop add id 3 blackhole && ip nexthop add id 4 dev nd0 && ip nexthop add id 5 via 10.0.0.3 dev nd0 onlink
      ip -6 nexthop add id 4294967295 dev nd0 proto 99 && ip -6 nexthop add id 7 blackhole
      ip nexthop add id 10 group 1,3/5 && ip nexthop add id 11 group 1/5 type resilient buckets 8
      ip route add 10.60.0.0/16 nhid 10 && ip -6 route add fd60::/64 nhid 2 && ip route add 10.61.0.0/16 nhid 3`));
  test("neighbours", () =>
    made(`ip neigh add 10.0.0.7 lladdr 02:00:00:00:00:07 dev nd0 && ip neigh add fd00::7 lladdr 02:00:00:00:00:08 dev nd0 nud stale router
      ip neigh add proxy 10.0.0.66 dev nd0 && ip neigh add 10.0.0.10 lladdr 02:00:00:00:00:09 dev nd0 nud noarp extern_learn
      ip neigh add 10.0.0.8 dev nd0 nud none managed`));
  test("rules", () =>
    made(`ip rule add from 10.0.0.0/24 to 10.9.0.1 iif nd0 oif lo fwmark 3/7 table 1000 priority 100
      ip rule add not from 1.1.1.1 tos 0x10 goto 32766 && ip -6 rule add l3mdev
      ip rule add blackhole priority 5 ipproto tcp && ip rule add table main suppress_prefixlength 0
      ip rule add fwmark 9 table 4000000000 priority 7 && ip -6 rule add from fd00::/64 prohibit priority 8
      ip rule add uidrange 0-5 sport 1-7 table main priority 9`));
  test("and all of it after the link went down and lost its carrier", () => {
    made("ip link set renamed1 down\nip link set v0 up");
    far.down("peer0");
    while (links.ours(host)[1]!["operstate"] === "UP") Bun.sleepSync(1);
    agree();
    far.up("peer0");
    host.waitRunning("nd0");
  });
});

describe("made by us, seen by ip", () => {
  const last = (list: Record<string, unknown>[], key: string, value: unknown) =>
    list.find((o) => o[key] === value);
  test("links: made, changed, moved, renamed, deleted", () => {
    const ifindex = host.link({
      name: "ours0",
      kind: "veth",
      ifindex: 4242,
      mtu: 1280,
      lladdr: "02:00:00:00:42:42",
      txQueues: 4,
      rxQueues: 3,
      up: false,
      peer: { name: "ours1", mtu: 1281, ifindex: 4343 },
    });
    expect(ifindex).toBe(4242);
    expect(last(ip(host, "link"), "ifname", "ours0")).toMatchObject({
      mtu: 1280,
      address: "02:00:00:00:42:42",
      num_tx_queues: 4,
      num_rx_queues: 3,
      operstate: "DOWN",
      link: "ours1",
    });
    expect(last(ip(host, "link"), "ifname", "ours1")).toMatchObject({ ifindex: 4343, mtu: 1281 });
    host.nl.call((m) => {
      newLink(m, { name: "oursbr", kind: "bridge", up: true });
      newLink(m, { name: "oursmv", kind: "macvlan", link: nd0, macvlanMode: 1 });
    });
    const bridge = host.ifindex("oursbr");
    host.nl.call((m) => {
      setLink(m, { ifindex, rename: "theirs0", mtu: 1300, lladdr: "02:00:00:00:42:43", master: bridge });
      setLink(m, { name: "theirs0", up: true });
      setLink(m, { name: "ours1", netnsFd: far.netns.fd, rename: undefined });
    });
    expect(last(ip(host, "link"), "ifname", "theirs0")).toMatchObject({
      mtu: 1300,
      address: "02:00:00:00:42:43",
      master: "oursbr",
    });
    expect(last(ip(host, "link"), "ifname", "oursmv")).toMatchObject({
      linkinfo: { info_kind: "macvlan", info_data: { mode: "private" } },
      link: "nd0",
    });
    expect(last(ip(far, "link"), "ifname", "ours1")).toMatchObject({ ifindex: 4343 });
    host.nl.call((m) => setLink(m, { ifindex, master: 0, up: false }));
    expect(last(ip(host, "link"), "ifname", "theirs0")).not.toHaveProperty("master");
    host.nl.call((m) => {
      delLink(m, { name: "oursbr" });
      delLink(m, { name: "oursmv" });
      delLink(m, { ifindex });
    });
    const left = ip(host, "link").map((o) => o.ifname);
    for (const name of ["oursbr", "theirs0", "oursmv"]) expect(left).not.toContain(name);
    expect(ip(far, "link").map((o) => o.ifname)).not.toContain("ours1");
  });

  test("addresses", () => {
    const specs = [
      { ifindex: nd0, local: "10.20.0.1/24", broadcast: "10.20.0.255", priority: 77 },
      { ifindex: nd0, local: "10.21.0.1/32", peer: "10.21.0.2", scope: nl.RT_SCOPE_LINK },
      { ifindex: nd0, local: "fd20::1/64", flags: nl.IFA_F_NODAD | nl.IFA_F_NOPREFIXROUTE },
    ];
    host.nl.call((m) => specs.forEach((spec) => void newAddr(m, spec)));
    const seen = ip(host, "addr", "show", "dev", "nd0")[0].addr_info;
    expect(last(seen, "local", "10.20.0.1")).toMatchObject({
      prefixlen: 24,
      broadcast: "10.20.0.255",
      metric: 77,
    });
    expect(last(seen, "local", "10.21.0.1")).toMatchObject({ address: "10.21.0.2", scope: "253" });
    expect(last(seen, "local", "fd20::1")).toMatchObject({ nodad: true, noprefixroute: true });
    agree();
    host.nl.call((m) => specs.forEach((spec) => void delAddr(m, spec)));
    const left = addrs.theirs(host).map((o) => o["local"]);
    for (const gone of ["10.20.0.1", "10.21.0.1", "fd20::1"]) expect(left).not.toContain(gone);
  });

  test("routes", () => {
    const key = { dst: "10.100.0.0/16", tos: 8, priority: 9 };
    host.nl.call((m) => {
      newRoute(m, { ...key, via: "10.0.0.2", mtu: 1300, prefsrc: "10.0.0.1" });
      newRoute(m, { ...key, via: "10.0.0.3" }, nl.NLM_F_CREATE | nl.NLM_F_APPEND);
      newRoute(m, { ...key, via: "10.0.0.4" }, nl.NLM_F_CREATE);
      newRoute(m, { dst: "10.101.0.0/16", oif: nd0, via: "fe80::7", table: 70000, protocol: 99 });
      newRoute(m, { dst: "10.102.0.0/16", oif: nd0, via: "9.9.9.9", onlink: true });
      newRoute(m, {
        dst: "10.103.0.0/16",
        nexthops: [
          { oif: nd0, via: "10.0.0.5", weight: 256 },
          { oif: nd0, via: "fd00::9" },
          { oif: nd0, via: "9.9.9.9", onlink: true },
        ],
      });
      for (const type of [nl.RTN_BLACKHOLE, nl.RTN_UNREACHABLE, nl.RTN_PROHIBIT, nl.RTN_THROW])
        newRoute(m, { dst: `10.104.${type}.0/24`, type, table: 1001 });
      newRoute(m, { dst: "10.105.0.1", type: nl.RTN_LOCAL, oif: nd0, table: nl.RT_TABLE_LOCAL });
      newRoute(m, { dst: "10.106.0.0/15", oif: nd0 });
      newRoute(m, { dst: defaultRoute(nl.AF_INET6), via: "fd00::3", priority: 5, pref: 3 });
      newRoute(m, { dst: "fd21::/64", src: "fd00::/48", via: "fd00::2" });
      newRoute(m, { dst: "fd22::/64", nexthops: [{ via: "fd00::2", weight: 9 }, { via: "fd00::3" }] });
    });
    const seen = routes.theirs(host);
    const of = (dst: string) => seen.filter((o) => o["dst"] === dst);
    expect(
      of("10.100.0.0/16").map((o) => [o["gateway"], o["tos"], o["metric"], o["mtu"], o["prefsrc"]]),
    ).toEqual([
      ["10.0.0.4", "0x08", 9, undefined, undefined],
      ["10.0.0.2", "0x08", 9, 1300, "10.0.0.1"],
      ["10.0.0.3", "0x08", 9, undefined, undefined],
    ]);
    expect(of("10.101.0.0/16")).toMatchObject([{ via: { host: "fe80::7" }, table: "70000", protocol: "99" }]);
    expect(of("10.102.0.0/16")).toMatchObject([{ gateway: "9.9.9.9", flags: ["onlink"], scope: "0" }]);
    expect(of("10.103.0.0/16")).toMatchObject([
      {
        nexthops: [
          { gateway: "10.0.0.5", weight: 256 },
          { via: { host: "fd00::9" }, weight: 1 },
          { gateway: "9.9.9.9", flags: ["onlink"] },
        ],
      },
    ]);
    for (const type of [6, 7, 8, 9])
      expect(of(`10.104.${type}.0/24`)).toMatchObject([{ type: String(type) }]);
    expect(of("10.105.0.1")).toMatchObject([{ type: "2", scope: "254", table: "255" }]);
    expect(of("10.106.0.0/15")).toMatchObject([{ scope: "253" }]);
    expect(of("default").at(-2)).toMatchObject({ gateway: "fd00::3", metric: 5, pref: "low" });
    expect(of("fd21::/64")).toMatchObject([{ from: true }]);
    expect(of("fd22::/64")).toMatchObject([{ nexthops: [{ weight: 9 }, { weight: 1 }] }]);
    agree();

    host.nl.call((m) => newRoute(m, { ...key, via: "10.0.0.9" }, nl.NLM_F_CREATE | nl.NLM_F_REPLACE));
    host.nl.call((m) => delRoute(m, { ...key, via: "10.0.0.3" }));
    expect(
      routes
        .theirs(host)
        .filter((o) => o["dst"] === key.dst)
        .map((o) => o["gateway"]),
    ).toEqual(["10.0.0.9", "10.0.0.2"]);
    host.nl.call((m) => {
      for (const dst of ["10.102.0.0/16", "10.103.0.0/16", "10.106.0.0/15", "fd22::/64"])
        delRoute(m, { dst });
      delRoute(m, { dst: "fd21::/64", src: "fd00::/48" });
      delRoute(m, { dst: "10.105.0.1", table: nl.RT_TABLE_LOCAL });
      delRoute(m, { dst: "10.101.0.0/16", table: 70000 });
    });
    const left = routes.theirs(host).map((o) => o["dst"]);
    for (const gone of ["10.101.0.0/16", "10.102.0.0/16", "10.103.0.0/16", "fd21::/64", "fd22::/64"])
      expect(left).not.toContain(gone);
  });

  const SEED = Number(process.env["NETD_SEED"] ?? Date.now() & 0x7fffffff);
  test(`random routes of both families (NETD_SEED=${SEED})`, () => {
    let state = SEED || 1;
    const random = (below: number): number => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) % below;
    };
    const maybe = <T>(value: T): T | undefined => (random(3) === 0 ? value : undefined);
    const given = (spec: Record<string, unknown>) =>
      Object.fromEntries(Object.entries(spec).filter(([, value]) => value !== undefined));
    const flags = [nl.NLM_F_CREATE | nl.NLM_F_EXCL, nl.NLM_F_CREATE, nl.NLM_F_CREATE | nl.NLM_F_APPEND];
    const gateways = ["10.0.0.2", "10.0.0.77", "fd00::2", "fe80::5", "9.9.9.9"];
    const leg = () => {
      const via = maybe(gateways[random(gateways.length)]!);
      return given({ oif: nd0, via, onlink: via === "9.9.9.9" ? true : undefined });
    };
    const failures = host.nl.batch((m) => {
      for (let i = 0; i < 400; i++) {
        const v6 = random(2) === 1;
        const bits = random(v6 ? 129 : 33);
        const words = new Int32Array(4).map(() => random(0xffffffff) | 0);
        words[0] = v6 ? 0x000001fd : (words[0]! & ~0xff) | 60;
        const bytes = new Uint8Array(words.buffer);
        for (let b = bits; b < 128; b++) bytes[b >> 3]! &= ~(0x80 >> (b & 7));
        const type = random(4) ? nl.RTN_UNICAST : 6 + random(4);
        const path =
          type !== nl.RTN_UNICAST
            ? {}
            : random(4)
              ? leg()
              : {
                  nexthops: Array.from({ length: 2 + random(5) }, () => ({
                    ...leg(),
                    weight: 1 + random(256),
                  })),
                };
        const more = given({
          table: maybe(random(2) ? 1 + random(250) : random(0xffffffff)),
          priority: maybe(random(0xffffffff)),
          tos: v6 ? undefined : maybe(random(8) * 4),
          mtu: maybe(1280 + random(8000)),
          protocol: maybe(3 + random(250)),
          prefsrc: maybe(v6 ? "fd00::1" : "10.0.0.1"),
          pref: v6 ? maybe([0, 1, 3][random(3)]) : undefined,
        });
        newRoute(
          m,
          { dst: { family: v6 ? 10 : 2, words, prefixLen: bits }, type, ...path, ...more },
          flags[random(3)]!,
        );
      }
    });
    expect(failures.length).toBeLessThan(250);
    agree();
  });

  test("next hops", () => {
    host.nl.call((m) => {
      newNexthop(m, { id: 101, via: "10.0.0.2", oif: nd0 });
      newNexthop(m, { id: 102, via: "9.9.9.9", oif: nd0, onlink: true });
      newNexthop(m, { id: 103, blackhole: true, family: nl.AF_INET6 });
      newNexthop(m, { id: 104, via: "fd00::2", oif: nd0, protocol: 99 });
      newNexthop(m, { id: 110, group: [{ id: 101, weight: 256 }, { id: 102 }] });
      newNexthop(m, { id: 111, group: [{ id: 101 }, { id: 102, weight: 2 }], buckets: 16 });
      newRoute(m, { dst: "10.110.0.0/16", nhid: 110 });
    });
    const seen = ip(host, "nexthop");
    expect(last(seen, "id", 102)).toMatchObject({ gateway: "9.9.9.9", dev: "nd0", flags: ["onlink"] });
    expect(last(seen, "id", 103)).toMatchObject({ blackhole: null });
    expect(last(seen, "id", 104)).toMatchObject({ gateway: "fd00::2", protocol: "99" });
    expect(last(seen, "id", 110)).toMatchObject({ group: [{ id: 101, weight: 256 }, { id: 102 }] });
    expect(last(seen, "id", 111)).toMatchObject({ type: "resilient", resilient_args: { buckets: 16 } });
    agree();
    host.nl.call((m) =>
      newNexthop(m, { id: 101, via: "10.0.0.77", oif: nd0 }, nl.NLM_F_CREATE | nl.NLM_F_REPLACE),
    );
    expect(last(ip(host, "nexthop"), "id", 101)).toMatchObject({ gateway: "10.0.0.77" });
    host.nl.call((m) => [110, 111, 101, 102, 103, 104].forEach((id) => void delNexthop(m, id)));
    expect(nexthops.theirs(host).some((o) => (o["id"] as number) > 100 && (o["id"] as number) < 200)).toBe(
      false,
    );
  });

  test("weights over 256 round-trip, of which ip shows the low byte alone", () => {
    host.nl.call((m) => {
      newNexthop(m, { id: 101, via: "10.0.0.2", oif: nd0 });
      newNexthop(m, { id: 110, group: [{ id: 101, weight: 65535 }] });
    });
    expect(last(nexthops.ours(host), "id", 110)).toMatchObject({ group: [{ id: 101, weight: 65535 }] });
    host.nl.call((m) => delNexthop(m, 101));
  });

  test("neighbours", () => {
    const lladdr = "02:00:00:00:09:09";
    host.nl.call((m) => {
      newNeigh(m, { ifindex: nd0, dst: "10.0.0.90", lladdr });
      newNeigh(m, { ifindex: nd0, dst: "fd00::90", lladdr, state: nl.NUD_STALE, flags: nl.NTF_ROUTER });
      newNeigh(m, {
        ifindex: nd0,
        dst: "10.0.0.91",
        state: nl.NUD_NONE,
        flags: nl.NTF_EXT_MANAGED << nl.NTF_EXT_SHIFT,
      });
      useNeigh(m, nd0, nl.AF_INET, [0x5c00000a]);
      useNeigh(m, nd0, nl.AF_INET6, [0, 0x000000fd, 0, 0, 0x92000000], 1);
    });
    const seen = neighs.theirs(host);
    expect(last(seen, "dst", "10.0.0.90")).toMatchObject({ lladdr, state: ["PERMANENT"] });
    expect(last(seen, "dst", "fd00::90")).toMatchObject({ state: ["STALE"], router: true });
    expect(last(seen, "dst", "10.0.0.91")).toMatchObject({ managed: true });
    expect(last(seen, "dst", "10.0.0.92")).toMatchObject({ state: ["INCOMPLETE"] });
    expect(last(seen, "dst", "fd00::92")).toMatchObject({ state: ["INCOMPLETE"] });
    agree();
    host.nl.call((m) => {
      for (const dst of ["10.0.0.90", "10.0.0.91", "fd00::90"]) delNeigh(m, { ifindex: nd0, dst });
    });
    expect(last(neighs.theirs(host), "dst", "10.0.0.90")).toBeUndefined();
  });

  test("rules", () => {
    const specs = [
      {
        family: 2,
        priority: 1000,
        src: "10.0.0.0/24",
        dst: "10.9.9.9",
        table: 70000,
        iifname: "nd0",
        tos: 16,
      },
      { family: 2, priority: 1001, fwmark: 0xff, fwmask: 0xf0, invert: true, table: 44 },
      { family: 10, priority: 1002, l3mdev: true },
      { family: 10, priority: 1003, suppressPrefixLen: 0, oifname: "lo" },
      { family: 2, priority: 1004, goto: 32766 },
      { family: 2, priority: 1005, action: nl.FR_ACT_UNREACHABLE, ipProto: 17 },
    ];
    host.nl.call((m) => specs.forEach((spec) => void newRule(m, spec)));
    const seen = [...ip(host, "rule"), ...ip(host, "-6", "rule")];
    expect(last(seen, "priority", 1000)).toMatchObject({
      src: "10.0.0.0",
      srclen: 24,
      dst: "10.9.9.9",
      table: "70000",
      iif: "nd0",
      tos: "0x10",
    });
    expect(last(seen, "priority", 1001)).toMatchObject({
      not: null,
      fwmark: "0xff",
      fwmask: "0xf0",
      table: "44",
    });
    expect(last(seen, "priority", 1002)).toMatchObject({ l3mdev: null });
    expect(last(seen, "priority", 1003)).toMatchObject({ suppress_prefixlen: 0, oif: "lo", table: "254" });
    expect(last(seen, "priority", 1004)).toMatchObject({ goto: 32766 });
    expect(last(seen, "priority", 1005)).toMatchObject({ action: "7", ipproto: "ipproto-17" });
    agree();
    host.nl.call((m) => specs.forEach((spec) => void delRule(m, spec)));
    expect(
      rules.theirs(host).some((o) => (o["priority"] as number) >= 1000 && (o["priority"] as number) < 1006),
    ).toBe(false);
  });
});
