// Matches: which packets are whose. A match is a pattern (how much of the tuple it gives) and the values. One search
// goes through the patterns that are in use, the most specific first, with one probe each (tuple space search,
// Srinivasan et al. 1999). The order: longer source prefix, then source port given, then destination port given, then
// longer destination prefix. So a connected match precedes a listener, and a listener on one port one on all.
//
// META, a word: what an entry is compared by beside addresses and ports. Patterns of a family are in the order of their
// metas.
//   30 always 1 | 29 group | 28 DHCP (both: owned address) | 27 IPv6 | 18..25 source prefix | 17 source port | 16 destination port
//   8..15 destination prefix | 0..7 protocol
import { AF_INET, AF_INET6 } from "../../wire/address.ts";
import {
  ENTRY_DST,
  ENTRY_META,
  ENTRY_PORTS,
  KEY_SRC,
  PATTERN_DST,
  PATTERN_PORTS,
  PATTERN_SRC,
} from "./layout.ts";

export interface Match {
  readonly family: 2 | 10;
  readonly protocol: number;
  /** memory words; an IPv4 address in word 0 */
  readonly dst: Int32Array;
  /** 0..32 or 0..128 */
  readonly dstPrefix: number;
  /** host order, -1 any. ICMP: the identifier of an echo reply */
  readonly dport: number;
  readonly src: Int32Array;
  readonly srcPrefix: number;
  /** host order, -1 any. ICMP: 0 */
  readonly sport: number;
}

const PRESENT = 1 << 30;
const META_GROUP = PRESENT | (1 << 29);
export const META_DHCP: number = PRESENT | (1 << 28);
export const META_SIX: number = 1 << 27;
const SRC_PREFIX_SHIFT = 18;
export const META_SPORT: number = 1 << 17;
const META_DPORT = 1 << 16;
const DST_PREFIX_SHIFT = 8;

/** The pattern of a meta: without its protocol. */
export const patternOf = (meta: number): number => meta & ~0xff;
export const familyOf = (meta: number): 2 | 10 => ((meta & META_SIX) === 0 ? AF_INET : AF_INET6);

/** How many bits of the destination a meta gives, and of the source. */
export const dstPrefixOf = (meta: number): number => (meta >>> DST_PREFIX_SHIFT) & 0xff;
export const srcPrefixOf = (meta: number): number => (meta >>> SRC_PREFIX_SHIFT) & 0xff;

/** Whether it gives an IPv4 destination and a source, whole: destinations.ts knows which two. */
export const isMeeting = (meta: number): boolean =>
  (meta & META_SIX) === 0 && dstPrefixOf(meta) === 32 && srcPrefixOf(meta) === 32;

/** Of addresses that a client alone has. */
export const META_OWNED: number = META_GROUP | META_DHCP;

/** Whether it is a match's: not a group's, a DHCP answer's or an owned address's. */
export const isMatch = (meta: number): boolean => (meta & META_OWNED) === PRESENT;

const metaOf = (match: Match): number =>
  PRESENT |
  (match.family === AF_INET6 ? META_SIX : 0) |
  (match.srcPrefix << SRC_PREFIX_SHIFT) |
  (match.sport >= 0 ? META_SPORT : 0) |
  (match.dport >= 0 ? META_DPORT : 0) |
  (match.dstPrefix << DST_PREFIX_SHIFT) |
  match.protocol;

/** The patterns that give a destination address and port alone, and the whole 5-tuple. */
export const LISTENING4: number = PRESENT | META_DPORT | (32 << DST_PREFIX_SHIFT);
export const LISTENING6: number = PRESENT | META_SIX | META_DPORT | (128 << DST_PREFIX_SHIFT);
export const EXACT4: number = LISTENING4 | META_SPORT | (32 << SRC_PREFIX_SHIFT);
export const EXACT6: number = LISTENING6 | META_SPORT | (128 << SRC_PREFIX_SHIFT);

/** Whether it is one of those: they have a place of their own, the XDP program's too. */
export const isFast = (pattern: number): boolean =>
  pattern === LISTENING4 || pattern === LISTENING6 || pattern === EXACT4 || pattern === EXACT6;

/** A port from host to network order or back. */
export const swap16 = (half: number): number => ((half & 0xff) << 8) | (half >>> 8);

/** The ports' word of a header: source port in the low half, both in network order. */
export const portsWord = (sport: number, dport: number): number => swap16(sport) | (swap16(dport) << 16);

/** Memory word `i` of a mask of `prefix` bits. */
function prefixWord(prefix: number, i: number): number {
  const bits = Math.min(Math.max(prefix - i * 32, 0), 32);
  const host = bits === 0 ? 0 : -1 << (32 - bits);
  return (host << 24) | ((host & 0xff00) << 8) | ((host >>> 8) & 0xff00) | (host >>> 24);
}

/** Writes what a pattern leaves of a tuple to PATTERN_WORDS words. */
export function writePattern(pattern: number, words: Int32Array, at: number): void {
  const dst = dstPrefixOf(pattern);
  const src = srcPrefixOf(pattern);
  words[at] = pattern;
  words[at + PATTERN_PORTS] =
    ((pattern & META_SPORT) === 0 ? 0 : 0xffff) | ((pattern & META_DPORT) === 0 ? 0 : 0xffff << 16);
  for (let i = 0; i < 4; i++) {
    words[at + PATTERN_DST + i] = prefixWord(dst, i);
    words[at + PATTERN_SRC + i] = prefixWord(src, i);
  }
}

/** Writes a match's values as a key, KEY_WORDS words but the owner's. */
export function writeKey(match: Match, words: Int32Array, at: number): void {
  const own = match.family === AF_INET6 ? 4 : 1;
  for (let i = 0; i < 4; i++) {
    words[at + ENTRY_DST + i] = i < own ? match.dst[i]! & prefixWord(match.dstPrefix, i) : 0;
    words[at + KEY_SRC + i] = i < own ? match.src[i]! & prefixWord(match.srcPrefix, i) : 0;
  }
  words[at + ENTRY_PORTS] = portsWord(Math.max(match.sport, 0), Math.max(match.dport, 0));
  words[at + ENTRY_META] = metaOf(match);
}

/** The match of a key. */
export function readKey(words: Int32Array, at: number): Match {
  const meta = words[at + ENTRY_META]!;
  const ports = words[at + ENTRY_PORTS]!;
  return {
    family: familyOf(meta),
    protocol: meta & 0xff,
    dst: words.slice(at + ENTRY_DST, at + ENTRY_DST + 4),
    dstPrefix: dstPrefixOf(meta),
    dport: (meta & META_DPORT) === 0 ? -1 : swap16(ports >>> 16),
    src: words.slice(at + KEY_SRC, at + KEY_SRC + 4),
    srcPrefix: srcPrefixOf(meta),
    sport: (meta & META_SPORT) === 0 ? -1 : swap16(ports & 0xffff),
  };
}

/** The key of a group: an address and a port that any number of clients may have. */
export const groupMeta = (family: number, protocol: number): number =>
  META_GROUP | (family === AF_INET6 ? META_SIX : 0) | META_DPORT | protocol;
