// A family's half of the table as the writer keeps it: from a key to an entry. Readers search meanwhile, without waiting
// for anything (search.ts): every change that a search could see is one store, of a bucket's word of tags, and after each
// the version is another one. A search that began and ended with the same version therefore saw at most one change, whole
// or not at all; any other looks again. A writer that was put aside in the middle holds up nobody.
//
// An entry's words are written before its tag, and not again before its tag is gone and the version another one. Entries
// that found their bucket full are in one of the next, and each bucket that was passed over counts them: where it counts
// none, a search ends. So searches stay short however much comes and goes, and no entry ever moves.
import { readKeyAt } from "./entry.ts";
import { firstOf, fold, hashOf, nextOf, sameTags, tagsOf } from "./hash.ts";
import {
  BEHIND_MOST,
  BEHIND_SHIFT,
  ENTRY_DST,
  ENTRY_META,
  ENTRY_OWNER,
  ENTRY_PORTS,
  H_NOW,
  H_SEED,
  type Half,
  KEY_SRC,
  KEY_WORDS,
  type Layout,
  MORE_NEXT,
  MORE_SHIFT,
  MORE_SINCE,
  NUMBER_PLACE,
  NUMBER_SHIFT,
  PLACES,
  tagShift,
} from "./layout.ts";

export class Buckets {
  /** Entries that there are. */
  count = 0;
  /** Whether all of this is in huge pages. */
  isGathered = false;
  private readonly words: Int32Array;
  private readonly half: Half;
  private readonly more: number;
  private readonly publish: () => void;
  private readonly key = new Int32Array(KEY_WORDS);

  /** @param publish told after a change that a search could see */
  constructor(words: Int32Array, at: Layout, half: Half, publish: () => void) {
    this.words = words;
    this.half = half;
    this.more = at.more;
    this.publish = publish;
  }

  /** The number of the entry with this key, or 0. */
  find(key: Int32Array): number {
    const { words, half } = this;
    const hash = this.hash(key);
    const home = hash & half.mask;
    let bucket = home;
    do {
      const word = words[half.tags + bucket]!;
      for (let same = sameTags(word, tagsOf(hash)); same !== 0; same = nextOf(same)) {
        const n = firstOf(same);
        if (this.holds(half.entries + bucket * half.bucketWords + n * half.entryWords, key))
          return half.first + (bucket << NUMBER_SHIFT) + n;
      }
      if (word >>> BEHIND_SHIFT === 0) return 0;
      bucket = (bucket + 1) & half.mask;
    } while (bucket !== home);
    return 0;
  }

  /**
   * Puts an entry with this key, which there must not be, where searches find it. Its number; 0 if too many are there.
   * @param owner its ENTRY_OWNER; @param next its MORE_NEXT
   */
  insert(key: Int32Array, owner: number, next: number): number {
    const { words, half } = this;
    const hash = this.hash(key);
    const home = hash & half.mask;
    let bucket = home;
    let n = this.free(bucket);
    for (; n === 0; n = this.free(bucket)) {
      if (words[half.tags + bucket]! >>> BEHIND_SHIFT === BEHIND_MOST) return 0;
      bucket = (bucket + 1) & half.mask;
      if (bucket === home) return 0;
    }
    const place = half.entries + bucket * half.bucketWords + n * half.entryWords;
    words[place + ENTRY_META] = key[ENTRY_META]!;
    words[place + ENTRY_PORTS] = key[ENTRY_PORTS]!;
    words[place + ENTRY_OWNER] = owner;
    for (let i = 0; i < half.addressWords; i++) {
      words[place + ENTRY_DST + i] = key[ENTRY_DST + i]!;
      words[place + ENTRY_DST + half.addressWords + i] = key[KEY_SRC + i]!;
    }
    const entry = half.first + (bucket << NUMBER_SHIFT) + n;
    words[this.more + (entry << MORE_SHIFT) + MORE_SINCE] = words[H_NOW]!;
    words[this.more + (entry << MORE_SHIFT) + MORE_NEXT] = next;
    this.count++;
    this.passed(home, bucket, 1);
    Atomics.add(words, half.tags + bucket, (tagsOf(hash) & 0xff) << tagShift(n));
    this.publish();
    return entry;
  }

  /** No search that begins finds the entry any more when this returns. */
  remove(entry: number): void {
    const { words, half } = this;
    const bucket = (entry - half.first) >>> NUMBER_SHIFT;
    const n = entry & NUMBER_PLACE;
    const place = half.entries + bucket * half.bucketWords + n * half.entryWords;
    readKeyAt(words, half, place, this.key);
    Atomics.and(words, half.tags + bucket, ~(0xff << tagShift(n)));
    this.publish();
    words[place + ENTRY_META] = 0;
    this.passed(this.hash(this.key) & half.mask, bucket, -1);
    this.count--;
  }

  /** Counts an entry more or less behind the buckets from `home` to the one before `bucket`. */
  private passed(home: number, bucket: number, by: 1 | -1): void {
    const { words, half } = this;
    for (let i = home; i !== bucket; i = (i + 1) & half.mask)
      Atomics.add(words, half.tags + i, by << BEHIND_SHIFT);
  }

  /** A place in a bucket that is free, or 0. */
  private free(bucket: number): number {
    const word = this.words[this.half.tags + bucket]!;
    for (let n = 1; n <= PLACES; n++) if (((word >>> tagShift(n)) & 0xff) === 0) return n;
    return 0;
  }

  private holds(place: number, key: Int32Array): boolean {
    const { words, half } = this;
    if (words[place + ENTRY_META] !== key[ENTRY_META] || words[place + ENTRY_PORTS] !== key[ENTRY_PORTS])
      return false;
    for (let i = 0; i < half.addressWords; i++)
      if (
        words[place + ENTRY_DST + i] !== key[ENTRY_DST + i] ||
        words[place + ENTRY_DST + half.addressWords + i] !== key[KEY_SRC + i]
      )
        return false;
    return true;
  }

  private hash(key: Int32Array): number {
    const seed = this.words[H_SEED]!;
    const word = (at: number): number =>
      this.half.addressWords === 1
        ? key[at]!
        : fold(seed, key[at]!, key[at + 1]!, key[at + 2]!, key[at + 3]!);
    return hashOf(seed, word(ENTRY_DST), word(KEY_SRC), key[ENTRY_PORTS]!, key[ENTRY_META]!);
  }
}
