// find.ts's lookups as WebAssembly (wire/wasm.ts): the pieces that loops over many neighbours are made of, many.ts and the way
// out of the card (switch/forward). There is no second way to read the tables: what neigh.ts says of entries holds here.
import {
  add,
  all,
  and,
  type Code,
  isBelow,
  isUnlike,
  load,
  type Local,
  mul,
  type Operand,
  or,
  repeat,
  shl,
  shr,
  vector,
  xor,
} from "../wire/wasm.ts";
import {
  H_NEIGH4,
  H_NEIGH6,
  type Layout,
  NEIGH_WINDOW,
  NEIGH4_KEY,
  NEIGH4_MAC0,
  NEIGH4_WORDS,
  NEIGH6_KEY,
  NEIGH6_MAC0,
  NEIGH6_WORDS,
} from "./layout.ts";

/** One family's table, in bytes. */
export interface Probed {
  /** where the active area begins */
  readonly begin: Code;
  readonly mask: number;
  /** log2 of an entry's */
  readonly shift: number;
  readonly key: number;
  readonly mac: number;
}

/** @param base where netbase begins in the memory */
export const probed = (at: Layout, base: number, six: boolean): Probed => ({
  begin: add(base, shl(load(base + (six ? H_NEIGH6 : H_NEIGH4) * 4), 2)),
  mask: six ? at.neighMask6 : at.neighMask4,
  shift: Math.log2((six ? NEIGH6_WORDS : NEIGH4_WORDS) * 4),
  key: (six ? NEIGH6_KEY : NEIGH4_KEY) * 4,
  mac: (six ? NEIGH6_MAC0 : NEIGH4_MAC0) * 4,
});

/** Sets `slot` to hash4. */
export const hash4Code = (slot: Local, seed: number, ip: Local, ifindex: Operand): Code =>
  all(
    slot.set(xor(ip, seed)),
    slot.set(mul(xor(slot, shr(slot, 16)), 0x85ebca6b)),
    slot.set(mul(xor(xor(slot, shr(slot, 13)), ifindex), 0xc2b2ae35)),
    slot.set(xor(slot, shr(slot, 16))),
  );

/** Sets `slot` to hash6. @param ip where the address is; @param w2, w3 are set to its last words */
export const hash6Code = (
  slot: Local,
  seed: number,
  ip: Local,
  w2: Local,
  w3: Local,
  ifindex: Operand,
): Code => {
  const left = mul(xor(xor(load(ip), seed), mul(load(ip, 4), 0x9e3779b1)), 0x27d4eb2f);
  const right = xor(mul(xor(w2, shr(w2, 16)), 0x165667b1), mul(xor(w3, shr(w3, 15)), 0x85ebca6b));
  return all(
    w2.set(load(ip, 8)),
    w3.set(load(ip, 12)),
    slot.set(add(left, right)),
    slot.set(mul(xor(xor(slot, shr(slot, 13)), ifindex), 0xc2b2ae35)),
    slot.set(xor(slot, shr(slot, 16))),
  );
};

/** Where the slot is; its number may be beyond the last. @param begin `Probed`'s, once for many */
export const entryCode = ({ mask, shift }: Probed, begin: Operand, slot: Operand): Code =>
  add(begin, shl(and(slot, mask), shift));

/** 0 if the entry at `entry` is that of a neighbour. @param ip IPv4's address */
export const isOther4 = ({ key }: Probed, entry: Local, ip: Operand, ifindex: Operand): Code =>
  or(xor(load(entry), ip), shl(xor(load(entry, key), ifindex), 8));

/** @param ip where IPv6's address is */
export const isOther6 = ({ key }: Probed, entry: Local, ip: Operand, ifindex: Operand): Code =>
  or(vector.isAny(vector.xor(vector.load(entry), vector.load(ip))), shl(xor(load(entry, key), ifindex), 8));

/**
 * From `slot` on, sets `entry` to where the neighbour is, and `isMissing` to 0 if that is it; who reads it looks at its
 * sequence number. @param isOther of `entry`; @param tries for its own use
 */
export const walkCode = (
  table: Probed,
  slot: Local,
  entry: Local,
  isOther: Code,
  isMissing: Local,
  tries: Local,
): Code =>
  all(
    tries.set(0),
    repeat(
      all(entry.set(entryCode(table, table.begin, slot)), isMissing.set(isOther), slot.by(1), tries.by(1)),
      and(isUnlike(isMissing, 0), and(isUnlike(load(entry, table.key), 0), isBelow(tries, NEIGH_WINDOW))),
    ),
  );
