// May this program run? The kernel's own rules, in its order (net/core/filter.c: bpf_check_basics_ok, bpf_check_classic,
// check_load_and_stores): what they let through always ends, and never reads scratch memory that it did not write.
// Beside them one of ours: ancillary loads that only mean something inside the kernel are refused, if asked to.
import {
  ancillary,
  BPF_A,
  BPF_ABS,
  BPF_ALU,
  BPF_DIV,
  BPF_JA,
  BPF_JMP,
  BPF_K,
  BPF_LD,
  BPF_LDX,
  BPF_LSH,
  BPF_MAXINSNS,
  BPF_MEM,
  BPF_MEMWORDS,
  BPF_MOD,
  BPF_RET,
  BPF_RSH,
  BPF_ST,
  BPF_STX,
  known,
  SKF_AD_OFF,
} from "./opcodes.ts";
import type { Program } from "./program.ts";

/** Why a program is refused. */
export interface Fault {
  /** instruction, from 0; -1: the program as a whole */
  readonly at: number;
  readonly message: string;
}

/** The ancillary load that the instruction is, if it is one. */
export const ancillaryOf = (code: number, k: number): (typeof ancillary)[number] | undefined =>
  (code & ~0x18) === (BPF_LD | BPF_ABS) ? ancillary.find(({ at }) => at === (k | 0) - SKF_AD_OFF) : undefined;

/**
 * Undefined if the kernel would take the program.
 * @param userspace refuse also the loads that userspace cannot do
 */
export function verify(program: Program, userspace = false): Fault | undefined {
  const n = program.length;
  if (n === 0 || n > BPF_MAXINSNS)
    return { at: -1, message: `${n} instructions: expected 1 to ${BPF_MAXINSNS}` };
  for (let at = 0; at < n; at++) {
    const { code, jt, jf, k } = program[at]!;
    const left = n - at - 1;
    if (!known.has(code)) return { at, message: `0x${code.toString(16)} is no operation` };
    const operation = code & 0xf0;
    switch (code & 0x07) {
      case BPF_ALU:
        if ((code & 0x08) !== BPF_K) break;
        if ((operation === BPF_DIV || operation === BPF_MOD) && k === 0)
          return { at, message: "division by zero" };
        if ((operation === BPF_LSH || operation === BPF_RSH) && k >= 32)
          return { at, message: `shift by ${k}: expected 0 to 31` };
        break;
      case BPF_LD:
        if ((code & 0xe0) === BPF_ABS && k >= SKF_AD_OFF >>> 0) {
          const load = ancillaryOf(code, k);
          if (load === undefined) return { at, message: `no ancillary data at ${(k | 0) - SKF_AD_OFF}` };
          if (userspace && !load.here) return { at, message: `"${load.name}" is known to the kernel alone` };
        }
        if ((code & 0xe0) === BPF_MEM && k >= BPF_MEMWORDS) return { at, message: `no scratch word ${k}` };
        break;
      case BPF_LDX:
        if ((code & 0xe0) === BPF_MEM && k >= BPF_MEMWORDS) return { at, message: `no scratch word ${k}` };
        break;
      case BPF_ST:
      case BPF_STX:
        if (k >= BPF_MEMWORDS) return { at, message: `no scratch word ${k}` };
        break;
      case BPF_JMP:
        if (operation === BPF_JA ? k >= left : jt >= left || jf >= left)
          return { at, message: "jumps over the program's end" };
        break;
    }
  }
  const last = program[n - 1]!.code;
  if (last !== (BPF_RET | BPF_K) && last !== (BPF_RET | BPF_A))
    return { at: n - 1, message: "the last instruction does not return" };
  return unwritten(program);
}

/** The first load of a scratch word that not every path to it has stored to. */
function unwritten(program: Program): Fault | undefined {
  /** Words that are written on every path by jumps to here, a bit each. */
  const reached = new Uint16Array(program.length).fill(0xffff);
  let written = 0;
  for (const [at, { code, jt, jf, k }] of program.entries()) {
    written &= reached[at]!;
    const type = code & 0x07;
    if (type === BPF_ST || type === BPF_STX) written |= 1 << k;
    else if (type === BPF_JMP) {
      const targets = (code & 0xf0) === BPF_JA ? [k] : [jt, jf];
      for (const target of targets) reached[at + 1 + target]! &= written;
      written = 0xffff; // what comes next is reached by jumps alone
    } else if (
      (type === BPF_LD || type === BPF_LDX) &&
      (code & 0xe0) === BPF_MEM &&
      (written & (1 << k)) === 0
    )
      return { at, message: `scratch word ${k} is read before it is written` };
  }
  return undefined;
}
