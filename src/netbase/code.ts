// fib.ts's lookup for IPv4 as WebAssembly (wire/wasm.ts), for loops over frames that have netbase in their memory
// (mem/views.ts). There is no second way to read the tables: what is said there of updates and epochs holds here.
import {
  add,
  all,
  and,
  bitCount,
  type Code,
  isFrom,
  isZero,
  load,
  load8,
  type Local,
  or,
  shl,
  shr,
  when,
  xor,
} from "../wire/wasm.ts";
import { CELL_NH_MASK, H_WIDE4, type Layout, NODE_CELLS, NODE_COUNTS } from "./layout.ts";

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
