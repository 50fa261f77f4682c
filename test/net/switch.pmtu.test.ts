// The path's MTU shrinks while a client sends: what comes through tells of a path MTU discovery that works, and of fragments
// where there is none. The client that discovers is a kernel's stack in a namespace of its own, behind a channel; lwIP does
// it for IPv6 alone, by fragmenting, and lets routers fragment its IPv4.
//
//   client (tap, or lwIP) == netd ==[nd0]---wire---[peer0] router [far0]---[edge0] edge 10.79.0.2, fd79::2
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Host } from "../../src/lab/host.ts";
import { setLink } from "../../src/netlink/link.ts";
import { curl, patternBytes, patternHash } from "../peers/pattern.ts";
import { OWN, OWN6, PEER, SwitchRig } from "./switch.ts";
import { until } from "./wait.ts";

setDefaultTimeout(120_000);

const BYTES = 30_000_000;
const BEFORE = 1500;
const AFTER = 1300;
const body = patternBytes(BYTES);
const hash = patternHash(BYTES);

let rig: SwitchRig;
let edge: Host;
beforeAll(async () => {
  rig = await SwitchRig.start();
  const { lab } = rig;
  edge = new Host("edge");
  lab.peerHost.veth("far0", edge, "edge0");
  lab.peerHost.addr("far0", "10.79.0.1/24");
  lab.peerHost.addr("far0", "fd79::1/64");
  edge.addr("edge0", "10.79.0.2/24");
  edge.addr("edge0", "fd79::2/64");
  edge.route({ dst: "0.0.0.0/0", via: "10.79.0.1" });
  edge.route({ dst: "::/0", via: "fd79::1" });
  lab.peerHost.sysctl("net/ipv4/ip_forward", 1);
  lab.peerHost.sysctl("net/ipv6/conf/all/forwarding", 1);
  lab.daemonHost.route({ dst: "10.79.0.0/24", via: PEER });
  lab.daemonHost.route({ dst: "fd79::/64", via: "fd77::2" });
});
afterAll(async () => {
  edge?.close();
  await rig?.[Symbol.asyncDispose]();
});

/** The MTU of the last leg, on both ends. */
function leg(mtu: number): void {
  rig.lab.peerHost.nl.call((m) => setLink(m, { name: "far0", mtu }));
  edge.nl.call((m) => setLink(m, { name: "edge0", mtu }));
}

/** Fetches from the edge, and narrows the path when a third is there. Slowly: the rest must not be in the air by then. */
async function narrowed(url: string): Promise<void> {
  leg(BEFORE);
  let narrow = false;
  const got = await curl(url, edge.command(), {
    seconds: 60,
    args: ["--limit-rate", "20M"],
    progress: (bytes) => {
      if (narrow || bytes < BYTES / 3) return;
      narrow = true;
      leg(AFTER);
    },
  });
  expect(narrow).toBe(true);
  expect(got).toMatchObject({ code: 0, bytes: BYTES, hash });
}

const count = (host: Host, name: string): number => {
  const lines = Bun.spawnSync(host.command("cat", "/proc/net/snmp", "/proc/net/snmp6")).stdout.toString();
  const six = lines.match(new RegExp(`^${name}\\s+(\\d+)`, "m"));
  if (six) return Number(six[1]);
  const heads = lines.match(/^Ip: .*$/gm)!.map((line) => line.split(" "));
  return Number(heads[1]![heads[0]!.indexOf(name)]);
};

test("weakness: ICMP errors are missing, so PMTU discovery is: a kernel's stack behind a channel, IPv4 and IPv6: told of the narrower path, it sends less at a time", async () => {
  using inside = new Host("inside");
  const tap = await rig.tap(inside.command());
  inside.waitRunning("tap0");
  inside.addr("tap0", `${OWN}/24`);
  inside.addr("tap0", `${OWN6}/64`);
  inside.route({ dst: "0.0.0.0/0", via: PEER });
  inside.route({ dst: "::/0", via: "fd77::2" });
  for (const address of [OWN, OWN6]) await tap.match("tcp", address, 8090);
  const servers = [OWN, OWN6].map((hostname) =>
    inside.netns.run(() =>
      Bun.serve({ hostname, port: 8090, development: false, fetch: () => new Response(body) }),
    ),
  );
  const forwarded = count(rig.lab.peerHost, "FragCreates");
  await narrowed(`http://${OWN}:8090/`);
  await narrowed(`http://[${OWN6}]:8090/`);
  // It heard of it, and nobody fragmented.
  const route = Bun.spawnSync(inside.command("ip", "route", "get", "10.79.0.2")).stdout.toString();
  expect(route).toContain(`mtu ${AFTER}`);
  const route6 = Bun.spawnSync(inside.command("ip", "-6", "route", "get", "fd79::2")).stdout.toString();
  expect(route6).toContain(`mtu ${AFTER}`);
  expect(count(rig.lab.peerHost, "FragCreates")).toBe(forwarded);
  for (const server of servers) server.stop(true);
  await tap.kill();
  await until("it to be gone", async () => (await rig.clients()).length === 0);
});

test("lwIP: the router fragments its IPv4; its IPv6 it fragments itself once it is told", async () => {
  const lwip = await rig.lwip();
  for (const address of [OWN, OWN6]) await lwip.match("tcp", address, 8091);
  await lwip.tell("http 8091");
  const before = count(edge, "ReasmOKs");
  await narrowed(`http://${OWN}:8091/${BYTES}`);
  expect(count(edge, "ReasmOKs")).toBeGreaterThan(before);
  const before6 = count(edge, "Ip6ReasmOKs");
  await narrowed(`http://[${OWN6}]:8091/${BYTES}`);
  expect(count(edge, "Ip6ReasmOKs")).toBeGreaterThan(before6);
  await lwip.kill();
});

test("the card's own MTU shrinks: the client is told by netd, and goes on", async () => {
  leg(BEFORE);
  using inside = new Host("inside");
  const tap = await rig.tap(inside.command());
  inside.waitRunning("tap0");
  inside.addr("tap0", `${OWN}/24`);
  inside.route({ dst: "0.0.0.0/0", via: PEER });
  await tap.match("tcp", OWN, 8092);
  const server = inside.netns.run(() =>
    Bun.serve({ hostname: OWN, port: 8092, development: false, fetch: () => new Response(body) }),
  );
  const { lab } = rig;
  const card = (mtu: number) => {
    lab.daemonHost.nl.call((m) => setLink(m, { name: lab.ifname, mtu }));
    lab.peerHost.nl.call((m) => setLink(m, { name: lab.peerIfname, mtu }));
  };
  let narrow = false;
  const got = await curl(`http://${OWN}:8092/`, edge.command(), {
    seconds: 60,
    args: ["--limit-rate", "20M"],
    progress: (bytes) => {
      if (narrow || bytes < BYTES / 3) return;
      narrow = true;
      card(AFTER);
    },
  });
  expect(got).toMatchObject({ code: 0, bytes: BYTES, hash });
  const route = Bun.spawnSync(inside.command("ip", "route", "get", "10.79.0.2")).stdout.toString();
  expect(route).toContain(`mtu ${AFTER}`);
  card(BEFORE);
  server.stop(true);
});
