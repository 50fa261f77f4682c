// Clients by memif in a running daemon: testpmd as it is packaged, and our own client, in Ethernet and in IP mode; to the wire
// and from it, and to each other. What is not about the daemon is in test/link/memif.test.ts.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { LAB_LLADDR, LAB_PEER_LLADDR } from "../../src/lab/lab.ts";
import { MemifClient } from "../../src/link/memif/client.ts";
import { MODE_IP } from "../../src/link/memif/message.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { parseIPv4, parseLladdr } from "../../src/wire/address.ts";
import { checksum, udpFrame } from "../../src/wire/frame.ts";
import { Testpmd } from "../peers/testpmd.ts";
import { OWN, PEER, SwitchRig } from "./switch.ts";
import { UdpClient } from "./udp.ts";
import { until } from "./wait.ts";

setDefaultTimeout(120_000);

const MAC = "02:00:00:00:99:01";
const F_SETFL = 4;

interface MemifRow {
  readonly fromPackets: number;
  readonly drops: Record<string, number>;
}

const start = (clients: readonly string[], queues = 1, ...more: string[]): Promise<SwitchRig> =>
  SwitchRig.start(
    { queues },
    ...(clients.length > 0 ? ["--set", `memif.clients=${clients.join()}`] : []),
    ...more,
  );

const pathOf = (rig: SwitchRig): string => join(rig.scratch.path, "memif.sock");

/** Frames, or packets in IP mode, that a client has got by any of its rings. */
function take(client: MemifClient): Uint8Array[] {
  const got: Uint8Array[] = [];
  for (const ring of client.fromServer) {
    const { ready } = ring;
    for (let i = 0; i < ready; i++) got.push(ring.bytes.slice(ring.at(i), ring.at(i) + ring.length(i)));
    if (ready > 0) ring.release(ready);
  }
  return got;
}

function give(client: MemifClient, frame: Uint8Array, queue = 0): void {
  const ring = client.toServer[queue]!;
  ring.bytes.set(frame, ring.slot(0));
  ring.fill(0, frame.length);
  ring.send(1);
}

const received = (rig: SwitchRig): number =>
  JSON.parse(Bun.spawnSync([...rig.far, "ip", "-j", "-s", "link", "show", "peer0"]).stdout.toString())[0]
    .stats64.rx.packets;

for (const [queues, log2] of [
  [1, 8],
  [1, 11],
  [2, 11],
  [1, 14],
] as const)
  test(`testpmd, ${queues} queues of 2^${log2}: its frames are routed onto the wire by the netbase`, async () => {
    await using rig = await start([`0 198.18.0.0/16 mac=${MAC}`]);
    await using testpmd = new Testpmd({
      ports: [{ path: pathOf(rig), id: 0, mac: MAC }],
      mode: "txonly",
      log2,
      queues,
      more: [`--eth-peer=0,${LAB_LLADDR}`, `--tx-ip=198.18.0.1,${PEER}`],
    });
    await until("testpmd's frames to arrive", () => received(rig) > 20_000 || !testpmd.running);
    expect(testpmd.running).toBe(true);
    const client = await until("their count", async () => {
      const [row] = await rig.netd.ask<MemifRow[]>("clients");
      return row !== undefined && row.fromPackets > 20_000 && row;
    });
    expect(client).toMatchObject({ mac: MAC, command: "dpdk-testpmd", path: `${pathOf(rig)}#0` });
    for (const reason of Object.keys(client.drops)) expect(["tx_full", "no_neighbour"]).toContain(reason);
  });

test("testpmd gets what it sends to itself, on the rings of its queues", async () => {
  // What flowgen has built in, and cannot be told.
  const [mac, ours] = ["00:01:02:03:04:00", "00:01:02:03:04:01"];
  await using rig = await start(
    [`0 10.253.0.0/16 10.254.0.0/16 mac=${mac}`],
    1,
    "--set",
    `switch.macs=${ours}`,
  );
  await using testpmd = new Testpmd({
    ports: [{ path: pathOf(rig), id: 0, mac }],
    mode: "flowgen",
    queues: 2,
    log2: 11,
  });
  await until("testpmd to receive", () => (testpmd.count("RX-packets") ?? 0) > 100_000 || !testpmd.running);
  expect(testpmd.running).toBe(true);
});

function ipPacket(protocol: number, src: string, dst: string, payload: Uint8Array): Uint8Array {
  const packet = new Uint8Array(20 + payload.length);
  const view = new DataView(packet.buffer);
  packet.set([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol]);
  view.setUint16(2, packet.length);
  view.setInt32(12, parseIPv4(src)!, true);
  view.setInt32(16, parseIPv4(dst)!, true);
  view.setUint16(10, checksum(packet, 0, 20));
  packet.set(payload, 20);
  return packet;
}

test("IP mode: bare packets, routes and neighbours are netd's affair", async () => {
  await using rig = await start([]);
  using client = new MemifClient({ server: pathOf(rig), mode: MODE_IP });
  const echo = Uint8Array.of(8, 0, 0, 0, 0x12, 0x34, 0, 1, 1, 2, 3, 4);
  new DataView(echo.buffer).setUint16(2, checksum(echo, 0, echo.length));
  give(client, ipPacket(1, OWN, PEER, echo));
  const got: Uint8Array[] = [];
  await until("the answer to a ping", () => got.push(...take(client)) > 0);
  expect(got).toHaveLength(1);
  expect([...got[0]!.subarray(12, 20)]).toEqual([10, 77, 0, 2, 10, 77, 0, 1]); // no Ethernet header before it
  expect([...got[0]!.subarray(20, 22)]).toEqual([0, 0]);
  expect([...got[0]!.subarray(24)]).toEqual([...echo.subarray(4)]);
});

test("clients of both kinds, and the wire, reach each other by the card's one address", async () => {
  await using rig = await start(["1 udp:5001", "2 udp:5002"]);
  using ether = new MemifClient({ server: pathOf(rig), id: 1 });
  using bare = new MemifClient({ server: pathOf(rig), id: 2, mode: MODE_IP });
  const from: Uint8Array[] = [];
  // From the wire, to both.
  for (const port of [5001, 5002])
    Bun.spawnSync([...rig.far, "bash", "-c", `echo -n hello > /dev/udp/${OWN}/${port}`]);
  await until("a datagram from the wire", () => from.push(...take(ether)) > 0);
  expect(new TextDecoder().decode(from[0]!.subarray(42))).toBe("hello");
  expect([...from[0]!.subarray(0, 12)]).toEqual([
    ...parseLladdr(LAB_LLADDR)!,
    ...parseLladdr(LAB_PEER_LLADDR)!,
  ]);
  const packets: Uint8Array[] = [];
  await until("a packet from the wire", () => packets.push(...take(bare)) > 0);
  expect(new TextDecoder().decode(packets[0]!.subarray(28))).toBe("hello");
  // From one to the other: both have the host's address, and see each other under the alias.
  const mac = parseLladdr(LAB_LLADDR)!;
  const question = udpFrame({
    dstMac: mac,
    srcMac: mac,
    src: parseIPv4(OWN)!,
    dst: parseIPv4("192.0.0.8")!,
    sport: 5001,
    dport: 5002,
    payload: new TextEncoder().encode("across"),
  });
  give(ether, question);
  packets.length = 0;
  await until("a packet from the other client", () => packets.push(...take(bare)) > 0);
  expect([...packets[0]!.subarray(12, 20)]).toEqual([192, 0, 0, 8, 10, 77, 0, 1]);
  expect(new TextDecoder().decode(packets[0]!.subarray(28))).toBe("across");
});

test("two queues, and a client with one ring each way: both net Workers deliver to it", async () => {
  await using rig = await start(["1 udp:5001"], 2);
  using client = new MemifClient({ server: pathOf(rig), id: 1 });
  const got = new Set<string>();
  let sent = 0;
  // Which queue a flow comes by the far side's kernel decides, by a hash: rounds of flows until both had some.
  await until("frames by both queues, and all of them", async () => {
    const round = Array.from({ length: 50 }, () => sent++).join(" ");
    Bun.spawnSync([
      ...[...rig.far, "bash", "-c"],
      `for i in ${round}; do echo -n $i > /dev/udp/${OWN}/5001; done`,
    ]);
    await until("all datagrams", () => {
      for (const frame of take(client)) got.add(new TextDecoder().decode(frame.subarray(42)));
      return got.size === sent;
    });
    const queues = await rig.netd.ask<{ rxPackets: number }[]>("queues");
    return queues.every(({ rxPackets }) => rxPackets > 0);
  });
});

test("a client whose place is another's now begins a shared ring anew", async () => {
  await using rig = await start(["1 udp:5001"], 2);
  const visit = async (): Promise<void> => {
    using client = new MemifClient({ server: pathOf(rig), id: 1 });
    Bun.spawnSync([...rig.far, "bash", "-c", `for i in 1 2 3; do echo -n $i > /dev/udp/${OWN}/5001; done`]);
    const got: Uint8Array[] = [];
    const what = async () =>
      `three datagrams: ${got.length} came, ${JSON.stringify([await rig.clients(), await rig.netd.ask("status")])}`;
    await until(what, () => {
      got.push(...take(client));
      return got.length === 3;
    });
  };
  for (let n = 0; n < 3; n++) {
    await visit();
    await until("the client to be gone", async () => (await rig.clients()).length === 0);
  }
});

test("an id whose endpoint is taken is told so, and takes nothing with it", async () => {
  await using rig = await start(["1 udp:5001", "2 udp:5001"]);
  using first = new MemifClient({ server: pathOf(rig), id: 1 });
  const fds = () => readdirSync(`/proc/${rig.netd.child.pid}/fd`).length;
  const before = fds();
  for (let n = 0; n < 5; n++)
    expect(() => new MemifClient({ server: pathOf(rig), id: 2 })).toThrow(/ECONNREFUSED \(.*match/);
  await until("all fds to be given back", () => fds() === before);
  Bun.spawnSync([...rig.far, "bash", "-c", `echo -n hello > /dev/udp/${OWN}/5001`]);
  await until("a datagram", () => take(first).length > 0);
});

test("a client that makes its eventfd full, and blocking, stops nobody", async () => {
  await using rig = await start(["1 udp:5001"]);
  using client = new MemifClient({ server: pathOf(rig), id: 1 });
  const [ring] = client.fromServer;
  ring!.interrupts(true);
  libc.fcntl(ring!.eventfd, F_SETFL, 0);
  const most = new BigUint64Array([0xffff_ffff_ffff_fffen]);
  expect(Number(libc.write(ring!.eventfd, ptr(most), 8))).toBe(8);
  Bun.spawnSync([...rig.far, "bash", "-c", `echo -n hello > /dev/udp/${OWN}/5001`]);
  await until("a datagram", () => take(client).length > 0);
  using other = await UdpClient.open(rig.lab.peer, PEER);
  await other.echo(OWN);
});

test("RequestMemif: the channel of a client that speaks the control protocol", async () => {
  await using rig = await start([]);
  using raw = rig.raw();
  const { text, fd } = raw.ask({ RequestMemif: [rig.lab.ifname, process.pid] });
  expect(text).toBe("$");
  using client = new MemifClient({ server: fd });
  expect(client.peerName).toBe(rig.lab.ifname);
  raw.match({ protocol: 17, dst: OWN, dport: 5005 });
  Bun.spawnSync([...rig.far, "bash", "-c", `echo -n hello > /dev/udp/${OWN}/5005`]);
  const got: Uint8Array[] = [];
  await until("a datagram", () => got.push(...take(client)) > 0);
  expect(new TextDecoder().decode(got[0]!.subarray(42))).toBe("hello");
});
