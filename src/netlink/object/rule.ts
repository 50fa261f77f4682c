// Policy rules as objects: struct fib_rule_hdr and FRA_* (linux/fib_rules.h).
//   fib_rule_hdr: u8 family | u8 dst_len | u8 src_len | u8 tos | u8 table | u8 | u8 | u8 action | u32 flags
import { type Attributes, FRA } from "../attribute.ts";
import { RTM_DELRULE, RTM_NEWRULE } from "../constants.ts";
import {
  all,
  as,
  bool,
  type Codec,
  numberOf,
  raw,
  Schema,
  s32,
  text,
  u8,
  u32,
  type Unnamed,
} from "./codec.ts";
import {
  Bits,
  type Family,
  familyName,
  familyNumber,
  type HexBit,
  type Kind,
  parsePrefix,
  prefixAddress,
  withLength,
} from "./kind.ts";
import { type Protocol, protocolNumber, type Table, tableNumber } from "./numbers.ts";

const ACTIONS = ["unspec", "table", "goto", "nop", "", "", "blackhole", "unreachable", "prohibit"] as const;
export type RuleAction = Exclude<(typeof ACTIONS)[number], "">;
const FLAGS = ["permanent", "invert", "unresolved", "iifDetached", "oifDetached"] as const;
export type RuleFlag = (typeof FLAGS)[number];
const bits = new Bits<RuleFlag>(FLAGS);

export interface Range {
  start: number;
  end: number;
}

/** Which packets; all of it must be so. */
export interface RuleSelectors {
  src?: string;
  dst?: string;
  tos?: number;
  iif?: string;
  oif?: string;
  fwmark?: number;
  fwmask?: number;
  uidRange?: Range;
  /** IPPROTO_* */
  ipProto?: number;
  sportRange?: Range;
  dportRange?: Range;
  dscp?: number;
  /** all packets but these */
  invert?: boolean;
}

type No<Keys extends string> = { [key in Keys]?: undefined };
interface SpecHead extends RuleSelectors, Unnamed {
  family: Family;
  /** lower is first; the kernel chooses if missing */
  priority?: number;
  protocol?: Protocol;
  /** matches of this prefix length or shorter do not count */
  suppressPrefixlen?: number;
  suppressIfgroup?: number;
}

/** A rule to make: look in a table, in the interface's VRF's, go on elsewhere, or refuse. */
export type RuleSpec = SpecHead &
  (
    | ({ table: Table; action?: "table" } & No<"goto" | "l3mdev">)
    | ({ l3mdev: true; action?: "table" } & No<"goto" | "table">)
    | ({ goto: number; action?: "goto" } & No<"table" | "l3mdev">)
    | ({ action: "blackhole" | "unreachable" | "prohibit" | "nop" } & No<"table" | "goto" | "l3mdev">)
  );

/** Which rule: whatever is given must be so, and the first such one is meant. */
export type RuleKey = Omit<SpecHead, "invert"> & {
  table?: Table;
  goto?: number;
  l3mdev?: boolean;
  action?: RuleAction;
  invert?: boolean;
};

/** A rule, as the kernel tells of it. */
export interface Rule extends Omit<RuleSelectors, "invert">, Unnamed {
  family: Family;
  action: RuleAction | number;
  flags: readonly (RuleFlag | HexBit)[];
  priority?: number;
  table: number;
  goto?: number;
  l3mdev?: boolean;
  protocol?: number;
  suppressPrefixlen?: number;
  suppressIfgroup?: number;
}

/** struct fib_rule_port_range (u16) and fib_rule_uid_range (u32). */
const range = (width: 2 | 4): Codec<Range> => ({
  read(words, _bytes, off, len) {
    if (len !== width * 2) return undefined;
    const w = words[off >> 2]!;
    if (width === 2) return { start: w & 0xffff, end: w >>> 16 };
    return { start: w >>> 0, end: words[(off >> 2) + 1]! >>> 0 };
  },
  write: (m, type, { start, end }) =>
    m.raw(
      type,
      new Uint8Array((width === 2 ? Uint16Array.of(start, end) : Uint32Array.of(start, end)).buffer),
    ),
});

export const ruleSchema: Schema = new Schema(
  FRA as Attributes,
  {
    DST: prefixAddress,
    SRC: prefixAddress,
    IIFNAME: as("iif", text),
    OIFNAME: as("oif", text),
    ...all(u32, "GOTO PRIORITY FWMARK FLOW FWMASK"),
    TUN_ID: raw,
    SUPPRESS_IFGROUP: s32,
    SUPPRESS_PREFIXLEN: s32,
    TABLE: as("table", { read: u32.read, write: (m, type, value: Table) => m.u32(type, tableNumber(value)) }),
    L3MDEV: bool,
    UID_RANGE: range(4),
    PROTOCOL: as("protocol", {
      read: u8.read,
      write: (m, type, value: Protocol) => m.u8(type, protocolNumber(value)),
    }),
    IP_PROTO: u8,
    SPORT_RANGE: range(2),
    DPORT_RANGE: range(2),
    DSCP: u8,
    ...all(raw, "FLOWLABEL FLOWLABEL_MASK"),
  },
  ["family", "action", "flags", "tos", "invert"],
);

export const rules: Kind<Rule> = {
  name: "rule",
  type: RTM_NEWRULE,
  headerBytes: 12,
  schema: ruleSchema,
  decode(words, bytes, off, len) {
    if (len < 28) return undefined;
    const family = bytes[off + 16]!;
    const into: Record<string, unknown> = {
      family: familyName(family),
      action: ACTIONS[bytes[off + 23]!] || bytes[off + 23]!,
      flags: bits.read(words[(off >> 2) + 6]!),
    };
    if (bytes[off + 19]) into["tos"] = bytes[off + 19]!;
    if (!ruleSchema.decode(words, bytes, off + 28, off + len, into)) return undefined;
    into["table"] ??= bytes[off + 20]!;
    withLength(into, "dst", family, bytes[off + 17]!, bytes[off + 17]! > 0);
    withLength(into, "src", family, bytes[off + 18]!, bytes[off + 18]! > 0);
    return into as unknown as Rule;
  },
  encode(m, type, messageFlags, object, to) {
    const spec = object as Partial<Rule> & { invert?: boolean };
    const { src, dst } = spec;
    const action =
      typeof spec.action === "number"
        ? spec.action
        : numberOf(
            spec.action ?? (type === RTM_DELRULE ? "unspec" : spec.goto === undefined ? "table" : "goto"),
            ACTIONS,
          );
    const table = spec.table === undefined ? 0 : tableNumber(spec.table as Table);
    const flags = bits.write(spec.flags) | (spec.invert ? 2 : 0);
    const off = m.begin(type, messageFlags, 12);
    m.bytes[off] = familyNumber(spec.family);
    m.bytes[off + 1] = dst === undefined ? 0 : parsePrefix(dst).length;
    m.bytes[off + 2] = src === undefined ? 0 : parsePrefix(src).length;
    m.bytes[off + 3] = spec.tos ?? 0;
    m.bytes[off + 4] = table < 256 ? table : to.request ? 0 : 252;
    m.bytes[off + 7] = action;
    m.words[(off >> 2) + 2] = to.request ? flags & 2 : flags;
    ruleSchema.encode(m, spec, to);
  },
};
