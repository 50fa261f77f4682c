// `netd lookup`: the whole transmit decision for one packet, and why. It walks the RIB by the kernel's own rules, says
// what it passed over, then does what the pass does (src/switch/pass.ts) step by step. Tests hold the two together.
import type { Parts } from "./daemon.ts";
import {
  LINE_WORDS,
  NH_BOUND,
  NH_ENCAP,
  NH_GATEWAY,
  NH_LINK,
  NH_MTU,
  NH_OIF,
  NH_SRC,
  NH_TYPE,
} from "./netbase/layout.ts";
import type { Verdict } from "./netbase/rib.ts";
import { RouteRow } from "./netbase/rows.ts";
import { neighStates } from "./netlink/names.ts";
import { QueryError } from "./query.ts";
import { Drop, dropDescription, dropNames } from "./switch/drops.ts";
import { REFUSED } from "./switch/transmit.ts";
import type { LookupOptions, LookupView, RouteView } from "./view.ts";
import { AF_INET6, formatAddress, formatLladdr, parseAddress } from "./wire/address.ts";

const IFF_UP = 0x1;
const IFF_RUNNING = 0x40;
const RTN_BROADCAST = 3;
const RTN_MULTICAST = 5;

interface Views {
  route(row: RouteRow): RouteView;
}

const routeText = (route: RouteView): string =>
  `${route.type === "unicast" ? "" : `${route.type} `}${route.dst} of table ${route.table}${
    route.metric === undefined ? "" : ` metric ${route.metric}`
  }`;

const PASSED_OVER: Record<Exclude<Verdict, "chosen">, string> = {
  tos: "is for another TOS",
  dead: "has no leg that is up",
  oif: "leads out of another interface",
  throw: "says throw: the next table is asked",
};

/** Where a packet to many hosts goes, without being asked for: RFC 919, RFC 1112 section 6.4, RFC 2464 section 7. */
function groupAddress(
  type: number,
  { family, words }: { family: number; words: Int32Array },
): Uint8Array | undefined {
  const bytes = new Uint8Array(words.buffer, words.byteOffset);
  if (type === RTN_BROADCAST) return new Uint8Array(6).fill(0xff);
  if (family === AF_INET6)
    return bytes[0] === 0xff ? Uint8Array.of(0x33, 0x33, ...bytes.subarray(12, 16)) : undefined;
  if (type !== RTN_MULTICAST && (bytes[0]! & 0xf0) !== 0xe0) return undefined;
  return Uint8Array.of(0x01, 0x00, 0x5e, bytes[1]! & 0x7f, bytes[2]!, bytes[3]!);
}

/** Whether IPv6 looks for routes out of an interface alone, and does not only prefer them (ip6_route_output_flags, rt6_need_strict). */
const isStrict = ([w0 = 0, w1, w2, w3]: Int32Array, hasSource: boolean): boolean =>
  !hasSource ||
  (w0 & 0xff) === 0xff ||
  (w0 & 0xc0ff) === 0x80fe ||
  (w0 === 0 && w1 === 0 && w2 === 0 && w3 === 1 << 24);

/** @throws QueryError for an address that is none, or an interface that does not exist */
export function explain(parts: Parts, views: Views, text: string, options: LookupOptions): LookupView {
  const { netbase } = parts;
  const { words: base, links } = netbase;
  const to = parseAddress(text);
  if (!to) throw new QueryError(`"${text}" is no IPv4 or IPv6 address`);
  const six = to.family === AF_INET6;
  const rib = six ? netbase.rib6 : netbase.rib4;
  const oif = options.oif === undefined ? 0 : links.named(options.oif);
  if (options.oif !== undefined && oif === 0) throw new QueryError(`no interface ${options.oif}`);
  const from = options.from === undefined ? undefined : parseAddress(options.from);
  const tos = options.tos ?? 0;
  const because: string[] = [];
  const drop = (view: Omit<LookupView, "verdict" | "because" | "dst">, reason: number): LookupView => ({
    dst: text,
    ...view,
    verdict: reason === Drop.to_kernel ? "kernel" : "drop",
    reason: dropNames[reason]!,
    because: [...because, dropDescription(reason)],
  });

  // The route.
  const row = new RouteRow();
  const [w0, w1, w2, w3] = to.words as unknown as [number, number, number, number];
  const isOnly = !six || isStrict(to.words, from !== undefined);
  const first = rib.match(w0, w1, w2, w3, tos, isOnly ? oif : 0, (seen, verdict) => {
    if (verdict === "chosen") return;
    rib.load(seen, row);
    because.push(`${routeText(views.route(row))} ${PASSED_OVER[verdict]}`);
  });
  const at = first !== 0 && !isOnly && oif !== 0 ? rib.preferred(first, oif) : first;
  if (at === 0) return drop({ type: "unreachable" }, Drop.no_route);
  rib.load(at, row);
  const route = views.route(row);
  because.push(`${routeText(route)} is the longest match that is left`);
  if (!isOnly && oif !== 0) because.push(`with a source address, IPv6 prefers ${options.oif}, but takes any`);
  const known = { type: route.type, table: route.table, route };
  const refused = REFUSED[row.type] ?? Drop.no_route;

  // The leg.
  let leg = rib.record(at);
  const legs = base[leg + NH_TYPE]! >>> 16;
  const number = () => `leg ${(leg - rib.record(at)) / LINE_WORDS + 1} of ${legs}`;
  if (legs > 1 && oif !== 0 && isOnly) {
    // Whoever says the interface has chosen the leg (fib_table_lookup, fib6_select_path).
    const end = leg + legs * LINE_WORDS;
    while (leg < end && (base[leg + NH_OIF] !== oif || base[leg + NH_BOUND] === -1)) leg += LINE_WORDS;
    if (leg === end) return drop(known, Drop.no_route);
    because.push(`${number()} is the first out of ${options.oif}`);
  } else if (legs > 1) {
    const flow = options.flow ?? { protocol: 0, sport: 0, dport: 0 };
    const source = from?.words ?? new Int32Array(4);
    const swapped = (port: number) => ((port & 0xff) << 8) | (port >>> 8);
    const ports = swapped(flow.sport) | (swapped(flow.dport) << 16);
    const hash = six
      ? netbase.flow6(Int32Array.of(...to.words, ...source), 0, flow.protocol, ports, 0)
      : netbase.flow4(w0, source[0]!, flow.protocol, ports);
    leg = netbase.leg(leg, hash);
    if (leg === 0) return drop(known, Drop.no_route);
    because.push(`${number()} by flow hash 0x${hash.toString(16)}`);
  }
  const ifindex = base[leg + NH_OIF]!;
  const link = links.get(ifindex);
  const mtu = base[leg + NH_MTU]! || link?.mtu;
  const via = base[leg + NH_LINK]! & 0xff;
  const gateway = formatAddress(via, base, leg + NH_GATEWAY);
  const source = base.slice(leg + NH_SRC, leg + NH_SRC + 4);
  const prefsrc = source.some((word) => word !== 0) ? formatAddress(to.family, source) : undefined;
  const way = {
    ...known,
    ...(from && { from: options.from! }),
    ...(via === to.family && { gateway }),
    ...(link && { dev: link.name }),
    ...(prefsrc !== undefined && { prefsrc }),
    ...(mtu !== undefined && { mtu }),
  };
  if (prefsrc !== undefined)
    because.push(
      `source ${prefsrc}${row.hasPrefsrc ? ", as the route says" : `: the kernel's choice on ${link?.name}`}`,
    );
  if (refused !== 0) return drop(way, refused);
  if ((base[leg + NH_TYPE]! & NH_ENCAP) !== 0) return drop(way, Drop.encap);
  if (ifindex !== parts.ifindex) return drop(way, Drop.other_interface);
  const running = IFF_UP | IFF_RUNNING;
  if (!link || (link.flags & running) !== running) return drop(way, Drop.link_down);
  const group = groupAddress(row.type, to);
  if (group) {
    because.push("many hosts: their link-layer address follows from the destination");
    return { dst: text, ...way, lladdr: formatLladdr(group), verdict: "send", because };
  }

  // The neighbour.
  const hop = via === 0 ? to : { family: via, words: base.slice(leg + NH_GATEWAY, leg + NH_GATEWAY + 4) };
  const [h0, h1, h2, h3] = hop.words as unknown as [number, number, number, number];
  const reader = hop.family === AF_INET6 ? netbase.neigh6 : netbase.neigh4;
  const state =
    hop.family === AF_INET6 ? netbase.neigh6.find(h0, h1, h2, h3, ifindex) : netbase.neigh4.find(h0, ifindex);
  const neighbour = formatAddress(hop.family, hop.words);
  because.push(via === 0 ? `${neighbour} is on link` : `by the gateway ${neighbour}`);
  if (state <= 0) {
    because.push(`${neighbour} is not resolved: the kernel is asked when traffic wants it`);
    return {
      dst: text,
      ...way,
      neighbour,
      verdict: "solicit",
      reason: dropNames[Drop.no_neighbour]!,
      because,
    };
  }
  const mac = new Uint8Array(Int32Array.of(reader.mac0, reader.mac1).buffer, 0, 6);
  const lladdr = formatLladdr(mac);
  return { dst: text, ...way, neighbour, lladdr, state: neighStates(state), verdict: "send", because };
}
