// A program for people, in the words of `tcpdump -d` (libpcap, bpf_image.c), which the field reads and writes.
import { BPF_ABS, BPF_ALU, BPF_JA, BPF_JMP, BPF_LD, BPF_MEM, BPF_X } from "./opcodes.ts";
import type { Instruction, Program } from "./program.ts";
import { ancillaryOf } from "./verify.ts";

const LOADS: Record<number, string> = { 0: "ld", 8: "ldh", 16: "ldb" };
const ALU: Record<number, string> = {
  0: "add",
  16: "sub",
  32: "mul",
  48: "div",
  64: "or",
  80: "and",
  96: "lsh",
  112: "rsh",
  128: "neg",
  144: "mod",
  160: "xor",
};
const JUMPS: Record<number, string> = { 16: "jeq", 32: "jgt", 48: "jge", 64: "jset" };

const hex = (k: number): string => `#0x${k.toString(16)}`;

/** [operation, operand] */
function words({ code, k }: Instruction, at: number): [string, string] {
  const operation = code & 0xf0;
  switch (code & 0x07) {
    case BPF_LD: {
      const load = LOADS[code & 0x18]!;
      const mode = code & 0xe0;
      const special = ancillaryOf(code, k);
      if (special) return [load, special.name];
      if (mode === BPF_ABS) return [load, `[${k | 0}]`];
      if (mode === 0x40) return [load, `[x + ${k | 0}]`];
      if (mode === 0x80) return ["ld", "#pktlen"];
      return mode === BPF_MEM ? ["ld", `M[${k}]`] : ["ld", hex(k)];
    }
    case 0x01: {
      const mode = code & 0xe0;
      if (mode === 0xa0) return ["ldxb", `4*([${k | 0}]&0xf)`];
      if (mode === 0x80) return ["ldx", "#pktlen"];
      return mode === BPF_MEM ? ["ldx", `M[${k}]`] : ["ldx", hex(k)];
    }
    case 0x02:
      return ["st", `M[${k}]`];
    case 0x03:
      return ["stx", `M[${k}]`];
    case BPF_ALU: {
      if (operation === 0x80) return ["neg", ""];
      const operand = code & BPF_X ? "x" : [0x40, 0x50, 0xa0].includes(operation) ? hex(k) : `#${k}`;
      return [ALU[operation]!, operand];
    }
    case BPF_JMP:
      if (operation === BPF_JA) return ["ja", `${at + 1 + k}`];
      return [JUMPS[operation]!, code & BPF_X ? "x" : hex(k)];
    case 0x06:
      return ["ret", code & 0x10 ? "a" : `#${k}`];
    default:
      return [code & 0x80 ? "txa" : "tax", ""];
  }
}

/** One line an instruction, of a program that verify() lets through. */
export const disassemble = (program: Program): string =>
  program
    .map((instruction, at) => {
      const [operation, operand] = words(instruction, at);
      const { code, jt, jf } = instruction;
      const line = `(${String(at).padStart(3, "0")}) ${operation.padEnd(8)} ${operand}`;
      return (code & 0x07) === BPF_JMP && (code & 0xf0) !== BPF_JA
        ? `${line.padEnd(32)}jt ${at + 1 + jt}\tjf ${at + 1 + jf}`
        : line;
    })
    .join("\n")
    .concat("\n");
