// The table's hash: seeded, so that nobody outside can choose what collides. The low bits choose a bucket, the high ones
// are the tag in it. What does not depend on each other goes side by side, which is what makes it short.

export function hashOf(seed: number, dst: number, src: number, ports: number, meta: number): number {
  let d = Math.imul(dst ^ seed, 0x9e3779b1);
  let p = Math.imul(ports ^ seed, 0xc2b2ae35);
  d = Math.imul(d ^ (d >>> 15) ^ src, 0x85ebca6b);
  p = p ^ (p >>> 13) ^ meta;
  const h = Math.imul(d ^ (d >>> 16) ^ p, 0x27d4eb2f);
  return h ^ (h >>> 15);
}

/** An IPv6 address as a word: what `hashOf` takes in its place. */
export function fold(seed: number, a0: number, a1: number, a2: number, a3: number): number {
  let a = Math.imul(a0 ^ seed, 0x9e3779b1);
  a = Math.imul(a ^ (a >>> 15) ^ a1, 0x85ebca6b);
  a = Math.imul(a ^ (a >>> 13) ^ a2, 0xc2b2ae35);
  return a ^ (a >>> 16) ^ a3;
}

/** Two IPv4 addresses as one word. */
export const meet = (seed: number, dst: number, src: number): number =>
  Math.imul(src ^ seed, 0xc2b2ae35) ^ dst;

/** Of a destination alone, its high bits: an IPv4 address, or a folded one. */
export function hashDestination(seed: number, dst: number): number {
  const h = Math.imul(dst ^ seed, 0x9e3779b1);
  return Math.imul(h ^ (h >>> 15), 0x85ebca6b);
}

/** The tag of a hash, in each place of a bucket's word. */
export const tagsOf = (hash: number): number => Math.imul((hash >>> 25) | 0x80, 0x010101);

/** The places of a bucket that have one tag, as the high bits of their bytes; now and then one more before these. */
export const sameTags = (word: number, tags: number): number => {
  const x = word ^ tags;
  return (x - 0x010101) & ~x & 0x808080;
};

/** The first of them: 1, 2 or 3. */
export const firstOf = (same: number): number => Math.clz32(same) >>> 3;

/** Those that are left without that one. */
export const nextOf = (same: number): number => same & (0x7fffff >>> (Math.clz32(same) - 8));
