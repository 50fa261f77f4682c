// Policy rules. The mirror follows the three that every namespace begins with (local, main, default); where there are
// others, the kernel may look into tables that are not mirrored, or into none. That is counted and told, in words.
import type { RuleRow } from "../netbase/rows.ts";
import { formatAddress } from "../wire/address.ts";
import * as nl from "./constants.ts";

/** The rules of a namespace: priority | table of each, family by family. */
const DEFAULTS = new Set([
  `${nl.AF_INET} 0 ${nl.RT_TABLE_LOCAL}`,
  `${nl.AF_INET} 32766 ${nl.RT_TABLE_MAIN}`,
  `${nl.AF_INET} 32767 ${nl.RT_TABLE_DEFAULT}`,
  `${nl.AF_INET6} 0 ${nl.RT_TABLE_LOCAL}`,
  `${nl.AF_INET6} 32766 ${nl.RT_TABLE_MAIN}`,
]);

export class Rules {
  /** Rules in the kernel's order of arrival, by what they say; a rule may be there more than once. */
  private readonly all = new Map<string, { text: string; plain: boolean; count: number; sweep: number }>();
  private sweep = 1;
  /** Whether an IPv4 rule beyond the defaults was ever seen: the kernel then looks up local and main one by one. */
  custom4 = false;

  add(row: RuleRow): void {
    const key = keyOf(row);
    const known = this.all.get(key);
    const plain = isDefault(row);
    if (!plain && row.family === nl.AF_INET) this.custom4 = true;
    // Within one dump a rule may come twice because it is there twice; in events, because it was added twice.
    if (known && known.sweep === this.sweep) known.count++;
    else this.all.set(key, { text: textOf(row), plain, count: 1, sweep: this.sweep });
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
    const rules = [...this.all.values()].filter((rule) => !rule.plain).map((rule) => rule.text);
    const missing = [...DEFAULTS].filter((key) => ![...this.all.keys()].some((k) => k.startsWith(`${key} `)));
    return [
      ...rules,
      ...missing.map((key) => `no rule for table ${key.split(" ")[2]} (family ${key.split(" ")[0]})`),
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
  DEFAULTS.has(`${row.family} ${row.priority} ${row.table}`);

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
