// The world of bench line-rate: a netbase with one card, any number of routes and neighbours, and a switch table with
// clients and matches, as shared memory that ours (forwarding.ts) and C (peers/forward.c) open by path.
//
//   10.254.0.0 port 1000  -->  10.253.0.0 + FLOW port 1001   what testpmd's flowgen sends, the first client; the others have
//                              the next sources, and matches in 10.192/10
//   10.253.0.0 + 256 R /24 via 10.77.0.1 + R % NEIGHBOURS    R: 1..ROUTES; a default route for the rest
import { epochBytes } from "../src/mem/epoch.ts";
import { Region } from "../src/mem/region.ts";
import { defaultCapacity, layout } from "../src/netbase/layout.ts";
import { NetbaseWriter } from "../src/netbase/netbase.ts";
import { AddrRow, LinkRow, NeighRow, RouteRow } from "../src/netbase/rows.ts";
import { everythingTo } from "../src/control/wants.ts";
import { tableBytes } from "../src/switch/table/layout.ts";
import type { Match } from "../src/switch/table/pattern.ts";
import { TableWriter } from "../src/switch/table/table.ts";
import { AF_INET, parseIPv4, parseLladdr, swap32 } from "../src/wire/address.ts";
import { udpFrame } from "../src/wire/frame.ts";
import { readPrefix } from "../src/wire/prefix.ts";
import { generator } from "./prefixes.ts";

export const IFINDEX = 7;
export const CAPACITY = { clients: 64, matches: 131_072 };
/** What testpmd's flowgen has built in. */
export const CARD_MAC = "00:01:02:03:04:01";
export const CLIENT_MAC = "00:01:02:03:04:00";
const SOURCE = 0x0afe0000;
const UP_RUNNING = 0x41;
const NLM_F_CREATE = 0x400;
const NUD_PERMANENT = 0x80;
const RT_TABLE_MAIN = 254;

export interface RoutedOptions {
  readonly routes: number;
  readonly neighbours: number;
  /** matches of other clients */
  readonly matches: number;
  readonly clients: number;
  /** matches with source and port, as a client's own connections have */
  readonly connections?: number;
  /** what the first client sends is for itself */
  readonly back?: boolean;
}

/** Paths; good as long as this process lives. */
export interface Routed {
  readonly netbase: string;
  readonly epochs: string;
  readonly table: string;
}

const ip = (text: string): number => parseIPv4(text)!;
const pathOf = (region: Region): string => `/proc/${process.pid}/fd/${region.fd}`;

export function createRouted(options: RoutedOptions): Routed {
  return { ...createNetbase(options), table: createTable(options) };
}

function createNetbase({ routes, neighbours }: RoutedOptions): Pick<Routed, "netbase" | "epochs"> {
  const netbase = Region.create("bench-netbase", layout(defaultCapacity).bytes);
  const epochs = Region.create("bench-epochs", epochBytes(2));
  const writer = new NetbaseWriter(netbase, epochs, defaultCapacity);
  const link = new LinkRow();
  Object.assign(link, {
    ifindex: IFINDEX,
    flags: UP_RUNNING,
    mtu: 1500,
    type: 1,
    operstate: 6,
    lladdrLen: 6,
  });
  link.name = "bench";
  link.lladdr.set(parseLladdr(CARD_MAC)!);
  writer.links.upsert(link);
  const addr = new AddrRow();
  Object.assign(addr, { family: AF_INET, ifindex: IFINDEX, prefixLen: 16 });
  addr.local[0] = addr.peer[0] = ip("10.77.255.1");
  writer.addrs.upsert(addr);
  const gateway = (n: number): number => swap32(0x0a4d0001 + (n % neighbours));
  const row = new RouteRow();
  const route = (dst: number, dstLen: number, n: number): void => {
    Object.assign(row, { family: AF_INET, table: RT_TABLE_MAIN, dstLen, type: 1 });
    row.dst[0] = dst;
    row.legs.clear();
    const leg = row.legs.add();
    row.legs.ifindex[leg] = IFINDEX;
    row.legs.gatewayFamily[leg] = AF_INET;
    row.legs.gateway[leg * 4] = gateway(n);
    writer.routes.upsert(row, NLM_F_CREATE);
  };
  route(0, 0, 0);
  for (let n = 1; n < routes; n++) route(swap32((0x0afd0000 + (n - 1) * 256) >>> 0), 24, n);
  const neigh = new NeighRow();
  Object.assign(neigh, { family: AF_INET, ifindex: IFINDEX, state: NUD_PERMANENT, lladdrLen: 6 });
  for (let n = 0; n < neighbours; n++) {
    neigh.dst[0] = gateway(n);
    neigh.lladdr.set([2, 0, 0x5e, 0, n >> 8, n]);
    writer.neighs.upsert(neigh);
  }
  writer.commit();
  return { netbase: pathOf(netbase), epochs: pathOf(epochs) };
}

function createTable({ matches, clients, connections = 0, back = false }: RoutedOptions): string {
  const region = Region.create("bench-switch", tableBytes(CAPACITY));
  const table = new TableWriter(region.buffer, CAPACITY, 0x5bd1e995);
  table.setNow(1);
  const row = { fd: -1, mtu: 1500, flags: 0, home: 0, ratePps: 0, pid: 1, uid: 0, gid: 0 };
  for (let n = 0; n < clients; n++) table.addClient({ ...row, mac: parseLladdr(CLIENT_MAC)! });
  for (let n = 0; n < clients; n++)
    for (const match of everythingTo(readPrefix(`10.254.0.${n}/32`)!)) table.add(match, n, "match");
  if (back) for (const match of everythingTo(readPrefix("10.253.0.0/16")!)) table.add(match, 0, "match");
  for (let n = 0; n < matches; n++) {
    const match: Match = {
      ...{ family: 2, protocol: 17, dst: Int32Array.of(swap32(0x0ac00000 + n), 0, 0, 0), dstPrefix: 32 },
      ...{ dport: 8080, src: new Int32Array(4), srcPrefix: 0, sport: -1 },
    };
    if (table.add(match, n % clients, "match") < 0) throw new Error(`match ${n} refused`);
  }
  for (let n = 0; n < connections; n++) {
    const match: Match = {
      ...{ family: 2, protocol: 17, dst: Int32Array.of(swap32(0x0ac00000 + n), 0, 0, 0), dstPrefix: 32 },
      ...{ dport: 9000, src: Int32Array.of(swap32(0x0b000000 + n), 0, 0, 0), srcPrefix: 32, sport: 53 },
    };
    if (table.add(match, n % clients, "match") < 0) throw new Error(`connection ${n} refused`);
  }
  table.gather(region);
  return pathOf(region);
}

/** All but the clients themselves. */
const target = (flow: number): number => {
  const to = 0x0afd0000 + flow;
  return swap32(to >= SOURCE && to < SOURCE + CAPACITY.clients ? 0x0afd0000 : to);
};

/** Frames of `flows` flows, in no order, `bytes` long, of a client. */
export function routedFrames(count: number, flows: number, bytes: number, client = 0): Uint8Array[] {
  const next = generator(1);
  return Array.from({ length: count }, () =>
    udpFrame({
      dstMac: parseLladdr(CARD_MAC)!,
      srcMac: parseLladdr(CLIENT_MAC)!,
      src: swap32(SOURCE + client),
      dst: target((next() >>> 0) % flows),
      sport: 1000,
      dport: 1001,
      payload: new Uint8Array(bytes - 42).fill(0x5a),
    }),
  );
}
