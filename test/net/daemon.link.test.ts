// A card that changes under the daemon: down and up under traffic, from both ends; another MTU, MAC, name; and gone.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { Host } from "../../src/lab/host.ts";
import { Lab, LAB_PEER_LLADDR } from "../../src/lab/lab.ts";
import { delLink, setLink } from "../../src/netlink/link.ts";
import { newRoute } from "../../src/netlink/routeset.ts";
import { NLM_F_CREATE, NLM_F_REPLACE } from "../../src/netlink/constants.ts";
import { cardState, ip, onCard, Rig } from "./card.ts";
import { NetdProcess, Scratch } from "./child.ts";
import { frame, pattern } from "./packet.ts";
import { RawSocket } from "./raw.ts";
import { Traffic } from "./traffic.ts";
import { UdpClient } from "./udp.ts";
import { until } from "./wait.ts";

setDefaultTimeout(60_000);

test("a link that flaps under traffic, at both ends: traffic recovers, every frame is accounted for", async () => {
  await using rig = await Rig.start();
  const { lab } = rig;
  await using traffic = new Traffic(lab);
  await traffic.more(2000);
  const up = () => {
    lab.daemonHost.up("nd0");
    lab.peerHost.up("peer0");
    lab.daemonHost.waitRunning("nd0");
    lab.peerHost.waitRunning("peer0");
  };
  for (let i = 0; i < 6; i++) {
    lab.daemonHost.down("nd0");
    await Bun.sleep(i * 3);
    up();
    lab.peerHost.down("peer0");
    await Bun.sleep(i * 3);
    up();
    if (i % 2 === 1) await traffic.more(500);
  }
  for (let i = 0; i < 50; i++)
    (i & 2 ? lab.daemonHost : lab.peerHost)[i & 1 ? "up" : "down"](i & 2 ? "nd0" : "peer0");
  up();
  await traffic.more(2000);
  await traffic.stop();
  const { rx, tx, drops } = await rig.settled();
  expect(rx).toBe(tx + Object.values(drops).reduce((a, b) => a + b, 0));
  const { flow } = traffic;
  expect(flow.corrupt).toBe(0);
  expect(flow.sent).toBe(flow.received + flow.lost + flow.unresolved);
  expect(flow.received).toBeLessThanOrEqual(tx);
  expect(rx).toBeLessThanOrEqual(flow.sent);
  // What was lost here was lost for these reasons; what was lost on the way, the link lost.
  for (const reason of Object.keys(drops))
    expect(["link_down", "no_neighbour", "no_route"]).toContain(reason);
  const [queue] = rig.daemon.views.queues();
  expect(queue!.kernel).toMatchObject({ rxDropped: 0, rxInvalidDescs: 0, txInvalidDescs: 0, rxRingFull: 0 });
});

test("while the card is down with frames under way, the net Worker sleeps", async () => {
  await using rig = await Rig.start();
  const { lab } = rig;
  const { control } = rig.daemon.parts.queues[0]!.thread;
  await using traffic = new Traffic(lab, "10.77.0.2", "10.77.0.1", 256);
  for (let i = 0; i < 4; i++) {
    await traffic.more(3000);
    lab.daemonHost.down("nd0");
    await until("the net Worker to sleep", async () => {
      const before = control.heartbeat;
      await Bun.sleep(200);
      return control.heartbeat - before < 100; // hundreds a millisecond, if it did not
    });
    lab.daemonHost.up("nd0");
    lab.daemonHost.waitRunning("nd0");
  }
  await traffic.more(3000);
});

test("the first frame after a sleep finds the card as it is by then", async () => {
  await using rig = await Rig.start();
  const { lab } = rig;
  ip(
    lab.daemonHost,
    "neigh",
    "replace",
    "10.77.0.2",
    "lladdr",
    LAB_PEER_LLADDR,
    "nud",
    "permanent",
    "dev",
    "nd0",
  );
  const isKnown = () =>
    [...rig.daemon.views.neighs()].some(
      ({ dst, state }) => dst === "10.77.0.2" && state.includes("PERMANENT"),
    );
  await until("the neighbour to be mirrored", isKnown); // a frame before that is dropped, and counted
  using client = await UdpClient.open(lab.peer, "10.77.0.2");
  await client.echo("10.77.0.1");
  const running = () =>
    [...rig.daemon.views.links()].find(({ ifname }) => ifname === "nd0")!.flags.includes("LOWER_UP");
  for (let i = 0; i < 2; i++) {
    lab.peerHost.down("peer0");
    await until("the carrier to go", () => !running());
    await rig.settled(); // the net Worker has seen it, and sleeps again
    lab.peerHost.up("peer0");
    lab.peerHost.waitRunning("peer0");
    await until("the carrier to come", running);
    await client.echo("10.77.0.1");
  }
  expect((await rig.settled()).drops).toEqual({});
});

test("a new link-layer address: the service is reached by it, and by the old one no more", async () => {
  await using rig = await Rig.start();
  const { lab } = rig;
  using client = await UdpClient.open(lab.peer, "10.77.0.2");
  await client.echo("10.77.0.1");
  const old = ip(lab.daemonHost, "link", "show", "nd0")[0].address;
  lab.daemonHost.nl.call((m) => setLink(m, { name: "nd0", lladdr: "02:00:00:00:77:99" }));
  ip(lab.peerHost, "neigh", "flush", "dev", "peer0");
  await client.echo("10.77.0.1");
  using raw = new RawSocket(lab.peer, lab.peerIfindex);
  const addresses = { srcMac: "02:00:00:00:77:02", src: "10.77.0.2", dst: "10.77.0.1", sport: 999, dport: 7 };
  raw.send(frame({ ...addresses, dstMac: old, payload: pattern(20, 1) }));
  raw.send(frame({ ...addresses, dstMac: "02:00:00:00:77:99", payload: pattern(20, 2) }));
  const answers: Uint8Array[] = [];
  await until("the answer", () => {
    answers.push(...raw.drain().filter((bytes) => bytes[23] === 17 && bytes[35] === 7));
    return answers.length > 0;
  });
  expect(answers.length).toBe(1);
  expect(Buffer.from(answers[0]!.subarray(6, 12)).toString("hex")).toBe("020000007799");
  expect(answers[0]!.subarray(42)).toEqual(pattern(20, 2));
});

test("MTU: a route's limits what is sent; one that outgrows the frames is told, and small packets go on", async () => {
  await using rig = await Rig.start();
  const { lab } = rig;
  const { views } = rig.daemon;
  using client = await UdpClient.open(lab.peer, "10.77.0.2");
  using far = await UdpClient.open(lab.peer, "10.78.0.2");
  await client.echo("10.77.0.1", 7, { bytes: 1472 });
  await far.echo("10.77.0.1", 7, { bytes: 1472 });

  const route = { dst: "10.78.0.0/24", via: "10.77.0.2" };
  lab.daemonHost.nl.call((m) => newRoute(m, { ...route, mtu: 600 }, NLM_F_CREATE | NLM_F_REPLACE));
  await until("the route's MTU", () => views.lookup("10.78.0.2", {}).mtu === 600);
  await far.echo("10.77.0.1", 7, { bytes: 572 });
  expect(await far.answered("10.77.0.1", 7, 100, 573)).toBe(false);
  await until("a drop", () => (rig.counts().drops["mtu"] ?? 0) > 0);
  await client.echo("10.77.0.1", 7, { bytes: 1472 });

  const mtu = (size: number) => {
    lab.daemonHost.nl.call((m) => setLink(m, { name: "nd0", mtu: size }));
    lab.peerHost.nl.call((m) => setLink(m, { name: "peer0", mtu: size }));
  };
  mtu(1768);
  await client.echo("10.77.0.1", 7, { bytes: 1740 });
  expect(views.summary().warnings).toEqual([]);
  mtu(3400);
  await until("a warning", () => views.summary().warnings.length > 0);
  expect(views.summary().warnings).toEqual([
    "MTU 3400 of nd0: packets of over 1768 bytes to services are lost until netd is restarted",
  ]);
  expect(await client.answered("10.77.0.1", 7, 100, 3000)).toBe(false);
  expect(views.queues()[0]!.kernel!.rxDropped).toBeGreaterThan(0);
  await client.echo("10.77.0.1", 7, { bytes: 1700 });
  mtu(1500);
  await until("the warning to go", () => views.summary().warnings.length === 0);
  await client.echo("10.77.0.1", 7, { bytes: 1472 });
});

test("an MTU that needs the large frames: whole packets of that size", async () => {
  await using rig = await Rig.start({}, Lab.create({ mtu: 3400 }));
  using client = await UdpClient.open(rig.lab.peer, "10.77.0.2");
  for (const bytes of [4, 1800, 3372]) await client.echo("10.77.0.1", 7, { bytes });
});

test("another name: the service goes on, and the end puts right what was changed", async () => {
  const lab = Lab.create();
  const before = cardState(lab);
  const rig = await Rig.start({}, lab);
  using client = await UdpClient.open(lab.peer, "10.77.0.2");
  await client.echo("10.77.0.1");
  const rename = (name: string, to: string) => {
    lab.daemonHost.down(name);
    lab.daemonHost.nl.call((m) => setLink(m, { ifindex: lab.ifindex, rename: to }));
    lab.daemonHost.up(to);
    lab.daemonHost.waitRunning(to);
  };
  rename("nd0", "other0");
  await client.echo("10.77.0.1");
  await until("the name", () => [...rig.daemon.views.links()].some(({ ifname }) => ifname === "other0"));
  await rig.daemon.stop();
  rename("other0", "nd0");
  expect(cardState(lab)).toEqual(before);
  rig.scratch[Symbol.dispose]();
  lab.close();
});

test.each(["deleted", "deleted at the other end", "moved to another namespace"])(
  "a card that is %s ends the daemon, and it says so",
  async (how) => {
    using scratch = new Scratch();
    using lab = Lab.create();
    using elsewhere = new Host("elsewhere");
    await using netd = await NetdProcess.running(scratch.socket, onCard(lab, "--json"));
    await using traffic = new Traffic(lab);
    await traffic.more(1000);
    const act = {
      deleted: () => lab.daemonHost.nl.call((m) => delLink(m, { name: "nd0" })),
      "deleted at the other end": () => lab.peerHost.nl.call((m) => delLink(m, { name: "peer0" })),
      "moved to another namespace": () =>
        lab.daemonHost.nl.call((m) => setLink(m, { name: "nd0", netnsFd: elsewhere.netns.fd })),
    };
    act[how]!();
    const { code, err, out } = await netd.ended;
    expect(err).toBe(
      "netd: serve nd0: ENODEV (the interface is gone: deleted, or moved to another namespace)\n",
    );
    expect(code).toBe(1);
    const { rx, tx } = JSON.parse(out.trimEnd().split("\n").at(-1)!) as { rx: number; tx: number };
    expect(rx).toBeGreaterThanOrEqual(1000);
    expect(tx).toBeGreaterThanOrEqual(1000);
    expect(readdirSync(scratch.path)).toEqual([]);
    if (how.startsWith("moved"))
      expect(ip(elsewhere, "-d", "link", "show", "dev", "nd0")[0].xdp).toBeUndefined();
  },
);
