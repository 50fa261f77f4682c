// The pass: one loop over a batch, from received frame to frame ready to send. UDP echo in (RFC 862), routed out.
// Everything that happens to every frame stands here in one function, because that is what makes it fast: locals
// instead of calls, closed-over views instead of fields (half the time a frame, see `bun bench loop`). What is rare
// is called: withoutExtras (echo.ts), and what transmit.ts knows.
//
// Words of a frame (little-endian over memory; IPv4 starts at byte 14, so addresses and ports straddle words):
//   0..2  Ethernet addresses        5  fragment | ttl | protocol    8  dst low | source port
//   3  ethertype | ver, ihl | tos   6  checksum | src high          9  destination port | UDP length
//   4  total length | id            7  src low | dst high          10  UDP checksum | payload...
// Checksums are sums of halves in memory order, as they lie (RFC 1071). Sources: RFC 791 section 3.1, RFC 768.
import type { Batch, Link } from "../link/link.ts";
import { NH_GATEWAY, NH_LINK, NH_MTU, NH_OIF, NH_SPECIAL, NH_TYPE } from "../netbase/layout.ts";
import type { NetbaseReader } from "../netbase/netbase.ts";
import { fold } from "../wire/checksum.ts";
import { SIMD_BYTES, simdSum } from "../wire/simd.ts";
import { Drop } from "./drops.ts";
import { withoutExtras } from "./echo.ts";
import type { MatchTable } from "./match.ts";
import {
  FRESH,
  PORT_LONGEST,
  PORT_MAC0,
  PORT_MAC1,
  PORT_SRC_HEAD,
  PORT_SRC_TAIL,
  type Transmit,
} from "./transmit.ts";

const ETHERNET = 14;
const IPPROTO_UDP = 17;
const RTN_UNICAST = 1;

/**
 * Makes the pass over a link's memory. It leaves `batch.off/len[0..n)` the frames to send, `batch.dropped` the others,
 * sets its byte counts, and adds to `counts` by Drop.* (not 0).
 * @param partial accept UDP checksums that the sender's kernel left to the card: veth has none to do it
 */
export function makePass(
  link: Link,
  matches: MatchTable,
  netbase: NetbaseReader,
  transmit: Transmit,
  partial: boolean,
  counts: Int32Array,
): (batch: Batch) => void {
  const { words } = link;
  const wide = simdSum(link.memory);
  const base = netbase.words;
  const { fib4, neigh4 } = netbase;
  const { port, ifindex } = transmit;

  return function pass(batch: Batch): void {
    const { off: offs, len: lens, dropped, n } = batch;
    let kept = 0;
    let drops = 0;
    let rxBytes = 0;
    let txBytes = 0;
    for (let i = 0; i < n; i++) {
      let off = offs[i]!;
      let len = lens[i]!;
      rxBytes = (rxBytes + len) | 0;
      let reason = 0;
      // biome-ignore lint/suspicious/noConfusingLabels: one way out for every reason, without a call a frame
      frame: {
        // Ethernet and IPv4 in.
        if (len < 42) {
          reason = Drop.runt;
          break frame;
        }
        let p = off >>> 2;
        if (words[p] !== port[PORT_MAC0] || (words[p + 1]! & 0xffff) !== port[PORT_MAC1]) {
          reason = Drop.other_host;
          break frame;
        }
        if ((words[p + 3]! & 0xff_ffff) !== 0x45_0008) {
          const moved = withoutExtras(words, off, len);
          if (moved < 0) {
            reason = -moved;
            break frame;
          }
          len = (len - moved + off) | 0;
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
        const total = ((w4 & 0xff) << 8) | ((w4 >>> 8) & 0xff);
        if (total < 28 || total > len - ETHERNET) {
          reason = Drop.bad_header;
          break frame;
        }
        const src = (w6 >>> 16) | (w7 << 16);
        const dst = (w7 >>> 16) | (w8 << 16);
        const addresses = (w6 >>> 16) + (w7 & 0xffff) + ((w7 >>> 16) + (w8 & 0xffff));
        const header =
          (w3 >>> 16) + (w4 & 0xffff) + ((w4 >>> 16) + (w5 & 0xffff)) + ((w5 >>> 16) + (w6 & 0xffff));
        const check = header + addresses; // below 2^20: one fold tells
        if ((check & 0xffff) + (check >>> 16) !== 0xffff) {
          reason = Drop.bad_ip_checksum;
          break frame;
        }
        if ((w5 & 0xff3f) !== 0) {
          reason = Drop.fragment;
          break frame;
        }
        if (w5 >>> 24 !== IPPROTO_UDP) {
          reason = Drop.not_udp;
          break frame;
        }

        // UDP in: whose is it, and is it whole?
        const udpBytes = ((w9 >>> 8) & 0xff00) | (w9 >>> 24);
        if (udpBytes < 8 || udpBytes > total - 20) {
          reason = Drop.bad_udp_length;
          break frame;
        }
        const sport = w8 >>> 16;
        const dport = w9 & 0xffff;
        if (matches.find(dst, dport | (IPPROTO_UDP << 16)) < 0) {
          reason = Drop.no_match;
          break frame;
        }
        if (sport === dport) {
          reason = Drop.echo_loop;
          break frame;
        }
        // The answer's checksum is the question's: swapping addresses and ports does not change the sum.
        const w10 = words[p + 10]!;
        const pseudo = addresses + (IPPROTO_UDP << 8) + (w9 >>> 16);
        let sum = pseudo + sport + dport + (w9 >>> 16);
        if (udpBytes > 9) {
          sum += w10 >>> 16;
          let left = udpBytes - 10;
          if (left >= SIMD_BYTES) sum = wide(off + 44, left, sum);
          else {
            let at = p + 11;
            for (; left >= 4; left -= 4) {
              const w = words[at++]!;
              sum = (sum + ((w & 0xffff) + (w >>> 16))) | 0;
            }
            if (left > 0) {
              const w = words[at]! & (0x7fffffff >>> (31 - (left << 3)));
              sum = (sum + ((w & 0xffff) + (w >>> 16))) | 0;
            }
          }
        } else if (udpBytes === 9) sum += (w10 >>> 16) & 0xff;
        sum = fold(sum);
        const checksum = sum === 0xffff ? 0xffff : ~sum & 0xffff; // 0 would mean "none": RFC 768
        const given = w10 & 0xffff;
        if (given !== checksum && given !== 0 && !(partial && given === fold(pseudo))) {
          reason = Drop.bad_udp_checksum;
          break frame;
        }

        // UDP and IPv4 out: 20 bytes, tos 0, id 0 with "don't fragment" (RFC 6864 section 4.1), ttl 64.
        const length = 20 + udpBytes;
        const lengthHalf = ((length & 0xff) << 8) | (length >>> 8);
        words[p + 3] = 0x0045_0008;
        words[p + 4] = lengthHalf;
        words[p + 5] = 0x1140_0040;
        words[p + 6] = (~fold(0x0045 + 0x0040 + 0x1140 + lengthHalf + addresses) & 0xffff) | (dst << 16);
        words[p + 7] = (dst >>> 16) | (src << 16);
        words[p + 8] = (src >>> 16) | (dport << 16);
        words[p + 9] = (w9 & ~0xffff) | sport;
        words[p + 10] = (w10 & ~0xffff) | checksum;
        len = ETHERNET + length;

        // Route, next hop, neighbour, Ethernet out.
        let nh = fib4.lookup(src);
        if (nh === 0) {
          reason = Drop.no_route;
          break frame;
        }
        if ((base[nh + NH_TYPE]! & NH_SPECIAL) !== 0) {
          nh = transmit.select(p, src, nh);
          if (nh === 0) {
            reason = Drop.no_route;
            break frame;
          }
        }
        const mtu = base[nh + NH_MTU]!;
        if (
          (base[nh + NH_TYPE]! & 0xff) !== RTN_UNICAST ||
          base[nh + NH_OIF] !== ifindex ||
          len > port[PORT_LONGEST]! ||
          (mtu !== 0 && len > mtu + ETHERNET)
        ) {
          reason = transmit.refusal(nh, len);
          if (reason === 0 && (base[nh + NH_TYPE]! & 0xff) !== RTN_UNICAST) reason = Drop.bad_source;
          if (reason !== 0) break frame;
        }
        const via = base[nh + NH_LINK]! & 0xff;
        // AF_INET6 (RTA_VIA) goes the slow way.
        const state = via <= 2 ? neigh4.find(via === 0 ? src : base[nh + NH_GATEWAY]!, ifindex) : 0;
        if (state <= 0) {
          reason = transmit.unresolved(p, src, nh);
          if (reason !== 0) break frame;
        } else {
          if ((state & FRESH) === 0) transmit.inUse(src, nh);
          words[p] = neigh4.mac0;
          words[p + 1] = (neigh4.mac1 & 0xffff) | port[PORT_SRC_HEAD]!;
          words[p + 2] = port[PORT_SRC_TAIL]!;
        }
      }
      if (reason === 0) {
        txBytes = (txBytes + len) | 0;
        offs[kept] = off;
        lens[kept++] = len;
      } else {
        counts[reason] = counts[reason]! + 1;
        dropped[drops++] = off;
      }
    }
    batch.n = kept;
    batch.drops = drops;
    batch.rxBytes = rxBytes;
    batch.txBytes = txBytes;
  };
}
