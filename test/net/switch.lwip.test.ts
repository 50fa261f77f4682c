// One address, two stacks: lwIP, which nobody of netd wrote, serves port 8080 of the card's own address over a channel,
// while the kernel serves port 22 of the same address. Both are reached from the other side of the wire and from this host.
// NETD_BYTES=1000000000 is how much is fetched from lwIP; CI takes less.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Netns } from "../../src/netlink/netns.ts";
import type { PeerHost } from "../peers/host.ts";
import { curl, patternBytes, patternHash } from "../peers/pattern.ts";
import { pings, TcpPair } from "./kernel.ts";
import { OWN, OWN6, PEER, SwitchRig } from "./switch.ts";
import { until } from "./wait.ts";

setDefaultTimeout(300_000);

const BYTES = Number(process.env["NETD_BYTES"] ?? 20_000_000);

let rig: SwitchRig;
let lwip: PeerHost;
const servers: Bun.Server<undefined>[] = [];

/** HTTP of the kernel's: GET /N gives N bytes of the pattern. */
function serve(netns: Netns, hostname: string, port: number): void {
  const fetch = (request: Request) =>
    new Response(patternBytes(Number(new URL(request.url).pathname.slice(1))));
  servers.push(netns.run(() => Bun.serve({ hostname, port, development: false, fetch })));
}

beforeAll(async () => {
  rig = await SwitchRig.start();
  const { lab } = rig;
  serve(lab.daemon, OWN, 22);
  serve(lab.daemon, OWN6, 22);
  serve(lab.peer, PEER, 8000);
  serve(lab.peer, "10.77.0.3", 8000);
  serve(lab.peer, "fd77::2", 8000);
  lwip = await rig.lwip();
  for (const address of [OWN, OWN6]) {
    await lwip.match("tcp", address, 8080);
    await lwip.match("udp", address, 7777);
  }
  expect(await lwip.tell("http 8080")).toBe("serving");
  expect(await lwip.tell("echo 7777")).toBe("serving");
});
afterAll(async () => {
  for (const server of servers) server.stop(true);
  await rig?.[Symbol.asyncDispose]();
});

const sides = { "the other side of the wire": () => rig.far, "the same host": () => rig.near };
const places = Object.keys(sides) as (keyof typeof sides)[];

test.each(places)("lwIP on 8080 and the kernel on 22 of the same address, from %s", async (place) => {
  const before = sides[place]();
  for (const host of [OWN, `[${OWN6}]`]) {
    for (const n of [0, 1, 1460, 100_000, 1_000_000]) {
      const got = await curl(`http://${host}:8080/${n}`, before);
      expect({ host, ...got }).toMatchObject({ host, code: 0, bytes: n, hash: patternHash(n) });
    }
    const kernel = await curl(`http://${host}:22/10000`, before);
    expect({ host, ...kernel }).toMatchObject({ host, code: 0, bytes: 10_000, hash: patternHash(10_000) });
  }
});

test.each(places)(`${BYTES} bytes from lwIP to %s, with the right checksum`, async (place) => {
  const got = await curl(`http://${OWN}:8080/${BYTES}`, sides[place](), { seconds: 250 });
  expect(got).toMatchObject({ code: 0, bytes: BYTES, hash: patternHash(BYTES) });
  if (BYTES >= 1e9) console.log(`to ${place}: ${(got.rate / 1e6).toFixed(0)} MB/s`);
});

test.each(places)("uploads to lwIP from %s", async (place) => {
  const file = join(rig.scratch.path, "upload");
  const n = 3_000_001;
  writeFileSync(file, patternBytes(n));
  for (const host of [OWN, `[${OWN6}]`]) {
    const child = Bun.spawnSync([
      ...sides[place](),
      ...["curl", "-sS", "-g", "-m", "20", "-T", file, `http://${host}:8080/up`],
    ]);
    expect(child.stdout.toString()).toBe(`right ${n} of ${n}\n`);
  }
  rmSync(file);
});

test("several at once, from both sides", async () => {
  const n = 2_000_000;
  const all = await Promise.all(
    [rig.far, rig.near, rig.far, rig.near].map((before) => curl(`http://${OWN}:8080/${n}`, before)),
  );
  for (const got of all) expect(got).toMatchObject({ code: 0, bytes: n, hash: patternHash(n) });
});

test("what lwIP begins needs no match: TCP, UDP and ping, to the wire; answers find their way", async () => {
  for (const to of [PEER, "10.77.0.3", "fd77::2"])
    expect(await lwip.tell(`get ${to} 8000 500000`, 30_000)).toBe("got 500000 right 500000 of 500000");
  const { lab } = rig;
  const socket = await lab.peer.run(() =>
    Bun.udpSocket({
      hostname: PEER,
      socket: { data: (self, data, port, address) => void self.send(`heard ${data}`, port, address) },
    }),
  );
  expect(await lwip.tell(`ask ${PEER} ${socket.port} hello`)).toBe("answer heard hello");
  socket.close();
  for (const to of [PEER, "10.78.0.2", "fd77::2"])
    expect(await lwip.tell(`ping ${to} 3`)).toBe("pong 3 of 3");
});

test("lwIP reaches the kernel of its own host, at the address that stands for it", async () => {
  expect(await lwip.tell("get 192.0.0.8 22 100000", 30_000)).toBe("got 100000 right 100000 of 100000");
  expect(await lwip.tell("ping 192.0.0.8 3")).toBe("pong 3 of 3");
  expect(await lwip.tell("get fd6e:6574:64::8 22 100000", 30_000)).toBe("got 100000 right 100000 of 100000");
  expect(await lwip.tell("ping fd6e:6574:64::8 3")).toBe("pong 3 of 3");
});

test("UDP: both sides reach lwIP's echo", () => {
  for (const place of places)
    for (const [flag, host] of [
      ["-4", OWN],
      ["-6", OWN6],
    ] as const) {
      const line = `echo hello | nc ${flag} -u -W 1 -w 3 ${host} 7777`;
      const child = Bun.spawnSync([...sides[place](), "sh", "-c", line]);
      expect([place, host, child.stdout.toString()]).toEqual([place, host, "hello\n"]);
    }
});

test("the kernel's ping, and its connections, are as ever", async () => {
  expect(pings(rig.lab)).toBe(true);
  expect(pings(rig.lab, OWN6)).toBe(true);
  using pair = await TcpPair.open(rig.lab);
  await pair.works();
  await until("its own port to be refused", async () => {
    const got = await curl(`http://${OWN}:8081/1`, [...rig.far, "sh", "-c", 'exec "$@" 2>/dev/null', "-"]);
    return got.code === 7; // a reset, by the kernel
  });
});

test("a port that the kernel has is refused", async () => {
  await expect(lwip.match("tcp", OWN, 22)).rejects.toThrow("ER");
  await expect(lwip.match("tcp", OWN6, 22)).rejects.toThrow("ER");
});

test("weakness: multi-core is missing: two queues, two net Workers, clients of both, from everywhere, at once", async () => {
  await using two = await SwitchRig.start({ queues: 2 });
  serve(two.lab.peer, PEER, 8000);
  const ports = [8080, 8081, 8082];
  const hosts: PeerHost[] = [];
  for (const port of ports) {
    const host = await two.lwip();
    for (const address of [OWN, OWN6]) await host.match("tcp", address, port);
    expect(await host.tell(`http ${port}`)).toBe("serving");
    hosts.push(host);
  }
  const n = 1_000_000;
  const fetches = ports.flatMap((port) =>
    [two.far, two.near].flatMap((before) =>
      [OWN, `[${OWN6}]`].map((host) => curl(`http://${host}:${port}/${n}`, before)),
    ),
  );
  for (const got of await Promise.all(fetches))
    expect(got).toMatchObject({ code: 0, bytes: n, hash: patternHash(n) });
  const outward = await Promise.all(hosts.map((host) => host.tell(`get ${PEER} 8000 300000`, 30_000)));
  for (const got of outward) expect(got).toBe("got 300000 right 300000 of 300000");
  const homes = (await two.netd.ask<{ queue: number }[]>("clients")).map(({ queue }) => queue);
  expect(new Set(homes)).toEqual(new Set([0, 1]));
});
