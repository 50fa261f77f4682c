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

/** Whether the first `prefix` bits of two addresses are the same. */
export function samePrefix(a: Int32Array, b: Int32Array, prefix: number): boolean {
  for (let i = 0; i * 32 < prefix; i++) {
    const bits = Math.min(prefix - i * 32, 32);
    if ((swap32(a[i]! ^ b[i]!) & (-1 << (32 - bits))) !== 0) return false;
  }
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
