// The switch of one net Worker, without a kernel's network (world.ts): what reaches whom, and as what.
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { OwnRing } from "../../src/lab/ownring.ts";
import { PortWriter } from "../../src/link/memif/port.ts";
import { parseIPv4, parseLladdr } from "../../src/wire/address.ts";
import { REFUSALS_A_SECOND } from "../../src/switch/refuse.ts";
import { Fragments, PENDING } from "../../src/switch/fragment.ts";
import { P_WORDS, parseIp } from "../../src/wire/packet.ts";
import { HELD_EACH } from "../../src/switch/held.ts";
import { DESTINATION, EACH } from "../../src/switch/waiting.ts";
import * as f from "./packets.ts";
import { ALIAS4, ALIAS6, SEED, TAP_LLADDR, type TestClient, World } from "./world.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

let world: World;
let a: TestClient;
let b: TestClient;
const OWN = "10.77.0.50"; // addresses that client b alone has
const OWN6 = "fd77::50";
const OWN_MAC = "02:00:00:00:00:50";

function start(options: ConstructorParameters<typeof World>[0] = {}): void {
  world = new World(options);
  a = world.attach();
  b = world.attach({ mac: OWN_MAC });
  for (const protocol of [f.UDP, f.TCP]) {
    world.match(a, protocol, f.US, 5000);
    world.match(a, protocol, f.US6, 5000);
    world.match(b, protocol, OWN, 80);
    world.match(b, protocol, OWN6, 80);
  }
  world.owned(b, OWN);
  world.owned(b, OWN6);
}

beforeEach(() => start());
afterEach(() => {
  const missing = world.close();
  expect(missing).toBe(0); // every frame is the link's again
});

const same = (got: Uint8Array[], ...wanted: Uint8Array[]) =>
  expect(got.map(f.hex)).toEqual(wanted.map(f.hex));

describe("from the wire", () => {
  test("a match's packets reach its client as they are, and nobody else", () => {
    const frames = [
      f.udpPacket(),
      f.tcpPacket({ sport: 1 }),
      f.udpPacket({ src: f.THEM6, dst: f.US6 }),
      f.tcpPacket({ src: f.THEM6, dst: f.US6 }),
    ];
    for (const frame of frames) world.wire(frame);
    same(world.run());
    same(a.receive(), ...frames);
    same(b.receive());
    same(world.tap.receive());
    expect(a.counts()).toEqual({ toPackets: 4, toBytes: frames.reduce((n, frame) => n + frame.length, 0) });
  });

  test("what is nobody's goes back to the kernel; with the firewall on it is dropped", () => {
    const frame = f.udpPacket({ dport: 5001 });
    world.wire(frame);
    world.run();
    same(world.tap.receive(), frame);
    expect(world.counts()).toMatchObject({ toKernel: 1 });
    world.close();
    start({ firewall: true });
    world.wire(frame);
    world.run();
    same(world.tap.receive());
    expect(world.drops()).toEqual({ no_match: 1 });
  });

  test("a frame for another machine is dropped; one for the client's own link-layer address is not", () => {
    world.wire(f.udpPacket({ dstMac: "02:00:00:00:00:99" }));
    const own = f.udpPacket({ dst: OWN, dport: 80, dstMac: OWN_MAC });
    world.wire(own);
    world.run();
    expect(world.drops()).toEqual({ other_host: 1 });
    same(b.receive(), own);
  });

  test("unaligned frames and priority tags are taken; other VLANs are not a client's", () => {
    const plain = f.udpPacket();
    const tag = (id: number) => f.concat(plain.slice(0, 12), f.u16(0x8100, id), plain.slice(12));
    for (const at of [0, 1, 3, 4]) world.wire(plain, at);
    world.wire(tag(0xe000));
    world.wire(tag(5));
    world.run();
    same(a.receive(), plain, plain, plain, plain, plain);
    same(world.tap.receive(), tag(5));
  });

  test("an embedded service keeps what is its own", () => {
    world.sim.serve(f.US, 7);
    world.wire(f.udpPacket({ dport: 7 }));
    expect(world.run().length).toBe(1);
    same(world.tap.receive());
  });

  test.each([
    ["TCP", f.TCP],
    ["UDP", f.UDP],
  ])("completes checksums of %s that the sender's kernel left partial, v4 and v6", (_, protocol) => {
    world.close();
    start({ partialChecksums: true });
    for (const [src, dst] of [
      [f.THEM, f.US],
      [f.THEM6, f.US6],
    ] as const)
      for (const payload of [[], [1], new Array(1400).fill(7)]) {
        const whole =
          protocol === f.TCP ? f.tcpPacket({ src, dst, payload }) : f.udpPacket({ src, dst, payload });
        const l3 = src.includes(":") ? 54 : 34;
        const at = l3 + (protocol === f.TCP ? 16 : 6);
        const partial = whole.slice();
        const length = whole.length - l3;
        const sum = ~f.internetChecksum(f.bytesOf(src), f.bytesOf(dst), f.u16(length, protocol)) & 0xffff;
        partial[at] = sum >> 8;
        partial[at + 1] = sum & 255;
        const wrong = whole.slice();
        wrong[at]! ^= 0x55;
        for (const frame of [partial, whole, wrong]) world.wire(frame);
        world.run();
        same(a.receive(), whole, whole, wrong); // what is wrong is the client's to see
      }
  });

  test("completes SCTP's, which the kernel leaves zero", () => {
    world.match(a, 132, f.US, 5000);
    const common = f.u16(4000, 5000, 0, 1);
    const partial = f.concat(common, [0, 0, 0, 0], [11, 0, 0, 4]); // COOKIE ACK
    const whole = f.concat(common, [0xcc, 0xed, 0x41, 0x6f], [11, 0, 0, 4]);
    for (const l4 of [partial, whole, f.concat(common, [1, 2, 3, 4], [11, 0, 0, 4])])
      world.tap.send(f.packet({ protocol: 132, l4 }));
    world.run();
    const l4s = a.receive().map((frame) => f.hex(frame.slice(34)));
    expect(l4s).toEqual([f.hex(whole), f.hex(whole), f.hex(f.concat(common, [1, 2, 3, 4], [11, 0, 0, 4]))]);
  });

  test("a packet longer than the client's MTU, or from its own destination, is dropped and counted on it", () => {
    const c = world.attach({ mtu: 600 });
    world.match(c, f.UDP, f.US, 6000);
    world.wire(f.udpPacket({ dport: 6000, payload: new Array(600).fill(0) }));
    world.wire(f.udpPacket({ src: f.US, dst: f.US }));
    world.run();
    expect(world.drops()).toEqual({ mtu: 1, bad_source: 1 });
    same(a.receive());
    same(c.receive());
  });

  test("ICMP errors reach the client whose packet they quote", () => {
    const quote = (l4: f.L4, protocol: number) =>
      (protocol === f.TCP ? f.tcpPacket(l4) : f.udpPacket(l4)).slice(
        14,
        14 + (l4.src!.includes(":") ? 48 : 28),
      );
    const error = (quoted: Uint8Array) => f.icmpPacket(f.icmp(3, 4, f.concat(f.u16(0, 1400), quoted)));
    const ours = error(quote({ src: f.US, sport: 5000, dst: "10.9.9.9", dport: 1 }, f.TCP));
    const kernels = error(quote({ src: f.US, sport: 5001, dst: "10.9.9.9", dport: 1 }, f.TCP));
    const six = f.icmpPacket(
      f.icmp(
        2,
        0,
        f.concat([0, 0, 5, 0], quote({ src: f.US6, sport: 5000, dst: "fd99::1", dport: 1 }, f.UDP)),
        {
          src: f.THEM6,
          dst: f.US6,
        },
      ),
      { src: f.THEM6, dst: f.US6 },
    );
    for (const frame of [ours, kernels, six]) world.wire(frame);
    world.run();
    same(a.receive(), ours, six);
    same(world.tap.receive(), kernels);
  });

  test("weakness: broadcast and multicast are missing: they reach every client that asked for the group and port", () => {
    for (const client of [a, b]) world.group(client, f.UDP, "224.0.0.251", 5353);
    world.group(b, f.UDP, "10.77.0.255", 137);
    world.group(a, f.UDP, "ff02::fb", 5353);
    const multicast = f.udpPacket({ dst: "224.0.0.251", dport: 5353, dstMac: "01:00:5e:00:00:fb" });
    const broadcast = f.udpPacket({ dst: "10.77.0.255", dport: 137, dstMac: "ff:ff:ff:ff:ff:ff" });
    const six = f.udpPacket({ src: f.THEM6, dst: "ff02::fb", dport: 5353, dstMac: "33:33:00:00:00:fb" });
    const long = f.udpPacket({
      ...{ dst: "224.0.0.251", dport: 5353, dstMac: "01:00:5e:00:00:fb" },
      payload: new Array(1000).fill(1),
    });
    const c = world.attach({ mtu: 600 });
    world.group(c, f.UDP, "224.0.0.251", 5353);
    world.tap.send(long); // too long for one of the group: that is nobody else's affair
    world.run();
    for (const client of [a, b]) same(client.receive(), long);
    same(c.receive());
    same(world.tap.receive());
    const nobodys = f.udpPacket({ dst: "224.0.0.1", dport: 5353, dstMac: "01:00:5e:00:00:01" });
    for (const frame of [multicast, broadcast, six, nobodys]) world.wire(frame);
    world.run();
    same(a.receive(), multicast, six);
    same(b.receive(), multicast, broadcast);
    same(world.tap.receive(), nobodys);
  });

  test("a DHCP answer goes to who asked with its transaction id", () => {
    const payload = (op: number) => f.concat([op, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef], new Array(232).fill(0));
    const discover = f.udpPacket({
      ...{ src: "0.0.0.0", dst: "255.255.255.255", sport: 68, dport: 67, payload: payload(1) },
      ...{ srcMac: f.CARD, dstMac: "ff:ff:ff:ff:ff:ff" },
    });
    a.send(discover);
    same(world.run(), discover);
    same(world.tap.receive(), f.concat(discover.slice(6, 12), discover.slice(6))); // it may serve addresses itself
    const offer = (last: number) => {
      const bytes = payload(2);
      bytes[7] = last;
      const ends = { src: "10.77.0.3", dst: "255.255.255.255", sport: 67, dport: 68, payload: bytes };
      return f.udpPacket({ ...ends, dstMac: "ff:ff:ff:ff:ff:ff" });
    };
    world.wire(offer(0xef));
    world.wire(offer(0xee));
    world.run();
    same(a.receive(), offer(0xef));
    same(world.tap.receive(), offer(0xee));
  });
});

describe("fragments from the wire", () => {
  const payload = Array.from({ length: 64 }, (_, i) => i);
  const whole = f.udp({ payload });
  const four = (id: number) => [
    f.packet({ id, fragment: 0x2000, l4: whole.slice(0, 24) }),
    f.packet({ id, fragment: 0x2003, l4: whole.slice(24, 48) }),
    f.packet({ id, fragment: 0x0006, l4: whole.slice(48) }),
  ];
  const six = (id: number) => {
    const udp6 = f.udp({ src: f.THEM6, dst: f.US6, payload });
    return [0, 24, 48].map((off) => {
      const more = off < 48 ? 1 : 0;
      const bytes = f.concat([f.UDP, 0], f.u16(off | more), [0, 0, 0, id]);
      return f.packet({
        src: f.THEM6,
        dst: f.US6,
        l4: udp6.slice(off, more ? off + 24 : undefined),
        extensions: { first: 44, bytes },
      });
    });
  };

  test.each([[[0, 1, 2]], [[2, 1, 0]], [[1, 0, 2]]])("follow their first one, in order %p", (order) => {
    for (const frames of [four(1), six(2)]) {
      for (const i of order) world.wire(frames[i]!);
      world.run();
      expect(a.receive().map(f.hex).sort()).toEqual(frames.map(f.hex).sort());
      same(world.tap.receive());
    }
  });

  test.each([false, true])(
    "the kernel's are the kernel's, at once or after a while (firewall: %p)",
    (firewall) => {
      world.close();
      start({ firewall });
      const [first, second] = [f.udp({ dport: 9, payload }).slice(0, 24), whole.slice(24)];
      const frames = [
        f.packet({ id: 5, fragment: 0x2000, l4: first }),
        f.packet({ id: 5, fragment: 0x0003, l4: second }),
        f.packet({ id: 6, fragment: 0x0003, l4: second }),
      ];
      for (const frame of frames) world.wire(frame);
      world.run();
      same(world.tap.receive(), frames[0]!, frames[1]!);
      world.tick(1000);
      same(world.tap.receive(), frames[2]!);
    },
  );

  test("weakness: the fragment map grows without bound: more than there is room for is dropped, all is given back", () => {
    for (let id = 0; id < 100; id++) world.wire(four(id)[1]!);
    world.run();
    expect(world.drops()).toEqual({ bad_fragment: 68 });
    world.tick(1000);
    expect(world.counts()).toMatchObject({ toKernel: 32 });
  });

  describe("whose first one came by another queue", () => {
    const decide = (frame: Uint8Array, value: number, more: number) => {
      const words = new Int32Array(64);
      new Uint8Array(words.buffer).set(frame, 2);
      const p = new Int32Array(P_WORDS);
      expect(parseIp(words, p, frame[12] === 0x86, 4, frame.length - 14, false)).toBe(true);
      new Fragments(world.fragments, 1, SEED).remember(p, words, -1, value, more);
    };
    const generation = () => world.table.clients.generation(a.slot);

    test.each([four, six])("follow it, if they come after it or before it", (make) => {
      const frames = make(3);
      decide(frames[0]!, a.slot, generation());
      world.wire(frames[1]!);
      world.run();
      same(a.receive(), frames[1]!);
      const others = make(4);
      world.wire(others[1]!);
      world.run();
      decide(others[0]!, PENDING, generation());
      world.tick(1);
      same(a.receive());
      decide(others[0]!, a.slot, generation());
      world.tick(1);
      same(a.receive(), others[1]!);
      world.wire(others[2]!);
      world.run();
      same(a.receive(), others[2]!);
    });

    test("are the kernel's as it is, and nobody's whose client is gone", () => {
      const frames = four(5);
      decide(frames[0]!, -1, 0);
      world.wire(frames[1]!);
      world.run();
      same(world.tap.receive(), frames[1]!);
      decide(four(6)[0]!, a.slot, generation() - 2);
      world.wire(four(6)[1]!);
      world.run();
      same(a.receive());
      expect(world.drops()).toEqual({ client_gone: 1 });
    });
  });

  test("of a client that is gone do not reach the next one in its place", () => {
    const frames = four(9);
    world.wire(frames[0]!);
    world.run();
    world.table.removeClient(a.slot);
    world.table.freeClient(a.slot);
    const c = world.attach();
    expect(c.slot).toBe(a.slot);
    world.wire(frames[1]!);
    world.run();
    same(c.receive());
    expect(world.drops()).toEqual({ client_gone: 1 });
  });
});

describe("answered for a client's own address", () => {
  test("ARP requests", () => {
    world.wire(f.arp({ sha: f.PEER, spa: f.THEM, tpa: OWN }));
    same(world.run(), f.arp({ op: 2, sha: OWN_MAC, spa: OWN, tha: f.PEER, tpa: f.THEM, dstMac: f.PEER }));
    const kernels = f.arp({ sha: f.PEER, spa: f.THEM, tpa: f.US });
    world.wire(kernels);
    same(world.run());
    same(world.tap.receive(), kernels);
  });

  test("ARP answers to its own requests reach it", () => {
    const answer = f.arp({ op: 2, sha: f.PEER, spa: "10.99.0.1", tha: OWN_MAC, tpa: OWN, dstMac: OWN_MAC });
    world.wire(answer);
    world.run();
    same(b.receive(), answer);
  });

  test("neighbour solicitations", () => {
    world.wire(f.nd(135, { src: f.THEM6, target: OWN6, lladdr: f.PEER, srcMac: f.PEER }));
    const answer = f.nd(136, {
      src: OWN6,
      dst: f.THEM6,
      target: OWN6,
      lladdr: OWN_MAC,
      flags: 0x60,
      srcMac: OWN_MAC,
      dstMac: f.PEER,
    });
    same(world.run(), answer);
    const wrong = f.nd(135, { src: f.THEM6, target: OWN6, lladdr: f.PEER, srcMac: f.PEER });
    wrong[57]! ^= 1;
    world.wire(wrong);
    same(world.run());
  });

  test("one that looks for a duplicate is told so, with all", () => {
    world.wire(f.nd(135, { src: "::", target: OWN6, srcMac: f.PEER }));
    const dstMac = "33:33:00:00:00:01";
    const answer = {
      src: OWN6,
      dst: "ff02::1",
      target: OWN6,
      lladdr: OWN_MAC,
      flags: 0x20,
      srcMac: OWN_MAC,
      dstMac,
    };
    same(world.run(), f.nd(136, answer));
  });

  test("echo, unless the client takes ICMP itself", () => {
    const ends = { src: f.THEM, dst: OWN };
    const back = { src: OWN, dst: f.THEM };
    world.wire(f.icmpPacket(f.echo(8, 77, ends), { ...ends, dstMac: OWN_MAC, ttl: 9 }));
    same(world.run(), f.icmpPacket(f.echo(0, 77, back), { ...back, dstMac: f.PEER, srcMac: OWN_MAC }));
    const ends6 = { src: f.THEM6, dst: OWN6 };
    const back6 = { src: OWN6, dst: f.THEM6 };
    world.wire(f.icmpPacket(f.echo(128, 77, ends6), { ...ends6, dstMac: OWN_MAC, ttl: 9 }));
    same(world.run(), f.icmpPacket(f.echo(129, 77, back6), { ...back6, dstMac: f.PEER, srcMac: OWN_MAC }));
    world.match(b, f.ICMP, OWN);
    const request = f.icmpPacket(f.echo(8, 78, ends), { ...ends, dstMac: OWN_MAC });
    world.wire(request);
    same(world.run());
    same(b.receive(), request);
    const kernels = f.icmpPacket(f.echo(8, 79));
    world.wire(kernels);
    same(world.run());
    same(world.tap.receive(), kernels);
  });

  describe.each([
    [f.THEM, OWN],
    [f.THEM6, OWN6],
  ])("closed ports, from %s", (them, own) => {
    const asks = { src: them, dst: own, dport: 81, dstMac: OWN_MAC };
    const back = { src: own, sport: 81, dst: them, dport: 4000, srcMac: OWN_MAC, dstMac: f.PEER };
    const reset = { ...back, payload: [], window: 0, id: 0, fragment: 0x4000 };
    const error = (frame: Uint8Array) => {
      const [type, code] = them.includes(":") ? [1, 4] : [3, 3];
      const whole = f.icmp(type!, code!, f.concat([0, 0, 0, 0], frame.slice(14)), { src: own, dst: them });
      return f.icmpPacket(whole, { ...back, id: 0 });
    };

    test("TCP is reset: a beginning, what is under way, data and end; a reset is not", () => {
      const options = [2, 4, 5, 180];
      world.wire(f.tcpPacket({ ...asks, seq: 0xffff_ffff, ack: 0, flags: 2, payload: [], options }));
      world.wire(f.tcpPacket({ ...asks, seq: 9, ack: 0xfedc_ba98 }));
      world.wire(f.tcpPacket({ ...asks, seq: 100, ack: 0, flags: 1, payload: new Array(50).fill(7) }));
      world.wire(f.tcpPacket({ ...asks, flags: 4 }));
      same(
        world.run(),
        f.tcpPacket({ ...reset, seq: 0, ack: 0, flags: 0x14 }),
        f.tcpPacket({ ...reset, seq: 0xfedc_ba98, ack: 0, flags: 4 }),
        f.tcpPacket({ ...reset, seq: 0, ack: 151, flags: 0x14 }),
      );
      expect(world.drops()).toEqual({ other_host: 1 });
    });

    test("UDP is answered with an error; what is open, and the kernel's, is not refused", () => {
      const [closed, open] = [f.udpPacket(asks), f.udpPacket({ ...asks, dport: 80 })];
      world.wire(closed);
      world.wire(open);
      const kernels = f.udpPacket({ src: them, dst: own === OWN ? f.US : f.US6, dport: 81 });
      world.wire(kernels);
      same(world.run(), error(closed));
      same(b.receive(), open);
      same(world.tap.receive(), kernels);
    });

    test("UDP-Lite is as UDP; of SCTP and DCCP there is none", () => {
      const six = them.includes(":");
      const l4 = f.concat(f.u16(4000, 81, 0, 0), new Uint8Array(20));
      for (const [protocol, type, code, pointer] of [
        [136, ...(six ? [1, 4] : [3, 3]), 0],
        [132, ...(six ? [4, 1] : [3, 2]), six ? 6 : 0],
        [33, ...(six ? [4, 1] : [3, 2]), six ? 6 : 0],
      ] as number[][]) {
        const frame = f.packet({ ...asks, protocol: protocol!, l4 });
        world.wire(frame);
        const told = f.icmp(type!, code!, f.concat([0, 0, 0, pointer!], frame.slice(14)), {
          src: own,
          dst: them,
        });
        same(world.run(), f.icmpPacket(told, { ...back, id: 0 }));
      }
    });

    test("this host's kernel is told so too", () => {
      const us = own === OWN ? f.US : f.US6;
      world.tap.send(f.tcpPacket({ ...asks, src: us, srcMac: f.CARD, flags: 2, ack: 0, payload: [] }));
      same(world.run());
      const answer = { ...reset, dst: us, dstMac: f.CARD, seq: 0, ack: 2, flags: 0x14 };
      same(world.tap.receive(), f.tcpPacket(answer));
    });

    test("so many a second and no more, and none with the firewall on", () => {
      const scan = (n: number) => {
        let answers = 0;
        for (let i = 0; i < n; i++) {
          world.wire(f.udpPacket({ ...asks, sport: i + 1 }));
          if (i % 64 === 63 || i === n - 1) answers += world.run().length;
        }
        return answers;
      };
      expect(scan(REFUSALS_A_SECOND + 100)).toBe(REFUSALS_A_SECOND);
      world.tick(1000);
      expect(scan(1)).toBe(1);
      expect(world.close()).toBe(0);
      start({ firewall: true });
      expect(scan(1)).toBe(0);
      expect(world.drops()).toEqual({ no_match: 1 });
    });
  });
});

describe("from a client", () => {
  const sent = (l4: f.L4 & f.Spec = {}) =>
    f.udpPacket({ src: f.US, sport: 5000, dst: f.THEM, dport: 9, srcMac: f.CARD, dstMac: f.PEER, ...l4 });

  test("what is from its own address and port goes out as it is", () => {
    const frames = [sent(), sent({ src: f.US6, dst: f.THEM6 })];
    for (const frame of frames) a.send(frame);
    same(world.run(), ...frames);
    expect(a.counts()).toMatchObject({ fromPackets: 2 });
  });

  test("the first packet of a flow claims its answers before it leaves", () => {
    const frame = sent({ sport: 40000 });
    a.send(frame);
    expect(world.sim.loop.turn() + world.switch.turn()).toBe(1);
    same(world.sim.link.sent()); // it waits
    expect(world.claims.serve()).toBe(1);
    same(world.run(), frame);
    const answer = f.udpPacket({ sport: 9, dport: 40000 });
    world.wire(answer);
    world.run();
    same(a.receive(), answer);
    b.send(sent({ sport: 40000, srcMac: OWN_MAC }));
    same(world.run());
    expect(b.counts()).toMatchObject({ not_owner: 1 });
  });

  test("echo of either family claims its identifier", () => {
    for (const [src, dst, type] of [
      [f.US, f.THEM, 8],
      [f.US6, f.THEM6, 128],
    ] as const) {
      const request = f.icmpPacket(f.echo(type, 0x1234, { src, dst }), {
        src,
        dst,
        srcMac: f.CARD,
        dstMac: f.PEER,
      });
      a.send(request);
      same(world.run(), request);
      const ends = { src: dst, dst: src };
      const reply = f.icmpPacket(f.echo(type === 8 ? 0 : 129, 0x1234, ends), ends);
      world.wire(reply);
      world.run();
      same(a.receive(), reply);
    }
  });

  test("a claim that is refused drops its frames", () => {
    world.close();
    start({ refuses: (match) => match.dport === 22 });
    a.send(sent({ sport: 22 }));
    a.send(sent({ sport: 23 }));
    same(world.run(), sent({ sport: 23 }));
    expect(a.counts()).toMatchObject({ claim_refused: 1 });
  });

  test("not what another has, nor from another link-layer address, nor what is cut off", () => {
    b.send(sent({ srcMac: OWN_MAC })); // a's port
    a.send(sent({ srcMac: OWN_MAC }));
    a.send(sent().slice(0, 40));
    a.send(sent().slice(0, 20));
    a.send(f.ether(f.PEER, f.CARD, 0x888e, new Uint8Array(46)));
    a.send(
      f.packet({
        src: f.US,
        dst: f.THEM,
        protocol: 47,
        l4: new Uint8Array(20),
        srcMac: f.CARD,
        dstMac: f.PEER,
      }),
    );
    same(world.run());
    expect(b.counts()).toMatchObject({ not_owner: 1 });
    expect(a.counts()).toMatchObject({ bad_mac: 1, bad_header: 1, runt: 1, not_carried: 1, not_owner: 1 });
  });

  test("a match for any address is no leave to send from any", () => {
    const any = { family: 2, protocol: f.UDP, dst: new Int32Array(4), dstPrefix: 0, dport: 7777 } as const;
    const more = { src: new Int32Array(4), srcPrefix: 0, sport: -1 };
    expect(world.table.add({ ...any, ...more }, a.slot, "match")).toBeGreaterThan(0);
    a.send(sent({ sport: 7777, src: "10.77.0.9" }));
    a.send(sent({ sport: 7777 }));
    same(world.run(), sent({ sport: 7777 }));
    const error = (src: string) => {
      const quoted = f.udpPacket({ src: f.THEM, dst: src, dport: 7777 }).slice(14, 42);
      const l4 = f.icmp(3, 3, f.concat([0, 0, 0, 0], quoted));
      return f.icmpPacket(l4, { src, dst: f.THEM, srcMac: f.CARD, dstMac: f.PEER });
    };
    a.send(error("10.77.0.9"));
    a.send(error(f.US));
    same(world.run(), error(f.US));
    expect(a.counts()).toMatchObject({ not_owner: 2 });
  });

  test("a match for any address is about this host's: what goes elsewhere goes there", () => {
    for (const [family, host, other] of [
      [2, f.US, f.THEM],
      [10, f.US6, f.THEM6],
    ] as const) {
      const any = { family, protocol: f.UDP, dst: new Int32Array(4), dstPrefix: 0, dport: 7777 } as const;
      const more = { src: new Int32Array(4), srcPrefix: 0, sport: -1 };
      expect(world.table.add({ ...any, ...more }, b.slot, "match")).toBeGreaterThan(0);
      const routed = { src: host, sport: 5000, dport: 7777, srcMac: f.CARD, dstMac: f.CARD };
      a.send(f.udpPacket({ ...routed, dst: other }));
      expect(world.run().length).toBe(1);
      same(b.receive());
      a.send(f.udpPacket({ ...routed, dst: host }));
      expect(world.run().length).toBe(0);
      expect(b.receive().length).toBe(1);
      // What others send by this host is the kernel's to route.
      const passing = { src: other, dport: 7777, dstMac: f.CARD };
      const beyond = f.udpPacket({ ...passing, dst: family === 2 ? "10.77.0.99" : "fd77::99" });
      world.wire(beyond);
      world.wire(f.udpPacket({ ...passing, dst: host }));
      world.run();
      same(world.tap.receive(), beyond);
      expect(b.receive().length).toBe(1);
      // A stack of its own, whose address the kernel does not know.
      const far = family === 2 ? "10.9.9.9" : "fd99::9";
      for (const dstMac of [f.CARD, OWN_MAC]) {
        world.wire(f.udpPacket({ ...passing, dst: far, dstMac }));
        world.run();
        expect(b.receive().length).toBe(1);
      }
    }
  });

  test("a packet longer than the MTU is answered with how long it may be", () => {
    const long = sent({ payload: new Array(1500).fill(5) });
    a.send(long);
    same(world.run());
    const ends = { src: ALIAS4, dst: f.US };
    const quoted = long.slice(14, 14 + 548);
    same(
      a.receive(),
      f.icmpPacket(f.icmp(3, 4, f.concat(f.u16(0, 1500), quoted)), { ...ends, id: 0, srcMac: f.PEER }),
    );
    const long6 = sent({ src: f.US6, dst: f.THEM6, payload: new Array(1500).fill(5) });
    a.send(long6);
    same(world.run());
    const ends6 = { src: ALIAS6, dst: f.US6 };
    const body = f.icmp(2, 0, f.concat([0, 0], f.u16(1500), long6.slice(14, 14 + 1232)), ends6);
    same(a.receive(), f.icmpPacket(body, { ...ends6, srcMac: f.PEER }));
    expect(a.counts()).toMatchObject({ mtu: 2 });
    a.send(f.concat(long.slice(0, 1514), new Array(10000).fill(5))); // longer than a frame's memory
    world.run();
    expect(a.receive().length).toBe(1);
  });

  test("an ICMP error is let through if it is about what the client got", () => {
    const got = f.udpPacket().slice(14, 42);
    const error = (quoted: Uint8Array, dst = f.THEM) =>
      f.icmpPacket(f.icmp(3, 3, f.concat([0, 0, 0, 0], quoted)), {
        src: f.US,
        dst,
        srcMac: f.CARD,
        dstMac: f.PEER,
      });
    a.send(error(got));
    a.send(error(got, "10.77.0.9"));
    a.send(error(f.udpPacket({ dport: 22 }).slice(14, 42)));
    same(world.run(), error(got));
    expect(a.counts()).toMatchObject({ not_owner: 2 });
  });

  test("a burst of flows at once: the first packet of each waits for its claim, and none is lost", () => {
    world.close();
    start({ perClient: HELD_EACH });
    const frames = Array.from({ length: HELD_EACH }, (_, i) =>
      f.udpPacket({ src: OWN, sport: 20_000 + i, dst: f.THEM, dport: 53, srcMac: OWN_MAC, dstMac: f.PEER }),
    );
    for (const frame of frames) b.send(frame);
    same(world.run(), ...frames);
    expect(b.counts()).toEqual({ fromPackets: HELD_EACH, fromBytes: HELD_EACH * frames[0]!.length });
  });

  test("fragments follow their first one, even if that waits for a claim", () => {
    const l4 = f.udp({ src: f.US, sport: 41000, dst: f.THEM, dport: 9, payload: new Array(40).fill(1) });
    const ends = { src: f.US, dst: f.THEM, srcMac: f.CARD, dstMac: f.PEER };
    const frames = [
      f.packet({ ...ends, id: 3, fragment: 0x2000, l4: l4.slice(0, 24) }),
      f.packet({ ...ends, id: 3, fragment: 0x0003, l4: l4.slice(24) }),
    ];
    for (const frame of frames) a.send(frame);
    same(world.run(), ...frames);
    b.send(f.packet({ ...ends, srcMac: OWN_MAC, id: 3, fragment: 0x0003, l4: l4.slice(24) })); // another's
    world.run();
    world.tick(1000);
    expect(b.counts()).toMatchObject({ bad_fragment: 1 });
  });

  test("weakness: one flooding endpoint starves the rest: it waits with its own frames, the others are served in turn", () => {
    for (let i = 0; i < 100; i++) a.send(sent({ payload: [i] }));
    const its = f.udpPacket({ src: OWN, sport: 80, dst: f.THEM, dport: 9, srcMac: OWN_MAC, dstMac: f.PEER });
    b.send(its);
    world.switch.turn();
    expect(world.sim.link.sent().map(f.hex)).toContain(f.hex(its));
    world.run();
  });

  test("a rate holds, and nothing is lost but time", () => {
    const c = world.attach({ ratePps: 1000 });
    world.match(c, f.UDP, f.US, 6000);
    world.tick(1000);
    for (let i = 0; i < 200; i++) c.send(sent({ sport: 6000, payload: [i] }));
    let out = 0;
    for (let i = 0; i < 50; i++) {
      world.switch.turn();
      out += world.sim.link.sent().length;
    }
    expect(out).toBe(100); // a tenth of a second's
    world.tick(50);
    for (let i = 0; i < 50; i++) {
      world.switch.turn();
      out += world.sim.link.sent().length;
    }
    expect(out).toBe(150);
  });

  test("a rate begins anew with each client, whatever the one before in its place had sent", () => {
    const rate = 1000;
    expect(world.close()).toBe(0);
    start({ room: Math.ceil(OwnRing.bytes(9) / 4096) * 4096 });
    const row = { fd: -1, mac: parseLladdr(f.CARD)!, mtu: 1500, flags: 0, home: 0, pid: 1, uid: 0, gid: 0 };
    const slot = world.table.addClient({ ...row, ratePps: rate });
    const { memory, place } = world.sim.link;
    const ring = new OwnRing(memory, place.from, 9, slot);
    const ports = new PortWriter(world.ports);
    const port = ports.add(ring.place);
    world.tick(1000);
    for (let i = 0; i < 512; i++) ring.send(new Uint8Array(0)); // no frames, and yet they count
    world.run();
    ports.remove(port);
    world.table.removeClient(slot);
    world.table.freeClient(slot);
    const next = world.attach({ ratePps: rate });
    expect(next.slot).toBe(slot);
    world.match(next, f.UDP, f.US, 6000);
    const frames = Array.from({ length: 8 }, (_, i) => sent({ sport: 6000, payload: [i] }));
    for (const frame of frames) next.send(frame);
    same(world.run(), ...frames);
  });

  test("a full channel is its client's loss alone, and a closed one is told to control", () => {
    const c = world.attach({ sndbuf: 4608 });
    world.match(c, f.UDP, f.US, 6000);
    for (let i = 0; i < 60; i++)
      world.wire(f.udpPacket({ dport: i % 2 ? 6000 : 5000, payload: new Array(500).fill(i) }));
    world.run();
    expect(a.receive().length).toBe(30);
    const got = c.receive().length;
    expect(got).toBeGreaterThan(0);
    expect(c.counts()).toMatchObject({ toPackets: got, channel_full: 30 - got });
    c.close();
    world.wire(f.udpPacket({ dport: 6000 }));
    world.run();
    expect(world.gone).toEqual([c.slot]);
    expect(c.counts()).toMatchObject({ client_gone: 1 });
  });

  test("a full transmit ring drops and counts, and no frame is lost", () => {
    world.sim.link.tx.put(new Int32Array(256), new Int32Array(256), 250);
    for (let i = 0; i < 20; i++) a.send(sent({ payload: [i] }));
    world.switch.turn();
    expect(a.counts()).toMatchObject({ tx_full: 14 });
    const off = new Int32Array(256);
    world.sim.link.tx.take(off, new Int32Array(256), 250);
    world.sim.link.sent();
  });
});

describe("a client's ARP and neighbour discovery", () => {
  test("is answered from the netbase", () => {
    a.send(f.arp({ tpa: f.THEM }));
    a.send(f.nd(135, { target: f.THEM6, lladdr: f.CARD }));
    same(world.run());
    same(
      a.receive(),
      f.arp({ op: 2, sha: f.PEER, spa: f.THEM, tha: f.CARD, tpa: f.US, dstMac: f.CARD }),
      f.nd(136, {
        src: f.THEM6,
        dst: f.US6,
        target: f.THEM6,
        lladdr: f.PEER,
        flags: 0xe0,
        srcMac: f.PEER,
        dstMac: f.CARD,
      }),
    );
  });

  test("waits for a neighbour that is asked for, and is answered when it is known", () => {
    a.send(f.arp({ tpa: "10.77.0.3" }));
    a.send(f.nd(135, { target: "fd77::3", lladdr: f.CARD }));
    world.run();
    same(a.receive());
    expect(world.sim.solicits.length).toBe(2);
    world.sim.neigh("10.77.0.3", "02:00:00:00:00:03");
    world.sim.neigh6("fd77::3", "02:00:00:00:00:03");
    world.tick(10);
    expect(a.receive().length).toBe(2);
    a.send(f.arp({ tpa: "10.77.0.4" }));
    world.run();
    world.tick(5000);
    same(a.receive());
    expect(a.counts()).toMatchObject({ no_neighbour: 1 });
  });

  test("about this host and its other clients is answered too", () => {
    const tell = (client: TestClient, tpa: string, own: string, spa: string) => {
      client.send(f.arp({ sha: own, spa, tpa }));
      same(world.run());
      return client.receive().map((frame) => f.hex(frame.slice(22, 28)));
    };
    const mac = (text: string) => [text.replaceAll(":", "")];
    expect(tell(b, f.US, OWN_MAC, OWN)).toEqual(mac(f.CARD));
    expect(tell(a, OWN, f.CARD, f.US)).toEqual(mac(OWN_MAC));
    expect(tell(a, ALIAS4, f.CARD, f.US)).toEqual(mac(f.CARD));
    expect(tell(a, f.US, f.CARD, f.US)).toEqual([]); // announces what is the host's already
    expect(tell(a, f.US, f.CARD, "0.0.0.0")).toEqual([]); // and looks for it
  });

  test("goes out only where it tells what the client alone has", () => {
    const mine = [
      f.arp({ sha: OWN_MAC, spa: OWN, tpa: OWN }),
      f.arp({ sha: OWN_MAC, spa: "0.0.0.0", tpa: OWN }),
      f.arp({ op: 2, sha: OWN_MAC, spa: OWN, tha: f.PEER, tpa: f.THEM, dstMac: f.PEER }),
      f.arp({ sha: OWN_MAC, spa: OWN, tpa: "10.99.0.1" }), // of a subnet that the kernel does not know
      f.nd(136, {
        src: OWN6,
        dst: "ff02::1",
        target: OWN6,
        lladdr: OWN_MAC,
        flags: 0x20,
        srcMac: OWN_MAC,
        dstMac: "33:33:00:00:00:01",
      }),
      f.nd(135, { src: "::", target: OWN6, srcMac: OWN_MAC }),
    ];
    for (const frame of mine) b.send(frame);
    same(world.run(), ...mine);
    same(b.receive());
    const lies = [
      f.arp({ op: 2, spa: f.US, tpa: f.THEM }),
      f.arp({ op: 2, spa: OWN, tpa: f.THEM }),
      f.arp({ spa: OWN, tpa: f.THEM }),
      f.arp({ spa: f.THEM, tpa: f.THEM }),
      f.arp({ sha: OWN_MAC, srcMac: f.CARD, tpa: f.THEM }),
      f.arp({ tpa: f.THEM }).slice(0, 41),
      f.nd(136, { src: OWN6, dst: "ff02::1", target: OWN6, lladdr: f.CARD }),
      f.nd(136, { src: f.US6, dst: "ff02::1", target: f.US6, lladdr: f.CARD }),
      f.nd(135, { target: f.THEM6, lladdr: f.PEER }),
      f.nd(135, { src: OWN6, target: f.THEM6, lladdr: f.CARD }),
      f.packet({
        ...{ src: f.US6, dst: f.THEM6, srcMac: f.CARD, ttl: 255 }, // in a fragment: RFC 6980
        extensions: { first: 44, bytes: f.concat([f.ICMPV6, 0], f.u16(1), [0, 0, 0, 1]) },
        l4: f.nd(136, { dst: f.THEM6, target: f.US6, lladdr: f.CARD }).slice(54),
      }),
      f.icmpPacket(f.icmp(134, 0, new Uint8Array(12), { src: f.US6, dst: "ff02::1" }), {
        src: f.US6,
        dst: "ff02::1",
        srcMac: f.CARD,
        ttl: 255,
      }),
    ];
    for (const frame of lies) a.send(frame);
    same(world.run());
    same(a.receive());
    expect(a.counts()).toMatchObject({ bad_arp: lies.length });
  });
});

describe("on this host", () => {
  test("clients reach each other", () => {
    const there = f.udpPacket({
      src: f.US,
      sport: 5000,
      dst: OWN,
      dport: 80,
      srcMac: f.CARD,
      dstMac: OWN_MAC,
    });
    a.send(there);
    same(world.run());
    same(b.receive(), there);
    const back = f.udpPacket({
      src: OWN,
      sport: 80,
      dst: f.US,
      dport: 5000,
      srcMac: OWN_MAC,
      dstMac: f.CARD,
    });
    b.send(back);
    same(world.run());
    same(a.receive(), back);
  });

  test("where both have one address each sees the other as the alias", () => {
    const c = world.attach();
    world.match(c, f.TCP, f.US, 8080);
    const card = { srcMac: f.CARD, dstMac: f.CARD };
    c.send(f.tcpPacket({ src: f.US, sport: 8080, dst: ALIAS4, dport: 45000, ...card })); // nobody there: the kernel's
    world.run();
    expect(world.tap.receive().length).toBe(1);
    a.send(f.tcpPacket({ src: f.US, sport: 45000, dst: ALIAS4, dport: 8080, ...card }));
    same(world.run());
    same(c.receive(), f.tcpPacket({ src: ALIAS4, sport: 45000, dst: f.US, dport: 8080, ...card }));
    c.send(f.tcpPacket({ src: f.US, sport: 8080, dst: ALIAS4, dport: 45000, ...card }));
    same(world.run());
    same(a.receive(), f.tcpPacket({ src: ALIAS4, sport: 8080, dst: f.US, dport: 45000, ...card }));
  });

  test.each([
    [f.US, ALIAS4],
    [f.US6, ALIAS6],
  ])("a client and the kernel, both %s, reach each other", (us, alias) => {
    const lo = { srcMac: "00:00:00:00:00:00", dstMac: "00:00:00:00:00:00" };
    for (const make of [f.udpPacket, f.tcpPacket]) {
      world.tap.send(make({ src: us, sport: 33000, dst: us, dport: 5000, ...lo }));
      world.run();
      same(
        a.receive(),
        make({ src: alias, sport: 33000, dst: us, dport: 5000, srcMac: f.CARD, dstMac: f.CARD }),
      );
      a.send(make({ src: us, sport: 5000, dst: alias, dport: 33000, srcMac: f.CARD, dstMac: f.PEER }));
      same(world.run());
      same(
        world.tap.receive(),
        make({ src: us, sport: 5000, dst: us, dport: 33000, srcMac: f.CARD, dstMac: TAP_LLADDR }),
      );
    }
  });

  test("an error about what a client sent to the alias says the alias", () => {
    a.send(f.udpPacket({ src: f.US, sport: 5000, dst: ALIAS4, dport: 9, srcMac: f.CARD, dstMac: f.CARD }));
    world.run();
    const [got] = world.tap.receive();
    const error = f.icmpPacket(f.icmp(3, 3, f.concat([0, 0, 0, 0], got!.slice(14, 42))), {
      src: f.US,
      dst: f.US,
    });
    world.tap.send(error);
    world.run();
    const quoted = f.udpPacket({ src: f.US, sport: 5000, dst: ALIAS4, dport: 9 }).slice(14, 42);
    quoted.set(got!.slice(40, 42), 26); // the quoted UDP checksum is what went to the kernel
    const ends = { src: ALIAS4, dst: f.US };
    same(
      a.receive(),
      f.icmpPacket(f.icmp(3, 3, f.concat([0, 0, 0, 0], quoted)), { ...ends, srcMac: f.CARD }),
    );
  });

  describe.each([
    [f.US, ALIAS4, OWN, 3, 3],
    [f.US6, ALIAS6, OWN6, 1, 4],
  ] as const)("a client's error, from %s", (us, alias, own, type, code) => {
    test("about what the kernel sent reaches it, under the address that the kernel knows", () => {
      const asked = { src: us, dst: us, sport: 33000, dport: 5000, dstMac: f.CARD };
      world.tap.send(f.udpPacket(asked));
      world.run();
      const [got] = a.receive();
      const error = f.icmp(type, code, f.concat([0, 0, 0, 0], got!.slice(14)), { src: us, dst: alias });
      a.send(f.icmpPacket(error, { src: us, dst: alias, srcMac: f.CARD, dstMac: f.CARD }));
      same(world.run());
      const [told] = world.tap.receive();
      const quoted = told!.slice(-(got!.length - 14));
      const original = f.udpPacket(asked).slice(14);
      const sum = original.length - 3 - 2; // of UDP, before three bytes: what the client got
      quoted.set(original.slice(sum, sum + 2), sum);
      expect(f.hex(quoted)).toBe(f.hex(original));
      const l4 = told!.slice(14 + (us === f.US ? 20 : 40));
      const right = f.icmp(type, code, l4.slice(4), { src: us, dst: us });
      expect(f.hex(l4)).toBe(f.hex(right));
      expect(f.hex(told)).toBe(
        f.hex(f.icmpPacket(right, { src: us, dst: us, srcMac: f.CARD, dstMac: TAP_LLADDR })),
      );
    });

    test("about what another client of the same address sent reaches that one, which knows it by the alias", () => {
      const c = world.attach();
      world.match(c, f.UDP, us, 6000);
      const card = { srcMac: f.CARD, dstMac: f.CARD };
      const asked = f.udpPacket({ src: us, sport: 5000, dst: alias, dport: 6000, ...card });
      a.send(asked);
      world.run();
      const [got] = c.receive();
      const error = f.icmp(type, code, f.concat([0, 0, 0, 0], got!.slice(14)), { src: us, dst: alias });
      c.send(f.icmpPacket(error, { src: us, dst: alias, ...card }));
      same(world.run());
      const [told] = a.receive();
      const quoted = asked.slice(14);
      quoted.set(got!.slice(-5, -3), quoted.length - 5); // of UDP, before three bytes: as it came
      const right = f.icmp(type, code, f.concat([0, 0, 0, 0], quoted), { src: alias, dst: us });
      expect(f.hex(told)).toBe(f.hex(f.icmpPacket(right, { src: alias, dst: us, ...card })));
      same(world.tap.receive());
    });

    test("about what another client sent reaches that one, whoever takes ICMP there", () => {
      const c = world.attach();
      world.match(c, us === f.US ? f.ICMP : f.ICMPV6, own);
      const ends = { src: own, sport: 80, dst: us, dport: 5000 };
      b.send(f.udpPacket({ ...ends, srcMac: OWN_MAC, dstMac: f.CARD }));
      world.run();
      expect(a.receive()).toHaveLength(1);
      const back = { src: us, dst: own, srcMac: f.CARD, dstMac: OWN_MAC };
      const quoted = f.concat([0, 0, 0, 0], f.udpPacket(ends).slice(14));
      const error = f.icmpPacket(f.icmp(type, code, quoted, back), back);
      a.send(error);
      same(world.run());
      same(b.receive(), error);
      same(c.receive());
    });
  });

  test("a burst to a neighbour that is asked for waits, and goes out in its order; others have room beside it", () => {
    world.close();
    start({ frames: 2048 });
    const to = (dst: string, id: number) =>
      f.udpPacket({ src: OWN, sport: 80, dst, dport: 9, payload: [id], srcMac: OWN_MAC, dstMac: f.CARD });
    const burst = (dst: string, n: number) => {
      for (let id = 0; id < n; id++) {
        b.send(to(dst, id));
        same(world.run());
      }
    };
    const ids = (frames: Uint8Array[]) => frames.map((frame) => frame.at(-1)!);
    const upTo = (n: number) => [...Array(n).keys()];
    burst("10.77.0.3", DESTINATION + 4);
    expect(b.counts()).toMatchObject({ no_neighbour: 4 });
    burst("10.77.0.4", 10);
    world.tick(1);
    same(world.run());
    world.sim.neigh("10.77.0.3", "02:00:00:00:00:03");
    world.tick(1);
    expect(ids(world.run())).toEqual(upTo(DESTINATION));
    // What no neighbour answers for is tried rarely after a while, and in vain after three seconds.
    world.tick(100);
    world.sim.neigh("10.77.0.4", "02:00:00:00:00:04");
    for (let i = 0; i < 16; i++) world.tick(1);
    expect(ids(world.run())).toEqual(upTo(10));
    burst("10.77.0.5", EACH);
    burst("10.77.0.6", EACH);
    expect(b.counts()).toMatchObject({ no_neighbour: 4 + 2 * EACH - EACH });
    world.tick(5000);
    same(world.run());
    expect(b.counts()).toMatchObject({ no_neighbour: 4 + 2 * EACH });
    burst("10.77.0.5", 1); // and there is room again
    expect(b.counts()).toMatchObject({ no_neighbour: 4 + 2 * EACH });
  });

  test("a client with its own address and the kernel reach each other", () => {
    const there = { src: OWN, sport: 80, dst: f.US, dport: 33000, srcMac: OWN_MAC };
    b.send(f.udpPacket({ ...there, dstMac: f.CARD }));
    same(world.run());
    same(world.tap.receive(), f.udpPacket({ ...there, dstMac: TAP_LLADDR }));
    const back = { src: f.US, sport: 33000, dst: OWN, dport: 80, dstMac: OWN_MAC };
    world.tap.send(f.udpPacket({ ...back, srcMac: f.CARD }));
    world.run();
    same(b.receive(), f.udpPacket({ ...back, srcMac: f.CARD }));
    world.tap.send(f.arp({ sha: f.CARD, spa: f.US, tpa: OWN }));
    same(world.run());
    same(
      world.tap.receive(),
      f.arp({ op: 2, sha: OWN_MAC, spa: OWN, tha: f.CARD, tpa: f.US, dstMac: f.CARD }),
    );
  });

  test("the kernel is told how long a packet to a client may be", () => {
    for (const [us, alias] of [
      [f.US, ALIAS4],
      [f.US6, ALIAS6],
    ] as const)
      for (const bytes of [1600, 9000]) {
        const long = f.udpPacket({
          src: us,
          sport: 33000,
          dst: us,
          dport: 5000,
          payload: new Array(bytes).fill(3),
        });
        world.tap.send(long);
        same(world.run());
        same(a.receive());
        const ends = { src: alias, dst: us };
        const body =
          us === f.US
            ? f.icmp(3, 4, f.concat(f.u16(0, 1500), long.slice(14, 14 + 548)), ends)
            : f.icmp(2, 0, f.concat([0, 0], f.u16(1500), long.slice(14, 14 + 1232)), ends);
        same(world.tap.receive(), f.icmpPacket(body, { ...ends, id: 0, srcMac: f.CARD, dstMac: TAP_LLADDR }));
      }
    expect(world.drops()).toEqual({ mtu: 4 });
  });

  test("nobody else can be the alias", () => {
    world.wire(f.udpPacket({ src: ALIAS4 }));
    world.wire(f.udpPacket({ src: ALIAS6, dst: f.US6 }));
    a.send(f.udpPacket({ src: ALIAS4, dst: OWN, dport: 80, srcMac: f.CARD, dstMac: OWN_MAC }));
    same(world.run());
    same(a.receive());
    same(b.receive());
    expect(world.drops()).toEqual({ bad_source: 2, not_owner: 1 });
  });

  test("what the kernel sends that is nobody's is dropped, not given back", () => {
    world.tap.send(f.udpPacket({ src: f.US, dst: f.US, dport: 1 }));
    same(world.run());
    same(world.tap.receive());
    expect(world.drops()).toEqual({ no_match: 1 });
  });

  test.each([
    [f.US, OWN, OWN_MAC],
    [f.US6, OWN6, OWN_MAC],
    [f.US, "10.77.0.60", f.CARD],
  ])("a client, %s, is answered for another's address, %s at %s: echo, closed ports", (us, own, mac) => {
    const c = world.attach();
    world.match(c, f.UDP, "10.77.0.60", 80);
    world.owned(c, "10.77.0.60");
    const ends = { src: us, dst: own, srcMac: f.CARD, dstMac: mac };
    const back = { src: own, dst: us, srcMac: mac, dstMac: f.CARD };
    const six = us === f.US6;
    a.send(f.icmpPacket(f.echo(six ? 128 : 8, 77, ends), ends));
    same(world.run());
    same(a.receive(), f.icmpPacket(f.echo(six ? 129 : 0, 77, back), back));
    const syn = { ...ends, sport: 5000, dport: 81, ack: 0, flags: 2, payload: [] };
    a.send(f.tcpPacket(syn));
    same(world.run());
    const reset = { ...back, sport: 81, dport: 5000, seq: 0, ack: 2, flags: 0x14, window: 0, payload: [] };
    same(a.receive(), f.tcpPacket({ ...reset, id: 0, fragment: 0x4000 }));
    const udp = f.udpPacket({ ...ends, sport: 5000, dport: 81 });
    a.send(udp);
    same(world.run());
    const told = f.icmp(six ? 1 : 3, six ? 4 : 3, f.concat([0, 0, 0, 0], udp.slice(14)), back);
    same(a.receive(), f.icmpPacket(told, { ...back, id: 0 }));
    for (const other of [b, c]) same(other.receive());
    same(world.tap.receive());
  });

  test("a client's packet to a group reaches the others of the group, the wire, and the kernel", () => {
    for (const client of [a, b]) world.group(client, f.UDP, "224.0.0.251", 5353);
    for (const client of [a, b]) world.group(client, f.UDP, "10.77.0.255", 137);
    world.match(a, f.UDP, f.US, 5353);
    world.match(b, f.UDP, OWN, 5353);
    const make = (ends: f.L4 & f.Spec) => f.udpPacket({ sport: 5353, ...ends });
    const multicast = { dst: "224.0.0.251", dport: 5353 };
    const broadcast = { dst: "10.77.0.255", dport: 137 };
    const everywhere = { dst: "255.255.255.255", dport: 9 };
    const many = { dstMac: "01:00:5e:00:00:fb" };
    const all = { dstMac: "ff:ff:ff:ff:ff:ff" };
    const from = { a: { src: f.US, srcMac: f.CARD }, b: { src: OWN, srcMac: OWN_MAC } };
    for (const [ends, mac] of [
      [multicast, many],
      [broadcast, all],
      [everywhere, all],
    ] as const)
      for (const [client, other, source] of [
        [a, b, from.a],
        [b, a, from.b],
      ] as const) {
        const frame = make({ ...ends, ...mac, ...source });
        client.send(frame);
        same(world.run(), frame);
        same(other.receive(), ...(ends === everywhere ? [] : [frame]));
        same(client.receive());
        // From its own address the kernel takes no multicast, and a broadcast by the tap.
        const told = make({ ...ends, ...source, dstMac: client === a ? TAP_LLADDR : f.CARD });
        same(world.tap.receive(), ...(client === a && ends === multicast ? [] : [told]));
      }
    // What the kernel has no room for is counted for the client and in all.
    for (let tries = 0; (b.counts()["kernel_full"] ?? 0) === 0 && tries < 10_000; tries++) {
      b.send(make({ ...multicast, ...many, ...from.b }));
      world.run();
      a.receive();
    }
    expect(b.counts()).toMatchObject({ kernel_full: 1 });
    expect(world.drops()).toMatchObject({ kernel_full: 1 });
    world.tap.receive();
    // Sent to the card, which routes no broadcast, and says nothing of one.
    const routed = make({ ...broadcast, ...from.b, dstMac: f.CARD });
    b.send(routed);
    same(world.run());
    same(a.receive(), routed);
    same(b.receive());
    same(world.tap.receive(), routed);
    expect(world.close()).toBe(0);
    start({ firewall: true });
    world.match(b, f.UDP, OWN, 5353);
    const frame = make({ ...multicast, ...many, ...from.b });
    b.send(frame);
    same(world.run(), frame);
    same(world.tap.receive());
  });
});

describe("usnetd's weaknesses", () => {
  test("weakness: one frame with the gateway's source MAC poisons the bridge for good", () => {
    const mine = { src: f.US, sport: 5000, dst: f.THEM, dport: 4000, srcMac: f.CARD, dstMac: f.PEER };
    a.send(f.udpPacket({ ...mine, srcMac: f.PEER })); // a client as the gateway
    world.wire(f.udpPacket({ dport: 5001, srcMac: f.CARD })); // the wire as the card
    world.wire(f.udpPacket({ dport: 5001, srcMac: OWN_MAC })); // and as a client
    same(world.run());
    expect(a.counts()).toMatchObject({ bad_mac: 1 });
    const [out, inwards, other] = [
      f.udpPacket(mine),
      f.udpPacket(),
      f.udpPacket({ dst: OWN, dport: 80, dstMac: OWN_MAC }),
    ];
    a.send(out);
    world.wire(inwards);
    world.wire(other);
    same(world.run(), out);
    same(a.receive(), inwards);
    same(b.receive(), other);
  });

  test("weakness: there is no anti-spoofing of IP, port or ARP", () => {
    expect(world.close()).toBe(0);
    start({ refuses: ({ dst }) => dst[0] !== parseIPv4(f.US) }); // control knows whose addresses are whose
    const mine = { src: f.US, sport: 5000, dst: f.THEM, dport: 4000, srcMac: f.CARD, dstMac: f.PEER };
    for (const more of [{ src: OWN, sport: 80 }, { src: f.THEM }, { src: "10.77.0.99" }])
      a.send(f.udpPacket({ ...mine, ...more }));
    for (const claim of [
      { op: 2, sha: f.CARD, spa: OWN, tha: f.PEER, tpa: f.THEM }, // another client's address
      { op: 2, sha: f.CARD, spa: f.THEM, tha: f.PEER, tpa: "10.77.0.99" }, // the gateway's
      { op: 1, sha: f.PEER, spa: f.US, tpa: f.THEM, srcMac: f.CARD }, // another's link-layer address
    ])
      a.send(f.arp(claim));
    const stolen = f.udpPacket({ ...mine, src: f.US, sport: 80, srcMac: OWN_MAC });
    world.match(a, f.UDP, f.US, 80);
    b.send(stolen); // another's port of the address that all share
    same(world.run());
    expect(a.counts()["not_owner"]! + (a.counts()["claim_refused"] ?? 0)).toBe(3);
    expect(a.counts()).toMatchObject({ bad_arp: 3 });
    expect(b.counts()).toMatchObject({ not_owner: 1 });
    same(b.receive());
  });

  test("weakness: ARP leaks between interfaces, and to every endpoint", () => {
    world.wire(f.arp({ sha: f.PEER, spa: f.THEM, tpa: f.US }));
    world.wire(f.arp({ sha: f.PEER, spa: f.THEM, tpa: "10.77.0.77" }));
    world.wire(f.arp({ op: 2, sha: f.PEER, spa: f.THEM, tha: f.CARD, tpa: f.US, dstMac: f.CARD }));
    same(world.run());
    same(a.receive());
    same(b.receive());
    b.send(f.arp({ sha: OWN_MAC, spa: OWN, tpa: f.THEM })); // answered from the netbase, not asked on the wire
    same(world.run());
    expect(b.receive().length).toBe(1);
    same(a.receive());
  });

  test("weakness: the MAC list grows without bound: nothing is learned from frames", () => {
    for (let n = 0; n < 20_000; n++) {
      const srcMac = [2, 1, 0, n >> 16, (n >> 8) & 255, n & 255].map((x) => x.toString(16).padStart(2, "0"));
      world.wire(f.udpPacket({ srcMac: srcMac.join(":"), dport: 5001 + (n & 1023) }));
      if (n % 128 === 127) world.run();
    }
    world.run();
    world.tap.receive();
    world.wire(f.udpPacket({ srcMac: "02:01:00:00:00:05" }));
    a.receive();
    const out = f.udpPacket({
      src: f.US,
      sport: 5000,
      dst: f.THEM,
      dport: 4000,
      srcMac: f.CARD,
      dstMac: f.PEER,
    });
    a.send(out);
    same(world.run(), out);
    expect(a.receive().length).toBe(1);
  });

  test("weakness: IPv6 is missing: both ways, and between clients", () => {
    const inwards = f.udpPacket({ src: f.THEM6, dst: f.US6 });
    const out = f.udpPacket({
      src: f.US6,
      sport: 5000,
      dst: f.THEM6,
      dport: 4000,
      srcMac: f.CARD,
      dstMac: f.PEER,
    });
    const across = { src: OWN6, sport: 80, dst: f.US6, dport: 5000, srcMac: OWN_MAC, dstMac: f.CARD };
    world.wire(inwards);
    a.send(out);
    b.send(f.udpPacket(across));
    same(world.run(), out);
    same(a.receive(), inwards, f.udpPacket(across));
  });
});
