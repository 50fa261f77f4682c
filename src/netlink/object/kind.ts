// What all kinds of objects share: families, flags by name, prefixes as text, and the shape of a kind.
import { formatAddress } from "../../wire/address.ts";
import { AF_INET } from "../constants.ts";
import type { Requests } from "../message.ts";
import { type Codec, parsed, type Schema, type Writing } from "./codec.ts";

/** AF_INET and AF_INET6, as `ip` calls them. */
export type Family = "inet" | "inet6";
const FAMILIES: Record<number, string> = { 0: "unspec", 2: "inet", 7: "bridge", 10: "inet6", 28: "mpls" };
const NUMBERS: Record<string, number> = Object.fromEntries(
  Object.entries(FAMILIES).map(([number, name]) => [name, Number(number)]),
);
export const familyName = (family: number): string => FAMILIES[family] ?? `family${family}`;
/** 0 for none. @throws TypeError */
export function familyNumber(name: string | undefined): number {
  if (name === undefined) return 0;
  const number = NUMBERS[name] ?? Number(/^family(\d+)$/.exec(name)?.[1] ?? Number.NaN);
  if (Number.isNaN(number)) throw new TypeError(`"${name}" is no address family: inet or inet6`);
  return number;
}

/** How one kind of object goes to and from messages. */
export interface Kind<T extends object = object> {
  readonly name: string;
  /** RTM_NEW*; DEL, GET and SET follow it. */
  readonly type: number;
  readonly headerBytes: number;
  readonly schema: Schema;
  /** The message of `len` bytes at `off` as an object, or undefined if a length in it is wrong. */
  decode(words: Int32Array, bytes: Uint8Array, off: number, len: number): T | undefined;
  /** Writes a message of `type`. @throws TypeError, RangeError for what cannot be written */
  encode(m: Requests, type: number, flags: number, object: object, to: Writing): void;
}

/** A bit that has no name here: "0x1000". */
export type HexBit = `0x${string}`;
const NONE: readonly never[] = Object.freeze([]);

/** Bits by name, lowest first: "" has no name and shows as hexadecimal. The array may be shared: do not change it. */
export class Bits<Name extends string> {
  private readonly names: readonly string[];

  constructor(names: readonly (Name | "")[]) {
    this.names = names;
  }

  read(value: number): readonly (Name | HexBit)[] {
    if (value === 0) return NONE;
    const found: string[] = [];
    for (let bit = 0; bit < 32; bit++)
      if ((value >>> bit) & 1) found.push(this.names[bit] || `0x${(2 ** bit).toString(16)}`);
    return found as (Name | HexBit)[];
  }

  /** @throws TypeError */
  write(flags: readonly string[] | undefined): number {
    let value = 0;
    for (const flag of flags ?? NONE) {
      const bit = this.names.indexOf(flag);
      if (bit >= 0 && flag !== "") value |= 1 << bit;
      else if (/^0x[0-9a-f]{1,8}$/.test(flag)) value |= Number(flag);
      else throw new TypeError(`no flag "${flag}": ${this.names.filter((name) => name).join(", ")}`);
    }
    return value;
  }

  readonly u32: Codec<readonly (Name | HexBit)[]> = {
    read: (words, _bytes, off, len) => (len === 4 ? this.read(words[off >> 2]!) : undefined),
    write: (m, type, value) => m.u32(type, this.write(value)),
  };
}

/** The address of a prefix, its length to be put behind by `withLength`; none is written for a length of 0. */
export const prefixAddress: Codec<string> = {
  read(words, _bytes, off, len) {
    if (len !== 4 && len !== 16) return undefined;
    return formatAddress(len === 4 ? 2 : 10, words, off >> 2);
  },
  write(m, type, value) {
    const { family, words, length } = parsePrefix(value);
    if (length > 0) m.address(type, words, family === AF_INET ? 1 : 4);
  },
};

/** `field` of a decoded object as a prefix; "0.0.0.0/0" or "::/0" where there is none and `always`. */
export function withLength(
  object: object,
  field: string,
  family: number,
  length: number,
  always: boolean,
): void {
  const fields = object as Record<string, unknown>;
  const address = fields[field];
  if (address !== undefined) fields[field] = `${address}/${length}`;
  else if (always) fields[field] = family === AF_INET ? `0.0.0.0/${length}` : `::/${length}`;
}

const OCTETS = Array.from({ length: 256 }, (_, i) => `${i}.`);
const LAST = Array.from({ length: 256 }, (_, i) => `${i}`);
/** Concatenation that costs a fraction of a template: the parts are there, and the text is made when it is read. */
export const ipv4 = (w: number): string =>
  OCTETS[w & 255]! + OCTETS[(w >>> 8) & 255]! + (OCTETS[(w >>> 16) & 255]! + LAST[w >>> 24]!);

/** What `quad` read: the word, in network byte order, and the prefix length behind it (32 if there is none). */
export const read4 = { word: 0, length: 0 };

/** "10.0.0.1" or "10.0.0.0/8" into `read4`; false for anything else. For requests by the hundred thousand. */
export function quad(text: string): boolean {
  let word = 0;
  let octet = -1;
  let shift = 0;
  let length = 32;
  const n = text.length;
  if (n > 18) return false;
  for (let i = 0; i < n; i++) {
    const c = text.charCodeAt(i);
    const digit = c - 48;
    if (digit >= 0 && digit <= 9) {
      // As the usual parsers: no leading zeroes, which others take for octal.
      if (octet === 0) return false;
      octet = octet < 0 ? digit : octet * 10 + digit;
      if (octet > 255) return false;
    } else if (c === 46 /* . */) {
      if (octet < 0 || shift === 24) return false;
      word |= octet << shift;
      shift += 8;
      octet = -1;
    } else if (c === 47 /* / */) {
      if (i + 1 === n || i + 3 < n) return false;
      length = 0;
      for (let k = i + 1; k < n; k++) {
        const bit = text.charCodeAt(k) - 48;
        if (bit < 0 || bit > 9) return false;
        length = length * 10 + bit;
      }
      if (length > 32) return false;
      break;
    } else return false;
  }
  if (shift !== 24 || octet < 0) return false;
  read4.word = word | (octet << 24);
  read4.length = length;
  return true;
}

export interface ParsedPrefix {
  family: number;
  words: Int32Array;
  length: number;
}

/** "10.0.0.0/8"; an address alone is all its bits. @throws TypeError */
export function parsePrefix(text: string): ParsedPrefix {
  const slash = text.indexOf("/");
  const { family, words } = parsed(slash < 0 ? text : text.slice(0, slash));
  const widest = family === AF_INET ? 32 : 128;
  const bits =
    slash < 0 ? widest : /^\d{1,3}$/.test(text.slice(slash + 1)) ? Number(text.slice(slash + 1)) : 999;
  if (bits > widest) throw new TypeError(`not a prefix: ${text}`);
  return { family, words, length: bits };
}
