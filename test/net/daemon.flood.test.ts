// A hundred thousand datagrams from made-up neighbours: who is real goes on being served, who comes anew is found, and
// neither the kernel's neighbour table nor netd's fills up.
import { expect, setDefaultTimeout, test } from "bun:test";
import { Lab, LAB_LLADDR, LAB_PEER_LLADDR } from "../../src/lab/lab.ts";
import { ip, Rig } from "./card.ts";
import { frame, internetChecksum } from "./packet.ts";
import { RawSocket } from "./raw.ts";
import { Traffic } from "./traffic.ts";
import { UdpClient } from "./udp.ts";
import { until } from "./wait.ts";

setDefaultTimeout(60_000);

const FRAMES = 100_000;
const CHUNK = 64; // fewer than a veth's ring, so that the flood takes nobody's place on the way
const MOST = 256; // neighbours in a table

test("100,000 spoofed sources of a /16: legitimate traffic loses nothing, new neighbours are resolved", async () => {
  const lab = Lab.create({ addrs: ["10.200.0.1/16"], peerAddrs: ["10.200.0.2/16"] });
  await using rig = await Rig.start({}, lab);
  const { counters } = rig.daemon.parts.queues[0]!.thread.control;
  await using near = new Traffic(lab, "10.200.0.2", "10.200.0.1", 16);
  await using far = new Traffic(lab, "10.78.0.2", "10.77.0.1", 16);
  await Promise.all([near.more(500), far.more(500)]);
  const before = await rig.settled();
  const lostBefore = near.flow.unresolved + far.flow.unresolved;
  expect(before.drops).toEqual({ no_neighbour: lostBefore });

  // The flood: no two frames in a row from the same source; none from an address that exists.
  using raw = new RawSocket(lab.peer, lab.peerIfindex);
  const addresses = { srcMac: LAB_PEER_LLADDR, dstMac: LAB_LLADDR, src: "10.200.128.0", dst: "10.200.0.1" };
  const forged = frame({ ...addresses, sport: 999, dport: 7, checksum: 0, payload: new Uint8Array(18) });
  let sent = 0;
  const forge = () => {
    const low = 0x1000 + ((sent * 7919) % 0xefff); // 10.200.16.0 to 10.200.255.254: none of the lab's own
    forged.set([0, 0, 10, 200, low >> 8, low & 0xff], 24);
    const sum = internetChecksum(forged.subarray(14, 34));
    forged.set([sum >> 8, sum & 0xff], 24);
    raw.send(forged);
    sent++;
  };
  let highest = 0;
  let peak = 0;
  const flood = async () => {
    for (let chunk = 0; sent < FRAMES; chunk++) {
      for (let i = 0; i < CHUNK; i++) forge();
      await until(
        "the flood to be taken in",
        () => counters.get("no_neighbour") - lostBefore >= sent - CHUNK,
      );
      if (chunk % 100 !== 0) continue;
      highest = Math.max(highest, ip(lab.daemonHost, "neigh", "show", "nud", "all").length);
      peak = Math.max(peak, [...rig.daemon.views.neighs()].length);
    }
  };
  const newcomer = async (i: number) => {
    await until("its turn", () => sent >= (i * FRAMES) / 10);
    lab.peerHost.addr("peer0", `10.200.7.${i}/16`);
    using client = await UdpClient.open(lab.peer, `10.200.7.${i}`);
    await client.echo("10.200.0.1", 7, { ms: 30_000, every: 20 }).catch((error: Error) => {
      const its = (rows: Iterable<unknown>) =>
        [...rows].map((row) => JSON.stringify(row)).filter((text) => text.includes(`"10.200.7.${i}"`));
      const kernels = its(ip(lab.daemonHost, "neigh", "show", "nud", "all"));
      const { netlink } = rig.daemon.views.summary();
      throw new Error(
        `${error.message}: newcomer ${i}; the kernel has ${kernels}, netd ${its(rig.daemon.views.neighs())}, ${JSON.stringify(netlink)}`,
      );
    });
    await client.echo("10.200.0.1", 7, { ms: 5000, every: 5000 }); // once known, always answered
  };
  await Promise.all([flood(), ...[0, 1, 2, 3, 4, 5, 6, 7, 8].map(newcomer)]);

  const during = [near.flow.received, far.flow.received];
  await Promise.all([near.more(500), far.more(500)]);
  await near.stop();
  await far.stop();
  expect(during[0]).toBeGreaterThan(1000);
  for (const { flow } of [near, far]) expect(flow).toMatchObject({ lost: 0, corrupt: 0 });
  expect(near.flow.unresolved + far.flow.unresolved).toBe(lostBefore);
  expect(sent).toBeGreaterThanOrEqual(FRAMES);

  const { rx, tx, drops } = await rig.settled();
  expect(Object.keys(drops)).toEqual(["no_neighbour"]);
  expect(drops["no_neighbour"]).toBeGreaterThanOrEqual(sent);
  expect(rx).toBe(tx + drops["no_neighbour"]!);
  expect(highest).toBeGreaterThan(0);
  expect(highest).toBeLessThan(MOST);
  expect(peak).toBeLessThan(MOST);
  const netlink = rig.daemon.views.summary().netlink;
  expect(netlink["solicitSent"]).toBeLessThan(sent / 10);
  expect(netlink["solicitUnresolved"]).toBeLessThanOrEqual(96);
});
