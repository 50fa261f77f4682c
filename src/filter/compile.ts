// A verified program as JavaScript source, and that as a function. Jumps go forward only, so a program is nested labelled
// blocks, one a jump target, all open at its start; a jump leaves its target's block, and what follows the block is the
// target:
//
//   b9: { b4: { ...; if (a === 6) break b4; break b9; } /* instruction 4 */ ... } /* instruction 9 */ ...
//
// A, X and the scratch words are locals, as signed 32-bit numbers, which is what the machine has. A packet's bytes come out
// of whole words (`w`), since it is known where in a word packets begin; what is only compared stays as it lies in memory,
// and the constant is turned round instead (analyse.ts). A packet's length is checked where it becomes known that it must
// have more: a load beyond its end means 0, and so may everything that leads there. The source is made of integers alone. Nothing of a client's text ever gets into it.
//
// Programs that differ in nothing but addresses and ports have one source, their shape, with the constants beside it (`c`):
// then thousands of filters are one function, which is soon a fast one.
import {
  A_BYTE16,
  A_BYTE8,
  A_NUMBER,
  A_RAW2,
  type Alignment,
  analyse,
  isPlaced as isPlacedAt,
  type Knowledge,
  neededBytes,
  SIZE,
  scratchOf,
  targetsOf,
} from "./analyse.ts";
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
  BPF_JSET,
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
/** IPv4, ARP, RARP, VLAN, IPv6, Q-in-Q, MPLS, PPPoE: in programs they say what kind of packet it is. */
const ETHERTYPES = new Set([0x0800, 0x0806, 0x8035, 0x8100, 0x86dd, 0x88a8, 0x9100, 0x8847, 0x8863, 0x8864]);

const ANCILLARY: Record<number, string> = {
  0: "meta.protocol",
  8: "meta.ifindex",
  24: "meta.queue",
  44: "meta.vlanTci",
  48: "meta.vlanPresent",
  56: "Math.random() * 4294967296",
  60: "meta.vlanTpid",
};

const swap16 = (half: number): number => ((half & 0xff) << 8) | ((half >>> 8) & 0xff);
const swap32 = (word: number): number => (swap16(word) << 16) | swap16(word >>> 16);

const isByte = (form: number): boolean => form === A_BYTE8 || form === A_BYTE16;

/** What a source is for. */
interface Form {
  /** a shape: takes the constants that are not part of it */
  readonly constants?: number[];
  /** not a function's body: jumps there with the verdict in `verdict` */
  readonly label?: string;
}

class Source {
  readonly lines: string[] = ["let a = 0, x = 0, h = 0;", "const i = off >> 2;"];
  private readonly program: Program;
  private readonly known: Knowledge;
  private readonly align: Alignment;
  private readonly form: Form;

  constructor(program: Program, align: Alignment, form: Form = {}) {
    this.program = program;
    this.known = analyse(program, align);
    this.align = align;
    this.form = form;
    this.write();
  }

  private write(): void {
    const { program, lines } = this;
    const jumps = program.map(targetsOf);
    const labels = [...new Set(jumps.flat())].sort((one, other) => one - other);
    const starts = new Set([0, ...labels]);
    const scratch = [...scratchOf(program)];
    if (scratch.length > 0) lines.push(`let ${scratch.map((k) => `m${k} = 0`).join(", ")};`);
    for (const label of labels.toReversed()) lines.push(`b${label}: {`);

    const needed = neededBytes(program);
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
      if (needed[at] === Number.POSITIVE_INFINITY) {
        lines.push(this.answer("0"));
        falls = false;
        continue;
      }
      if (needed[at]! > known) {
        known = needed[at]!;
        lines.push(`if (len < ${known}) ${this.answer("0")}`);
      }
      for (const target of jumps[at]!) checked[target] = Math.min(checked[target]!, known);
      lines.push(this.statement(instruction, at));
      falls = jumps[at]!.length === 0 && (instruction.code & 0x07) !== BPF_RET;
    }
  }

  private answer(verdict: string): string {
    const { label } = this.form;
    return label === undefined ? `return ${verdict};` : `{ verdict = ${verdict}; break ${label}; }`;
  }

  private statement(instruction: Instruction, at: number): string {
    const { code, jt, jf, k } = instruction;
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
        const size = SIZE[code & 0x18]!;
        const raw = this.known.loaded[at] !== A_NUMBER;
        const isPlaced = isPlacedAt(instruction, this.known.nibble[at] === 1);
        if (isPlaced && mode === BPF_ABS) return `a = ${this.bytes("i", signed, size, raw)};`;
        if (isPlaced)
          return `if (len < ((x + ${signed + size}) | 0)) ${this.answer("0")} a = ${this.bytes("i + h", signed, size, raw)};`;
        const index = mode === BPF_ABS ? `${signed}` : `(x + ${signed}) | 0`;
        return `{ let p = ${index}; if (p < 0) p = place(p, ${size}, len, meta.netOff); if (p < 0 || p > len - ${size}) ${this.answer("0")} a = ${anywhere(size, raw)}; }`;
      }
      case BPF_LDX: {
        const mode = code & 0xe0;
        if (mode === BPF_IMM) return `x = ${signed};`;
        if (mode === BPF_LEN) return "x = len;";
        if (mode !== BPF_MSH) return `x = m${k};`;
        if (signed >= 0) return `h = ${this.bytes("i", signed, 1, false)} & 15; x = h << 2;`;
        return `{ const p = place(${signed}, 1, len, meta.netOff); if (p < 0) ${this.answer("0")} h = u[off + p] & 15; x = h << 2; }`;
      }
      case BPF_ST:
        return `m${k} = a;`;
      case BPF_STX:
        return `m${k} = x;`;
      case BPF_ALU:
        if (code === (BPF_ALU | BPF_AND)) return `a &= ${this.turned(signed, at)};`;
        return `${byZero(code) ? `if (x === 0) ${this.answer("0")} ` : ""}${arithmetic(code, operand)}`;
      case BPF_JMP: {
        if ((code & 0xf0) === BPF_JA) return go(at, at + 1 + k);
        if (jt === jf) return go(at, at + 1 + jt);
        const condition = this.comparison(code, signed, at);
        const yes = go(at, at + 1 + jt);
        const no = go(at, at + 1 + jf);
        if (yes === "") return `if (!(${condition})) ${no}`;
        return `if (${condition}) ${yes}${no === "" ? "" : ` ${no}`}`;
      }
      case BPF_RET:
        return this.answer((code & 0x18) === BPF_A ? "a >>> 0" : `${k >>> 0}`);
      default:
        if (code === (BPF_MISC | BPF_TAX)) return "x = a;";
        return "a = x;";
    }
  }

  /** `size` bytes at byte `at` of the packet, which begins in word `i`: as a number, or `raw`, as analyse.ts has it. */
  private bytes(i: string, at: number, size: 1 | 2 | 4, raw: boolean): string {
    const first = this.align + at;
    const shift = (first & 3) * 8;
    const word = (n: number) => `w[(${i} + ${(first >> 2) + n}) | 0]`;
    const low = shift === 0 ? word(0) : `${word(0)} >>> ${shift}`;
    if (size === 1) return raw ? `${word(0)} & ${255 << shift}` : shift === 24 ? low : `(${low}) & 255`;
    if (size === 2) {
      if (shift === 24)
        return raw ? `(${low}) | ((${word(1)} & 255) << 8)` : `((${low}) << 8) | (${word(1)} & 255)`;
      const half = shift === 16 ? low : `(${low}) & 65535`;
      return raw ? half : `((a = ${half}) >>> 8) | ((a & 255) << 8)`;
    }
    const whole = shift === 0 ? low : `(${low}) | (${word(1)} << ${32 - shift})`;
    return raw ? whole : `((a = ${whole}) << 24) | ((a & 65280) << 8) | ((a >>> 8) & 65280) | (a >>> 24)`;
  }

  private comparison(code: number, signed: number, at: number): string {
    const { known } = this;
    const byX = (code & BPF_X) !== 0;
    const operation = code & 0xf0;
    if (operation === BPF_JEQ || operation === BPF_JSET) {
      const form = known.a[at]!;
      const isEqual = operation === BPF_JEQ;
      if (byX) return isEqual ? "a === x" : "(a & x) !== 0";
      const isTooLong = signed >>> (form === A_RAW2 ? 16 : 8) !== 0 && (form === A_RAW2 || isByte(form));
      const value = isEqual && isTooLong ? -1 : this.turned(signed, at);
      return isEqual ? `a === ${this.constant(signed, value)}` : `(a & ${value}) !== 0`;
    }
    const sign = operation === BPF_JGT ? ">" : ">=";
    if (byX) return `(a ^ -2147483648) ${sign} (x ^ -2147483648)`;
    if (operation === BPF_JGE && signed === 0) return "true";
    if (known.small[at] === 1) return signed < 0 ? "false" : `a ${sign} ${this.constant(signed, signed)}`;
    return `(a ^ -2147483648) ${sign} ${this.constant(signed, signed ^ 0x80000000)}`;
  }

  /** A constant as A is when an instruction begins: as a number, or as it lies in memory. */
  private turned(value: number, at: number): number {
    const form = this.known.a[at]!;
    if (isByte(form)) return (value & 255) << (form === A_BYTE8 ? 8 : 16);
    return form === A_RAW2 ? swap16(value) : form === A_NUMBER ? value : swap32(value);
  }

  /** An address or a port is the filter's own, and stands there once; what kind of packet it is about is its shape's. */
  private constant(said: number, value: number): string {
    const { constants } = this.form;
    if (constants === undefined || (said >= 0 && said < 256) || ETHERTYPES.has(said)) return `${value}`;
    const known = constants.indexOf(value);
    return `c[(n + ${known < 0 ? constants.push(value) - 1 : known}) | 0]`;
  }
}

/** Bytes at `off + p`, wherever that is in a word. */
function anywhere(size: 1 | 2 | 4, raw: boolean): string {
  const byte = (i: number) => `u[off + p${i === 0 ? "" : ` + ${i}`}]`;
  return Array.from({ length: size }, (_, i) => {
    const shift = 8 * (raw ? i : size - 1 - i);
    return shift === 0 ? byte(i) : `(${byte(i)} << ${shift})`;
  }).join(" | ");
}

/** `break` to an instruction; nothing where it comes next anyway. */
const go = (from: number, to: number): string => (to === from + 1 ? "" : `break b${to};`);

/** Whether it divides by X, which may be 0. */
const byZero = (code: number): boolean =>
  (code & BPF_X) !== 0 && ((code & 0xf0) === BPF_DIV || (code & 0xf0) === BPF_MOD);

function arithmetic(code: number, operand: string): string {
  switch (code & 0xf0) {
    case BPF_ADD:
      return `a = (a + ${operand}) | 0;`;
    case BPF_SUB:
      return `a = (a - ${operand}) | 0;`;
    case BPF_MUL:
      return `a = Math.imul(a, ${operand});`;
    case BPF_DIV:
      return `a = ((a >>> 0) / (${operand} >>> 0)) | 0;`;
    case BPF_MOD:
      return `a = ((a >>> 0) % (${operand} >>> 0)) | 0;`;
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

/** The body of a function of (off, len), for the eyes of tests and `netd filter compile`, and for `compile`. */
export const source = (program: Program, align: Alignment): string =>
  new Source(program, align).lines.join("\n");

/** The same as the statements of a block with the label `label`, that leave the verdict in `verdict`: for a loop. */
export const sourceInPlace = (program: Program, align: Alignment, label: string): string =>
  new Source(program, align, { label }).lines.join("\n");

/** Whether a program can be compiled. */
export const isCompilable = (program: Program): boolean =>
  new Set(program.flatMap(targetsOf)).size <= MOST_BLOCKS;

/** What a program has in common with others, as the body of a function of (off, len, n), and what it has for itself. */
export interface Shape {
  readonly text: string;
  /** the function finds them from word n on */
  readonly constants: readonly number[];
}

/** @param program one that is compilable */
export function shapeOf(program: Program, align: Alignment): Shape {
  const constants: number[] = [];
  const { lines } = new Source(program, align, { constants });
  return { text: lines.join("\n"), constants };
}

const PARAMETERS = ["w", "u", "c", "meta", "place"];

/** A shape's function. @param constants of all filters */
export type ShapeFilter = (off: number, len: number, n: number) => number;

/** @param text of a Shape; @param bytes the memory that packets lie in, whole words; @param constants of all filters */
export const makeShape = (text: string, bytes: Uint8Array, constants: Int32Array, meta: Meta): ShapeFilter =>
  new Function(...PARAMETERS, `return function filter(off, len, n) {\n${text}\n}`)(
    new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2),
    bytes,
    constants,
    meta,
    place,
  ) as ShapeFilter;

/**
 * @param program that verify() lets through; @param bytes the memory that packets lie in, whole words
 * @param align where packets begin in it
 */
export function compile(program: Program, bytes: Uint8Array, meta: Meta, align: Alignment): Filter {
  if (!isCompilable(program)) return interpreter(program, bytes, meta);
  return makeShape(source(program, align), bytes, NONE, meta) as unknown as Filter;
}

const NONE = new Int32Array(0);
