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

test("half of the table can be used; it says so when it is full, and keeps what it has", () => {
  const table = new MatchTable(new ArrayBuffer(MatchTable.bytes(16)), 16);
  for (let i = 0; i < 8; i++) expect(table.set({ protocol: 17, address: i, port: 7 }, i)).toBe(true);
  for (let i = 8; i < 99; i++) expect(table.set({ protocol: 17, address: i, port: 7 }, i)).toBe(false);
  for (let i = 0; i < 8; i++) expect(table.find(i, key(7, 17))).toBe(i);
  for (let i = 8; i < 99; i++) expect(table.find(i, key(7, 17))).toBe(-1);
});

test("addresses that come and go for ever need no more room than there are at once", () => {
  const table = new MatchTable(new ArrayBuffer(MatchTable.bytes(64)), 64);
  for (let i = 0; i < 10_000; i++) {
    expect(table.set({ protocol: 17, address: i, port: 7 }, i)).toBe(true);
    if (i >= 4) table.remove({ protocol: 17, address: i - 4, port: 7 });
    for (let j = Math.max(0, i - 5); j <= i; j++) expect(table.find(j, key(7, 17))).toBe(j > i - 4 ? j : -1);
  }
});
