// An entry of the table as a key or an object: for changes and lists, not for frames.
import {
  BEHIND_SHIFT,
  ENTRY_DST,
  ENTRY_META,
  ENTRY_OWNER,
  ENTRY_PORTS,
  type Half,
  halfOf,
  KEY_SRC,
  KEY_WORDS,
  type Layout,
  MORE_SHIFT,
  MORE_SINCE,
  NUMBER_PLACE,
  NUMBER_SHIFT,
  OWNER_CLIENT,
  OWNER_KIND_SHIFT,
  PLACES,
  placeOf,
  tagShift,
} from "./layout.ts";
import { type Match, readKey } from "./pattern.ts";

/** In the order of KIND_MATCH... */
const KINDS = ["match", "claim", "dhcp", "group", "owned", "head"] as const;

export interface Entry {
  readonly entry: number;
  readonly client: number;
  readonly kind: (typeof KINDS)[number];
  /** a group: its address and port are `dst` and `dport`; an owned address: `dst`; DHCP: the id is word 0 of `dst` */
  readonly match: Match;
  /** when it began, by the table's clock */
  readonly since: number;
}

/** Writes the key of the entry at `place` to `key`. */
export function readKeyAt(words: Int32Array, half: Half, place: number, key: Int32Array): void {
  key[ENTRY_META] = words[place + ENTRY_META]!;
  key[ENTRY_PORTS] = words[place + ENTRY_PORTS]!;
  for (let i = 0; i < 4; i++) {
    key[ENTRY_DST + i] = i < half.addressWords ? words[place + ENTRY_DST + i]! : 0;
    key[KEY_SRC + i] = i < half.addressWords ? words[place + ENTRY_DST + half.addressWords + i]! : 0;
  }
}

const key = new Int32Array(KEY_WORDS);

/** @param entry there must be one: `isEntry` */
export function readEntry(words: Int32Array, at: Layout, entry: number): Entry {
  const place = placeOf(at, entry);
  readKeyAt(words, halfOf(at, entry), place, key);
  const owner = words[place + ENTRY_OWNER]!;
  return {
    entry,
    client: owner & OWNER_CLIENT,
    kind: KINDS[owner >>> OWNER_KIND_SHIFT]!,
    match: readKey(key, 0),
    since: words[at.more + (entry << MORE_SHIFT) + MORE_SINCE]!,
  };
}

/** Whether there is one of this number. */
export function isEntry(words: Int32Array, at: Layout, entry: number): boolean {
  const half = halfOf(at, entry);
  const n = entry & NUMBER_PLACE;
  const word = words[half.tags + ((entry - half.first) >>> NUMBER_SHIFT)]!;
  return n !== 0 && ((word >>> tagShift(n)) & 0xff) !== 0;
}

/** The numbers of all entries of a half. */
export function* numbersIn(words: Int32Array, half: Half): Generator<number> {
  for (let bucket = 0; bucket <= half.mask; bucket++) {
    const tags = words[half.tags + bucket]!;
    if (tags << (32 - BEHIND_SHIFT) === 0) continue;
    for (let n = 1; n <= PLACES; n++)
      if (((tags >>> tagShift(n)) & 0xff) !== 0) yield half.first + (bucket << NUMBER_SHIFT) + n;
  }
}
