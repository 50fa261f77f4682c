// Who has got the first fragment of a packet to a group: for its other fragments, which have no port to find members by, and
// which no filter is asked about again. Lists in a ring of words, the newest in the place of the oldest; one net Worker's.
//
//   list   count | a pair each: client's slot, its generation
//
// A list is told by where it begins, counting words from the first one ever written (u32, wrapping).
const WORDS = 1 << 15; // some lists of the longest group
const MASK = WORDS - 1;

export class Followers {
  /** The list that was begun last. */
  last = 0;
  private head = 0;
  private readonly ring = new Int32Array(WORDS);

  /** Begins a list; `add` is about this one from now on. */
  begin(): number {
    this.last = this.head;
    this.ring[this.head & MASK] = 0;
    this.head = (this.head + 1) | 0;
    return this.last;
  }

  add(slot: number, generation: number): void {
    const { ring, head, last } = this;
    ring[head & MASK] = slot;
    ring[(head + 1) & MASK] = generation;
    this.head = (head + 2) | 0;
    ring[last & MASK]!++;
  }

  /** How many are in a list; -1 if others have its place. */
  count(list: number): number {
    return (this.head - list) >>> 0 > WORDS ? -1 : this.ring[list & MASK]!;
  }

  slot(list: number, i: number): number {
    return this.ring[(list + 1 + 2 * i) & MASK]!;
  }

  generation(list: number, i: number): number {
    return this.ring[(list + 2 + 2 * i) & MASK]!;
  }
}
