// Random programs: nearly right ones, from the operations that there are, then bent a little, so that both verdicts of a
// verifier are common; and packets to run them on.
import { ancillary, BPF_MEMWORDS, known, SKF_AD_OFF, SKF_NET_OFF } from "../../src/filter/opcodes.ts";
import type { Instruction, Program } from "../../src/filter/program.ts";
import type { Random } from "../random.ts";

const codes = [...known];
const RETURNS = [0x06, 0x16];

/** Offsets, constants and shifts that matter: small, at the edges of ranges, at the packet's end, anything. */
const constant = (r: Random): number =>
  r.pick([
    () => r.below(4),
    () => r.below(40),
    () => r.below(70),
    () => r.below(256),
    () => 0x7fffffff - r.below(3),
    () => 0xffffffff - r.below(3),
    () => r.word(),
  ])();

function instruction(r: Random, left: number): Instruction {
  const code = r.pick(codes);
  const type = code & 7;
  const jump = () => (left > 1 && r.below(40) > 0 ? r.below(Math.min(left, 12)) : r.below(256));
  let k = constant(r);
  const mode = code & 0xe0;
  if (type === 2 || type === 3 || (type <= 1 && mode === 0x60))
    k = r.below(100) > 0 ? r.below(4) : BPF_MEMWORDS;
  if (type === 5 && (code & 0xf0) === 0) k = jump();
  // Scratch words are seldom loaded, or hardly a program would be taken; packets are short, so loads must be near.
  if ((type === 0 && (mode === 0x20 || mode === 0x40)) || mode === 0xa0)
    k = r.below(20) > 0 ? r.below(48) : r.pick([k, (SKF_NET_OFF + r.below(30)) >>> 0]);
  return { code, jt: jump(), jf: jump(), k };
}

export function program(r: Random): Program {
  const n = 1 + r.below(r.pick([3, 10, 30]));
  const made: Instruction[] = [];
  // All scratch words that are loaded are stored first, mostly.
  if (r.below(8) > 0) for (let k = 0; k < 4; k++) made.push({ code: r.pick([2, 3]), jt: 0, jf: 0, k });
  for (let i = 0; i < n; i++) made.push(instruction(r, n - i));
  made.push({
    code: r.below(50) > 0 ? r.pick(RETURNS) : r.pick(codes),
    jt: 0,
    jf: 0,
    k: r.pick([0, 1, 9, 30, 0xffff, 0xffffffff]),
  });
  if (r.below(4) === 0) {
    const at = r.below(made.length);
    const one = made[at]!;
    made[at] = r.pick<Instruction>([
      { ...one, code: r.below(256) },
      { ...one, code: r.below(0x10000) },
      { ...one, k: r.word() },
      {
        ...one,
        k: (SKF_AD_OFF + r.pick(ancillary).at + r.below(2)) >>> 0,
        code: r.pick([0x20, 0x28, 0x30, 0x40, 0xb1]),
      },
      { ...one, jt: 255 - r.below(3) },
    ]);
  }
  return made;
}

/** Up to 64 bytes, of few different values, so that comparisons hold now and then. */
export function packet(r: Random): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(1 + r.below(64)));
  const plain = r.below(2) === 0;
  for (let i = 0; i < bytes.length; i++) bytes[i] = plain ? r.below(4) : r.word();
  return bytes;
}
