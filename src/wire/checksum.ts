// The Internet checksum (RFC 1071) over aligned words. Sums are of 16-bit halves as they lie in memory, so results
// are in memory order too and go back into a frame as they are: no byte swap anywhere.

/** `sum` (at most 31 bits) folded to 16 bits. */
export const fold = (sum: number): number => {
  const s = (sum & 0xffff) + (sum >>> 16);
  return (s & 0xffff) + (s >>> 16);
};

/**
 * The one's complement sum, not folded, of `bytes` bytes from byte `off` (even) of `words`, on top of `sum`.
 * At most 32 KiB in all, so that 31 bits suffice; bytes after the end of the range are not counted.
 */
export function sumBytes(words: Int32Array, off: number, bytes: number, sum: number): number {
  let at = off >>> 2;
  let left = bytes;
  let a = sum;
  if (off & 2 && left > 0) {
    const half = words[at++]! >>> 16;
    a += left === 1 ? half & 0xff : half;
    left -= 2;
  }
  let b = 0;
  for (; left >= 16; left -= 16, at += 4) {
    const w0 = words[at]!;
    const w1 = words[at + 1]!;
    const w2 = words[at + 2]!;
    const w3 = words[at + 3]!;
    a += (w0 & 0xffff) + (w0 >>> 16) + (w1 & 0xffff) + (w1 >>> 16);
    b += (w2 & 0xffff) + (w2 >>> 16) + (w3 & 0xffff) + (w3 >>> 16);
  }
  for (; left >= 4; left -= 4) {
    const w = words[at++]!;
    a += (w & 0xffff) + (w >>> 16);
  }
  if (left > 0) {
    const w = words[at]! & (0x7fffffff >>> (31 - left * 8));
    a += (w & 0xffff) + (w >>> 16);
  }
  return (a + b) | 0;
}
