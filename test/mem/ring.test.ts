import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { Counters } from "../../src/mem/counters.ts";
import { Region } from "../../src/mem/region.ts";
import { Ring } from "../../src/mem/ring.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

describe("Ring", () => {
  test("behaves as a bounded queue, also where the cursors wrap past 2^32", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 4 }),
        fc.array(fc.boolean(), { maxLength: 200 }),
        (log2, pushes) => {
          const slots = 1 << log2;
          const buffer = new ArrayBuffer(Ring.bytes(slots));
          const cursors = new Int32Array(buffer);
          cursors[0] = cursors[16] = -3; // three messages before the wrap
          const ring = new Ring(buffer, 0, slots);
          const model: number[] = [];
          const out = new Int32Array(8);
          let next = 1;
          for (const push of pushes) {
            if (push) {
              const room = model.length < slots;
              expect(ring.push(next, -next, 2, 3, 4, 5, 6, next ^ 7)).toBe(room);
              if (room) model.push(next);
              next++;
            } else {
              const want = model.shift();
              expect(ring.pop(out)).toBe(want !== undefined);
              if (want !== undefined) expect([...out]).toEqual([want, -want, 2, 3, 4, 5, 6, want ^ 7]);
            }
            expect(ring.length).toBe(model.length);
          }
        },
      ),
    );
  });

  test("refuses a size that is no power of two", () => {
    expect(() => new Ring(new ArrayBuffer(4096), 0, 3)).toThrow("power of two");
  });

  test("carries a million messages between two threads, in order and whole", async () => {
    using stack = new DisposableStack();
    const region = Region.create("ring-test", Ring.bytes(64));
    stack.defer(() => region.close());
    const worker = new Worker(new URL("./ringworker.ts", import.meta.url));
    const done = new Promise<string>((resolve) => {
      worker.onmessage = (event) => resolve(event.data);
    });
    worker.postMessage({ ref: region.ref, slots: 64, count: 1_000_000 });
    const ring = new Ring(region.buffer, 0, 64);
    for (let i = 0; i < 1_000_000; ) if (ring.push(i, ~i, i, i, i, i, i, Math.imul(i, 31))) i++;
    expect(await done).toBe("ok");
    worker.terminate();
  });
});

test("Counters are read by name from the memory that the owner writes", () => {
  const names = ["rx", "tx"] as const;
  const buffer = new ArrayBuffer(Counters.bytes(names));
  const owner = new Counters(names, buffer, 0);
  owner.add("tx", 2 ** 40);
  owner.add("tx");
  expect(new Counters(names, buffer, 0).snapshot()).toEqual({ rx: 0, tx: 2 ** 40 + 1 });
});
