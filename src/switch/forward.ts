// The pass over what a client sends by memif. Most of it is sent to the card's own link-layer address for somebody else on the
// network, and is routed: what outbound.ts and route.ts do for any packet stands here in one function for the usual one, as
// in pass.ts for received ones: IPv4 with 20 bytes of header and no fragment, TCP or UDP, from an address of a match of the
// client's, to a neighbour that is known. Whatever is anything else leaves it by `other`, which works out on its own what is
// the matter. Frames are sent in their order.
//
// That a flow is the client's own, and goes to nobody on this host, two searches of the switch table tell. What they said is
// kept for FLOWS flows, as long as the table's version is the same: any change of it, and all is asked anew.
//
//   flow at (hash & mask) * 4 words:  source | destination | ports | the table's version
// Frames lie at 2 mod 4 (pass.ts has the picture). Sources: RFC 791 section 3.1, RFC 1812 section 5.2, RFC 1624.
import { Batch } from "../link/link.ts";
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
import { AF_INET } from "../wire/address.ts";
import { ETHERNET } from "../wire/ether.ts";
import { IPPROTO_TCP, IPPROTO_UDP } from "../wire/packet.ts";
import type { Core } from "./core.ts";
import { H_VERSION } from "./table/layout.ts";
import { FRESH, PORT_LONGEST, PORT_SRC_HEAD, PORT_SRC_TAIL } from "./transmit.ts";
import type { Wire } from "./wire.ts";

const SHORTEST = ETHERNET + 20 + 8;
const PLAIN = 0x1_0001; // NH_TYPE of a unicast route with one leg
const IHL_TOS = 0xff;
const FRAGMENT = 0xff3f << 16;
const FLOWS = 4096;

/** Takes the frames `0..n)` of a batch, which client `slot` has sent. Returns whether all of them are on their way. */
export type Forward = (slot: number, n: number) => boolean;

/**
 * @param frames the batch; the places of those that are sent get -1, where not all are
 * @param count told of all frames of a call and their bytes; @param other takes frame `i` instead
 */
export function makeForward(
  core: Core,
  wire: Wire,
  frames: Batch,
  alias4: number,
  count: (slot: number, frames: number, bytes: number) => void,
  other: (slot: number, i: number) => void,
): Forward {
  const { words, netbase, transmit, table } = core;
  const shared = table.words;
  const base = netbase.words;
  const route = netbase.fib4.lookup;
  const place = netbase.neigh4.place;
  const { port, ifindex } = transmit;
  const { off: offs, len: lens } = frames;
  const flows = new Int32Array(FLOWS * 4);
  const out = new Batch(offs.length);
  const { off: outOffs, len: outLens } = out;

  /** Whether a flow is the client's, to nobody here; if so it is kept as `at`. */
  const isForward = (slot: number, protocol: number, src: number, dst: number, ports: number, at: number) => {
    const version = shared[H_VERSION]!;
    if (table.find4(protocol, src, dst, (ports >>> 16) | (ports << 16)) !== slot) return false;
    if (core.foundPrefix() === 0) return false;
    core.touch();
    const isKept = core.isLasting; // one that lives by being touched is looked for each time
    if (table.mayHave4(dst) && table.find4(protocol, dst, src, ports) >= 0) return false;
    if (isKept) {
      flows[at] = src;
      flows[at + 1] = dst;
      flows[at + 2] = ports;
      flows[at + 3] = version ^ (slot << 8) ^ protocol;
    }
    return true;
  };

  return (slot, n) => {
    const longest = port[PORT_LONGEST]!;
    const card0 = port[PORT_SRC_HEAD]!;
    const srcTail = port[PORT_SRC_TAIL]!;
    const mac0 = core.mac0(slot);
    const to4 = card0 & 0xffff;
    const to3 = (card0 >>> 16) | (srcTail << 16); // word -3 of a frame to the card
    const from1 = (core.mac1(slot) & 0xffff) | (srcTail & ~0xffff); // word -1 of an IPv4 frame from the client
    const mark = shared[H_VERSION]! ^ (slot << 8);
    let kept = 0;
    let bytes = 0;
    let seen = 0;
    let isAll = true;
    for (let i = 0; i < n; i = (i + 1) | 0) {
      const off = offs[i]!;
      const len = lens[i]!;
      const ip = (off + ETHERNET) >>> 2;
      seen = (seen + len) | 0;

      // In: IPv4, whole, from the client, to us?
      const w0 = words[ip]!;
      const w1 = words[ip + 1]!;
      const w2 = words[ip + 2]!;
      const src = words[ip + 3]!;
      const dst = words[ip + 4]!;
      const ports = words[ip + 5]!;
      const total = ((w0 >>> 8) & 0xff00) | (w0 >>> 24);
      const protocol = (w2 >>> 8) & 0xff;
      const all = (((((w0 + w1) | 0) + w2) | 0) + ((src + dst) | 0)) | 0;
      const high =
        ((((w0 >>> 16) + (w1 >>> 16)) | 0) + ((((w2 >>> 16) + (src >>> 16)) | 0) + (dst >>> 16))) | 0;
      const sum = (high + ((all - (high << 16)) | 0)) | 0;
      if (
        len >= SHORTEST &&
        len <= longest &&
        (((words[ip - 4]! >>> 16) ^ to4) |
          (words[ip - 3]! ^ to3) |
          (words[ip - 2]! ^ mac0) |
          (words[ip - 1]! ^ from1)) ===
          0 &&
        (w0 & IHL_TOS) === 0x45 &&
        total <= len - ETHERNET &&
        (sum & 0xffff) + (sum >>> 16) === 0xffff &&
        (w1 & FRAGMENT) === 0 &&
        (w2 & 0xff) > 1 && // a hop is left
        ((protocol === IPPROTO_UDP && total >= 28) || (protocol === IPPROTO_TCP && total >= 40)) &&
        (dst & 0xff) < 0xe0 &&
        dst !== src &&
        dst !== alias4
      ) {
        let hash =
          Math.imul(dst ^ (dst >>> 16), 0x9e3779b1) ^ src ^ Math.imul(ports ^ (ports >>> 15), 0x85ebca6b);
        hash = (hash ^ (hash >>> 15)) & (FLOWS - 1);
        const flow = hash << 2;
        if (
          (flows[flow] === src &&
            flows[flow + 1] === dst &&
            flows[flow + 2] === ports &&
            flows[flow + 3] === (mark ^ protocol)) ||
          isForward(slot, protocol, src, dst, ports, flow)
        ) {
          // Out: route, next hop, neighbour; as in pass.ts.
          const nh = route(dst);
          const mtu = base[nh + NH_MTU]!;
          const via = base[nh + NH_LINK]! & 0xff;
          const next = via === 0 ? dst : base[nh + NH_GATEWAY]!;
          const neigh = place(next, ifindex);
          const near1 = base[neigh + NEIGH4_MAC1]!;
          const key = base[neigh + NEIGH4_KEY]!;
          const near0 = base[neigh + NEIGH4_MAC0]!;
          if (
            (base[nh + NH_TYPE]! & ~NH_PREFSRC) === PLAIN &&
            base[nh + NH_OIF] === ifindex &&
            (mtu === 0 || total <= mtu) &&
            via <= AF_INET &&
            base[neigh] === next &&
            (key & NEIGH_IFINDEX_MASK) === ifindex &&
            (key & (FRESH << 24)) !== 0 &&
            (near1 & 0x10000) === 0
          ) {
            const check = (w2 >>> 16) + 1; // one hop less
            words[ip - 4] = near0 << 16;
            words[ip - 3] = (near0 >>> 16) | (near1 << 16);
            words[ip - 2] = card0;
            words[ip - 1] = srcTail;
            words[ip + 2] = ((w2 & 0xffff) - 1) | ((check + (check >>> 16)) << 16);
            // The neighbour's entry is whole if its sequence number is the same after the stores: pass.ts says why.
            if (base[neigh + NEIGH4_MAC1] === near1) {
              if (!isAll) offs[i] = -1;
              outOffs[kept] = off;
              outLens[kept] = len;
              kept = (kept + 1) | 0;
              bytes = (bytes + len) | 0;
              continue;
            }
            words[ip - 4] = card0 << 16; // as it was
            words[ip - 3] = to3;
            words[ip - 2] = mac0;
            words[ip - 1] = from1;
            words[ip + 2] = w2;
          }
        }
      }
      // Whoever sees it now sees what came before it gone.
      if (isAll) offs.fill(-1, 0, i);
      isAll = false;
      out.n = kept;
      wire.transmit(slot, out, bytes);
      kept = bytes = 0;
      other(slot, i);
    }
    out.n = kept;
    wire.transmit(slot, out, bytes);
    count(slot, n, seen);
    return isAll;
  };
}
