// The switch and this host's kernel, for real: programs at lo, card and tap, frames by the kernel's own sockets.
import { afterAll, afterEach, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LAB_LLADDR, LAB_PEER_LLADDR, Lab } from "../../src/lab/lab.ts";
import { AF_INET, AF_INET6, parseIPv4, parseIPv6 } from "../../src/wire/address.ts";
import { foreignProgram } from "../../src/xdp/foreign.ts";
import { CardFilter } from "../../src/xdp/filter.ts";
import { SteerMaps } from "../../src/xdp/maps.ts";
import { type AttachMode, SteerProgram } from "../../src/xdp/program.ts";
import { createSocket } from "../../src/xdp/socket.ts";
import { Tap } from "../../src/xdp/tap.ts";
import { ip } from "../net/card.ts";
import { internetChecksum, frame as udpFrame } from "../net/packet.ts";
import { RawSocket } from "../net/raw.ts";
import { until } from "../net/wait.ts";
import { attachedPrograms, BPF_TCX_EGRESS, BPF_TCX_INGRESS, BPF_XDP } from "./bpf.ts";
import { concat, ethernet, u16 } from "./frames.ts";
import { drain, isArp, next, send, udpOf } from "./tapframes.ts";
import { TcpPair } from "./tcp.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const UDP = 17;
const ALIAS = parseIPv4("192.0.0.8")!;
const CARD = LAB_LLADDR;
const v4 = (text: string): Int32Array => Int32Array.of(parseIPv4(text)!, 0, 0, 0);
const v6 = (text: string): Int32Array => Int32Array.from(parseIPv6(text)!);
const hex = (text: string): string =>
  Buffer.from((text.includes(":") ? v6(text) : v4(text).subarray(0, 1)).slice().buffer).toString("hex");
const lladdr = (tap: Tap): string => [...tap.mac].map((n) => n.toString(16).padStart(2, "0")).join(":");

let lab: Lab;
let tap: Tap;
let program: SteerProgram;
let maps: SteerMaps;
const open: { close(): void }[] = [];

beforeAll(() => {
  lab = Lab.create();
});
afterAll(() => lab.close());

function start(mode: AttachMode = "native"): void {
  program = SteerProgram.load();
  program.setAddress(Uint8Array.from(CARD.split(":").map((part) => Number.parseInt(part, 16))));
  maps = new SteerMaps(program.fds);
  lab.daemon.run(() => {
    program.attach(lab.ifindex, mode);
    tap = Tap.create({ ifname: lab.ifname, mtu: 1500, address: ALIAS });
    program.attachTc({ cardIfindex: lab.ifindex, tapIfindex: tap.ifindex, loIfindex: 1 });
  });
}

function stop(): void {
  program.close();
  tap.close();
}

beforeEach(() => start());
afterEach(() => {
  for (const thing of open.splice(0).reverse()) thing.close();
  stop();
});

const sysctl = (key: string, value: number): void =>
  lab.daemon.run(() => writeFileSync(`/proc/sys/net/${key}`, `${value}`));

interface Inbox {
  readonly port: number;
  readonly received: string[];
  send(payload: string, port: number, address: string): void;
}

/** A UDP socket of a kernel. */
async function udpSocket(where: "daemon" | "peer", hostname: string, port = 0): Promise<Inbox> {
  const received: string[] = [];
  const socket = await lab[where].run(() =>
    Bun.udpSocket({
      hostname,
      port,
      socket: { data: (_socket, payload) => void received.push(payload.toString()), error: () => {} },
    }),
  );
  open.push(socket);
  return {
    port: socket.port,
    received,
    send: (payload, to, address) => void socket.send(payload, to, address),
  };
}

for (const [filter, title] of [
  [0, "no reverse path filter"],
  [1, "strict reverse path filter on all devices"],
  [2, "loose reverse path filter on all devices"],
] as const)
  test(`a program on this host reaches a client's port, and gets its answer: ${title}`, async () => {
    sysctl("ipv4/conf/all/rp_filter", filter);
    stop();
    start();
    const socket = await udpSocket("daemon", "10.77.0.1");
    maps.addListener({ family: AF_INET, protocol: UDP, dst: v4("10.77.0.1"), dport: 5353 });
    socket.send("question", 5353, "10.77.0.1");
    const question = udpOf(await next(tap, "the question", (frame) => udpOf(frame)?.dport === 5353))!;
    expect(question).toMatchObject({ src: hex("10.77.0.1"), dst: hex("10.77.0.1"), checksumRight: true });
    expect(question.payload.toString()).toBe("question");
    const payload = Buffer.from("answer");
    const ports = { sport: 5353, dport: question.sport };
    const addresses = { src: "10.77.0.1", dst: "10.77.0.1" };
    send(tap, udpFrame({ srcMac: CARD, dstMac: lladdr(tap), ...addresses, ...ports, payload }));
    await until("the answer", () => socket.received.includes("answer"));
    expect(program.counters()).toMatchObject({ local: 1, givenBack: 0 });
    sysctl("ipv4/conf/all/rp_filter", 0);
  });

test("the same over IPv6, the tap without an address of its own", async () => {
  const socket = await udpSocket("daemon", "fd77::1");
  maps.addListener({ family: AF_INET6, protocol: UDP, dst: v6("fd77::1"), dport: 5353 });
  socket.send("question", 5353, "fd77::1");
  const question = udpOf(await next(tap, "the question", (frame) => udpOf(frame)?.dport === 5353))!;
  expect(question).toMatchObject({ src: hex("fd77::1"), dst: hex("fd77::1"), checksumRight: true });
  send(tap, udpFrame6(lladdr(tap), "fd77::1", "fd77::1", 5353, question.sport, "answer"));
  await until("the answer", () => socket.received.includes("answer"));
});

/** With the right checksum, from the card's MAC. */
function udpFrame6(
  dstMac: string,
  src: string,
  dst: string,
  sport: number,
  dport: number,
  text: string,
): Uint8Array<ArrayBuffer> {
  const data = Buffer.from(text);
  const length = u16(8 + data.length);
  const addresses = Buffer.from(hex(src) + hex(dst), "hex");
  const head = [...u16(sport), ...u16(dport), ...length];
  const sum = internetChecksum([...addresses, 0, 17, ...length, ...head, 0, 0, ...data]);
  const mac = (name: string): number[] => name.split(":").map((part) => Number.parseInt(part, 16));
  const ip = [0x60, 0, 0, 0, ...length, UDP, 64, ...addresses];
  return concat(mac(dstMac), mac(CARD), [0x86, 0xdd], ip, head, u16(sum), data);
}

test("programs that talk to the kernel's own ports are left alone, and so is 127.0.0.1", async () => {
  maps.addListener({ family: AF_INET, protocol: UDP, dst: v4("10.77.0.1"), dport: 5353 });
  const any = {
    family: AF_INET,
    protocol: UDP,
    dst: v4("0.0.0.0"),
    src: v4("0.0.0.0"),
    srcPrefix: 0,
    sport: -1,
  };
  const [one, local, socket] = [
    await udpSocket("daemon", "10.77.0.1"),
    await udpSocket("daemon", "127.0.0.1"),
    await udpSocket("daemon", "0.0.0.0"),
  ];
  maps.addWild({ ...any, dstPrefix: 0, dport: local.port });
  socket.send("one", one.port, "10.77.0.1");
  socket.send("local", local.port, "127.0.0.1");
  await until("both", () => one.received.includes("one") && local.received.includes("local"));
  expect(program.counters().local).toBe(0);
  expect(drain(tap)).toEqual([]);
});

for (const mode of ["native", "skb"] as const)
  test(`what netd gives back arrives as if the card had received it, once, in ${mode} mode`, async () => {
    stop();
    start(mode);
    const socket = lab.daemon.run(() =>
      createSocket({
        ifname: lab.ifname,
        ifindex: lab.ifindex,
        queue: 0,
        frames: 64,
        frameBytes: 2048,
        rxSize: 64,
        txSize: 64,
        mode: "copy",
      }),
    );
    open.push(socket);
    program.setSocket(0, socket.ref.fd);
    const kernel = await udpSocket("daemon", "0.0.0.0");
    // The kernel's port is a match too, so that XDP would take the frame again if it saw it.
    maps.addListener({ family: AF_INET, protocol: UDP, dst: v4("10.77.0.1"), dport: kernel.port });
    const datagram = { srcMac: LAB_PEER_LLADDR, dstMac: CARD, src: "10.77.0.2", dst: "10.77.0.1" };
    send(tap, udpFrame({ ...datagram, sport: 1, dport: kernel.port, payload: Buffer.from("back") }));
    await until("the datagram", () => kernel.received.includes("back"));
    expect(program.counters()).toMatchObject({ givenBack: 1, redirected: 0 });
    using raw = new RawSocket(lab.peer, lab.peerIfindex);
    raw.send(udpFrame({ ...datagram, sport: 1, dport: kernel.port, payload: Buffer.from("card") }));
    await until("XDP has seen it", () => program.counters().redirected > 0);
    expect(kernel.received).toEqual(["back"]);
  });

/** As the peer's card sends it. */
function fromPeer(dst: string, dstMac: string, dport: number, text: string, src = "10.77.0.2"): void {
  using raw = new RawSocket(lab.peer, lab.peerIfindex);
  const payload = Buffer.from(text);
  raw.send(udpFrame({ srcMac: LAB_PEER_LLADDR, dstMac, src, dst, sport: 999, dport, payload }));
}

const group = (dst: string, dport: number) => ({ family: AF_INET, protocol: UDP, dst: v4(dst), dport });
const texts = (): string[] => drain(tap).map((frame) => udpOf(frame)?.payload.toString() ?? "");

test("broadcast for a client goes to the tap and to the kernel; what nobody asked for, to the kernel alone", async () => {
  const kernel = await udpSocket("daemon", "0.0.0.0");
  const seen: string[] = [];
  const received = async (text: string): Promise<void> => {
    await until(`the kernel's ${text}`, () => kernel.received.includes(text));
    seen.push(...texts().filter((got) => got === text));
  };
  const send = (dst: string, text: string) => fromPeer(dst, "ff:ff:ff:ff:ff:ff", kernel.port, text);
  send("10.77.0.255", "nobody's");
  await received("nobody's");
  maps.addGroup(group("10.77.0.255", kernel.port));
  maps.addGroup(group("255.255.255.255", kernel.port + 1));
  send("10.77.0.255", "both's");
  await received("both's");
  send("255.255.255.255", "another port's");
  await received("another port's");
  maps.addGroup(group("255.255.255.255", 0));
  send("255.255.255.255", "any port's");
  await received("any port's");
  maps.removeGroup(group("10.77.0.255", kernel.port));
  send("10.77.0.255", "gone");
  await received("gone");
  expect(seen).toEqual(["both's", "any port's"]);
  expect(kernel.received).toEqual(["nobody's", "both's", "another port's", "any port's", "gone"]);
  expect(program.counters()).toMatchObject({ cloned: 2, givenBack: 0 });
});

test("with the firewall on, a group is the client's alone, unless it is open for the kernel too", async () => {
  const kernel = await udpSocket("daemon", "0.0.0.0");
  maps.addGroup(group("10.77.0.255", kernel.port));
  maps.setFirewall("on");
  fromPeer("10.77.0.255", "ff:ff:ff:ff:ff:ff", kernel.port, "client's");
  await until("the client's", () => texts().includes("client's"));
  maps.setOpen([
    { family: AF_INET, protocol: UDP, port: kernel.port, remote: v4("0.0.0.0"), remotePrefix: 0 },
  ]);
  fromPeer("10.77.0.255", "ff:ff:ff:ff:ff:ff", kernel.port, "both's");
  await until("both's", () => kernel.received.length > 0);
  expect(kernel.received).toEqual(["both's"]);
  expect(texts()).toContain("both's");
});

test("what the kernel itself broadcasts reaches the tap too", async () => {
  const kernel = await udpSocket("daemon", "10.77.0.1");
  maps.addGroup(group("224.0.0.251", 5353));
  kernel.send("here I am", 5353, "224.0.0.251");
  const frame = udpOf(await next(tap, "the datagram", (frame) => udpOf(frame)?.dport === 5353))!;
  expect(frame).toMatchObject({ dst: hex("224.0.0.251"), checksumRight: true });
});

test("a program on this host reaches an address that only a client has: ARP, then the packet", async () => {
  const kernel = await udpSocket("daemon", "10.77.0.1");
  maps.addOwned(AF_INET, v4("10.77.0.9"));
  maps.addListener({ family: AF_INET, protocol: UDP, dst: v4("10.77.0.9"), dport: 5353 });
  using wire = new RawSocket(lab.peer, lab.peerIfindex, { all: true });
  kernel.send("question", 5353, "10.77.0.9");
  const arp = await next(tap, "the ARP request", isArp);
  expect([...arp.subarray(38, 42)]).toEqual([10, 77, 0, 9]);
  const mac = [2, 9, 9, 9, 9, 9];
  const reply = [0, 1, 8, 0, 6, 4, 0, 2, ...mac, 10, 77, 0, 9, ...arp.subarray(6, 12), 10, 77, 0, 1];
  send(tap, ethernet(0x0806, reply, [], arp.subarray(6, 12)));
  const question = await next(tap, "the question", (frame) => udpOf(frame)?.dport === 5353);
  expect([...question.subarray(0, 6)]).toEqual(mac);
  expect(udpOf(question)).toMatchObject({ dst: hex("10.77.0.9"), checksumRight: true });
  // Its answer, as if from the card.
  const { sport } = udpOf(question)!;
  const addresses = { src: "10.77.0.9", dst: "10.77.0.1", srcMac: "02:09:09:09:09:09", dstMac: CARD };
  send(tap, udpFrame({ ...addresses, sport: 5353, dport: sport, payload: Buffer.from("answer") }));
  await until("the answer", () => kernel.received.includes("answer"));
  // Other hosts' traffic goes out, and nothing of the above did.
  kernel.send("wire", 5353, "10.77.0.2");
  const out = await until("the peer's", () => wire.drain().filter((frame) => isArp(frame) || udpOf(frame)));
  expect(out.some((frame) => frame.subarray(0, 64).join().includes("10,77,0,9"))).toBe(false);
});

test("a pattern without a destination takes nothing that the kernel sends to other hosts", async () => {
  const [kernel, peer] = [await udpSocket("daemon", "10.77.0.1"), await udpSocket("peer", "10.77.0.2")];
  const any = { family: AF_INET, protocol: UDP, dst: v4("0.0.0.0"), dstPrefix: 0 };
  maps.addWild({ ...any, dport: -1, src: v4("0.0.0.0"), srcPrefix: 0, sport: -1 });
  kernel.send("out", peer.port, "10.77.0.2");
  await until("the datagram", () => peer.received.includes("out"));
  expect(program.counters().toTap).toBe(0);
});

test("the kernel's connections survive the firewall: new ones it made, old ones it was told of", async () => {
  using old = await TcpPair.open(lab);
  await old.works();
  const port = old.port;
  const outside = await udpSocket("peer", "10.77.0.2");
  const asking = await udpSocket("daemon", "10.77.0.1");
  const silent = await udpSocket("daemon", "10.77.0.1");
  maps.setFirewall("learn");
  maps.seed([
    {
      family: AF_INET,
      protocol: 6,
      dst: v4("10.77.0.1"),
      dport: port,
      src: v4("10.77.0.2"),
      sport: old.peerPort,
    },
  ]);
  maps.setFirewall("on");
  await old.works();
  asking.send("question", outside.port, "10.77.0.2");
  await until("the question", () => outside.received.includes("question"));
  const before = program.counters().dropped;
  outside.send("not asked for", silent.port, "10.77.0.1");
  outside.send("answer", asking.port, "10.77.0.1");
  await until("the answer", () => asking.received.includes("answer"));
  await until("a drop", () => program.counters().dropped > before);
  expect(silent.received).toEqual([]);
  maps.setOpen([
    { family: AF_INET, protocol: UDP, port: silent.port, remote: v4("10.77.0.0"), remotePrefix: 24 },
  ]);
  outside.send("open", silent.port, "10.77.0.1");
  await until("what is open", () => silent.received.includes("open"));
  expect(silent.received).toEqual(["open"]);
  await old.works();
});

test("a connection that nobody told the firewall of is cut: the test above can fail", async () => {
  using pair = await TcpPair.open(lab);
  await pair.works();
  maps.setFirewall("on");
  const before = program.counters().dropped;
  pair.write("lost\n");
  await until("a drop", () => program.counters().dropped > before);
  maps.setFirewall("off");
  await until("the retransmission", () => pair.echoed === "lost\n");
});

test("attaching twice, and devices that are not there: one error each, and nothing left attached", () => {
  const devices = { cardIfindex: lab.ifindex, tapIfindex: tap.ifindex, loIfindex: 1 };
  lab.daemon.run(() => {
    expect(() => program.attachTc(devices)).toThrow("attach tc programs: EBUSY");
    const other = SteerProgram.load();
    expect(() => other.attachTc({ ...devices, cardIfindex: 9999 })).toThrow(
      /^attach card_ingress to ifindex 9999: ENODEV$/,
    );
    expect(other.counters().givenBack).toBe(0);
    other.attachTc(devices); // beside the first one
    other.close();
  });
});

test("kill -9 of the process that attached leaves no program at card or lo, and no device", async () => {
  stop();
  open.push({ close: start }); // for afterEach
  using pair = await TcpPair.open(lab);
  await pair.works();
  const before = inside();
  const path = `/proc/${process.pid}/fd/${lab.daemon.fd}`;
  const child = Bun.spawn(
    [process.execPath, join(import.meta.dir, "tapholder.ts"), path, `${lab.ifindex}`, CARD],
    { stdout: "pipe", stderr: "inherit" },
  );
  open.push({ close: () => child.kill("SIGKILL") });
  const { value } = await child.stdout.getReader().read();
  expect(Buffer.from(value!).toString()).toBe("attached\n");
  const during = inside();
  expect(during.devices).toContain("netd0");
  expect(before.programs).toEqual([0, 0, 0, 0, 0, 0]);
  expect(during.programs).toEqual([0, 1, 0, 1, 1, 1]); // lo and card; XDP, ingress, egress
  pair.write("late\n"); // dropped: the firewall was not told
  await Bun.sleep(50);
  expect(pair.echoed).toBe("");
  child.kill("SIGKILL");
  await child.exited;
  await until("nothing to be left", () => JSON.stringify(inside()) === JSON.stringify(before));
  await until("the kernel's connection goes on", () => pair.echoed === "late\n");
});

/** What the daemon's namespace has: network devices, and how many programs are attached to card and lo. */
function inside(): { devices: string[]; programs: number[] } {
  return lab.daemon.run(() => ({
    devices: readFileSync("/proc/thread-self/net/dev", "latin1")
      .split("\n")
      .slice(2)
      .map((line) => line.split(":")[0]!.trim())
      .filter((name) => name !== "")
      .sort(),
    programs: [BPF_XDP, BPF_TCX_INGRESS, BPF_TCX_EGRESS].flatMap((type) =>
      [1, lab.ifindex].map((ifindex) =>
        type === BPF_XDP ? xdpOn(ifindex) : attachedPrograms(ifindex, type),
      ),
    ),
  }));
}

const xdpOn = (ifindex: number): number => (foreignProgram(ifindex, "") ? 1 : 0);

test("the card takes what the maps want to see, as long as they do", () => {
  const filter = lab.daemon.run(() => new CardFilter(lab.ifindex));
  open.push(filter);
  const wanting = new SteerMaps(program.fds, filter);
  const groups = (): string[] =>
    lab.daemon.run(() =>
      readFileSync("/proc/thread-self/net/dev_mcast", "latin1")
        .split("\n")
        .filter((line) => line.includes(" nd0 "))
        .map((line) => line.split(/\s+/).at(-1)!)
        .sort(),
    );
  const promiscuity = (): number => ip(lab.daemonHost, "-d", "link", "show", "dev", "nd0")[0].promiscuity;
  const before = groups();
  const mdns = group("224.128.1.251", 5353);
  wanting.addGroup(mdns);
  wanting.addGroup({ ...mdns, dport: 5354 });
  wanting.addGroup({ family: AF_INET6, protocol: UDP, dst: v6("ff02::1:3"), dport: 5355 });
  wanting.addGroup(group("10.77.0.255", 137));
  wanting.addOwned(AF_INET6, v6("fd77::1234:5678"));
  wanting.addMac(Uint8Array.of(2, 0, 0, 0, 9, 9));
  const added = ["01005e0001fb", "333300010003", "3333ff345678"];
  expect(groups()).toEqual([...before, ...added].sort());
  expect(promiscuity()).toBe(1); // a veth has no filter for unicast
  wanting.removeGroup(mdns);
  wanting.removeOwned(AF_INET6, v6("fd77::1234:5678"));
  wanting.removeMac(Uint8Array.of(2, 0, 0, 0, 9, 9));
  expect(groups()).toEqual([...before, ...added.slice(0, 2)].sort());
  expect(promiscuity()).toBe(0);
  open.splice(open.indexOf(filter), 1);
  filter.close();
  expect(groups()).toEqual(before);
});
