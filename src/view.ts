// What the admin socket serves and `netd show` renders: plain objects, made by the daemon's view.
// Field names are those of `ip -j` wherever ip has the field; what ip does not know is camelCase.
// A field that the kernel did not give is absent, as in ip's output.

export type Family = "inet" | "inet6";

/** As `ip -j -d link`. */
export interface LinkView {
  ifindex: number;
  ifname: string;
  /** "UP", "LOWER_UP", "NO-CARRIER"... as ip prints them */
  flags: string[];
  mtu: number;
  /** "UP", "DOWN", "UNKNOWN", "LOWERLAYERDOWN"... */
  operstate: string;
  /** "ether", "loopback", "none"... */
  link_type: string;
  /** link-layer address */
  address?: string;
  /** name of the bridge, bond or VRF that it is in */
  master?: string;
  /** name of the lower device; link_index where it lives in another namespace */
  link?: string;
  link_index?: number;
  linkinfo?: { info_kind: string; info_data?: { id: number } };
}

/** One entry of `addr_info` in `ip -j addr`, with its interface. */
export interface AddrView {
  ifindex: number;
  ifname: string;
  family: Family;
  local: string;
  /** the far end, where it is not the same */
  address?: string;
  prefixlen: number;
  scope: string;
  /** "permanent", "tentative", "deprecated", "secondary"... */
  flags?: string[];
}

export interface NexthopView {
  gateway?: string;
  via?: { family: Family; host: string };
  dev?: string;
  weight: number;
  flags: string[];
}

/** As `ip -j -d route show table all`. */
export interface RouteView {
  family: Family;
  /** "unicast", "local", "broadcast", "multicast", "anycast", "blackhole", "unreachable", "prohibit", "throw" */
  type: string;
  /** "default", "10.0.0.0/8", or a bare address for a host route */
  dst: string;
  /** IPv6 source-specific routes only */
  from?: string;
  gateway?: string;
  via?: { family: Family; host: string };
  dev?: string;
  /** "main", "local", or the number */
  table: string;
  protocol: string;
  scope?: string;
  prefsrc?: string;
  metric?: number;
  tos?: string;
  nhid?: number;
  pref?: string;
  metrics?: { mtu: number }[];
  /** "onlink", "dead", "linkdown" */
  flags: string[];
  /** two legs or more */
  nexthops?: NexthopView[];
}

/** As `ip -j neigh`. */
export interface NeighView {
  dst: string;
  dev: string;
  lladdr?: string;
  /** "REACHABLE", "STALE"...; one element, as ip has it */
  state: string[];
  flags?: string[];
}

/** One net Worker: a queue of the card. Counters run from the daemon's start. */
export interface QueueView {
  ifname: string;
  queue: number;
  /** how frames get to userspace */
  mode: "zerocopy" | "copy" | "skb";
  /** "busy", "adaptive", "interrupt" */
  poll: string;
  /** CPU it is pinned to */
  core?: number;
  rxPackets: number;
  rxBytes: number;
  txPackets: number;
  txBytes: number;
  drops: number;
  /** getsockopt(XDP_STATISTICS): what the kernel could not deliver or send, and why */
  kernel?: Record<string, number>;
}

/** One reason for which packets were dropped, over all queues. Reasons that never happened are listed too. */
export interface DropView {
  reason: string;
  packets: number;
  /** of the last whole second */
  perSecond: number;
  /** in words */
  description: string;
}

/** What a client sent and got, or as much of it a second. */
export interface TrafficView {
  /** to the client */
  toPackets: number;
  toBytes: number;
  /** from the client, what was dropped of it too */
  fromPackets: number;
  fromBytes: number;
  dropped: number;
}

/** A client: another network stack on the card. */
export interface ClientView extends TrafficView {
  client: number;
  pid: number;
  uid: number;
  gid: number;
  /** its program's name */
  command: string;
  /** where its socket is bound */
  path: string;
  mac: string;
  /** the queue whose net Worker receives from it */
  queue: number;
  /** since it came */
  seconds: number;
  matches: number;
  claims: number;
  perSecond: TrafficView;
  /** by reason, those that happened */
  drops: Record<string, number>;
}

/** What a client asked for, or (claims) has by sending first. An address or port that is not given is any. */
export interface MatchView {
  kind: "match" | "group" | "claim" | "dhcp";
  /** "tcp", "udp"... */
  protocol: string;
  /** the client's own side, with its prefix length if it is not one address */
  dst?: string;
  dport?: number;
  /** the other side */
  src?: string;
  sport?: number;
  /** DHCP's transaction id */
  xid?: string;
  client: number;
  pid: number;
  command: string;
  /** since it was made, and since its last frame */
  seconds: number;
  idle: number;
  /** claims: until it ends, if there is no frame meanwhile */
  expires?: number;
}

/** A signed grant that somebody has presented, and that has not ended. */
export interface GrantView {
  /** SHA-256 of the chain */
  grant: string;
  /** of its links, the issuer's first */
  ids: readonly string[];
  issuer: string;
  subject: string;
  /** whose it is: a process, bound to a path */
  pid: number;
  uid: number;
  path: string;
  /** until it ends by itself */
  seconds: number;
  /** what all links allow, in a grant's own words */
  details: readonly object[];
}

/** A filter of a client's, or one of the operator's rules, and what became of the packets that it decided about. */
export interface FilterView {
  layer: "client" | "user" | "system";
  /** to clients, or from them */
  direction: "in" | "out";
  client?: number;
  pid?: number;
  /** the client's, or whose clients a rule is about */
  uid?: number;
  command?: string;
  /** what it narrows; missing: all of the client's packets */
  match?: MatchView;
  rule?: string;
  instructions?: number;
  run?: "compiled" | "interpreted";
  passed: number;
  refused: number;
}

/** What a lookup may be told beside the destination. */
export interface LookupOptions {
  /** source address */
  from?: string;
  /** outgoing interface, by name */
  oif?: string;
  /** the whole TOS byte, 0 to 255 */
  tos?: number;
  /** for the choice among several legs */
  flow?: { protocol: number; sport: number; dport: number };
}

/** The whole transmit decision for one packet, with the fields of `ip -j route get` first. */
export interface LookupView {
  dst: string;
  from?: string;
  /** type of the route that matched; "unreachable" if none did */
  type: string;
  gateway?: string;
  dev?: string;
  prefsrc?: string;
  table?: string;
  /** what a packet may have at most */
  mtu?: number;
  /** the neighbour that the frame goes to (the gateway, or dst itself), its address and state */
  neighbour?: string;
  lladdr?: string;
  state?: string[];
  /** what a net Worker would do: "send", "solicit" (ask for the neighbour first), "kernel" (local), or "drop" */
  verdict: "send" | "solicit" | "kernel" | "drop";
  /** the drop's reason, one of /drops */
  reason?: string;
  /** the entry that matched */
  route?: RouteView;
  /** why: which entry matched and what it beat, which leg and by what hash, why this source; in order */
  because: string[];
}

/** Rows in use of one table, and how many fit. */
export interface UseView {
  used: number;
  capacity: number;
}

export interface SummaryView {
  version: string;
  pid: number;
  uptimeSeconds: number;
  interface: string;
  netns?: string;
  /** "echo 10.77.0.1:7"... */
  services: string[];
  /** paths of the control sockets */
  sockets: string[];
  /** the mirror is complete and no resync is under way */
  synced: boolean;
  tables: Record<string, UseView>;
  /** overruns, resyncs, interrupted dumps, sweeps, solicitations...: counters by name */
  netlink: Record<string, number>;
  /** what the operator should know: policy rules and routes that are not followed, a table at capacity... */
  warnings: string[];
}

/** What the daemon shows. Iterables may be long and are read piece by piece while the tables change. */
export interface DaemonView {
  links(): Iterable<LinkView>;
  addrs(): Iterable<AddrView>;
  routes(): Iterable<RouteView>;
  neighs(): Iterable<NeighView>;
  queues(): Iterable<QueueView>;
  drops(): Iterable<DropView>;
  clients(): Iterable<ClientView>;
  matches(): Iterable<MatchView>;
  claims(): Iterable<MatchView>;
  filters(): Iterable<FilterView>;
  grants(): Iterable<GrantView>;
  /** @throws an Error whose message is fit for the client, for an interface that does not exist and the like */
  lookup(address: string, options: LookupOptions): LookupView;
  summary(): SummaryView;
  /** Answers POST /capture. */
  capture(request: Request): Promise<Response>;
}
