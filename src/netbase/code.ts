// fib.ts's and find.ts's IPv4 lookups as WebAssembly (wire/wasm.ts), for loops over frames that have netbase in their memory
// (mem/views.ts). There is no second way to read the tables: what is said there of updates and epochs holds here.
import {
  add,
  all,
  and,
  bitCount,
  type Code,
  isBelow,
  isFrom,
  isUnlike,
  isZero,
  load,
  load8,
  type Local,
  mul,
  or,
  repeat,
  shl,
  shr,
  when,
  xor,
} from "../wire/wasm.ts";
import {
  CELL_NH_MASK,
  H_NEIGH4,
  H_WIDE4,
  type Layout,
  NEIGH4_KEY,
  NEIGH_WINDOW,
  NODE_CELLS,
  NODE_COUNTS,
} from "./layout.ts";

const NODE = 0x80000000;

/** Where the first level's cell for `dst` is, in bytes. @param base where netbase begins in the memory */
export const cellCode = (at: Layout, base: number, dst: Local): Code =>
  add(base + at.fib4 * 4, or(shl(and(dst, 0xffff), 10), and(shr(dst, 14), 0x3fc)));

/**
 * Sets `nh`, which is the first level's cell for `dst`, to where the next-hop record is, in bytes: `base` if there is no route.
 * @param node for its own use
 */
export const recordCode = (at: Layout, base: number, dst: Local, nh: Local, node: Local): Code => {
  const word = shr(dst, 29);
  const bits = shl(load(add(node, shl(word, 2))), xor(shr(dst, 24), 31));
  const before = load8(add(node, word), NODE_COUNTS * 4);
  return all(
    when(
      isFrom(nh, NODE),
      all(
        node.set(add(base, shl(nh, 2))),
        nh.set(load(add(node, shl(add(bitCount(bits), before), 2)), (NODE_CELLS - 1) * 4)),
      ),
    ),
    when(isZero(nh), nh.set(load(add(base + H_WIDE4 * 4, shl(and(dst, 0xff), 2))))),
    nh.set(add(base, shl(load(add(base + at.nhIndex * 4, shl(and(nh, CELL_NH_MASK), 2))), 2))),
  );
};

/**
 * Sets `entry` to where the neighbour `ip` on `ifindex` is, in bytes, and `isMissing` to 0 if that is it; who reads it looks at its
 * sequence number. @param slot, tries for its own use
 */
export const neighbourCode = (
  at: Layout,
  base: number,
  seed: number,
  ifindex: number,
  ip: Local,
  entry: Local,
  isMissing: Local,
  slot: Local,
  tries: Local,
): Code => {
  const mixed = mul(xor(slot, shr(slot, 16)), 0x85ebca6b);
  const again = mul(xor(xor(slot, shr(slot, 13)), ifindex), 0xc2b2ae35);
  const key = load(entry, NEIGH4_KEY * 4);
  return all(
    slot.set(xor(ip, seed)),
    slot.set(mixed),
    slot.set(again),
    slot.set(xor(slot, shr(slot, 16))),
    tries.set(0),
    repeat(
      all(
        entry.set(add(add(base, shl(load(base + H_NEIGH4 * 4), 2)), shl(and(slot, at.neighMask4), 4))),
        isMissing.set(or(xor(load(entry), ip), shl(xor(key, ifindex), 8))),
        slot.by(1),
        tries.by(1),
      ),
      and(isUnlike(isMissing, 0), and(isUnlike(key, 0), isBelow(tries, NEIGH_WINDOW))),
    ),
  );
};
