// Second loop of the pass: the way out of the card for the frames that have WIRE: route, next hop, neighbour; then one hop less,
// if they are forwarded, and the link-layer header of who is next. Those that cannot go are OTHER afterwards, as they were.
//
// Next hops that were good are kept with the place of their neighbour, as long as netbase has the same epoch: their records are
// the same then (mem/epoch.ts). A neighbour says itself whether it is the one.
// Sources: RFC 1812 section 5.2, RFC 1624 (the checksum of one hop less).
import { recordCode } from "../../netbase/code.ts";
import {
  type Layout as NetbaseLayout,
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
} from "../../netbase/layout.ts";
import { hash4Code, isOther4, probed, walkCode } from "../../netbase/probe.ts";
import { AF_INET } from "../../wire/address.ts";
import { ETHERNET } from "../../wire/ether.ts";
import {
  add,
  all,
  and,
  Func,
  isFrom,
  isSame,
  isUnlike,
  isUpTo,
  isZero,
  load,
  or,
  repeat,
  shl,
  shr,
  store,
  sub,
  vector,
  when,
  whenAll,
  xor,
} from "../../wire/wasm.ts";
import { FRESH } from "../transmit.ts";
import {
  ARG_CARD,
  ARG_HOPS,
  ARG_LESS,
  ARG_LINK,
  ARG_LOOK,
  CELLS,
  HOP_STAMP,
  HOP_NEAR,
  HOP_NEXT,
  HOP_RECORD,
  HOPS_LOG2,
  OTHER,
  type Places,
  totalOf,
  WAYS,
  WIRE,
} from "./places.ts";

const PLAIN = 0x1_0001; // NH_TYPE of a unicast route with one leg
const HOP_SHIFT = 4; // bytes of one
const RECORD_SHIFT = 2; // to that from a record's, which is 64

/** Makes frames `0..n)` that have WIRE ready for it; returns how many have something else then. */
export type Depart = (n: number) => number;

/** @param seed H_NEIGH_SEED; @param ifindex the card's */
export function makeDepart(
  memory: WebAssembly.Memory,
  at: Places,
  netbase: NetbaseLayout,
  seed: number,
  ifindex: number,
): Depart {
  const f = new Func("n");
  const { n } = f.parameters;
  const { p, end, way, left, ip, w0, w2, dst, nh, node } = f.locals(
    ...(["p", "end", "way", "left", "ip", "w0", "w2", "dst", "nh", "node"] as const),
  );
  const { hop, next, near, near0, near1, key, isMissing, slot, tries, check, less } = f.locals(
    ...([
      "hop",
      "next",
      "near",
      "near0",
      "near1",
      "key",
      "isMissing",
      "slot",
      "tries",
      "check",
      "less",
    ] as const),
  );
  const arg = (word: number) => load(at.args + word * 4);
  const ofHop = (word: number) => load(hop, word * 4);
  const ofRecord = (word: number) => load(nh, word * 4);

  const table = probed(netbase, at.netbase, false);
  const via = and(ofRecord(NH_LINK), 0xff);
  const total = totalOf(w0);
  const isGood = [
    isSame(and(ofRecord(NH_TYPE), ~NH_PREFSRC), PLAIN),
    isSame(ofRecord(NH_OIF), ifindex),
    isUpTo(sub(total, 1), sub(ofRecord(NH_MTU), 1)), // 0 is none
    isUpTo(via, AF_INET),
  ];
  // For a next hop that is not kept.
  const look = all(
    way.set(OTHER),
    whenAll(
      isGood,
      all(
        next.set(ofRecord(NH_GATEWAY)),
        when(isZero(via), next.set(dst)),
        hash4Code(slot, seed, next, ifindex),
        walkCode(table, slot, near, isOther4(table, near, next, ifindex), isMissing, tries),
        way.set(WIRE),
        // One with an MTU is looked at for each packet, one without a gateway for each destination.
        whenAll(
          [isZero(ofRecord(NH_MTU)), via],
          all(
            store(hop, nh, HOP_RECORD * 4),
            store(hop, arg(ARG_HOPS), HOP_STAMP * 4),
            store(hop, near, HOP_NEAR * 4),
            store(hop, next, HOP_NEXT * 4),
          ),
        ),
      ),
    ),
  );

  const isNear = [
    isZero(or(xor(load(near), next), xor(and(key, NEIGH_IFINDEX_MASK), ifindex))),
    and(key, FRESH << 24),
  ];
  const rewrite = all(
    check.set(add(shr(w2, 16), less)),
    store(sub(ip, 16), shl(near0, 16)),
    store(sub(ip, 12), or(shr(near0, 16), shl(near1, 16))),
    store(sub(ip, 8), arg(ARG_CARD)),
    store(sub(ip, 4), arg(ARG_CARD + 1)),
    store(ip, or(sub(and(w2, 0xffff), less), shl(add(check, isFrom(check, sub(0x10000, less))), 16)), 8),
    // The neighbour's entry is whole if its sequence number is the same after the stores, which keep the compiler from taking
    // the second look for the first (pass.ts). An atomic load is none: Bun 1.4.5's first compiler gets its address wrong.
    when(
      isSame(load(near, NEIGH4_MAC1 * 4), near1),
      way.set(WIRE),
      all(vector.store(sub(ip, 16), vector.load(at.args + ARG_LINK * 4)), store(ip, w2, 8)),
    ),
  );
  const depart = all(
    ip.set(add(load(p), ETHERNET)),
    w0.set(load(ip)),
    w2.set(load(ip, 8)),
    dst.set(load(ip, 16)),
    nh.set(load(p, CELLS)),
    recordCode(netbase, at.netbase, dst, nh, node),
    hop.set(add(at.hops, and(shr(nh, RECORD_SHIFT), ((1 << HOPS_LOG2) - 1) << HOP_SHIFT))),
    when(
      or(xor(ofHop(HOP_RECORD), nh), xor(ofHop(HOP_STAMP), arg(ARG_HOPS))),
      look,
      all(near.set(ofHop(HOP_NEAR)), next.set(ofHop(HOP_NEXT))),
    ),
    when(
      isZero(way),
      all(
        way.set(OTHER),
        near1.set(load(near, NEIGH4_MAC1 * 4)),
        store(at.args + ARG_LOOK * 4, near1), // or the compiler may look only after it has compared
        key.set(load(near, NEIGH4_KEY * 4)),
        near0.set(load(near, NEIGH4_MAC0 * 4)),
        whenAll(isNear, rewrite),
        when(way, store(hop, 0, HOP_RECORD * 4)), // it may be in another place the next time
      ),
    ),
    when(way, store(p, way, WAYS)),
  );
  const frame = all(way.set(load(p, WAYS)), when(isZero(way), depart), when(way, left.by(1)), p.by(4));
  const body = all(
    less.set(arg(ARG_LESS)),
    p.set(at.batch),
    end.set(add(p, shl(n, 2))),
    when(n, repeat(frame, isUnlike(p, end))),
  );
  return f.over(memory, body, left);
}
