// The switch table as a list, by the rules of src/switch/pattern.ts written once more in the simplest way: addresses are
// numbers as people write them, masks are shifts, and every question goes through the whole list.
import { formatAddress } from "../../src/wire/address.ts";
import type { Match } from "../../src/switch/table/pattern.ts";

export interface Packet {
  family: 2 | 10;
  protocol: number;
  dst: bigint;
  src: bigint;
  dport: number;
  sport: number;
}

/** A match with its addresses as numbers; what a prefix leaves open is not 0 yet. */
export interface Draft extends Packet {
  dstPrefix: number;
  srcPrefix: number;
}

interface Owned extends Draft {
  client: number;
}

export const toText = (family: number, address: bigint): string =>
  family === 2
    ? [24n, 16n, 8n, 0n].map((shift) => (address >> shift) & 255n).join(".")
    : Array.from({ length: 8 }, (_, i) => ((address >> BigInt(112 - i * 16)) & 65535n).toString(16)).join(
        ":",
      );

const bits = (family: number): number => (family === 2 ? 32 : 128);
const head = (family: number, address: bigint, prefix: number): bigint =>
  address >> BigInt(bits(family) - prefix);

/** Whether a port that a match says, or leaves open, is this one. */
const portIs = (port: number, is: number): boolean => port < 0 || port === is;

const covers = (match: Draft, packet: Packet): boolean =>
  match.family === packet.family &&
  match.protocol === packet.protocol &&
  head(match.family, match.dst, match.dstPrefix) === head(match.family, packet.dst, match.dstPrefix) &&
  head(match.family, match.src, match.srcPrefix) === head(match.family, packet.src, match.srcPrefix) &&
  portIs(match.dport, packet.dport) &&
  portIs(match.sport, packet.sport);

/** Over 0 if `a` comes before `b`, 0 if they are of one pattern. */
function precedence(a: Draft, b: Draft): number {
  const given = (port: number) => (port >= 0 ? 1 : 0);
  return (
    a.srcPrefix - b.srcPrefix ||
    given(a.sport) - given(b.sport) ||
    given(a.dport) - given(b.dport) ||
    a.dstPrefix - b.dstPrefix
  );
}

const prefixesMeet = (family: number, a: bigint, aPrefix: number, b: bigint, bPrefix: number): boolean =>
  head(family, a, Math.min(aPrefix, bPrefix)) === head(family, b, Math.min(aPrefix, bPrefix));

const portsMeet = (a: number, b: number): boolean => a < 0 || b < 0 || a === b;

/** Whether a packet could be both's. */
const meet = (a: Draft, b: Draft): boolean =>
  a.family === b.family &&
  a.protocol === b.protocol &&
  prefixesMeet(a.family, a.dst, a.dstPrefix, b.dst, b.dstPrefix) &&
  prefixesMeet(a.family, a.src, a.srcPrefix, b.src, b.srcPrefix) &&
  portsMeet(a.dport, b.dport) &&
  portsMeet(a.sport, b.sport);

const patternOf = (m: Draft): string =>
  [m.family, m.dstPrefix, m.srcPrefix, m.dport >= 0, m.sport >= 0].join();

const isFast = (m: Draft): boolean => {
  const full = bits(m.family);
  const listening = m.srcPrefix === 0 && m.sport < 0;
  const exact = m.srcPrefix === full && m.sport >= 0;
  return m.dstPrefix === full && m.dport >= 0 && (listening || exact);
};

export type Answer = "added" | "exists" | "conflict" | "full";

export class Model {
  matches: Owned[] = [];
  /** room taken by others than matches */
  others = 0;
  /** groups that have a member: the first one takes room for two */
  groups = 0;
  private readonly capacity: number;
  private readonly wild: number;

  constructor(capacity: number, wild: number) {
    this.capacity = capacity;
    this.wild = wild;
  }

  get room(): number {
    return this.capacity - this.matches.length - this.others - this.groups;
  }

  get full(): boolean {
    return this.room === 0;
  }

  add(draft: Draft, client: number): Answer {
    if (this.indexOf(draft) >= 0) return "exists";
    const taken = (one: Owned) => one.client !== client && meet(one, draft) && precedence(draft, one) > 0;
    if (this.matches.some(taken)) return "conflict";
    const patterns = new Set(this.matches.filter((one) => !isFast(one)).map(patternOf));
    const room = isFast(draft) || patterns.has(patternOf(draft)) || patterns.size < this.wild;
    if (this.full || !room) return "full";
    this.matches.push({ ...draft, client });
    return "added";
  }

  indexOf(draft: Draft): number {
    return this.matches.findIndex((one) => meet(one, draft) && patternOf(one) === patternOf(draft));
  }

  removeClient(client: number): void {
    this.matches = this.matches.filter((one) => one.client !== client);
  }

  /** Whose a packet is; -1 nobody's. */
  find(packet: Packet): number {
    const all = this.matches.filter((one) => covers(one, packet));
    return all.length === 0 ? -1 : all.reduce((best, one) => (precedence(one, best) > 0 ? one : best)).client;
  }
}

/** Memory words of an address. */
export function toWords(family: number, address: bigint): Int32Array {
  const words = new Int32Array(4);
  const bytes = new DataView(words.buffer);
  if (family === 2) bytes.setUint32(0, Number(address));
  else
    for (let i = 0; i < 4; i++)
      bytes.setUint32(i * 4, Number((address >> BigInt(96 - i * 32)) & 0xffffffffn));
  return words;
}

export const toMatch = (draft: Draft): Match => ({
  ...draft,
  dst: toWords(draft.family, draft.dst),
  src: toWords(draft.family, draft.src),
});

/** A match of the table, as text; values that its prefixes leave open do not show. */
export function describeDraft(draft: Draft): string {
  const address = (value: bigint, prefix: number) => {
    const open = BigInt(bits(draft.family) - prefix);
    return `${formatAddress(draft.family, toWords(draft.family, (value >> open) << open))}/${prefix}`;
  };
  const { protocol, dst, dstPrefix, dport, src, srcPrefix, sport } = draft;
  return `${protocol} ${address(dst, dstPrefix)}:${dport} ${address(src, srcPrefix)}:${sport}`;
}

export function describeMatch(match: Match): string {
  const { family, protocol, dst, dstPrefix, dport, src, srcPrefix, sport } = match;
  const address = (words: Int32Array, prefix: number) => `${formatAddress(family, words)}/${prefix}`;
  return `${protocol} ${address(dst, dstPrefix)}:${dport} ${address(src, srcPrefix)}:${sport}`;
}
