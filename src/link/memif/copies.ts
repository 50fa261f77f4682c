// A batch of frames taken from a client's ring in one call, with SIMD: a small WebAssembly function, written out in bytes as
// wire/simd.ts's is. In JavaScript a frame of 64 bytes takes 20 ns, since every word is a load, a store, two shifts and two
// checks; here 6, descriptor included.
//
//   take(descriptors, mask, cursor, n, offs, lens, room, word, start, size) -> i32
//     descriptors of a ring (ring.ts) from `cursor` on, `n` of them; frame i goes to where the word offs + 4 i says, and its
//     length to lens + 4 i. It ends before the first descriptor whose first word is not `word`, that is of another region or
//     one part of several; that has less than LEAST bytes or more than `room` + LEAST; or that is not within the region,
//     which is `size` bytes at `start`. Returns how many it took.
//
// Every word of the client's is loaded once. 32 bytes are copied at a time, and a frame's last 32 once more, so that nothing
// behind its end is read or written.
import {
  ADD,
  AND,
  binary,
  constant,
  get,
  I32,
  LOAD,
  load32,
  OVER,
  set,
  SHIFT,
  STORE,
  store32,
  SUB,
  UNLIKE,
  UP_FROM,
  UP_TO,
} from "../../wire/wasm.ts";

const [DESCRIPTORS, MASK, CURSOR, N, OFFS, LENS, ROOM, WORD, START, SIZE] = [
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
] as const;
const [I, D, LENGTH, OFFSET, TO, FROM, STOP] = [10, 11, 12, 13, 14, 15, 16] as const; // locals
const LEAST = 32;

const [BLOCK, LOOP, END] = [0x02, 0x03, 0x0b];
const VOID = 0x40;
const branchIf = (depth: number): number[] => [0x0d, depth];
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
const word = (base: number): number[] => [...get(base), ...get(I), ...constant(2), SHIFT, ADD];

const body: number[] = [
  ...[1, 7, I32],
  ...[BLOCK, VOID, LOOP, VOID], // a frame
  ...[...get(I), ...get(N), UP_FROM, ...branchIf(1)],
  ...[
    ...get(CURSOR),
    ...get(I),
    ADD,
    ...get(MASK),
    AND,
    ...constant(4),
    SHIFT,
    ...get(DESCRIPTORS),
    ADD,
    ...set(D),
  ],
  ...[...get(D), ...load32(0), ...get(WORD), UNLIKE, ...branchIf(1)],
  ...[...get(D), ...load32(4), ...set(LENGTH), ...get(D), ...load32(8), ...set(OFFSET)],
  ...[...get(LENGTH), ...constant(LEAST), SUB, ...get(ROOM), OVER, ...branchIf(1)],
  ...[...get(OFFSET), ...get(SIZE), OVER, ...branchIf(1)],
  ...[...get(LENGTH), ...get(SIZE), ...get(OFFSET), SUB, OVER, ...branchIf(1)],
  ...[...word(LENS), ...get(LENGTH), ...store32(0)],
  ...[...get(START), ...get(OFFSET), ADD, ...set(FROM), ...word(OFFS), ...load32(0), ...set(TO)],
  ...[...get(TO), ...get(LENGTH), ADD, ...set(STOP)],
  ...[LOOP, VOID, ...move(0), ...move(16), ...advance(TO, 32), ...advance(FROM, 32)],
  ...[...get(TO), ...constant(32), ADD, ...get(STOP), UP_TO, ...branchIf(0), END],
  // from += stop - to - 32, to = stop - 32
  ...[...get(FROM), ...get(STOP), ADD, ...get(TO), SUB, ...constant(32), SUB, ...set(FROM)],
  ...[...get(STOP), ...constant(32), SUB, ...set(TO), ...move(0), ...move(16)],
  ...[...advance(I, 1), 0x0c, 0, END, END],
  ...[...get(I), END],
];

type Numbers = [number, number, number, number, number, number, number, number, number, number];
export type Take = (...parameters: Numbers) => number;

/** `take` over this memory; `room` is as it is called: a frame's most bytes less LEAST_COPY. */
export function makeTake(memory: WebAssembly.Memory): Take {
  const module = new WebAssembly.Module(binary(memory, 10, 1, body));
  return new WebAssembly.Instance(module, { m: { m: memory } }).exports["f"] as Take;
}

/** Shortest frame that it takes. */
export const LEAST_COPY: number = LEAST;
