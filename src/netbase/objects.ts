// Nexthop objects and groups (net/ipv4/nexthop.c) as the writer knows them, and what they stand for.
// Routes name them by id; a record (nexthop.ts) holds the legs that its object has at present.
import { copyLeg, copyLegs, sameLegs } from "./legs.ts";
import { Legs, type NexthopRow } from "./rows.ts";
import { ADDED, CHANGED, SAME } from "./stats.ts";

export interface Resolved {
  readonly blackhole: boolean;
  readonly legs: Legs;
}

interface NexthopObject extends Resolved {
  readonly group: boolean;
  stamp: number;
}

const NONE: Resolved = { blackhole: false, legs: new Legs() };

export class NexthopObjects {
  private readonly known = new Map<number, NexthopObject>();
  /** Those that routes may still name. */
  private readonly deleted = new Set<number>();
  /** Those whose change the records have not followed yet. */
  readonly dirty: Set<number> = new Set();
  private stamp = 1;

  /** Takes over a nexthop object or group. ADDED, CHANGED or SAME. */
  upsert(row: NexthopRow): number {
    const id = row.id | 0;
    const before = this.known.get(id);
    const group = row.group !== 0;
    const blackhole = row.blackhole !== 0;
    if (before) {
      before.stamp = this.stamp;
      if (before.group === group && before.blackhole === blackhole && sameLegs(before.legs, row.legs))
        return SAME;
    }
    this.known.set(id, { group, blackhole, legs: copyLegs(row.legs), stamp: this.stamp });
    this.deleted.delete(id);
    this.dirty.add(id);
    return before ? CHANGED : ADDED;
  }

  /** Forgets one: routes that name it are dead until they are swept. */
  remove(nhid: number): boolean {
    const id = nhid | 0;
    if (!this.known.delete(id)) return false;
    this.deleted.add(id);
    this.dirty.add(id);
    return true;
  }

  /** No route names these any more. */
  forget(removed: Iterable<number>): void {
    for (const id of removed) this.deleted.delete(id | 0);
  }

  has(nhid: number): boolean {
    return this.known.has(nhid | 0);
  }

  /** Whether routes name it that are still to be swept. */
  isGone(nhid: number): boolean {
    return this.deleted.has(nhid | 0);
  }

  /** All of them, for the differential test. */
  *all(): Generator<{ id: number; blackhole: boolean; group: boolean; legs: Legs }> {
    for (const [id, { blackhole, group, legs }] of this.known) yield { id: id >>> 0, blackhole, group, legs };
  }

  beginSweep(): number {
    return ++this.stamp;
  }

  /** Removes those that were not upserted since; returns their ids. */
  endSweep(sweep: number): number[] {
    const gone = [...this.known].filter(([, object]) => object.stamp < sweep).map(([id]) => id >>> 0);
    for (const id of gone) this.remove(id);
    return gone;
  }

  /** A group changes with its members. */
  spread(): void {
    const { dirty } = this;
    for (const [id, { group, legs }] of this.known)
      if (group) for (let i = 0; i < legs.n; i++) if (dirty.has(legs.nhid[i]!)) dirty.add(id);
  }

  /** What one stands for, a group's members resolved; undefined if it is not known. */
  resolve(nhid: number): Resolved | undefined {
    const id = nhid | 0;
    const object = this.known.get(id);
    if (!object) return this.deleted.has(id) ? NONE : undefined;
    if (!object.group) return object;
    const legs = new Legs();
    let blackhole = false;
    for (let i = 0; i < object.legs.n; i++) {
      const member = this.known.get(object.legs.nhid[i]!);
      if (!member || member.group || member.legs.n === 0) continue;
      blackhole ||= member.blackhole;
      const leg = copyLeg(member.legs, 0, legs);
      legs.weight[leg] = object.legs.weight[i]!;
      legs.nhid[leg] = object.legs.nhid[i]!;
    }
    return { legs, blackhole };
  }
}
