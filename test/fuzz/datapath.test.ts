// Hostile frames from the wire, from clients and from the kernel, through a switch whose clients and matches come and go:
// nothing throws, no UMEM frame is lost, and no frame reaches a client that does not own it by the model (judge.ts), nor
// leaves the card from an address and port that are not its sender's. NETD_FUZZ_SECONDS runs longer, NETD_SEED repeats.
import { expect, setDefaultTimeout, test } from "bun:test";
import { formatAddress, parseAddress } from "../../src/wire/address.ts";
import * as f from "../switch/packets.ts";
import { ALIAS4, ALIAS6, type TestClient, World } from "../switch/world.ts";
import { Judge, numberOf, reverse, untagged } from "./judge.ts";

const SECONDS = Number(process.env["NETD_FUZZ_SECONDS"] ?? 1);
const SEED = Number(process.env["NETD_SEED"] ?? Math.trunc(Math.random() * 2 ** 31)) | 1;
setDefaultTimeout((SECONDS * 3 + 60) * 1000);

let state = SEED;
const pick = (below: number): number => {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
};
const one = <T>(of: readonly T[]): T => of[pick(of.length)]!;

const V4 = [
  f.US,
  f.THEM,
  "10.77.0.50",
  "10.77.0.51",
  "10.77.0.3",
  ALIAS4,
  "224.0.0.251",
  "255.255.255.255",
  "10.9.9.9",
  "0.0.0.0",
];
const V6 = [f.US6, f.THEM6, "fd77::50", "fd77::3", ALIAS6, "ff02::fb", "fd99::1", "::"];
/** What the control Worker would let a client claim from: this host's addresses, and those of clients' matches. */
const MAY_CLAIM = [...V4.slice(0, 4), ...V6.slice(0, 3)];
const MACS = ["02:00:00:00:01:00", "02:00:00:00:01:01", "02:00:00:00:01:02", "02:00:00:00:01:03"];
const PORTS = [5000, 80, 5353, 22, 67, 68, 7];
const PROTOCOLS = [f.UDP, f.TCP, f.ICMP, f.ICMPV6, 33, 132, 136, 2, 47];
const XIDS = [0x11111111, 0x22222222];
const aliasNumber = (text: string) => numberOf(parseAddress(text)!.words, parseAddress(text)!.family);

function body(protocol: number, ends: { src: string; dst: string }): Uint8Array {
  const { src, dst } = ends;
  const ports = {
    ...ends,
    sport: one(PORTS),
    dport: one(PORTS),
    payload: new Uint8Array(pick(8) ? pick(60) : pick(1700)),
  };
  const six = src.includes(":");
  if (protocol === f.UDP && pick(8) === 0) {
    const xid = one(XIDS);
    const dhcp = f.concat([1 + pick(2), 1, 6, 0], f.u16(xid >>> 16, xid & 0xffff), new Uint8Array(232));
    return f.udp({
      ...ends,
      ...(pick(2) ? { sport: 67, dport: 68 } : { sport: 68, dport: 67 }),
      payload: dhcp,
    });
  }
  if (protocol === f.UDP) return f.udp(ports);
  if (protocol === f.TCP) return f.tcp(ports);
  if (protocol !== f.ICMP && protocol !== f.ICMPV6)
    return f.concat(f.u16(ports.sport, ports.dport), new Uint8Array(20));
  const type = one(six ? [128, 129, 1, 2, 133, 134, 135, 136, 137, 143] : [8, 0, 3, 11, 5, 13]);
  if (type === 128 || type === 129 || type === 8 || type === 0) return f.echo(type, one(PORTS), ends);
  if (type < 20 && pick(8)) {
    const inner = pick(2) ? { src: dst, dst: src } : { src: address(six), dst: address(six) };
    const proto = one([f.UDP, f.TCP, six ? f.ICMPV6 : f.ICMP]);
    const quoted = f.packet({
      ...inner,
      protocol: proto,
      l4:
        proto === f.UDP
          ? f.udp({ ...ports, ...inner })
          : proto === f.TCP
            ? f.tcp({ ...ports, ...inner })
            : f.echo(six ? 128 : 8, one(PORTS), inner),
    });
    return f.icmp(type, pick(5), f.concat([0, 0, 5, 0], quoted.slice(14, 14 + pick(2000))), ends);
  }
  const option = pick(3) ? f.concat([1 + pick(2), 1], f.bytesOf("1.2.3.4"), [pick(256), pick(256)]) : [];
  return f.icmp(type, 0, f.concat([0, 0, 0, 0], f.bytesOf(address(true)), option), ends);
}

const address = (six: boolean): string => one(six ? V6 : V4);

/** A frame that is nearly one that somebody could send. */
function frame(macs: readonly string[]): Uint8Array {
  const srcMac = one(macs);
  const dstMac = one([f.CARD, f.CARD, f.CARD, f.PEER, "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:fb", ...MACS]);
  let out: Uint8Array;
  if (pick(6) === 0) {
    const sha = pick(4) ? srcMac : one(macs);
    out = f.arp({ op: 1 + pick(3), sha, spa: one(V4), tha: one(macs), tpa: one(V4), srcMac, dstMac });
  } else if (pick(12) === 0) {
    const spec = {
      src: one(V6),
      dst: one(V6),
      target: one(V6),
      lladdr: pick(3) ? srcMac : undefined,
      srcMac,
      dstMac,
    };
    out = f.nd(pick(2) ? 135 : 136, spec);
  } else {
    const six = pick(3) === 0;
    const ends = { src: address(six), dst: address(six) };
    const protocol = pick(4) ? one([f.UDP, f.TCP, six ? f.ICMPV6 : f.ICMP]) : one(PROTOCOLS);
    const l4 = body(protocol, ends);
    const spec: f.Spec = { ...ends, srcMac, dstMac, protocol, id: pick(4), ttl: one([64, 255]) };
    if (pick(5) === 0) {
      const off = pick(3);
      const piece = l4.slice(off * 24, pick(2) ? undefined : off * 24 + 24);
      if (six) {
        const bytes = f.concat([protocol, 0], f.u16((off * 24) | pick(2)), [0, 0, 0, pick(4)]);
        out = f.packet({ ...spec, l4: piece, extensions: { first: 44, bytes } });
      } else out = f.packet({ ...spec, l4: piece, fragment: (pick(2) * 0x2000) | (off * 3) });
    } else if (six && pick(4) === 0) {
      const bytes = f.concat([protocol, pick(2), 0, 0, 0, 0, 0, 0], new Uint8Array(8));
      out = f.packet({ ...spec, l4, extensions: { first: one([0, 43, 60, 44]), bytes } });
    } else out = f.packet({ ...spec, l4 });
  }
  if (pick(5) === 0)
    for (let n = 1 + pick(3); n > 0; n--) out[pick(Math.min(out.length, pick(3) ? 60 : 2000))] = pick(256);
  if (pick(12) === 0) out = out.slice(0, pick(out.length + 1));
  if (pick(12) === 0) out = f.concat(out, new Uint8Array(pick(40)));
  if (pick(30) === 0) out = f.concat(out.slice(0, 12), [0x81, 0, 0, pick(2)], out.slice(12));
  if (pick(100) === 0) out = crypto.getRandomValues(new Uint8Array(pick(200)));
  return out;
}

class Fuzz {
  readonly world = new World({
    partialChecksums: pick(2) === 0,
    firewall: pick(4) === 0,
    perClient: 10_000,
    matches: 20_000,
    refuses: ({ family, dst }) => !MAY_CLAIM.includes(formatAddress(family, dst)),
  });
  readonly judge = new Judge([aliasNumber(ALIAS4), aliasNumber(ALIAS6)]);
  readonly clients: TestClient[] = [];
  readonly macs: string[] = [];
  delivered = 0;
  sent = 0;

  attach(): void {
    if (this.clients.length >= 4) return;
    const mac = MACS.find((text) => !this.macs.includes(text))!;
    this.clients.push(
      this.world.attach({
        mac,
        mtu: one([1500, 1500, 600]),
        ratePps: one([0, 0, 5000]),
        sndbuf: one([4608, 100_000]),
      }),
    );
    this.macs.push(mac);
  }

  detach(): void {
    if (this.clients.length === 0) return;
    const at = pick(this.clients.length);
    const [client] = this.clients.splice(at, 1);
    this.macs.splice(at, 1);
    this.world.table.removeClient(client!.slot);
    this.world.table.freeClient(client!.slot);
    client!.close();
    const isIts = (slot: number) => slot === client!.slot;
    this.judge.groups = this.judge.groups.filter((group) => !isIts(group.client));
    for (const map of [this.judge.owned, this.judge.xids])
      for (const [key, slot] of map as Map<unknown, number>)
        if (isIts(slot)) (map as Map<unknown, number>).delete(key);
    for (const owners of this.judge.fragments.values()) owners.delete(client!.slot);
  }

  change(): void {
    const { world, clients, judge } = this;
    if (clients.length === 0 || pick(20) === 0) this.attach();
    if (pick(60) === 0) this.detach();
    if (clients.length === 0) return;
    const client = one(clients);
    const six = pick(3) === 0;
    const protocol = one([f.UDP, f.TCP, six ? f.ICMPV6 : f.ICMP, 132]);
    const what = pick(8);
    if (what === 0) {
      const text = six ? "fd77::50" : one(["10.77.0.50", "10.77.0.51"]);
      const { family, words } = parseAddress(text)!;
      if (world.table.addOwned(family as 2 | 10, words, client.slot))
        judge.owned.set(`${family},${numberOf(words, family)}`, client.slot);
    } else if (what === 1) {
      const text = six ? "ff02::fb" : one(["224.0.0.251", "255.255.255.255"]);
      const { family, words } = parseAddress(text)!;
      const port = one(PORTS);
      world.group(client, f.UDP, text, port);
      judge.groups.push({
        family,
        protocol: f.UDP,
        address: numberOf(words, family),
        port,
        client: client.slot,
      });
    } else if (what < 5) {
      const src = pick(2) ? one(six ? V6 : V4) : undefined;
      world.match(
        client,
        protocol,
        one(six ? V6.slice(0, 3) : V4.slice(0, 4)),
        pick(6) ? one(PORTS) : -1,
        src,
        src && pick(2) ? one(PORTS) : -1,
      );
    } else {
      const entries = [...world.table.matchesOf(client.slot)].filter(
        (entry) => world.table.get(entry).kind === "match",
      );
      if (entries.length > 6) world.table.remove(one(entries));
    }
  }

  /** Frames in, frames out, and what they may be. */
  round(): void {
    const { world, clients, judge } = this;
    const inward: Uint8Array[] = [];
    for (let n = pick(24); n > 0; n--) {
      const [kind, bytes] = [pick(5), frame([...this.macs, f.PEER, f.CARD])];
      const isWires = kind > 0 && (kind < 3 || clients.length === 0);
      inward.push(isWires ? untagged(bytes) : bytes);
      if (kind === 0) world.tap.send(bytes);
      else if (isWires) {
        if (bytes.length <= 2048 - 64) world.wire(bytes, pick(8) ? 2 : pick(40));
      } else {
        const at = pick(clients.length);
        const own = Buffer.from(this.macs[at]!.replaceAll(":", ""), "hex");
        if (pick(4) && bytes.length >= 12) bytes.set(own, 6);
        clients[at]!.send(bytes);
      }
    }
    const isOpen = pick(6) === 0; // sometimes control is late
    if (isOpen) {
      world.sim.loop.turn();
      world.switch.turn();
    }
    const wire = isOpen ? world.sim.link.sent() : world.run();
    if (pick(4) === 0) world.tick(pick(10) ? pick(40) : pick(4000));
    wire.push(...world.sim.link.sent());
    judge.load(this.entries());
    judge.see(inward);
    for (const [i, client] of clients.entries())
      for (const got of client.receive()) {
        this.delivered++;
        const blame = judge.blame(client.slot, this.macs[i]!.replaceAll(":", ""), got);
        if (blame !== undefined) throw new Error(`client ${client.slot} got ${f.hex(got)}: ${blame}`);
      }
    for (const bytes of wire) this.leaves(bytes);
    world.tap.receive();
  }

  private *entries(): Generator<{
    match: import("../../src/switch/table/pattern.ts").Match;
    client: number;
  }> {
    const { table } = this.world;
    for (const { slot } of this.clients)
      for (const got of [false, true])
        for (const number of table.matchesOf(slot, got)) {
          const entry = table.get(number);
          if (entry.kind === "match" || entry.kind === "claim") yield entry;
          else if (entry.kind === "dhcp") this.judge.xids.set(entry.match.dst[0]!, slot);
        }
  }

  /** A frame on the wire: from a client's link-layer address only what that client owns. */
  private leaves(bytes: Uint8Array): void {
    this.sent++;
    const mac = f.hex(bytes.slice(6, 12));
    const at = this.macs.findIndex((text) => text.replaceAll(":", "") === mac);
    if (at < 0) return;
    const { slot } = this.clients[at]!;
    const { judge } = this;
    const own = (family: number, address: bigint) => judge.owned.get(`${family},${address}`) === slot;
    const fail = (why: string) => {
      throw new Error(`client ${slot} sent ${f.hex(bytes)}: ${why}`);
    };
    const p = judge.packet(bytes);
    if (!p) {
      const spa = BigInt(`0x${f.hex(bytes.slice(28, 32))}`);
      const tpa = BigInt(`0x${f.hex(bytes.slice(38, 42))}`);
      if (!own(2, spa) && !(spa === 0n && own(2, tpa))) fail("ARP about what is not its own");
      return;
    }
    if (p.kind === "nd") {
      const target = BigInt(`0x${f.hex(bytes.slice(p.l4 + 8, p.l4 + 24))}`);
      if (p.type === 134 || p.type === 137 || (p.type === 136 && !own(10, target)))
        fail("neighbour discovery");
      return;
    }
    if (p.kind === "later" || (p.protocol === 17 && p.src === 0n && p.sport === 68)) return;
    // What netd says in place of a client whose port is closed.
    const refuses =
      p.kind === "error"
        ? (p.family === 2 ? ["3 2", "3 3"] : ["1 4", "4 1"]).includes(`${p.type} ${bytes[p.l4 + 1]}`)
        : p.protocol === 6 && (bytes[p.l4 + 13]! & 4) !== 0;
    if (refuses && own(p.family, p.src)) return;
    if (p.kind === "error") {
      if (!p.quoted || judge.model.find(p.quoted) !== slot) fail("an error about another's packet");
      return;
    }
    const isEchoForIt = p.kind === "echo" && own(p.family, p.src);
    if (judge.model.find(reverse(p)) !== slot && !isEchoForIt) fail("not its own");
  }
}

test(`hostile frames for ${SECONDS} s`, () => {
  console.log(`datapath fuzz: NETD_SEED=${SEED}`);
  const end = performance.now() + SECONDS * 1000;
  let delivered = 0;
  let sent = 0;
  let rounds = 0;
  do {
    const fuzz = new Fuzz();
    for (let i = 0; i < 3; i++) fuzz.attach();
    for (let i = 0; i < 12; i++) fuzz.change();
    for (let i = 0; i < 400 && performance.now() < end; i++, rounds++) {
      fuzz.round();
      for (let n = pick(3); n > 0; n--) fuzz.change();
    }
    delivered += fuzz.delivered;
    sent += fuzz.sent;
    expect(fuzz.world.close()).toBe(0);
    for (const client of fuzz.clients) client.close();
  } while (performance.now() < end);
  console.log(`${rounds} rounds: ${delivered} frames to clients, ${sent} to the wire`);
  expect(delivered).toBeGreaterThan(0);
  expect(sent).toBeGreaterThan(0);
});
