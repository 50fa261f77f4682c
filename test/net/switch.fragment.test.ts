// Fragments of one packet that come by two queues of the card: they meet, whichever comes first. And those to a group, or to
// an address that a client alone has, on a real card.
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpus } from "node:os";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { LAB_LLADDR, LAB_PEER_LLADDR } from "../../src/lab/lab.ts";
import { addMatch, Asker } from "../switch/asker.ts";
import * as f from "../switch/packets.ts";
import { RawSocket } from "./raw.ts";
import { OWN, OWN6, SwitchRig } from "./switch.ts";
import { until } from "./wait.ts";

setDefaultTimeout(60_000);

const MASK_BYTES = 128;
const PAYLOAD = Array.from({ length: 64 }, (_, i) => i);

/** Runs something on one CPU. */
function on(cpu: number, run: () => void): void {
  const before = new Uint8Array(new ArrayBuffer(MASK_BYTES));
  const mask = new Uint8Array(new ArrayBuffer(MASK_BYTES));
  mask[cpu >> 3] = 1 << (cpu & 7);
  libc.sched_getaffinity(0, MASK_BYTES, ptr(before));
  expect(libc.sched_setaffinity(0, MASK_BYTES, ptr(mask))).toBe(0);
  run();
  libc.sched_setaffinity(0, MASK_BYTES, ptr(before));
}

/** All frames that come to a channel, until there are so many; and one that should not. */
async function frames(channel: number, count: number): Promise<string[]> {
  const buffer = new Uint8Array(new ArrayBuffer(2048));
  const got: string[] = [];
  const take = () => {
    const n = Number(libc.recvfrom(channel, ptr(buffer), buffer.length, 0, null, null));
    if (n > 0) got.push(f.hex(buffer.subarray(0, n)));
    return n > 0;
  };
  await until(`${count} frames`, () => {
    while (take());
    return got.length >= count;
  });
  await Bun.sleep(20);
  while (take());
  return got.sort();
}

test("to a group: all of its clients and the kernel get each once, from the wire and from this host", async () => {
  await using rig = await SwitchRig.start();
  const { lab } = rig;
  const GROUP = "239.1.2.3";
  const PORT = 5005;
  const channels: number[] = [];
  const askers: Asker[] = [];
  for (const port of [PORT, PORT, PORT + 1]) {
    const client = new Asker(`${rig.scratch.path}/client${askers.length}`);
    askers.push(client);
    channels.push(client.channel(rig.control, lab.ifname));
    expect(client.ask(rig.control, addMatch(GROUP, port, { protocol: 17 }))?.text).toBe("OK");
  }
  const heard: string[] = [];
  const kernel = await lab.daemon.run(() =>
    Bun.udpSocket({ port: PORT, socket: { data: (_, bytes) => void heard.push(bytes.toHex()) } }),
  );
  kernel.addMembership(GROUP, OWN);

  const payload = Array.from({ length: 100 }, (_, i) => i);
  const ends = { src: "10.77.0.2", dst: GROUP };
  const macs = { srcMac: LAB_PEER_LLADDR, dstMac: "01:00:5e:01:02:03" };
  const whole = f.udp({ ...ends, dport: PORT, payload });
  using raw = new RawSocket(lab.peer, lab.peerIfindex);
  for (const [id, order] of [
    [0, 1, 2],
    [2, 1, 0],
    [1, 0, 2],
  ].entries()) {
    const pieces = [0, 1, 2].map((i) => {
      const l4 = whole.slice(i * 40, i < 2 ? i * 40 + 40 : undefined);
      return Uint8Array.from(
        f.packet({ ...ends, ...macs, id, fragment: (i < 2 ? 0x2000 : 0) | (i * 5), l4 }),
      );
    });
    for (const i of order) raw.send(pieces[i]!);
    const wanted = pieces.map(f.hex).sort();
    for (const channel of channels.slice(0, 2)) expect(await frames(channel, 3)).toEqual(wanted);
    await until("the kernel to have it", () => heard.length > id);
  }
  expect(heard).toEqual(Array(3).fill(Buffer.from(payload).toString("hex")));

  const sender = await lab.daemon.run(() => Bun.udpSocket({ hostname: OWN }));
  sender.setMulticastInterface(OWN);
  sender.send(new Uint8Array(4000).fill(7), PORT, GROUP);
  for (const channel of channels.slice(0, 2)) expect(await frames(channel, 3)).toHaveLength(3);
  await until("the kernel to have its own", () => heard.length === 4);
  expect(heard[3]).toHaveLength(8000);
  expect(await frames(channels[2]!, 0)).toEqual([]);
  for (const socket of [kernel, sender]) socket.close();
  for (const client of askers) client.close();
});

test("what a client sends to many hosts reaches this host's programs", async () => {
  await using rig = await SwitchRig.start();
  const { lab } = rig;
  const heard: string[] = [];
  const listen = (hostname: string, port: number) =>
    lab.daemon.run(() =>
      Bun.udpSocket({
        hostname,
        port,
        socket: { data: (_, bytes, port, address) => void heard.push(`${bytes} from ${address} ${port}`) },
      }),
    );
  const [kernel, kernel6] = await Promise.all([listen("0.0.0.0", 5006), listen("::", 5007)]);
  kernel.addMembership("239.1.2.3", OWN);
  using client = new Asker(`${rig.scratch.path}/client`);
  const channel = client.channel(rig.control, lab.ifname);
  for (const address of ["10.77.0.50", OWN, "fd77::50", OWN6])
    expect(client.ask(rig.control, addMatch(address, 80, { protocol: 17 }))?.text).toBe("OK");
  const send = (src: string, dst: string, dstMac: string) => {
    const ends = { src, dst, sport: 80, dport: src.includes(":") ? 5007 : 5006, payload: Buffer.from(dst) };
    const frame = Uint8Array.from(f.udpPacket({ ...ends, srcMac: LAB_LLADDR, dstMac }));
    expect(Number(libc.sendto(channel, ptr(frame), frame.length, 0, null, 0))).toBe(frame.length);
  };
  send("10.77.0.50", "239.1.2.3", "01:00:5e:01:02:03");
  await until("multicast", () => heard.length === 1);
  for (const src of ["10.77.0.50", OWN])
    for (const dst of ["10.77.0.255", "255.255.255.255"]) {
      send(src, dst, "ff:ff:ff:ff:ff:ff");
      await until(`broadcast from ${src} to ${dst}`, () => heard.at(-1) === `${dst} from ${src} 80`);
    }
  for (const src of ["fd77::50", OWN6]) {
    send(src, "ff02::1", "33:33:00:00:00:01");
    await until(`multicast from ${src}`, () => heard.at(-1) === `ff02::1 from ${src} 80`);
  }
  expect(heard).toHaveLength(7);
  expect(heard[0]).toBe("239.1.2.3 from 10.77.0.50 80");
  for (const socket of [kernel, kernel6]) socket.close();
});

test("an echo that comes in fragments is answered for an address that a client alone has", async () => {
  await using rig = await SwitchRig.start();
  using client = new Asker(`${rig.scratch.path}/client`);
  client.channel(rig.control, rig.lab.ifname);
  for (const address of ["10.77.0.50", "fd77::50"])
    expect(client.ask(rig.control, addMatch(address, 80))?.text).toBe("OK");
  for (const [side, where] of Object.entries({ far: rig.far, near: rig.near }))
    for (const address of ["10.77.0.50", "fd77::50"]) {
      const ping = Bun.spawnSync([
        ...where,
        "ping",
        "-c",
        "3",
        "-i",
        "0.05",
        "-W",
        "2",
        "-s",
        "4000",
        address,
      ]);
      expect({ side, address, text: ping.stdout.toString() }).toMatchObject({
        text: expect.stringContaining("3 received"),
      });
    }
});

test.skipIf(cpus().length < 2)("a packet's fragments come by two queues, in either order", async () => {
  await using rig = await SwitchRig.start({ queues: 2 });
  const { lab } = rig;
  using raw = new RawSocket(lab.peer, lab.peerIfindex);
  raw.byCpu();
  using client = new Asker(`${rig.scratch.path}/client`);
  const channel = client.channel(rig.control, lab.ifname);
  expect(client.ask(rig.control, addMatch(OWN, 5000, { protocol: 17 }))?.text).toBe("OK");

  const whole = f.udp({ dport: 5000, payload: PAYLOAD });
  const macs = { srcMac: LAB_PEER_LLADDR, dstMac: LAB_LLADDR };
  const pieces = (id: number): Uint8Array<ArrayBuffer>[] => [
    Uint8Array.from(f.packet({ ...macs, id, fragment: 0x2000, l4: whole.slice(0, 24) })),
    Uint8Array.from(f.packet({ ...macs, id, fragment: 0x0003, l4: whole.slice(24) })),
  ];
  const buffer = new Uint8Array(new ArrayBuffer(2048));
  const receive = async (): Promise<string> => {
    const n = await until("a frame", () => {
      const got = Number(libc.recvfrom(channel, ptr(buffer), buffer.length, 0, null, null));
      return got > 0 && got;
    });
    return f.hex(buffer.subarray(0, n));
  };
  for (let id = 1; id <= 20; id++) {
    const [first, later] = pieces(id);
    const isFirst = id % 2 === 0;
    on(0, () => raw.send(isFirst ? first! : later!));
    if (id % 3 === 0) await Bun.sleep(20);
    on(1, () => raw.send(isFirst ? later! : first!));
    const got = [await receive(), await receive()];
    expect({ id, got: got.sort() }).toEqual({ id, got: [f.hex(first!), f.hex(later!)].sort() });
  }
  const queues = await rig.netd.ask<{ rxPackets: number }[]>("queues");
  for (const { rxPackets } of queues) expect(rxPackets).toBeGreaterThanOrEqual(20);
});
