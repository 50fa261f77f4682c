// The Internet checksum's sum with SIMD: one small WebAssembly function, written out here in bytes, over frame memory
// that is a WebAssembly.Memory (src/mem/frames.ts). JavaScript adds a word in half a nanosecond; this adds eight a
// step, so from about 100 bytes on the call pays (1472 bytes: 44 ns against 231, `bun bench loop`).
//
//   sum(at: i32, end: i32, sum: i32) -> i32        adds the halves of [at, end): a multiple of 32 bytes, not empty
// Opcodes: WebAssembly core specification, "Binary Format"; fixed-width SIMD.
import { sumBytes } from "./checksum.ts";

const I32 = 0x7f;
const V128 = 0x7b;
const [AT, END, SUM, EVEN, ODD] = [0, 1, 2, 3, 4] as const; // parameters, then locals

const leb = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...leb(n >>> 7)]);
const get = (local: number): number[] => [0x20, local];
const set = (local: number): number[] => [0x21, local];
const constant = (n: number): number[] => [0x41, n];
const ADD = 0x6a;
const BELOW = 0x49; // i32.lt_u
const simd = (opcode: number): number[] => [0xfd, ...leb(opcode)];
const LOAD = simd(0); // v128.load: alignment, offset
const PAIRS = simd(127); // i32x4.extadd_pairwise_i16x8_u: 8 halves to 4 words
const ADD4 = simd(174); // i32x4.add
const lane = (n: number): number[] => [...get(EVEN), ...simd(27), n]; // i32x4.extract_lane

/** EVEN or ODD += the pairs of the 16 bytes at AT + offset. */
const step = (sums: number, offset: number): number[] => [
  ...get(sums),
  ...get(AT),
  ...[...LOAD, 0, offset],
  ...PAIRS,
  ...ADD4,
  ...set(sums),
];

const body: number[] = [
  ...[1, 2, V128],
  ...[0x03, 0x40], // loop
  ...step(EVEN, 0),
  ...step(ODD, 16),
  ...[...get(AT), ...constant(32), ADD, 0x22, AT], // local.tee
  ...[...get(END), BELOW, 0x0d, 0], // br_if loop
  0x0b,
  ...[...get(EVEN), ...get(ODD), ...ADD4, ...set(EVEN)],
  ...[...lane(0), ...lane(1), ADD, ...lane(2), ADD, ...lane(3), ADD],
  ...[...get(SUM), ADD, 0x0b],
];

const section = (id: number, bytes: number[]): number[] => [id, ...leb(bytes.length), ...bytes];
const bytes = (pages: number): Uint8Array<ArrayBuffer> =>
  Uint8Array.of(
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 3, I32, I32, I32, 1, I32]), // type
    ...section(2, [1, 1, 0x6d, 1, 0x6d, 2, 3, ...leb(pages), ...leb(pages)]), // import m.m: shared memory
    ...section(3, [1, 0]), // function
    ...section(7, [1, 1, 0x73, 0, 0]), // export s
    ...section(10, [1, ...leb(body.length), ...body]), // code
  );

/** From so many bytes on, a call of `sum` is quicker than adding up here. */
export const SIMD_BYTES = 96;

/**
 * `sumBytes` over this memory: the sum of the halves of `bytes` bytes from even `off`, on top of `sum`, not folded.
 * @param bytes at least 32
 */
export function simdSum(memory: WebAssembly.Memory): (off: number, bytes: number, sum: number) => number {
  const words = new Int32Array(memory.buffer);
  const pages = memory.buffer.byteLength / 65536;
  const { s } = new WebAssembly.Instance(new WebAssembly.Module(bytes(pages)), { m: { m: memory } }).exports;
  const wide = s as (at: number, end: number, sum: number) => number;
  return (off, count, sum) => {
    const end = off + (count & ~31);
    return sumBytes(words, end, count & 31, wide(off, end, sum));
  };
}
