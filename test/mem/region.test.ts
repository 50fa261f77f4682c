import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { mapRegions, placeFrames } from "../../src/mem/views.ts";
import { Region } from "../../src/mem/region.ts";

test("a region that is too large is refused by its name, and what to do", () => {
  expect(() => Region.create("netd-netbase", 2 ** 33)).toThrow(
    "make netd-netbase of 8192 MiB: ENOMEM (lower its capacities: 4096 MiB is the most)",
  );
});

test("regions in frame memory: the same bytes, on huge pages, and frames and clients' part are whole", () => {
  using stack = new DisposableStack();
  const regions = [5 << 20, 4096, 2 << 20].map((bytes, i) => {
    const region = Region.create(`test-${i}`, bytes);
    stack.defer(() => region.close());
    return region;
  });
  const place = placeFrames(
    100_000,
    50_000,
    regions.map(({ bytes }) => bytes),
  );
  expect([place.from, place.to, place.isMapped]).toEqual([102_400, 155_648, true]);
  const words = new Int32Array(place.memory.buffer);
  words.fill(7, 0, place.to >>> 2);
  const at = mapRegions(place.memory, ...regions);
  for (const [i, region] of regions.entries()) {
    const theirs = new Int32Array(region.buffer);
    theirs[0] = 100 + i;
    theirs[theirs.length - 1] = 200 + i;
    const from = at[i]! >>> 2;
    expect([words[from], words[from + theirs.length - 1]]).toEqual([100 + i, 200 + i]);
    expect(at[i]!).toBeGreaterThanOrEqual(place.to);
  }
  expect(words.subarray(0, place.to >>> 2).every((word) => word === 7)).toBe(true);
  const maps = readFileSync("/proc/self/maps", "utf8");
  for (const { name } of regions) expect(maps).toMatch(new RegExp(`r--s .*memfd:${name}`));
  expect(placeFrames(4096, 4096, [2 ** 32]).isMapped).toBe(false); // more than can be addressed
});
