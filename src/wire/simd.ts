// The Internet checksum's sum with SIMD: one small WebAssembly function, written out here in bytes, over frame memory
// that is a WebAssembly.Memory (src/mem/frames.ts). JavaScript adds a word in half a nanosecond; this adds eight a
// step, so the call pays as soon as there are two steps' worth (86 bytes: 7 ns against 10; 1472 bytes: 46 against 145).
//
//   sum(at: i32, bytes: i32, sum: i32) -> i32      adds the halves of [at, at + bytes), at least 32 bytes
// It takes 32 bytes a step, then 16 if there are, then what is left out of the last 16: a swizzle moves that to the front
// and sets zeros behind it.
import { ADD, binary, constant, get, LOAD, set, simd, SUB, UP_TO, V128 } from "./wasm.ts";

const [AT, END, SUM, EVEN, ODD] = [0, 1, 2, 3, 4] as const; // parameters, then locals

const PAIRS = simd(127); // i32x4.extadd_pairwise_i16x8_u: 8 halves to 4 words
const ADD4 = simd(174); // i32x4.add
const SPLAT = simd(15); // i8x16.splat
const ADD16 = simd(110); // i8x16.add
const SWIZZLE = simd(14); // i8x16.swizzle: an index from 16 on gives 0
const IOTA = [...simd(12), ...Array(16).keys()]; // v128.const
const lane = (n: number): number[] => [...get(EVEN), ...simd(27), n]; // i32x4.extract_lane

/** EVEN or ODD += the pairs of 16 bytes. */
const add = (sums: number, bytes: number[]): number[] => [
  ...get(sums),
  ...bytes,
  ...PAIRS,
  ...ADD4,
  ...set(sums),
];
const load = (offset: number): number[] => [...get(AT), ...LOAD, 0, offset];
const advance = (by: number): number[] => [...get(AT), ...constant(by), ADD, ...set(AT)];
/** Whether `by` more bytes are there. */
const left = (by: number): number[] => [...get(AT), ...constant(by), ADD, ...get(END), UP_TO];
const last: number[] = [
  ...[...get(END), ...constant(16), SUB, ...LOAD, 0, 0],
  ...[...IOTA, ...get(AT), ...constant(16), ADD, ...get(END), SUB, ...SPLAT, ...ADD16],
  ...SWIZZLE,
];

const body: number[] = [
  ...[1, 2, V128],
  ...[...get(AT), ...get(END), ADD, ...set(END)],
  ...[0x03, 0x40], // loop
  ...[...add(EVEN, load(0)), ...add(ODD, load(16)), ...advance(32)],
  ...[...left(32), 0x0d, 0, 0x0b], // br_if loop
  ...[...left(16), 0x04, 0x40, ...add(EVEN, load(0)), ...advance(16), 0x0b], // if
  ...add(ODD, last),
  ...[...get(EVEN), ...get(ODD), ...ADD4, ...set(EVEN)],
  ...[...lane(0), ...lane(1), ADD, ...lane(2), ADD, ...lane(3), ADD],
  ...[...get(SUM), ADD, 0x0b],
];

/** From so many bytes on, a call of `sum` is quicker than adding up here. */
export const SIMD_BYTES = 32;

/**
 * `sumBytes` over this memory: the sum of the halves of `bytes` bytes from even `off`, on top of `sum`, not folded.
 * @param bytes at least 32
 */
export function simdSum(memory: WebAssembly.Memory): (off: number, bytes: number, sum: number) => number {
  const module = new WebAssembly.Module(binary(memory, 3, 1, body));
  const { f } = new WebAssembly.Instance(module, { m: { m: memory } }).exports;
  return f as (off: number, bytes: number, sum: number) => number;
}
