// Many neighbours at a time say what one at a time says, whatever came and went before.
import { expect, test } from "bun:test";
import { FOUND_MAC0, FOUND_MAC1, FOUND_STATE, FOUND_WORDS } from "../../src/netbase/many.ts";
import type { NetbaseReader } from "../../src/netbase/netbase.ts";
import { NeighRow } from "../../src/netbase/rows.ts";
import { AF_INET, AF_INET6 } from "../../src/wire/address.ts";
import { Random } from "../random.ts";
import { makeNetbase } from "./make.ts";

const MOST = 100;
const ANSWERS = 0;
const QUESTIONS = MOST * FOUND_WORDS;

/** The n-th address: some have the last word in common, some all but the last. */
function address(six: boolean, n: number, out: Int32Array, at = 0): void {
  if (six) out.set([0x77fd, n % 3, n % 7, n % 5 === 0 ? 1 : n], at);
  else out[at] = 0x0a | (n << 8);
}

function find({ neigh4, neigh6 }: NetbaseReader, six: boolean, a: Int32Array, ifindex: number): number[] {
  const state = six ? neigh6.find(a[0]!, a[1]!, a[2]!, a[3]!, ifindex) : neigh4.find(a[0]!, ifindex);
  const { mac0, mac1 } = six ? neigh6 : neigh4;
  return state === 0 ? [0] : [state, mac0, mac1];
}

for (const six of [false, true])
  test(`IPv${six ? 6 : 4}: what one at a time says`, () => {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
    console.log(`many: seed ${seed}`);
    const random = new Random(seed);
    using nb = makeNetbase({ neighbours4: 300, neighbours6: 300 });
    const { writer, reader } = nb;
    const many = reader.many(QUESTIONS + MOST * 4);
    const all = six ? many.find6 : many.find4;
    const size = six ? 4 : 1;
    const row = new NeighRow();
    row.family = six ? AF_INET6 : AF_INET;
    row.lladdrLen = 6;
    let hits = 0;
    let misses = 0;
    for (let round = 0; round < 1000; round++) {
      for (let i = 0; i < 20; i++) {
        address(six, random.below(400), row.dst);
        row.ifindex = 2 + random.below(2) * 0x12345;
        row.state = 1 << (1 + random.below(4));
        crypto.getRandomValues(row.lladdr.subarray(0, 6));
        if (random.below(3) === 0) writer.neighs.remove(row);
        else writer.neighs.upsert(row);
      }
      writer.commit();
      reader.quiesce();
      const n = random.below(MOST + 1);
      const ifindex = 2 + random.below(2) * 0x12345;
      const asked = Array.from({ length: n }, (_, i) => {
        const one = new Int32Array(4);
        address(six, random.below(450), one);
        many.words.set(one.subarray(0, size), QUESTIONS + i * size);
        return one;
      });
      const want = asked.map((one) => find(reader, six, one, ifindex));
      const found = all(QUESTIONS, n, ANSWERS, ifindex);
      const got = asked.map((_, i) => {
        const answer = many.words.subarray(ANSWERS + i * FOUND_WORDS, ANSWERS + (i + 1) * FOUND_WORDS);
        const state = answer[FOUND_STATE]!;
        return state === 0 ? [0] : [state, answer[FOUND_MAC0]!, answer[FOUND_MAC1]!];
      });
      expect(got).toEqual(want);
      expect(found).toBe(want.filter(([state]) => state !== 0).length);
      hits += found;
      misses += n - found;
    }
    expect(Math.min(hits, misses)).toBeGreaterThan(5000);
  });

test("tables that are too large to be mapped beside the questions are refused, not cut off", () => {
  using nb = makeNetbase();
  expect(() => nb.reader.many(2 ** 30)).toThrow(RangeError);
});
