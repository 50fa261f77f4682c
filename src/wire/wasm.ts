// Small WebAssembly functions over frame memory, put together from expressions: the loops that every frame goes through, and
// that JavaScript pays a check of bounds for at every word. A `Code` is the instructions that leave a value on the stack, or
// none; a `Func` is its locals, and the module of that one function over one memory, which is imported as m.m.
//
// Values are i32 unless a name says otherwise; comparisons, shifts and loads of bytes are unsigned; addresses are bytes from the
// memory's begin. Opcodes: WebAssembly core specification, "Binary Format"; fixed-width SIMD.

export type Code = readonly number[];
export type Operand = Code | Local | number;

const I32 = 0x7f;
const I64 = 0x7e;
const V128 = 0x7b;
const VOID = 0x40;
const [LOOP, IF, ELSE, END, BRANCH_IF] = [0x03, 0x04, 0x05, 0x0b, 0x0d];

const leb = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...leb(n >>> 7)]);
const signedLeb = (n: bigint): number[] =>
  n >= -64n && n < 64n ? [Number(n & 127n)] : [Number((n & 127n) | 128n), ...signedLeb(n >> 7n)];

/** A constant. */
const i32 = (n: number): Code => [0x41, ...signedLeb(BigInt(n | 0))];
const code = (of: Operand): Code => (typeof of === "number" ? i32(of) : of instanceof Local ? of.get : of);

type Unary = (a: Operand) => Code;
type Binary = (a: Operand, b: Operand) => Code;
const unary =
  (...op: number[]): Unary =>
  (a) => [...code(a), ...op];
const binary =
  (...op: number[]): Binary =>
  (a, b) => [...code(a), ...code(b), ...op];
/** @param align log2 of the bytes that are read or written */
const reader =
  (align: number, ...op: number[]) =>
  (at: Operand, offset = 0): Code => [...code(at), ...op, align, ...leb(offset)];
const writer =
  (align: number, ...op: number[]) =>
  (at: Operand, value: Operand, offset = 0): Code => [
    ...code(at),
    ...code(value),
    ...op,
    align,
    ...leb(offset),
  ];
const simd = (op: number): number[] => [0xfd, ...leb(op)];

export const add: Binary = binary(0x6a);
export const sub: Binary = binary(0x6b);
export const mul: Binary = binary(0x6c);
export const and: Binary = binary(0x71);
export const or: Binary = binary(0x72);
export const xor: Binary = binary(0x73);
export const shl: Binary = binary(0x74);
export const shr: Binary = binary(0x76);
export const isSame: Binary = binary(0x46);
export const isUnlike: Binary = binary(0x47);
export const isBelow: Binary = binary(0x49);
export const isOver: Binary = binary(0x4b);
export const isUpTo: Binary = binary(0x4d);
export const isFrom: Binary = binary(0x4f);
export const isZero: Unary = unary(0x45);
export const bitCount: Unary = unary(0x69);
export const load = reader(2, 0x28);
export const load8 = reader(0, 0x2d);
export const store = writer(2, 0x36);
export const copyBytes = (to: Operand, from: Operand, length: Operand): Code => [
  ...[...code(to), ...code(from), ...code(length)],
  ...[0xfc, 0x0a, 0, 0],
];

/** 64 bits. */
export const wide = {
  load: reader(3, 0x29),
  store: writer(3, 0x37),
  constant: (n: bigint): Code => [0x42, ...signedLeb(BigInt.asIntN(64, n))],
  add: binary(0x7c),
  mul: binary(0x7e),
  xor: binary(0x85),
  shr: binary(0x88),
  isUpTo: binary(0x58),
  isSame: binary(0x51),
  of: unary(0xad),
  low: unary(0xa7),
};

/** 16 bytes. */
export const vector = {
  load: reader(0, ...simd(0)),
  store: writer(0, ...simd(11)),
  of: (bytes: readonly number[]): Code => [...simd(12), ...bytes],
  or: binary(...simd(80)),
  xor: binary(...simd(81)),
  and: binary(...simd(78)),
  isAny: unary(...simd(83)),
  /** 16 times the low byte. */
  splat: unary(...simd(15)),
  /** By bytes. */
  add: binary(...simd(110)),
  /** Of `a` the bytes that `b` has the numbers of; 0 for those from 16 on. */
  pick: binary(...simd(14)),
  /** By words. */
  addWords: binary(...simd(174)),
  /** Four words: the sums of the eight halves, two by two. */
  pairs: unary(...simd(127)),
  word: (a: Operand, lane: number): Code => [...code(a), ...simd(27), lane],
  half: (a: Operand, lane: number): Code => [...code(a), ...simd(29), lane],
};

/** One after the other. */
export const all = (...codes: readonly Code[]): Code => codes.flat();

/** `then` if the condition is not 0. */
export const when = (condition: Operand, then: Code, otherwise: Code = []): Code => [
  ...[...code(condition), IF, VOID, ...then],
  ...(otherwise.length > 0 ? [ELSE, ...otherwise] : []),
  END,
];

/** `then` if all conditions hold; they are looked at in order until one does not. */
export const whenAll = (conditions: readonly Operand[], then: Code): Code =>
  conditions.reduceRight<Code>((inner, one) => when(one, inner), then);

/** `body`, and again as long as `condition` holds. */
export const repeat = (body: Code, condition: Operand): Code => [
  ...[LOOP, VOID, ...body],
  ...[...code(condition), BRANCH_IF, 0, END],
];

/** `first`, then `then` if all conditions hold, looked at in order; and again as long as they do, and `again`. */
export const repeatAll = (first: Code, conditions: readonly Operand[], then: Code, again: Operand): Code => [
  ...[LOOP, VOID, ...first],
  ...[...whenAll(conditions, [...then, ...code(again), BRANCH_IF, ...leb(conditions.length)]), END],
];

export class Local {
  readonly get: Code;
  private readonly index: Code;

  constructor(index: number) {
    this.index = leb(index);
    this.get = [0x20, ...this.index];
  }

  set(value: Operand): Code {
    return [...code(value), 0x21, ...this.index];
  }

  /** Adds to it. */
  by(value: Operand): Code {
    return this.set(add(this, value));
  }
}

const section = (id: number, bytes: Code): Code => [id, ...leb(bytes.length), ...bytes];

type Named<Names extends readonly string[]> = Record<Names[number], Local>;

export class Func<const Names extends readonly string[]> {
  readonly parameters: Named<Names>;
  private readonly count: number;
  private readonly types: number[] = [];

  constructor(...parameters: Names) {
    this.count = parameters.length;
    this.parameters = Object.fromEntries(parameters.map((name, i) => [name, new Local(i)])) as Named<Names>;
  }

  private local(type: number): Local {
    this.types.push(type);
    return new Local(this.count + this.types.length - 1);
  }

  locals<const More extends readonly string[]>(...names: More): Named<More> {
    return Object.fromEntries(names.map((name) => [name, this.local(I32)])) as Named<More>;
  }

  wide(): Local {
    return this.local(I64);
  }

  vector(): Local {
    return this.local(V128);
  }

  /** The function over this memory: it does what `body` does, and returns `result`. */
  over(memory: WebAssembly.Memory, body: Code, result: Operand): (...parameters: number[]) => number {
    const pages = leb(memory.buffer.byteLength / 65536);
    const parameters = Array<number>(this.count).fill(I32);
    const locals = this.types.flatMap((type) => [1, type]);
    const lines = [...leb(this.types.length), ...locals, ...body, ...code(result), END];
    const module = new WebAssembly.Module(
      Uint8Array.from([
        ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
        ...section(1, [1, 0x60, ...leb(this.count), ...parameters, 1, I32]), // type
        ...section(2, [1, 1, 0x6d, 1, 0x6d, 2, 3, ...pages, ...pages]), // import m.m: shared memory
        ...section(3, [1, 0]), // function
        ...section(7, [1, 1, 0x66, 0, 0]), // export f
        ...section(10, [1, ...leb(lines.length), ...lines]), // code
      ]),
    );
    return new WebAssembly.Instance(module, { m: { m: memory } }).exports["f"] as (...n: number[]) => number;
  }
}
