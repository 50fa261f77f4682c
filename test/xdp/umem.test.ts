// The free-frame stack against a model: every frame is with the stack or with a caller, never with both or with two.
import { expect, test } from "bun:test";
import fc from "fast-check";
import { FrameStack } from "../../src/xdp/umem.ts";

test("any sequence of takes and releases: frames are handed out once, and none is lost", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 64 }),
      fc.constantFrom(1024, 2048, 4096),
      fc.array(fc.record({ take: fc.boolean(), pick: fc.nat(), inside: fc.nat() }), { maxLength: 300 }),
      (frames, frameBytes, steps) => {
        const stack = new FrameStack(frames, frameBytes);
        const taken: number[] = [];
        for (const { take, pick, inside } of steps) {
          if (take) {
            const offset = stack.take();
            if (taken.length === frames) expect(offset).toBe(-1);
            else {
              expect(offset % frameBytes).toBe(0);
              expect(offset).toBeGreaterThanOrEqual(0);
              expect(offset).toBeLessThan(frames * frameBytes);
              expect(taken).not.toContain(offset);
              taken.push(offset);
            }
          } else if (taken.length > 0) {
            // Given back by any address inside it, as descs have it; and that frame is the next one out.
            const [offset] = taken.splice(pick % taken.length, 1);
            stack.release(offset! + (inside % frameBytes));
            expect(stack.take()).toBe(offset!);
            stack.release(offset!);
          }
          expect(stack.free).toBe(frames - taken.length);
        }
        for (let left = stack.free; left > 0; left--) taken.push(stack.take());
        expect(taken.sort((a, b) => a - b)).toEqual(Array.from({ length: frames }, (_, i) => i * frameBytes));
        expect(stack.take()).toBe(-1);
      },
    ),
    { numRuns: 300, verbose: true },
  );
});

test("a UMEM of 2 GiB has its last frame below 2^31; more, or a crooked frame size, is refused", () => {
  const stack = new FrameStack(2 ** 31 / 4096, 4096);
  let last = 0;
  for (let offset = stack.take(); offset >= 0; offset = stack.take()) last = offset;
  expect(last).toBe(2 ** 31 - 4096);
  stack.release(last + 4095);
  expect(stack.take()).toBe(last);
  expect(() => new FrameStack(2 ** 31 / 4096 + 1, 4096)).toThrow(RangeError);
  expect(() => new FrameStack(16, 3000)).toThrow(RangeError);
});
