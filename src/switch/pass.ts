// The pass: one loop over a batch, from received frame to frame ready to send. UDP echo in (RFC 862), routed out.
// Everything that happens to every frame stands here in one function, because that is what makes it fast: locals
// instead of calls, closed-over constants instead of fields (half the time a frame, see `bun bench loop`). The usual way
// is straight, 450 instructions; whatever is not usual leaves it by one of three calls, which work out on their own what
// was the matter: other (in), checksum (UDP), unusual (out). They cost nothing until they happen.
// What counts is instructions, not memory: overflow checks (`| 0` has none), array lengths and bases (constants have
// none) and spilled registers (values are used soon). Together with the layout: 40 -> 30.5 ns.
//
// A frame starts at 2 mod 4, so that IPv4 and UDP lie in whole words (NET_IP_ALIGN). From its word `ip`:
//   -4  (before it) | dst 0, 1    0  ver, ihl | tos | total length    3  source          6  UDP length | checksum
//   -3  dst 2..5                  1  id | fragment                    4  destination     7  payload...
//   -2  src 0..3                  2  ttl | protocol | checksum        5  ports
//   -1  src 4, 5 | ethertype
// Words are little-endian over memory. Sums are of halves as they lie (RFC 1071): the high halves in `high`, and the
// whole words, wrapping, in `all`; what `all` has more than `high` << 16 is the sum of the low halves. Three operations a
// word instead of four. Sources: RFC 791 section 3.1, RFC 768.
import type { Batch, Link } from "../link/link.ts";
import {
  NEIGH4_KEY,
  NEIGH4_MAC0,
  NEIGH4_MAC1,
  NEIGH_IFINDEX_MASK,
  NH_GATEWAY,
  NH_LINK,
  NH_MTU,
  NH_OIF,
  NH_PREFSRC,
  NH_TYPE,
} from "../netbase/layout.ts";
import type { NetbaseReader } from "../netbase/netbase.ts";
import { AF_INET } from "../wire/address.ts";
import { SIMD_BYTES, simdSum } from "../wire/simd.ts";
import { HELD, SEND } from "./core.ts";
import { ETHERNET, makeChecksum, makeDecline, SHORTEST } from "./echo.ts";
import type { MatchTable } from "./match.ts";
import type { Switch } from "./switch.ts";
import {
  FRESH,
  PORT_DST_HEAD,
  PORT_DST_TAIL,
  PORT_LONGEST,
  PORT_SRC_HEAD,
  PORT_SRC_TAIL,
  type Transmit,
} from "./transmit.ts";

// Places in the tally (LOOP_COUNTERS); reasons are numbered from 1.
const RX_PACKETS = 0;
const RX_BYTES = 1;
export const TX_BYTES = 3;
export const REASONS = 3;

const IPPROTO_UDP = 17;
const FRAGMENT = 0xff3f << 16;
const PLAIN = 0x1_0001; // NH_TYPE of a unicast route with one leg

/**
 * Makes the pass over a batch of a link's frames. It leaves `batch.off/len[0..n)` the frames to send and `batch.dropped`
 * the others, and adds to `tally`: frames and bytes received, bytes to send, drops by reason.
 * @param partial accept UDP checksums that the sender's kernel left to the card: veth has none to do it
 * @param others takes the frames that no service here does
 */
export function makePass(
  batch: Batch,
  link: Link,
  matches: MatchTable,
  netbase: NetbaseReader,
  transmit: Transmit,
  partial: boolean,
  tally: Int32Array,
  others?: Switch,
): () => void {
  const { words } = link;
  const wide = simdSum(link.memory);
  const decline = makeDecline(batch, words, matches, transmit.port);
  const other = others === undefined ? decline : others.other(batch, decline);
  const base = netbase.words;
  const route = netbase.fib4.lookup;
  const place = netbase.neigh4.place;
  const checksum = makeChecksum(words, partial);
  const match = matches.find;
  const { port, ifindex } = transmit;
  const { off: offs, len: lens, dropped } = batch;

  return function pass(): void {
    const { n } = batch;
    const dstHead = port[PORT_DST_HEAD]!;
    const dstTail = port[PORT_DST_TAIL]!;
    const srcHead = port[PORT_SRC_HEAD]!;
    const srcTail = port[PORT_SRC_TAIL]!;
    const longest = port[PORT_LONGEST]!;
    let kept = 0;
    let drops = 0;
    let rxBytes = 0;
    let txBytes = 0;
    for (let i = 0; i < n; i++) {
      const off = offs[i]!;
      const len = lens[i]!;
      rxBytes = (rxBytes + len) | 0;
      const ip = (off + ETHERNET) >>> 2;

      // In: an IPv4 datagram for us, whole, and for one of our services?
      const w6 = words[ip + 6]!;
      const w0 = words[ip]!;
      const w1 = words[ip + 1]!;
      const w2 = words[ip + 2]!;
      const src = words[ip + 3]!;
      const dst = words[ip + 4]!;
      const ports = words[ip + 5]!;
      const total = ((w0 >>> 8) & 0xff00) | (w0 >>> 24);
      const tops = ((src >>> 16) + (dst >>> 16)) | 0;
      const addresses = (tops + ((((src + dst) | 0) - (tops << 16)) | 0)) | 0;
      const high = ((((w0 >>> 16) + (w1 >>> 16)) | 0) + (w2 >>> 16)) | 0;
      const header = (((addresses + high) | 0) + ((((((w0 + w1) | 0) + w2) | 0) - (high << 16)) | 0)) | 0;
      let reason = 0;
      if (
        len >= SHORTEST &&
        (off & 3) === 2 &&
        (words[ip - 4]! & ~0xffff) === dstHead &&
        words[ip - 3] === dstTail &&
        words[ip - 1]! >>> 16 === 0x0008 &&
        (w0 & 0xff) === 0x45 &&
        total <= len - ETHERNET &&
        (header & 0xffff) + (header >>> 16) === 0xffff &&
        (w1 & FRAGMENT) === 0 &&
        (w2 & 0xff00) === IPPROTO_UDP << 8 &&
        (((w6 & 0xff) << 8) | ((w6 >>> 8) & 0xff)) === total - 20 &&
        total >= 28 &&
        match(dst, (ports >>> 16) | (IPPROTO_UDP << 16)) >= 0 &&
        (ports & 0xffff) !== ports >>> 16
      ) {
        // UDP's sum, its checksum included, is all ones. The length counts twice, here and in the pseudo header.
        let sum = (addresses + (IPPROTO_UDP << 8)) | 0;
        let all = (((ports + w6) | 0) + (w6 & 0xffff)) | 0;
        let highs = ((ports >>> 16) + (w6 >>> 16)) | 0;
        let left = (total - 28) | 0;
        let at = (ip + 7) | 0;
        if (left >= SIMD_BYTES) sum = wide(at << 2, left, sum);
        else {
          for (; left >= 16; left = (left - 16) | 0) {
            const d = words[at + 3]!;
            const a = words[at]!;
            const b = words[at + 1]!;
            const c = words[at + 2]!;
            at = (at + 4) | 0;
            all = (all + ((((a + b) | 0) + ((c + d) | 0)) | 0)) | 0;
            highs = (highs + (((((a >>> 16) + (b >>> 16)) | 0) + (((c >>> 16) + (d >>> 16)) | 0)) | 0)) | 0;
          }
          for (; left >= 4; left = (left - 4) | 0) {
            const a = words[at]!;
            at = (at + 1) | 0;
            all = (all + a) | 0;
            highs = (highs + (a >>> 16)) | 0;
          }
          if (left > 0) {
            const a = words[at]! & (0x7fffffff >>> (31 - (left << 3)));
            all = (all + a) | 0;
            highs = (highs + (a >>> 16)) | 0;
          }
        }
        sum = (((sum + highs) | 0) + ((all - (highs << 16)) | 0)) | 0;
        if ((sum & 0xffff) + (sum >>> 16) !== 0xffff || w6 >>> 16 === 0) reason = checksum(ip, sum);
        if (reason === 0) {
          // Out: IPv4 with 20 bytes, tos 0, id 0 with "don't fragment" (RFC 6864 section 4.1), ttl 64; route, next hop, neighbour.
          const out = (0x0045 + 0x0040 + 0x1140 + (w0 >>> 16) + addresses) | 0;
          words[ip] = (w0 & ~0xffff) | 0x0045;
          words[ip + 1] = 0x0040_0000;
          words[ip + 2] = (~(out + ((out << 16) | (out >>> 16))) & ~0xffff) | 0x1140;
          words[ip + 3] = dst;
          words[ip + 4] = src;
          words[ip + 5] = (ports >>> 16) | (ports << 16);
          const length = (total + ETHERNET) | 0;
          const nh = route(src);
          const mtu = base[nh + NH_MTU]!;
          const via = base[nh + NH_LINK]! & 0xff;
          const next = via === 0 ? src : base[nh + NH_GATEWAY]!;
          const neigh = place(next, ifindex);
          // Its entry is whole if the sequence number in `mac1` is even, and the same after the header's stores, which also
          // keep the compiler from taking the second look for the first. A header written in vain does no harm.
          const mac1 = base[neigh + NEIGH4_MAC1]!;
          const key = base[neigh + NEIGH4_KEY]!;
          const mac0 = base[neigh + NEIGH4_MAC0]!;
          words[ip - 4] = mac0 << 16;
          words[ip - 3] = (mac0 >>> 16) | (mac1 << 16);
          words[ip - 2] = srcHead;
          words[ip - 1] = srcTail;
          if (
            !(
              (base[nh + NH_TYPE]! & ~NH_PREFSRC) === PLAIN &&
              base[nh + NH_OIF] === ifindex &&
              length <= longest &&
              (mtu === 0 || length <= mtu + ETHERNET) &&
              via <= AF_INET &&
              base[neigh] === next &&
              (key & NEIGH_IFINDEX_MASK) === ifindex &&
              (key & (FRESH << 24)) !== 0 &&
              base[neigh + NEIGH4_MAC1] === mac1
            )
          )
            reason = transmit.unusual(ip, src, nh, length);
          if (reason === 0) {
            txBytes = (txBytes + length) | 0;
            offs[kept] = off;
            lens[kept++] = length;
            continue;
          }
        }
      } else {
        reason = other(i);
        if (reason === 0) {
          // It was made a plain frame: once more, and counted as it came.
          rxBytes = (rxBytes - lens[i]!) | 0;
          i--;
          continue;
        }
        if (reason < 0) {
          if (reason === SEND) {
            txBytes = (txBytes + lens[i]!) | 0;
            offs[kept] = offs[i]!;
            lens[kept++] = lens[i]!;
          } else if (reason !== HELD) dropped[drops++] = offs[i]!;
          continue;
        }
      }
      tally[REASONS + reason] = tally[REASONS + reason]! + 1;
      dropped[drops++] = offs[i]!;
    }
    batch.n = kept;
    batch.drops = drops;
    tally[RX_PACKETS] = tally[RX_PACKETS]! + n;
    tally[RX_BYTES] = tally[RX_BYTES]! + rxBytes;
    tally[TX_BYTES] = tally[TX_BYTES]! + txBytes;
  };
}
