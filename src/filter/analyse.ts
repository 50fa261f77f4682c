// What can be known of a verified program before it runs, for the compiler: one pass back and one forth, since jumps go
// forward only. Everything is per instruction, as it is when that instruction begins, whichever way led there.
import {
  BPF_ABS,
  BPF_ALU,
  BPF_AND,
  BPF_IND,
  BPF_JA,
  BPF_JEQ,
  BPF_JMP,
  BPF_JSET,
  BPF_LD,
  BPF_LDX,
  BPF_MISC,
  BPF_MSH,
  BPF_RET,
  BPF_RSH,
  BPF_ST,
  BPF_STX,
  BPF_TAX,
  BPF_X,
} from "./opcodes.ts";
import type { Instruction, Program } from "./program.ts";

/** Bytes that a load takes, by the size bits of its code. */
export const SIZE: Readonly<Record<number, 1 | 2 | 4>> = { 0: 4, 8: 2, 16: 1 };

export const targetsOf = ({ code, jt, jf, k }: Instruction, at: number): number[] =>
  (code & 0x07) !== BPF_JMP ? [] : (code & 0xf0) === BPF_JA ? [at + 1 + k] : [at + 1 + jt, at + 1 + jf];

/** Whether it loads bytes of the packet to A: from a place that is no base's (SKF_*). */
const isPlain = ({ code, k }: Instruction): boolean =>
  (code & 0x07) === BPF_LD && ((code & 0xe0) === BPF_ABS ? (k | 0) >= 0 : (code & 0xe0) === BPF_IND);

/** Bytes of the packet that an absolute load at `k` needs, 0 if it is none (MSH is one too). */
function reach({ code, k }: Instruction): number {
  const signed = k | 0;
  const type = code & 0x07;
  const mode = code & 0xe0;
  if (signed < 0) return 0;
  if (type === BPF_LDX && mode === BPF_MSH) return signed + 1;
  return type === BPF_LD && mode === BPF_ABS ? signed + SIZE[code & 0x18]! : 0;
}

/** By instruction: bytes that a packet must have to be taken from there on; infinite where none is. */
export function neededBytes(program: Program): Float64Array {
  const needed = new Float64Array(program.length);
  for (let at = program.length - 1; at >= 0; at--) {
    const instruction = program[at]!;
    const targets = targetsOf(instruction, at);
    if ((instruction.code & 0x07) === BPF_RET)
      needed[at] = (instruction.code & 0x18) === 0x10 || instruction.k !== 0 ? 0 : Number.POSITIVE_INFINITY;
    else if (targets.length > 0) needed[at] = Math.min(...targets.map((to) => needed[to]!));
    else needed[at] = Math.max(reach(instruction), needed[at + 1]!);
  }
  return needed;
}

/** Whether a comparison of A is as good with its bytes in memory's order: with a constant, for equal or for a bit. */
const isEasy = ({ code }: Instruction): boolean =>
  (code & 0x07) === BPF_JMP &&
  (code & BPF_X) === 0 &&
  ((code & 0xf0) === BPF_JEQ || (code & 0xf0) === BPF_JSET);

/** Whether it takes bits of A away, which may be done as they lie in memory. */
const isMask = ({ code }: Instruction): boolean => code === (BPF_ALU | BPF_AND);

function readsA(instruction: Instruction): boolean {
  const { code } = instruction;
  const type = code & 0x07;
  if (type === BPF_JMP) return (code & 0xf0) !== BPF_JA && !isEasy(instruction);
  if (type === BPF_RET) return (code & 0x18) === 0x10;
  return type === BPF_ST || (type === BPF_ALU && !isMask(instruction)) || code === (BPF_MISC | BPF_TAX);
}

const writesA = ({ code }: Instruction): boolean =>
  (code & 0x07) === BPF_LD || ((code & 0x07) === BPF_MISC && code !== (BPF_MISC | BPF_TAX));

/** The loads whose value is only ever compared as it lies in memory: by instruction. */
function rawLoads(program: Program): Uint8Array {
  const needed = new Uint8Array(program.length + 1); // A as a number
  const raw = new Uint8Array(program.length);
  for (let at = program.length - 1; at >= 0; at--) {
    const instruction = program[at]!;
    const targets = targetsOf(instruction, at);
    const isEnd = (instruction.code & 0x07) === BPF_RET;
    const after = isEnd ? 0 : targets.length > 0 ? targets.some((to) => needed[to] === 1) : needed[at + 1];
    if (isPlain(instruction) && !after) raw[at] = 1;
    needed[at] = readsA(instruction) || (after && !writesA(instruction)) ? 1 : 0;
  }
  return raw;
}

// What A may be: several bits where ways meet. Bytes in memory's order; or a byte where it is in its word, from bit 8 or 16 on.
export const A_NUMBER = 1;
export const A_RAW2 = 2;
export const A_RAW4 = 4;
export const A_BYTE8 = 8;
export const A_BYTE16 = 16;

/** Where packets begin, in bytes after a whole word of their memory. */
export type Alignment = 0 | 2;

/** Whether it is known where in a word a plain load begins: absolute, or behind an IPv4 header. @param isNibble of X */
export const isPlaced = ({ code, k }: Instruction, isNibble: boolean): boolean =>
  (code & 0xe0) === BPF_ABS ? (k | 0) >= 0 : isNibble && k < 0x10000;

/** What a load leaves in A that need not be a number. */
function rawForm(instruction: Instruction, align: Alignment, isNibble: boolean): number {
  const size = SIZE[instruction.code & 0x18]!;
  if (size !== 1) return size === 2 ? A_RAW2 : A_RAW4;
  if (!isPlaced(instruction, isNibble)) return A_NUMBER;
  return [A_NUMBER, A_BYTE8, A_BYTE16, A_NUMBER][(align + instruction.k) & 3]!;
}

export interface Knowledge {
  /** A_* */
  readonly a: Uint8Array;
  /** A is a number below 2^31 */
  readonly small: Uint8Array;
  /** X is 4 * (a nibble): it came by MSH, or is the 0 that it began as */
  readonly nibble: Uint8Array;
  /** A_*: what this load leaves in A */
  readonly loaded: Uint8Array;
}

/** @param raw loads that may leave bytes in memory's order */
function follow(program: Program, raw: Uint8Array, align: Alignment): Knowledge {
  const n = program.length;
  const loaded = new Uint8Array(n).fill(A_NUMBER);
  const a = new Uint8Array(n);
  const small = new Uint8Array(n).fill(1);
  const nibble = new Uint8Array(n).fill(1);
  a[0] = A_NUMBER;
  for (const [at, instruction] of program.entries()) {
    if (a[at] === 0) continue; // nobody comes here
    const { code, k } = instruction;
    const type = code & 0x07;
    let now = a[at]!;
    let isSmall = small[at]!;
    let isNibble = nibble[at]!;
    if (type === BPF_LD) {
      if (raw[at] === 1) loaded[at] = rawForm(instruction, align, isNibble === 1);
      now = loaded[at]!;
      isSmall = isPlain(instruction) && SIZE[code & 0x18] !== 4 ? 1 : 0;
    } else if (type === BPF_LDX) isNibble = (code & 0xe0) === BPF_MSH ? 1 : 0;
    else if (type === BPF_ALU) {
      const byK = (code & BPF_X) === 0;
      const shrinks = (code & 0xf0) === BPF_AND ? (k | 0) >= 0 : (code & 0xf0) === BPF_RSH && k > 0;
      isSmall = byK && shrinks ? 1 : 0;
    } else if (type === BPF_MISC) {
      if (code === (BPF_MISC | BPF_TAX)) isNibble = 0;
      else {
        now = A_NUMBER;
        isSmall = isNibble;
      }
    }
    const targets = targetsOf(instruction, at);
    for (const to of targets.length > 0 ? targets : type === BPF_RET ? [] : [at + 1]) {
      a[to]! |= now;
      small[to]! &= isSmall;
      nibble[to]! &= isNibble;
    }
  }
  return { a, small, nibble, loaded };
}

export function analyse(program: Program, align: Alignment): Knowledge {
  const known = follow(program, rawLoads(program), align);
  // A comparison that two kinds of loads lead to: then all of them are numbers.
  const isMixed = program.some((one, at) => {
    const form = known.a[at]!;
    return (isEasy(one) || isMask(one)) && (form & (form - 1)) !== 0;
  });
  return isMixed ? follow(program, new Uint8Array(program.length), align) : known;
}

/** Whether scratch words are written at all: which. */
export const scratchOf = (program: Program): Set<number> =>
  new Set(
    program.filter(({ code }) => (code & 0x07) === BPF_ST || (code & 0x07) === BPF_STX).map(({ k }) => k),
  );
