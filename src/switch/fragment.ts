// Where fragments go: all of a packet to where its first one went, in whatever order they come (RFC 791 section 3.2,
// RFC 8200 section 4.5). The first one has the ports; what was decided for it is remembered under (source, destination,
// protocol, id), and the others follow. Others that come before it wait, few and not for long.
//
// A card may put the first one in another queue than the others: they have no ports to be told apart by. So what a net
// Worker remembers is in a region of its own, which it alone writes and the others look at, for what they do not know.
//
// Memory is bounded: RECORDS decisions, in sets of WAYS of which the sender's oldest makes room, and WAITING frames in all, EACH
// of one sender at most. A key is 11 words: source 4, destination 4, id, protocol | family << 8, sender.
import { fence } from "../netbase/fence.ts";
import { AF_INET } from "../wire/address.ts";
import { P_DST, P_FAMILY, P_ID, P_PROTOCOL, P_SRC } from "../wire/packet.ts";

const RECORDS = 512;
const WAYS = 4;
const KEY = 11;
const FORM = 9; // of a key: its protocol and family
const SENDER = 10;
const RECORD = 16; // words: key, then
const VALUE = 11;
const SINCE = 12; // when it was decided: milliseconds, wrapping, by its Worker's clock
const MORE = 13; // what goes with the value
const SEQUENCE = 14; // odd while it is written
const SECOND = 15; // when it was decided, by the clock of all
const LIFE_MS = 10_000; // the last fragment comes after the first within this, or not at all
const WAIT_MS = 250;
export const WAITING = 32;
const EACH = 8;
/** A value of what is not decided yet. Those below it mean something to their own net Worker alone. */
export const PENDING = -100;

export const fragmentBytes: number = RECORDS * RECORD * 4;

export class Fragments {
  /** What was decided, after `find` said that something was. */
  value = 0;
  more = 0;
  /** Milliseconds of any clock, and seconds of one that all Workers have: kept by `tick`. */
  now = 0;
  second = 0;
  // Frames that wait: their offset (-1: none here), length, what their key is, whose they are (with the sender's generation,
  // or where the frame is from), when they came.
  readonly off: Int32Array = new Int32Array(WAITING).fill(-1);
  readonly len: Int32Array = new Int32Array(WAITING);
  readonly sender: Int32Array = new Int32Array(WAITING);
  readonly generation: Int32Array = new Int32Array(WAITING);
  waiting = 0;
  private isNew = false;
  /** Where the record is that was made last. */
  private last = 0;
  private readonly since = new Int32Array(WAITING);
  private readonly keys = new Int32Array(WAITING * KEY);
  private readonly records: Int32Array;
  private readonly others: readonly Int32Array[];
  private readonly key = new Int32Array(KEY);
  private readonly seed: number;

  /**
   * @param regions of all net Workers, `fragmentBytes` each; @param worker which is ours to write
   * @param seed the same for all
   */
  constructor(regions: readonly ArrayBuffer[], worker: number, seed: number) {
    const all = regions.map((region) => new Int32Array(region, 0, RECORDS * RECORD));
    this.records = all[worker]!;
    this.others = all.filter((_, i) => i !== worker);
    this.seed = seed;
  }

  tick(milliseconds: number, second: number): void {
    this.now = milliseconds;
    this.second = second;
    this.isNew ||= this.others.length > 0; // another Worker may know by now
  }

  /** Whether it is known where packet `p` of this sender goes: then to `value`. */
  find(p: Int32Array, words: Int32Array, sender: number): boolean {
    this.take(p, words, sender);
    return this.known();
  }

  /** Remembers where packet `p` goes. @param more what goes with `value`: a client's generation */
  remember(p: Int32Array, words: Int32Array, sender: number, value: number, more: number): void {
    const { records, key, now } = this;
    this.take(p, words, sender);
    let at = this.record();
    if (at < 0) at = this.room(sender);
    const sequence = records[at + SEQUENCE]! | 1;
    Atomics.store(records, at + SEQUENCE, sequence);
    for (let i = 0; i < KEY; i++) records[at + i] = key[i]!;
    records[at + VALUE] = value;
    records[at + MORE] = more;
    records[at + SINCE] = now;
    records[at + SECOND] = this.second;
    Atomics.store(records, at + SEQUENCE, (sequence + 1) | 0);
    this.isNew = true;
    this.last = at;
  }

  /** What was remembered last is another thing. */
  change(value: number): void {
    this.records[this.last + VALUE] = value;
  }

  /** Keeps a fragment whose first one is not here yet. False if there is no room: it is still the caller's. */
  wait(
    p: Int32Array,
    words: Int32Array,
    sender: number,
    generation: number,
    off: number,
    len: number,
  ): boolean {
    let free = -1;
    let its = 0;
    for (let i = 0; i < WAITING; i++) {
      if (this.off[i] === -1) free = i;
      else if (this.sender[i] === sender) its++;
    }
    if (free < 0 || (sender >= 0 && its >= EACH)) return false;
    this.take(p, words, sender);
    for (let i = 0; i < KEY; i++) this.keys[free * KEY + i] = this.key[i]!;
    this.off[free] = off;
    this.len[free] = len;
    this.sender[free] = sender;
    this.generation[free] = generation;
    this.since[free] = this.now;
    this.waiting++;
    return true;
  }

  /** A frame that waited and need not any more: its place, or -1. It is the caller's then, by `leave`. */
  follower(): number {
    if (!this.isNew) return -1;
    for (let i = 0; i < WAITING && this.waiting > 0; i++) {
      if (this.off[i] === -1) continue;
      for (let j = 0; j < KEY; j++) this.key[j] = this.keys[i * KEY + j]!;
      if (this.known()) return i;
    }
    this.isNew = false;
    return -1;
  }

  /** A frame that has waited for too long: its place, or -1. */
  late(): number {
    if (this.waiting === 0) return -1;
    for (let i = 0; i < WAITING; i++)
      if (this.off[i] !== -1 && ((this.now - this.since[i]!) | 0) > WAIT_MS) return i;
    return -1;
  }

  leave(place: number): void {
    this.off[place] = -1;
    this.waiting--;
  }

  private take(p: Int32Array, words: Int32Array, sender: number): void {
    const { key } = this;
    const four = p[P_FAMILY] === AF_INET;
    for (let i = 0; i < 4; i++) {
      key[i] = four && i > 0 ? 0 : words[p[P_SRC]! + i]!;
      key[4 + i] = four && i > 0 ? 0 : words[p[P_DST]! + i]!;
    }
    key[8] = p[P_ID]!;
    key[FORM] = (four ? p[P_PROTOCOL]! : 0) | (p[P_FAMILY]! << 8); // in IPv6 each fragment may name another header
    key[SENDER] = sender;
  }

  private set(): number {
    let h = this.seed;
    for (let i = 0; i < KEY; i++) {
      h = Math.imul(h ^ this.key[i]!, 0x85ebca6b);
      h ^= h >>> 15;
    }
    return ((h & (RECORDS / WAYS - 1)) * WAYS * RECORD) | 0;
  }

  /**
   * Which of its set makes room for a record of `sender`: one that is over; or the sender's own oldest, if there is one, so
   * that who begins many packets forgets but its own; or the oldest.
   */
  private room(sender: number): number {
    const { records, now } = this;
    const set = this.set();
    let oldest = -1;
    let isOwn = false;
    for (let at = set; at < set + WAYS * RECORD; at += RECORD) {
      if (records[at + FORM] === 0 || ((now - records[at + SINCE]!) | 0) > LIFE_MS) return at;
      const isIts = records[at + SENDER] === sender;
      const isOlder = oldest < 0 || ((records[at + SINCE]! - records[oldest + SINCE]!) | 0) < 0;
      if (isIts === isOwn ? isOlder : isIts) oldest = at;
      isOwn ||= isIts;
    }
    return oldest;
  }

  /** Whether it is known where the packet of `key` goes, here or by another Worker. */
  private known(): boolean {
    const at = this.record();
    if (at < 0) return this.others.length > 0 && this.elsewhere();
    this.value = this.records[at + VALUE]!;
    this.more = this.records[at + MORE]!;
    return true;
  }

  private elsewhere(): boolean {
    const { others, second } = this;
    const set = this.set();
    for (let i = 0; i < others.length; i++) {
      const records = others[i]!;
      for (let at = set; at < set + WAYS * RECORD; at += RECORD) {
        if (!this.isKey(records, at)) continue;
        const sequence = records[at + SEQUENCE]!;
        fence();
        this.value = records[at + VALUE]!;
        this.more = records[at + MORE]!;
        const isIt = this.isKey(records, at) && (second - records[at + SECOND]!) * 1000 <= LIFE_MS;
        fence();
        if ((sequence & 1) === 0 && records[at + SEQUENCE] === sequence && isIt && this.value > PENDING)
          return true;
      }
    }
    return false;
  }

  /** Where the live record of `key` is in our own, or -1. */
  private record(): number {
    const { records, now } = this;
    const set = this.set();
    for (let at = set; at < set + WAYS * RECORD; at += RECORD)
      if (this.isKey(records, at) && ((now - records[at + SINCE]!) | 0) <= LIFE_MS) return at;
    return -1;
  }

  private isKey(records: Int32Array, at: number): boolean {
    for (let i = 0; i < KEY; i++) if (records[at + i] !== this.key[i]) return false;
    return true;
  }
}
