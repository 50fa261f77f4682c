// Looking ahead. A search in a large table waits for memory, and what happens to a frame between two of them is too much
// for the processor to look beyond. So where the searches for a batch will end is guessed first: in passes over the batch
// without a branch that waits for memory, so that the misses of many frames overlap, all hashes are worked out, then the
// tags say which entry is likely, then the lines of those entries are loaded. A guess is as good as a search if the entry
// is the packet's, none goes before it, and the table is the same as it was. For any other frame the search is made.
//
// What is guessed is the exact match of a packet, or the listening one if the bucket of the exact one says that there is none.
//
//   record of a frame, 8 words:  0 place of the entry, or 0   1 its number   2 its meta   3 ports   4..7 source
//   before that is known:        0 hash under the exact pattern   1 under the listening one   2 the listening meta, or 0
import { ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, etherType } from "../../wire/ether.ts";
import type { TableReader } from "./find.ts";
import { firstOf, fold, hashOf, sameTags, tagsOf } from "./hash.ts";
import {
  BEHIND_SHIFT,
  ENTRY4_SRC,
  ENTRY6_SRC,
  ENTRY_DST,
  ENTRY_META,
  ENTRY_OWNER,
  ENTRY_PORTS,
  H_ENTRIES,
  H_PATTERNS,
  H_SEED,
  H_VERSION,
  KIND_MATCH,
  NUMBER_SHIFT,
  OWNER_CLIENT,
  OWNER_KIND_SHIFT,
  PATTERN_WORDS,
} from "./layout.ts";
import { EXACT4, EXACT6, LISTENING4, LISTENING6, META_SIX, META_SPORT } from "./pattern.ts";
import { FOUND_ENTRY, FOUND_META, FOUND_TOUCH } from "./search.ts";

/** Entries of a table that is large: their lines fill a good part of a second-level cache. */
export const LARGE = 4096;
/** Frames of a batch that are looked at. */
export const AHEAD = 256;
/** It is not known what a search would find. */
export const UNKNOWN = -2;

const RECORD_SHIFT = 3;
const PLACE = 0;
const NUMBER = 1;
const META = 2;
const PORTS = 3;
const SRC = 4;
const EXACT = 0;
const LISTENING = 1;

const bitOf = (flag: number): number => 31 - Math.clz32(flag);
const SIX_BIT = bitOf(META_SIX);
const SPORT_BIT = bitOf(META_SPORT);
const FORM = META_SIX | 0xff; // of a meta: family and protocol
const DPORT = ~0xffff; // of a ports' word

/** All ones if a word is not 0. */
const any = (word: number): number => (word | -word) >> 31;

export interface Ahead {
  /** The entry that each frame's search will find, as a guess; 0: none. */
  readonly entries: Int32Array;
  /**
   * Looks ahead for the searches for `n` frames in `words` at `offs` (2 mod 4): TCP, UDP and what has its ports where these
   * have them, without options. Returns for how many: none if the table is small.
   * @param sent clients sent them: what is searched for is whose the answers to them are
   */
  look(words: Int32Array, offs: Int32Array, n: number, sent: boolean): number;
  /** What `find4` finds, and `found` with it, if that was guessed for frame `i` of those; else UNKNOWN. */
  find4(i: number, protocol: number, dst: number, src: number, ports: number): number;
  find6(i: number, header: Int32Array, dst: number, src: number, protocol: number, ports: number): number;
}

/** @param large entries that a table has which is looked ahead for */
export function makeAhead({ words: table, layout: { four, six }, found }: TableReader, large = LARGE): Ahead {
  const { mask } = four; // and of six
  const apart = {
    tags: six.tags - four.tags,
    entries: six.entries - four.entries,
    bucketWords: six.bucketWords - four.bucketWords,
    entryWords: six.entryWords - four.entryWords,
  };
  const seed = table[H_SEED]!;
  const nothing = fold(seed, 0, 0, 0, 0);
  const records = new Int32Array(AHEAD << RECORD_SHIFT);
  const entries = new Int32Array(AHEAD);
  let version = 0; // of the table, before anything was looked at

  /** All ones if the listening pattern is the first one, or the next after the exact one; else 0: others go before it. */
  const isNext = (list: number, exact: number, listening: number): number =>
    table[table[list] === exact ? list + PATTERN_WORDS : list] === listening ? -1 : 0;

  const hash = (words: Int32Array, offs: Int32Array, n: number, sent: boolean): void => {
    const turn = sent ? 16 : 0;
    const toDst4 = sent ? 3 : 4;
    const toSrc4 = sent ? 4 : 3;
    const toDst6 = sent ? 2 : 6;
    const toSrc6 = sent ? 6 : 2;
    for (let i = 0; i < n; i++) {
      const ip = (offs[i]! + ETHERNET) >>> 2;
      const record = i << RECORD_SHIFT;
      const type = etherType(words, ip);
      if (type === ETHERTYPE_IPV4) {
        const protocol = (words[ip + 2]! >>> 8) & 0xff;
        const dst = words[ip + toDst4]!;
        const src = words[ip + toSrc4]!;
        const ports = (words[ip + 5]! >>> turn) | (words[ip + 5]! << turn);
        records[record + EXACT] = hashOf(seed, dst, src, ports, EXACT4 | protocol);
        records[record + LISTENING] = hashOf(seed, dst, 0, ports & DPORT, LISTENING4 | protocol);
        records[record + META] = LISTENING4 | protocol;
        records[record + PORTS] = ports;
        records[record + SRC] = src;
      } else if (type === ETHERTYPE_IPV6) {
        const protocol = (words[ip + 1]! >>> 16) & 0xff;
        const d = ip + toDst6;
        const s = ip + toSrc6;
        const s0 = words[s]!;
        const s1 = words[s + 1]!;
        const s2 = words[s + 2]!;
        const s3 = words[s + 3]!;
        const dst = fold(seed, words[d]!, words[d + 1]!, words[d + 2]!, words[d + 3]!);
        const ports = (words[ip + 10]! >>> turn) | (words[ip + 10]! << turn);
        records[record + EXACT] = hashOf(seed, dst, fold(seed, s0, s1, s2, s3), ports, EXACT6 | protocol);
        records[record + LISTENING] = hashOf(seed, dst, nothing, ports & DPORT, LISTENING6 | protocol);
        records[record + META] = LISTENING6 | protocol;
        records[record + PORTS] = ports;
        records[record + SRC] = s0;
        records[record + SRC + 1] = s1;
        records[record + SRC + 2] = s2;
        records[record + SRC + 3] = s3;
      } else records[record + META] = 0;
    }
  };

  const guess = (n: number): void => {
    const next4 = isNext(table[H_PATTERNS]!, EXACT4, LISTENING4);
    const next6 = isNext(table[H_PATTERNS + 1]!, EXACT6, LISTENING6);
    for (let i = 0; i < n; i++) {
      const record = i << RECORD_SHIFT;
      const exact = records[record + EXACT]!;
      const listening = records[record + LISTENING]!;
      const meta = records[record + META]!;
      const isSix = -((meta & META_SIX) >>> SIX_BIT);
      const tags = four.tags + (apart.tags & isSix);
      const word = table[tags + (exact & mask)]!;
      const same = sameTags(word, tagsOf(exact));
      const second = sameTags(table[tags + (listening & mask)]!, tagsOf(listening));
      const isExact = any(same);
      const next = (next4 & ~isSix) | (next6 & isSix);
      const isListening = ~isExact & ~any(word >>> BEHIND_SHIFT) & next & any(second);
      const bucket = ((exact & isExact) | (listening & isListening)) & mask;
      const place = firstOf((same & isExact) | (second & isListening));
      const bucketWords = four.bucketWords + (apart.bucketWords & isSix);
      const entryWords = four.entryWords + (apart.entryWords & isSix);
      const at = four.entries + (apart.entries & isSix);
      const whole = (EXACT4 & ~isSix) | (EXACT6 & isSix);
      const isGuessed = (isExact | isListening) & any(meta);
      const number = (six.first & isSix) + (bucket << NUMBER_SHIFT) + place;
      records[record + PLACE] =
        (at + Math.imul(bucket, bucketWords) + Math.imul(place, entryWords)) & isGuessed;
      records[record + NUMBER] = number;
      entries[i] = number & isGuessed;
      records[record + META] = meta | (whole & isExact);
    }
  };

  const load = (n: number): void => {
    let sum = 0;
    for (let i = 0; i < n; i++) sum ^= table[records[i << RECORD_SHIFT]!]!;
    found[FOUND_META] = sum; // or nobody would load them
  };

  /** The entry of a record is the packet's. */
  const take = (record: number): number => {
    const owner = table[records[record + PLACE]! + ENTRY_OWNER]!;
    const entry = records[record + NUMBER]!;
    found[FOUND_ENTRY] = entry;
    found[FOUND_TOUCH] = owner >>> OWNER_KIND_SHIFT === KIND_MATCH ? 0 : entry;
    found[FOUND_META] = records[record + META]!;
    return table[H_VERSION] === version ? owner & OWNER_CLIENT : UNKNOWN;
  };

  return {
    entries,
    look(words, offs, n, sent) {
      if (table[H_ENTRIES]! < large) return 0;
      const many = n < AHEAD ? n : AHEAD;
      version = table[H_VERSION]!;
      hash(words, offs, many, sent);
      guess(many);
      load(many);
      return many;
    },
    find4(i, protocol, dst, src, ports) {
      const record = i << RECORD_SHIFT;
      const place = records[record + PLACE]!;
      const meta = records[record + META]!;
      const whole = -((meta & META_SPORT) >>> SPORT_BIT);
      const differs =
        ((meta ^ protocol) & FORM) |
        (table[place + ENTRY_META]! ^ meta) |
        (table[place + ENTRY_PORTS]! ^ (ports & (whole | DPORT))) |
        (table[place + ENTRY_DST]! ^ dst) |
        (table[place + ENTRY4_SRC]! ^ (src & whole)) |
        (records[record + PORTS]! ^ ports) |
        (records[record + SRC]! ^ src);
      return place !== 0 && differs === 0 ? take(record) : UNKNOWN;
    },
    find6(i, header, dst, src, protocol, ports) {
      const record = i << RECORD_SHIFT;
      const place = records[record + PLACE]!;
      const meta = records[record + META]!;
      const whole = -((meta & META_SPORT) >>> SPORT_BIT);
      const s0 = header[src]!;
      const s1 = header[src + 1]!;
      const s2 = header[src + 2]!;
      const s3 = header[src + 3]!;
      const differs =
        ((meta ^ (META_SIX | protocol)) & FORM) |
        (table[place + ENTRY_META]! ^ meta) |
        (table[place + ENTRY_PORTS]! ^ (ports & (whole | DPORT))) |
        (table[place + ENTRY_DST]! ^ header[dst]!) |
        (table[place + ENTRY_DST + 1]! ^ header[dst + 1]!) |
        (table[place + ENTRY_DST + 2]! ^ header[dst + 2]!) |
        (table[place + ENTRY_DST + 3]! ^ header[dst + 3]!) |
        (table[place + ENTRY6_SRC]! ^ (s0 & whole)) |
        (table[place + ENTRY6_SRC + 1]! ^ (s1 & whole)) |
        (table[place + ENTRY6_SRC + 2]! ^ (s2 & whole)) |
        (table[place + ENTRY6_SRC + 3]! ^ (s3 & whole)) |
        (records[record + PORTS]! ^ ports) |
        (records[record + SRC]! ^ s0) |
        (records[record + SRC + 1]! ^ s1) |
        (records[record + SRC + 2]! ^ s2) |
        (records[record + SRC + 3]! ^ s3);
      return place !== 0 && differs === 0 ? take(record) : UNKNOWN;
    },
  };
}
