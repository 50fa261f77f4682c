// The library's entry: import { Netlink } from "netd/netlink".
//
//   await using nl = await Netlink.open({ netns: "blue" });
//   for await (const route of nl.routes.dump({ table: "main", oif: "eth0" })) console.log(route.dst, route.via);
//   await nl.routes.add({ dst: "10.1.0.0/16", via: "10.0.0.2" });
//
// The kernel answers rtnetlink requests before sendto returns, so nothing here waits but notifications (wait.ts), and
// long dumps let others have their turn. Everything that fails throws a NetlinkError or, if it is not the kernel that
// refused, a SysError: `errno`, `code`, `message`, and where the kernel said so `attribute`.
import { Batch } from "./batch.ts";
import { Ethtool } from "./ethtool.ts";
import { Genl } from "./genl.ts";
import { Netdev } from "./netdev.ts";
import { Netns } from "./netns.ts";
import type { MonitorGroup, MonitorOptions, Notice } from "./notice.ts";
import type { Stream } from "./monitor.ts";
import { Addrs, Core, Links, Neighs, Nexthops, Routes, Rules } from "./session.ts";

export { NetlinkError } from "./ack.ts";
export type { Batch, NewLink } from "./batch.ts";
export type { NeighColumns, RouteColumns } from "./columns.ts";
export type {
  Asking,
  Changeable,
  Changes,
  LinkChanges,
  Options,
  Refusal,
  RouteChanges,
} from "./collection.ts";
export type { Dump } from "./listing.ts";
export type {
  AddrFilter,
  AddrKey,
  LinkFilter,
  LinkKey,
  NeighFilter,
  NexthopFilter,
  RouteFilter,
  RuleFilter,
} from "./kinds.ts";
export type { Live, LiveEvent, LiveOptions } from "./liveview.ts";
export type { Channels, ChannelsSpec, Ethtool, Feature, LinkState, Rings, RingsSpec } from "./ethtool.ts";
export type { Command, Genl, GenlFamily, GenlNotice, GenlOverrun, OperationFlag } from "./genl.ts";
export type { Netdev, NetDevice, NetQueue, XdpFeature, XdpMetadata, XskFeature } from "./netdev.ts";
export type { ChangeFlags, Stream } from "./monitor.ts";
export type { MonitorGroup, MonitorOptions, Notice, ObjectNotice, OverrunNotice } from "./notice.ts";
export { Netns } from "./netns.ts";
export type { Addr, AddrFlag, AddrSpec, AddrTimes } from "./object/addr.ts";
export type { Unnamed } from "./object/codec.ts";
export type { Family, HexBit } from "./object/kind.ts";
export type { Link, LinkFlag, LinkSpec, LinkStatistics, LinkXdp, Operstate } from "./object/link.ts";
export type {
  BridgeData,
  LinkInfo,
  MacvlanData,
  TunData,
  VethData,
  VlanData,
  VrfData,
} from "./object/linkdata.ts";
export type {
  Neigh,
  NeighExtFlag,
  NeighFlag,
  NeighKey,
  NeighSpec,
  NeighState,
  NeighTimes,
} from "./object/neigh.ts";
export type { GroupMember, Nexthop, NexthopFlag, NexthopSpec, ResilientGroup } from "./object/nexthop.ts";
export type { Protocol, Scope, Table } from "./object/numbers.ts";
export type {
  Leg,
  LegSpec,
  LookupSpec,
  PathType,
  RejectType,
  Route,
  RouteFlag,
  RouteKey,
  RouteMetrics,
  RoutePreference,
  RouteSpec,
  RouteTimes,
  RouteType,
} from "./object/routespec.ts";
export type { Range, Rule, RuleAction, RuleFlag, RuleKey, RuleSelectors, RuleSpec } from "./object/rule.ts";

export type { Addrs, Links, Neighs, Nexthops, Routes, Rules } from "./session.ts";

export interface OpenOptions {
  /** a path, the pid of a process in it, the name that `ip netns` gave it, or an open one; ours if missing */
  netns?: string | number | Netns;
}

/** rtnetlink in one namespace: what the kernel's network is, and how it is changed. Close it, or `await using`. */
export class Netlink implements AsyncDisposable {
  readonly links: Links;
  readonly addrs: Addrs;
  readonly routes: Routes;
  readonly nexthops: Nexthops;
  readonly neighs: Neighs;
  readonly rules: Rules;
  /** Generic netlink's families, and requests to them. */
  readonly genl: Genl;
  readonly ethtool: Ethtool;
  readonly netdev: Netdev;
  private readonly core: Core;
  private batches = 0;

  private constructor(core: Core) {
    this.core = core;
    this.links = new Links(core);
    this.addrs = new Addrs(core);
    this.routes = new Routes(core);
    this.nexthops = new Nexthops(core);
    this.neighs = new Neighs(core);
    this.rules = new Rules(core);
    this.genl = new Genl(core.netns, core);
    this.ethtool = new Ethtool(this.genl);
    this.netdev = new Netdev(this.genl);
  }

  /** @throws SysError if there is no such namespace, or it may not be entered */
  static async open(options: OpenOptions = {}): Promise<Netlink> {
    const { netns } = options;
    const own =
      netns === undefined
        ? Netns.current()
        : typeof netns === "object"
          ? Netns.open(netns.path)
          : Netns.open(netns);
    try {
      return new Netlink(new Core(own));
    } catch (error) {
      own.close();
      throw error;
    }
  }

  /** Changes that go to the kernel together: for many, or in one breath. */
  batch(): Batch {
    const { core } = this;
    const firstSeq = (0x80000000 + ((this.batches++ & 0x7f) << 24)) >>> 0;
    return new Batch(
      (link) => core.ifindex(link),
      firstSeq,
      (m) => core.requests.submit(m),
    );
  }

  /**
   * Notifications of these kinds from now on, in the kernel's order, until the signal aborts or the loop is left.
   * @throws SysError
   */
  monitor(groups: readonly MonitorGroup[], options: MonitorOptions = {}): Stream<Notice> {
    return this.core.monitor(groups, options);
  }

  /** The index of the link of that name. @throws NetlinkError (ENODEV) */
  ifindex(name: string): number {
    return this.core.ifindex(name);
  }

  async close(): Promise<void> {
    this.genl.close();
    this.core.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
