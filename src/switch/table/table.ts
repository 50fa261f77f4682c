// The switch table as its one writer has it, the control Worker: clients, their matches and groups. Readers search it
// meanwhile (find.ts); buckets.ts says how. Layout: layout.ts; what a match is and which comes first: pattern.ts.
//
// Nobody takes what another has: a match is refused if it would get packets that another client's match gets now. One that
// comes after the other's in the order is allowed, and gets what the other leaves.
import { HUGE_PAGE } from "../../../ffi/memory.ts";
import type { Region } from "../../mem/region.ts";
import { AF_INET6 } from "../../wire/address.ts";
import type { SwitchCapacity } from "../boot.ts";
import { Buckets } from "./buckets.ts";
import { type ClientRow, Clients } from "./clients.ts";
import { Conflicts } from "./conflict.ts";
import { Destinations } from "./destinations.ts";
import { LARGE } from "./ahead.ts";
import { type Entry, readEntry, readKeyAt } from "./entry.ts";
import {
  ENTRY_DST,
  ENTRY_META,
  ENTRY_OWNER,
  ENTRY_PORTS,
  entryCount,
  H_ANSWERED,
  H_ENTRIES,
  H_NOW,
  H_SEED,
  H_VERSION,
  halfOf,
  KEY_SRC,
  KEY_WORDS,
  KIND_CLAIM,
  KIND_DHCP,
  KIND_GROUP,
  KIND_HEAD,
  KIND_MATCH,
  KIND_OWNED,
  layout,
  type Layout,
  MORE_NEXT,
  MORE_SHIFT,
  MORE_SINCE,
  numberCount,
  OWNER_CLIENT,
  OWNER_KIND_SHIFT,
  placeOf,
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
  private readonly four: Buckets;
  private readonly six: Buckets;
  private readonly patterns: Patterns;
  private readonly destinations: Destinations;
  private readonly conflicts: Conflicts;
  /** LISTS a client: what it asked for; what it got by sending (claims, DHCP), the oldest first; its own addresses. */
  private readonly lists: Lists;
  private owned = 0;
  private heads = 0;
  private readonly key = new Int32Array(KEY_WORDS);

  /** @param buffer tableBytes(capacity) of zeroed memory; @param seed a random word */
  constructor(buffer: ArrayBuffer, capacity: SwitchCapacity, seed: number) {
    const at = layout(capacity);
    this.layout = at;
    this.words = new Int32Array(buffer, 0, at.bytes >> 2);
    const { words } = this;
    words[H_SEED] = seed;
    const publish = () => this.publish();
    this.clients = new Clients(words, at);
    this.four = new Buckets(words, at, at.four, publish);
    this.six = new Buckets(words, at, at.six, publish);
    this.patterns = new Patterns(words, at, publish);
    this.destinations = new Destinations(words, at);
    this.conflicts = new Conflicts(words, at, (key) => this.buckets(key), this.patterns);
    this.lists = new Lists(capacity.clients * LISTS, numberCount(capacity) - 1);
  }

  /** Matches, claims, group members and DHCP transactions that there are. */
  get entries(): number {
    return this.taken - this.owned - this.heads;
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
    const { layout: at, four, six } = this;
    for (const [buckets, from, end] of [
      [four, at.four.tags, at.six.tags],
      [six, at.six.tags, at.more],
    ] as const) {
      if (buckets.isGathered || buckets.count < LARGE) continue;
      buckets.isGathered = true;
      for (let page = from * 4; page < end * 4; page += HUGE_PAGE) region.collapse(page);
    }
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
    if (this.findKey() !== 0) return EXISTS;
    if (this.conflicts.find(this.key, client)) return CONFLICT;
    return this.room < 1 || !this.patterns.takes(patternOf(this.key[ENTRY_META]!)) ? FULL : 0;
  }

  /** Gives a client a match: its entry's number, over 0, or why not. */
  add(match: Match, client: number, kind: "match" | "claim"): number | Refusal {
    const refusal = this.check(match, client);
    if (refusal !== 0) return refusal;
    const pattern = patternOf(this.key[ENTRY_META]!);
    this.patterns.hold(pattern);
    this.destinations.hold(this.key);
    const entry = this.take(client, kind === "claim" ? KIND_CLAIM : KIND_MATCH);
    if (entry < 0) this.release();
    return entry;
  }

  /** Why `addDhcp` would refuse; 0 if it would not. */
  checkDhcp(xid: number): Refusal | 0 {
    this.key.fill(0);
    this.key[ENTRY_DST] = xid;
    this.key[ENTRY_META] = META_DHCP;
    if (this.findKey() !== 0) return EXISTS;
    return this.room < 1 ? FULL : 0;
  }

  /** Gives a client the DHCP answers with a transaction id, a memory word: its entry's number, or why not. */
  addDhcp(xid: number, client: number): number | Refusal {
    const refusal = this.checkDhcp(xid);
    return refusal === 0 ? this.take(client, KIND_DHCP) : refusal;
  }

  /** Makes a client one of a group's, whose first one takes room for two: its entry's number, or why not. */
  addGroup(group: Group, client: number): number | Refusal {
    this.setGroup(group, client + 1);
    if (this.findKey() !== 0) return EXISTS;
    let head = this.findHead(group);
    if (this.room < (head === 0 ? 2 : 1)) return FULL;
    if (head === 0) head = this.take(0, KIND_HEAD);
    if (head < 0) return head;
    const next = this.more(head, MORE_NEXT);
    this.setGroup(group, client + 1);
    const entry = this.take(client, KIND_GROUP, this.words[next]!);
    if (entry > 0) this.change(next, entry);
    else if (this.words[next] === 0) this.remove(head);
    return entry;
  }

  /** Whether it was one of the group's. */
  removeGroup(group: Group, client: number): boolean {
    this.setGroup(group, client + 1);
    const entry = this.findKey();
    if (entry !== 0) this.remove(entry);
    return entry !== 0;
  }

  /**
   * Says that a client alone has an address; @param address memory words. There is room for one a client; more take that of
   * matches. False, and nobody is said to have it, if somebody has or if there is no room.
   */
  addOwned(family: 2 | 10, address: Int32Array, client: number): boolean {
    if (this.findOwned(family, address) !== 0 || this.spares === 0) return false;
    return this.take(client, KIND_OWNED) > 0;
  }

  /** Nobody alone has it any more. */
  removeOwned(family: 2 | 10, address: Int32Array): void {
    const entry = this.findOwned(family, address);
    if (entry !== 0) this.remove(entry);
  }

  /** The entry with exactly this match, or 0. */
  find(match: Match): number {
    writeKey(match, this.key, 0);
    return this.findKey();
  }

  /** Takes an entry out: when this returns, no search that begins finds it. */
  remove(entry: number): void {
    const { words } = this;
    const place = placeOf(this.layout, entry);
    const owner = words[place + ENTRY_OWNER]!;
    const kind = owner >>> OWNER_KIND_SHIFT;
    if (kind === KIND_GROUP) this.unlink(entry);
    readKeyAt(words, halfOf(this.layout, entry), place, this.key);
    const meta = this.key[ENTRY_META]!;
    this.buckets(this.key).remove(entry);
    words[H_ENTRIES]!--;
    if (isMatch(meta)) this.release();
    if (kind === KIND_OWNED) this.owned--;
    if (kind === KIND_HEAD) this.heads--;
    else this.lists.remove(this.listOf(owner & OWNER_CLIENT, kind), entry);
  }

  get(entry: number): Entry {
    return readEntry(this.words, this.layout, entry);
  }

  /** Its protocol; -1 for DHCP answers. */
  protocolOf(entry: number): number {
    const meta = this.words[placeOf(this.layout, entry) + ENTRY_META]!;
    return meta === META_DHCP ? -1 : meta & 0xff;
  }

  sinceOf(entry: number): number {
    return this.words[this.more(entry, MORE_SINCE)]!;
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
    const owner = this.words[placeOf(this.layout, entry) + ENTRY_OWNER]!;
    const list = this.listOf(owner & OWNER_CLIENT, owner >>> OWNER_KIND_SHIFT);
    this.lists.remove(list, entry);
    this.lists.append(list, entry);
  }

  private get taken(): number {
    return this.words[H_ENTRIES]!;
  }

  private get spares(): number {
    return entryCount(this.layout.capacity) - this.taken;
  }

  /** Room for matches and their like. Addresses have room of their own, one a client. */
  private get room(): number {
    return this.spares - Math.max(this.layout.capacity.clients - this.owned, 0);
  }

  /** Where a key is kept, or would be. */
  private buckets(key: Int32Array): Buckets {
    return (key[ENTRY_META]! & META_SIX) === 0 ? this.four : this.six;
  }

  private listOf(client: number, kind: number): number {
    return client * LISTS + (kind === KIND_OWNED ? 2 : kind === KIND_CLAIM || kind === KIND_DHCP ? 1 : 0);
  }

  /** The entry with the key in `key`, or 0. */
  private findKey(): number {
    return this.buckets(this.key).find(this.key);
  }

  /** A new entry with the key in `key`; FULL if there are too many of its hash. */
  private take(client: number, kind: number, next = 0): number | Refusal {
    const entry = this.buckets(this.key).insert(this.key, client | (kind << OWNER_KIND_SHIFT), next);
    if (entry === 0) return FULL;
    this.words[H_ENTRIES]!++;
    if (kind === KIND_OWNED) this.owned++;
    if (kind === KIND_HEAD) this.heads++;
    else this.lists.append(this.listOf(client, kind), entry);
    return entry;
  }

  /** After a change that a search could see, and before the next. */
  private publish(): void {
    Atomics.add(this.words, H_VERSION, 1);
  }

  /** A match with the key in `key` is one less. */
  private release(): void {
    this.patterns.release(patternOf(this.key[ENTRY_META]!));
    this.destinations.release(this.key);
  }

  /** Where a word of `more` is. */
  private more(entry: number, word: number): number {
    return this.layout.more + (entry << MORE_SHIFT) + word;
  }

  /** The head of a group, or 0. Leaves the group's key in `key`. */
  private findHead(group: Group): number {
    this.setGroup(group, 0);
    return this.findKey();
  }

  /** @param member 0: the head; else a client's slot + 1, so that a member's key is nobody else's, and no packet's */
  private setGroup({ family, protocol, address, port }: Group, member: number): void {
    this.setAddress(family, address);
    this.key[KEY_SRC] = member;
    this.key[ENTRY_PORTS] = portsWord(0, port);
    this.key[ENTRY_META] = groupMeta(family, protocol);
  }

  /** Leaves the address's key in `key`. */
  private findOwned(family: 2 | 10, address: Int32Array): number {
    this.setAddress(family, address);
    this.key[ENTRY_META] = META_OWNED | (family === AF_INET6 ? META_SIX : 0);
    return this.findKey();
  }

  private setAddress(family: 2 | 10, address: Int32Array): void {
    this.key.fill(0);
    for (let i = 0; i < (family === AF_INET6 ? 4 : 1); i++) this.key[ENTRY_DST + i] = address[i]!;
  }

  /** Takes a member out of its group's list, and with the last one the head. */
  private unlink(entry: number): void {
    const { words, key } = this;
    readKeyAt(words, halfOf(this.layout, entry), placeOf(this.layout, entry), key);
    key[KEY_SRC] = 0;
    const head = this.findKey();
    let before = head;
    while (words[this.more(before, MORE_NEXT)] !== entry) before = words[this.more(before, MORE_NEXT)]!;
    this.change(this.more(before, MORE_NEXT), words[this.more(entry, MORE_NEXT)]!);
    if (words[this.more(head, MORE_NEXT)] === 0) this.remove(head);
  }

  /** Changes a word that searches look at. */
  private change(at: number, value: number): void {
    Atomics.store(this.words, at, value);
    this.publish();
  }
}
