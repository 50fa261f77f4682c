import { expect, test } from "bun:test";
import fc from "fast-check";
import { MatchTable } from "../../src/switch/match.ts";

const key = (port: number, protocol: number) => ((port & 255) << 8) | (port >>> 8) | (protocol << 16);

test("finds what was set last and nothing else", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          address: fc.integer({ min: 0, max: 3 }),
          port: fc.integer({ min: 0, max: 3 }),
          endpoint: fc.integer({ min: -1, max: 5 }),
        }),
        { maxLength: 60 },
      ),
      (steps) => {
        const table = new MatchTable(new ArrayBuffer(MatchTable.bytes(64)), 64);
        const model = new Map<string, number>();
        for (const { address, port, endpoint } of steps) {
          const match = { protocol: 17, address, port };
          if (endpoint < 0) table.remove(match);
          else table.set(match, endpoint);
          model.set(`${address}/${port}`, endpoint);
        }
        for (let address = 0; address < 4; address++)
          for (let port = 0; port < 4; port++)
            expect(table.find(address, key(port, 17))).toBe(model.get(`${address}/${port}`) ?? -1);
        expect(table.find(0, key(0, 6))).toBe(-1);
      },
    ),
  );
});

test("a full table says so and keeps what it has", () => {
  const table = new MatchTable(new ArrayBuffer(MatchTable.bytes(16)), 16);
  let n = 0;
  expect(() => {
    for (; n < 17; n++) table.set({ protocol: 17, address: n, port: 7 }, n);
  }).toThrow("match table full");
  for (let i = 0; i < n; i++) expect(table.find(i, key(7, 17))).toBe(i);
});
