// Policy rules: struct fib_rule_hdr and FRA_* (linux/fib_rules.h).
//   fib_rule_hdr: u8 family | u8 dst_len | u8 src_len | u8 tos | u8 table | u8 | u8 | u8 action | u32 flags
import type { RuleRow } from "../netbase/rows.ts";
import {
  address,
  FRA,
  type Reader,
  type Readers,
  readAttributes,
  readers,
  text,
  u8,
  u32,
} from "./attribute.ts";
import {
  AF_INET6,
  FIB_RULE_INVERT,
  FR_ACT_GOTO,
  FR_ACT_TO_TBL,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  RT_TABLE_MAIN,
  RT_TABLE_UNSPEC,
  RTM_DELRULE,
  RTM_GETRULE,
  RTM_NEWRULE,
} from "./constants.ts";
import type { Requests } from "./message.ts";
import { type Prefix, toPrefix } from "./prefix.ts";

/** A selector that the row has no field for: that it is there is enough to know that the rule is not for everything. */
const other: Reader<RuleRow> = {
  min: 0,
  read(row) {
    row.others++;
    return true;
  },
};

export const ruleReaders: Readers<RuleRow> = readers<RuleRow, keyof typeof FRA>(FRA, {
  DST: address("dst"),
  SRC: address("src"),
  IIFNAME: text("iifname"),
  OIFNAME: text("oifname"),
  GOTO: u32("goto"),
  PRIORITY: u32("priority"),
  FWMARK: u32("fwmark"),
  FWMASK: u32("fwmask"),
  TABLE: u32("table"),
  SUPPRESS_PREFIXLEN: {
    min: 4,
    read(row, words, _bytes, off) {
      row.suppressPrefixLen = words[off >> 2]!;
      return true;
    },
  },
  SUPPRESS_IFGROUP: {
    min: 4,
    read(row, words, _bytes, off) {
      if (words[off >> 2] !== -1) row.others++;
      return true;
    },
  },
  L3MDEV: u8("l3mdev"),
  PROTOCOL: u8("protocol"),
  TUN_ID: other,
  UID_RANGE: other,
  IP_PROTO: other,
  SPORT_RANGE: other,
  DPORT_RANGE: other,
  DSCP: other,
  FLOWLABEL: other,
});

/** Reads the RTM_NEWRULE or RTM_DELRULE of `len` bytes at byte `off` into `row`; false if a length in it is wrong. */
export function decodeRule(
  words: Int32Array,
  bytes: Uint8Array,
  off: number,
  len: number,
  row: RuleRow,
): boolean {
  if (len < 28) return false;
  row.family = bytes[off + 16]!;
  row.dstLen = bytes[off + 17]!;
  row.srcLen = bytes[off + 18]!;
  row.tos = bytes[off + 19]!;
  row.table = bytes[off + 20]!;
  row.action = bytes[off + 23]!;
  row.flags = words[(off >> 2) + 6]!;
  row.priority = row.fwmark = row.fwmask = row.goto = row.l3mdev = row.protocol = row.others = 0;
  row.suppressPrefixLen = -1;
  row.iifname = row.oifname = "";
  row.dst.fill(0);
  row.src.fill(0);
  return readAttributes(ruleReaders, row, words, bytes, off + 28, off + len);
}

export interface RuleSpec {
  /** AF_INET or AF_INET6 */
  family: number;
  /** lower is first */
  priority?: number;
  /** FR_ACT_*; if missing, FR_ACT_GOTO where `goto` is given, else to a table */
  action?: number;
  /** main if missing */
  table?: number;
  src?: Prefix;
  dst?: Prefix;
  tos?: number;
  iifname?: string;
  oifname?: string;
  fwmark?: number;
  fwmask?: number;
  goto?: number;
  l3mdev?: boolean;
  invert?: boolean;
  suppressPrefixLen?: number;
  /** IPPROTO_* */
  ipProto?: number;
}

function write(m: Requests, type: number, messageFlags: number, spec: RuleSpec): void {
  const src = spec.src === undefined ? undefined : toPrefix(spec.src);
  const dst = spec.dst === undefined ? undefined : toPrefix(spec.dst);
  const action = spec.action ?? (spec.goto ? FR_ACT_GOTO : FR_ACT_TO_TBL);
  const table = spec.table ?? (action !== FR_ACT_TO_TBL || spec.l3mdev ? RT_TABLE_UNSPEC : RT_TABLE_MAIN);
  const count = spec.family === AF_INET6 ? 4 : 1;
  const off = m.begin(type, messageFlags, 12);
  m.bytes[off] = spec.family;
  m.bytes[off + 1] = dst?.prefixLen ?? 0;
  m.bytes[off + 2] = src?.prefixLen ?? 0;
  m.bytes[off + 3] = spec.tos ?? 0;
  m.bytes[off + 4] = table < 256 ? table : RT_TABLE_UNSPEC;
  m.bytes[off + 7] = action;
  m.words[(off >> 2) + 2] = spec.invert ? FIB_RULE_INVERT : 0;
  if (table >= 256) m.u32(FRA.TABLE, table);
  if (dst) m.address(FRA.DST, dst.words, count);
  if (src) m.address(FRA.SRC, src.words, count);
  if (spec.priority !== undefined) m.u32(FRA.PRIORITY, spec.priority);
  if (spec.iifname !== undefined) m.text(FRA.IIFNAME, spec.iifname);
  if (spec.oifname !== undefined) m.text(FRA.OIFNAME, spec.oifname);
  if (spec.fwmark !== undefined) m.u32(FRA.FWMARK, spec.fwmark);
  if (spec.fwmask !== undefined) m.u32(FRA.FWMASK, spec.fwmask);
  if (spec.goto !== undefined) m.u32(FRA.GOTO, spec.goto);
  if (spec.l3mdev) m.u8(FRA.L3MDEV, 1);
  if (spec.suppressPrefixLen !== undefined) m.u32(FRA.SUPPRESS_PREFIXLEN, spec.suppressPrefixLen);
  if (spec.ipProto !== undefined) m.u8(FRA.IP_PROTO, spec.ipProto);
}

export const newRule = (m: Requests, spec: RuleSpec, flags = NLM_F_CREATE | NLM_F_EXCL): void =>
  write(m, RTM_NEWRULE, flags, spec);

export const delRule = (m: Requests, spec: RuleSpec): void => write(m, RTM_DELRULE, 0, spec);

/** `family` 0 for both. */
export function dumpRules(m: Requests, family = 0): void {
  m.bytes[m.begin(RTM_GETRULE, NLM_F_DUMP, 12)] = family;
}
