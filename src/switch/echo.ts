// The embedded UDP echo service (RFC 862), the first userspace endpoint: checks a received frame and turns it, in
// place, into its answer. The Ethernet header and the rest of the way out are transmit.ts's.
//
// Words of a frame (little-endian over memory; IPv4 starts at byte 14, so addresses and ports straddle words):
//   0..2  Ethernet addresses        5  fragment | ttl | protocol    8  dst low | source port
//   3  ethertype | ver, ihl | tos   6  checksum | src high          9  destination port | UDP length
//   4  total length | id            7  src low | dst high          10  UDP checksum | payload...
// Sources: RFC 791 section 3.1, RFC 768, RFC 1071.
import type { Batch } from "../link/link.ts";
import { fold, sumBytes } from "../wire/checksum.ts";
import { Drop } from "./drops.ts";
import type { MatchTable } from "./match.ts";

const ETHERNET = 14;
const IPPROTO_UDP = 17;

/** The bytes of a 16-bit half swapped: between memory and host order. */
const swap16 = (half: number): number => ((half & 0xff) << 8) | (half >>> 8);

/**
 * Rare: takes an IPv4 header's options out, by moving what stands before them towards the payload.
 * Returns the frame's new offset, or the negative drop reason. Also finds every other fault of the first header word.
 */
function withoutOptions(words: Int32Array, off: number, len: number): number {
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
  words[q + 8] = (words[q + 8]! & 0xffff_0000) | (words[p + 8]! & 0xffff);
  for (let w = 7; w >= 0; w--) words[q + w] = words[p + w]!;
  words[q + 3] = (words[q + 3]! & ~0x0f_0000) | 0x05_0000;
  words[q + 4] = (words[q + 4]! & 0xffff_0000) | swap16(total - options);
  words[q + 6] = words[q + 6]! & 0xffff_0000;
  words[q + 6] = words[q + 6]! | (~fold(sumBytes(words, off + options + ETHERNET, 20, 0)) & 0xffff);
  return off + options;
}

export class Echo {
  private readonly words: Int32Array;
  private readonly matches: MatchTable;
  private readonly partial: boolean;
  /** The card's own address as words: bytes 0..3, then bytes 4 and 5. The loop keeps it current. */
  mac0 = 0;
  mac1 = 0;

  /** @param partial accept UDP checksums that the sender's kernel left to the card: veth has none to do it */
  constructor(words: Int32Array, matches: MatchTable, partial: boolean) {
    this.words = words;
    this.matches = matches;
    this.partial = partial;
  }

  /** Turns frame `i` of the batch into its answer, but for the Ethernet header. Returns 0, or the drop reason. */
  answer(batch: Batch, i: number): number {
    const { words } = this;
    let off = batch.off[i]!;
    let len = batch.len[i]!;
    if (len < 42) return Drop.runt;
    let p = off >>> 2;
    if (words[p] !== this.mac0 || (words[p + 1]! & 0xffff) !== this.mac1) return Drop.other_host;
    if ((words[p + 3]! & 0xff_ffff) !== 0x45_0008) {
      const moved = withoutOptions(words, off, len);
      if (moved < 0) return -moved;
      len -= moved - off;
      off = moved;
      p = off >>> 2;
    }
    const w3 = words[p + 3]!;
    const w4 = words[p + 4]!;
    const w5 = words[p + 5]!;
    const w6 = words[p + 6]!;
    const w7 = words[p + 7]!;
    const w8 = words[p + 8]!;
    const w9 = words[p + 9]!;

    const total = swap16(w4 & 0xffff);
    if (total < 28 || total > len - ETHERNET) return Drop.bad_header;
    const src = (w6 >>> 16) | (w7 << 16);
    const dst = (w7 >>> 16) | (w8 << 16);
    // Both addresses in halves: also the UDP pseudo header's part.
    const addresses = (w6 >>> 16) + (w7 & 0xffff) + (w7 >>> 16) + (w8 & 0xffff);
    const header = (w3 >>> 16) + (w4 & 0xffff) + (w4 >>> 16) + (w5 & 0xffff) + (w5 >>> 16) + (w6 & 0xffff);
    if (fold(header + addresses) !== 0xffff) return Drop.bad_ip_checksum;
    if ((w5 & 0xff3f) !== 0) return Drop.fragment;
    if (w5 >>> 24 !== IPPROTO_UDP) return Drop.not_udp;
    const udpBytes = swap16(w9 >>> 16);
    if (udpBytes < 8 || udpBytes > total - 20) return Drop.bad_udp_length;
    const sport = w8 >>> 16;
    const dport = w9 & 0xffff;
    if (this.matches.find(dst, dport | (IPPROTO_UDP << 16)) < 0) return Drop.no_match;
    if (sport === dport) return Drop.echo_loop;

    // The answer's checksum is the question's: swapping addresses and ports does not change the sum.
    const w10 = words[p + 10]!;
    const pseudo = addresses + (IPPROTO_UDP << 8) + (w9 >>> 16);
    const rest =
      sport + dport + (w9 >>> 16) + ((w10 >>> 16) & (udpBytes === 8 ? 0 : udpBytes === 9 ? 0xff : 0xffff));
    const sum = fold(sumBytes(words, off + 44, udpBytes - 10, pseudo + rest));
    const given = w10 & 0xffff;
    const checksum = sum === 0xffff ? 0xffff : ~sum & 0xffff; // 0 means "none": RFC 768
    if (given !== checksum && given !== 0 && !(this.partial && given === fold(pseudo)))
      return Drop.bad_udp_checksum;

    // IPv4: version 4, 20 bytes, tos 0, id 0 with "don't fragment" (RFC 6864 section 4.1), ttl 64.
    const w4out = swap16(20 + udpBytes);
    const ip = fold(0x0045 + w4out + 0x0040 + 0x1140 + addresses);
    words[p + 3] = 0x0045_0008;
    words[p + 4] = w4out;
    words[p + 5] = 0x1140_0040;
    words[p + 6] = (~ip & 0xffff) | (dst << 16);
    words[p + 7] = (dst >>> 16) | (src << 16);
    words[p + 8] = (src >>> 16) | (dport << 16);
    words[p + 9] = (w9 & 0xffff_0000) | sport;
    words[p + 10] = (w10 & 0xffff_0000) | checksum;
    batch.off[i] = off;
    batch.len[i] = ETHERNET + 20 + udpBytes;
    return 0;
  }
}
