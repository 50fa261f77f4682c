// The small world that bench loop and bench pause run in, without a kernel: a netbase with one card, routes and
// neighbours, a match table, frames; and the net loop over a sim link, as src/xdp/worker.ts runs it over a card.
//
//   10.100.F.7 port 1000+F  <-- flow F -->  10.200.F.9 port 7      F: 0..255; each has a /24 via one of 16 gateways,
//                                                                 every sixteenth one a /28 (a FIB node)
// Both ends of a flow are matches, and a gateway's address may be the card's own: then an answer that comes in again is
// the next question, and frames go round a hairpin for ever.
import { statSync, writeFileSync } from "node:fs";
import { cstring, libc } from "../ffi/libc.ts";
import type { Link } from "../src/link/link.ts";
import { Counters } from "../src/mem/counters.ts";
import { epochBytes } from "../src/mem/epoch.ts";
import { Region, type RegionRef } from "../src/mem/region.ts";
import { Ring } from "../src/mem/ring.ts";
import { defaultCapacity, layout } from "../src/netbase/layout.ts";
import * as offsets from "../src/netbase/layout.ts";
import { NetbaseReader, NetbaseWriter } from "../src/netbase/netbase.ts";
import { AddrRow, LEG_ENCAP, LinkRow, NeighRow, RouteRow } from "../src/netbase/rows.ts";
import { Drop } from "../src/switch/drops.ts";
import { LOOP_COUNTERS, NetLoop } from "../src/switch/loop.ts";
import { MatchTable } from "../src/switch/match.ts";
import { Solicitor } from "../src/switch/solicit.ts";
import { Transmit } from "../src/switch/transmit.ts";
import { AF_INET, parseIPv4, parseLladdr } from "../src/wire/address.ts";
import { type UdpFrame, udpFrame } from "../src/wire/frame.ts";

export const IFINDEX = 7;
const FLOWS = 256;
const GATEWAYS = 16;
const MATCH_SLOTS = 2048;
const SOLICIT_SLOTS = 1024;
export const OWN = parseLladdr("02:00:00:00:00:01")!;
const NUD_PERMANENT = 0x80;
const UP_RUNNING = 0x41;
const RT_TABLE_MAIN = 254;
const RTN_UNICAST = 1;

const ip = (text: string): number => parseIPv4(text)!;

/** [prefix, prefix length, RTN_*, interface, gateway or "", mtu, flags]: where answers of the verified run lead astray. */
const ODD_ROUTES: readonly [string, number, number, number, string, number, number?][] = [
  ["10.150.2.0", 24, 2, IFINDEX, "", 0], // local
  ["10.150.6.0", 24, 6, 0, "", 0], // blackhole
  ["10.150.7.0", 24, 7, 0, "", 0], // unreachable
  ["10.150.8.0", 24, 8, 0, "", 0], // prohibit
  ["10.151.0.0", 16, 1, IFINDEX + 1, "", 0], // another card
  ["10.152.0.0", 16, 1, IFINDEX, "10.77.0.99", 0], // a gateway that nobody knows
  ["10.153.0.0", 16, 1, IFINDEX, "10.77.0.2", 576], // a small MTU
  ["10.154.0.0", 16, 3, IFINDEX, "", 0], // broadcast
  ["10.155.0.0", 16, 1, IFINDEX, "10.77.0.2", 0, LEG_ENCAP], // into a tunnel
];

/** Shared memory of a world, by path: what a child of either language opens. */
export interface World {
  readonly netbase: string;
  readonly epochs: string;
  readonly matches: string;
}

/** Makes a world that lives as long as this process. @param hairpin all gateways have the card's own address */
export function createWorld(hairpin: boolean): World {
  const netbase = Region.create("bench-netbase", layout(defaultCapacity).bytes);
  const epochs = Region.create("bench-epochs", epochBytes(1));
  const matches = Region.create("bench-matches", MatchTable.bytes(MATCH_SLOTS));
  const writer = new NetbaseWriter(netbase, epochs, defaultCapacity);
  for (const ifindex of [IFINDEX, IFINDEX + 1]) {
    const link = new LinkRow();
    Object.assign(link, { ifindex, flags: UP_RUNNING, mtu: 1500, type: 1, operstate: 6, lladdrLen: 6 });
    link.name = `bench${ifindex}`;
    link.lladdr.set(OWN);
    writer.links.upsert(link);
  }
  const addr = new AddrRow();
  Object.assign(addr, { family: AF_INET, ifindex: IFINDEX, prefixLen: 24 });
  addr.local[0] = addr.peer[0] = ip("10.77.0.1");
  writer.addrs.upsert(addr);

  const route = (
    dst: string,
    dstLen: number,
    type: number,
    ifindex: number,
    via: string,
    mtu: number,
    flags = 0,
  ): void => {
    const row = new RouteRow();
    Object.assign(row, { family: AF_INET, table: RT_TABLE_MAIN, dstLen, type, mtu });
    row.dst[0] = ip(dst);
    if (ifindex !== 0) {
      const leg = row.legs.add();
      row.legs.ifindex[leg] = ifindex;
      row.legs.gatewayFamily[leg] = via ? AF_INET : 0;
      row.legs.gateway[leg * 4] = via ? ip(via) : 0;
      row.legs.flags[leg] = flags;
    }
    writer.routes.upsert(row, 0x400); // NLM_F_CREATE
  };
  route("10.77.0.0", 24, RTN_UNICAST, IFINDEX, "", 0);
  for (const odd of ODD_ROUTES) route(...odd);
  const table = new MatchTable(matches.buffer, MATCH_SLOTS);
  for (let flow = 0; flow < FLOWS; flow++)
    for (const { address, port } of [questioner(flow), service(flow)]) {
      const via = `10.77.0.${2 + (flow % GATEWAYS)}`;
      route(address.replace(/\d+$/, "0"), flow % 16 ? 24 : 28, RTN_UNICAST, IFINDEX, via, 0);
      table.set({ protocol: 17, address: ip(address), port }, 0);
    }
  const neigh = new NeighRow();
  Object.assign(neigh, { family: AF_INET, ifindex: IFINDEX, state: NUD_PERMANENT, lladdrLen: 6 });
  for (let gateway = 2; gateway < 2 + GATEWAYS; gateway++) {
    neigh.dst[0] = ip(`10.77.0.${gateway}`);
    neigh.lladdr.set(hairpin ? OWN : parseLladdr(`02:00:5e:10:20:${gateway.toString(16).padStart(2, "0")}`)!);
    writer.neighs.upsert(neigh);
  }
  writer.commit();
  const path = (region: Region): string => `/proc/${process.pid}/fd/${region.fd}`;
  return { netbase: path(netbase), epochs: path(epochs), matches: path(matches) };
}

const questioner = (flow: number) => ({ address: `10.100.${flow}.7`, port: 1000 + flow });
const service = (flow: number) => ({ address: `10.200.${flow}.9`, port: 7 });

/** A flow's question, `bytes` long in all. */
export function question(flow: number, bytes: number, change: Partial<UdpFrame> = {}): Uint8Array {
  const from = questioner(flow % FLOWS);
  const to = service(flow % FLOWS);
  return udpFrame({
    dstMac: OWN,
    srcMac: parseLladdr("02:00:00:00:00:02")!,
    src: ip(from.address),
    dst: ip(to.address),
    sport: from.port,
    dport: to.port,
    payload: Uint8Array.from({ length: bytes - 42 }, (_, i) => flow * 7 + i * 13),
    ...change,
  });
}

/** Frames in a file: u32 length, bytes, padded to 4; and so on. */
export function writeFrames(path: string, frames: readonly Uint8Array[]): void {
  const parts = frames.flatMap((frame) => [
    new Uint8Array(Uint32Array.of(frame.length).buffer),
    frame,
    new Uint8Array(-frame.length & 3),
  ]);
  writeFileSync(path, Buffer.concat(parts));
}

export function readFrames(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const frames: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = view.getUint32(at, true);
    frames.push(bytes.subarray(at + 4, at + 4 + length));
    at += 4 + ((length + 3) & ~3);
  }
  return frames;
}

/** The region behind a path of a World. */
export const refOf = (path: string): RegionRef => {
  const fd = libc.open(cstring(path), 0o2000002, 0); // O_RDWR | O_CLOEXEC
  return { name: path, fd, bytes: statSync(path).size };
};

const TURNS = 64;

/** The net loop in a world, over any link, with everything that a net Worker does between batches. */
export class Runner {
  readonly counters = new Counters<string>(LOOP_COUNTERS, new ArrayBuffer(LOOP_COUNTERS.length * 8), 0);
  private readonly link: Link;
  private readonly netbase: NetbaseReader;
  private readonly loop: NetLoop;
  private readonly transmit: Transmit;
  private readonly solicitor: Solicitor;

  constructor(world: World, link: Link, batch: number) {
    this.link = link;
    this.netbase = NetbaseReader.open(refOf(world.netbase), refOf(world.epochs), 0);
    const matches = new MatchTable(Region.open(refOf(world.matches), "read-only").buffer, MATCH_SLOTS);
    const ring = new Ring(new ArrayBuffer(Ring.bytes(SOLICIT_SLOTS)), 0, SOLICIT_SLOTS);
    this.solicitor = new Solicitor(ring, libc.eventfd(0, 0o2004000));
    this.transmit = new Transmit(link.words, this.netbase, this.solicitor, IFINDEX);
    this.transmit.refresh();
    this.loop = new NetLoop(link, matches, this.netbase, this.transmit, { partialChecksums: false, batch });
  }

  /** TURNS turns, and a look at the clock; returns the frames received. */
  turns(): number {
    const { link, loop, netbase } = this;
    let received = 0;
    for (let i = 0; i < TURNS; i++) {
      received += loop.turn();
      link.maintain();
      netbase.quiesce();
    }
    this.solicitor.tick(Bun.nanoseconds());
    this.transmit.refresh();
    loop.publish(this.counters);
    return received;
  }
}

/** All offsets and numbers of the world as a C header. */
export function header(): string {
  const numbers: Record<string, unknown> = { ...offsets, IFINDEX, MATCH_SLOTS };
  for (const [name, value] of Object.entries(layout(defaultCapacity))) numbers[`L_${name}`] = value;
  for (const [name, value] of Object.entries(Drop)) numbers[`DROP_${name}`] = value;
  const lines = Object.entries(numbers).filter(([, value]) => typeof value === "number");
  return `// Made by bench/world.ts.\n${lines.map(([name, value]) => `#define ${name} ${value}`).join("\n")}\n`;
}
