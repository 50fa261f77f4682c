// Addresses and prefixes as requests take them: text, or already words (network order, as rows.ts has them).
import { parseAddress } from "../wire/address.ts";
import { AF_INET, type AF_INET6 } from "./constants.ts";

export interface AddressWords {
  readonly family: number;
  /** one word for AF_INET, four for AF_INET6; more do no harm */
  readonly words: ArrayLike<number>;
}
export interface PrefixWords extends AddressWords {
  readonly prefixLen: number;
}

/** "10.0.0.1", "fd00::1", or words */
export type Address = string | AddressWords;
/** "10.0.0.0/8", "fd00::/64", an address alone (32 or 128 bits of it), or words */
export type Prefix = string | PrefixWords;

/** @throws TypeError if it is no address */
export function toAddress(from: Address): AddressWords {
  if (typeof from !== "string") return from;
  const parsed = parseAddress(from);
  if (!parsed) throw new TypeError(`not an IP address: ${from}`);
  return parsed;
}

/** "default" is no prefix: its family is not in it. @throws TypeError if it is none */
export function toPrefix(from: Prefix): PrefixWords {
  if (typeof from !== "string") return from;
  const [, text, bits] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(from) ?? [];
  if (text === undefined) throw new TypeError(`not a prefix: ${from}`);
  const { family, words } = toAddress(text);
  const widest = family === AF_INET ? 32 : 128;
  const length = bits === undefined ? widest : Number(bits);
  if (length > widest) throw new TypeError(`not a prefix: ${from}`);
  return { family, words, prefixLen: length };
}

const anywhere = new Int32Array(4);
export const defaultRoute = (family: typeof AF_INET | typeof AF_INET6): PrefixWords => ({
  family,
  words: anywhere,
  prefixLen: 0,
});
