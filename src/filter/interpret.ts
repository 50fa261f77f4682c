// Runs a verified program one instruction at a time, from where it lies: what a filter does until it is compiled, and what
// the compiled one must agree with. The kernel's meaning (net/core/filter.c, bpf_convert_filter): A and X begin as 0; a load beyond
// the packet and a division by X = 0 return 0; shifts by X use its low 5 bits; numbers wrap at 32 bits.
import {
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
  BPF_MEMWORDS,
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
  BPF_XOR,
  SKF_AD_OFF,
  SKF_LL_OFF,
  SKF_NET_OFF,
} from "./opcodes.ts";
import type { Meta } from "./packet.ts";
import { type Program, programWords } from "./program.ts";

/** Verdict over the `len` bytes at `off`: 0 rejects, else how many bytes are taken (u32). */
export type Filter = (off: number, len: number) => number;

/** The ancillary word at SKF_AD_OFF + `at`. */
function besides(meta: Meta, at: number): number {
  switch (at) {
    case 0:
      return meta.protocol;
    case 8:
      return meta.ifindex;
    case 24:
      return meta.queue;
    case 44:
      return meta.vlanTci;
    case 48:
      return meta.vlanPresent;
    case 56:
      return (Math.random() * 0x1_0000_0000) | 0;
    default:
      return meta.vlanTpid;
  }
}

/** Where in the packet a load at signed offset `k` reads, or -1. */
export const place = (k: number, size: number, len: number, netOff: number): number => {
  const at = k >= 0 ? k : k >= SKF_NET_OFF ? netOff + k - SKF_NET_OFF : k >= SKF_LL_OFF ? k - SKF_LL_OFF : -1;
  return at <= len - size ? at : -1;
};

/** Runs the program that begins at word `at`, two words an instruction, over the `len` bytes at `off`. */
export type Machine = (at: number, off: number, len: number) => number;

/**
 * @param words of programs that verify() lets through, as `programWords` makes them
 * @param bytes the memory that packets lie in
 */
export function machine(words: Int32Array, bytes: Uint8Array, meta: Meta): Machine {
  const memory = new Int32Array(BPF_MEMWORDS);

  return (first, off, len) => {
    let a = 0;
    let x = 0;
    for (let at = first; ; at += 2) {
      const head = words[at]!;
      const op = head & 0xffff;
      const jt = (head >>> 16) & 0xff;
      const jf = head >>> 24;
      const k = words[at + 1]!;
      switch (op & 0x07) {
        case BPF_LD: {
          const mode = op & 0xe0;
          if (mode === BPF_ABS || mode === BPF_IND) {
            if (mode === BPF_ABS && k >= SKF_AD_OFF && k < 0) {
              a = besides(meta, k - SKF_AD_OFF) | 0;
              break;
            }
            const width = op & 0x18;
            const size = width === 0 ? 4 : width === 8 ? 2 : 1;
            const from = place(mode === BPF_ABS ? k : (x + k) | 0, size, len, meta.netOff);
            if (from < 0) return 0;
            a = bytes[off + from]!;
            for (let i = 1; i < size; i++) a = (a << 8) | bytes[off + from + i]!;
          } else a = mode === BPF_IMM ? k : mode === BPF_LEN ? len : memory[k]!;
          break;
        }
        case BPF_LDX: {
          const mode = op & 0xe0;
          if (mode === BPF_MSH) {
            const from = place(k, 1, len, meta.netOff);
            if (from < 0) return 0;
            x = (bytes[off + from]! & 15) << 2;
          } else x = mode === BPF_IMM ? k : mode === BPF_LEN ? len : memory[k]!;
          break;
        }
        case BPF_ST:
          memory[k] = a;
          break;
        case BPF_STX:
          memory[k] = x;
          break;
        case BPF_ALU: {
          const b = (op & BPF_X) === 0 ? k : x;
          switch (op & 0xf0) {
            case BPF_ADD:
              a = (a + b) | 0;
              break;
            case BPF_SUB:
              a = (a - b) | 0;
              break;
            case BPF_MUL:
              a = Math.imul(a, b);
              break;
            case BPF_DIV:
              if (b === 0) return 0;
              a = ((a >>> 0) / (b >>> 0)) | 0;
              break;
            case BPF_MOD:
              if (b === 0) return 0;
              a = ((a >>> 0) % (b >>> 0)) | 0;
              break;
            case BPF_OR:
              a |= b;
              break;
            case BPF_AND:
              a &= b;
              break;
            case BPF_XOR:
              a ^= b;
              break;
            case BPF_LSH:
              a <<= b;
              break;
            case BPF_RSH:
              a = (a >>> b) | 0;
              break;
            case BPF_NEG:
              a = -a | 0;
              break;
          }
          break;
        }
        case BPF_JMP: {
          const b = (op & BPF_X) === 0 ? k : x;
          switch (op & 0xf0) {
            case BPF_JA:
              at += k * 2;
              break;
            case BPF_JEQ:
              at += 2 * (a === b ? jt : jf);
              break;
            case BPF_JGT:
              at += 2 * (a >>> 0 > b >>> 0 ? jt : jf);
              break;
            case BPF_JGE:
              at += 2 * (a >>> 0 >= b >>> 0 ? jt : jf);
              break;
            case BPF_JSET:
              at += 2 * ((a & b) !== 0 ? jt : jf);
              break;
          }
          break;
        }
        case BPF_RET:
          return (op & 0x18) === 0 ? k >>> 0 : a >>> 0;
        case BPF_MISC:
          if ((op & 0xf8) === BPF_TAX) x = a;
          else a = x;
          break;
      }
    }
  };
}

/** @param program that verify() lets through; @param bytes the memory that packets lie in */
export function interpreter(program: Program, bytes: Uint8Array, meta: Meta): Filter {
  const run = machine(programWords(program), bytes, meta);
  return (off, len) => run(0, off, len);
}
