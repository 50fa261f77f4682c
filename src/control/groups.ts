// Groups whose members have filters: who is in which, and the plans that tell a net Worker which members a packet may be for
// (switch/filters/plan.ts). A plan is made anew when a member comes or goes or changes a filter; that of a large group not
// more often than so that it takes a part of this thread's time, and until then the net Workers have the one before: it may
// leave out who came a moment ago, but never gives anybody what a filter refuses.
import { type Field, fieldName, type Guard, guardOf, type Known } from "../filter/guard.ts";
import { RECEIVE } from "../switch/filters/layout.ts";
import { planWords } from "../switch/filters/planwords.ts";
import type { FilterWriter } from "../switch/filters/writer.ts";
import { groupMeta, type Match, portsWord } from "../switch/table/pattern.ts";
import { AF_INET, swap32 } from "../wire/address.ts";

/** Fields of one plan; a filter that is guarded by another one is always asked. */
const MOST_FIELDS = 8;
/** Longer programs are not looked into. */
const MOST_INSTRUCTIONS = 512;
/** A plan that took longer is not made again at once. */
const LONG_MS = 0.5;
const PATIENCE = 4;

interface Group {
  readonly match: Match;
  /** members' slots by their entries */
  readonly members: Map<number, number>;
  /** not before that is its plan made again: performance.now() */
  due: number;
}

const field = (off: number, size: 1 | 2 | 4, isAfterIp = false): Field => ({
  off,
  size,
  mask: size === 4 ? 0xffffffff : 2 ** (8 * size) - 1,
  isAfterIp,
});

/** What is known of a group's packets: as parts of programs that ask for it are done with. */
function knownOf({ family, protocol, dst, dport }: Match): Known[] {
  const four = family === AF_INET;
  const address = Array.from({ length: four ? 1 : 4 }, (_, i) => ({
    field: field((four ? 30 : 38) + i * 4, 4),
    value: swap32(dst[i]!) >>> 0,
  }));
  const type = { field: field(12, 2), value: four ? 0x0800 : 0x86dd };
  if (!four) return [type, ...address]; // extension headers may come before the port
  const port = dport < 0 ? [] : [{ field: field(16, 2, true), value: dport }];
  return [type, { field: field(23, 1), value: protocol }, ...address, ...port];
}

export class Groups {
  private readonly writer: FilterWriter;
  private readonly groups = new Map<string, Group>();
  private readonly groupOf = new Map<number, Group>();
  private readonly ofClient = new Map<number, Set<number>>();
  /** Guards by the filter's id and the group. */
  private readonly guards = new Map<string, Guard | null>();
  private readonly stale = new Set<Group>();

  constructor(writer: FilterWriter) {
    this.writer = writer;
  }

  /** A client has joined a group, by this entry. */
  join(slot: number, entry: number, match: Match): void {
    const key = `${match.family} ${match.protocol} ${match.dst} ${match.dport}`;
    const group = this.groups.getOrInsertComputed(key, () => ({
      match,
      members: new Map(),
      due: 0,
    }));
    group.members.set(entry, slot);
    this.groupOf.set(entry, group);
    this.ofClient.getOrInsertComputed(slot, () => new Set()).add(entry);
    this.changed(group);
  }

  /** That entry is gone, if it was a group's. */
  leave(slot: number, entry: number): void {
    const group = this.groupOf.get(entry);
    if (group === undefined) return;
    group.members.delete(entry);
    this.groupOf.delete(entry);
    this.ofClient.get(slot)?.delete(entry);
    this.changed(group);
  }

  /** Filters of a client have changed: that of an entry, or (0) that of all of its packets. */
  filtered(slot: number, entry: number): void {
    for (const one of entry === 0 ? (this.ofClient.get(slot) ?? []) : [entry]) {
      const group = this.groupOf.get(one);
      if (group !== undefined) this.changed(group);
    }
  }

  /** Makes the plans that are due. Returns whether others wait. */
  settle(): boolean {
    for (const group of this.stale) if (performance.now() >= group.due) this.make(group);
    return this.stale.size > 0;
  }

  private changed(group: Group): void {
    if (performance.now() >= group.due) this.make(group);
    else this.stale.add(group);
  }

  private make(group: Group): void {
    const start = performance.now();
    const { writer } = this;
    this.stale.delete(group);
    const always: number[] = [];
    const lists = new Map<string, number[]>();
    const fields = new Map<string, Field>();
    let filters = 0;
    for (const [entry, slot] of group.members) {
      const rows = [writer.find(slot, 0, RECEIVE), writer.find(slot, entry, RECEIVE)].filter(
        (row) => row !== 0,
      );
      filters += rows.length;
      const guard = this.best(rows, group);
      const name = guard && fieldName(guard.field);
      if (guard?.values.length === 0) continue;
      if (!guard || (!fields.has(name!) && fields.size === MOST_FIELDS)) {
        always.push(slot, entry);
        continue;
      }
      fields.set(name!, guard.field);
      for (const value of guard.values)
        lists.getOrInsertComputed(`${name} ${value}`, () => []).push(slot, entry);
    }
    const { dst, family, protocol, dport } = group.match;
    const key = [groupMeta(family, protocol), portsWord(0, Math.max(dport, 0)), ...dst];
    writer.plan(key, filters === 0 ? undefined : planWords(group.members.size, always, fields, lists));
    if (group.members.size === 0) this.groups.delete(`${family} ${protocol} ${dst} ${dport}`);
    const took = performance.now() - start;
    group.due = took < LONG_MS ? 0 : start + took * (1 + PATIENCE);
  }

  /** The guard of the filters in these rows that leaves least; undefined if none has one. */
  private best(rows: readonly number[], { match }: Group): Guard | undefined {
    const guards = rows.map((row) => this.guard(row, match)).filter((guard) => guard !== undefined);
    return guards.toSorted((a, b) => a.values.length - b.values.length)[0];
  }

  private guard(row: number, match: Match): Guard | undefined {
    const { writer, guards } = this;
    if (writer.lengthOf(row) > MOST_INSTRUCTIONS) return undefined;
    const key = `${writer.idOf(row)} ${match.family} ${match.protocol} ${match.dst} ${match.dport}`;
    const found = guards.get(key);
    if (found !== undefined) return found ?? undefined;
    if (guards.size > 100_000) guards.clear();
    const guard = guardOf(writer.program(row), knownOf(match));
    guards.set(key, guard ?? null);
    return guard;
  }
}
