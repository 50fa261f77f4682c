// The Internet checksum's sum with SIMD, over frame memory (src/mem/frames.ts). JavaScript adds a word in half a
// nanosecond; this adds eight a step, so the call pays as soon as there are two steps' worth (86 bytes: 7 ns against 10; 1472
// bytes: 46 against 145).
import { add, all, type Code, Func, isUpTo, type Local, repeat, sub, vector, when } from "./wasm.ts";

/** From so many bytes on, a call of `sum` is quicker than adding up here. */
export const SIMD_BYTES = 32;

/**
 * `sumBytes` over this memory: the sum of the halves of `bytes` bytes from even `off`, on top of `sum`, not folded.
 * @param bytes at least 32
 */
export function simdSum(memory: WebAssembly.Memory): (off: number, bytes: number, sum: number) => number {
  const f = new Func("at", "end", "sum");
  const { at, end, sum } = f.parameters;
  const even = f.vector();
  const odd = f.vector();
  const count = (sums: Local, bytes: Code): Code => sums.set(vector.addWords(sums, vector.pairs(bytes)));
  const iota = vector.of([...Array(16).keys()]);
  // What is left is the end of the last 16 bytes: it is picked to the front, with zeros behind it.
  const last = vector.pick(vector.load(sub(end, 16)), vector.add(iota, vector.splat(sub(add(at, 16), end))));
  const body = all(
    end.by(at),
    repeat(
      all(count(even, vector.load(at)), count(odd, vector.load(at, 16)), at.by(32)),
      isUpTo(add(at, 32), end),
    ),
    when(isUpTo(add(at, 16), end), all(count(even, vector.load(at)), at.by(16))),
    count(odd, last),
    even.set(vector.addWords(even, odd)),
  );
  const lanes = [0, 1, 2, 3].map((lane) => vector.word(even, lane));
  return f.over(memory, body, lanes.reduce(add, sum.get));
}
