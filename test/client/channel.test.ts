// Channels: frames where they lie, waiting in the event loop and in a thread of one's own, and netd's end.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Frames, attach, udp } from "../../src/client/client.ts";
import { OWN, PEER, SwitchRig } from "../net/switch.ts";
import { UdpClient } from "../net/udp.ts";
import { until } from "../net/wait.ts";

setDefaultTimeout(60_000);

let rig: SwitchRig;
beforeAll(async () => {
  rig = await SwitchRig.start();
});
afterAll(() => rig?.[Symbol.asyncDispose]());

const place = () => ({ interface: rig.lab.ifname, server: rig.control, directory: rig.scratch.path });
const fds = () => Array.from(new Bun.Glob("*").scanSync({ cwd: "/proc/self/fd", onlyFiles: false })).length;

/** Turns a UDP datagram over IPv4 round in its frame: no checksum changes. */
function turnRound({ words, bytes, off }: Frames, i: number, head: number): void {
  const at = off[i]! + head;
  if (head > 0) {
    const mac = bytes.slice(off[i]!, off[i]! + 6);
    bytes.copyWithin(off[i]!, off[i]! + 6, off[i]! + 12);
    bytes.set(mac, off[i]! + 6);
  }
  const ip = at >>> 2;
  [words[ip + 3], words[ip + 4]] = [words[ip + 4]!, words[ip + 3]!];
  words[ip + 5] = (words[ip + 5]! >>> 16) | (words[ip + 5]! << 16);
}

test.each([
  { pipe: "unix", ip: false },
  { pipe: "memif", ip: false },
  { pipe: "memif", ip: true },
] as const)("every frame of what it listens to, answered where it lies: %p", async ({ pipe, ip }) => {
  using ch = await attach({ ...place(), pipe, ip, listen: [{ proto: "udp", port: 53, address: OWN }] });
  expect(ch).toMatchObject({ kind: pipe, mtu: 1500, mac: "02:00:00:00:77:01", head: ip ? 0 : 14 });
  expect(ch.addresses).toContain(OWN);
  expect(ch.poll(() => {})).toBe(0);
  const seen: number[] = [];
  let woken = 0;
  const serve = async () => {
    for (; await ch.ready(); woken++)
      ch.poll((frames) => {
        for (let i = 0; i < frames.n; i++) {
          seen.push(frames.len[i]!);
          turnRound(frames, i, ch.head);
          frames.reply(i);
        }
      });
  };
  const served = serve();
  using client = await UdpClient.open(rig.lab.peer, PEER);
  for (const bytes of [18, 600, 1472]) await client.echo(OWN, 53, { bytes });
  expect(seen).toEqual([46, 628, 1500].map((bytes) => bytes + ch.head));
  await ch.unlisten({ proto: "udp", port: 53, address: OWN });
  await until("it to hear no more", async () => !(await client.answered(OWN, 53)));
  expect(woken).toBeLessThan(20); // it sleeps again each time
  ch.close();
  await served;
});

test("frames that it makes itself go out; one that is too long does not", async () => {
  using ch = await attach(place());
  expect(() => ch.send(new Uint8Array(1515))).toThrow("a frame of 1515 bytes: at most 1514");
  expect(ch.send(new Uint8Array(10))).toBe(true); // a runt: netd counts it
  const runts = async () =>
    (await rig.netd.ask<{ reason: string; packets: number }[]>("drops")).find(
      ({ reason }) => reason === "runt",
    );
  await until("the runt to be counted", async () => ((await runts())?.packets ?? 0) > 0);
});

test.each(["memif", "unix"])(
  "in a Worker, %s: it blocks until something comes, and ends when told",
  async (pipe) => {
    const worker = new Worker(new URL("./server.ts", import.meta.url).href);
    const { promise: port, resolve } = Promise.withResolvers<number>();
    const { promise: ended, resolve: end } = Promise.withResolvers<number>();
    worker.onmessage = ({ data }) => (data.port ? resolve(data.port) : end(data.served));
    const stop = new Int32Array(new SharedArrayBuffer(4));
    worker.postMessage({ place: { ...place(), pipe }, stop });
    using client = await UdpClient.open(rig.lab.peer, PEER);
    for (let i = 0; i < 20; i++) await client.echo(OWN, await port);
    Atomics.store(stop, 0, 1);
    expect(await ended).toBeGreaterThanOrEqual(20);
    worker.terminate();
  },
);

test.each(["memif", "unix"] as const)("sockets come and go, %s: no fd stays, and no file", async (pipe) => {
  const once = async () => {
    using socket = await udp.bind({ ...place(), pipe, socket: {} });
    using client = await UdpClient.open(rig.lab.peer, PEER);
    expect(await client.answered(OWN, socket.port, 50)).toBe(false);
  };
  await once();
  const before = fds();
  for (let i = 0; i < 20; i++) await once();
  await until("all fds to be closed", () => fds() <= before);
  expect([...new Bun.Glob("netd-client-*").scanSync({ cwd: rig.scratch.path, onlyFiles: false })]).toEqual(
    [],
  );
  await until("netd to have no client", async () => (await rig.clients()).length === 0);
});

test.each(["memif", "unix"] as const)(
  "netd ends, %s: who waits is told, and so is a socket",
  async (pipe) => {
    await using own = await SwitchRig.start();
    const at = { interface: own.lab.ifname, server: own.control, directory: own.scratch.path, pipe };
    using ch = await attach(at);
    const errors: string[] = [];
    let closed = 0;
    const socket = await udp.bind({
      ...at,
      socket: { error: (_, error) => void errors.push(error.message), close: () => void closed++ },
    });
    const waits = ch.ready();
    waits.catch(() => {});
    await own.netd.stop("SIGKILL");
    await expect(waits).rejects.toThrow(/channel on nd0: ECONNRESET \(netd is gone: /);
    await until("the socket to be closed", () => closed === 1);
    expect(errors[0]).toMatch(/ECONNRESET/);
    expect(socket.closed).toBe(true);
    expect(() => ch.wait(1000)).toThrow(/netd is gone/);
  },
);
