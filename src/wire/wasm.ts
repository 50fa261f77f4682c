// The little of WebAssembly's binary format that our functions over frame memory are written in: each a module of its own, with
// one function `f` of i32s, over one imported memory.
// Opcodes: WebAssembly core specification, "Binary Format"; fixed-width SIMD.

export const I32 = 0x7f;
export const V128 = 0x7b;

export const leb = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...leb(n >>> 7)]);
export const get = (local: number): number[] => [0x20, local];
export const set = (local: number): number[] => [0x21, local];
/** @param n below 64: one byte, and not negative */
export const constant = (n: number): number[] => [0x41, n];
export const ADD = 0x6a;
export const SUB = 0x6b;
export const UP_TO = 0x4d; // i32.le_u
export const UP_FROM = 0x4f; // i32.ge_u
export const OVER = 0x4b; // i32.gt_u
export const UNLIKE = 0x47; // i32.ne
export const AND = 0x71;
export const SHIFT = 0x74; // i32.shl
export const load32 = (offset: number): number[] => [0x28, 2, offset];
export const store32 = (offset: number): number[] => [0x36, 2, offset];
export const simd = (opcode: number): number[] => [0xfd, ...leb(opcode)];
export const LOAD: readonly number[] = simd(0); // v128.load: alignment, offset
export const STORE: readonly number[] = simd(11); // v128.store

const section = (id: number, bytes: number[]): number[] => [id, ...leb(bytes.length), ...bytes];
const many = (n: number): number[] => [n, ...Array<number>(n).fill(I32)];

/** The module of one function with so many i32 parameters and results, which is exported as `f`; the memory is m.m. */
export function binary(
  memory: WebAssembly.Memory,
  parameters: number,
  results: number,
  body: readonly number[],
): Uint8Array<ArrayBuffer> {
  const pages = leb(memory.buffer.byteLength / 65536);
  return Uint8Array.of(
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, ...many(parameters), ...many(results)]), // type
    ...section(2, [1, 1, 0x6d, 1, 0x6d, 2, 3, ...pages, ...pages]), // import m.m: shared memory
    ...section(3, [1, 0]), // function
    ...section(7, [1, 1, 0x66, 0, 0]), // export f
    ...section(10, [1, ...leb(body.length), ...body]), // code
  );
}
