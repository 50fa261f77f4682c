// Finding a neighbour: the readers' side of the tables that neigh.ts writes and explains.
import { H_NEIGH_SEED, H_NEIGH4, H_NEIGH6, type Layout, NEIGH_WINDOW } from "./layout.ts";

/** How often a lookup begins anew because entries changed under it. */
export const TRIES = 100;

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

/** The words are mixed side by side, then together: half the time of one after the other. */
export const hash6 = (
  seed: number,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
  ifindex: number,
): number => {
  const left = Math.imul(w0 ^ seed ^ Math.imul(w1, 0x9e3779b1), 0x27d4eb2f);
  const right = Math.imul(w2 ^ (w2 >>> 16), 0x165667b1) ^ Math.imul(w3 ^ (w3 >>> 15), 0x85ebca6b);
  const h = (left + right) | 0;
  const g = Math.imul(h ^ (h >>> 13) ^ ifindex, 0xc2b2ae35);
  return g ^ (g >>> 16);
};

// Both `find`s are closures over constants, short enough to be compiled into the caller: they look at one slot, which seven
// in eight neighbours are in (and one that is empty says that there is none), and leave the rest to `probe`. Sums are cut
// to 32 bits (`| 0`) so that they need no check for overflow.

/** The reader's side for IPv4. After a hit, `mac0` and `mac1` are the link-layer address. */
export class NeighReader4 {
  // What was read goes through this array: a store to it keeps the compiler from moving the first look at the sequence number
  // behind what it is about, and from taking the second for it (the torture test holds it to that).
  private readonly hit: Int32Array;

  /** Where a neighbour is, if it is there and no other took the place: for who reads the entry by its sequence number. */
  readonly place: (ip: number, ifindex: number) => number;

  /** The NUD_* state of a neighbour (memory word), 0 if it is not in the table. */
  readonly find: (ip: number, ifindex: number) => number;

  constructor(words: Int32Array, at: Layout) {
    const hit = new Int32Array(2);
    const mask = at.neighMask4;
    const seed = words[H_NEIGH_SEED]!;
    this.hit = hit;
    const place = (ip: number, ifindex: number): number =>
      (words[H_NEIGH4]! + ((hash4(seed, ip, ifindex) & mask) << 2)) | 0;
    /** Goes along the slots, and begins anew if an entry changed while it was read. */
    const probe = (ip: number, ifindex: number): number => {
      const base = words[H_NEIGH4]!;
      const home = hash4(seed, ip, ifindex) & mask;
      for (let tries = 0, n = 0; tries < TRIES && n < NEIGH_WINDOW; ) {
        const at = (base + (((home + n) & mask) << 2)) | 0;
        const mac1 = words[(at + 3) | 0]!;
        hit[1] = mac1;
        const key = words[(at + 1) | 0]!;
        if (((words[at]! ^ ip) | ((key ^ ifindex) << 8)) !== 0) {
          if (key === 0) return 0;
          n++;
          continue;
        }
        hit[0] = words[(at + 2) | 0]!;
        if (words[(at + 3) | 0]! === mac1) return key >>> 24;
        tries++;
        n = 0;
      }
      return 0;
    };
    this.place = place;
    this.find = (ip, ifindex) => {
      const at = place(ip, ifindex);
      const mac1 = words[(at + 3) | 0]!;
      hit[1] = mac1;
      const key = words[(at + 1) | 0]!;
      if (((words[at]! ^ ip) | ((key ^ ifindex) << 8)) !== 0) return key === 0 ? 0 : probe(ip, ifindex);
      hit[0] = words[(at + 2) | 0]!;
      return words[(at + 3) | 0]! === mac1 ? key >>> 24 : probe(ip, ifindex);
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
}

/** The reader's side for IPv6. After a hit, `mac0` and `mac1` are the link-layer address. */
export class NeighReader6 {
  private readonly hit: Int32Array;

  /** The NUD_* state of a neighbour (four memory words), 0 if it is not in the table. */
  readonly find: (w0: number, w1: number, w2: number, w3: number, ifindex: number) => number;

  constructor(words: Int32Array, at: Layout) {
    const hit = new Int32Array(2);
    const mask = at.neighMask6;
    const seed = words[H_NEIGH_SEED]!;
    this.hit = hit;
    const probe = (w0: number, w1: number, w2: number, w3: number, ifindex: number): number => {
      const base = words[H_NEIGH6]!;
      const home = hash6(seed, w0, w1, w2, w3, ifindex) & mask;
      for (let tries = 0, n = 0; tries < TRIES && n < NEIGH_WINDOW; ) {
        const at = (base + (((home + n) & mask) << 3)) | 0;
        const mac1 = words[(at + 7) | 0]!;
        hit[1] = mac1;
        const key = words[(at + 4) | 0]!;
        if (
          (((key ^ ifindex) << 8) |
            (words[(at + 3) | 0]! ^ w3) |
            (words[(at + 2) | 0]! ^ w2) |
            (words[(at + 1) | 0]! ^ w1) |
            (words[at]! ^ w0)) !==
          0
        ) {
          if (key === 0) return 0;
          n++;
          continue;
        }
        hit[0] = words[(at + 6) | 0]!;
        if (words[(at + 7) | 0]! === mac1) return key >>> 24;
        tries++;
        n = 0;
      }
      return 0;
    };
    this.find = (w0, w1, w2, w3, ifindex) => {
      const at = (words[H_NEIGH6]! + ((hash6(seed, w0, w1, w2, w3, ifindex) & mask) << 3)) | 0;
      const mac1 = words[(at + 7) | 0]!;
      hit[1] = mac1;
      const key = words[(at + 4) | 0]!;
      if (
        (((key ^ ifindex) << 8) |
          (words[(at + 3) | 0]! ^ w3) |
          (words[(at + 2) | 0]! ^ w2) |
          (words[(at + 1) | 0]! ^ w1) |
          (words[at]! ^ w0)) !==
        0
      )
        return key === 0 ? 0 : probe(w0, w1, w2, w3, ifindex);
      hit[0] = words[(at + 6) | 0]!;
      return words[(at + 7) | 0]! === mac1 ? key >>> 24 : probe(w0, w1, w2, w3, ifindex);
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
}
