// What is granted, as data: one detail of a grant (RFC 9396) read into sets, and what can be done with such sets. All that
// a detail says must hold at once; what it does not say is any. Of several details one must allow the whole of a thing.
//
//   {"type":"netd", "interfaces":["eth0"], "protocols":["tcp"], "addresses":["10.0.0.1"], "ports":[[8000,8099],443],
//    "remotes":["10.0.0.0/8"], "transmit":["10.0.0.1"], "macs":["02:00:00:00:00:05"], "filter":"SHA-256",
//    "packets_per_second":1000, "matches":8}
//
// Chains are narrowed by `intersect` alone, so nobody has to prove that a child is within its parent: what it says beyond
// that has no effect.
import * as v from "valibot";
import { formatAddress, formatLladdr, parseLladdr } from "../wire/address.ts";
import { addressBits, networkOf, type Prefix, readPrefix, within } from "../wire/prefix.ts";
import { PROTOCOLS, protocolName } from "../wire/protocol.ts";

const LIST = 64;
const digest = "SHA-256 of a filter, in hexadecimal digits (netd filter prints it)";
const port = v.pipe(
  v.number("a port or a pair of ports"),
  v.integer("a port or a pair of ports"),
  v.minValue(0, "a port or a pair of ports"),
  v.maxValue(65535, "a port or a pair of ports"),
);
const prefix = v.pipe(
  v.string("prefixes such as 10.0.0.0/8"),
  v.check((text) => readPrefix(text) !== undefined, "prefixes such as 10.0.0.0/8"),
);
const mac = v.pipe(
  v.string("MAC addresses such as 02:00:00:00:00:05"),
  v.check((text) => parseLladdr(text)?.length === 6, "MAC addresses such as 02:00:00:00:00:05"),
);
const list = <const S extends v.GenericSchema>(item: S, expected: string) =>
  v.optional(v.pipe(v.array(item, expected), v.maxLength(LIST, `at most ${LIST} of them`)));
const count = v.pipe(
  v.number("a whole number over 0"),
  v.integer("a whole number over 0"),
  v.minValue(1, "a whole number over 0"),
  v.maxValue(1e9, "a whole number to 1e9"),
);

export const Detail = v.strictObject(
  {
    type: v.literal("netd", '"netd"'),
    interfaces: list(
      v.pipe(v.string("names of interfaces"), v.nonEmpty("names of interfaces")),
      "names of interfaces",
    ),
    protocols: list(
      v.picklist(Object.keys(PROTOCOLS), `protocols: ${Object.keys(PROTOCOLS).join(", ")}`),
      "names of protocols",
    ),
    addresses: list(prefix, "prefixes such as 10.0.0.0/8"),
    ports: list(
      v.union(
        [
          port,
          v.pipe(
            v.strictTuple([port, port]),
            v.check(([from, to]) => from <= to, "ports or pairs of ports"),
          ),
        ],
        "ports or pairs of ports",
      ),
      "ports or pairs of ports",
    ),
    remotes: list(prefix, "prefixes such as 10.0.0.0/8"),
    transmit: list(prefix, "prefixes such as 10.0.0.0/8"),
    macs: list(mac, "MAC addresses such as 02:00:00:00:00:05"),
    filter: v.optional(v.pipe(v.string(digest), v.regex(/^[0-9a-f]{64}$/, digest))),
    packets_per_second: v.optional(count),
    matches: v.optional(count),
  },
  "what is granted",
);
export const Details = v.pipe(
  v.array(Detail, "a list of what is granted"),
  v.nonEmpty("a list of what is granted"),
  v.maxLength(16, "at most 16 of them"),
);
export type Detail = v.InferOutput<typeof Detail>;

/** From the first to the last, both included. */
export type Range = readonly [from: number, to: number];

/** A detail, or what several have in common. Undefined: any. */
export interface Scope {
  readonly interfaces: readonly string[] | undefined;
  readonly protocols: readonly number[] | undefined;
  /** its own: where it may have matches */
  readonly addresses: readonly Prefix[] | undefined;
  readonly ports: readonly Range[] | undefined;
  /** the other side's */
  readonly remotes: readonly Prefix[] | undefined;
  /** sources of flows that it begins, from any port */
  readonly transmit: readonly Prefix[] | undefined;
  /** beside the card's own: what it may take by SetMac */
  readonly macs: readonly string[] | undefined;
  /** hashes (filter/program.ts) of the receive filters that must all be installed */
  readonly filters: readonly string[];
  /** Infinity: any number */
  readonly packetsPerSecond: number;
  readonly matches: number;
}

/** What a client asks for, with the words of the switch's Match: -1 is any port, a prefix of 0 any address. */
export interface Wanted {
  readonly family: number;
  readonly protocol: number;
  readonly dst: Int32Array;
  readonly dstPrefix: number;
  readonly dport: number;
  readonly src: Int32Array;
  readonly srcPrefix: number;
}

const prefixes = (texts: readonly string[] | undefined) =>
  texts && widest(texts.map((text) => networkOf(readPrefix(text)!)));

/** Without those that lie in others. */
function widest(list: readonly Prefix[]): Prefix[] {
  const kept: Prefix[] = [];
  for (const one of list.toSorted((a, b) => a.prefix - b.prefix))
    if (!within(kept, one.family, one.words, one.prefix)) kept.push(one);
  return kept;
}

/** In order, and joined where they touch. */
export function joined(list: readonly Range[]): Range[] {
  const kept: [number, number][] = [];
  for (const [from, to] of list.toSorted((a, b) => a[0] - b[0])) {
    const last = kept.at(-1);
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else if (from <= to) kept.push([from, to]);
  }
  return kept;
}

/** If nothing else is said, flows begin from where it may have matches, and who has not every address has no MAC of its own. */
export function scopeOf(detail: Detail): Scope {
  const addresses = prefixes(detail.addresses);
  return {
    interfaces: detail.interfaces,
    protocols: detail.protocols?.map((name) => PROTOCOLS[name]!),
    addresses,
    ports: detail.ports && joined(detail.ports.map((p) => (typeof p === "number" ? [p, p] : p))),
    remotes: prefixes(detail.remotes),
    transmit: prefixes(detail.transmit) ?? addresses,
    macs: detail.macs?.map((text) => formatLladdr(parseLladdr(text)!)) ?? (addresses && []),
    filters: detail.filter === undefined ? [] : [detail.filter],
    packetsPerSecond: detail.packets_per_second ?? Number.POSITIVE_INFINITY,
    matches: detail.matches ?? Number.POSITIVE_INFINITY,
  };
}

/** What both lists have; undefined is everything. */
const common = <T>(a: T | undefined, b: T | undefined, both: (a: T, b: T) => T): T | undefined => {
  if (a === undefined) return b;
  return b === undefined ? a : both(a, b);
};

const commonNames = <T>(a: readonly T[] | undefined, b: readonly T[] | undefined) =>
  common(a, b, (x, y) => x.filter((one) => y.includes(one)));

const commonPrefixes = (a: Scope["addresses"], b: Scope["addresses"]) =>
  common(a, b, (x, y) =>
    widest([
      ...x.filter((one) => within(y, one.family, one.words, one.prefix)),
      ...y.filter((one) => within(x, one.family, one.words, one.prefix)),
    ]),
  );

const commonRanges = (a: Scope["ports"], b: Scope["ports"]) =>
  common(a, b, (x, y) =>
    joined(x.flatMap(([f, t]) => y.map(([g, u]): Range => [Math.max(f, g), Math.min(t, u)]))),
  );

const isNone = (list: readonly unknown[] | undefined): boolean => list?.length === 0;

/** What both allow; undefined if that is nothing. */
export function intersect(a: Scope, b: Scope): Scope | undefined {
  const scope: Scope = {
    interfaces: commonNames(a.interfaces, b.interfaces),
    protocols: commonNames(a.protocols, b.protocols),
    addresses: commonPrefixes(a.addresses, b.addresses),
    ports: commonRanges(a.ports, b.ports),
    remotes: commonPrefixes(a.remotes, b.remotes),
    transmit: commonPrefixes(a.transmit, b.transmit),
    macs: commonNames(a.macs, b.macs),
    filters: [...new Set([...a.filters, ...b.filters])],
    packetsPerSecond: Math.min(a.packetsPerSecond, b.packetsPerSecond),
    matches: Math.min(a.matches, b.matches),
  };
  const silent = (isNone(scope.addresses) || isNone(scope.ports)) && isNone(scope.transmit);
  const never = isNone(scope.interfaces) || isNone(scope.protocols) || isNone(scope.remotes);
  return silent || never ? undefined : scope;
}

const anyOf = <T>(list: readonly T[] | undefined, one: T): boolean => list?.includes(one) ?? true;
const inPrefixes = (list: readonly Prefix[] | undefined, family: number, words: Int32Array, bits: number) =>
  list === undefined || within(list, family, words, bits);
const inRanges = (list: readonly Range[] | undefined, at: number): boolean => {
  const [from, to] = at < 0 ? [0, 65535] : [at, at];
  return list === undefined || list.some(([first, last]) => first <= from && to <= last);
};

/** The field of a scope that a thing is not within; undefined if it allows it. */
export type Outside =
  | ("interfaces" | "protocols" | "addresses" | "ports" | "remotes" | "transmit" | "macs")
  | undefined;

const outsideBoth = (scope: Scope, ifname: string, wanted: Wanted): Outside => {
  if (!anyOf(scope.interfaces, ifname)) return "interfaces";
  if (!anyOf(scope.protocols, wanted.protocol)) return "protocols";
  return inPrefixes(scope.remotes, wanted.family, wanted.src, wanted.srcPrefix) ? undefined : "remotes";
};

/** Whether packets may come to it so. */
export const outsideMatch = (scope: Scope, ifname: string, wanted: Wanted): Outside => {
  const { family, dst, dstPrefix, dport } = wanted;
  if (!inPrefixes(scope.addresses, family, dst, dstPrefix)) return "addresses";
  return inRanges(scope.ports, dport) ? outsideBoth(scope, ifname, wanted) : "ports";
};

/** Whether it may begin the flow whose answers these are. */
export const outsideFlow = (scope: Scope, ifname: string, wanted: Wanted): Outside =>
  inPrefixes(scope.transmit, wanted.family, wanted.dst, addressBits(wanted.family))
    ? outsideBoth(scope, ifname, wanted)
    : "transmit";

/** Whether it may have this link-layer address. @param name as formatLladdr writes it */
export const outsideMac = (scope: Scope, name: string): Outside =>
  anyOf(scope.macs, name) ? undefined : "macs";

const prefixText = ({ family, words, prefix: bits }: Prefix): string =>
  `${formatAddress(family, words)}${bits < addressBits(family) ? `/${bits}` : ""}`;

/** A scope as a detail says it, in one way: equal scopes have equal texts. Several filters are a list. */
export function detailOf(scope: Scope): Record<string, unknown> {
  const texts = (list: readonly Prefix[] | undefined) => list?.map(prefixText).toSorted();
  const limit = (n: number) => (Number.isFinite(n) ? n : undefined);
  const said = {
    interfaces: scope.interfaces?.toSorted(),
    protocols: scope.protocols?.map(protocolName).toSorted(),
    addresses: texts(scope.addresses),
    ports: scope.ports?.map(([from, to]) => (from === to ? from : [from, to])),
    remotes: texts(scope.remotes),
    transmit: texts(scope.transmit),
    macs: scope.macs?.length === 0 && scope.addresses ? undefined : scope.macs?.toSorted(),
    filters: scope.filters.length > 0 ? scope.filters.toSorted() : undefined,
    packets_per_second: limit(scope.packetsPerSecond),
    matches: limit(scope.matches),
  };
  return Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined));
}

/** Whether all of `inner` is in `outer`. */
export const isWithin = (inner: Scope, outer: Scope): boolean => {
  const both = intersect(inner, outer);
  return both !== undefined && Bun.deepEquals(detailOf(both), detailOf(inner));
};
