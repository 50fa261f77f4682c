// The tables of a mirror and of the kernel (as `ip -j` tells them), as lines that must be equal. Where order matters
// (IPv4 routes of one key) it is in the lines; where the kernel turns it around at will (legs of IPv6 routes) it is not.
import type { Host } from "../../src/lab/host.ts";
import { AF_INET, AF_INET6 } from "../../src/netlink/constants.ts";
import { USABLE } from "../../src/netbase/neigh.ts";
import type { Legs, RouteRow } from "../../src/netbase/rows.ts";
import { formatAddress, formatLladdr } from "../../src/wire/address.ts";
import type { Mirrored } from "./mirrored.ts";

export type Tables = Record<
  "links" | "addrs" | "routes4" | "routes6" | "sourced" | "nexthops" | "neighs",
  string[]
>;

// biome-ignore lint/suspicious/noExplicitAny: what ip prints is taken at its word here
type Json = Record<string, any>;

/** `ip -j ...` in a namespace. */
export function ip(host: Host, ...args: string[]): Json[] {
  const { stdout, stderr, exitCode } = Bun.spawnSync(host.command("ip", "-j", ...args));
  if (exitCode !== 0) throw new Error(`ip ${args.join(" ")}: ${stderr}`);
  return JSON.parse(stdout.toString() || "[]");
}

/**
 * Takes out what the kernel has forgotten: an IPv6 route between the legs of another, which its walks go over
 * (fib6_clean_node), outlives its interface's going down, and draws packets to where none can be sent.
 */
export function removeForgotten(host: Host): void {
  const down = new Set(
    ip(host, "link").flatMap((link) => (link["flags"].includes("UP") ? [] : link["ifname"])),
  );
  for (const r of ip(host, "-6", "-N", "-d", "route", "show", "table", "all")) {
    if (r["type"] !== "1" || r["nhid"] !== undefined || r["nexthops"] !== undefined) continue;
    if (!down.has(r["dev"]) || r["flags"].includes("dead")) continue;
    const from = r["from"] === undefined ? [] : ["from", r["from"]];
    ip(
      host,
      "-6",
      "route",
      "del",
      r["dst"],
      ...from,
      "dev",
      r["dev"],
      "metric",
      `${r["metric"]}`,
      "table",
      `${r["table"]}`,
    );
  }
}

const FLAGS: readonly (readonly [number, string])[] = [
  [1, "dead"],
  [2, "pervasive"],
  [4, "onlink"],
  [16, "linkdown"],
];
const legFlags = (flags: number): string =>
  FLAGS.filter(([bit]) => flags & bit)
    .map(([, name]) => name)
    .join();
const jsonFlags = (flags: string[] = []): string =>
  FLAGS.filter(([, name]) => flags.includes(name))
    .map(([, name]) => name)
    .join();

/** What is told of links: not the flags that change on their own (RUNNING is told as NO-CARRIER by ip). */
const LINK_FLAGS: readonly (readonly [number, string])[] = [
  [1, "UP"],
  [2, "BROADCAST"],
  [8, "LOOPBACK"],
  [0x80, "NOARP"],
  [0x1000, "MULTICAST"],
  [0x10000, "LOWER_UP"],
];
const OPERSTATES = ["UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP"];

/** What the kernel has. */
export function kernelTables(host: Host): Tables {
  const links = ip(host, "-d", "link");
  const names = new Map(links.map((link) => [link["ifname"], link["ifindex"]]));
  const index = (name: string | undefined) => (name === undefined ? 0 : (names.get(name) ?? `?${name}`));
  const routes = ip(host, "-N", "-d", "route", "show", "table", "all");
  const routes6 = ip(host, "-6", "-N", "-d", "route", "show", "table", "all");
  return {
    links: links
      .map((l) => {
        const flags = LINK_FLAGS.filter(([, name]) => l["flags"].includes(name)).map(([, name]) => name);
        return `${l["ifindex"]} ${l["ifname"]} mtu ${l["mtu"]} ${l["address"]} ${flags} ${l["operstate"]} master ${index(l["master"])} kind ${l["linkinfo"]?.["info_kind"] ?? ""}`;
      })
      .sort(),
    addrs: ip(host, "addr")
      .flatMap((link) =>
        link["addr_info"]
          .filter((a: Json) => a["local"] !== undefined)
          .map((a: Json) => {
            const flags = [a["secondary"] && "secondary", a["tentative"] && "tentative"].filter(Boolean);
            return `${link["ifindex"]} ${a["local"]} peer ${a["address"] ?? a["local"]} /${a["prefixlen"]} ${a["scope"]} ${flags}`;
          }),
      )
      .sort(),
    // Some differ in nothing that is told: two of them are the same as one.
    routes4: [...new Set(ordered(routes.filter((r) => !isSix(r)).map((r) => jsonRoute(r, false, index))))],
    routes6: routes6
      .filter((r) => r["from"] === undefined)
      .map((r) => jsonRoute(r, true, index))
      .filter((line) => /^table 25[45] /.test(line)) // IPv6 has no table default
      .sort()
      .filter((line, i, all) => line !== all[i - 1]), // a replacement may leave one twice; that is the same as once
    sourced: [...new Set(routes6.filter((r) => r["from"] !== undefined).map(sourcedLine))]
      .filter((line) => /table (main|local)$/.test(line))
      .sort(),
    nexthops: ip(host, "-d", "nexthop")
      .map((n) => {
        const group = (n["group"] ?? []).map((g: Json) => `${g["id"]}*${g["weight"] ?? 1}`).join();
        const via = n["gateway"] ?? "";
        return `${n["id"]} ${group} ${"blackhole" in n ? "blackhole" : group ? "" : `${via} dev ${index(n["dev"])} ${n["flags"].includes("onlink") ? "onlink" : ""}`}`;
      })
      .sort(),
    neighs: ["-4", "-6"]
      .flatMap((family) => ip(host, family, "neigh", "show", "nud", "all"))
      .filter((n) => n["lladdr"] !== undefined && n["state"] !== undefined)
      .filter((n) => ["REACHABLE", "STALE", "DELAY", "PROBE", "PERMANENT"].includes(n["state"][0]))
      .filter((n) => !/^(ff|22[4-9]|23)/.test(n["dst"]))
      .map((n) => `${index(n["dev"])} ${n["dst"]} ${n["lladdr"]} ${timeless(n["state"][0])}`)
      .sort(),
  };
}

/** States that the kernel goes through on its own, without telling of all of them. */
const timeless = (state: string): string =>
  ["REACHABLE", "STALE", "DELAY", "PROBE"].includes(state) ? "dynamic" : state;

const isSix = (r: Json): boolean =>
  r["dst"].includes(":") || (r["dst"] === "default" && r["pref"] !== undefined);
const mirrored = (line: string): boolean => /^table (253|254|255) /.test(line);

/** An IPv6 route by source, as the mirror tells of it. */
function sourcedLine(r: Json): string {
  const prefix = (text: string) => (text === "default" ? "::/0" : text.includes("/") ? text : `${text}/128`);
  const table = { 254: "main", 255: "local" }[Number(r["table"])] ?? r["table"];
  return `${prefix(r["dst"])} from ${prefix(r["from"])} metric ${r["metric"]} of table ${table}`;
}

function jsonRoute(r: Json, six: boolean, index: (name?: string) => number | string): string {
  const leg = (l: Json, weight: number): string =>
    `${l["gateway"] ?? l["via"]?.["host"] ?? "-"} dev ${index(l["dev"])} *${weight} ${jsonFlags(l["flags"])}`;
  let legs: string[] = [];
  // The weight of one leg alone, as a group may have it, means nothing.
  if (r["nexthops"])
    legs = r["nexthops"].map((l: Json, _: number, { length }: Json[]) =>
      leg(l, length > 1 ? l["weight"] : 1),
    );
  else if (r["dev"] !== undefined || r["gateway"] !== undefined) legs = [leg(r, 1)];
  if (six) legs.sort();
  const dst =
    r["dst"] === "default"
      ? six
        ? "::/0"
        : "0.0.0.0/0"
      : r["dst"].includes("/")
        ? r["dst"]
        : `${r["dst"]}/${six ? 128 : 32}`;
  const pref = { low: 3, medium: 0, high: 1 }[r["pref"] as string] ?? 0;
  const mtu = r["metrics"]?.find((m: Json) => m["mtu"])?.["mtu"] ?? 0;
  const tos = r["tos"] === undefined ? 0 : Number(r["tos"]);
  return routeLine(
    r["table"],
    dst,
    tos,
    r["metric"] ?? 0,
    Number(r["type"]),
    r["protocol"],
    r["scope"],
    pref,
    r["prefsrc"] ?? "-",
    mtu,
    r["nhid"] ?? 0,
    legs,
  );
}

const routeLine = (
  table: number,
  dst: string,
  tos: number,
  metric: number,
  type: number,
  protocol: number,
  scope: number,
  pref: number,
  prefsrc: string,
  mtu: number,
  nhid: number,
  legs: string[],
): string => {
  // Where nothing is sent the kernel shows lo, or nothing, as it likes; and carrier counts for anycast routes that
  // somebody added, but not for those of the kernel's own, which nothing in a message tells apart.
  // Nor does the kernel look at carrier when it makes an IPv4 route with an IPv6 gateway.
  const carried = (leg: string) =>
    type === 4 || (!dst.includes(":") && leg.includes(":")) ? leg.replace(/,?linkdown/, "") : leg;
  const via = type >= 6 ? [] : legs.map(carried);
  return `table ${table} ${dst} tos ${tos} metric ${metric} | type ${type} proto ${protocol} scope ${scope} pref ${pref} src ${prefsrc} mtu ${mtu} nhid ${nhid} via ${via.join(" + ")}`;
};

/** Sorts by key, and leaves lines of one key in the order that they came in. */
function ordered(lines: string[]): string[] {
  const key = (line: string) => line.slice(0, line.indexOf(" |"));
  return lines
    .filter(mirrored)
    .map((line, i) => ({ line, i }))
    .sort((a, b) => (key(a.line) < key(b.line) ? -1 : key(a.line) > key(b.line) ? 1 : a.i - b.i))
    .map(({ line }) => line);
}

/** What the mirror has. */
export function ourTables({ reader, writer, mirror }: Pick<Mirrored, "reader"> & Partial<Mirrored>): Tables {
  return {
    links: reader.links
      .all()
      .map((l) => {
        const flags = LINK_FLAGS.filter(([bit]) => l.flags & bit).map(([, name]) => name);
        return `${l.ifindex} ${l.name} mtu ${l.mtu} ${formatLladdr(l.lladdr.subarray(0, l.lladdrLen))} ${flags} ${OPERSTATES[l.operstate]} master ${l.master} kind ${l.kind}`;
      })
      .sort(),
    addrs: reader.addrs
      .all()
      .map((a) => {
        const flags = [
          a.family === AF_INET && a.flags & 1 && "secondary",
          a.flags & 0x40 && "tentative",
        ].filter(Boolean);
        const scope = { 0: "global", 200: "site", 253: "link", 254: "host" }[a.scope];
        return `${a.ifindex} ${formatAddress(a.family, a.local)} peer ${formatAddress(a.family, a.peer)} /${a.prefixLen} ${scope} ${flags}`;
      })
      .sort(),
    routes4: ordered(Array.from(reader.rib4.all(), (row) => ourRoute(row, false))),
    routes6: Array.from(reader.rib6.all(), (row) => ourRoute(row, true)).sort(),
    sourced: mirror?.apply.sourced.texts.sort() ?? [],
    // Only the writer has them by themselves.
    nexthops: [...(writer?.nexthops.objects.all() ?? [])]
      .map(({ id, group, blackhole, legs }) => {
        const members = group
          ? Array.from({ length: legs.n }, (_, i) => `${legs.nhid[i]}*${legs.weight[i]}`).join()
          : "";
        return `${id} ${members} ${blackhole ? "blackhole" : group ? "" : `${gateway(legs, 0)} dev ${legs.ifindex[0]} ${legs.flags[0]! & 4 ? "onlink" : ""}`}`;
      })
      .sort(),
    neighs: reader
      .neighs()
      .filter((n) => (n.state & 0x40) === 0) // NOARP: the kernel makes them in silence
      .map((n) => {
        const state =
          n.state & 0x1e
            ? "dynamic"
            : n.state & 0x40
              ? "NOARP"
              : n.state & 0x80
                ? "PERMANENT"
                : `?${n.state & USABLE}`;
        return `${n.ifindex} ${formatAddress(n.family, n.dst)} ${formatLladdr(n.lladdr)} ${state}`;
      })
      .sort(),
  };
}

const gateway = (legs: Legs, i: number): string =>
  legs.gatewayFamily[i] === 0 ? "" : formatAddress(legs.gatewayFamily[i]!, legs.gateway, i * 4);

function ourRoute(row: RouteRow, six: boolean): string {
  const { legs } = row;
  const lines = Array.from(
    { length: legs.n },
    (_, i) =>
      `${gateway(legs, i) || "-"} dev ${legs.ifindex[i]} *${legs.n > 1 ? legs.weight[i] : 1} ${legFlags(legs.flags[i]!)}`,
  );
  if (six) lines.sort();
  const family = six ? AF_INET6 : AF_INET;
  return routeLine(
    row.table,
    `${formatAddress(family, row.dst)}/${row.dstLen}`,
    row.tos,
    row.priority,
    row.type,
    row.protocol,
    row.scope,
    row.pref,
    row.hasPrefsrc ? formatAddress(family, row.prefsrc) : "-",
    row.mtu,
    row.nhid,
    lines,
  );
}

/**
 * Whether a dump of the kernel's may lack this IPv6 route: it goes from the first leg of a route to the last, over whatever
 * of the same metric was added between them (fib6_dump_node). Lookups follow such a route once the legs are gone.
 */
const hidden = (line: string, kernel: string[]): boolean => {
  const key = line.slice(0, line.indexOf("|") + 1);
  return kernel.some((other) => other.startsWith(key) && other.includes(" + "));
};

/** Lines of one that the other lacks, both ways; nothing if the tables are equal. Lines of one key must be in order. */
export function differences(ours: Tables, kernel: Tables): string[] {
  const found: string[] = [];
  for (const name of Object.keys(kernel) as (keyof Tables)[]) {
    const b = kernel[name];
    const a =
      name === "routes6" ? ours[name].filter((line) => b.includes(line) || !hidden(line, b)) : ours[name];
    if (a.length === b.length && a.every((line, i) => line === b[i])) continue;
    const extra = a.filter((line) => !b.includes(line));
    const missing = b.filter((line) => !a.includes(line));
    for (const line of extra) found.push(`${name} ours alone:   ${line}`);
    for (const line of missing) found.push(`${name} kernel alone: ${line}`);
    if (extra.length + missing.length === 0)
      a.forEach((line, i) => {
        if (line !== b[i]) found.push(`${name} order: ours ${line}, kernel ${b[i]}`);
      });
  }
  return found;
}
