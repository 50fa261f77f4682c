// A batch of frames copied in one call, with SIMD: a small WebAssembly function, written out in bytes as wire/simd.ts's is. In
// JavaScript a frame of 64 bytes takes 15 ns, since every word is a load, a store, two shifts and two checks; here 3.
//
//   copies(at: i32, end: i32)   the list in [at, end), which lies in the same memory: 12 bytes a frame, to | from | bytes
// 32 bytes at a time, and the last 32 once more, so that nothing behind a frame's end is read or written.
import {
  ADD,
  binary,
  constant,
  get,
  I32,
  LESS,
  LOAD,
  load32,
  set,
  STORE,
  SUB,
  UP_TO,
} from "../../wire/wasm.ts";

const [AT, END, TO, FROM, STOP] = [0, 1, 2, 3, 4] as const; // parameters, then locals

const move = (offset: number): number[] => [
  ...get(TO),
  ...get(FROM),
  ...LOAD,
  0,
  offset,
  ...STORE,
  0,
  offset,
];
const advance = (local: number, by: number): number[] => [...get(local), ...constant(by), ADD, ...set(local)];

const body: number[] = [
  ...[1, 3, I32],
  ...[0x03, 0x40], // loop: a frame
  ...[...get(AT), ...load32(0), ...set(TO), ...get(AT), ...load32(4), ...set(FROM)],
  ...[...get(TO), ...get(AT), ...load32(8), ADD, ...set(STOP)],
  ...[0x03, 0x40], // loop: 32 bytes
  ...[...move(0), ...move(16), ...advance(TO, 32), ...advance(FROM, 32)],
  ...[...get(TO), ...constant(32), ADD, ...get(STOP), UP_TO, 0x0d, 0, 0x0b],
  // from += stop - to - 32, to = stop - 32
  ...[...get(FROM), ...get(STOP), ADD, ...get(TO), SUB, ...constant(32), SUB, ...set(FROM)],
  ...[...get(STOP), ...constant(32), SUB, ...set(TO), ...move(0), ...move(16)],
  ...[...advance(AT, 12), ...get(AT), ...get(END), LESS, 0x0d, 0, 0x0b],
  0x0b,
];

/** Shortest frame that it takes. */
export const LEAST_COPY = 32;

export type Copies = (at: number, end: number) => void;

/** `copies` over this memory. */
export function makeCopies(memory: WebAssembly.Memory): Copies {
  const module = new WebAssembly.Module(binary(memory, 2, 0, body));
  return new WebAssembly.Instance(module, { m: { m: memory } }).exports["f"] as Copies;
}
