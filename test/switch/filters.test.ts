// Filters and rules in clients' paths, in the switch of one net Worker without a kernel's network (world.ts): who gets what
// and who sends what, what is counted under which reason, and what the client hears of it.
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import * as f from "./packets.ts";
import { ALIAS4, type End, type TestClient, World } from "./world.ts";

setDefaultTimeout(60_000);

let world: World;
let a: TestClient;
const mac = { srcMac: f.CARD, dstMac: f.PEER };

function start(options: ConstructorParameters<typeof World>[0] = {}): void {
  world = new World(options);
  a = world.attach();
}
/** Begins anew with these rules. */
function withRules(...rules: string[]): void {
  world.close();
  start({ rules });
}
beforeEach(() => start());
afterEach(() => {
  expect(world.close()).toBe(0); // every frame is the link's again
});

const same = (got: Uint8Array[], ...wanted: Uint8Array[]) =>
  expect(got.map(f.hex)).toEqual(wanted.map(f.hex));
const from = (sport: number) => f.udpPacket({ src: f.THEM, sport, dst: f.US, dport: 5000 });
const to = (dport: number, sport = 5000, more: f.L4 & f.Spec = {}) =>
  f.udpPacket({ src: f.US, sport, dst: f.THEM, dport, ...mac, ...more });

describe("what a client gets", () => {
  test("passes its own filter, its match's, or is dropped and counted", () => {
    const entry = world.match(a, f.UDP, f.US, 5000);
    world.match(a, f.UDP, f.US, 5001);
    world.filter(a, "receive", "udp src portrange 1-99");
    world.filter(a, "receive", "udp src port 7 or udp src port 200", entry);
    const other = f.udpPacket({ src: f.THEM, sport: 8, dst: f.US, dport: 5001 });
    for (const frame of [from(7), from(8), from(200), other]) world.wire(frame);
    world.run();
    same(a.receive(), from(7), other);
    expect(world.judged(a, "receive")).toEqual([3, 1]);
    expect(world.judged(a, "receive", entry)).toEqual([1, 1]);
    expect(world.drops()).toEqual({ rx_filtered_client: 2 });
    expect(a.counts()).toMatchObject({ toPackets: 2, rx_filtered_client: 2 });
  });

  test("a filter takes another's place at once, interpreted and compiled, and goes again", () => {
    world.match(a, f.UDP, f.US, 5000);
    for (let round = 0; round < 40; round++) {
      const port = 1 + (round % 7);
      world.filter(a, "receive", `udp src port ${port}`);
      // The first of these is interpreted: a function is found, made and run once in three ticks.
      for (let turn = 0; turn < 5; turn++, world.tick(2)) {
        for (const frame of [from(port), from(port + 1)]) world.wire(frame);
        world.run();
        same(a.receive(), from(port));
      }
      expect(world.judged(a, "receive")).toEqual([5, 5]);
    }
    world.unfilter(a, "receive");
    world.wire(from(9));
    world.run();
    same(a.receive(), from(9));
  });

  test("ICMP errors about its packets are not its match's to refuse; its own filter sees them", () => {
    const entry = world.match(a, f.UDP, f.US, 5000);
    world.filter(a, "receive", "udp", entry);
    const quoted = f.udpPacket({ src: f.US, sport: 5000, dst: "10.9.9.9", dport: 1 }).slice(14, 42);
    const error = f.icmpPacket(f.icmp(3, 4, f.concat(f.u16(0, 1400), quoted)));
    world.wire(error);
    world.run();
    same(a.receive(), error);
    world.filter(a, "receive", "udp");
    world.wire(error);
    world.run();
    same(a.receive());
  });

  test("later fragments go where the first one went", () => {
    world.match(a, f.UDP, f.US, 5000);
    world.filter(a, "receive", "udp src port 7");
    const pieces = (id: number, sport: number) => {
      const l4 = f.udp({ src: f.THEM, sport, dst: f.US, dport: 5000, payload: new Array(40).fill(1) });
      return [
        f.packet({ id, fragment: 0x2000, l4: l4.slice(0, 24) }),
        f.packet({ id, fragment: 0x0003, l4: l4.slice(24) }),
      ];
    };
    for (const frame of [...pieces(1, 7), ...pieces(2, 8), ...pieces(3, 7).reverse()]) world.wire(frame);
    world.run();
    same(a.receive(), ...pieces(1, 7), ...pieces(3, 7));
    expect(world.drops()).toEqual({ rx_filtered_client: 1, bad_fragment: 1 });
  });

  test("members of a group have filters of their own, for all they get and for the group", () => {
    const GROUP = "224.0.0.9";
    const clients = Array.from({ length: 6 }, () => world.attach());
    const entries = clients.map((one) => world.group(one, f.UDP, GROUP, 520));
    for (const [i, one] of clients.entries())
      if (i > 0) world.filter(one, "receive", `udp src port ${i}`, i % 2 ? entries[i] : 0);
    const frame = f.udpPacket({ sport: 3, dst: GROUP, dport: 520, dstMac: "01:00:5e:00:00:09" });
    world.wire(frame);
    world.run();
    for (const [i, one] of clients.entries()) same(one.receive(), ...(i === 0 || i === 3 ? [frame] : []));
    expect(world.drops()).toEqual({ rx_filtered_client: 4 });
  });
});

describe("what a client sends", () => {
  test("passes its filter, its user's rules and everybody's, or is refused under the layer's name", () => {
    withRules("uid 0 deny out udp dst port 2", "uid 7 deny out", "deny out udp dst port 3");
    world.match(a, f.UDP, f.US, 5000);
    world.filter(a, "transmit", "not udp dst port 1");
    for (const port of [1, 2, 3, 4]) a.send(to(port));
    same(world.run(), to(4));
    expect(world.drops()).toEqual({ tx_filtered_client: 1, tx_filtered_user: 1, tx_filtered_system: 1 });
    expect(world.judged(a, "transmit")).toEqual([3, 1]);
  });

  test("is judged as it was sent, before it claims a flow, and once", () => {
    world.filter(a, "transmit", "udp dst port 9");
    for (const dport of [8, 9]) a.send(to(dport, 6000));
    same(world.run(), to(9, 6000));
    expect(world.claims.granted).toBe(1);
    expect(world.judged(a, "transmit")).toEqual([1, 1]);
    world.filter(a, "transmit", `not dst host ${ALIAS4}`); // what the kernel sees is another address
    a.send(f.udpPacket({ src: f.US, sport: 6000, dst: ALIAS4, dport: 81, ...mac }));
    world.run();
    same(world.tap.receive());
  });

  test("every fragment is judged, whatever comes first", () => {
    world.match(a, f.UDP, f.US, 5000);
    const l4 = f.udp({ src: f.US, sport: 5000, dst: f.THEM, dport: 9, payload: new Array(40).fill(1) });
    const ends = { src: f.US, dst: f.THEM, ...mac };
    const first = (id: number) => f.packet({ ...ends, id, fragment: 0x2000, l4: l4.slice(0, 24) });
    const later = (id: number) => f.packet({ ...ends, id, fragment: 0x0003, l4: l4.slice(24) });
    world.filter(a, "transmit", "udp dst port 9"); // without ports it is no such packet
    for (const frame of [first(1), later(1), later(2), first(2)]) a.send(frame);
    same(world.run(), first(1), first(2));
    world.filter(a, "transmit", "udp dst port 9 or ip[6:2] & 0x1fff != 0");
    for (const frame of [first(3), later(3), later(4), first(4)]) a.send(frame);
    same(world.run(), first(3), later(3), first(4), later(4));
    world.filter(a, "transmit", "udp dst port 10 or ip[6:2] & 0x1fff != 0");
    for (const frame of [first(5), later(5)]) a.send(frame);
    same(world.run()); // the first one was refused
    expect(world.drops()).toEqual({ tx_filtered_client: 3, bad_fragment: 1 });
  });

  test("reaches another client if both let it", () => {
    const b = world.attach();
    world.match(a, f.UDP, f.US, 5000);
    const entry = world.match(b, f.UDP, f.US, 80);
    const send = () => {
      a.send(f.udpPacket({ src: f.US, sport: 5000, dst: ALIAS4, dport: 80, ...mac }));
      world.run();
      return b.receive().length;
    };
    expect(send()).toBe(1);
    world.filter(b, "receive", "udp src port 5001", entry);
    expect(send()).toBe(0);
    world.unfilter(b, "receive", entry);
    world.filter(a, "transmit", "tcp");
    expect(send()).toBe(0);
    expect(b.counts()).toMatchObject({ rx_filtered_client: 1 });
    expect(a.counts()).toMatchObject({ rx_filtered_client: 1, tx_filtered_client: 1 });
  });
});

describe("established", () => {
  const FIREWALL = ["allow out", "allow in established", "allow in udp dst port 5000", "deny in"];

  test("a firewall of a few lines: answers to what was sent, and what is open", () => {
    withRules(...FIREWALL);
    world.match(a, f.UDP, f.US, 5000);
    world.match(a, f.UDP, f.US, 5001);
    const answer = (dport: number) => f.udpPacket({ src: f.THEM, sport: 9, dst: f.US, dport });
    for (const frame of [answer(5000), answer(5001)]) world.wire(frame);
    world.run();
    same(a.receive(), answer(5000));
    a.send(to(9, 5001)); // from a match's own port
    a.send(to(9, 6000)); // and a flow that is claimed by it
    world.run();
    for (const dport of [5001, 6000]) world.wire(answer(dport));
    const stranger = f.udpPacket({ src: f.THEM, sport: 10, dst: f.US, dport: 5001 });
    world.wire(stranger);
    world.run();
    same(a.receive(), answer(5001), answer(6000));
    expect(world.drops()).toEqual({ rx_filtered_system: 2 });
    world.table.setNow(1 + 61); // long after
    world.wire(answer(5001));
    world.run();
    same(a.receive());
  });

  test("outwards: answers to what came in, nothing else", () => {
    withRules("allow out established", "deny out");
    world.match(a, f.UDP, f.US, 5000);
    world.match(a, f.TCP, f.US6, 80);
    a.send(to(9));
    a.send(to(9, 6000));
    same(world.run());
    const question = f.tcpPacket({ src: f.THEM6, sport: 9, dst: f.US6, dport: 80 });
    for (const frame of [from(9), question]) world.wire(frame);
    world.run();
    expect(a.receive().length).toBe(2);
    const six = f.tcpPacket({ src: f.US6, sport: 80, dst: f.THEM6, dport: 9, ...mac });
    const wrong = f.tcpPacket({ src: f.US6, sport: 80, dst: f.THEM6, dport: 10, ...mac });
    for (const frame of [to(9), to(10), six, wrong]) a.send(frame);
    same(world.run(), to(9), six);
    expect(world.drops()).toEqual({ tx_filtered_system: 4 });
    expect(world.claims.granted).toBe(0);
  });

  test("ICMP errors about such flows are of them, both ways", () => {
    withRules(
      "allow in established",
      "deny in",
      "allow out established",
      "allow out udp dst port 9",
      "deny out",
    );
    const error = (quoted: Uint8Array, spec: f.Spec = {}) =>
      f.icmpPacket(f.icmp(3, 4, f.concat(f.u16(0, 1400), quoted.slice(14, 42))), spec);
    world.match(a, f.UDP, f.US, 5000);
    world.match(a, f.UDP, f.US, 5001);
    const about = error(to(9));
    world.wire(about);
    world.run();
    same(a.receive());
    a.send(to(9));
    world.run();
    world.wire(about);
    world.wire(from(9));
    world.run();
    same(a.receive(), about, from(9));
    const back = (packet: Uint8Array) => error(packet, { src: f.US, dst: f.THEM, ...mac });
    a.send(back(from(9)));
    a.send(back(from(10)));
    same(world.run(), back(from(9)));
  });

  test("flows of the client that had the slot before are not the next one's", () => {
    withRules(...FIREWALL);
    world.match(a, f.UDP, f.US, 5001);
    a.send(to(9, 5001));
    world.run();
    world.table.removeClient(a.slot);
    world.table.freeClient(a.slot);
    const b = world.attach();
    expect(b.slot).toBe(a.slot);
    world.match(b, f.UDP, f.US, 5001);
    world.wire(f.udpPacket({ src: f.THEM, sport: 9, dst: f.US, dport: 5001 }));
    world.run();
    same(b.receive());
  });
});

describe("acknowledgements", () => {
  let acks: End;
  const heard = () =>
    acks.receive().flatMap((bytes) => {
      const words = new Uint32Array(bytes.slice().buffer);
      return Array.from({ length: words.length / 2 }, (_, i) => [words[2 * i], words[2 * i + 1]]);
    });
  afterEach(() => acks.close());

  test("each frame is told of: sent, or which layer refused it, or dropped for another reason", () => {
    withRules("uid 0 deny out udp dst port 2", "deny out udp dst port 3");
    world.match(a, f.UDP, f.US, 5000);
    a.send(to(4));
    world.run();
    acks = world.acknowledge(a);
    world.filter(a, "transmit", "not udp dst port 1");
    world.table.clients.setFlags(a.slot, 7);
    for (const frame of [to(4), to(1), to(2), to(3), to(4).slice(0, 20), to(4)]) a.send(frame);
    same(world.run(), to(4), to(4));
    const told = heard();
    expect(told.toSorted(([x], [y]) => x! - y!)).toEqual([
      [0, 0],
      [1, 1],
      [2, 2],
      [3, 3],
      [4, 4],
      [5, 0],
    ]);
  });

  test("a frame that waits is told of once it is decided about; to the kernel and to clients counts as sent", () => {
    acks = world.acknowledge(a);
    const b = world.attach();
    world.match(b, f.UDP, f.US, 80);
    a.send(to(9, 6000)); // waits for a claim
    a.send(f.udpPacket({ src: f.US, sport: 6001, dst: ALIAS4, dport: 80, ...mac }));
    a.send(f.arp({ tpa: "10.77.0.99" })); // for a neighbour
    world.run();
    expect(heard().toSorted(([x], [y]) => x! - y!)).toEqual([
      [0, 0],
      [1, 0],
    ]);
    world.tick(5000);
    world.run();
    expect(heard()).toEqual([[2, 4]]);
  });

  test("asking again begins anew; who does not read loses acknowledgements and no frames", () => {
    world.match(a, f.UDP, f.US, 5000);
    const before = world.acknowledge(a);
    a.send(to(4));
    world.run();
    acks = world.acknowledge(a);
    a.send(to(4));
    world.run();
    expect(heard()).toEqual([[0, 0]]);
    before.close();
    acks.close();
    for (let i = 0; i < 2000; i++) {
      a.send(to(4));
      expect(world.run().length).toBe(1);
    }
  });
});
