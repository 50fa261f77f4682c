import { expect, test } from "bun:test";
import fc from "fast-check";
import { fold, sumBytes } from "../../src/wire/checksum.ts";
import { crc32c } from "../../src/wire/crc32c.ts";

/** RFC 1071 as it is written: 16-bit words in network order, carries added back. */
function reference(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
  return sum;
}

test("RFC 1071's own example", () => {
  const bytes = new Uint8Array([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
  const sum = fold(sumBytes(new Int32Array(bytes.buffer), 0, 8, 0));
  expect(((sum & 0xff) << 8) | (sum >>> 8)).toBe(0xddf2);
});

test("any range at any even offset sums as the reference does, whatever lies behind it", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 0, maxLength: 4096 }),
      fc.integer({ min: 0, max: 8 }),
      fc.integer({ min: 0, max: 255 }),
      (payload, halves, noise) => {
        const off = halves * 2;
        const bytes = new Uint8Array(off + payload.length + 8).fill(noise);
        const all = new Uint8Array((bytes.length + 3) & ~3).fill(noise);
        all.set(payload, off);
        const sum = fold(sumBytes(new Int32Array(all.buffer), off, payload.length, 0));
        expect(((sum & 0xff) << 8) | (sum >>> 8)).toBe(reference(payload));
      },
    ),
    { numRuns: 2000 },
  );
});

test("CRC32c: RFC 3720's examples, at any offset, and the check value", () => {
  const ascending = Array.from({ length: 32 }, (_, i) => i);
  for (const [bytes, crc] of [
    [new Array(32).fill(0), [0xaa, 0x36, 0x91, 0x8a]],
    [new Array(32).fill(0xff), [0x43, 0xab, 0xa8, 0x62]],
    [ascending, [0x4e, 0x79, 0xdd, 0x46]],
    [ascending.toReversed(), [0x5c, 0xdb, 0x3f, 0x11]],
    [Array.from(Buffer.from("123456789")), [0x83, 0x92, 0x06, 0xe3]],
  ] as const)
    for (const at of [0, 1, 2, 3]) {
      const memory = new Uint8Array(64).fill(0x5a);
      memory.set(bytes, at);
      const word = crc32c(new Int32Array(memory.buffer), at, bytes.length);
      expect([...new Uint8Array(Int32Array.of(word).buffer)]).toEqual([...crc]);
    }
});
