// Finding a neighbour: the readers' side of the tables that neigh.ts writes and explains.
import {
  H_NEIGH_SEED,
  H_NEIGH4,
  H_NEIGH6,
  type Layout,
  NEIGH_IFINDEX_MASK,
  NEIGH_WINDOW,
  NEIGH4_WORDS,
  NEIGH6_WORDS,
} from "./layout.ts";

/** How often a lookup begins anew because entries changed under it. */
const TRIES = 100;

/**
 * MurmurHash3's finalizer, with the interface in the middle. Weaker ones make clusters of more than NEIGH_WINDOW entries
 * out of addresses that follow each other, under one seed in sixty.
 * @param seed H_NEIGH_SEED
 */
export const hash4 = (seed: number, ip: number, ifindex: number): number => {
  let h = ip ^ seed;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13) ^ ifindex, 0xc2b2ae35);
  return h ^ (h >>> 16);
};

export const hash6 = (
  seed: number,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
  ifindex: number,
): number => {
  let h = w0 ^ seed;
  h = Math.imul(h ^ (h >>> 16) ^ w1, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15) ^ w2, 0x27d4eb2f);
  h = Math.imul(h ^ (h >>> 16) ^ w3, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13) ^ ifindex, 0xc2b2ae35);
  return h ^ (h >>> 16);
};

/** The reader's side for IPv4. After a hit, `mac0` and `mac1` are the link-layer address. */
export class NeighReader4 {
  private readonly words: Int32Array;
  private readonly mask: number;
  private readonly seed: number;
  // What was read goes through this array: a store to it keeps the compiler from taking the second look at the
  // sequence number for the first (bench/neigh.ts and the torture test hold it to that).
  private readonly hit = new Int32Array(2);

  constructor(words: Int32Array, at: Layout) {
    this.words = words;
    this.mask = at.neighMask4;
    this.seed = words[H_NEIGH_SEED]!;
    const { hit, mask, seed } = this;
    this.place = (ip, ifindex) => (words[H_NEIGH4]! + ((hash4(seed, ip, ifindex) & mask) << 2)) | 0;
    this.find = (ip, ifindex) => {
      // Where nearly all are found, short enough to be compiled into the caller: `probe` does all of it.
      const at = this.place(ip, ifindex);
      const mac1 = words[at + 3]!;
      const key = words[at + 1]!;
      if (words[at] === ip && (key & NEIGH_IFINDEX_MASK) === ifindex) {
        hit[0] = words[at + 2]!;
        hit[1] = mac1;
        if (words[at + 3] === mac1) return key >>> 24;
      }
      return this.probe(ip, ifindex);
    };
  }

  /** Bytes 0..3 of the address last found, as a frame's word 0 has them. */
  get mac0(): number {
    return this.hit[0]!;
  }

  /** Bytes 4, 5 of the address last found, in the low half; the high half is not zero. */
  get mac1(): number {
    return this.hit[1]!;
  }

  /** Where a neighbour is, if it is there and no other took the place: for who reads the entry by its sequence number. */
  readonly place: (ip: number, ifindex: number) => number;

  /** The NUD_* state of a neighbour (memory word), 0 if it is not in the table. */
  readonly find: (ip: number, ifindex: number) => number;

  private probe(ip: number, ifindex: number): number {
    for (let tries = 0; tries < TRIES; tries++) {
      const state = this.walk(ip, ifindex);
      if (state >= 0) return state;
    }
    return 0;
  }

  /** Goes along the slots once: the state, 0 if there is no such entry, -1 if it changed while it was read. */
  private walk(ip: number, ifindex: number): number {
    const { words, mask, hit } = this;
    const base = words[H_NEIGH4]!;
    let i = hash4(this.seed, ip, ifindex) & mask;
    for (let n = 0; n < NEIGH_WINDOW; n++) {
      const at = base + i * NEIGH4_WORDS;
      const mac1 = words[at + 3]!;
      const key = words[at + 1]!;
      if ((key & NEIGH_IFINDEX_MASK) === ifindex && words[at] === ip) {
        hit[0] = words[at + 2]!;
        hit[1] = mac1;
        return words[at + 3] === mac1 ? key >>> 24 : -1;
      }
      if (key === 0) return 0;
      i = (i + 1) & mask;
    }
    return 0;
  }
}

/** The reader's side for IPv6. After a hit, `mac0` and `mac1` are the link-layer address. */
export class NeighReader6 {
  private readonly words: Int32Array;
  private readonly mask: number;
  private readonly seed: number;
  private readonly hit = new Int32Array(2);

  constructor(words: Int32Array, at: Layout) {
    this.words = words;
    this.mask = at.neighMask6;
    this.seed = words[H_NEIGH_SEED]!;
  }

  /** Bytes 0..3 of the address last found, as a frame's word 0 has them. */
  get mac0(): number {
    return this.hit[0]!;
  }

  /** Bytes 4, 5 of the address last found, in the low half; the high half is not zero. */
  get mac1(): number {
    return this.hit[1]!;
  }

  /** The NUD_* state of a neighbour (four memory words), 0 if it is not in the table. */
  find(w0: number, w1: number, w2: number, w3: number, ifindex: number): number {
    for (let tries = 0; tries < TRIES; tries++) {
      const state = this.walk(w0, w1, w2, w3, ifindex);
      if (state >= 0) return state;
    }
    return 0;
  }

  /** Goes along the slots once: the state, 0 if there is no such entry, -1 if it changed while it was read. */
  private walk(w0: number, w1: number, w2: number, w3: number, ifindex: number): number {
    const { words, mask, hit } = this;
    const base = words[H_NEIGH6]!;
    let i = hash6(this.seed, w0, w1, w2, w3, ifindex) & mask;
    for (let n = 0; n < NEIGH_WINDOW; n++) {
      const at = base + i * NEIGH6_WORDS;
      const mac1 = words[at + 7]!;
      const key = words[at + 4]!;
      if (
        (key & NEIGH_IFINDEX_MASK) === ifindex &&
        words[at + 3] === w3 &&
        words[at + 2] === w2 &&
        words[at + 1] === w1 &&
        words[at] === w0
      ) {
        hit[0] = words[at + 6]!;
        hit[1] = mac1;
        return words[at + 7] === mac1 ? key >>> 24 : -1;
      }
      if (key === 0) return 0;
      i = (i + 1) & mask;
    }
    return 0;
  }
}
