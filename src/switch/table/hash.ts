// The table's hash: seeded, so that nobody outside can choose what collides. The low bits choose a slot, the high ones are
// the tag in it.

export function hash4(seed: number, dst: number, src: number, ports: number, meta: number): number {
  let h = Math.imul(dst ^ seed, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15) ^ src, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13) ^ ports, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 16) ^ meta, 0x27d4eb2f);
  return h ^ (h >>> 15);
}

/** The same for IPv6: each address's words in a row of their own, side by side; then as for IPv4. */
export function hash6(
  seed: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  ports: number,
  meta: number,
): number {
  let d = Math.imul(d0 ^ seed, 0x9e3779b1);
  let s = Math.imul(s0 ^ seed, 0xc2b2ae35);
  d = Math.imul(d ^ (d >>> 15) ^ d1, 0x85ebca6b);
  s = Math.imul(s ^ (s >>> 16) ^ s1, 0x27d4eb2f);
  d = Math.imul(d ^ (d >>> 13) ^ d2, 0xc2b2ae35);
  s = Math.imul(s ^ (s >>> 15) ^ s2, 0x9e3779b1);
  return hash4(seed, d ^ (d >>> 16) ^ d3, s ^ (s >>> 13) ^ s3, ports, meta);
}
