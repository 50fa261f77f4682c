// The lab is what its picture says, traffic passes at once, and nothing of it is left behind.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import { Host } from "../../src/lab/host.ts";
import { Lab, LAB_LLADDR, LAB_PEER_LLADDR } from "../../src/lab/lab.ts";
import { getOffload } from "../../src/lab/offload.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const run = (host: Host, ...command: string[]): string => {
  const child = Bun.spawnSync(host.command(...command));
  if (child.exitCode !== 0) throw new Error(`${command.join(" ")}: ${child.stderr}`);
  return child.stdout.toString();
};
const json = (host: Host, ...args: string[]) => JSON.parse(run(host, "ip", "-j", ...args));

test("the lab is as drawn, and pings in every way at once", () => {
  using lab = Lab.create();
  const [nd0] = json(lab.daemonHost, "addr", "show", "dev", "nd0");
  expect(nd0.flags).toContain("LOWER_UP");
  expect(nd0.operstate).toBe("UP");
  expect(nd0.address).toBe(LAB_LLADDR);
  expect(nd0.ifindex).toBe(lab.ifindex);
  const local = (link: { addr_info: { local: string; prefixlen: number; tentative?: boolean }[] }) =>
    link.addr_info.map((a) => `${a.local}/${a.prefixlen}${a.tentative ? " tentative" : ""}`);
  expect(local(nd0)).toEqual(["10.77.0.1/24", "fd77::1/64", "fe80::ff:fe00:7701/64"]);
  const [peer0] = json(lab.peerHost, "addr", "show", "dev", "peer0");
  expect(peer0.address).toBe(LAB_PEER_LLADDR);
  expect(peer0.ifindex).toBe(lab.peerIfindex);
  expect(local(peer0)).toEqual(["10.77.0.2/24", "10.77.0.3/24", "fd77::2/64", "fe80::ff:fe00:7702/64"]);

  expect(json(lab.daemonHost, "route", "get", "10.78.0.9")[0]).toMatchObject({
    gateway: "10.77.0.2",
    dev: "nd0",
    prefsrc: "10.77.0.1",
  });
  expect(json(lab.daemonHost, "route", "get", "fd78::9")[0]).toMatchObject({
    gateway: "fd77::2",
    dev: "nd0",
  });
});

test("datagrams pass both ways, in the subnet and through the gateway", async () => {
  using lab = Lab.create();
  for (const address of ["10.77.0.2", "10.77.0.3", "10.78.0.2", "fd77::2", "fd78::2"]) {
    const received = Promise.withResolvers<string>();
    const server = await lab.peer.run(() =>
      Bun.udpSocket({
        hostname: address,
        socket: { data: (_socket, data) => received.resolve(data.toString()) },
      }),
    );
    const client = await lab.daemon.run(() =>
      Bun.udpSocket({ hostname: address.includes(":") ? "::" : "0.0.0.0" }),
    );
    client.send(`to ${address}`, server.port, address);
    expect(await received.promise).toBe(`to ${address}`);
    client.close();
    server.close();
  }
});

test("MTU, queues, offloads and further addresses are as asked for", () => {
  using lab = Lab.create({
    mtu: 1400,
    queues: 3,
    addrs: ["10.99.0.1/30"],
    peerAddrs: ["fd99::1/48"],
    peerOffloads: { tx: false },
  });
  const [nd0] = json(lab.daemonHost, "-d", "addr", "show", "dev", "nd0");
  const [peer0] = json(lab.peerHost, "-d", "addr", "show", "dev", "peer0");
  for (const link of [nd0, peer0])
    expect(link).toMatchObject({ mtu: 1400, num_tx_queues: 3, num_rx_queues: 3 });
  expect(nd0.addr_info.some((a: { local: string }) => a.local === "10.99.0.1")).toBe(true);
  expect(peer0.addr_info.some((a: { local: string }) => a.local === "fd99::1")).toBe(true);
  expect(lab.daemon.run(() => getOffload("nd0", "tx"))).toBe(true);
  expect(lab.peer.run(() => getOffload("peer0", "tx"))).toBe(false);
});

test("other topologies: a bridge between two hosts", () => {
  using bridge = new Host("bridge");
  using left = new Host("left");
  using right = new Host("right");
  const br0 = bridge.link({ name: "br0", kind: "bridge", up: true });
  bridge.veth("l", left, "eth0", { master: br0 });
  bridge.veth("r", right, "eth0", { master: br0 });
  left.addr("eth0", "10.0.0.1/24");
  right.addr("eth0", "10.0.0.2/24");
  const ports = json(bridge, "link", "show", "master", "br0") as { ifname: string }[];
  expect(ports.map((port) => port.ifname).sort()).toEqual(["l", "r"]);
});

test("fifty labs, one after the other, leave no fd and no link", () => {
  const fds = () =>
    readdirSync("/proc/self/fd").filter((fd) => {
      try {
        return /net:|socket:/.test(readlinkSync(`/proc/self/fd/${fd}`));
      } catch {
        return false;
      }
    }).length;
  Lab.create().close();
  const before = fds();
  const own = readlinkSync("/proc/thread-self/ns/net");
  for (let i = 0; i < 50; i++) {
    const lab = Lab.create();
    const { peerHost } = lab;
    lab.daemonHost.close();
    // The pair is gone from both ends while the peer's namespace still lives.
    expect(() => peerHost.ifindex("peer0")).toThrow("ENODEV");
    peerHost.close();
  }
  expect(fds()).toBe(before);
  expect(readlinkSync("/proc/thread-self/ns/net")).toBe(own);
});

test("a lab that cannot be made leaves nothing", () => {
  const before = readdirSync("/proc/self/fd").length;
  expect(() => Lab.create({ addrs: ["10.0.0.1/33"] })).toThrow("not a prefix");
  expect(() => Lab.create({ mtu: 20 })).toThrow("EINVAL");
  expect(readdirSync("/proc/self/fd").length).toBe(before);
});
