// The slots of the table as the writer keeps them: from a key to an entry. Readers search meanwhile, without waiting for
// anything (find.ts): every change that a search could see is one store, and after each the version is another one. A
// search that began and ended with the same version therefore saw at most one change, whole or not at all; any other
// looks again. A writer that was put aside in the middle holds up nobody.
//
// A removed entry leaves no mark: those behind it that would no longer be found move up, each copied to its new slot
// first, and only with another version out of its old one. So searches stay short however much comes and goes.
import { hash4, hash6 } from "./hash.ts";
import {
  ENTRY_DST,
  ENTRY_META,
  ENTRY_PORTS,
  ENTRY_SRC,
  ENTRY_WORDS,
  entryCount,
  H_SEED,
  H_VERSION,
  type Layout,
} from "./layout.ts";
import { META_SIX } from "./pattern.ts";

export class Slots {
  private readonly words: Int32Array;
  private readonly slots: number;
  private readonly mask: number;
  private readonly numberMask: number;
  private readonly entries: number;
  /** Hash of each entry that is in a slot. */
  private readonly hashes: Int32Array;

  constructor(words: Int32Array, at: Layout) {
    this.words = words;
    this.slots = at.slots;
    this.mask = at.slotMask;
    this.numberMask = at.numberMask;
    this.entries = at.entries;
    this.hashes = new Int32Array(entryCount(at.capacity) + 1);
  }

  /** After a change that a search could see, and before the next. */
  publish(): void {
    Atomics.add(this.words, H_VERSION, 1);
  }

  /** The entry with the key at `key[at..]` (ENTRY_DST to ENTRY_META), or 0. */
  find(key: Int32Array, at: number): number {
    const { words, slots, mask, numberMask } = this;
    const hash = this.hash(key, at);
    for (let i = hash & mask; ; i = (i + 1) & mask) {
      const word = words[slots + i]!;
      if (word === 0) return 0;
      if (((word ^ hash) & ~numberMask) === 0 && this.holds(word & numberMask, key, at))
        return word & numberMask;
    }
  }

  /** Puts an entry, whose key is written, where searches find it. */
  insert(entry: number): void {
    const { words, slots, mask } = this;
    const hash = this.hash(words, this.entries + entry * ENTRY_WORDS);
    this.hashes[entry] = hash;
    let i = hash & mask;
    while (words[slots + i] !== 0) i = (i + 1) & mask;
    Atomics.store(words, slots + i, this.word(entry));
    this.publish();
  }

  /** Puts another entry with the same key in its place. */
  replace(entry: number, by: number): void {
    this.hashes[by] = this.hashes[entry]!;
    Atomics.store(this.words, this.slots + this.slotOf(entry), this.word(by));
    this.publish();
  }

  /** Searches do not find the entry any more when this returns, and its words may be written. */
  remove(entry: number): void {
    const { words, slots, mask, numberMask, hashes } = this;
    let hole = this.slotOf(entry);
    for (let i = (hole + 1) & mask; ; i = (i + 1) & mask) {
      const word = words[slots + i]!;
      if (word === 0) break;
      const home = hashes[word & numberMask]! & mask;
      if (((i - home) & mask) < ((i - hole) & mask)) continue;
      Atomics.store(words, slots + hole, word);
      this.publish();
      hole = i;
    }
    Atomics.store(words, slots + hole, 0);
    this.publish();
  }

  private word(entry: number): number {
    return (this.hashes[entry]! & ~this.numberMask) | entry;
  }

  private slotOf(entry: number): number {
    const { words, slots, mask } = this;
    const word = this.word(entry);
    let i = this.hashes[entry]! & mask;
    while (words[slots + i] !== word) i = (i + 1) & mask;
    return i;
  }

  private holds(entry: number, key: Int32Array, at: number): boolean {
    const own = this.entries + entry * ENTRY_WORDS;
    for (let i = ENTRY_DST; i <= ENTRY_META; i++) if (this.words[own + i] !== key[at + i]) return false;
    return true;
  }

  private hash(key: Int32Array, at: number): number {
    const seed = this.words[H_SEED]!;
    const d = at + ENTRY_DST;
    const s = at + ENTRY_SRC;
    const ports = key[at + ENTRY_PORTS]!;
    const meta = key[at + ENTRY_META]!;
    if ((meta & META_SIX) === 0) return hash4(seed, key[d]!, key[s]!, ports, meta);
    return hash6(
      seed,
      key[d]!,
      key[d + 1]!,
      key[d + 2]!,
      key[d + 3]!,
      key[s]!,
      key[s + 1]!,
      key[s + 2]!,
      key[s + 3]!,
      ports,
      meta,
    );
  }
}
