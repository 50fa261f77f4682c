// Routes as objects: struct rtmsg and RTA_* (linux/rtnetlink.h).
//   rtmsg: u8 family | u8 dst_len | u8 src_len | u8 tos | u8 table | u8 protocol | u8 scope | u8 type | u32 flags
// Most routes of a large table have the same few attributes: those are decoded without the tables (`usual`).
import { formatAddress } from "../../wire/address.ts";
import { type Attributes, RTA, RTAX } from "../attribute.ts";
import { AF_INET, RTM_DELROUTE, RTM_NEWROUTE } from "../constants.ts";
import type { Requests } from "../message.ts";
import {
  address,
  all,
  as,
  be16,
  type Codec,
  link,
  named,
  nested,
  parsed,
  raw,
  record,
  said,
  Schema,
  text,
  u8,
  u16,
  u32,
  type Writing,
} from "./codec.ts";
import { familyName, ipv4, type Kind, parsePrefix, prefixAddress, quad, read4, withLength } from "./kind.ts";
import { number as plainNumber, protocolNumber, scopeNumber, type Table, tableNumber } from "./numbers.ts";
import {
  ASKED,
  type Leg,
  type LegSpec,
  type LookupSpec,
  PREFS,
  type Route,
  type RouteKey,
  routeBits,
  routeTypeNumber,
  TYPES,
} from "./routespec.ts";

/** RTA_GATEWAY, or RTA_VIA for one of the other family: struct rtvia is u16 family | address. */
const via: Codec<string> = {
  read: address.read,
  write(m, _type, value, to) {
    const { family, words } = parsed(value);
    const count = family === AF_INET ? 4 : 16;
    if (family === to.family) return m.address(RTA.GATEWAY, words, count >> 2);
    const bytes = new Uint8Array(2 + count);
    bytes[0] = family;
    bytes.set(new Uint8Array(words.buffer, words.byteOffset, count), 2);
    m.raw(RTA.VIA, bytes);
  },
};
const rtvia: Codec<string> = {
  read(_words, bytes, off, len) {
    const family = bytes[off]! | (bytes[off + 1]! << 8);
    if (!(family === 2 && len === 6) && !(family === 10 && len === 18)) return undefined;
    return formatAddress(family, new Int32Array(bytes.slice(off + 2, off + len).buffer));
  },
  write: via.write,
};

const encaps = { ENCAP_TYPE: u16, ENCAP: raw, TTL_PROPAGATE: u8 };
const legSchema = new Schema(
  RTA as Attributes,
  { GATEWAY: as("via", via), VIA: as("via", rtvia), FLOW: u32, ...encaps },
  ["oif", "weight", "flags", "onlink"],
);

/** structs rtnexthop: u16 length | u8 flags | u8 weight - 1 | i32 ifindex | attributes. */
const multipath: Codec<readonly Leg[]> = {
  read(words, bytes, off, len) {
    const legs: Leg[] = [];
    const end = off + len;
    while (end - off >= 8) {
      const head = words[off >> 2]!;
      const length = head & 0xffff;
      if (length < 8 || length > end - off) return undefined;
      const leg: Partial<Leg> = { flags: routeBits.read((head >>> 16) & 0xff), weight: (head >>> 24) + 1 };
      if (words[(off >> 2) + 1] !== 0) leg.oif = words[(off >> 2) + 1]!;
      if (!legSchema.decode(words, bytes, off + 8, off + length, leg)) return undefined;
      legs.push(leg as Leg);
      off += (length + 3) & ~3;
    }
    return off === end ? legs : undefined;
  },
  write(m, type, legs, to) {
    const mark = m.nest(type, false);
    for (const leg of legs as readonly (LegSpec & Leg)[]) {
      const weight = leg.weight ?? 1;
      if (!(weight >= 1 && weight <= 256)) throw new RangeError(`weight ${weight}: 1 to 256`);
      const flags = routeBits.write(leg.flags) | (leg.onlink ? 4 : 0);
      const at = m.room(8);
      m.bytes[at + 2] = to.request ? flags & ASKED : flags;
      m.bytes[at + 3] = weight - 1;
      m.words[(at >> 2) + 1] = leg.oif === undefined ? 0 : to.ifindex(leg.oif);
      legSchema.encode(m, leg, to);
      m.end(at);
    }
    m.end(mark);
  },
};

const metrics = nested(
  new Schema(RTAX as Attributes, {
    ...all(
      u32,
      "LOCK MTU WINDOW RTT RTTVAR SSTHRESH CWND ADVMSS REORDERING HOPLIMIT INITCWND FEATURES RTO_MIN INITRWND QUICKACK FASTOPEN_NO_COOKIE",
    ),
    CC_ALGO: text,
  }),
  false,
);

export const routeSchema: Schema = new Schema(
  RTA as Attributes,
  {
    DST: prefixAddress,
    SRC: prefixAddress,
    IIF: link,
    OIF: link,
    GATEWAY: as("via", via),
    PRIORITY: u32,
    PREFSRC: address,
    METRICS: metrics,
    MULTIPATH: as("nexthops", multipath),
    FLOW: u32,
    CACHEINFO: said("times", record(4, "references lastUse expires error used id timestamp age")),
    TABLE: { key: "table", codec: { read: u32.read, write: (m, t, v: Table) => m.u32(t, tableNumber(v)) } },
    MARK: u32,
    VIA: as("via", rtvia),
    PREF: named(u8, PREFS),
    EXPIRES: u32,
    UID: u32,
    IP_PROTO: u8,
    SPORT: be16,
    DPORT: be16,
    NH_ID: as("nhid", u32),
    ...encaps,
  },
  ["family", "tos", "protocol", "scope", "type", "flags", "onlink"],
);

/** The scope that `ip route` gives to an IPv4 route that does not say. */
function scopeOf(type: string, spec: RouteKey): number {
  if (type === "local") return 254;
  if (type === "broadcast" || type === "multicast" || type === "anycast") return 253;
  const direct = spec.via === undefined && spec.nhid === undefined && spec.nexthops === undefined;
  return type === "unicast" && direct ? 253 : 0;
}

export const routes: Kind<Route> = {
  name: "route",
  type: RTM_NEWROUTE,
  headerBytes: 12,
  schema: routeSchema,
  decode(words, bytes, off, len) {
    return len < 28 ? undefined : (usual(words, off, len) ?? decodeAny(words, bytes, off, len));
  },
  encode(m, type, messageFlags, object, to) {
    const route = object as RouteKey & { onlink?: boolean };
    if (to.request && quick(m, type, messageFlags, route, to)) return;
    const dst = parsePrefix(route.dst);
    const src = route.src === undefined ? undefined : parsePrefix(route.src);
    const adding = to.request && type !== RTM_DELROUTE;
    const kind = route.type ?? (adding ? "unicast" : "unspec");
    const number = routeTypeNumber(kind);
    if (number < 0) throw new TypeError(`no route type "${kind}"`);
    const scope =
      route.scope !== undefined
        ? scopeNumber(route.scope)
        : !adding
          ? 255
          : dst.family === AF_INET
            ? scopeOf(kind, route)
            : 0;
    const protocol = protocolNumber(route.protocol ?? (adding ? 4 : 0));
    const table = tableNumber(route.table ?? 254);
    const flags = routeBits.write(route.flags) | (route.onlink ? 4 : 0);
    const tos = plainNumber(route.tos ?? 0, {}, 255);
    to.family = dst.family;
    const off = m.begin(type, messageFlags, 12);
    const w = off >> 2;
    m.words[w] = dst.family | (dst.length << 8) | ((src?.length ?? 0) << 16) | (tos << 24);
    m.words[w + 1] = (table < 256 ? table : 252) | (protocol << 8) | (scope << 16) | (number << 24);
    m.words[w + 2] = to.request ? flags & ASKED : flags;
    if (to.request && route.table === undefined) m.u32(RTA.TABLE, table);
    // What a dump shows beside a nexthop object is the object's.
    if (to.request && route.nhid !== undefined) {
      const { oif, via: gateway, nexthops, ...rest } = route;
      routeSchema.encode(m, rest, to);
    } else routeSchema.encode(m, route, to);
  },
};

/** Writes an IPv4 route of one next hop and little else without the tables; false, and nothing written, for any other. */
function quick(m: Requests, type: number, messageFlags: number, route: RouteKey, to: Writing): boolean {
  const { dst, via: hop, oif, table = 254, priority, protocol, scope, type: kind } = route;
  for (const key in route) if (!QUICK.has(key)) return false;
  if (typeof dst !== "string" || !quad(dst)) return false;
  if (priority !== undefined && priority >>> 0 !== priority) return false;
  const { word, length } = read4;
  let gatewayWord = 0;
  if (hop !== undefined) {
    if (!quad(hop) || hop.includes("/")) return false;
    gatewayWord = read4.word;
  }
  const adding = type !== RTM_DELROUTE;
  const number = kind === undefined ? (adding ? 1 : 0) : routeTypeNumber(kind);
  if (number < 0) return false;
  const id = typeof table === "number" && table > 0 && table < 0x100000000 ? table : tableNumber(table);
  const by = protocol === undefined ? (adding ? 4 : 0) : protocolNumber(protocol);
  const reach = scope !== undefined ? scopeNumber(scope) : adding ? scopeOf(kind ?? "unicast", route) : 255;
  const link = oif === undefined ? 0 : to.ifindex(oif);
  const attributes =
    (id > 255 ? 8 : 0) +
    (length > 0 ? 8 : 0) +
    (priority !== undefined ? 8 : 0) +
    (hop !== undefined ? 8 : 0) +
    (oif !== undefined ? 8 : 0);
  // All of it at once: attributes one by one take twice as long.
  let w = m.begin(type, messageFlags, 12 + attributes) >> 2;
  const { words } = m;
  const put = (attribute: number, value: number): void => {
    words[w] = 8 | (attribute << 16);
    words[w + 1] = value;
    w += 2;
  };
  words[w] = AF_INET | (length << 8);
  words[w + 1] = (id < 256 ? id : 0) | (by << 8) | (reach << 16) | (number << 24);
  w += 3;
  if (id > 255) put(RTA.TABLE, id);
  if (length > 0) put(RTA.DST, word);
  if (priority !== undefined) put(RTA.PRIORITY, priority);
  if (hop !== undefined) put(RTA.GATEWAY, gatewayWord);
  if (oif !== undefined) put(RTA.OIF, link);
  return true;
}
const QUICK = new Set(["dst", "via", "oif", "table", "priority", "protocol", "scope", "type"]);

function decodeAny(words: Int32Array, bytes: Uint8Array, off: number, len: number): Route | undefined {
  const w = off >> 2;
  const first = words[w + 4]!;
  const second = words[w + 5]!;
  const family = first & 0xff;
  const into: Record<string, unknown> = {
    family: familyName(family),
    type: TYPES[second >>> 24] ?? `type${second >>> 24}`,
    protocol: (second >>> 8) & 0xff,
    scope: (second >>> 16) & 0xff,
    flags: routeBits.read(words[w + 6]!),
  };
  if (first >>> 24) into["tos"] = first >>> 24;
  if (!routeSchema.decode(words, bytes, off + 28, off + len, into)) return undefined;
  into["table"] ??= second & 0xff;
  withLength(into, "dst", family, (first >>> 8) & 0xff, true);
  withLength(into, "src", family, (first >>> 16) & 0xff, ((first >>> 16) & 0xff) > 0);
  return into as unknown as Route;
}

const BITS = Array.from({ length: 33 }, (_, i) => `/${i}`);

/** Gateways are few and repeat: their texts by a hash of the word. */
const gatewayWords = new Int32Array(256);
const gatewayTexts: string[] = new Array(256).fill("0.0.0.0");
function gateway(w: number): string {
  const slot = (Math.imul(w, 0x9e3779b1) >>> 24) & 255;
  if (gatewayWords[slot] !== w) {
    gatewayWords[slot] = w;
    gatewayTexts[slot] = formatAddress(AF_INET, [w]);
  }
  return gatewayTexts[slot]!;
}

/** An IPv4 route of TABLE, DST, perhaps PRIORITY, GATEWAY and OIF, in this order; undefined for any other. */
function usual(words: Int32Array, off: number, len: number): Route | undefined {
  let w = off >> 2;
  const end = w + (len >> 2);
  const first = words[w + 4]!;
  // IPv4, no source prefix, no TOS, a type that leads somewhere or nowhere, no flags
  const second = words[w + 5]!;
  const type = second >>> 24;
  if ((first & 0xffff00ff) !== AF_INET || words[w + 6] !== 0 || type === 0 || type > 9) return undefined;
  const length = (first >>> 8) & 0xff;
  if (length === 0 || length > 32 || (len & 3) !== 0 || end - w < 13) return undefined;
  if (words[w + 7] !== 0x000f0008 /* RTA_TABLE */ || words[w + 9] !== 0x00010008 /* RTA_DST */)
    return undefined;
  const table = words[w + 8]! >>> 0;
  const dst = ipv4(words[w + 10]!) + BITS[length]!;
  const protocol = (second >>> 8) & 0xff;
  const scope = (second >>> 16) & 0xff;
  const flags = routeBits.read(0);
  w += 11;
  let priority = -1;
  if (words[w] === 0x00060008 /* RTA_PRIORITY */) {
    priority = words[w + 1]! >>> 0;
    w += 2;
  }
  if (
    w + 4 === end &&
    words[w] === 0x00050008 /* RTA_GATEWAY */ &&
    words[w + 2] === 0x00040008 /* RTA_OIF */
  ) {
    const hop = gateway(words[w + 1]!);
    const oif = words[w + 3]!;
    const route =
      priority < 0
        ? { family: "inet", type: TYPES[type], protocol, scope, flags, table, dst, via: hop, oif }
        : { family: "inet", type: TYPES[type], protocol, scope, flags, table, dst, priority, via: hop, oif };
    return route as Route;
  }
  if (w + 2 === end && words[w] === 0x00040008 /* RTA_OIF */) {
    const oif = words[w + 1]!;
    const route =
      priority < 0
        ? { family: "inet", type: TYPES[type], protocol, scope, flags, table, dst, oif }
        : { family: "inet", type: TYPES[type], protocol, scope, flags, table, dst, priority, oif };
    return route as Route;
  }
  return undefined;
}

/** RTM_GETROUTE for one. */
export function encodeLookup(
  m: Requests,
  type: number,
  { fibMatch, from, tos, ...spec }: LookupSpec,
  to: Writing,
): void {
  const dst = parsePrefix(spec.dst);
  const src = from === undefined ? undefined : parsePrefix(from);
  const off = m.begin(type, 0, 12);
  m.words[off >> 2] = dst.family | (dst.length << 8) | ((src?.length ?? 0) << 16) | ((tos ?? 0) << 24);
  m.words[(off >> 2) + 2] = 0x1000 | (fibMatch ? 0x2000 : 0);
  to.family = dst.family;
  routeSchema.encode(m, src ? { ...spec, src: from } : spec, to);
}
