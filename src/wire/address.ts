// Addresses as text and as words. Words are memory words in network byte order loaded little-endian:
// 10.0.0.1 is [0x0100000a, 0, 0, 0]. Text forms: dotted quad; RFC 5952 for IPv6; colon-separated hex for link layer.
import { isIPv4, isIPv6 } from "node:net";

export const AF_INET = 2;
export const AF_INET6 = 10;

const word = (b0: number, b1: number, b2: number, b3: number): number =>
  b0 | (b1 << 8) | (b2 << 16) | (b3 << 24);
/** The bytes of a word swapped: host order to and from network order. */
export const swap32 = (w: number): number =>
  (w >>> 24) | ((w >>> 8) & 0xff00) | ((w << 8) & 0xff0000) | (w << 24);

/** Whether the address at word `at` is one of many hosts: a group, or IPv4's limited broadcast. */
export const isGroup = (words: Int32Array, at: number, six: boolean): boolean =>
  six ? (words[at]! & 0xff) === 0xff : (words[at]! & 0xf0) === 0xe0 || words[at] === -1;

/** "10.0.0.1" as one word, or undefined if it is not a dotted quad. */
export function parseIPv4(text: string): number | undefined {
  if (!isIPv4(text)) return undefined;
  const [a, b, c, d] = text.split(".").map(Number);
  return word(a!, b!, c!, d!);
}

export const formatIPv4 = (w: number): string =>
  `${w & 255}.${(w >>> 8) & 255}.${(w >>> 16) & 255}.${w >>> 24}`;

/** An IPv6 address as four words, or undefined. Takes "::ffff:10.0.0.1"; no zone. */
export function parseIPv6(text: string): Int32Array | undefined {
  if (!isIPv6(text) || text.includes("%")) return undefined;
  const quad = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  const v4 = quad ? swap32(parseIPv4(quad[2]!)!) >>> 0 : 0;
  const hex = quad ? `${quad[1]}${(v4 >>> 16).toString(16)}:${(v4 & 0xffff).toString(16)}` : text;
  const [head, tail] = hex.split("::").map((part) => (part === "" ? [] : part.split(":")));
  const groups = tail ? [...head!, ...Array(8 - head!.length - tail.length).fill("0"), ...tail] : head!;
  const out = new Int32Array(4);
  groups.forEach((group, i) => {
    const value = Number.parseInt(group, 16);
    out[i >> 1]! |= ((value >>> 8) | ((value & 255) << 8)) << ((i & 1) * 16);
  });
  return out;
}

export function formatIPv6(words: ArrayLike<number>, at = 0): string {
  const groups: number[] = [];
  for (let i = 0; i < 8; i++) {
    const half = words[at + (i >> 1)]! >>> ((i & 1) * 16);
    groups.push(((half & 255) << 8) | ((half >>> 8) & 255));
  }
  // The longest run of two or more zero groups becomes "::", the first of equals (RFC 5952 section 4.2).
  let from = -1;
  let best = 1;
  for (let i = 0; i < 8; i++) {
    let n = 0;
    while (i + n < 8 && groups[i + n] === 0) n++;
    if (n > best) [from, best] = [i, n];
    i += n;
  }
  const v4 = formatIPv4(words[at + 3]!);
  if (from === 0 && best === 5 && groups[5] === 0xffff) return `::ffff:${v4}`;
  const hex = groups.map((group) => group.toString(16));
  if (from < 0) return hex.join(":");
  return `${hex.slice(0, from).join(":")}::${hex.slice(from + best).join(":")}`;
}

/** Either family as text: `words[at]` for AF_INET, four words for AF_INET6. */
export const formatAddress = (family: number, words: ArrayLike<number>, at = 0): string =>
  family === AF_INET6 ? formatIPv6(words, at) : formatIPv4(words[at]!);

/** Text of either family as {family, words of 4}, or undefined if it is no address. */
export function parseAddress(text: string): { family: number; words: Int32Array } | undefined {
  const v4 = parseIPv4(text);
  if (v4 !== undefined) return { family: AF_INET, words: Int32Array.of(v4, 0, 0, 0) };
  const v6 = parseIPv6(text);
  return v6 && { family: AF_INET6, words: v6 };
}

/** "02:00:00:00:00:01" as bytes, or undefined. */
export function parseLladdr(text: string): Uint8Array | undefined {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2})+$/i.test(text)) return undefined;
  return Uint8Array.from(text.split(":"), (byte) => Number.parseInt(byte, 16));
}

export const formatLladdr = (bytes: ArrayLike<number>): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
