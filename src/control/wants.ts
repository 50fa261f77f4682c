// From what a client asks for to what the table takes: addresses read, wildcards understood, and everything refused
// that no client may have whoever it is. Pure.
//
// Beside usnetd's exact addresses: 0.0.0.0 or :: without a prefix length is any address, dst_prefix and src_prefix make a
// subnet of one. A destination of many hosts (multicast, broadcast) is a group: any number of clients may be in it.
import { AF_INET } from "../wire/address.ts";
import { addressBits, type Prefix, readPrefix } from "../wire/prefix.ts";
import { PROTOCOLS } from "../wire/protocol.ts";
import { Local } from "./local.ts";
import { type Match, readKey, writeKey } from "../switch/table/pattern.ts";
import { KEY_WORDS } from "../switch/table/layout.ts";
import { type Address, readAddress, Refusal, type WireMatch, writeAddress } from "./protocol.ts";
import type { Group } from "../switch/table/table.ts";

const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
const NUMBERS = new Set(Object.values(PROTOCOLS));

const NONE = new Int32Array(4);
const isZero = (words: Int32Array): boolean => words.every((word) => word === 0);

export type Want =
  | { readonly kind: "match"; readonly match: Match }
  | { readonly kind: "group"; readonly group: Group };

function prefixOf(name: string, address: Address, prefix: number | undefined): number {
  if (prefix === undefined) return isZero(address.words) ? 0 : addressBits(address.family);
  if (prefix <= addressBits(address.family)) return prefix;
  throw new Refusal("bad_match", `${name}_prefix is ${prefix}: at most ${addressBits(address.family)}`);
}

/** @throws Refusal */
export function readWant(wire: WireMatch, local: Local): Want {
  const { protocol } = wire;
  const dst = readAddress(wire.dst);
  const src = wire.src && readAddress(wire.src);
  const { family } = dst;
  if (!NUMBERS.has(protocol))
    throw new Refusal("bad_protocol", `protocol ${protocol} is none of ${Object.keys(PROTOCOLS).join(", ")}`);
  if (protocol === (family === AF_INET ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
    throw new Refusal("bad_match", "ICMP is of IPv4, ICMPv6 of IPv6");
  if (src && src.family !== family) throw new Refusal("bad_match", "two addresses of different families");
  const dstPrefix = prefixOf("dst", dst, wire.dstPrefix);
  const srcPrefix = src ? prefixOf("src", src, wire.srcPrefix) : 0;
  if (!src && wire.srcPrefix !== undefined) throw new Refusal("bad_match", "src_prefix without src_addr");
  const echo = protocol === IPPROTO_ICMP || protocol === IPPROTO_ICMPV6;
  if (echo && wire.srcPort !== undefined)
    throw new Refusal("bad_match", "ICMP has no source port; dst_port is the identifier of an echo reply");
  if (dstPrefix > 0 && Local.isLoopback(family, dst.words))
    throw new Refusal("bad_address", "a loopback address is never seen on a card");
  if (dstPrefix === addressBits(family) && local.isGroup(family, dst.words)) {
    if ((wire.dstPort === undefined) !== echo || srcPrefix > 0 || wire.srcPort !== undefined)
      throw new Refusal(
        "bad_match",
        "a group is an address and a port (but ICMP has none), without a source",
      );
    return { kind: "group", group: { family, protocol, address: dst.words, port: wire.dstPort ?? 0 } };
  }
  if (src && srcPrefix === addressBits(family) && local.isGroup(family, src.words))
    throw new Refusal("bad_address", "an address of many hosts is no source");
  const dport = wire.dstPort ?? -1;
  const exactEcho = echo && dport >= 0 && srcPrefix === addressBits(family);
  const match = asKept({
    family,
    protocol,
    dst: dst.words,
    dstPrefix,
    dport,
    src: src?.words ?? NONE,
    srcPrefix,
    sport: exactEcho ? 0 : (wire.srcPort ?? -1),
  });
  return { kind: "match", match };
}

/** As the table keeps it: no bits behind a prefix. */
function asKept(match: Match): Match {
  const key = new Int32Array(KEY_WORDS);
  writeKey(match, key, 0);
  return readKey(key, 0);
}

/** All packets to the addresses under a prefix: a match a protocol. */
export const everythingTo = ({ family, words, prefix }: Prefix): Match[] =>
  Object.values(PROTOCOLS)
    .filter((protocol) => protocol !== (family === AF_INET ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
    .map((protocol) =>
      asKept({
        family: family as Match["family"],
        protocol,
        dst: words,
        dstPrefix: prefix,
        dport: -1,
        src: NONE,
        srcPrefix: 0,
        sport: -1,
      }),
    );

/** As usnetd writes a match, with our fields where they say more. */
export function writeMatch(match: Match): Record<string, unknown> {
  const { family, protocol } = match;
  const full = addressBits(family);
  return {
    dst_addr: writeAddress(family, match.dst),
    dst_port: match.dport < 0 ? null : match.dport,
    src_addr: match.srcPrefix === 0 ? null : writeAddress(family, match.src),
    src_port: match.sport < 0 ? null : match.sport,
    protocol,
    ...(match.dstPrefix < full && { dst_prefix: match.dstPrefix }),
    ...(match.srcPrefix > 0 && match.srcPrefix < full && { src_prefix: match.srcPrefix }),
  };
}

/** What a configured endpoint says: protocols, port, the other side. */
export interface Endpoint {
  readonly protocols: readonly number[];
  /** -1: any */
  readonly port: number;
  readonly remote: Prefix | undefined;
}

/** "tcp:22", "udp:53:10.0.0.0/8", "icmp", "icmp:10.0.0.1"; undefined if it is none. */
export function readEndpoint(text: string): Endpoint | undefined {
  const [name = "", ...rest] = text.split(":");
  const protocol = PROTOCOLS[name.toLowerCase()];
  if (protocol === undefined) return undefined;
  const echo = protocol === IPPROTO_ICMP || protocol === IPPROTO_ICMPV6;
  const portText = echo ? undefined : rest.shift();
  const port = portText === undefined ? -1 : Number(portText);
  if (!echo && !(/^[0-9]{1,5}$/.test(portText ?? "") && port >= 1 && port <= 65535)) return undefined;
  const protocols = echo && rest.length === 0 ? [IPPROTO_ICMP, IPPROTO_ICMPV6] : [protocol];
  if (rest.length === 0) return { protocols, port, remote: undefined };
  const remote = readPrefix(rest.join(":"));
  return remote && { protocols, port, remote };
}
