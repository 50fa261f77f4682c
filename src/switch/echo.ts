// What is rare on the way in: a priority tag, or an IPv4 header that is not the plain one. The rest of the echo service
// (RFC 862) is one piece with the way out, in pass.ts.
import { fold, sumBytes } from "../wire/checksum.ts";
import { Drop } from "./drops.ts";

const ETHERNET = 14;

/** The bytes of a 16-bit half swapped: between memory and host order. */
export const swap16 = (half: number): number => ((half & 0xff) << 8) | (half >>> 8);

/** Takes 802.1Q and 802.1ad tags of VLAN 0 out, which only carry a priority; returns the frame's new offset. */
function withoutTags(words: Int32Array, off: number, len: number): number {
  let p = off >>> 2;
  for (let tags = 0; tags < 2 && len >= (tags + 1) * 4 + 42; tags++) {
    const w3 = words[p + 3]!;
    const type = w3 & 0xffff;
    if ((type !== 0x0081 && type !== 0xa888) || (w3 & 0xff0f_0000) !== 0) break;
    for (let w = 2; w >= 0; w--) words[p + 1 + w] = words[p + w]!;
    p++;
  }
  return p << 2;
}

/**
 * For a frame whose bytes 12 to 14 are not "IPv4, version 4, no options": takes priority tags and options out, by
 * moving what stands before them towards the payload. Returns the frame's new offset, or the negative drop reason.
 */
export function withoutExtras(words: Int32Array, start: number, length: number): number {
  const off = withoutTags(words, start, length);
  const len = length - (off - start);
  const p = off >>> 2;
  const w3 = words[p + 3]!;
  if ((w3 & 0xffff) !== 0x0008) return -Drop.not_ipv4;
  const header = ((w3 >>> 16) & 0xf) * 4;
  const options = header - 20;
  const total = swap16(words[p + 4]! & 0xffff);
  if (((w3 >>> 20) & 0xf) !== 4 || options < 0) return -Drop.bad_header;
  if (total < header + 8 || total > len - ETHERNET) return -Drop.bad_header;
  if (fold(sumBytes(words, off + ETHERNET, header, 0)) !== 0xffff) return -Drop.bad_ip_checksum;
  const q = (off + options) >>> 2;
  words[q + 8] = (words[q + 8]! & ~0xffff) | (words[p + 8]! & 0xffff);
  for (let w = 7; w >= 0; w--) words[q + w] = words[p + w]!;
  words[q + 3] = (words[q + 3]! & ~0x0f_0000) | 0x05_0000;
  words[q + 4] = (words[q + 4]! & ~0xffff) | swap16(total - options);
  words[q + 6] = words[q + 6]! & ~0xffff;
  words[q + 6] = words[q + 6]! | (~fold(sumBytes(words, off + options + ETHERNET, 20, 0)) & 0xffff);
  return off + options;
}
