// First loop of the pass: which frames are the usual ones, and where do their flows go? It also loads the first cell of each
// way out, so that those of a whole batch come from memory at a time.
//
// A flow is kept under what the table's patterns look at, all of them together, as Open vSwitch's megaflows are: one entry for
// all flows of a listening port. It is kept whole where a client may have the destination, and where a match may be about its
// two addresses, as a connection's is (table/destinations.ts): those patterns do not count for all other flows.
// Sources: RFC 791 section 3.1, RFC 1812 section 5.2; The Design and Implementation of Open vSwitch (2015), section 4.2.
import { cellCode } from "../../netbase/code.ts";
import type { Layout as NetbaseLayout } from "../../netbase/layout.ts";
import { LENS } from "../../link/memif/copies.ts";
import { ETHERNET } from "../../wire/ether.ts";
import {
  add,
  all,
  and,
  Func,
  isBelow,
  isFrom,
  isOver,
  isSame,
  isUnlike,
  isUpTo,
  isZero,
  load,
  mul,
  type Operand,
  or,
  repeat,
  shl,
  shr,
  store,
  sub,
  vector,
  when,
  whenAll,
  wide,
  xor,
} from "../../wire/wasm.ts";
import { H_OPEN, type Layout } from "../table/layout.ts";
import {
  ARG_BYTES,
  ARG_KEYS,
  ARG_LINK,
  ARG_LONGEST,
  ARG_MEETS,
  ASK,
  CELLS,
  ENTRIES,
  FLOW_STAMP,
  FLOW_WAY,
  FLOW_WORDS,
  FLOWS_LOG2,
  KEYS_STAMP,
  KEYS_WORDS,
  OTHER,
  type Places,
  totalOf,
  WAYS,
} from "./places.ts";

const SHORTEST = ETHERNET + 20 + 8;
const FRAGMENT = 0xff3f << 16; // all but "don't fragment"
const bytesOf = (...words: number[]): number[] => [...new Uint8Array(Int32Array.from(words).buffer)];
/** 2^64 - 1 is so many times 65535. A sum of words is a multiple of 65535 if its product with the inverse is not over it. */
const SHARE = 0x1000100010001n;

/** Says where frames `0..n)` of the batch go; returns how many are to be asked about. */
export type Accept = (n: number) => number;

/** @param seed the switch table's */
export function makeAccept(
  memory: WebAssembly.Memory,
  at: Places,
  { destinations, destinationShift }: Layout,
  seed: number,
  netbase: NetbaseLayout,
  alias4: number,
): Accept {
  const f = new Func("n");
  const { n } = f.parameters;
  const { p, end, ip, len, w0, w2, dst, total, longest } = f.locals(
    ...(["p", "end", "ip", "len", "w0", "w2", "dst", "total", "longest"] as const),
  );
  const { may, open, meets, hash, keys, flow, way, asked } = f.locals(
    ...(["may", "open", "meets", "hash", "keys", "flow", "way", "asked"] as const),
  );
  const head = f.wide();
  const tail = f.wide();
  const [key, link, linkMask, ipv4, ipv4Mask] = [f.vector(), f.vector(), f.vector(), f.vector(), f.vector()];

  // The link-layer header, and of the words of IPv4's the first two: no options, no fragment.
  const header = vector.or(
    vector.and(vector.xor(vector.load(sub(ip, 16)), link), linkMask),
    vector.and(vector.xor(vector.load(ip), ipv4), ipv4Mask),
  );
  const high = (word: typeof head) => wide.shr(word, wide.constant(32n));
  const sum = [wide.of(w0), high(head), wide.of(w2), high(tail), wide.of(dst)].reduce(wide.add);
  const isUsual = [
    isUpTo(SHORTEST, len),
    isUpTo(len, longest),
    isZero(vector.isAny(header)),
    isUpTo(total, sub(len, ETHERNET)),
    wide.isUpTo(wide.mul(sum, wide.constant(-SHARE)), wide.constant(SHARE)), // the header's checksum
    isOver(and(w2, 0xff), 1), // a hop is left
    isFrom(total, load(add(at.least, and(shr(w2, 6), 0x3fc)))), // a protocol with ports, and they are there
    isBelow(and(dst, 0xff), 0xe0),
    isUnlike(dst, alias4),
    isUnlike(load(ip, 12), alias4), // nobody but us says that
  ];

  // table/hash.ts: hashDestination, meet; table/destinations.ts
  const met = xor(mul(xor(dst, seed), 0xc2b2ae35), load(ip, 12));
  const bit = shr(mul(xor(hash, shr(hash, 15)), 0x85ebca6b), destinationShift);
  const bits = load(add(at.table + destinations * 4, and(shr(hash, 3), 0x1ffffffc)));
  const look = (address: Operand) =>
    all(
      hash.set(mul(xor(address, seed), 0x9e3779b1)),
      hash.set(bit),
      may.set(or(may, and(shr(bits, hash), 1))),
    );
  const mixed = wide.xor(
    wide.mul(vector.half(key, 0), wide.constant(0x9e3779b97f4a7c15n)),
    wide.mul(vector.half(key, 1), wide.constant(0xc2b2ae3d27d4eb4fn)),
  );
  const place = wide.low(wide.shr(mixed, wide.constant(BigInt(64 - FLOWS_LOG2))));
  const find = all(
    store(p, load(cellCode(netbase, at.netbase, dst)), CELLS),
    may.set(open),
    look(dst),
    when(meets, look(met)),
    keys.set(add(at.args + ARG_KEYS * 4, mul(may, KEYS_WORDS * 4))),
    key.set(vector.and(vector.load(ip, 8), vector.load(keys))),
    flow.set(add(at.flows, mul(place, FLOW_WORDS * 4))),
    way.set(ASK),
    whenAll(
      [
        isZero(vector.isAny(vector.xor(key, vector.load(flow)))),
        isSame(load(flow, FLOW_STAMP * 4), load(keys, KEYS_STAMP * 4)),
      ],
      way.set(load(flow, FLOW_WAY * 4)),
    ),
    when(isSame(way, ASK), all(asked.by(1), store(p, flow, ENTRIES))),
  );

  const frame = all(
    ip.set(add(load(p), ETHERNET)),
    len.set(load(p, LENS)),
    head.set(wide.load(ip)),
    tail.set(wide.load(ip, 8)),
    w0.set(wide.low(head)),
    w2.set(wide.low(tail)),
    dst.set(load(ip, 16)),
    total.set(totalOf(w0)),
    way.set(OTHER),
    whenAll(isUsual, find),
    store(p, way, WAYS),
    p.by(4),
  );

  // All lengths: four at a time, with zeros behind the last.
  const lengths = all(
    vector.store(end, vector.of(Array<number>(16).fill(0)), LENS),
    repeat(all(key.set(vector.addWords(key, vector.load(p, LENS))), p.by(16)), isBelow(p, end)),
    store(at.args + ARG_BYTES * 4, [0, 1, 2, 3].map((lane) => vector.word(key, lane)).reduce(add)),
    p.set(at.batch),
  );
  const body = all(
    open.set(isUnlike(load(at.table + H_OPEN * 4), 0)),
    meets.set(load(at.args + ARG_MEETS * 4)),
    longest.set(load(at.args + ARG_LONGEST * 4)),
    link.set(vector.load(at.args + ARG_LINK * 4)),
    linkMask.set(vector.of(bytesOf(0xffff << 16, -1, -1, -1))),
    ipv4.set(vector.of(bytesOf(0x45, 0, 0, 0))),
    ipv4Mask.set(vector.of(bytesOf(0xff, FRAGMENT, 0, 0))),
    p.set(at.batch),
    end.set(add(p, shl(n, 2))),
    when(n, all(lengths, repeat(frame, isUnlike(p, end)))),
  );
  return f.over(memory, body, asked);
}
