import { expect, test } from "bun:test";
import fc from "fast-check";
import { frameMemory } from "../../src/mem/frames.ts";
import { fold, sumBytes } from "../../src/wire/checksum.ts";
import { simdSum } from "../../src/wire/simd.ts";

test("the SIMD sum is the plain sum, for any bytes, length and even offset", () => {
  const memory = frameMemory(65536);
  const bytes = new Uint8Array(memory.buffer);
  const words = new Int32Array(memory.buffer);
  const sum = simdSum(memory);
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 32, maxLength: 4000 }),
      fc.nat(40),
      fc.nat(0xffff),
      (data, half, start) => {
        bytes.fill(0xee, 0, 8192);
        bytes.set(data, half * 2);
        expect(fold(sum(half * 2, data.length, start))).toBe(
          fold(sumBytes(words, half * 2, data.length, start)),
        );
      },
    ),
    { numRuns: 2000 },
  );
  bytes.fill(0xff, 0, 8192); // the largest sum there is
  expect(fold(sum(0, 4096, 0x7ffff))).toBe(fold(sumBytes(words, 0, 4096, 0x7ffff)));
});
