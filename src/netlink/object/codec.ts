// Attributes to and from plain objects. A schema is a table from attribute type to the object's key and a codec; the
// same table decodes and encodes, and its keys' order is the message's: an object that was decoded encodes to the same
// bytes. What no table knows, or what is not as long as it should be, stays as bytes under "attr57", or "nest57" if it
// carries NLA_F_NESTED. A new kernel's attributes so break nothing, and are not lost.
// These are for whoever wants objects; the daemon's mirror fills rows instead (attribute.ts).
import { formatAddress, formatLladdr, parseAddress, parseLladdr } from "../../wire/address.ts";
import { type Attributes, NLA_F_NESTED, NLA_TYPE_MASK, textAt } from "../attribute.ts";
import type { Requests } from "../message.ts";

/** Attributes that have no name here: the payload by type, "attr57", or "nest57" with NLA_F_NESTED. */
export type Unnamed = { [attribute in `${"attr" | "nest"}${number}`]?: Uint8Array };

/** What encoding must know besides the object. */
export interface Writing {
  /** Index of a link given by index or name. @throws NetlinkError if there is none of that name */
  ifindex(link: number | string): number;
  /** For the kernel to act on: what only the kernel says is left out. Otherwise exactly as it was received. */
  readonly request: boolean;
  /** AF_* of the message, where attributes depend on it. */
  family: number;
}

/** One attribute's payload as a value. `read` returns undefined for a payload that is none. */
export interface Codec<T = unknown> {
  read(words: Int32Array, bytes: Uint8Array, off: number, len: number): T | undefined;
  // A method, so that codecs of any value fit one table.
  write(m: Requests, type: number, value: T, to: Writing): void;
}

// biome-ignore lint/suspicious/noExplicitAny: tables hold codecs of all values
export type AnyCodec = Codec<any>;

const integer = (value: unknown, bits: number): number => {
  const number = typeof value === "boolean" ? Number(value) : (value as number);
  if (!Number.isInteger(number) || number < -(2 ** (bits - 1)) || number >= 2 ** bits)
    throw new RangeError(`${value} is no number of ${bits} bits`);
  return number;
};

export const u8: Codec<number> = {
  read: (_words, bytes, off, len) => (len === 1 ? bytes[off]! : undefined),
  write: (m, type, value) => m.u8(type, integer(value, 8)),
};
export const bool: Codec<boolean> = {
  read: (_words, bytes, off, len) => (len === 1 && bytes[off]! < 2 ? bytes[off] === 1 : undefined),
  write: (m, type, value) => m.u8(type, value ? 1 : 0),
};
export const u16: Codec<number> = {
  read: (words, _bytes, off, len) => (len === 2 ? words[off >> 2]! & 0xffff : undefined),
  write: (m, type, value) => m.u16(type, integer(value, 16)),
};
/** Network byte order: ports, VLAN protocols. */
export const be16: Codec<number> = {
  read: (_words, bytes, off, len) => (len === 2 ? (bytes[off]! << 8) | bytes[off + 1]! : undefined),
  write: (m, type, value) => m.raw(type, [integer(value, 16) >>> 8, value & 255]),
};
export const u32: Codec<number> = {
  read: (words, _bytes, off, len) => (len === 4 ? words[off >> 2]! >>> 0 : undefined),
  write: (m, type, value) => m.u32(type, integer(value, 32)),
};
export const s32: Codec<number> = {
  read: (words, _bytes, off, len) => (len === 4 ? words[off >> 2]! : undefined),
  write: (m, type, value) => m.u32(type, integer(value, 32)),
};
/** A number; above 2^53 it is not exact, which counters never reach. */
export const u64: Codec<number> = {
  read: (words, _bytes, off, len) => (len === 8 ? readU64(words, off >> 2) : undefined),
  write(m, type, value) {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
    m.raw(type, bytes);
  },
};
const readU64 = (words: Int32Array, w: number): number => (words[w]! >>> 0) + (words[w + 1]! >>> 0) * 2 ** 32;

/** A link by its index; requests may name it. */
export const link: Codec<number | string> = {
  read: (words, _bytes, off, len) => (len === 4 ? words[off >> 2]! : undefined),
  write: (m, type, value, to) => m.u32(type, to.ifindex(value)),
};

export const text: Codec<string> = {
  // Exactly one NUL, at the end: what else there is could not be written back.
  read(_words, bytes, off, len) {
    if (len === 0 || bytes[off + len - 1] !== 0) return undefined;
    const value = textAt(bytes, off, len);
    return utf8Length(value) === len - 1 ? value : undefined;
  },
  write: (m, type, value) => m.text(type, value),
};
const utf8Length = (value: string): number => Buffer.byteLength(value);

export const raw: Codec<Uint8Array> = {
  read: (_words, bytes, off, len) => bytes.slice(off, off + len),
  write: (m, type, value) => m.raw(type, value),
};
/** There or not: true, or missing. */
export const flag: Codec<true> = {
  read: (_words, _bytes, _off, len) => (len === 0 ? true : undefined),
  write: (m, type, value) => {
    if (value) m.flag(type);
  },
};
/** "10.0.0.1" or "fd00::1", told by the length. */
export const address: Codec<string> = {
  read(words, _bytes, off, len) {
    if (len !== 4 && len !== 16) return undefined;
    return formatAddress(len === 4 ? 2 : 10, words, off >> 2);
  },
  write(m, type, value) {
    const { family, words } = parsed(value);
    m.address(type, words, family === 2 ? 1 : 4);
  },
};
/** @throws TypeError */
export function parsed(value: string): { family: number; words: Int32Array } {
  const found = parseAddress(value);
  if (!found) throw new TypeError(`not an IP address: ${value}`);
  return found;
}
/** "02:00:00:00:00:01", of any length; "" is none. */
export const lladdr: Codec<string> = {
  read: (_words, bytes, off, len) => formatLladdr(bytes.subarray(off, off + len)),
  write(m, type, value) {
    const bytes = value === "" ? [] : parseLladdr(value);
    if (!bytes) throw new TypeError(`not a link-layer address: ${value}`);
    m.raw(type, bytes);
  },
};

/** A number of `of` by its name; one without a name stays a number. */
export const named = <T extends string>(of: Codec<number>, names: readonly T[]): Codec<T | number> => ({
  read(words, bytes, off, len) {
    const number = of.read(words, bytes, off, len);
    return number === undefined ? undefined : (names[number] ?? number);
  },
  write: (m, type, value, to) => of.write(m, type, numberOf(value, names), to),
});

/** @throws TypeError */
export function numberOf(value: number | string, names: readonly string[]): number {
  if (typeof value === "number") return value;
  const number = names.indexOf(value);
  if (number < 0) throw new TypeError(`"${value}" is none of ${names.filter((name) => name).join(", ")}`);
  return number;
}

/** A C struct of equal fields (u32 or u64): as many as are there, so that a longer or shorter one is no matter. */
export const record = <Key extends string>(width: 4 | 8, keys: string): Codec<{ [key in Key]: number }> => {
  const names = keys.split(" ") as Key[];
  return {
    read(words, _bytes, off, len) {
      if (len % width !== 0 || len > names.length * width) return undefined;
      const value = {} as { [key in Key]: number };
      for (let i = 0; i * width < len; i++)
        value[names[i]!] = width === 4 ? words[(off >> 2) + i]! >>> 0 : readU64(words, (off >> 2) + i * 2);
      return value;
    },
    write(m, type, value) {
      const there = names.filter((name) => value[name] !== undefined);
      const view = new DataView(new ArrayBuffer(there.length * width));
      there.forEach((name, i) => {
        if (width === 4) view.setUint32(i * 4, value[name], true);
        else view.setBigUint64(i * 8, BigInt(value[name]), true);
      });
      m.raw(type, new Uint8Array(view.buffer));
    },
  };
};

/** Attributes inside one: an object. `flagged`: the kernel sets NLA_F_NESTED on this one. */
export const nested = (schema: Schema, flagged = true): Codec<object> => ({
  read(words, bytes, off, len) {
    const value = {};
    return schema.decode(words, bytes, off, off + len, value) ? value : undefined;
  },
  write(m, type, value, to) {
    const mark = m.nest(type, flagged);
    schema.encode(m, value, to);
    m.end(mark);
  },
});

/** A nest of equal attributes: an array. With `type` they all have it; without, theirs count from 1 on. */
export const list = (item: Codec<unknown>, itemType?: number): Codec<unknown[]> => ({
  read(words, bytes, off, len) {
    const values: unknown[] = [];
    const end = off + len;
    while (end - off >= 4) {
      const head = words[off >> 2]!;
      const length = head & 0xffff;
      if (length < 4 || length > end - off) return undefined;
      if (itemType !== undefined && ((head >>> 16) & NLA_TYPE_MASK) !== itemType) return undefined;
      const value = item.read(words, bytes, off + 4, length - 4);
      if (value === undefined) return undefined;
      values.push(value);
      off += (length + 3) & ~3;
    }
    return values;
  },
  write(m, type, values, to) {
    const mark = m.nest(type);
    values.forEach((value, i) => void item.write(m, itemType ?? i + 1, value, to));
    m.end(mark);
  },
});

export interface Field {
  readonly key: string;
  readonly codec: AnyCodec;
  /** Only the kernel says it: not part of requests. */
  readonly readonly?: boolean;
}

const UNNAMED = /^(attr|nest)(\d+)$/;

/** "FORWARD_DELAY" as an object's key: "forwardDelay". */
export const keyOf = (name: string): string =>
  name.toLowerCase().replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

/** The attributes of one level. */
export class Schema {
  /** By type: what the fuzzer and the reference are made from. */
  readonly fields: readonly (Field | undefined)[];
  private readonly types = new Map<string, number>();
  private readonly other: ReadonlySet<string>;

  /**
   * @param fields by attribute name; a codec alone takes the name's own key
   * @param other keys of the object that are no attributes: they are written by someone else
   */
  constructor(
    set: Attributes,
    fields: { readonly [name: string]: AnyCodec | Field },
    other: readonly string[] = [],
  ) {
    const table: (Field | undefined)[] = [];
    for (const [name, field] of Object.entries(fields)) {
      const type = set[name];
      if (type === undefined) throw new Error(`no attribute ${name}`);
      table[type] = "codec" in field ? field : { key: keyOf(name), codec: field };
      this.types.set(table[type].key, type);
    }
    this.fields = table;
    this.other = new Set(other);
  }

  /** Reads the attributes from `off` to `end` into `into`. False if a length does not fit. */
  decode(words: Int32Array, bytes: Uint8Array, off: number, end: number, into: object): boolean {
    const to = into as Record<string, unknown>;
    while (end - off >= 4) {
      const head = words[off >> 2]!;
      const length = head & 0xffff;
      if (length < 4 || length > end - off) return false;
      const type = (head >>> 16) & NLA_TYPE_MASK;
      const field = this.fields[type];
      const value = field?.codec.read(words, bytes, off + 4, length - 4);
      if (value !== undefined) to[field!.key] = value;
      else to[`${head >>> 31 ? "nest" : "attr"}${type}`] = bytes.slice(off + 4, off + length);
      off += (length + 3) & ~3;
    }
    return true;
  }

  /** Writes the object's keys as attributes, in their order. @throws TypeError for a key or value that is none */
  encode(m: Requests, object: object, to: Writing): void {
    for (const [key, value] of Object.entries(object)) {
      if (value === undefined) continue;
      const type = this.types.get(key);
      if (type !== undefined) {
        const field = this.fields[type]!;
        if (!to.request || !field.readonly) field.codec.write(m, type, value as never, to);
        continue;
      }
      if (this.other.has(key)) continue;
      const [, nest, number] = UNNAMED.exec(key) ?? [];
      if (number === undefined) throw new TypeError(`no field "${key}" here`);
      m.raw(Number(number) | (nest === "nest" ? NLA_F_NESTED : 0), value as Uint8Array);
    }
  }
}

/** `codec` for each of the names, for schemas of many alike. */
export const all = <C>(codec: C, names: string): Record<string, C> =>
  Object.fromEntries(names.split(" ").map((name) => [name, codec]));

/** Fields under a key of another name. */
export const as = (key: string, codec: AnyCodec): Field => ({ key, codec });
/** A field that only the kernel says. */
export const said = (key: string, codec: AnyCodec): Field => ({ key, codec, readonly: true });
