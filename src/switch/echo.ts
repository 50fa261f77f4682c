// What is rare on the way in, worked out again from the frame: a frame that can be made a plain one, or the reason why
// none of our services takes it. The rest of the echo service (RFC 862) is one piece with the way out, in pass.ts.
import type { Batch } from "../link/link.ts";
import { fold, sumBytes } from "../wire/checksum.ts";
import { Drop } from "./drops.ts";
import type { MatchTable } from "./match.ts";
import { PORT_DST_HEAD, PORT_DST_TAIL } from "./transmit.ts";

export const ETHERNET = 14;
export const SHORTEST = ETHERNET + 20 + 8;
const IPPROTO_UDP = 17;

/** The bytes of a 16-bit half swapped: between memory and host order. */
const swap16 = (half: number): number => ((half & 0xff) << 8) | (half >>> 8);

/**
 * For a frame that the pass cannot take as it is. Returns the drop reason; or 0, and the frame is now a plain one, at
 * `batch.off[i]` with `batch.len[i]` bytes: aligned, without priority tags (802.1Q, VLAN 0) and IPv4 options.
 */
export function makeDecline(
  batch: Batch,
  words: Int32Array,
  matches: MatchTable,
  port: Int32Array,
): (i: number) => number {
  const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  const half = (at: number) => bytes[at]! | (bytes[at + 1]! << 8);

  return function decline(i) {
    let off = batch.off[i]!;
    let len = batch.len[i]!;
    if (len < SHORTEST) return Drop.runt;
    // Forth from the start of a frame, never back: what is in front of it may be another's.
    const shift = (off & 3) === 2 ? 0 : ((off + 1) & ~3) - off + 2;
    if (shift !== 0) bytes.copyWithin(off + shift, off, off + len);
    const start = off;
    off += shift;
    const ip = (off + ETHERNET) >>> 2;
    if ((words[ip - 4]! & ~0xffff) !== port[PORT_DST_HEAD] || words[ip - 3] !== port[PORT_DST_TAIL])
      return Drop.other_host;
    for (let tags = 0; tags < 2 && len >= SHORTEST + 4; tags++) {
      const type = half(off + 12);
      if ((type !== 0x0081 && type !== 0xa888) || (half(off + 14) & 0xff0f) !== 0) break;
      bytes.copyWithin(off + 4, off, off + 12);
      off += 4;
      len -= 4;
    }
    if (half(off + 12) !== 0x0008) return Drop.not_ipv4;
    const header = (bytes[off + 14]! & 15) * 4;
    const total = swap16(half(off + 16));
    if (bytes[off + 14]! >>> 4 !== 4 || header < 20 || total < header + 8 || total > len - ETHERNET)
      return Drop.bad_header;
    if (fold(sumBytes(words, off + ETHERNET, header, 0)) !== 0xffff) return Drop.bad_ip_checksum;
    const options = header - 20;
    const protocol = bytes[off + 23]!;
    const fragment = half(off + 20) & 0xff3f;
    const udp = swap16(half(off + header + 18));
    // A datagram shorter than its packet: what is behind it is no part of it.
    const whole =
      protocol === IPPROTO_UDP && fragment === 0 && udp >= 8 && udp < total - header
        ? udp + 20
        : total - options;
    if (options > 0 || whole !== total) {
      bytes.copyWithin(off + options, off, off + ETHERNET + 20);
      off += options;
      len -= options;
      const ip = (off + ETHERNET) >>> 2;
      words[ip] = (words[ip]! & 0xff00) | 0x45 | (swap16(whole) << 16);
      words[ip + 2] = words[ip + 2]! & 0xffff;
      words[ip + 2] = words[ip + 2]! | (~fold(sumBytes(words, off + ETHERNET, 20, 0)) << 16);
      batch.off[i] = off;
      batch.len[i] = len;
      return 0;
    }
    if (off !== start) {
      batch.off[i] = off;
      batch.len[i] = len;
      return 0;
    }
    if (fragment !== 0) return Drop.fragment;
    if (protocol !== IPPROTO_UDP) return Drop.not_udp;
    if (udp < 8 || udp > total - 20) return Drop.bad_udp_length;
    if (matches.find(words[(off + 30) >>> 2]!, half(off + 36) | (IPPROTO_UDP << 16)) < 0)
      return Drop.no_match;
    return Drop.echo_loop;
  };
}

/**
 * For a datagram whose sum, its checksum included, is not all ones, or that has no checksum. Returns the drop reason; or 0,
 * and it has the right one now. @param partial take what the sender's kernel left to the card (pseudo header only)
 */
export function makeChecksum(words: Int32Array, partial: boolean): (ip: number, sum: number) => number {
  return function checksum(ip, sum) {
    const w6 = words[ip + 6]!;
    const given = w6 >>> 16;
    const pseudo = fold(sumBytes(words, (ip + 3) << 2, 8, (IPPROTO_UDP << 8) + (w6 & 0xffff)));
    if (given !== 0 && !(partial && given === pseudo)) return Drop.bad_udp_checksum;
    const wanted = ~fold(sum - given) & 0xffff;
    words[ip + 6] = (w6 & 0xffff) | ((wanted || 0xffff) << 16); // 0 would mean "none": RFC 768
    return 0;
  };
}
