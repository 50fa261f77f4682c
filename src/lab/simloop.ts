// A net loop without a kernel: a netbase filled by hand, a sim link, and the loop over it. For tests and benches.
//
//   card: ifindex 2, 02:00:00:00:00:01, 10.77.0.1/24, MTU as given      neighbours: 02:00:00:00:00:02 unless told otherwise
import { SimLink } from "../link/sim.ts";
import { epochBytes } from "../mem/epoch.ts";
import { Region, type RegionRef } from "../mem/region.ts";
import { Ring } from "../mem/ring.ts";
import { type Capacity, defaultCapacity, layout } from "../netbase/layout.ts";
import { NetbaseReader, NetbaseWriter } from "../netbase/netbase.ts";
import { AddrRow, LinkRow, NeighRow, RouteRow } from "../netbase/rows.ts";
import { LOOP_COUNTERS, NetLoop } from "../switch/loop.ts";
import { MatchTable } from "../switch/match.ts";
import { Solicitor } from "../switch/solicit.ts";
import type { Switch, SwitchParts } from "../switch/switch.ts";
import { Transmit } from "../switch/transmit.ts";
import { AF_INET, AF_INET6, parseIPv4, parseIPv6, parseLladdr } from "../wire/address.ts";
import { Counters } from "../mem/counters.ts";

export const CARD_IFINDEX = 2;
export const CARD_LLADDR = "02:00:00:00:00:01";
export const PEER_LLADDR = "02:00:00:00:00:02";

const ARPHRD_ETHER = 1;
const NLM_F_CREATE = 0x400;
const NUD_REACHABLE = 2;
const RT_TABLE_MAIN = 254;
const RTPROT_STATIC = 4;
const IPPROTO_UDP = 17;
const MATCHES = 1024;
const SOLICITS = 256;

export interface SimLoopOptions {
  mtu?: number;
  frames?: number;
  hairpin?: boolean;
  /** bytes of frame memory for clients' rings */
  room?: number;
  batch?: number;
  partialChecksums?: boolean;
  capacity?: Partial<Capacity>;
  /** of a switch, for the pass over frames by memif */
  table?: RegionRef;
  /** makes a switch over the loop's own parts */
  switch?: (
    parts: Pick<SwitchParts, "link" | "services" | "netbase" | "transmit" | "solicitor" | "views">,
  ) => Switch;
}

export class SimLoop {
  readonly link: SimLink;
  readonly writer: NetbaseWriter;
  readonly netbase: NetbaseReader;
  readonly matches: MatchTable;
  readonly transmit: Transmit;
  readonly loop: NetLoop;
  /** Solicit messages that the loop sent. */
  readonly solicits: Ring;
  private readonly counters: Counters<string>;
  private readonly regions: Region[];

  constructor(options: SimLoopOptions = {}) {
    const capacity = { ...defaultCapacity, ...options.capacity };
    const base = Region.create("sim-netbase", layout(capacity).bytes);
    const epochs = Region.create("sim-epochs", epochBytes(2));
    this.regions = [base, epochs];
    this.writer = new NetbaseWriter(base, epochs, capacity);
    this.netbase = NetbaseReader.open(base.ref, epochs.ref, 1);
    const { frames = 1024, hairpin = false, room = 0, table } = options;
    this.link = new SimLink(frames, 2048, hairpin, room, table && [base.bytes, table.bytes]);
    this.matches = new MatchTable(new ArrayBuffer(MatchTable.bytes(MATCHES)), MATCHES);
    this.solicits = new Ring(new ArrayBuffer(Ring.bytes(SOLICITS)), 0, SOLICITS);
    const { link, matches: services, netbase } = this;
    const solicitor = new Solicitor(this.solicits, -1);
    const transmit = new Transmit(link.words, netbase, solicitor, CARD_IFINDEX);
    this.transmit = transmit;
    this.loop = new NetLoop(link, services, netbase, transmit, {
      partialChecksums: options.partialChecksums ?? false,
      switch: options.switch?.({
        link,
        services,
        netbase,
        transmit,
        solicitor,
        views: table && { netbase: base.ref, table },
      }),
      ...(options.batch !== undefined && { batch: options.batch }),
    });
    this.counters = new Counters(LOOP_COUNTERS, new ArrayBuffer(Counters.bytes(LOOP_COUNTERS)), 0);
    this.setLink({ mtu: options.mtu ?? 1500 });
    const addr = new AddrRow();
    Object.assign(addr, { family: AF_INET, ifindex: CARD_IFINDEX, prefixLen: 24 });
    addr.local[0] = addr.peer[0] = parseIPv4("10.77.0.1")!;
    this.writer.addrs.upsert(addr);
    this.commit();
  }

  /** Changes the card, or another link. Up and running unless told otherwise. */
  setLink(link: { ifindex?: number; mtu?: number; flags?: number; lladdr?: string }): void {
    const { ifindex = CARD_IFINDEX, mtu = 1500, flags = 0x1043, lladdr = CARD_LLADDR } = link;
    const row = new LinkRow();
    const bytes = parseLladdr(lladdr)!;
    Object.assign(row, { ifindex, flags, mtu, type: ARPHRD_ETHER, operstate: 6, name: `sim${ifindex}` });
    row.lladdr.set(bytes);
    row.lladdrLen = bytes.length;
    this.writer.links.upsert(row);
    this.commit();
  }

  /** Serves UDP echo. */
  serve(address: string, port: number): void {
    this.matches.set({ protocol: IPPROTO_UDP, address: parseIPv4(address)!, port }, 0);
  }

  /** Adds a route of table main: "10.0.0.0/8", by a gateway or on link. */
  route(
    prefix: string,
    via?: string,
    fields: Partial<Pick<RouteRow, "type" | "mtu" | "tos" | "priority">> & { oif?: number } = {},
  ): void {
    const [address, length] = prefix.split("/");
    const { oif = CARD_IFINDEX, ...rest } = fields;
    const row = new RouteRow();
    Object.assign(row, {
      family: AF_INET,
      table: RT_TABLE_MAIN,
      dstLen: Number(length),
      protocol: RTPROT_STATIC,
      type: 1,
      ...rest,
    });
    row.dst[0] = parseIPv4(address!)!;
    const leg = row.legs.add();
    row.legs.ifindex[leg] = oif;
    if (via !== undefined) {
      row.legs.gatewayFamily[leg] = AF_INET;
      row.legs.gateway[leg * 4] = parseIPv4(via)!;
    }
    this.writer.routes.upsert(row, NLM_F_CREATE);
    this.commit();
  }

  neigh(address: string, lladdr: string = PEER_LLADDR, state: number = NUD_REACHABLE): void {
    const row = new NeighRow();
    const bytes = parseLladdr(lladdr)!;
    Object.assign(row, { family: AF_INET, ifindex: CARD_IFINDEX, state });
    row.dst[0] = parseIPv4(address)!;
    row.lladdr.set(bytes);
    row.lladdrLen = bytes.length;
    this.writer.neighs.upsert(row);
    this.commit();
  }

  /** The neighbour is gone. */
  unneigh(address: string): void {
    const row = new NeighRow();
    Object.assign(row, { family: AF_INET, ifindex: CARD_IFINDEX });
    row.dst[0] = parseIPv4(address)!;
    this.writer.neighs.remove(row);
    this.commit();
  }

  /** An IPv6 route on link. @param type RTN_* */
  route6(prefix: string, type = 1): void {
    const [address, length] = prefix.split("/");
    const row = new RouteRow();
    const fields = {
      family: AF_INET6,
      table: RT_TABLE_MAIN,
      dstLen: Number(length),
      protocol: RTPROT_STATIC,
    };
    Object.assign(row, { ...fields, type });
    row.dst.set(parseIPv6(address!)!);
    row.legs.ifindex[row.legs.add()] = CARD_IFINDEX;
    this.writer.routes.upsert(row, NLM_F_CREATE);
    this.commit();
  }

  neigh6(address: string, lladdr: string = PEER_LLADDR, state: number = NUD_REACHABLE): void {
    const row = new NeighRow();
    const bytes = parseLladdr(lladdr)!;
    Object.assign(row, { family: AF_INET6, ifindex: CARD_IFINDEX, state, lladdrLen: bytes.length });
    row.dst.set(parseIPv6(address)!);
    row.lladdr.set(bytes);
    this.writer.neighs.upsert(row);
    this.commit();
  }

  /** Makes changes visible, to the loop too. */
  commit(): void {
    this.writer.commit();
    this.netbase.quiesce();
    this.transmit.refresh();
  }

  /** The loop's totals by name, up to now. */
  counts(): Record<string, number> {
    this.loop.publish(this.counters);
    return this.counters.snapshot();
  }

  close(): void {
    this.netbase.close();
    this.link.close();
    for (const region of this.regions) region.close();
  }
}
