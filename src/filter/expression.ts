// The expressions of a program's source (source.ts): loads of a packet's bytes from whole words (`w`) or bytes (`u`) of memory,
// arithmetic and comparisons, of A, X and constants as signed 32-bit numbers.
import { swap32 } from "../wire/address.ts";
import { swap16 } from "../wire/packet.ts";
import { A_BYTE16, A_BYTE8, A_NUMBER, A_RAW2 } from "./analyse.ts";
import {
  BPF_ADD,
  BPF_AND,
  BPF_DIV,
  BPF_JEQ,
  BPF_JGE,
  BPF_JGT,
  BPF_JSET,
  BPF_LSH,
  BPF_MOD,
  BPF_MUL,
  BPF_NEG,
  BPF_OR,
  BPF_RSH,
  BPF_SUB,
  BPF_X,
} from "./opcodes.ts";

const isByte = (form: number): boolean => form === A_BYTE8 || form === A_BYTE16;

/** `size` bytes at byte `at` after word `i` of memory: as a number, or `raw`, as analyse.ts has it. */
export function bytesAt(i: string, at: number, size: 1 | 2 | 4, raw: boolean): string {
  const shift = (at & 3) * 8;
  const word = (n: number) => `w[(${i} + ${(at >> 2) + n}) | 0]`;
  const low = shift === 0 ? word(0) : `${word(0)} >>> ${shift}`;
  if (size === 1) return raw ? `${word(0)} & ${255 << shift}` : shift === 24 ? low : `(${low}) & 255`;
  if (size === 2) {
    if (shift === 24)
      return raw ? `(${low}) | ((${word(1)} & 255) << 8)` : `((${low}) << 8) | (${word(1)} & 255)`;
    if (raw) return shift === 16 ? low : `(${low}) & 65535`;
    if (shift === 16) return `((a = ${word(0)}) >>> 24) | ((a >>> 8) & 65280)`;
    return `(((a = ${low}) >>> 8) & 255) | ((a & 255) << 8)`;
  }
  const whole = shift === 0 ? low : `(${low}) | (${word(1)} << ${32 - shift})`;
  return raw ? whole : `((a = ${whole}) << 24) | ((a & 65280) << 8) | ((a >>> 8) & 65280) | (a >>> 24)`;
}

/** Bytes at `off + p`, wherever that is in a word. */
export function anywhere(size: 1 | 2 | 4, raw: boolean): string {
  const byte = (i: number) => `u[off + p${i === 0 ? "" : ` + ${i}`}]`;
  return Array.from({ length: size }, (_, i) => {
    const shift = 8 * (raw ? i : size - 1 - i);
    return shift === 0 ? byte(i) : `(${byte(i)} << ${shift})`;
  }).join(" | ");
}

/** A constant as A is in this form. */
export function turned(value: number, form: number): number {
  if (isByte(form)) return (value & 255) << (form === A_BYTE8 ? 8 : 16);
  return form === A_RAW2 ? swap16(value) : form === A_NUMBER ? value : swap32(value);
}

/**
 * The condition of a conditional jump. @param form of A (A_*); @param isSmall A is below 2^31
 * @param constant how a constant is said, and its value as it is to be
 */
export function comparison(
  code: number,
  signed: number,
  form: number,
  isSmall: boolean,
  constant: (said: number, value: number) => string,
): string {
  const byX = (code & BPF_X) !== 0;
  const operation = code & 0xf0;
  if (operation === BPF_JEQ || operation === BPF_JSET) {
    const isEqual = operation === BPF_JEQ;
    if (byX) return isEqual ? "a === x" : "(a & x) !== 0";
    const isTooLong = signed >>> (form === A_RAW2 ? 16 : 8) !== 0 && (form === A_RAW2 || isByte(form));
    const value = isEqual && isTooLong ? -1 : turned(signed, form);
    return isEqual ? `a === ${constant(signed, value)}` : `(a & ${value}) !== 0`;
  }
  const sign = operation === BPF_JGT ? ">" : ">=";
  if (byX) return `(a ^ -2147483648) ${sign} (x ^ -2147483648)`;
  if (operation === BPF_JGE && signed === 0) return "true";
  if (isSmall) return signed < 0 ? "false" : `a ${sign} ${constant(signed, signed)}`;
  return `(a ^ -2147483648) ${sign} ${constant(signed, signed ^ 0x80000000)}`;
}

/** Whether it divides by X, which may be 0. */
export const byZero = (code: number): boolean =>
  (code & BPF_X) !== 0 && ((code & 0xf0) === BPF_DIV || (code & 0xf0) === BPF_MOD);

export function arithmetic(code: number, operand: string): string {
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
