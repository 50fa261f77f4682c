// `netd show` and `netd lookup`: print what the daemon says, as it came with --json (arrays as `ip -j` makes them, with a
// row a line), as aligned tables for people otherwise. ask.ts does the asking.
import type { ListName } from "./admin.ts";
import { ask, pieces, rows } from "./ask.ts";
import { print, printable, type Style } from "./out.ts";
import { type Column, grouped, table } from "./table.ts";
import type {
  AddrView,
  ClientView,
  DropView,
  FilterView,
  GrantView,
  LinkView,
  LookupView,
  MatchView,
  NeighView,
  NexthopView,
  QueueView,
  RouteView,
  SummaryView,
} from "./view.ts";

export interface ShowOptions {
  /** path of the admin socket */
  readonly socket: string;
  readonly json: boolean;
  readonly style: Style;
}

const words = (list: readonly string[] | undefined): string => list?.join(" ") ?? "";
const hop = (leg: NexthopView | RouteView): string => leg.gateway ?? leg.via?.host ?? "";

const link: Column<LinkView>[] = [
  { title: "INDEX", cell: (row) => row.ifindex, right: true },
  { title: "NAME", cell: (row) => row.ifname },
  { title: "STATE", cell: (row) => row.operstate },
  { title: "MTU", cell: (row) => row.mtu, right: true },
  { title: "TYPE", cell: (row) => row.linkinfo?.info_kind ?? row.link_type },
  { title: "ADDRESS", cell: (row) => row.address },
  { title: "ON", cell: (row) => row.link ?? row.link_index },
  { title: "MASTER", cell: (row) => row.master },
  { title: "VLAN", cell: (row) => row.linkinfo?.info_data?.id, right: true },
  { title: "FLAGS", cell: (row) => words(row.flags) },
];

const addr: Column<AddrView>[] = [
  { title: "DEV", cell: (row) => row.ifname },
  { title: "ADDRESS", cell: (row) => `${row.local}/${row.prefixlen}` },
  { title: "PEER", cell: (row) => row.address },
  { title: "SCOPE", cell: (row) => row.scope },
  { title: "FLAGS", cell: (row) => words(row.flags) },
];

const route: Column<RouteView>[] = [
  { title: "TABLE", cell: (row) => row.table },
  { title: "TYPE", cell: (row) => row.type },
  { title: "DST", cell: (row) => (row.from ? `${row.dst} from ${row.from}` : row.dst) },
  { title: "VIA", cell: (row) => legs(row, hop) },
  { title: "DEV", cell: (row) => legs(row, (leg) => leg.dev ?? "") },
  { title: "WEIGHT", cell: (row) => row.nexthops?.map((leg) => leg.weight).join("|") },
  { title: "SRC", cell: (row) => row.prefsrc },
  { title: "METRIC", cell: (row) => row.metric, right: true },
  { title: "TOS", cell: (row) => row.tos },
  { title: "MTU", cell: (row) => row.metrics?.[0]?.mtu, right: true },
  { title: "NHID", cell: (row) => row.nhid, right: true },
  { title: "PROTO", cell: (row) => row.protocol },
  { title: "SCOPE", cell: (row) => row.scope },
  { title: "FLAGS", cell: (row) => words([...row.flags, ...legFlags(row)]) },
];

/** A route is one line however many legs it has: "10.0.0.2|10.0.0.3". */
function legs(row: RouteView, cell: (leg: NexthopView | RouteView) => string): string {
  return row.nexthops ? row.nexthops.map((leg) => cell(leg) || "-").join("|") : cell(row);
}

const legFlags = (row: RouteView): string[] =>
  (row.nexthops ?? []).flatMap(({ flags }, i) => flags.map((flag) => `leg${i + 1}:${flag}`));

const neigh: Column<NeighView>[] = [
  { title: "ADDRESS", cell: (row) => row.dst },
  { title: "DEV", cell: (row) => row.dev },
  { title: "LLADDR", cell: (row) => row.lladdr },
  { title: "STATE", cell: (row) => words(row.state) },
  { title: "FLAGS", cell: (row) => words(row.flags) },
];

const queue: Column<QueueView>[] = [
  { title: "DEV", cell: (row) => row.ifname },
  { title: "QUEUE", cell: (row) => row.queue, right: true },
  { title: "MODE", cell: (row) => row.mode },
  { title: "POLL", cell: (row) => row.poll },
  { title: "CORE", cell: (row) => row.core, right: true },
  { title: "RX PACKETS", cell: (row) => grouped(row.rxPackets), right: true },
  { title: "RX BYTES", cell: (row) => grouped(row.rxBytes), right: true },
  { title: "TX PACKETS", cell: (row) => grouped(row.txPackets), right: true },
  { title: "TX BYTES", cell: (row) => grouped(row.txBytes), right: true },
  { title: "DROPS", cell: (row) => grouped(row.drops), right: true },
  {
    title: "KERNEL",
    cell: (row) =>
      words(
        Object.entries(row.kernel ?? {})
          .filter(([, n]) => n > 0)
          .map(([name, n]) => `${name}=${n}`),
      ),
  },
];

const drop: Column<DropView>[] = [
  { title: "REASON", cell: (row) => row.reason },
  { title: "PACKETS", cell: (row) => grouped(row.packets), right: true },
  { title: "/S", cell: (row) => grouped(Math.round(row.perSecond)), right: true },
  { title: "WHAT IT MEANS", cell: (row) => row.description },
];

const perSecond = (what: keyof ClientView["perSecond"]) => (row: ClientView) =>
  grouped(Math.round(row.perSecond[what]));

const client: Column<ClientView>[] = [
  { title: "CLIENT", cell: (row) => row.client, right: true },
  { title: "PID", cell: (row) => row.pid, right: true },
  { title: "UID", cell: (row) => row.uid, right: true },
  { title: "PROGRAM", cell: (row) => row.command },
  { title: "MAC", cell: (row) => row.mac },
  { title: "QUEUE", cell: (row) => row.queue, right: true },
  { title: "UP S", cell: (row) => grouped(row.seconds), right: true },
  { title: "MATCHES", cell: (row) => grouped(row.matches), right: true },
  { title: "CLAIMS", cell: (row) => grouped(row.claims), right: true },
  { title: "TO IT", cell: (row) => grouped(row.toPackets), right: true },
  { title: "/S", cell: perSecond("toPackets"), right: true },
  { title: "FROM IT", cell: (row) => grouped(row.fromPackets), right: true },
  { title: "/S", cell: perSecond("fromPackets"), right: true },
  { title: "DROPS", cell: (row) => grouped(row.dropped), right: true },
  { title: "/S", cell: perSecond("dropped"), right: true },
  {
    title: "WHY",
    cell: (row) =>
      words(
        Object.entries(row.drops)
          .toSorted(([, a], [, b]) => b - a)
          .slice(0, 3)
          .map(([reason, n]) => `${reason}=${n}`),
      ),
  },
];

const end = (address: string | undefined, port: number | undefined): string =>
  `${address ?? "*"} ${port ?? "*"}`;

const match: Column<MatchView>[] = [
  { title: "PROTO", cell: (row) => row.protocol },
  { title: "OWN ADDRESS, PORT", cell: (row) => row.xid ?? end(row.dst, row.dport) },
  { title: "OTHER SIDE", cell: (row) => (row.xid ? "" : end(row.src, row.sport)) },
  { title: "KIND", cell: (row) => row.kind },
  { title: "CLIENT", cell: (row) => row.client, right: true },
  { title: "PID", cell: (row) => row.pid, right: true },
  { title: "PROGRAM", cell: (row) => row.command },
  { title: "S OLD", cell: (row) => grouped(row.seconds), right: true },
  { title: "S IDLE", cell: (row) => grouped(row.idle), right: true },
];

const claim: Column<MatchView>[] = [
  ...match,
  { title: "S LEFT", cell: (row) => (row.expires === undefined ? "" : grouped(row.expires)), right: true },
];

const narrowed = ({ protocol, dst, dport, src, sport }: MatchView): string =>
  `${protocol} ${end(dst, dport)}${src || sport !== undefined ? ` from ${end(src, sport)}` : ""}`;

const grant: Column<GrantView>[] = [
  { title: "IDS", cell: (row) => row.ids.join(" > ") },
  { title: "ISSUER", cell: (row) => row.issuer },
  { title: "SUBJECT", cell: (row) => row.subject },
  { title: "PID", cell: (row) => row.pid, right: true },
  { title: "UID", cell: (row) => row.uid, right: true },
  { title: "SECONDS", cell: (row) => grouped(row.seconds), right: true },
  { title: "ALLOWS", cell: (row) => row.details.map((detail) => JSON.stringify(detail)).join(" or ") },
];

const filter: Column<FilterView>[] = [
  { title: "LAYER", cell: (row) => row.layer },
  { title: "WAY", cell: (row) => row.direction },
  { title: "CLIENT", cell: (row) => row.client, right: true },
  { title: "PID", cell: (row) => row.pid, right: true },
  { title: "UID", cell: (row) => row.uid, right: true },
  { title: "PROGRAM", cell: (row) => row.command },
  { title: "OF", cell: (row) => row.rule ?? (row.match ? narrowed(row.match) : "all") },
  { title: "SIZE", cell: (row) => row.instructions, right: true },
  { title: "RUN", cell: (row) => row.run },
  { title: "PASSED", cell: (row) => grouped(row.passed), right: true },
  { title: "REFUSED", cell: (row) => grouped(row.refused), right: true },
];

// biome-ignore lint/suspicious/noExplicitAny: each list has its own row type, and the daemon is trusted with it
const columns: Record<ListName, readonly Column<any>[]> = {
  links: link,
  addrs: addr,
  routes: route,
  neighs: neigh,
  queues: queue,
  drops: drop,
  clients: client,
  matches: match,
  claims: claim,
  filters: filter,
  grants: grant,
};

/** Lines of "name  value", without those that have no value. */
function pairs(entries: [string, string | number | undefined][], { strong }: Style): string {
  const present = entries.filter(([, value]) => value !== undefined && value !== "");
  const width = Math.max(...present.map(([name]) => name.length));
  return present
    .map(([name, value]) => `${strong(name.padEnd(width))}  ${printable(String(value)).trimEnd()}\n`)
    .join("");
}

/** The whole transmit decision, for people. */
export function lookupText(view: LookupView, style: Style): string {
  const matched = view.route;
  const text = pairs(
    [
      ["to", view.from ? `${view.dst} from ${view.from}` : view.dst],
      ["verdict", view.reason ? `${view.verdict}: ${view.reason}` : view.verdict],
      ["route", matched && `${matched.type} ${matched.dst} table ${matched.table} proto ${matched.protocol}`],
      ["type", matched ? undefined : view.type],
      ["next hop", view.gateway ?? (view.dev && view.neighbour ? "on link" : undefined)],
      ["interface", view.dev],
      ["source", view.prefsrc],
      ["mtu", view.mtu],
      ["neighbour", view.neighbour && `${view.neighbour} ${view.lladdr ?? "unknown"} ${words(view.state)}`],
    ],
    style,
  );
  return text + view.because.map((reason) => `${style.faint(`  ${printable(reason)}`)}\n`).join("");
}

/** The daemon in one screen, for people. */
export function summaryText(view: SummaryView, style: Style): string {
  const tables = Object.entries(view.tables).map(([name, { used, capacity }]): [string, string] => [
    name,
    `${grouped(used)} of ${grouped(capacity)}`,
  ]);
  const counters = Object.entries(view.netlink).map(([name, n]): [string, string] => [name, grouped(n)]);
  const text = pairs(
    [
      ["netd", `${view.version}, pid ${view.pid}, up ${grouped(view.uptimeSeconds)} s`],
      ["interface", view.netns ? `${view.interface} in ${view.netns}` : view.interface],
      ["services", view.services.join(", ") || "none"],
      ["clients", view.sockets.join(", ")],
      ["mirror", view.synced ? "in sync with the kernel" : "not in sync yet"],
      ...tables,
      ...counters,
    ],
    style,
  );
  return text + view.warnings.map((warning) => `${style.alarm("warning")}: ${printable(warning)}\n`).join("");
}

/** Prints one list of the daemon, or its summary. */
export async function show(what: ListName | "summary", { socket, json, style }: ShowOptions): Promise<void> {
  const response = await ask(socket, what);
  if (what === "summary" && !json) {
    await print(summaryText((await response.json()) as SummaryView, style));
    return;
  }
  const text = json ? pieces(response) : table(columns[what as ListName], rows(response), style);
  for await (const piece of text) if (!(await print(piece))) return;
  if (json && what === "summary") await print("\n");
}

/** Prints what the daemon would do with a packet; `query` has address, from, oif, tos, flow. */
export async function lookup(query: URLSearchParams, { socket, json, style }: ShowOptions): Promise<void> {
  const view = (await (await ask(socket, `lookup?${query}`)).json()) as LookupView;
  await print(json ? `${JSON.stringify(view)}\n` : lookupText(view, style));
}
