// Neighbours as objects: struct ndmsg and NDA_* (linux/neighbour.h).
//   ndmsg: u8 family | u8 | u16 | i32 ifindex | u16 state (NUD_*) | u8 flags (NTF_*) | u8 type (RTN_*)
// The usual one of a large table is decoded without the tables (`usual`).
import { type Attributes, NDA } from "../attribute.ts";
import { AF_INET, RTM_DELNEIGH, RTM_NEWNEIGH } from "../constants.ts";
import {
  address,
  as,
  be16,
  lladdr,
  numberOf,
  parsed,
  raw,
  record,
  said,
  Schema,
  s32,
  u8,
  u16,
  u32,
  type Unnamed,
} from "./codec.ts";
import { Bits, type Family, familyName, familyNumber, type HexBit, ipv4, type Kind } from "./kind.ts";
import { type Protocol, protocolNumber } from "./numbers.ts";

const STATES = [
  "incomplete",
  "reachable",
  "stale",
  "delay",
  "probe",
  "failed",
  "noarp",
  "permanent",
] as const;
/** NUD_*; "none" is no bit. */
export type NeighState = "none" | (typeof STATES)[number];
const STATE_OF = new Map<number, NeighState>([
  [0, "none"],
  ...STATES.map((name, i) => [1 << i, name] as const),
]);
const stateNumber = (state: NeighState | number): number =>
  typeof state === "number" ? state : state === "none" ? 0 : 1 << numberOf(state, STATES);

const FLAGS = ["use", "self", "master", "proxy", "externLearn", "offloaded", "sticky", "router"] as const;
const EXT_FLAGS = ["managed", "locked", "externValid"] as const;
/** NTF_* */
export type NeighFlag = (typeof FLAGS)[number];
/** NTF_EXT_*: "managed" keeps the entry resolved for ever. */
export type NeighExtFlag = (typeof EXT_FLAGS)[number];
const bits = new Bits<NeighFlag>(FLAGS);
const extBits = new Bits<NeighExtFlag>(EXT_FLAGS);

/** struct nda_cacheinfo: times since then in 1/100 s. */
export interface NeighTimes {
  confirmed: number;
  used: number;
  updated: number;
  references: number;
}

interface SpecHead extends Unnamed {
  /** the link: index or name */
  link: number | string;
  dst: string;
  protocol?: Protocol;
}
type No<Keys extends string> = { [key in Keys]?: undefined };

/** A neighbour to make: known by its address, to be resolved by the kernel, or one that we answer for. */
export type NeighSpec = SpecHead &
  (
    | ({
        /** "02:00:00:00:00:01" */
        lladdr: string;
        /** permanent if missing */
        state?: NeighState;
        flags?: readonly Exclude<NeighFlag, "proxy" | "use">[];
        extFlags?: readonly NeighExtFlag[];
      } & No<"proxy" | "use" | "managed">)
    /** ask for it once, as if there were a packet; or keep it resolved for ever */
    | ({ use: true; lladdr?: string } & No<"proxy" | "managed" | "state">)
    | ({ managed: true; lladdr?: string; flags?: readonly NeighFlag[] } & No<"proxy" | "use" | "state">)
    /** answer for it on this link */
    | ({ proxy: true; flags?: readonly "router"[] } & No<"use" | "managed" | "state" | "lladdr">)
  );

export interface NeighKey {
  link: number | string;
  dst: string;
  proxy?: boolean;
}

/** A neighbour, as the kernel tells of it. */
export interface Neigh extends Unnamed {
  family: Family | "bridge";
  /** index of the link */
  link: number;
  state: NeighState | number;
  flags: readonly (NeighFlag | HexBit)[];
  /** RTN_*: 1 unicast, 3 broadcast, 5 multicast */
  type: number;
  /** missing in a bridge's forwarding entries */
  dst: string;
  lladdr?: string;
  times?: NeighTimes;
  probes?: number;
  extFlags?: readonly (NeighExtFlag | HexBit)[];
  protocol?: number;
  vlan?: number;
  port?: number;
  vni?: number;
  /** of the bridge that a forwarding entry is in */
  master?: number;
  nhId?: number;
}

export const neighSchema: Schema = new Schema(
  NDA as Attributes,
  {
    DST: address,
    LLADDR: lladdr,
    CACHEINFO: said("times", record(4, "confirmed used updated references")),
    PROBES: said("probes", u32),
    VLAN: u16,
    PORT: be16,
    VNI: u32,
    IFINDEX: as("remoteLink", u32),
    MASTER: u32,
    LINK_NETNSID: s32,
    SRC_VNI: u32,
    PROTOCOL: as("protocol", {
      read: u8.read,
      write: (m, type, value: Protocol) => m.u8(type, protocolNumber(value)),
    }),
    NH_ID: u32,
    FDB_EXT_ATTRS: raw,
    FLAGS_EXT: as("extFlags", extBits.u32),
  },
  ["family", "link", "state", "flags", "type", "use", "managed", "proxy"],
);

const RTN_UNSPEC = 0;

export const neighs: Kind<Neigh> = {
  name: "neigh",
  type: RTM_NEWNEIGH,
  headerBytes: 12,
  schema: neighSchema,
  decode(words, bytes, off, len) {
    if (len < 28) return undefined;
    const found = usual(words, bytes, off, len);
    if (found) return found;
    const third = words[(off >> 2) + 6]!;
    const into: Record<string, unknown> = {
      family: familyName(bytes[off + 16]!),
      link: words[(off >> 2) + 5]!,
      state: STATE_OF.get(third & 0xffff) ?? third & 0xffff,
      flags: bits.read((third >>> 16) & 0xff),
      type: third >>> 24,
    };
    return neighSchema.decode(words, bytes, off + 28, off + len, into)
      ? (into as unknown as Neigh)
      : undefined;
  },
  encode(m, type, messageFlags, object, to) {
    const spec = object as Partial<Neigh> & { use?: true; managed?: true; proxy?: boolean };
    const family = spec.family !== undefined ? familyNumber(spec.family) : parsed(spec.dst!).family;
    const off = m.begin(type, messageFlags, 12);
    const asked = spec.use || spec.managed || spec.proxy;
    const fallback = type === RTM_DELNEIGH || asked ? "none" : "permanent";
    const flags = bits.write(spec.flags) | (spec.use ? 1 : 0) | (spec.proxy ? 8 : 0);
    m.bytes[off] = family;
    m.words[(off >> 2) + 1] = to.ifindex(spec.link!);
    m.words[(off >> 2) + 2] =
      stateNumber(spec.state ?? fallback) |
      (flags << 16) |
      ((to.request ? RTN_UNSPEC : (spec.type ?? 0)) << 24);
    neighSchema.encode(m, spec, to);
    if (spec.managed && to.request) m.u32(NDA.FLAGS_EXT, 1);
  },
};

const HEX = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));
const HEX_ = HEX.map((hex) => `${hex}:`);

/** An IPv4 entry of DST, perhaps LLADDR of six bytes, PROBES and CACHEINFO; undefined for any other. */
function usual(words: Int32Array, bytes: Uint8Array, off: number, len: number): Neigh | undefined {
  let w = off >> 2;
  if ((words[w + 4]! & 0xff) !== AF_INET || words[w + 7] !== 0x00010008 /* NDA_DST */) return undefined;
  const known = words[w + 9] === 0x0002000a; // NDA_LLADDR of 6 bytes
  if (len !== (known ? 76 : 64)) return undefined;
  const link = words[w + 5]!;
  const third = words[w + 6]!;
  const state = STATE_OF.get(third & 0xffff) ?? third & 0xffff;
  const flags = bits.read((third >>> 16) & 0xff);
  const type = third >>> 24;
  const dst = ipv4(words[w + 8]!);
  w += known ? 12 : 9;
  if (words[w] !== 0x00040008 /* NDA_PROBES */ || words[w + 2] !== 0x00030014 /* NDA_CACHEINFO */)
    return undefined;
  const probes = words[w + 1]! >>> 0;
  const times = {
    confirmed: words[w + 3]! >>> 0,
    used: words[w + 4]! >>> 0,
    updated: words[w + 5]! >>> 0,
    references: words[w + 6]! >>> 0,
  };
  if (!known) return { family: "inet", link, state, flags, type, dst, probes, times };
  const at = off + 40;
  const text =
    HEX_[bytes[at]!]! +
    HEX_[bytes[at + 1]!]! +
    (HEX_[bytes[at + 2]!]! + HEX_[bytes[at + 3]!]!) +
    (HEX_[bytes[at + 4]!]! + HEX[bytes[at + 5]!]!);
  return { family: "inet", link, state, flags, type, dst, lladdr: text, probes, times };
}
