// Whose a frame may be, worked out from its bytes and the list of entries, with none of the datapath's code: the model that
// the switch is held to. Slow and plain.
import type { Match } from "../../src/switch/table/pattern.ts";
import { Model, type Packet } from "../switch/tablemodel.ts";

export interface Parsed extends Packet {
  kind: "plain" | "echo" | "error" | "nd" | "later";
  /** the fragment's key, if it is one */
  fragment?: string;
  first: boolean;
  quoted?: Parsed | undefined;
  l4: number;
  end: number;
  type: number;
}

const number = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).toString("hex") || "0"}`);
export const numberOf = (words: Int32Array, family: number): bigint =>
  number(new Uint8Array(words.buffer, words.byteOffset, family === 2 ? 4 : 16));

const PORTS = [6, 17, 33, 132, 136];

/** The packet at `at` of a frame, or undefined if it is none that could be anybody's. */
export function parse(frame: Uint8Array, at: number, six: boolean, isQuote = false): Parsed | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const left = frame.length - at;
  if (left < (six ? 40 : 20)) return undefined;
  let protocol: number;
  let l4: number;
  let end: number;
  let fragment: string | undefined;
  let first = true;
  if (six) {
    if (frame[at]! >> 4 !== 6) return undefined;
    end = at + 40 + view.getUint16(at + 4);
    protocol = frame[at + 6]!;
    l4 = at + 40;
    for (let i = 0; i < 8 && [0, 43, 44, 60].includes(protocol); i++) {
      if (l4 + 8 > Math.min(end, frame.length)) return undefined;
      const next = frame[l4]!;
      if (protocol === 44) {
        const place = view.getUint16(l4 + 2);
        if ((place & 0xfff9) !== 0) fragment = `${view.getUint32(l4 + 4)}`;
        first = (place & 0xfff8) === 0;
        l4 += 8;
      } else l4 += (frame[l4 + 1]! + 1) * 8;
      protocol = next;
      if (!first) break;
    }
  } else {
    if (frame[at]! >> 4 !== 4) return undefined;
    const place = view.getUint16(at + 6);
    end = at + view.getUint16(at + 2);
    protocol = frame[at + 9]!;
    l4 = at + (frame[at]! & 15) * 4;
    if ((place & 0x3fff) !== 0) fragment = `${view.getUint16(at + 4)},${protocol}`;
    first = (place & 0x1fff) === 0;
  }
  if (end > frame.length && !isQuote) return undefined;
  const bytes = Math.min(end, frame.length) - l4;
  const [from, to, length] = six ? [at + 8, at + 24, 16] : [at + 12, at + 16, 4];
  const out: Parsed = {
    family: six ? 10 : 2,
    protocol,
    src: number(frame.slice(from, from + length)),
    dst: number(frame.slice(to, to + length)),
    sport: 0,
    dport: 0,
    kind: "plain",
    first,
    l4,
    end,
    type: -1,
  };
  if (fragment !== undefined) out.fragment = `${out.src},${out.dst},${fragment}`;
  if (!first) return { ...out, kind: "later" };
  if (bytes < 4) return out;
  if (PORTS.includes(protocol)) return { ...out, sport: view.getUint16(l4), dport: view.getUint16(l4 + 2) };
  if (protocol !== (six ? 58 : 1) || bytes < 8) return out;
  const type = frame[l4]!;
  out.type = type;
  if ((six ? [128, 129] : [0, 8]).includes(type))
    return { ...out, kind: "echo", dport: view.getUint16(l4 + 4) };
  if (six && type >= 133 && type <= 137) return { ...out, kind: "nd" };
  if ((six ? [1, 2, 3, 4] : [3, 11, 12]).includes(type) && !isQuote)
    return { ...out, kind: "error", quoted: parse(frame.slice(0, end), l4 + 8, six, true) };
  return out;
}

/** A frame from the wire without priority tags (VLAN 0), which are no network of their own. */
export function untagged(frame: Uint8Array): Uint8Array {
  const type = frame.length < 18 ? 0 : (frame[12]! << 8) | frame[13]!;
  const isTag = (type === 0x8100 || type === 0x88a8) && (frame[14]! & 15) === 0 && frame[15] === 0;
  return isTag ? untagged(Uint8Array.of(...frame.slice(0, 12), ...frame.slice(16))) : frame;
}

export const reverse = (p: Parsed): Packet => ({
  ...p,
  src: p.dst,
  dst: p.src,
  sport: p.kind === "echo" ? 0 : p.dport,
  dport: p.kind === "echo" ? p.dport : p.sport,
});

export interface Group {
  family: number;
  protocol: number;
  address: bigint;
  port: number;
  client: number;
}

/** First fragments that may still wait for a claim: of some rounds. */
const RECENT = 100;

export class Judge {
  readonly model: Model = new Model(1e9, 1e9);
  groups: Group[] = [];
  owned: Map<string, number> = new Map();
  xids: Map<number, number> = new Map();
  /** clients by fragment: all whose its first ones ever were, or who were in their group */
  readonly fragments: Map<string, Set<number>> = new Map();
  private readonly firsts: Parsed[] = [];
  private readonly aliases: readonly bigint[];

  constructor(aliases: readonly bigint[]) {
    this.aliases = aliases;
  }

  load(entries: Iterable<{ match: Match; client: number }>): void {
    this.model.matches = [];
    for (const { match, client } of entries)
      this.model.matches.push({
        family: match.family,
        protocol: match.protocol,
        dst: numberOf(match.dst, match.family),
        dstPrefix: match.dstPrefix,
        dport: match.dport,
        src: numberOf(match.src, match.family),
        srcPrefix: match.srcPrefix,
        sport: match.sport,
        client,
      });
  }

  /** Remembers first fragments that go in, whoever they are from, and whose they are; some wait, and are somebody's later. */
  see(frames: readonly Uint8Array[]): void {
    for (const frame of frames) {
      const p = this.packet(frame);
      if (p?.fragment !== undefined && p.first) this.firsts.push(p);
    }
    this.firsts.splice(0, this.firsts.length - RECENT);
    for (const p of this.firsts) this.decide(p);
  }

  private decide(p: Parsed): void {
    for (const key of [p, this.beforeAlias(p)]) {
      const owner = this.model.find(key);
      const name = `${key.src},${key.dst},${p.fragment!.split(",").slice(2).join()}`;
      const owners = this.fragments.getOrInsertComputed(name, () => new Set());
      owners.add(owner);
      for (const client of this.members(key)) owners.add(client);
    }
  }

  /** Who is in the group that a packet is to. */
  private members(p: Packet): number[] {
    const isIts = (g: Group) =>
      g.family === p.family && g.protocol === p.protocol && g.address === p.dst && g.port === p.dport;
    return this.groups.filter(isIts).map(({ client }) => client);
  }

  packet(frame: Uint8Array): Parsed | undefined {
    const type = frame.length < 14 ? 0 : (frame[12]! << 8) | frame[13]!;
    return type === 0x0800 || type === 0x86dd ? parse(frame, 14, type === 0x86dd) : undefined;
  }

  /** A packet whose source is an alias as it was before; or whose destination is. */
  private beforeAlias<T extends Packet>(p: T): T {
    if (this.aliases.includes(p.src)) return { ...p, src: p.dst };
    return this.aliases.includes(p.dst) ? { ...p, dst: p.src } : p;
  }

  /** Why `client` may not have got this frame; undefined if it may. `mac`: its own, as hex. */
  blame(client: number, mac: string, frame: Uint8Array): string | undefined {
    const type = (frame[12]! << 8) | frame[13]!;
    const hex = Buffer.from(frame).toString("hex");
    if (type === 0x0806) {
      const isAnswer = hex.slice(40, 44) === "0002" && hex.slice(0, 12) === mac && hex.slice(64, 76) === mac;
      const about = this.owned.get(`2,${number(frame.slice(38, 42))}`) === client;
      return isAnswer || about ? undefined : "ARP that is neither an answer nor about its address";
    }
    const p = this.packet(frame);
    if (!p) return "no packet";
    const own = (address: bigint) => this.owned.get(`${p.family},${address}`) === client;
    if (p.kind === "nd") {
      const target = number(frame.slice(p.l4 + 8, p.l4 + 24));
      const isAnswer = p.type === 136 && [mac, "333300000001"].includes(hex.slice(0, 12));
      if (isAnswer || own(target) || own(p.dst)) return undefined;
    }
    if (p.kind === "later") {
      const id = p.fragment!.split(",").slice(2).join();
      const known = [p, this.beforeAlias(p)].some((one) =>
        this.fragments.get(`${one.src},${one.dst},${id}`)?.has(client),
      );
      return known ? undefined : "a fragment whose first one was never its";
    }
    if (this.members(p).includes(client)) return undefined;
    const answered =
      p.quoted &&
      [p.quoted, this.beforeAlias(p.quoted)].some(
        (q) => this.model.find(reverse({ ...p.quoted!, ...q })) === client,
      );
    if (p.kind === "error") {
      if (answered) return undefined;
      // "too long", made of its own frame and from the alias: it sent that, whatever was in it
      return this.aliases.includes(p.src) && hex.slice(0, 12) === mac
        ? undefined
        : "an error about another's packet";
    }
    if (this.model.find(this.beforeAlias(p)) === client) return undefined;
    if (p.protocol === 17 && p.sport === 67 && p.dport === 68 && frame.length >= p.l4 + 16) {
      const xid = new DataView(frame.buffer, frame.byteOffset).getInt32(p.l4 + 12, true);
      if (this.xids.get(xid) === client) return undefined;
    }
    return `packet of client ${this.model.find(this.beforeAlias(p))}`;
  }
}
