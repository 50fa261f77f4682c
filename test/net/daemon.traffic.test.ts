// What the daemon does with frames: every mode and queue; answers compared byte by byte with what they must be; what is
// not answered, and why; services that follow the card's addresses.
import { expect, setDefaultTimeout, test } from "bun:test";
import { Host } from "../../src/lab/host.ts";
import { Lab, LAB_LLADDR, LAB_PEER_LLADDR } from "../../src/lab/lab.ts";
import { delAddr, newAddr } from "../../src/netlink/addr.ts";
import { RTN_BLACKHOLE, RTN_PROHIBIT, RTN_THROW, RTN_UNREACHABLE } from "../../src/netlink/constants.ts";
import { delRoute, newRoute } from "../../src/netlink/routeset.ts";
import { ip, Rig } from "./card.ts";
import { kernelUdp, pings, whoAnswers } from "./kernel.ts";
import { type Datagram, echoOf, frame, internetChecksum, ip4, pattern } from "./packet.ts";
import { RawSocket } from "./raw.ts";
import { Traffic } from "./traffic.ts";
import { UdpClient } from "./udp.ts";
import { until } from "./wait.ts";

setDefaultTimeout(60_000);

const question = (fields: Partial<Datagram> = {}): Datagram => ({
  srcMac: LAB_PEER_LLADDR,
  dstMac: LAB_LLADDR,
  src: "10.77.0.2",
  dst: "10.77.0.1",
  sport: 20000,
  dport: 7,
  payload: pattern(32, 1),
  ...fields,
});

const sum = (drops: Record<string, number>): number => Object.values(drops).reduce((a, b) => a + b, 0);

const ways = [
  ["busy", "native"],
  ["adaptive", "native"],
  ["interrupt", "native"],
  ["interrupt", "skb"],
] as const;

test.each(ways)("%s polling, %s mode, two queues: echoes from everywhere, over both", async (poll, mode) => {
  await using rig = await Rig.start({ poll: { mode: poll }, interface: { mode } }, Lab.create({ queues: 2 }));
  const { lab } = rig;
  const clients: UdpClient[] = [];
  for (const source of ["10.77.0.2", "10.77.0.3", "10.78.0.2"])
    for (let i = 0; i < 12; i++) clients.push(await UdpClient.open(lab.peer, source));
  await Promise.all(clients.map((client, i) => client.echo("10.77.0.1", 7, { bytes: 4 + i * 40 })));
  await using traffic = new Traffic(lab);
  await traffic.more(2000);
  await traffic.stop();
  expect(traffic.flow).toMatchObject({ lost: 0, corrupt: 0, unresolved: 0 });
  const { rx, tx, drops } = await rig.settled();
  expect(rx).toBe(tx + sum(drops));
  expect(Object.keys(drops)).toEqual(["no_neighbour"]);
  expect(tx).toBeGreaterThanOrEqual(clients.length + traffic.flow.received);
  const queues = rig.daemon.views.queues();
  expect(queues.map(({ queue }) => queue)).toEqual([0, 1]);
  for (const queue of queues) {
    // Without native XDP a veth does not say on which of its queues a frame came in.
    if (mode === "native" || queue.queue === 0) expect(queue.rxPackets).toBeGreaterThan(0);
    expect(queue).toMatchObject({ poll, mode: mode === "skb" ? "skb" : "copy" });
    expect(queue.kernel).toMatchObject({ rxDropped: 0, rxInvalidDescs: 0, txInvalidDescs: 0, rxRingFull: 0 });
  }
  expect(pings(lab)).toBe(true);
  expect(pings(lab, "fd77::1")).toBe(true);
  for (const client of clients) client.close();
});

test("one queue of two: the other's frames are the kernel's", async () => {
  await using rig = await Rig.start({ interface: { queues: [1] } }, Lab.create({ queues: 2 }));
  const kernel = await kernelUdp(rig.lab, 7);
  const seen = new Set<string>();
  await until("both to answer", async () => {
    seen.add(await whoAnswers(rig.lab, 7, "hello", 200));
    return seen.has("hello") && seen.has("kernel: hello");
  });
  kernel.close();
});

const lengths = [
  0, 1, 2, 3, 4, 7, 8, 9, 17, 18, 19, 54, 55, 56, 57, 63, 64, 65, 88, 89, 96, 97, 127, 511, 1024, 1399,
];
const tagSets = {
  untagged: [],
  "a priority tag": [[0x8100, 0xa000]],
  "an 802.1ad and a priority tag": [
    [0x88a8, 0x2000],
    [0x8100, 0x6000],
  ],
} as const;

test.each(["native", "skb"] as const)(
  "answers to the byte, in %s mode: lengths, tags, options, checksums",
  async (mode) => {
    await using rig = await Rig.start({ interface: { mode } });
    const { lab } = rig;
    using client = await UdpClient.open(lab.peer, "10.77.0.2");
    await client.echo("10.77.0.1");
    using raw = new RawSocket(lab.peer, lab.peerIfindex);
    const questions = new Map<number, Datagram>();
    const add = (fields: Partial<Datagram>) => {
      const sport = 20000 + questions.size;
      questions.set(
        sport,
        question({ sport, id: questions.size * 7, ttl: (questions.size % 255) + 1, ...fields }),
      );
    };
    for (const length of lengths)
      for (const tags of Object.values(tagSets))
        add({ payload: pattern(length, length), tags, tos: length & 0xff });
    for (const options of [4, 20, 40])
      for (const tags of Object.values(tagSets))
        for (const length of [0, 5, 64, 1000])
          add({ payload: pattern(length, options), tags, options: new Array(options).fill(1) });
    // No checksum, and one that the sender's kernel left to a card that does not exist.
    add({ checksum: 0, payload: pattern(77, 3) });
    const partial = (length: number) =>
      ~internetChecksum([...ip4("10.77.0.2"), ...ip4("10.77.0.1"), 0, 17, 0, length]) & 0xffff;
    add({ checksum: partial(8 + 50), payload: pattern(50, 4) });
    // Payloads for which the checksum's sum is all ones: sent as 0xffff, since 0 means none.
    for (const bytes of [2, 100]) {
      const payload = pattern(bytes, 9);
      payload.fill(0, 0, 2);
      const probe = frame(question({ sport: 20000 + questions.size, payload }));
      const missing = (probe[40]! << 8) | probe[41]!;
      payload.set([missing >> 8, missing & 0xff]);
      add({ payload });
      expect(frame([...questions.values()].at(-1)!).subarray(40, 42)).toEqual(Uint8Array.of(255, 255));
    }

    const answers = new Map<number, Uint8Array>();
    const take = () => {
      for (const bytes of raw.drain()) {
        const [sport, dport] = [(bytes[34]! << 8) | bytes[35]!, (bytes[36]! << 8) | bytes[37]!];
        if (bytes[23] !== 17 || sport !== 7 || !questions.has(dport)) continue;
        expect(answers.has(dport)).toBe(false);
        answers.set(dport, bytes);
      }
    };
    let sent = 0;
    for (const asked of questions.values()) {
      raw.send(frame(asked));
      if (++sent % 32 === 0 || sent === questions.size)
        await until(`${sent} answers`, () => {
          take();
          return answers.size === sent;
        });
    }
    for (const [port, asked] of questions) expect(answers.get(port)).toEqual(echoOf(asked));
  },
);

test("what is not answered, and why: each counted once, under its own reason; nothing else comes back", async () => {
  await using rig = await Rig.start();
  const { lab } = rig;
  using elsewhere = new Host("elsewhere");
  lab.daemonHost.veth("side0", elsewhere, "far0");
  lab.daemonHost.addr("side0", "10.90.0.1/24");
  for (const [dst, type] of [
    ["10.81.0.0/16", RTN_BLACKHOLE],
    ["10.82.0.0/16", RTN_UNREACHABLE],
    ["10.83.0.0/16", RTN_PROHIBIT],
    ["10.84.0.0/16", RTN_THROW],
  ] as const)
    lab.daemonHost.route({ dst, type });
  lab.daemonHost.route({ dst: "10.85.0.0/16", via: "10.90.0.2" });
  await until("the routes", () => rig.daemon.views.lookup("10.85.0.1", {}).reason === "other_interface");
  using client = await UdpClient.open(lab.peer, "10.77.0.2");
  await client.echo("10.77.0.1");
  using raw = new RawSocket(lab.peer, lab.peerIfindex);

  const broken = (at: number, fields: Partial<Datagram> = {}) => {
    const bytes = frame(question(fields));
    bytes[at]! ^= 0x55;
    return bytes;
  };
  const from = (src: string) => frame(question({ src }));
  const odd: [string, Uint8Array<ArrayBuffer>][] = [
    ["bad_ip_checksum", broken(24)],
    ["bad_ip_checksum", broken(24, { options: [1, 1, 1, 1] })],
    ["bad_udp_checksum", broken(40)],
    ["bad_udp_checksum", broken(60)],
    ["bad_udp_checksum", broken(300, { payload: pattern(600, 2) })],
    ["echo_loop", frame(question({ sport: 7 }))],
    ["no_route", from("203.0.113.1")],
    ["no_route", from("10.84.0.1")],
    ["blackhole", from("10.81.0.1")],
    ["unreachable", from("10.82.0.1")],
    ["prohibit", from("10.83.0.1")],
    ["to_kernel", from("10.77.0.1")],
    ["other_interface", from("10.85.0.1")],
    ["other_interface", from("10.90.0.7")],
    ["bad_source", from("10.77.0.255")],
    ["no_neighbour", from("10.77.0.99")],
  ];
  let before = await rig.settled();
  for (const [reason, bytes] of odd) {
    raw.send(bytes);
    const after = await until(`${reason} to be counted`, () => {
      const counts = rig.counts();
      return counts.rx > before.rx && sum(counts.drops) > sum(before.drops) && counts;
    });
    const moved = Object.entries(after.drops).filter(([name, n]) => n !== (before.drops[name] ?? 0));
    expect(moved).toEqual([[reason, (before.drops[reason] ?? 0) + 1]]);
    expect(after.tx).toBe(before.tx);
    before = after;
  }

  // These never reach userspace: they are the kernel's, which answers what it likes.
  const { rx } = before;
  const kernels = [
    ...["127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0"].map(from),
    frame(question({ dport: 8 })),
    frame(question({ dst: "10.77.0.9" })),
    frame(question({ dstMac: "02:00:00:00:00:42" })),
    frame(question({ dstMac: "ff:ff:ff:ff:ff:ff" })),
    frame(question({ tags: [[0x8100, 5]] })),
    frame(question()).subarray(0, 40),
  ];
  for (const bytes of kernels) raw.send(bytes as Uint8Array<ArrayBuffer>);
  raw.send(frame(question({ sport: 4242 })));
  const echoes: Uint8Array[] = [];
  await until("the last one's answer", () => {
    echoes.push(...raw.drain().filter((bytes) => bytes[23] === 17 && bytes[34] === 0 && bytes[35] === 7));
    return echoes.length > 0;
  });
  expect(echoes.map((bytes) => (bytes[36]! << 8) | bytes[37]!)).toEqual([4242]);
  expect((await rig.settled()).rx).toBe(rx + 1);
});

test("a service is on every address of the card, also on those that come later, and leaves with them", async () => {
  await using rig = await Rig.start({
    services: [
      { service: "echo", port: 7 },
      { service: "echo", port: 7, address: "10.77.0.1" }, // the same once more
      { service: "echo", port: 9, address: "10.77.0.50" },
    ],
  });
  const { lab } = rig;
  const { views } = rig.daemon;
  using client = await UdpClient.open(lab.peer, "10.77.0.2");
  await client.echo("10.77.0.1");
  expect(await client.answered("10.77.0.1", 9)).toBe(false);
  expect(views.summary().services.toSorted()).toEqual(["echo 10.77.0.1:7", "echo 10.77.0.50:9"]);
  lab.daemonHost.addr("nd0", "10.77.0.50/24");
  await client.echo("10.77.0.50", 7);
  await client.echo("10.77.0.50", 9);
  await client.echo("10.77.0.1", 7);
  ip(lab.daemonHost, "addr", "del", "10.77.0.50/24", "dev", "nd0");
  await until("it to leave", () => !views.summary().services.includes("echo 10.77.0.50:7"));
  expect(await client.answered("10.77.0.50", 7)).toBe(false);
  await client.echo("10.77.0.1", 7);
});

test("more addresses than there is room for: some are served, and a warning says so until they are fewer", async () => {
  await using rig = await Rig.start();
  const { lab } = rig;
  const { views } = rig.daemon;
  const ifindex = lab.ifindex;
  const local = (i: number) => `10.99.${i >> 8}.${i & 255}/16`;
  lab.daemonHost.nl.call((m) => {
    for (let i = 1; i <= 600; i++) newAddr(m, { ifindex, local: local(i) });
  });
  await until("a warning", () => views.summary().warnings.length > 0);
  expect(views.summary().warnings).toEqual([
    "services: 89 matches found no room beside 512: fewer addresses or services",
  ]);
  expect(views.summary().services.length).toBe(512);
  using client = await UdpClient.open(lab.peer, "10.77.0.2");
  await client.echo("10.77.0.1");
  lab.daemonHost.nl.batch((m) => {
    for (let i = 600; i >= 1; i--) delAddr(m, { ifindex, local: local(i) });
  });
  await until("the warning to go", () => views.summary().warnings.length === 0);
  expect(views.summary().services).toEqual(["echo 10.77.0.1:7"]);
  await client.echo("10.77.0.1");
});

test("more routes than there is room for: it keeps what it has, says so, and takes the rest once it can", async () => {
  await using rig = await Rig.start({ netbase: { routes4: 40 } });
  const { lab } = rig;
  const { views } = rig.daemon;
  using client = await UdpClient.open(lab.peer, "10.77.0.2");
  await client.echo("10.77.0.1");
  const dst = (i: number) => `10.99.${i}.0/24`;
  lab.daemonHost.nl.call((m) => {
    for (let i = 0; i < 100; i++) newRoute(m, { dst: dst(i), via: "10.77.0.2" });
  });
  await until("a warning", () => views.summary().warnings.length > 0);
  expect(views.summary().warnings.join()).toMatch(
    /^routes4: \d+ did not fit \(capacity 40\); raise netbase\.routes4$/,
  );
  expect(views.summary().tables["routes4"]).toEqual({ used: 40, capacity: 40 });
  expect([...views.routes()].filter(({ family }) => family === "inet").length).toBe(40);
  expect(views.lookup("10.99.0.1", {})).toMatchObject({ gateway: "10.77.0.2" });
  const lost = views.lookup("10.99.99.1", {});
  expect(lost).toMatchObject({ reason: "no_route" });
  expect(lost.because.at(-1)).toMatch(/^not all is known: routes4: \d+ did not fit/);
  expect(views.lookup("fd99::1", {}).because.at(-1)).toBe("no route to the destination");
  await client.echo("10.77.0.1", 7, { every: 5000 });
  lab.daemonHost.nl.call((m) => {
    for (let i = 0; i < 90; i++) delRoute(m, { dst: dst(i) });
  });
  await until("the rest", () => views.lookup("10.99.99.1", {}).gateway === "10.77.0.2");
  await until("the warning to go", () => views.summary().warnings.length === 0);
  await client.echo("10.77.0.1", 7, { every: 5000 });
});
