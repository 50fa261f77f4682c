// Prefixes of addresses, as text and as words, and what lies in which.
import { AF_INET, parseAddress, swap32 } from "./address.ts";

export interface Prefix {
  readonly family: number;
  /** memory words; an IPv4 address in word 0 */
  readonly words: Int32Array;
  readonly prefix: number;
}

/** Bits of an address. */
export const addressBits = (family: number): number => (family === AF_INET ? 32 : 128);

/** "10.0.0.0/8" or an address; undefined if it is neither. */
export function readPrefix(text: string): Prefix | undefined {
  const [address = "", length, more] = text.split("/");
  const found = parseAddress(address);
  if (!found || more !== undefined || (length !== undefined && !/^[0-9]{1,3}$/.test(length)))
    return undefined;
  const prefix = length === undefined ? addressBits(found.family) : Number(length);
  return prefix <= addressBits(found.family) ? { ...found, prefix } : undefined;
}

/** Without bits behind its length. */
export const networkOf = ({ family, words, prefix }: Prefix): Prefix => ({
  family,
  words: words.map((word, i) => word & swap32(mask(prefix - i * 32))),
  prefix,
});

/** The first `bits` bits of a word, in host order; none or all of them if `bits` is under 1 or over 31. */
const mask = (bits: number): number => {
  if (bits <= 0) return 0;
  return bits >= 32 ? -1 : -1 << (32 - bits);
};

/** Whether the first `prefix` bits of two addresses are the same. */
export function samePrefix(a: Int32Array, b: Int32Array, prefix: number): boolean {
  for (let i = 0; i * 32 < prefix; i++)
    if ((swap32(a[i]! ^ b[i]!) & mask(prefix - i * 32)) !== 0) return false;
  return true;
}

/** Whether an address, or all of a prefix, is under one of `prefixes`. */
export const within = (
  prefixes: readonly Prefix[],
  family: number,
  words: Int32Array,
  prefix: number,
): boolean =>
  prefixes.some((p) => p.family === family && p.prefix <= prefix && samePrefix(p.words, words, p.prefix));
