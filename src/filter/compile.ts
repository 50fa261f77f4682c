// A verified program as JavaScript source, and that as a function. Jumps go forward only, so a program is nested labelled
// blocks, one a jump target, all open at its start; a jump leaves its target's block, and what follows the block is the
// target:
//
//   b9: { b4: { ...; if (a === 6) break b4; break b9; } /* instruction 4 */ ... } /* instruction 9 */ ...
//
// A, X and the scratch words are locals, as signed 32-bit numbers, which is what the machine has; unsigned comparisons
// flip both top bits. A basic block's loads are checked against the packet's length once, at its start: whichever of
// them would fail, the answer is 0; blocks that can only be reached by such a check do without. The source is made of
// integers alone. Nothing of a client's text ever gets into it.
import {
  BPF_A,
  BPF_ABS,
  BPF_ADD,
  BPF_ALU,
  BPF_AND,
  BPF_DIV,
  BPF_IMM,
  BPF_IND,
  BPF_JA,
  BPF_JEQ,
  BPF_JGE,
  BPF_JGT,
  BPF_JMP,
  BPF_LD,
  BPF_LDX,
  BPF_LEN,
  BPF_LSH,
  BPF_MISC,
  BPF_MOD,
  BPF_MSH,
  BPF_MUL,
  BPF_NEG,
  BPF_OR,
  BPF_RET,
  BPF_RSH,
  BPF_ST,
  BPF_STX,
  BPF_SUB,
  BPF_TAX,
  BPF_X,
  SKF_AD_OFF,
} from "./opcodes.ts";
import { type Filter, interpreter, place } from "./interpret.ts";
import type { Meta } from "./packet.ts";
import type { Instruction, Program } from "./program.ts";

/** Jump targets at most: every one is a nested block, and the parser's stack is finite. Longer programs are interpreted. */
const MOST_BLOCKS = 1000;

const ANCILLARY: Record<number, string> = {
  0: "meta.protocol",
  8: "meta.ifindex",
  24: "meta.queue",
  44: "meta.vlanTci",
  48: "meta.vlanPresent",
  56: "Math.random() * 4294967296",
  60: "meta.vlanTpid",
};

const GET = { 0: "getInt32", 8: "getUint16", 16: "getUint8" } as Record<number, string>;
const SIZE = { 0: 4, 8: 2, 16: 1 } as Record<number, number>;

/** Bytes of the packet that an absolute load at `k` needs, 0 if it is none (MSH is one too). */
function reach({ code, k }: Instruction): number {
  const signed = k | 0;
  const type = code & 0x07;
  const mode = code & 0xe0;
  if (signed < 0) return 0;
  if (type === BPF_LDX && mode === BPF_MSH) return signed + 1;
  return type === BPF_LD && mode === BPF_ABS ? signed + SIZE[code & 0x18]! : 0;
}

const targetsOf = ({ code, jt, jf, k }: Instruction, at: number): number[] =>
  (code & 0x07) !== BPF_JMP ? [] : (code & 0xf0) === BPF_JA ? [at + 1 + k] : [at + 1 + jt, at + 1 + jf];

/** The body of a function of (off, len), for the eyes of tests and `netd filter compile`. */
export function source(program: Program): string {
  const jumps = program.map(targetsOf);
  const labels = [...new Set(jumps.flat())].sort((one, other) => one - other);
  const starts = new Set([0, ...labels]);
  const lines: string[] = ["let a = 0, x = 0;"];
  const scratch = new Set(
    program.filter(({ code }) => (code & 0x07) === BPF_ST || (code & 0x07) === BPF_STX).map(({ k }) => k),
  );
  if (scratch.size > 0) lines.push(`let ${[...scratch].map((k) => `m${k} = 0`).join(", ")};`);
  for (const label of labels.toReversed()) lines.push(`b${label}: {`);

  /** Bytes that every way to an instruction has found to be there. */
  const checked = new Float64Array(program.length).fill(Number.POSITIVE_INFINITY);
  checked[0] = 0;
  let falls = true; // from the instruction before
  let known = 0;
  for (const [at, instruction] of program.entries()) {
    if (at > 0 && starts.has(at)) {
      lines.push("}");
      known = Math.min(falls ? known : Number.POSITIVE_INFINITY, checked[at]!);
    } else if (!falls) continue; // nobody comes here
    if (at === 0 || starts.has(at)) {
      let needed = 0;
      for (let i = at; i < program.length; i++) {
        if (i > at && starts.has(i)) break;
        needed = Math.max(needed, reach(program[i]!));
        if (jumps[i]!.length > 0 || (program[i]!.code & 0x07) === BPF_RET) break;
      }
      if (needed > known) {
        lines.push(`if (len < ${needed}) return 0;`);
        known = needed;
      }
    }
    for (const target of jumps[at]!) checked[target] = Math.min(checked[target]!, known);
    lines.push(statement(instruction, at));
    falls = jumps[at]!.length === 0 && (instruction.code & 0x07) !== BPF_RET;
  }
  return lines.join("\n");
}

/** `break` to an instruction; nothing where it comes next anyway. */
const go = (from: number, to: number): string => (to === from + 1 ? "" : `break b${to};`);

function statement({ code, jt, jf, k }: Instruction, at: number): string {
  const signed = k | 0;
  const operand = (code & BPF_X) === 0 ? `${signed}` : "x";
  switch (code & 0x07) {
    case BPF_LD: {
      const mode = code & 0xe0;
      if (mode === BPF_IMM) return `a = ${signed};`;
      if (mode === BPF_LEN) return "a = len;";
      if (mode !== BPF_ABS && mode !== BPF_IND) return `a = m${k};`;
      if (mode === BPF_ABS && signed < 0 && signed >= SKF_AD_OFF)
        return `a = (${ANCILLARY[signed - SKF_AD_OFF]}) | 0;`;
      const get = GET[code & 0x18]!;
      if (mode === BPF_ABS && signed >= 0) return `a = view.${get}(off + ${signed});`;
      const size = SIZE[code & 0x18]!;
      const index = mode === BPF_ABS ? `${signed}` : `(x + ${signed}) | 0`;
      return `{ let p = ${index}; if (p < 0) p = place(p, ${size}, len, meta.netOff); if (p < 0 || p > len - ${size}) return 0; a = view.${get}(off + p); }`;
    }
    case BPF_LDX: {
      const mode = code & 0xe0;
      if (mode === BPF_IMM) return `x = ${signed};`;
      if (mode === BPF_LEN) return "x = len;";
      if (mode !== BPF_MSH) return `x = m${k};`;
      if (signed >= 0) return `x = (view.getUint8(off + ${signed}) & 15) << 2;`;
      return `{ const p = place(${signed}, 1, len, meta.netOff); if (p < 0) return 0; x = (view.getUint8(off + p) & 15) << 2; }`;
    }
    case BPF_ST:
      return `m${k} = a;`;
    case BPF_STX:
      return `m${k} = x;`;
    case BPF_ALU:
      return arithmetic(code, operand);
    case BPF_JMP: {
      if ((code & 0xf0) === BPF_JA) return go(at, at + 1 + k);
      if (jt === jf) return go(at, at + 1 + jt);
      const condition = comparison(code, operand, signed);
      const yes = go(at, at + 1 + jt);
      const no = go(at, at + 1 + jf);
      if (yes === "") return `if (!(${condition})) ${no}`;
      return `if (${condition}) ${yes}${no === "" ? "" : ` ${no}`}`;
    }
    case BPF_RET:
      return (code & 0x18) === BPF_A ? "return a >>> 0;" : `return ${k >>> 0};`;
    default:
      return code === (BPF_MISC | BPF_TAX) ? "x = a;" : "a = x;";
  }
}

function arithmetic(code: number, operand: string): string {
  const byX = (code & BPF_X) !== 0;
  const guard = byX ? "if (x === 0) return 0; " : "";
  switch (code & 0xf0) {
    case BPF_ADD:
      return `a = (a + ${operand}) | 0;`;
    case BPF_SUB:
      return `a = (a - ${operand}) | 0;`;
    case BPF_MUL:
      return `a = Math.imul(a, ${operand});`;
    case BPF_DIV:
      return `${guard}a = ((a >>> 0) / (${operand} >>> 0)) | 0;`;
    case BPF_MOD:
      return `${guard}a = ((a >>> 0) % (${operand} >>> 0)) | 0;`;
    case BPF_OR:
      return `a |= ${operand};`;
    case BPF_AND:
      return `a &= ${operand};`;
    case BPF_LSH:
      return `a <<= ${operand};`;
    case BPF_RSH:
      return `a = (a >>> ${operand}) | 0;`;
    case BPF_NEG:
      return "a = -a | 0;";
    default:
      return `a ^= ${operand};`;
  }
}

function comparison(code: number, operand: string, signed: number): string {
  const flipped = (code & BPF_X) === 0 ? `${signed ^ 0x80000000}` : "(x ^ -2147483648)";
  switch (code & 0xf0) {
    case BPF_JEQ:
      return `a === ${operand}`;
    case BPF_JGT:
      return `(a ^ -2147483648) > ${flipped}`;
    case BPF_JGE:
      return `(a ^ -2147483648) >= ${flipped}`;
    default:
      return `(a & ${operand}) !== 0`;
  }
}

/** @param program that verify() lets through; @param bytes the memory that packets lie in */
export function compile(program: Program, bytes: Uint8Array, meta: Meta): Filter {
  if (new Set(program.flatMap(targetsOf)).size > MOST_BLOCKS) return interpreter(program, bytes, meta);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const make = new Function(
    "view",
    "meta",
    "place",
    `return function filter(off, len) {\n${source(program)}\n}`,
  );
  return make(view, meta, place) as Filter;
}
