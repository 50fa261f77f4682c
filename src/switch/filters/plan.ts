// Who of a group's members a packet is for: those whose filters may take it. A group with filters has a plan, made by the
// control Worker (control/groups.ts): its members without filters, those whose filters say nothing simple, and the others
// by the values of the fields that guard them (filter/guard.ts). So what nobody asks for costs a look a field, however
// many members there are. A plan is never changed: another one takes its place, by one store.
//
//   groups   slots of 8 words: plan's word, 0 none | meta | port | address 4      open addressing by hash
//   plan     members | of them always asked | fields | slots, a power of two
//            then a pair (client, entry) for each that is always asked
//            then 2 words a field: off | size << 16 | is after IP << 24, mask
//            then 3 words a slot: field's number from 1 on, 0 free | value | word of its list
//            then lists: how many, then a pair each
//
// A plan may be older than the table by a moment: whether a member still is one, its entry says.
import { AF_INET } from "../../wire/address.ts";
import { P_DST, P_FAMILY, P_PORTS, P_PROTOCOL } from "../../wire/packet.ts";
import type { TableReader } from "../table/find.ts";
import {
  ENTRY_DST,
  ENTRY_META,
  ENTRY_OWNER,
  ENTRY_PORTS,
  KIND_GROUP,
  OWNER_KIND_SHIFT,
  placeOf,
} from "../table/layout.ts";
import { groupMeta } from "../table/pattern.ts";
import {
  type FilterLayout,
  GROUP_META,
  GROUP_PORTS,
  GROUP_ADDRESS,
  GROUP_WORDS,
  GROUPS,
  hashGroup,
} from "./layout.ts";

export const PLAN_MEMBERS = 0;
export const PLAN_ALWAYS = 1;
export const PLAN_FIELDS = 2;
export const PLAN_SLOTS = 3;
export const PLAN_HEAD = 4;
export const SLOT_WORDS = 3;
const IP = 14;

/** Where the search for a value begins. */
export const hashValue = (field: number, value: number): number => {
  const h = Math.imul(value ^ Math.imul(field, 0x9e3779b1), 0x85ebca6b);
  return h ^ (h >>> 15);
};

export class Plans {
  /** Members that the last packet was not for. */
  ruledOut = 0;
  private readonly words: Int32Array;
  private readonly layout: FilterLayout;
  private readonly table: TableReader;
  private readonly frames: Int32Array;
  private readonly bytes: Uint8Array;

  constructor(words: Int32Array, layout: FilterLayout, table: TableReader, frames: Int32Array) {
    this.words = words;
    this.layout = layout;
    this.table = table;
    this.frames = frames;
    this.bytes = new Uint8Array(frames.buffer, frames.byteOffset, frames.byteLength);
  }

  /**
   * Writes the members of packet `p`'s group that it may be for to `members`, and their entries to `entries`: how many; -1
   * if the group has no plan.
   */
  find(p: Int32Array, off: number, len: number, members: Int32Array, entries: Int32Array): number {
    const { words } = this;
    const meta = groupMeta(p[P_FAMILY]!, p[P_PROTOCOL]!);
    const ports = p[P_PORTS]! & ~0xffff;
    const plan = this.planOf(p, meta, ports);
    if (plan === 0) return -1;
    const always = words[plan + PLAN_ALWAYS]!;
    const fields = words[plan + PLAN_FIELDS]!;
    const mask = words[plan + PLAN_SLOTS]! - 1;
    let at = plan + PLAN_HEAD;
    let n = this.take(at, always, 0, p, meta, ports, members, entries);
    at += always * 2;
    const slots = at + fields * 2;
    for (let field = 1; field <= fields; field++, at += 2) {
      const value = this.load(words[at]!, off, len);
      if (value < 0) continue; // beyond the packet's end: such a filter takes nothing
      const wanted = (value & words[at + 1]!) | 0;
      for (let i = hashValue(field, wanted) & mask; ; i = (i + 1) & mask) {
        const slot = slots + i * SLOT_WORDS;
        if (words[slot] === 0) break;
        if (words[slot] !== field || words[slot + 1] !== wanted) continue;
        const list = words[slot + 2]!;
        n = this.take(list + 1, words[list]!, n, p, meta, ports, members, entries);
        break;
      }
    }
    this.ruledOut = words[plan + PLAN_MEMBERS]! - n;
    return n;
  }

  /** Takes the `count` pairs at `at` that still are of the group. */
  private take(
    at: number,
    count: number,
    before: number,
    p: Int32Array,
    meta: number,
    ports: number,
    members: Int32Array,
    entries: Int32Array,
  ): number {
    const { words, table, frames } = this;
    let n = before;
    for (let i = 0; i < count && n < members.length; i++) {
      const member = words[at + i * 2]!;
      const entry = words[at + i * 2 + 1]!;
      const from = placeOf(table.layout, entry);
      if (
        table.words[from + ENTRY_OWNER] !== (member | (KIND_GROUP << OWNER_KIND_SHIFT)) ||
        table.words[from + ENTRY_META] !== meta ||
        table.words[from + ENTRY_PORTS] !== ports ||
        table.words[from + ENTRY_DST] !== frames[p[P_DST]!]
      )
        continue;
      members[n] = member;
      entries[n++] = entry;
    }
    return n;
  }

  private planOf(p: Int32Array, meta: number, ports: number): number {
    const { words, layout, frames } = this;
    const dst = p[P_DST]!;
    const four = p[P_FAMILY] === AF_INET;
    const d1 = four ? 0 : frames[dst + 1]!;
    const d2 = four ? 0 : frames[dst + 2]!;
    const d3 = four ? 0 : frames[dst + 3]!;
    for (let i = hashGroup(meta, ports, frames[dst]!, d1, d2, d3); ; i++) {
      const at = layout.groups + (i & (GROUPS - 1)) * GROUP_WORDS;
      if (words[at + GROUP_META] === 0) return 0;
      if (
        words[at + GROUP_META] === meta &&
        words[at + GROUP_PORTS] === ports &&
        words[at + GROUP_ADDRESS] === frames[dst] &&
        words[at + GROUP_ADDRESS + 1] === d1 &&
        words[at + GROUP_ADDRESS + 2] === d2 &&
        words[at + GROUP_ADDRESS + 3] === d3
      )
        return words[at]!;
    }
  }

  /** A field of the packet, as an unsigned number; -1 if it is not there. */
  private load(field: number, off: number, len: number): number {
    const { bytes } = this;
    const size = (field >>> 16) & 0xff;
    let at = field & 0xffff;
    if (field >>> 24 !== 0) {
      if (len <= IP) return -1;
      at += (bytes[off + IP]! & 15) << 2;
    }
    if (at + size > len) return -1;
    let value = 0;
    for (let i = 0; i < size; i++) value = value * 256 + bytes[off + at + i]!;
    return value;
  }
}
