// Classic BPF's operation codes and limits, as linux/filter.h and linux/bpf_common.h spell them.
// A code is class | what the class needs: size and mode (LD, LDX), operation and source (ALU, JMP), source (RET).

// Classes
export const BPF_LD = 0x00;
export const BPF_LDX = 0x01;
export const BPF_ST = 0x02;
export const BPF_STX = 0x03;
export const BPF_ALU = 0x04;
export const BPF_JMP = 0x05;
export const BPF_RET = 0x06;
export const BPF_MISC = 0x07;

// Sizes and modes of loads
export const BPF_W = 0x00;
export const BPF_H = 0x08;
export const BPF_B = 0x10;
export const BPF_IMM = 0x00;
export const BPF_ABS = 0x20;
export const BPF_IND = 0x40;
export const BPF_MEM = 0x60;
export const BPF_LEN = 0x80;
export const BPF_MSH = 0xa0;

// Operations of ALU
export const BPF_ADD = 0x00;
export const BPF_SUB = 0x10;
export const BPF_MUL = 0x20;
export const BPF_DIV = 0x30;
export const BPF_OR = 0x40;
export const BPF_AND = 0x50;
export const BPF_LSH = 0x60;
export const BPF_RSH = 0x70;
export const BPF_NEG = 0x80;
export const BPF_MOD = 0x90;
export const BPF_XOR = 0xa0;

// Operations of JMP
export const BPF_JA = 0x00;
export const BPF_JEQ = 0x10;
export const BPF_JGT = 0x20;
export const BPF_JGE = 0x30;
export const BPF_JSET = 0x40;

// Sources
export const BPF_K = 0x00;
export const BPF_X = 0x08;
export const BPF_A = 0x10;

// MISC
export const BPF_TAX = 0x00;
export const BPF_TXA = 0x80;

/** Instructions of a program at most. */
export const BPF_MAXINSNS = 4096;
/** Words of scratch memory. */
export const BPF_MEMWORDS = 16;

// Where an absolute load reads what is no packet byte: k = base + what. As signed 32-bit numbers.
export const SKF_AD_OFF: number = -0x1000;
export const SKF_NET_OFF: number = -0x100000;
export const SKF_LL_OFF: number = -0x200000;

/** SKF_AD_*: the kernel's ancillary loads, and which of them mean something outside the kernel. */
export const ancillary: readonly { name: string; at: number; here: boolean }[] = [
  { name: "proto", at: 0, here: true },
  { name: "type", at: 4, here: false },
  { name: "ifidx", at: 8, here: true },
  { name: "nla", at: 12, here: false },
  { name: "nlan", at: 16, here: false },
  { name: "mark", at: 20, here: false },
  { name: "queue", at: 24, here: true },
  { name: "hatype", at: 28, here: false },
  { name: "rxhash", at: 32, here: false },
  { name: "cpu", at: 36, here: false },
  { name: "xor_x", at: 40, here: false },
  { name: "vlan_tci", at: 44, here: true },
  { name: "vlan_avail", at: 48, here: true },
  { name: "poff", at: 52, here: false },
  { name: "rand", at: 56, here: true },
  { name: "vlan_tpid", at: 60, here: true },
];

const both = (codes: number[]) => codes.flatMap((code) => [code | BPF_K, code | BPF_X]);

/** Every code that the kernel knows (net/core/filter.c, chk_code_allowed). */
export const known: ReadonlySet<number> = new Set([
  ...[BPF_W, BPF_H, BPF_B].flatMap((size) => [BPF_LD | size | BPF_ABS, BPF_LD | size | BPF_IND]),
  ...[BPF_IMM, BPF_MEM, BPF_LEN].flatMap((mode) => [BPF_LD | mode, BPF_LDX | mode]),
  BPF_LDX | BPF_B | BPF_MSH,
  BPF_ST,
  BPF_STX,
  ...both(
    [BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR, BPF_AND, BPF_LSH, BPF_RSH, BPF_MOD, BPF_XOR].map(
      (operation) => BPF_ALU | operation,
    ),
  ),
  BPF_ALU | BPF_NEG,
  BPF_JMP | BPF_JA,
  ...both([BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET].map((operation) => BPF_JMP | operation)),
  BPF_RET | BPF_K,
  BPF_RET | BPF_A,
  BPF_MISC | BPF_TAX,
  BPF_MISC | BPF_TXA,
]);
