// What the daemon shows of itself, for the admin socket and the live table: netbase and counters as plain objects with
// the field names of `ip -j` (view.ts). Runs on the main thread, reads like any other reader of the netbase.
import { version } from "../package.json";
import { captureResponse } from "./capture/stream.ts";
import type { Parts } from "./daemon.ts";
import type { Sample } from "./live.ts";
import { ClientViews } from "./clientviews.ts";
import { filterViews } from "./filterviews.ts";
import { explain } from "./lookup.ts";
import type { Addr } from "./netbase/addr.ts";
import type { Link } from "./netbase/link.ts";
import { AF_INET6, formatAddress, formatLladdr } from "./wire/address.ts";
import type { LinkRow, RouteRow } from "./netbase/rows.ts";
import {
  addrFlags,
  linkFlags,
  linkTypeName,
  neighStates,
  operstateName,
  prefName,
  protocolName,
  routeFlags,
  scopeName,
  tableName,
  typeName,
} from "./netlink/names.ts";
import { dropDescription, dropNames } from "./switch/drops.ts";
import type {
  AddrView,
  ClientView,
  DaemonView,
  DropView,
  FilterView,
  GrantView,
  Family,
  LinkView,
  LookupOptions,
  LookupView,
  MatchView,
  NeighView,
  NexthopView,
  QueueView,
  RouteView,
  SummaryView,
} from "./view.ts";
import { statistics } from "./xdp/socket.ts";

const SHOWN = 12; // rows of a table in a sample
const RTN_UNICAST = 1;

const family = (number: number): Family => (number === AF_INET6 ? "inet6" : "inet");
const isZero = (words: Int32Array): boolean => words.every((word) => word === 0);

export class Views implements DaemonView {
  private readonly parts: Parts;
  private readonly startedAt = performance.now();

  private readers = 0;
  private readonly clientViews: ClientViews;
  /** Drops a second, by reason, between the last two samples. */
  private readonly dropRates = new Map<string, number>();
  private dropped = new Map<string, number>();
  private sampledAt = performance.now();

  constructor(parts: Parts) {
    this.parts = parts;
    this.clientViews = new ClientViews(parts);
  }

  /** Once a second or so: what rates are made of. */
  measure(): void {
    const now = performance.now();
    const seconds = (now - this.sampledAt) / 1000;
    const totals = new Map(this.drops().map(({ reason, packets }) => [reason, packets]));
    for (const [reason, n] of totals)
      this.dropRates.set(reason, (n - (this.dropped.get(reason) ?? 0)) / seconds);
    this.dropped = totals;
    this.sampledAt = now;
  }

  clients(): Iterable<ClientView> {
    return this.clientViews.clients();
  }

  matches(): Iterable<MatchView> {
    return this.clientViews.entries(false);
  }

  claims(): Iterable<MatchView> {
    return this.clientViews.entries(true);
  }

  *grants(): Generator<GrantView> {
    for (const { until, ...grant } of this.parts.switchboard?.grants ?? [])
      yield { ...grant, seconds: Math.max(0, until - Math.floor(Date.now() / 1000)) };
  }

  filters(): Iterable<FilterView> {
    return filterViews(this.parts, (entry) => this.clientViews.match(entry));
  }

  /** Reads the netbase: online (src/mem/epoch.ts) as long as anybody here does. */
  private *reading<T>(rows: () => Iterable<T>): Generator<T> {
    const { netbase } = this.parts;
    if (this.readers++ === 0) netbase.online();
    try {
      yield* rows();
    } finally {
      if (--this.readers === 0) netbase.offline();
    }
  }

  private name(ifindex: number): string {
    return this.parts.netbase.links.get(ifindex)?.name ?? `if${ifindex}`;
  }

  links(): Iterable<LinkView> {
    return this.reading(() => this.parts.netbase.links.all().map((link) => this.link(link)));
  }

  private link(link: Link | LinkRow): LinkView {
    const lower = link.link === 0 ? undefined : this.parts.netbase.links.get(link.link)?.name;
    return {
      ifindex: link.ifindex,
      ifname: link.name,
      flags: linkFlags(link.flags),
      mtu: link.mtu,
      operstate: operstateName(link.operstate),
      link_type: linkTypeName(link.type),
      ...(link.lladdrLen > 0 && { address: formatLladdr(link.lladdr.subarray(0, link.lladdrLen)) }),
      ...(link.master !== 0 && { master: this.name(link.master) }),
      ...(link.link !== 0 && (lower === undefined ? { link_index: link.link } : { link: lower })),
      ...(link.kind !== "" && {
        linkinfo: { info_kind: link.kind, ...(link.vlan >= 0 && { info_data: { id: link.vlan } }) },
      }),
    };
  }

  addrs(): Iterable<AddrView> {
    return this.reading(() => this.parts.netbase.addrs.all().map((addr) => this.addr(addr)));
  }

  private addr(addr: Addr): AddrView {
    const local = formatAddress(addr.family, addr.local);
    const peer = formatAddress(addr.family, addr.peer);
    const flags = addrFlags(addr.flags);
    return {
      ifindex: addr.ifindex,
      ifname: this.name(addr.ifindex),
      family: family(addr.family),
      local,
      ...(peer !== local && !isZero(addr.peer) && { address: peer }),
      prefixlen: addr.prefixLen,
      scope: scopeName(addr.scope),
      ...(flags.length > 0 && { flags }),
    };
  }

  routes(): Iterable<RouteView> {
    const { rib4, rib6 } = this.parts.netbase;
    const views = function* (this: Views) {
      for (const rib of [rib4, rib6]) for (const row of rib.all()) yield this.route(row);
    };
    return this.reading(() => views.call(this));
  }

  /** One route as `ip -j -d route` has it. */
  route(row: RouteRow): RouteView {
    const { legs } = row;
    const whole = row.family === AF_INET6 ? 128 : 32;
    const prefix = formatAddress(row.family, row.dst);
    const leg = (i: number): Omit<NexthopView, "weight"> => ({
      ...this.gateway(row.family, legs.gatewayFamily[i]!, legs.gateway, i * 4),
      ...(legs.ifindex[i] !== 0 && { dev: this.name(legs.ifindex[i]!) }),
      flags: routeFlags(legs.flags[i]!),
    });
    return {
      family: family(row.family),
      type: typeName(row.type),
      dst: row.dstLen === 0 ? "default" : row.dstLen === whole ? prefix : `${prefix}/${row.dstLen}`,
      ...(legs.n === 1 && leg(0)),
      table: tableName(row.table),
      protocol: protocolName(row.protocol),
      ...(row.family !== AF_INET6 && { scope: scopeName(row.scope) }),
      ...(row.hasPrefsrc !== 0 && { prefsrc: formatAddress(row.family, row.prefsrc) }),
      ...(row.priority !== 0 && { metric: row.priority }),
      ...(row.tos !== 0 && { tos: `0x${row.tos.toString(16)}` }),
      ...(row.nhid !== 0 && { nhid: row.nhid }),
      ...(row.mtu !== 0 && { metrics: [{ mtu: row.mtu }] }),
      ...(row.family === AF_INET6 && row.type === RTN_UNICAST && { pref: prefName(row.pref) }),
      flags: legs.n === 1 ? routeFlags(legs.flags[0]!) : [],
      ...(legs.n > 1 && {
        nexthops: Array.from({ length: legs.n }, (_, i) => ({ ...leg(i), weight: legs.weight[i]! })),
      }),
    };
  }

  /** A next hop's gateway: in the route's own family, or by another (RTA_VIA). */
  private gateway(
    own: number,
    via: number,
    words: Int32Array,
    at: number,
  ): Pick<NexthopView, "gateway" | "via"> {
    if (via === 0) return {};
    const host = formatAddress(via, words, at);
    return via === own ? { gateway: host } : { via: { family: family(via), host } };
  }

  neighs(): Iterable<NeighView> {
    return this.reading(() =>
      this.parts.netbase.neighs().map((neigh) => ({
        dst: formatAddress(neigh.family, neigh.dst),
        dev: this.name(neigh.ifindex),
        lladdr: formatLladdr(neigh.lladdr),
        state: neighStates(neigh.state),
      })),
    );
  }

  queues(): QueueView[] {
    const { ifname, config } = this.parts;
    return this.parts.queues.map(({ queue, core, socket, thread }) => {
      const counts = thread.control.counters.snapshot();
      return {
        ifname,
        queue,
        mode: this.mode(socket.ref.zerocopy),
        poll: config.poll.mode,
        ...(core >= 0 && { core }),
        rxPackets: counts["rxPackets"]!,
        rxBytes: counts["rxBytes"]!,
        txPackets: counts["txPackets"]!,
        txBytes: counts["txBytes"]!,
        drops: dropNames.slice(1).reduce((sum, name) => sum + counts[name]!, 0),
        kernel: { ...statistics(socket.ref.fd) },
      };
    });
  }

  private mode(zerocopy: boolean): QueueView["mode"] {
    if (this.parts.attached.mode === "skb") return "skb";
    return zerocopy ? "zerocopy" : "copy";
  }

  capture(request: Request): Promise<Response> {
    return captureResponse(this.parts.captures, request);
  }

  drops(): DropView[] {
    const snapshots = this.parts.queues.map(({ thread }) => thread.control.counters.snapshot());
    const rows = dropNames.slice(1).map((reason, i) => ({
      reason,
      packets: snapshots.reduce((sum, counts) => sum + counts[reason]!, 0),
      perSecond: this.dropRates.get(reason) ?? 0,
      description: dropDescription(i + 1),
    }));
    const { config, program } = this.parts;
    if (!config.switch.firewall) return rows;
    const firewall = {
      reason: "firewall",
      packets: program.counters().dropped,
      perSecond: this.dropRates.get("firewall") ?? 0,
      description: "for the kernel, which neither asked for it nor has that port open",
    };
    return [...rows, firewall];
  }

  lookup(address: string, options: LookupOptions): LookupView {
    const [view] = this.reading(() => [explain(this.parts, this, address, options)]);
    const six = address.includes(":");
    const full = this.full().filter(([kind]) => !kind.endsWith(six ? "4" : "6"));
    return { ...view!, because: [...view!.because, ...full.map(([, text]) => `not all is known: ${text}`)] };
  }

  summary(): SummaryView {
    const { config, ifname, netbase, netlink, services } = this.parts;
    const tables = Object.entries(netbase.stats);
    return {
      version,
      pid: process.pid,
      uptimeSeconds: Math.round((performance.now() - this.startedAt) / 1000),
      interface: ifname,
      ...(config.interface.netns !== undefined && { netns: config.interface.netns }),
      services: services.names,
      sockets: config.switch.sockets,
      synced: netlink.control.counters.get("settled") === 1,
      tables: Object.fromEntries(
        tables.map(([kind, s]) => [kind, { used: s.entries, capacity: s.capacity }]),
      ),
      netlink: netlink.control.counters.snapshot(),
      warnings: this.warnings(),
    };
  }

  /** Tables that have not got all, and what to do: kind, sentence. */
  private full(): [string, string][] {
    const { stats } = this.parts.netbase;
    return Object.entries(stats)
      .filter(([, { missing }]) => missing)
      .map(([kind, { refused, capacity, entries }]) => {
        // Where there is room again, what did not fit is about to be read anew.
        const isOthers = kind.startsWith("routes") && (stats.nexthops.missing || stats.lines.missing);
        if (entries < capacity && isOthers)
          return [kind, `${kind}: ${refused} left out for want of room in other tables`];
        const cure = kind === "lines" ? "netbase.nexthops or netbase.routes4" : `netbase.${kind}`;
        return [kind, `${kind}: ${refused} did not fit (capacity ${capacity}); raise ${cure}`];
      });
  }

  private warnings(): string[] {
    const { attached, beyond, watch, switchboard } = this.parts;
    return [
      ...this.full().map(([, text]) => text),
      ...watch.warnings,
      ...(switchboard?.warnings ?? []),
      ...beyond,
      ...(attached.fallback ? [`SKB mode, which is slow: ${attached.fallback.message}`] : []),
    ];
  }

  /** The state at this moment, for the live table. */
  sample(): Sample {
    const queues = this.queues();
    const total = (key: "rxPackets" | "rxBytes" | "txPackets" | "txBytes") =>
      queues.reduce((sum, queue) => sum + queue[key], 0);
    const { neighbours4, neighbours6, routes4, routes6 } = this.parts.netbase.stats;
    return {
      t: performance.now(),
      rxPackets: total("rxPackets"),
      rxBytes: total("rxBytes"),
      txPackets: total("txPackets"),
      txBytes: total("txBytes"),
      drops: Object.fromEntries(this.drops().map(({ reason, packets }) => [reason, packets])),
      mode: queues[0]!.mode,
      neighbours: () => Iterator.from(this.neighs()).take(SHOWN).toArray(),
      routes: () => Iterator.from(this.routes()).take(SHOWN).toArray(),
      total: {
        neighbours: neighbours4.entries + neighbours6.entries,
        routes: routes4.entries + routes6.entries,
      },
    };
  }
}
