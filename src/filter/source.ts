// A verified program as JavaScript source. Jumps go forward only, so a program is nested labelled blocks, one a jump target,
// all open at its start; a jump leaves its target's block, and what follows the block is the target:
//
//   b9: { b4: { ...; if (a === 6) break b4; break b9; } /* instruction 4 */ ... } /* instruction 9 */ ...
//
// Where a jump ends at a verdict, the verdict stands in its place.
//
// A, X and the scratch words are locals, as signed 32-bit numbers, which is what the machine has. A packet's bytes come out
// of whole words (`w`), since it is known where in a word packets begin; what is only compared stays as it lies in memory,
// and the constant is turned round instead (analyse.ts). A packet's length is checked where it becomes known that it must
// have more: a load beyond its end means 0, and so may everything that leads there. The source is made of integers alone.
// Nothing of a client's text ever gets into it.
//
// Programs that differ in nothing but addresses and ports have one source, their shape, with the constants beside it (`c`):
// then thousands of filters are one function, which is soon a fast one.
//
// A long program is several functions, of PART instructions each: what JavaScriptCore makes of one function takes longer than
// in proportion, and beyond some size it does not make it fast at all. From one part to a later one go A, X and the scratch
// words, in `s`, and the number of the instruction where it goes on, as -1 - number; a verdict is never below 0.
import {
  A_NUMBER,
  type Alignment,
  analyse,
  isPlaced as isPlacedAt,
  type Knowledge,
  neededBytes,
  SIZE,
  scratchOf,
  targetsOf,
} from "./analyse.ts";
import { anywhere, arithmetic, bytesAt, byZero, comparison, turned } from "./expression.ts";
import {
  BPF_A,
  BPF_ABS,
  BPF_ALU,
  BPF_AND,
  BPF_IMM,
  BPF_IND,
  BPF_JA,
  BPF_JMP,
  BPF_K,
  BPF_LD,
  BPF_LDX,
  BPF_LEN,
  BPF_MEMWORDS,
  BPF_MISC,
  BPF_MSH,
  BPF_RET,
  BPF_ST,
  BPF_STX,
  BPF_TAX,
  BPF_X,
  SKF_AD_OFF,
} from "./opcodes.ts";
import type { Instruction, Program } from "./program.ts";

/** Instructions of a part. */
export const PART = 200;
/** Words of `s`: A, X, the nibble that X came from, scratch words. */
const S_SCRATCH = 3;
export const STATE_WORDS: number = S_SCRATCH + BPF_MEMWORDS;
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

/** What a source is for. */
interface Form {
  /** instructions of a part */
  readonly size: number;
  /** a shape: takes the constants that are not part of it */
  readonly constants?: number[];
  /** not a function's body: jumps there with the verdict in `verdict` */
  readonly label?: string;
}

/** By instruction: where a jump to it leads, which is not to another jump. */
function landings(program: Program): Uint16Array {
  const landing = new Uint16Array(program.length);
  for (let at = program.length - 1; at >= 0; at--) {
    const { code, k } = program[at]!;
    landing[at] = code === (BPF_JMP | BPF_JA) ? landing[at + 1 + k]! : at;
  }
  return landing;
}

class Source {
  readonly parts: readonly string[];
  private readonly program: Program;
  private readonly known: Knowledge;
  private readonly needed: Float64Array;
  private readonly landing: Uint16Array;
  private readonly scratch: readonly number[];
  private readonly align: Alignment;
  private readonly form: Form;
  /** Targets of jumps within a part, and from one to another. */
  private readonly labels = new Set<number>();
  private readonly entries = new Set<number>();
  /** Parts that lead to others. */
  private readonly left = new Set<number>();

  constructor(program: Program, align: Alignment, form: Form) {
    this.program = program;
    this.known = analyse(program, align);
    this.needed = neededBytes(program);
    this.landing = landings(program);
    this.scratch = [...scratchOf(program)];
    this.align = align;
    this.form = form;
    const statements = this.statements();
    this.parts = Array.from({ length: Math.ceil(program.length / form.size) || 1 }, (_, part) =>
      this.part(part, statements),
    );
  }

  /** By instruction; none where nobody comes. */
  private statements(): (string | undefined)[] {
    const { program, needed, landing } = this;
    /** Bytes that every way to an instruction has found to be there. */
    const found = new Float64Array(program.length).fill(Number.POSITIVE_INFINITY);
    found[0] = 0;
    return program.map((instruction, at) => {
      let known = found[at]!;
      if (known === Number.POSITIVE_INFINITY) return undefined;
      if (needed[at] === Number.POSITIVE_INFINITY) return this.answer("0");
      let check = "";
      if (needed[at]! > known) {
        known = needed[at]!;
        check = `if (len < ${known}) ${this.answer("0")}\n`;
      }
      const isEnd = (instruction.code & 0x07) === BPF_RET;
      const jumps = targetsOf(instruction, at);
      const falls = jumps.length === 0 && !isEnd;
      for (const to of falls ? [at + 1] : jumps.map((target) => landing[target]!))
        if (falls || this.verdictAt(to) === undefined) found[to] = Math.min(found[to]!, known);
      const isLast = falls && this.partOf(at) !== this.partOf(at + 1);
      return `${check}${this.statement(instruction, at)}${isLast ? `\n${this.leave(this.partOf(at), at + 1)}` : ""}`;
    });
  }

  private part(part: number, statements: readonly (string | undefined)[]): string {
    const { labels, entries, scratch, form } = this;
    const from = part === 0 ? 0 : part * form.size;
    const end = Math.min(from + form.size, statements.length);
    const isIn = (at: number) => from <= at && at < end;
    const first = statements.findIndex((statement, at) => isIn(at) && statement !== undefined);
    const cases = [...entries].filter((at) => isIn(at) && at !== first);
    const state = ["a", "x", "h", ...scratch.map((k) => `m${k}`)];
    const words = [0, 1, 2, ...scratch.map((k) => S_SCRATCH + k)];
    const isLeft = this.left.has(part);
    const lines = [
      `let ${state.map((one, n) => `${one} = ${part === 0 ? 0 : `s[${words[n]}]`}`).join(", ")};`,
    ];
    lines.push("const i = off >> 2;");
    if (isLeft) lines.push("out: {");
    const blocks = new Set([...labels].filter(isIn)).union(new Set(cases));
    for (const label of [...blocks].sort((one, other) => other - one)) lines.push(`b${label}: {`);
    if (cases.length > 0)
      lines.push(`switch (e) { ${cases.map((at) => `case ${at}: break b${at};`).join(" ")} }`);
    for (let at = from; at < end; at++) {
      if (blocks.has(at)) lines.push("}");
      if (statements[at]) lines.push(statements[at]!);
    }
    if (isLeft) lines.push("}", ...state.map((one, n) => `s[${words[n]}] = ${one};`), "return -1 - e;");
    return lines.join("\n");
  }

  private readonly partOf = (at: number): number => Math.trunc(at / this.form.size);

  /** What is decided where an instruction is reached. */
  private verdictAt(at: number): string | undefined {
    const { code, k } = this.program[at]!;
    if (this.needed[at] === Number.POSITIVE_INFINITY) return "0";
    return code === (BPF_RET | BPF_K) ? `${k >>> 0}` : undefined;
  }

  /** From one part to an instruction of a later one. */
  private leave(part: number, to: number): string {
    this.left.add(part);
    this.entries.add(to);
    return `{ e = ${to}; break out; }`;
  }

  /** From one instruction to another; nothing where it comes next anyway. */
  private go(from: number, target: number): string {
    const to = this.landing[target]!;
    const verdict = this.verdictAt(to);
    if (verdict !== undefined) return this.answer(verdict);
    const part = this.partOf(from);
    if (part !== this.partOf(to)) return this.leave(part, to);
    if (to === from + 1) return "";
    this.labels.add(to);
    return `break b${to};`;
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
        if (isPlaced && mode === BPF_ABS) return `a = ${bytesAt("i", this.align + signed, size, raw)};`;
        if (isPlaced)
          return `if (len < ((x + ${signed + size}) | 0)) ${this.answer("0")} a = ${bytesAt("i + h", this.align + signed, size, raw)};`;
        const index = mode === BPF_ABS ? `${signed}` : `(x + ${signed}) | 0`;
        return `{ let p = ${index}; if (p < 0) p = place(p, ${size}, len, meta.netOff); if (p < 0 || p > len - ${size}) ${this.answer("0")} a = ${anywhere(size, raw)}; }`;
      }
      case BPF_LDX: {
        const mode = code & 0xe0;
        if (mode === BPF_IMM) return `x = ${signed};`;
        if (mode === BPF_LEN) return "x = len;";
        if (mode !== BPF_MSH) return `x = m${k};`;
        if (signed >= 0) return `h = ${bytesAt("i", this.align + signed, 1, false)} & 15; x = h << 2;`;
        return `{ const p = place(${signed}, 1, len, meta.netOff); if (p < 0) ${this.answer("0")} h = u[off + p] & 15; x = h << 2; }`;
      }
      case BPF_ST:
        return `m${k} = a;`;
      case BPF_STX:
        return `m${k} = x;`;
      case BPF_ALU:
        if (code === (BPF_ALU | BPF_AND)) return `a &= ${turned(signed, this.known.a[at]!)};`;
        return `${byZero(code) ? `if (x === 0) ${this.answer("0")} ` : ""}${arithmetic(code, operand)}`;
      case BPF_JMP: {
        if ((code & 0xf0) === BPF_JA) return this.go(at, at + 1 + k);
        if (jt === jf) return this.go(at, at + 1 + jt);
        const { a, small } = this.known;
        const condition = comparison(code, signed, a[at]!, small[at] === 1, this.constant);
        const yes = this.go(at, at + 1 + jt);
        const no = this.go(at, at + 1 + jf);
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

  /** An address or a port is the filter's own, and stands there once; what kind of packet it is about is its shape's. */
  private readonly constant = (said: number, value: number): string => {
    const { constants } = this.form;
    if (constants === undefined || (said >= 0 && said < 256) || ETHERTYPES.has(said)) return `${value}`;
    const known = constants.indexOf(value);
    return `c[(n + ${known < 0 ? constants.push(value) - 1 : known}) | 0]`;
  };
}

/** The bodies of a program's functions of (off, len, n, e), for the eyes of tests and `netd filter compile`, and to be compiled. */
export const source = (program: Program, align: Alignment, size: number = PART): readonly string[] =>
  new Source(program, align, { size }).parts;

/** The same as the statements of a block with the label `label`, that leave the verdict in `verdict`: for a loop. */
export const sourceInPlace = (program: Program, align: Alignment, label: string): string =>
  new Source(program, align, { size: Number.POSITIVE_INFINITY, label }).parts[0]!;

/** What a program has in common with others, and what it has for itself. */
export interface Shape {
  readonly parts: readonly string[];
  /** the functions find them from word n on */
  readonly constants: readonly number[];
}

/** A long program keeps its constants: few have it in common, and of a list's comparisons with them comes a binary search. */
export function shapeOf(program: Program, align: Alignment, size: number = PART): Shape {
  const constants: number[] = [];
  const isShort = program.length <= size;
  const { parts } = new Source(program, align, { size, ...(isShort && { constants }) });
  return { parts, constants };
}
