// The verifier against SO_ATTACH_FILTER, and the interpreter and the compiled function against the kernel's verdicts.
// NETD_SEED repeats a run; NETD_PROGRAMS makes it longer.
import { expect, setDefaultTimeout, test } from "bun:test";
import { compile, Compiler } from "../../src/filter/compile.ts";
import { interpreter } from "../../src/filter/interpret.ts";
import { plainMeta } from "../../src/filter/packet.ts";
import { format, type Program } from "../../src/filter/program.ts";
import { PART, shapeOf } from "../../src/filter/source.ts";
import { verify } from "../../src/filter/verify.ts";
import { KernelFilter } from "./kernel.ts";
import { Random } from "../random.ts";
import { packet, program } from "./programs.ts";

setDefaultTimeout(600_000);

const PROGRAMS = Number(process.env["NETD_PROGRAMS"] ?? 10_000);
const PAIRS = 100 * PROGRAMS;
const seed = Number(process.env["NETD_SEED"] ?? (Math.random() * 0x7fffffff) | 0);
const EINVAL = 22;

/** Does it load what differs from one kernel to the next, or at random? */
const strange = (one: Program): boolean =>
  one.some(({ code, k }) => (code & 0x07) === 0 && (code & 0xe0) === 0x20 && k >= 0xfffff000);

test(`${PROGRAMS} random programs are taken and refused as the kernel does; ${PAIRS} verdicts are the kernel's`, () => {
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  using kernel = new KernelFilter();
  const bytes = new Uint8Array(128);
  const meta = { ...plainMeta(), netOff: 0 };
  let taken = 0;
  let accepted = 0;
  let runs = 0;
  const check = (made: Program): boolean => {
    const fault = verify(made);
    const answer = kernel.attach(made);
    if (answer !== (fault ? EINVAL : 0))
      throw new Error(
        `seed ${seed}: kernel says ${answer}, verify ${JSON.stringify(fault)}:\n${format(made)}`,
      );
    return answer === 0;
  };
  for (let i = 0; i < PROGRAMS || runs < PAIRS; i++) {
    const made = program(random);
    if (!check(made)) continue;
    taken++;
    if (strange(made)) continue;
    const interpreted = interpreter(made, bytes, meta);
    const compiled = [compile(made, bytes, meta, 0), compile(made, bytes, meta, 2)] as const;
    // As a shape with its constants beside it, or in parts of a few instructions.
    const size = random.chance(50) ? PART : 1 + random.below(9);
    const { parts, constants } = shapeOf(made, 0, size);
    const shape = new Compiler(bytes, Int32Array.of(0, ...constants), meta).shape({ parts }, size);
    for (let j = 0; j < 200; j++) {
      const one = packet(random);
      const off = j & 2;
      bytes.fill(0xee).set(one, off);
      const verdict = interpreted(off, one.length);
      const wanted = verdict === 0 ? 0 : Math.min(verdict, one.length);
      const found = kernel.run(one);
      const ours = [compiled[off >> 1]!(off, one.length), off === 0 ? shape(0, one.length, 1) : verdict];
      if (found !== wanted || ours[0] !== verdict || ours[1] !== verdict)
        throw new Error(
          `seed ${seed}: kernel ${found}, interpreter ${verdict}, compiled, shape ${ours} at ${off} on ${one}:\n${format(made)}`,
        );
      if (verdict !== 0) accepted++;
      runs++;
    }
  }
  console.log(`${taken} of ${PROGRAMS} programs taken, ${accepted} of ${runs} packets accepted`);
  expect(taken).toBeGreaterThan(PROGRAMS / 10);
  expect(accepted).toBeGreaterThan(runs / 50);
  expect(accepted).toBeLessThan(runs - runs / 50);
});

test("programs of the lengths at the limits", () => {
  const ret = { code: 6, jt: 0, jf: 0, k: 1 };
  for (const n of [0, 1, 4095, 4096, 4097]) {
    using kernel = new KernelFilter(); // one each: the old filter is charged to the socket until the new one is there
    const made = Array.from({ length: n }, () => ret);
    expect([n, kernel.attach(made) === 0]).toEqual([n, verify(made) === undefined]);
  }
});
