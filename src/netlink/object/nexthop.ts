// Nexthop objects and groups: struct nhmsg and NHA_* (linux/nexthop.h).
//   nhmsg: u8 family | u8 scope | u8 protocol | u8 | u32 flags (RTNH_F_*)
//   NHA_GROUP: structs nexthop_grp of 8 bytes: u32 id | u8 weight - 1 | u8 weight_high | u16
import { type Attributes, NHA, NHA_RES_GROUP } from "../attribute.ts";
import { AF_INET, AF_UNSPEC, RTM_NEWNEXTHOP } from "../constants.ts";
import {
  address,
  as,
  type Codec,
  flag,
  link,
  named,
  nested,
  parsed,
  raw,
  said,
  Schema,
  u16,
  u32,
  u64,
  type Unnamed,
} from "./codec.ts";
import { Bits, type Family, familyName, familyNumber, type HexBit, type Kind } from "./kind.ts";
import { type Protocol, protocolNumber } from "./numbers.ts";

const FLAGS = ["dead", "pervasive", "onlink", "offload", "linkdown", "unresolved", "trap"] as const;
export type NexthopFlag = (typeof FLAGS)[number];
const bits = new Bits<NexthopFlag>(FLAGS);
const GROUP_TYPES = ["multipath", "resilient"] as const;

export interface GroupMember {
  id: number;
  /** 1 to 65536 (256 before Linux 6.12) */
  weight: number;
}

/** NHA_RES_GROUP_*; times in 1/100 s. */
export interface ResilientGroup extends Unnamed {
  buckets?: number;
  idleTimer?: number;
  unbalancedTimer?: number;
  /** how long it has been out of balance */
  unbalancedTime?: number;
}

interface SpecHead extends Unnamed {
  /** chosen by the kernel if missing */
  id?: number;
  protocol?: Protocol;
}
type No<Keys extends string> = { [key in Keys]?: undefined };

/** A nexthop to make: one hop, a way to nowhere, or a group of others. */
export type NexthopSpec = SpecHead &
  (
    | ({
        link: number | string;
        via?: string;
        family?: Family;
        onlink?: boolean;
        encapType?: number;
        encap?: Uint8Array;
      } & No<"group" | "blackhole" | "resilient">)
    | ({ blackhole: true; family?: Family } & No<"group" | "link" | "via" | "resilient" | "onlink">)
    | ({
        group: readonly (Pick<GroupMember, "id"> & Partial<GroupMember>)[];
        /** makes the group resilient */
        resilient?: ResilientGroup;
      } & No<"link" | "via" | "blackhole" | "family" | "onlink">)
  );

interface ToldHead extends Unnamed {
  id: number;
  family: Family | "unspec";
  scope: number;
  protocol: number;
  flags: readonly (NexthopFlag | HexBit)[];
  /** in the hardware, or not */
  hwStatsEnable?: number;
  fdb?: true;
  master?: number;
}
/** A nexthop object, as the kernel tells of it. */
export type Nexthop = ToldHead &
  (
    | ({ link?: number; via?: string; encapType?: number; encap?: Uint8Array } & No<
        "group" | "blackhole" | "resilient"
      >)
    | ({ blackhole: true; link?: number } & No<"group" | "via" | "resilient">)
    | ({
        group: readonly GroupMember[];
        groupType?: (typeof GROUP_TYPES)[number] | number;
        resilient?: ResilientGroup;
      } & No<"link" | "via" | "blackhole">)
  );

const group: Codec<readonly GroupMember[]> = {
  read(words, bytes, off, len) {
    if (len % 8 !== 0) return undefined;
    const members: GroupMember[] = [];
    for (let at = off; at < off + len; at += 8)
      members.push({ id: words[at >> 2]! >>> 0, weight: (bytes[at + 4]! | (bytes[at + 5]! << 8)) + 1 });
    return members;
  },
  write(m, type, members) {
    const out = new DataView(new ArrayBuffer(members.length * 8));
    members.forEach(({ id, weight = 1 }, i) => {
      if (!(weight >= 1 && weight <= 65536)) throw new RangeError(`weight ${weight}: 1 to 65536`);
      out.setUint32(i * 8, id, true);
      out.setUint16(i * 8 + 4, weight - 1, true);
    });
    m.raw(type, new Uint8Array(out.buffer));
  },
};

export const nexthopSchema: Schema = new Schema(
  NHA as Attributes,
  {
    ID: u32,
    GROUP: group,
    GROUP_TYPE: named(u16, GROUP_TYPES),
    BLACKHOLE: flag,
    OIF: as("link", link),
    GATEWAY: as("via", address),
    ENCAP_TYPE: u16,
    ENCAP: raw,
    MASTER: u32,
    FDB: flag,
    RES_GROUP: as(
      "resilient",
      nested(
        new Schema(NHA_RES_GROUP as Attributes, {
          BUCKETS: u16,
          IDLE_TIMER: u32,
          UNBALANCED_TIMER: u32,
          UNBALANCED_TIME: said("unbalancedTime", u64),
        }),
      ),
    ),
    OP_FLAGS: u32,
    HW_STATS_ENABLE: u32,
    HW_STATS_USED: said("hwStatsUsed", u32),
  },
  ["family", "scope", "protocol", "flags", "onlink"],
);

export const nexthops: Kind<Nexthop> = {
  name: "nexthop",
  type: RTM_NEWNEXTHOP,
  headerBytes: 8,
  schema: nexthopSchema,
  decode(words, bytes, off, len) {
    if (len < 24) return undefined;
    const into: Record<string, unknown> = {
      family: familyName(bytes[off + 16]!),
      scope: bytes[off + 17]!,
      protocol: bytes[off + 18]!,
      flags: bits.read(words[(off >> 2) + 5]!),
    };
    return nexthopSchema.decode(words, bytes, off + 24, off + len, into)
      ? (into as unknown as Nexthop)
      : undefined;
  },
  encode(m, type, messageFlags, object, to) {
    const spec = object as Partial<ToldHead> & {
      via?: string;
      group?: unknown;
      groupType?: unknown;
      resilient?: unknown;
      onlink?: boolean;
    };
    const family =
      spec.family !== undefined
        ? familyNumber(spec.family)
        : spec.group || Object.keys(spec).every((key) => key === "id")
          ? AF_UNSPEC
          : spec.via === undefined
            ? AF_INET
            : parsed(spec.via).family;
    const off = m.begin(type, messageFlags, 8);
    const flags = bits.write(spec.flags) | (spec.onlink ? 4 : 0);
    m.bytes[off] = family;
    if (!to.request) m.bytes[off + 1] = spec.scope ?? 0;
    if (type === RTM_NEWNEXTHOP) m.bytes[off + 2] = protocolNumber(spec.protocol ?? 4);
    m.words[(off >> 2) + 1] = to.request ? flags & 4 : flags;
    nexthopSchema.encode(m, spec, to);
    if (to.request && spec.resilient && spec.groupType === undefined) m.u16(NHA.GROUP_TYPE, 1);
  },
};
