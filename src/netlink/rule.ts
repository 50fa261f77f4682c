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
