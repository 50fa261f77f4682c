import { expect, test } from "bun:test";
import fc from "fast-check";
import { frameMemory } from "../../src/mem/frames.ts";
import * as w from "../../src/wire/wasm.ts";

const memory = frameMemory(65536);
const words = new Int32Array(memory.buffer);
const bytes = new Uint8Array(memory.buffer);
const any = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });

const popcount = (n: number) => [...(n >>> 0).toString(2)].filter((bit) => bit === "1").length;

const BINARY: Record<string, [(a: w.Operand, b: w.Operand) => w.Code, (a: number, b: number) => number]> = {
  add: [w.add, (a, b) => (a + b) | 0],
  sub: [w.sub, (a, b) => (a - b) | 0],
  mul: [w.mul, (a, b) => Math.imul(a, b)],
  and: [w.and, (a, b) => a & b],
  or: [w.or, (a, b) => a | b],
  xor: [w.xor, (a, b) => a ^ b],
  shl: [w.shl, (a, b) => a << b],
  shr: [w.shr, (a, b) => (a >>> b) | 0],
  isSame: [w.isSame, (a, b) => Number(a === b)],
  isUnlike: [w.isUnlike, (a, b) => Number(a !== b)],
  isBelow: [w.isBelow, (a, b) => Number(a >>> 0 < b >>> 0)],
  isOver: [w.isOver, (a, b) => Number(a >>> 0 > b >>> 0)],
  isUpTo: [w.isUpTo, (a, b) => Number(a >>> 0 <= b >>> 0)],
  isFrom: [w.isFrom, (a, b) => Number(a >>> 0 >= b >>> 0)],
};

for (const [name, [build, is]] of Object.entries(BINARY))
  test(`${name} is what JavaScript says, of parameters and of constants`, () => {
    const f = new w.Func("a", "b");
    const run = f.over(memory, [], build(f.parameters.a, f.parameters.b));
    fc.assert(fc.property(any, any, (a, b) => expect(run(a, b)).toBe(is(a, b))));
    fc.assert(
      fc.property(any, any, (a, b) => expect(new w.Func().over(memory, [], build(a, b))()).toBe(is(a, b))),
      { numRuns: 50 },
    );
    expect(run(7, 7)).toBe(is(7, 7));
  });

test("one operand", () => {
  const f = new w.Func("a");
  const { a } = f.parameters;
  const zero = f.over(memory, [], w.isZero(a));
  const bits = f.over(memory, [], w.bitCount(a));
  fc.assert(
    fc.property(any, (n) => {
      expect(zero(n)).toBe(Number(n === 0));
      expect(bits(n)).toBe(popcount(n));
    }),
  );
  expect(zero(0)).toBe(1);
});

test("memory: words, bytes, offsets, 64 bits", () => {
  const f = new w.Func("at", "value");
  const { at, value } = f.parameters;
  const put = f.over(memory, w.store(at, value, 300), w.load(at, 300));
  const byte = f.over(memory, [], w.load8(at, 301));
  const g = new w.Func("at");
  const sum = g.wide();
  const pair = w.wide.add(w.wide.load(g.parameters.at, 296), w.wide.of(w.load(g.parameters.at, 304)));
  const low = g.over(memory, sum.set(pair), w.wide.low(sum));
  const high = g.over(memory, sum.set(pair), w.wide.low(w.wide.shr(sum, w.wide.constant(32n))));
  fc.assert(
    fc.property(fc.nat(1000), any, any, any, (word, a, b, c) => {
      words[word + 74] = a;
      words[word + 76] = c;
      expect(put(word * 4, b)).toBe(b);
      expect(words[word + 75]).toBe(b);
      expect(byte(word * 4, 0)).toBe(bytes[word * 4 + 301]!);
      const is = ((BigInt(b >>> 0) << 32n) | BigInt(a >>> 0)) + BigInt(c >>> 0);
      expect(BigInt(low(word * 4) >>> 0)).toBe(is & 0xffffffffn);
      expect(BigInt(high(word * 4) >>> 0)).toBe((is >> 32n) & 0xffffffffn);
    }),
  );
});

test("branches and loops", () => {
  const f = new w.Func("n", "most");
  const { n, most } = f.parameters;
  const { i, sum } = f.locals("i", "sum");
  const even = w.isZero(w.and(i, 1));
  const body = w.all(
    w.when(n, w.repeat(w.all(i.by(1), w.when(even, sum.by(i), sum.by(1))), w.isBelow(i, n)), sum.set(-1)),
    w.whenAll([w.isOver(sum, most), w.isUnlike(sum, -1)], sum.set(most)),
  );
  const run = f.over(memory, body, sum);
  for (let count = 0; count < 200; count++) {
    let is = count === 0 ? -1 : 0;
    for (let k = 1; k <= count; k++) is += k % 2 === 0 ? k : 1;
    expect(run(count, 1000)).toBe(is > 1000 ? 1000 : is);
  }
});

test("16 bytes: under a mask, the same or not", () => {
  const f = new w.Func();
  const differ = f.over(
    memory,
    [],
    w.vector.isAny(w.vector.and(w.vector.xor(w.vector.load(1), w.vector.load(64)), w.vector.load(128))),
  );
  fc.assert(
    fc.property(
      ...([0, 1, 2].map(() => fc.uint8Array({ minLength: 16, maxLength: 16 })) as [
        fc.Arbitrary<Uint8Array>,
        fc.Arbitrary<Uint8Array>,
        fc.Arbitrary<Uint8Array>,
      ]),
      fc.boolean(),
      (a, b, mask, isMasked) => {
        if (isMasked) for (let i = 0; i < 16; i++) if (a[i] !== b[i]) mask[i] = 0;
        for (const [data, at] of [
          [a, 1],
          [b, 64],
          [mask, 128],
        ] as const)
          bytes.set(data, at);
        expect(differ()).toBe(Number(a.some((byte, i) => ((byte ^ b[i]!) & mask[i]!) !== 0)));
      },
    ),
  );
});

test("64 bits: products, order, halves of 16 bytes", () => {
  const constants = [0n, 1n, -1n, 63n, 64n, -64n, -65n, 0x1000100010001n, -(2n ** 63n), 2n ** 63n - 1n];
  const f = new w.Func();
  for (const n of constants)
    for (const shift of [0n, 32n])
      expect(f.over(memory, [], w.wide.low(w.wide.shr(w.wide.constant(n), w.wide.constant(shift))))()).toBe(
        Number(BigInt.asIntN(32, BigInt.asUintN(64, n) >> shift)),
      );
  const at = (byte: number) => w.wide.load(byte);
  const high = w.wide.constant(32n);
  const mul = f.over(memory, [], w.wide.low(w.wide.shr(w.wide.mul(at(0), at(8)), high)));
  const xor = f.over(memory, [], w.wide.low(w.wide.shr(w.wide.xor(at(0), at(8)), high)));
  const upTo = f.over(memory, [], w.wide.isUpTo(at(0), at(8)));
  const halves = [0, 1].map((lane) => f.over(memory, [], w.wide.low(w.vector.half(w.vector.load(0), lane))));
  const longs = new BigUint64Array(memory.buffer);
  const long = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  fc.assert(
    fc.property(long, long, (a, b) => {
      longs.set([a, b]);
      expect(mul()).toBe(Number(BigInt.asIntN(32, BigInt.asUintN(64, a * b) >> 32n)));
      expect(xor()).toBe(Number(BigInt.asIntN(32, (a ^ b) >> 32n)));
      expect(upTo()).toBe(Number(a <= b));
      expect(halves.map((half) => half())).toEqual([a, b].map((n) => Number(BigInt.asIntN(32, n))));
    }),
  );
});
