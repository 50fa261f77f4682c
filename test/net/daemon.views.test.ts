// What the running daemon shows of the kernel, against `ip`; and where it says that a packet would go, against `ip route get`,
// against the tables' fast path, and against what becomes of a packet.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Host } from "../../src/lab/host.ts";
import { LAB_LLADDR, LAB_PEER_LLADDR } from "../../src/lab/lab.ts";
import { NH_GATEWAY, NH_LINK, NH_OIF, NH_TYPE } from "../../src/netbase/layout.ts";
import { AF_INET, formatAddress, parseIPv4 } from "../../src/wire/address.ts";
import { ip, Rig } from "./card.ts";
import { command } from "./child.ts";
import { frame, pattern } from "./packet.ts";
import { RawSocket } from "./raw.ts";
import { UdpClient } from "./udp.ts";
import { until } from "./wait.ts";

setDefaultTimeout(60_000);

let rig: Rig;
let elsewhere: Host;

beforeAll(async () => {
  rig = await Rig.start();
  const { lab } = rig;
  elsewhere = new Host("elsewhere");
  lab.daemonHost.veth("side0", elsewhere, "far0");
  lab.daemonHost.addr("side0", "10.90.0.1/24");
  const run = (text: string) => ip(lab.daemonHost, ...text.split(" "));
  run("route add 10.81.0.0/16 nexthop via 10.77.0.2 weight 3 nexthop via 10.77.0.3");
  run("route add blackhole 10.82.0.0/16");
  run("route add unreachable 10.82.1.0/24 metric 5");
  run("route add prohibit 10.82.2.0/24");
  run("route add 10.82.4.0/24 encap ip id 5 dst 10.77.0.9 via 10.77.0.2 dev nd0");
  run("route add throw 10.82.3.0/24");
  run("route add 10.83.0.0/16 via inet6 fd77::2 dev nd0");
  run("route add 10.84.0.0/16 dev nd0 scope link src 10.77.0.1 mtu 900 metric 7");
  run("route add 10.84.0.0/16 via 10.77.0.2 metric 9");
  run("route add 10.85.0.0/16 tos 0x10 via 10.77.0.3");
  run("nexthop add id 5 via 10.77.0.2 dev nd0");
  run("route add 10.86.0.0/16 nhid 5");
  run("nexthop add id 6 via 10.77.0.3 dev nd0");
  run("nexthop add id 7 group 5/6");
  run("route add 10.87.0.0/16 nhid 7");
  run("nexthop add id 8 blackhole");
  run("route add 10.88.0.0/16 nhid 8");
  run("route add 10.89.0.0/16 via 10.90.0.2");
  run("route add 10.77.0.128/25 via 10.77.0.3");
  run("route add multicast 239.0.0.0/8 dev nd0");
  run("-6 route add fd79::/48 nexthop via fd77::2 nexthop via fd77::3");
  run("route add 10.92.0.0/16 nexthop via 10.77.0.2 nexthop via 10.90.0.2 nexthop via 10.90.0.3");
  run("-6 route add fd7a::/48 nexthop via fd77::2 dev nd0 nexthop via fe80::9 dev side0");
  run("route add 10.91.0.0/16 via 10.77.0.2"); // the last: when it is there, all are
  for (const source of ["10.77.0.2", "10.77.0.3"]) {
    using client = await UdpClient.open(lab.peer, source);
    await client.echo("10.77.0.1");
  }
  Bun.spawnSync(lab.daemonHost.command("ping", "-c", "1", "fd77::2"));
  await until("the last route", () => rig.daemon.views.lookup("10.91.0.1", {}).gateway === "10.77.0.2");
});

afterAll(async () => {
  await rig[Symbol.asyncDispose]();
  elsewhere.close();
});

/** Runs netd beside the daemon; its output. */
async function netd(...args: string[]): Promise<string> {
  const child = Bun.spawn(command([...args, "--admin", rig.scratch.socket]), {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  return out;
}

type Row = Record<string, unknown>;
const show = async (what: string): Promise<Row[]> => JSON.parse(await netd("show", what, "--json"));
const only = (row: Row, ...keys: string[]): Row => Object.fromEntries(keys.map((key) => [key, row[key]]));
const sorted = (rows: Row[]): Row[] => {
  const plain = rows.map((row) => JSON.parse(JSON.stringify(row)) as Row); // without what is undefined
  const text = (row: Row) => JSON.stringify(Object.entries(row).sort());
  return plain.sort((a, b) => (text(a) < text(b) ? -1 : 1));
};

test("links and addresses are ip's", async () => {
  const link = (row: Row) =>
    only(row, "ifindex", "ifname", "flags", "mtu", "operstate", "link_type", "address");
  const links = ip(rig.lab.daemonHost, "-d", "link", "show");
  expect(sorted((await show("links")).map(link))).toEqual(sorted(links.map(link)));

  const addr = (row: Row) => only(row, "ifname", "family", "local", "prefixlen", "scope");
  const addrs = ip(rig.lab.daemonHost, "addr", "show").flatMap(({ ifname, addr_info }) =>
    (addr_info as Row[]).map((info) => ({ ...info, ifname })),
  );
  expect(sorted((await show("addrs")).map(addr))).toEqual(sorted(addrs.map(addr)));
});

test("routes of both families and every type are ip's", async () => {
  const route = ({ family: _, nh_info: __, ...row }: Row): Row => {
    if (row["type"] === "blackhole") delete row["dev"]; // lo, where a nexthop object says so
    const six = row["pref"] !== undefined || `${row["dst"]}`.includes(":");
    return { ...row, ...(six && { scope: undefined, pref: undefined }), metric: row["metric"] || undefined };
  };
  const kernels = ["-4", "-6"].flatMap((family) =>
    ip(rig.lab.daemonHost, "-d", family, "route", "show", "table", "all"),
  );
  // `ip -j` has two keys "dst" for a route with a tunnel's head.
  const plain = (row: Row) => row["encap"] === undefined && row["dst"] !== "10.82.4.0/24";
  const ours = (await show("routes")).filter(plain);
  expect(sorted(ours.map(route))).toEqual(sorted(kernels.filter(plain).map(route)));
});

test("neighbours are ip's", async () => {
  const neigh = (row: Row) => only(row, "dst", "dev", "lladdr");
  await until("the same neighbours", async () => {
    const ours = sorted((await show("neighs")).map(neigh));
    const kernels = ip(rig.lab.daemonHost, "neigh", "show").filter(({ lladdr }) => lladdr);
    return (
      Bun.deepEquals(
        ours.filter(({ lladdr }) => lladdr !== undefined),
        sorted(kernels.map(neigh)),
      ) && ours.length > 2
    );
  });
});

test("queues, drops, the summary, and the same for people", async () => {
  const [queue] = await show("queues");
  expect(queue).toMatchObject({ ifname: "nd0", queue: 0, mode: "copy" });
  expect((await show("drops")).find(({ reason }) => reason === "no_neighbour")!["packets"]).toBeGreaterThan(
    0,
  );
  const summary = JSON.parse(await netd("show", "--json"));
  expect(summary).toMatchObject({
    pid: process.pid,
    interface: "nd0",
    synced: true,
    services: ["echo 10.77.0.1:7"],
  });
  expect(await netd("show")).toContain("nd0");
  for (const what of ["links", "addrs", "routes", "neighs", "queues", "drops"])
    expect((await netd("show", what)).split("\n").length).toBeGreaterThan(2);
  expect(await netd("lookup", "10.86.0.1")).toContain("10.77.0.2");
});

/** What `ip route get` says, or the kernel's refusal. */
function kernelLookup(address: string, ...how: string[]): Row {
  const args = ["ip", "-j", "route", "get", address, ...how];
  const child = Bun.spawnSync(rig.lab.daemonHost.command(...args));
  const [, refusal] = child.stderr.toString().match(/answers: (.*)/) ?? [];
  const [row] = child.exitCode === 0 ? (JSON.parse(child.stdout.toString()) as Row[]) : [];
  return row ?? { refusal };
}

const refusals: Record<string, string> = {
  blackhole: "Invalid argument",
  unreachable: "No route to host",
  prohibit: "Permission denied",
  no_route: "Network is unreachable",
};

/** All that has come in until now; nothing but these tests sends anything to the service. */
let counted: Awaited<ReturnType<Rig["settled"]>> | undefined;

test.each([
  ["on link", "10.77.0.2"],
  ["on link, nobody there", "10.77.0.99"],
  ["the longer of two prefixes", "10.77.0.130"],
  ["by a gateway", "10.78.0.9"],
  ["by an IPv6 gateway", "10.83.0.1"],
  ["the better of two metrics, with an MTU and a source", "10.84.0.1"],
  ["by a nexthop object", "10.86.0.1"],
  ["by a blackhole object", "10.88.0.1"],
  ["out of another interface", "10.89.0.1"],
  ["blackhole", "10.82.0.1"],
  ["unreachable", "10.82.1.1"],
  ["prohibit", "10.82.2.1"],
  ["with a tunnel's head", "10.82.4.1"],
  ["throw", "10.82.3.1"],
  ["for another TOS alone", "10.85.0.1"],
  ["no route", "192.0.2.1"],
  ["this host", "10.77.0.1"],
  ["broadcast", "10.77.0.255"],
  ["multicast", "239.1.2.3"],
  ["one of two legs", "10.81.7.7"],
  ["one of a group's", "10.87.7.7"],
] as const)("lookup, the kernel, the fast path and a packet agree: %s, %s", async (_what, address) => {
  const { netbase, ifname } = rig.daemon.parts;
  const sport = 30000;
  const options = { from: "10.77.0.1", flow: { protocol: 17, sport: 7, dport: sport } };
  const said = rig.daemon.views.lookup(address, options);
  const dst = parseIPv4(address)!;

  // The kernel. Which of several legs it takes is its own affair.
  const kernel = kernelLookup(address);
  if (kernel["refusal"] !== undefined) expect(kernel).toEqual({ refusal: refusals[said.reason!] });
  else {
    expect(said.type).toBe((kernel["type"] as string) ?? "unicast");
    if (said.type !== "local") expect(said.dev).toBe(kernel["dev"] as string);
    expect(said.prefsrc).toBe(kernel["prefsrc"] as string);
    if (said.route?.nexthops === undefined) {
      expect(said.gateway).toBe(kernel["gateway"] as string);
      if (kernel["via"]) expect(said.neighbour).toBe((kernel["via"] as { host: string }).host);
    } else {
      const gateways = said.route.nexthops.map(({ gateway }) => gateway);
      expect(gateways).toContain(said.gateway!);
      expect(gateways).toContain(kernel["gateway"] as string);
    }
  }

  // The fast path's own functions.
  const half = (port: number) => ((port & 0xff) << 8) | (port >>> 8);
  netbase.online();
  const first = netbase.fib4.lookup(dst);
  const own = parseIPv4("10.77.0.1")!;
  const leg = first && netbase.select4(first, dst, own, 17, half(7) | (half(sport) << 16), 0);
  const { words } = netbase;
  const found = leg !== 0 && {
    type: words[leg + NH_TYPE]! & 0xff,
    oif: words[leg + NH_OIF]!,
    via: formatAddress(words[leg + NH_LINK]! & 0xff || AF_INET, words, leg + NH_GATEWAY),
    link: words[leg + NH_LINK]! & 0xff,
  };
  netbase.offline();
  if (said.reason === "no_route") expect(found === false || found.type === 9).toBe(true);
  else {
    const types = [
      "",
      "unicast",
      "local",
      "broadcast",
      "anycast",
      "multicast",
      "blackhole",
      "unreachable",
      "prohibit",
    ];
    if (found === false) throw new Error("the fast path finds nothing");
    expect(types[found.type]).toBe(said.type);
    if (said.dev !== undefined) expect(netbase.links.get(found.oif)!.name).toBe(said.dev);
    if (said.gateway !== undefined) expect(found.via).toBe(said.gateway);
    const onLink = said.type === "unicast" && found.link === 0;
    if (onLink && said.neighbour !== undefined) expect(said.neighbour).toBe(address);
  }

  // A packet: the answer to one that claims to come from there. (Many hosts are not answered.)
  if (said.type === "broadcast" || said.type === "multicast") {
    const bytes = said.type === "broadcast" ? "ff:ff:ff:ff:ff:ff" : "01:00:5e:01:02:03";
    expect(said).toMatchObject({ verdict: "send", lladdr: bytes });
    return;
  }
  using raw = new RawSocket(rig.lab.peer, rig.lab.peerIfindex);
  const before = (counted ??= await rig.settled());
  const macs = { srcMac: LAB_PEER_LLADDR, dstMac: LAB_LLADDR };
  raw.send(frame({ ...macs, src: address, dst: "10.77.0.1", sport, dport: 7, payload: pattern(18, 5) }));
  const after = await until("the packet to be counted", () => {
    const counts = rig.counts();
    return counts.rx > before.rx && counts;
  });
  counted = after;
  if (said.verdict === "send") {
    expect(after.tx).toBe(before.tx + 1);
    const answer = await until("the answer", () =>
      raw.drain().find((bytes) => bytes[23] === 17 && bytes[35] === 7 && bytes[30] === (dst & 0xff)),
    );
    expect(said.dev).toBe(ifname);
    expect(Buffer.from(answer.subarray(0, 6)).toString("hex")).toBe(said.lladdr!.replaceAll(":", ""));
  } else {
    expect(after.tx).toBe(before.tx);
    expect(after.drops[said.reason!]).toBe((before.drops[said.reason!] ?? 0) + 1);
  }
});

test("lookup of IPv6, with an interface, a source, and both, is the kernel's", async () => {
  const { views } = rig.daemon;
  const add = (...route: string[]) => ip(rig.lab.daemonHost, "-6", "route", "add", ...route);
  add("unreachable", "fd99::/16");
  add("fd98::/15", "via", "fe80::1", "dev", "nd0");
  add("fd51::/16", "via", "fe80::2", "dev", "side0");
  add("fd50::/15", "via", "fe80::1", "dev", "nd0");
  add("fd52::/16", "via", "fe80::1", "dev", "nd0");
  ip(rig.lab.daemonHost, "-6", "route", "append", "fd52::/16", "dev", "side0");
  await until("the last route", () => views.lookup("fd52::1", { oif: "side0" }).dev === "side0");
  const addresses = ["fd99::1", "fd51::1", "fd52::1", "fd7a::1", "fd77::2", "fd77::1", "fd00:dead::1"];
  for (const address of addresses)
    for (const oif of [undefined, "nd0", "side0"])
      for (const from of [undefined, "fd77::1"]) {
        // Which of several legs it takes by their hash is the kernel's own affair.
        if (address === "fd7a::1" && (oif === undefined || from !== undefined)) continue;
        const how = [...(from ? ["from", from] : []), ...(oif ? ["oif", oif] : [])];
        const kernel = kernelLookup(address, ...how);
        const { reason, gateway, dev, type } = views.lookup(address, {
          ...(oif && { oif }),
          ...(from && { from }),
        });
        const said =
          kernel["refusal"] === undefined
            ? { gateway, dev: type === "local" ? "lo" : dev }
            : { refusal: refusals[reason!] };
        const theirs =
          kernel["refusal"] === undefined ? only(kernel, "gateway", "dev") : { refusal: kernel["refusal"] };
        expect({ address, how, ...said }).toEqual({ address, how, ...theirs } as never);
      }
});

test("lookup by TOS, by interface; of what it cannot understand", async () => {
  const { views } = rig.daemon;
  expect(views.lookup("10.85.0.1", { tos: 0x10 })).toMatchObject({ gateway: "10.77.0.3", verdict: "send" });
  expect(kernelLookup("10.85.0.1", "tos", "0x10")).toMatchObject({ gateway: "10.77.0.3" });
  expect(views.lookup("10.84.0.1", { oif: "nd0" })).toMatchObject({ dev: "nd0", mtu: 900 });
  expect(views.lookup("10.77.0.2", { oif: "side0" })).toMatchObject({ reason: "no_route" });
  for (const oif of ["nd0", "side0"])
    for (const prefix of ["10.92.0.", "fd7a::"])
      for (let i = 1; i < 9; i++) {
        const { gateway, dev } = kernelLookup(`${prefix}${i}`, "oif", oif);
        expect(only(views.lookup(`${prefix}${i}`, { oif }) as unknown as Row, "gateway", "dev")).toEqual({
          gateway,
          dev,
        });
      }
  expect(() => views.lookup("10.77.0.2", { oif: "nope0" })).toThrow("no interface nope0");
  expect(() => views.lookup("nonsense", {})).toThrow("no IPv4 or IPv6 address");
  expect(views.lookup("fd77::2", {})).toMatchObject({ dev: "nd0", lladdr: LAB_PEER_LLADDR, verdict: "send" });
  expect(views.lookup("ff02::1:2", { oif: "nd0" })).toMatchObject({ lladdr: "33:33:00:01:00:02" });
  rig.lab.peerHost.down("peer0");
  await until("the carrier to go", () => views.lookup("10.77.0.2", {}).reason === "link_down");
  rig.lab.peerHost.up("peer0");
  await until("it to come", () => views.lookup("10.77.0.2", {}).reason !== "link_down");
});
