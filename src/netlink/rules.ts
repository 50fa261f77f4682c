// Policy rules. The mirror follows the three that every namespace begins with (local, main, default); where there are
// others, the kernel may look into tables that are not mirrored, or into none. That is counted and told, in words.
import type { RuleRow } from "../netbase/rows.ts";
import { formatAddress } from "../wire/address.ts";
import * as nl from "./constants.ts";

/** The rules that every namespace begins with: family, priority, table. */
const DEFAULTS: readonly (readonly [number, number, number])[] = [
  [nl.AF_INET, 0, nl.RT_TABLE_LOCAL],
  [nl.AF_INET, 32766, nl.RT_TABLE_MAIN],
  [nl.AF_INET, 32767, nl.RT_TABLE_DEFAULT],
  [nl.AF_INET6, 0, nl.RT_TABLE_LOCAL],
  [nl.AF_INET6, 32766, nl.RT_TABLE_MAIN],
];
const TABLES: Record<number, string> = { 253: "default", 254: "main", 255: "local" };

interface Rule {
  readonly family: number;
  readonly text: string;
  /** the default rule of this table, 0 if it is none */
  readonly standard: number;
  /** how often it is there */
  count: number;
  sweep: number;
}

export class Rules {
  /** By all that they say. */
  private readonly all = new Map<string, Rule>();
  private sweep = 1;
  /** Whether an IPv4 rule beyond the defaults was ever seen: the kernel then looks up local and main one by one. */
  custom4 = false;

  add(row: RuleRow): void {
    const key = keyOf(row);
    const known = this.all.get(key);
    // In one dump a rule comes twice because it is there twice; in events, because it was added twice.
    if (known?.sweep === this.sweep) {
      known.count++;
      return;
    }
    const { family } = row;
    const standard = isDefault(row) ? row.table : 0;
    if (standard === 0 && family === nl.AF_INET) this.custom4 = true;
    this.all.set(key, { family, text: textOf(row), standard, count: 1, sweep: this.sweep });
  }

  remove(row: RuleRow): void {
    const key = keyOf(row);
    const known = this.all.get(key);
    if (known && --known.count === 0) this.all.delete(key);
  }

  beginSweep(): void {
    this.sweep++;
  }

  /** Removes what was not added since. Returns how many. */
  endSweep(): number {
    const stale = [...this.all].filter(([, rule]) => rule.sweep < this.sweep);
    for (const [key] of stale) this.all.delete(key);
    return stale.length;
  }

  /** The rules that the mirror does not follow, as `ip rule` would say them, and default rules that are missing. */
  get beyond(): string[] {
    const all = [...this.all.values()];
    const others = all.filter(({ standard }) => standard === 0).map(({ text }) => text);
    // A kernel without policy routing has no rules to tell of.
    const missing = DEFAULTS.filter(
      ([family, , table]) =>
        all.some((rule) => rule.family === family) &&
        !all.some((rule) => rule.family === family && rule.standard === table),
    );
    return [
      ...others,
      ...missing.map(
        ([family, , table]) => `no rule for table ${TABLES[table]} (IPv${family === nl.AF_INET ? 4 : 6})`,
      ),
    ];
  }
}

const selects = (row: RuleRow): boolean =>
  row.dstLen + row.srcLen + row.tos + row.fwmark + row.fwmask + row.l3mdev + row.others > 0 ||
  row.iifname !== "" ||
  row.oifname !== "" ||
  row.suppressPrefixLen >= 0 ||
  (row.flags & nl.FIB_RULE_INVERT) !== 0;

const isDefault = (row: RuleRow): boolean =>
  row.action === nl.FR_ACT_TO_TBL &&
  !selects(row) &&
  DEFAULTS.some(
    ([family, priority, table]) => row.family === family && row.priority === priority && row.table === table,
  );

function keyOf(row: RuleRow): string {
  const { dst, src, ...plain } = row;
  return `${row.family} ${row.priority} ${row.table} ${JSON.stringify(plain)} ${dst.join()} ${src.join()}`;
}

function textOf(row: RuleRow): string {
  const prefix = (words: Int32Array, len: number): string => `${formatAddress(row.family, words)}/${len}`;
  const parts = [`${row.priority}:`];
  if ((row.flags & nl.FIB_RULE_INVERT) !== 0) parts.push("not");
  parts.push("from", row.srcLen ? prefix(row.src, row.srcLen) : "all");
  if (row.dstLen) parts.push("to", prefix(row.dst, row.dstLen));
  if (row.tos) parts.push(`tos 0x${row.tos.toString(16)}`);
  if (row.fwmark || row.fwmask)
    parts.push(`fwmark 0x${row.fwmark.toString(16)}/0x${row.fwmask.toString(16)}`);
  if (row.iifname) parts.push(`iif ${row.iifname}`);
  if (row.oifname) parts.push(`oif ${row.oifname}`);
  if (row.others) parts.push("(other selectors)");
  if (row.l3mdev) parts.push("lookup [l3mdev-table]");
  else if (row.action === nl.FR_ACT_TO_TBL) parts.push(`lookup ${row.table}`);
  else parts.push(`action ${row.action}`);
  if (row.suppressPrefixLen >= 0) parts.push(`suppress_prefixlength ${row.suppressPrefixLen}`);
  return parts.join(" ");
}
