// The switch table as its one writer has it, the control Worker: clients, their matches and groups. Readers search it
// meanwhile (find.ts); slots.ts says how. Layout: layout.ts; what a match is and which comes first: pattern.ts.
//
// Nobody takes what another has: a match is refused if it would get packets that another client's match gets now. One that
// comes after the other's in the order is allowed, and gets what the other leaves.
import { HUGE_PAGE } from "../../../ffi/memory.ts";
import type { Region } from "../../mem/region.ts";
import { AF_INET6 } from "../../wire/address.ts";
import type { SwitchCapacity } from "../boot.ts";
import { type ClientRow, Clients } from "./clients.ts";
import { Conflicts } from "./conflict.ts";
import { LARGE } from "./ahead.ts";
import { type Entry, readEntry } from "./entry.ts";
import {
  ENTRY_META,
  ENTRY_NEXT,
  ENTRY_OWNER,
  ENTRY_PORTS,
  ENTRY_SINCE,
  ENTRY_WORDS,
  entryCount,
  H_ANSWERED,
  H_ENTRIES,
  H_NOW,
  H_SEED,
  KIND_CLAIM,
  KIND_DHCP,
  KIND_GROUP,
  KIND_MATCH,
  KIND_OWNED,
  layout,
  type Layout,
  OWNER_CLIENT,
  OWNER_KIND_SHIFT,
} from "./layout.ts";
import { Lists } from "./lists.ts";
import {
  groupMeta,
  isMatch,
  type Match,
  META_DHCP,
  META_OWNED,
  META_SIX,
  patternOf,
  portsWord,
  writeKey,
} from "./pattern.ts";
import { Patterns } from "./patterns.ts";
import { Slots } from "./slots.ts";

/** There is the same one already. */
export const EXISTS = -1;
/** It would take what another client has. */
export const CONFLICT = -2;
/** No room, or too many different patterns. */
export const FULL = -3;
export type Refusal = typeof EXISTS | typeof CONFLICT | typeof FULL;

const LISTS = 3;

export interface Group {
  readonly family: 2 | 10;
  readonly protocol: number;
  /** memory words; an IPv4 address in word 0 */
  readonly address: Int32Array;
  readonly port: number;
}

export class TableWriter {
  readonly words: Int32Array;
  readonly layout: Layout;
  readonly clients: Clients;
  private readonly slots: Slots;
  private readonly patterns: Patterns;
  private readonly conflicts: Conflicts;
  /** LISTS a client: what it asked for; what it got by sending (claims, DHCP), the oldest first; its own addresses. */
  private readonly lists: Lists;
  private readonly spare: Int32Array;
  private spares: number;
  private owned = 0;
  private gathered = 0; // bytes from the beginning that are in huge pages
  private readonly key = new Int32Array(ENTRY_WORDS);

  /** @param buffer tableBytes(capacity) of zeroed memory; @param seed a random word */
  constructor(buffer: ArrayBuffer, capacity: SwitchCapacity, seed: number) {
    const count = entryCount(capacity);
    this.layout = layout(capacity);
    this.words = new Int32Array(buffer, 0, this.layout.bytes >> 2);
    this.words[H_SEED] = seed;
    this.clients = new Clients(this.words, this.layout);
    this.slots = new Slots(this.words, this.layout);
    this.patterns = new Patterns(this.words, this.layout, () => this.slots.publish());
    this.conflicts = new Conflicts(this.words, this.layout, this.slots, this.patterns);
    this.lists = new Lists(capacity.clients * LISTS, count);
    this.spares = count;
    this.spare = Int32Array.from({ length: count }, (_, i) => count - i);
  }

  /** Entries that are taken, but for owned addresses. */
  get entries(): number {
    return entryCount(this.layout.capacity) - this.spares - this.owned;
  }

  /** The clock of claims and touches. @param seconds of any clock that never goes back */
  setNow(seconds: number): void {
    Atomics.store(this.words, H_NOW, seconds);
  }

  get now(): number {
    return this.words[H_NOW]!;
  }

  /** Now and then: has a large table's memory put into huge pages; a search then waits for memory, not for addresses too. */
  gather(region: Region): void {
    const taken = this.words[H_ENTRIES]!;
    if (taken < LARGE) return;
    for (const end = this.place(taken) * 4; this.gathered < end; this.gathered += HUGE_PAGE)
      region.collapse(this.gathered);
  }

  /** Tells net Worker `worker` that its requests up to `sequence` are answered. */
  answer(worker: number, sequence: number): void {
    Atomics.store(this.words, H_ANSWERED + worker, sequence);
  }

  /** A client's slot; -1 if there is none left. */
  addClient(row: ClientRow): number {
    return this.clients.add(row);
  }

  updateClient(slot: number, row: ClientRow): void {
    this.clients.update(slot, row);
  }

  /** Takes all from a client, and itself out of the table. Its slot is nobody's until `freeClient`. */
  removeClient(slot: number): void {
    for (let list = slot * LISTS; list < (slot + 1) * LISTS; list++)
      for (let entry = this.lists.head(list); entry !== 0; entry = this.lists.head(list)) this.remove(entry);
    this.clients.leave(slot);
  }

  /** All net Workers have quiesced since `removeClient`: the slot may be another's. */
  freeClient(slot: number): void {
    this.clients.free(slot);
  }

  /** Why `add` would refuse; 0 if it would not. */
  check(match: Match, client: number): Refusal | 0 {
    writeKey(match, this.key, 0);
    if (this.slots.find(this.key, 0) !== 0) return EXISTS;
    if (this.conflicts.find(this.key, client)) return CONFLICT;
    return this.full || !this.patterns.takes(patternOf(this.key[ENTRY_META]!)) ? FULL : 0;
  }

  /** Gives a client a match: its entry's number, over 0, or why not. */
  add(match: Match, client: number, kind: "match" | "claim"): number | Refusal {
    const refusal = this.check(match, client);
    if (refusal !== 0) return refusal;
    this.patterns.hold(patternOf(this.key[ENTRY_META]!));
    const entry = this.take(client, kind === "claim" ? KIND_CLAIM : KIND_MATCH);
    this.slots.insert(entry);
    return entry;
  }

  /** Why `addDhcp` would refuse; 0 if it would not. */
  checkDhcp(xid: number): Refusal | 0 {
    this.key.fill(0);
    this.key[0] = xid;
    this.key[ENTRY_META] = META_DHCP;
    if (this.slots.find(this.key, 0) !== 0) return EXISTS;
    return this.full ? FULL : 0;
  }

  /** Gives a client the DHCP answers with a transaction id, a memory word: its entry's number, or why not. */
  addDhcp(xid: number, client: number): number | Refusal {
    const refusal = this.checkDhcp(xid);
    if (refusal !== 0) return refusal;
    const entry = this.take(client, KIND_DHCP);
    this.slots.insert(entry);
    return entry;
  }

  /** Makes a client one of a group's: its entry's number, or why not. */
  addGroup(group: Group, client: number): number | Refusal {
    if (this.findMember(group, client) !== 0) return EXISTS;
    if (this.full) return FULL;
    const first = this.slots.find(this.key, 0);
    const entry = this.take(client, KIND_GROUP);
    this.words[this.place(entry) + ENTRY_NEXT] = first;
    if (first === 0) this.slots.insert(entry);
    else this.slots.replace(first, entry);
    return entry;
  }

  /** Whether it was one of the group's. */
  removeGroup(group: Group, client: number): boolean {
    const entry = this.findMember(group, client);
    if (entry !== 0) this.remove(entry);
    return entry !== 0;
  }

  /**
   * Says that a client alone has an address; @param address memory words. There is room for one a client; more take that of
   * matches. False, and nobody is said to have it, if somebody has or if there is no room.
   */
  addOwned(family: 2 | 10, address: Int32Array, client: number): boolean {
    if (this.findOwned(family, address) !== 0 || this.spares === 0) return false;
    this.slots.insert(this.take(client, KIND_OWNED));
    this.owned++;
    return true;
  }

  /** Nobody alone has it any more. */
  removeOwned(family: 2 | 10, address: Int32Array): void {
    const entry = this.findOwned(family, address);
    if (entry !== 0) this.remove(entry);
  }

  /** The entry with exactly this match, or 0. */
  find(match: Match): number {
    writeKey(match, this.key, 0);
    return this.slots.find(this.key, 0);
  }

  /** Takes an entry out: when this returns, no search that begins finds it. */
  remove(entry: number): void {
    const { words } = this;
    const at = this.place(entry);
    const meta = words[at + ENTRY_META]!;
    const owner = words[at + ENTRY_OWNER]!;
    if (owner >>> OWNER_KIND_SHIFT === KIND_GROUP) this.removeMember(entry);
    else this.slots.remove(entry);
    words[at + ENTRY_META] = 0;
    if (isMatch(meta)) this.patterns.release(patternOf(meta));
    if (owner >>> OWNER_KIND_SHIFT === KIND_OWNED) this.owned--;
    this.lists.remove(this.listOf(owner & OWNER_CLIENT, owner >>> OWNER_KIND_SHIFT), entry);
    this.spare[this.spares++] = entry;
    words[H_ENTRIES]!--;
  }

  get(entry: number): Entry {
    return readEntry(this.words, this.place(entry), entry);
  }

  /** Its protocol; -1 for DHCP answers. */
  protocolOf(entry: number): number {
    const meta = this.words[this.place(entry) + ENTRY_META]!;
    return meta === META_DHCP ? -1 : meta & 0xff;
  }

  sinceOf(entry: number): number {
    return this.words[this.place(entry) + ENTRY_SINCE]!;
  }

  /** Entries of a client, the oldest first: matches and groups, or what it got by sending. */
  *matchesOf(client: number, got = false): Generator<number> {
    for (let entry = this.lists.head(client * LISTS + (got ? 1 : 0)); entry !== 0; ) {
      const next = this.lists.next(entry);
      yield entry;
      entry = next;
    }
  }

  /** How many of these there are. */
  countOf(client: number, got = false): number {
    return this.lists.length(client * LISTS + (got ? 1 : 0));
  }

  /** The oldest that a client got by sending; 0 if there is none. */
  oldestOf(client: number): number {
    return this.lists.head(client * LISTS + 1);
  }

  /** Makes that entry the newest of its client. */
  renew(entry: number): void {
    const owner = this.words[this.place(entry) + ENTRY_OWNER]!;
    const list = this.listOf(owner & OWNER_CLIENT, owner >>> OWNER_KIND_SHIFT);
    this.lists.remove(list, entry);
    this.lists.append(list, entry);
  }

  /** No room for another match. Addresses have room of their own, one a client. */
  private get full(): boolean {
    return this.spares <= Math.max(this.layout.capacity.clients - this.owned, 0);
  }

  private place(entry: number): number {
    return this.layout.entries + entry * ENTRY_WORDS;
  }

  private listOf(client: number, kind: number): number {
    return client * LISTS + (kind === KIND_OWNED ? 2 : kind === KIND_CLAIM || kind === KIND_DHCP ? 1 : 0);
  }

  /** A new entry with the key in `key`. */
  private take(client: number, kind: number): number {
    const entry = this.spare[--this.spares]!;
    const at = this.place(entry);
    this.words.set(this.key, at);
    this.words[H_ENTRIES]!++;
    this.words[at + ENTRY_OWNER] = client | (kind << OWNER_KIND_SHIFT);
    this.words[at + ENTRY_SINCE] = this.now;
    this.lists.append(this.listOf(client, kind), entry);
    return entry;
  }

  /** Leaves the group's key in `key`. */
  private findMember(group: Group, client: number): number {
    const { key, words } = this;
    this.setAddress(group.family, group.address);
    key[ENTRY_PORTS] = portsWord(0, group.port);
    key[ENTRY_META] = groupMeta(group.family, group.protocol);
    let entry = this.slots.find(key, 0);
    while (entry !== 0 && (words[this.place(entry) + ENTRY_OWNER]! & OWNER_CLIENT) !== client)
      entry = words[this.place(entry) + ENTRY_NEXT]!;
    return entry;
  }

  /** Leaves the address's key in `key`. */
  private findOwned(family: 2 | 10, address: Int32Array): number {
    this.setAddress(family, address);
    this.key[ENTRY_META] = META_OWNED | (family === AF_INET6 ? META_SIX : 0);
    return this.slots.find(this.key, 0);
  }

  private setAddress(family: 2 | 10, address: Int32Array): void {
    this.key.fill(0);
    for (let i = 0; i < (family === AF_INET6 ? 4 : 1); i++) this.key[i] = address[i]!;
  }

  private removeMember(entry: number): void {
    const { words } = this;
    const next = words[this.place(entry) + ENTRY_NEXT]!;
    let before = this.slots.find(words, this.place(entry));
    if (before === entry) {
      if (next === 0) this.slots.remove(entry);
      else this.slots.replace(entry, next);
      return;
    }
    while (words[this.place(before) + ENTRY_NEXT] !== entry) before = words[this.place(before) + ENTRY_NEXT]!;
    Atomics.store(words, this.place(before) + ENTRY_NEXT, next);
    this.slots.publish();
  }
}
