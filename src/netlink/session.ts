// One Netlink's parts: the socket of its requests, those of its dumps, and its collections of each kind.
import { NetlinkError } from "./ack.ts";
import type { NewLink } from "./batch.ts";
import {
  Asking,
  Changeable,
  Changes,
  type Definition,
  LinkChanges,
  type Options,
  RouteChanges,
  type Session,
  type Sink,
} from "./collection.ts";
import { NeighColumns, RouteColumns } from "./columns.ts";
import { NETLINK_ROUTE } from "./constants.ts";
import type { Dump } from "./listing.ts";
import * as kinds from "./kinds.ts";
import type { Netns } from "./netns.ts";
import { type MonitorGroup, monitor, type MonitorOptions, type Notice, type KindName } from "./notice.ts";
import type { Stream } from "./monitor.ts";
import { Live, type LiveOptions } from "./liveview.ts";
import type { Addr, AddrSpec } from "./object/addr.ts";
import { familyNumber, type Kind } from "./object/kind.ts";
import type { Link, LinkSpec } from "./object/link.ts";
import type { Neigh, NeighKey, NeighSpec } from "./object/neigh.ts";
import type { Nexthop, NexthopSpec } from "./object/nexthop.ts";
import type { LookupSpec, Route, RouteKey, RouteSpec } from "./object/routespec.ts";
import type { Rule, RuleKey, RuleSpec } from "./object/rule.ts";
import { Puller } from "./pull.ts";
import { Rtnetlink } from "./request.ts";

const ENOENT = 2;
const ENODEV = 19;

/** How many questions' lengths are remembered. */
const MOST_LENGTHS = 64;

type Done = Promise<void>;

export class Links extends LinkChanges<NewLink, LinkSpec, kinds.LinkKey, Done> {
  readonly dump: Asking<Link, kinds.LinkKey, kinds.LinkFilter>["dump"];
  readonly get: Asking<Link, kinds.LinkKey, kinds.LinkFilter>["get"];
  private readonly session: Core;

  constructor(session: Core) {
    super(kinds.links, session);
    this.session = session;
    ({ dump: this.dump, get: this.get } = asking(kinds.links, session));
  }

  /** A view of all that the filter asks for, kept as the kernel has it. @throws SysError */
  live(filter: kinds.LinkFilter = {}, options: LiveOptions = {}): Live<"links"> {
    return this.session.live("links", filter, options);
  }
}

export class Addrs extends Changeable<AddrSpec, kinds.AddrKey, Done> {
  readonly dump: Asking<Addr, kinds.AddrKey, kinds.AddrFilter>["dump"];
  readonly get: Asking<Addr, kinds.AddrKey, kinds.AddrFilter>["get"];
  private readonly session: Core;

  constructor(session: Core) {
    super(kinds.addrs, session);
    this.session = session;
    ({ dump: this.dump, get: this.get } = asking(kinds.addrs, session));
  }

  /** A view of all that the filter asks for, kept as the kernel has it. @throws SysError */
  live(filter: kinds.AddrFilter = {}, options: LiveOptions = {}): Live<"addrs"> {
    return this.session.live("addrs", filter, options);
  }
}

export class Routes extends RouteChanges<RouteSpec | Route, RouteKey | Route, Done> {
  readonly dump: Asking<Route, RouteKey, kinds.RouteFilter>["dump"];
  private readonly session: Core;

  constructor(session: Core) {
    super(kinds.routes, session);
    this.session = session;
    ({ dump: this.dump } = asking(kinds.routes, session));
  }

  /**
   * All that the filter asks for, of one family (IPv4 if it does not say), in typed arrays: for tables of many.
   * @throws NetlinkError, SysError
   */
  async columns(filter: kinds.RouteFilter = {}, { signal }: Options = {}): Promise<RouteColumns> {
    const { family = "inet" } = filter;
    const columns = new RouteColumns(familyNumber(family));
    await this.session.columns(kinds.routes, { ...filter, family }, columns, signal);
    return columns;
  }

  /** `ip route get`: where a packet would go. @throws NetlinkError (ENETUNREACH...) if nowhere */
  async get(spec: LookupSpec | string, options: Options = {}): Promise<Route> {
    options.signal?.throwIfAborted();
    const { session } = this;
    const asked = typeof spec === "string" ? { dst: spec } : spec;
    return session.ask(kinds.routes.kind, (m) => kinds.lookup(m, asked, session), true)!;
  }

  /** A view of all that the filter asks for, kept as the kernel has it. @throws SysError */
  live(filter: kinds.RouteFilter = {}, options: LiveOptions = {}): Live<"routes"> {
    return this.session.live("routes", filter, options);
  }
}

export class Nexthops extends Changeable<NexthopSpec | Nexthop, number, Done> {
  readonly dump: Asking<Nexthop, number, kinds.NexthopFilter>["dump"];
  readonly get: Asking<Nexthop, number, kinds.NexthopFilter>["get"];
  private readonly session: Core;

  constructor(session: Core) {
    super(kinds.nexthops, session);
    this.session = session;
    ({ dump: this.dump, get: this.get } = asking(kinds.nexthops, session));
  }

  /** A view of all that the filter asks for, kept as the kernel has it. @throws SysError */
  live(filter: kinds.NexthopFilter = {}, options: LiveOptions = {}): Live<"nexthops"> {
    return this.session.live("nexthops", filter, options);
  }
}

export class Neighs extends Changeable<NeighSpec, NeighKey, Done> {
  readonly dump: Asking<Neigh, NeighKey, kinds.NeighFilter>["dump"];
  readonly get: Asking<Neigh, NeighKey, kinds.NeighFilter>["get"];
  private readonly session: Core;

  constructor(session: Core) {
    super(kinds.neighs, session);
    this.session = session;
    ({ dump: this.dump, get: this.get } = asking(kinds.neighs, session));
  }

  /**
   * All that the filter asks for, of one family (IPv4 if it does not say), in typed arrays: for tables of many.
   * @throws NetlinkError, SysError
   */
  async columns(
    filter: Omit<kinds.NeighFilter, "state"> = {},
    { signal }: Options = {},
  ): Promise<NeighColumns> {
    const { family = "inet" } = filter;
    const columns = new NeighColumns(familyNumber(family));
    await this.session.columns(kinds.neighs, { ...filter, family }, columns, signal);
    return columns;
  }

  /**
   * A view of all that the filter asks for, kept as the kernel has it; without group addresses and proxy entries, of
   * which the kernel does not tell. @throws SysError
   */
  live(filter: Omit<kinds.NeighFilter, "proxy"> = {}, options: LiveOptions = {}): Live<"neighs"> {
    return this.session.live("neighs", filter, options);
  }
}

export class Rules extends Changes<RuleSpec, RuleKey, Done> {
  readonly dump: Asking<Rule, RuleKey, kinds.RuleFilter>["dump"];
  readonly get: Asking<Rule, RuleKey, kinds.RuleFilter>["get"];
  private readonly session: Core;

  constructor(session: Core) {
    super(kinds.rules, session);
    this.session = session;
    ({ dump: this.dump, get: this.get } = asking(kinds.rules, session));
  }

  /** A view of all that the filter asks for, kept as the kernel has it. @throws SysError */
  live(filter: kinds.RuleFilter = {}, options: LiveOptions = {}): Live<"rules"> {
    return this.session.live("rules", filter, options);
  }
}

function asking<T extends object, Key, Filter extends object>(
  definition: Definition<T, Key, Filter>,
  session: Session,
): Pick<Asking<T, Key, Filter>, "dump" | "get"> {
  const asks = new Asking(definition, session);
  return {
    dump: (filter?: Filter, options?: Options): Dump<T> => asks.dump(filter, options),
    get: (key: Key, options?: Options) => asks.get(key, options),
  };
}

/** What all parts of one Netlink share: the namespace, the socket of requests, those of dumps. */
export class Core implements Session, Sink<Done> {
  readonly netns: Netns;
  readonly request = true;
  family = 0;
  readonly puller: Puller;
  readonly requests: Rtnetlink;
  private names: Rtnetlink | undefined;
  /** How long columns were, by what was asked for. */
  private readonly lengths = new Map<string, number>();
  /** What would go on by itself. */
  private readonly open = new Set<{ close(): void }>();

  constructor(netns: Netns) {
    this.netns = netns;
    this.puller = new Puller(netns, NETLINK_ROUTE);
    this.requests = new Rtnetlink(netns);
  }

  ifindex(link: number | string): number {
    if (typeof link === "number") return link;
    // In the middle of a request that is being written: not on its socket.
    this.names ??= new Rtnetlink(this.netns);
    return this.names.ifindex(link);
  }

  pull: Session["pull"] = (fill, options) => this.puller.pull(fill, options);

  ask<T extends object>(kind: Kind<T>, fill: (m: never) => void, strict = false): T | undefined {
    let found: T | undefined;
    try {
      this.requests.get(fill as never, (words, bytes, off, len) => {
        found ??= kind.decode(words, bytes, off, len);
      });
    } catch (error) {
      const absent = error instanceof NetlinkError && (error.errno === ENOENT || error.errno === ENODEV);
      if (strict || !absent) throw error;
    }
    return found;
  }

  async change(fill: (m: never) => void, options: Options | undefined): Promise<void> {
    options?.signal?.throwIfAborted();
    this.requests.call(fill as never);
  }

  live<K extends KindName>(kind: K, filter: object, options: LiveOptions): Live<K> {
    const live: Live<K> = new Live(kind, filter, this.netns, this, options, () => this.open.delete(live));
    this.open.add(live);
    return live;
  }

  async columns<T extends object, Key, Filter>(
    definition: Definition<T, Key, Filter>,
    filter: Filter,
    columns: RouteColumns | NeighColumns,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const watch = definition.watch(filter);
    const asked = `${definition.kind.name} ${JSON.stringify(filter)}`;
    // Tables are mostly as large as they were.
    columns.expect(this.lengths.get(asked) ?? 0);
    for (const fill of definition.dumps(filter, this))
      await this.puller.repeat(fill, { signal, watch }, columns);
    if (this.lengths.size >= MOST_LENGTHS) this.lengths.clear();
    this.lengths.set(asked, columns.length);
  }

  monitor(groups: readonly MonitorGroup[], options: MonitorOptions): Stream<Notice> {
    const stream = monitor(this.netns, groups, options, (closed) => this.open.delete(closed));
    this.open.add(stream);
    return stream;
  }

  close(): void {
    for (const one of [...this.open]) one.close();
    this.puller.close();
    this.requests.close();
    this.names?.close();
    this.netns.close();
  }
}
