// What a packet must have for a program to take it: a field of its headers, and the few values of it that the program can
// still take. Filters that look at the same field are then found by its value, and all the others need not run (MPF and
// PathFinder share prefixes so; here one field a program does).
//
// Found by walking the program with some fields known: a comparison of a known field goes one way, every other both. A
// field is a guard if no way leads to a verdict but 0 while it is none of the values that it is compared with.
import {
  BPF_ABS,
  BPF_ALU,
  BPF_AND,
  BPF_IND,
  BPF_JA,
  BPF_JEQ,
  BPF_JGE,
  BPF_JGT,
  BPF_JMP,
  BPF_LD,
  BPF_LDX,
  BPF_MISC,
  BPF_MSH,
  BPF_RET,
  BPF_TAX,
  BPF_X,
} from "./opcodes.ts";
import { SIZE } from "./analyse.ts";
import type { Program } from "./program.ts";

/** Bytes of a packet, as a number (u32) of which the bits in `mask` count. */
export interface Field {
  readonly off: number;
  readonly size: 1 | 2 | 4;
  readonly mask: number;
  /** `off` is counted from the end of an IPv4 header at byte 14 (plus 14), as programs have ports */
  readonly isAfterIp: boolean;
}

export interface Guard {
  readonly field: Field;
  /** what it may be, masked */
  readonly values: readonly number[];
}

/** A field and what it is, for sure. */
export interface Known {
  readonly field: Field;
  readonly value: number;
}

/** A guard of more values helps little. */
const MOST_VALUES = 8;
const IP = 14;

export const fieldName = ({ off, size, mask, isAfterIp }: Field): string =>
  `${isAfterIp ? "x+" : ""}${off}:${size}&${mask >>> 0}`;

/** What A holds while a way is walked: a field's name, or nothing that is known. */
type Loaded = string | undefined;

class Walk {
  /** Constants that fields are compared with for being equal, by the fields' names. */
  readonly compared = new Map<string, { readonly field: Field; readonly values: Set<number> }>();
  private readonly program: Program;
  private readonly seen = new Set<string>();
  private readonly fields = new Map<string, Field>();
  private readonly known: ReadonlyMap<string, number>;
  private readonly other: string | undefined;

  /** @param known values by names of fields; @param other is none of the values that it is compared with */
  constructor(program: Program, known: ReadonlyMap<string, number>, other?: string) {
    this.program = program;
    this.known = known;
    this.other = other;
  }

  private intern(field: Field): string {
    const name = fieldName(field);
    this.fields.set(name, field);
    return name;
  }

  /** Whether the program may take a packet. */
  accepts(at = 0, before: Loaded = undefined, hadIp = false): boolean {
    let a = before;
    let xIsIp = hadIp;
    for (let pc = at; ; pc++) {
      const { code, jt, jf, k } = this.program[pc]!;
      const type = code & 0x07;
      const mode = code & 0xe0;
      if (type === BPF_RET) return (code & 0x18) === 0x10 || k !== 0;
      if (type === BPF_LD) {
        const isPacket = (mode === BPF_ABS || (mode === BPF_IND && xIsIp)) && (k | 0) >= 0;
        const size = SIZE[code & 0x18]!;
        const mask = size === 4 ? 0xffffffff : 2 ** (8 * size) - 1;
        a = isPacket ? this.intern({ off: k, size, mask, isAfterIp: mode === BPF_IND }) : undefined;
      } else if (type === BPF_LDX) xIsIp = mode === BPF_MSH && k === IP;
      else if (type === BPF_ALU) {
        const field = a === undefined ? undefined : this.fields.get(a);
        const isMask = field !== undefined && (code & 0xf8) === BPF_AND;
        a = isMask ? this.intern({ ...field, mask: (field.mask & k) >>> 0 }) : undefined;
      } else if (type === BPF_MISC) {
        if (code === (BPF_MISC | BPF_TAX)) xIsIp = false;
        else a = undefined;
      } else if (type === BPF_JMP) {
        const targets =
          (code & 0xf0) === BPF_JA
            ? [pc + 1 + k]
            : this.branches(code, k, a).map((yes) => pc + 1 + (yes ? jt : jf));
        // A way that was walked to no avail need not be walked again.
        return targets.some((to) => {
          const name = `${to} ${a} ${xIsIp}`;
          if (this.seen.has(name)) return false;
          this.seen.add(name);
          return this.accepts(to, a, xIsIp);
        });
      }
    }
  }

  /** Which ways a comparison may go. */
  private branches(code: number, k: number, a: Loaded): readonly boolean[] {
    const operation = code & 0xf0;
    if ((code & BPF_X) !== 0 || a === undefined) return [true, false];
    if (operation === BPF_JEQ) {
      const entry = this.compared.get(a) ?? { field: this.fields.get(a)!, values: new Set() };
      this.compared.set(a, entry);
      entry.values.add(k);
      if (a === this.other) return [false];
    }
    const value = this.known.get(a);
    if (value === undefined) return [true, false];
    if (operation === BPF_JEQ) return [value === k];
    if (operation === BPF_JGT) return [value > k];
    if (operation === BPF_JGE) return [value >= k];
    return [(value & k) !== 0];
  }
}

/**
 * The guard of a program over packets of which something is known already; undefined if it has none. No values: it takes
 * none of them. @param program that verify() lets through
 */
export function guardOf(program: Program, known: readonly Known[] = []): Guard | undefined {
  const values = new Map(known.map(({ field, value }) => [fieldName(field), value]));
  const first = new Walk(program, values);
  if (!first.accepts()) return { field: { off: 0, size: 1, mask: 0xff, isAfterIp: false }, values: [] };
  const guards: Guard[] = [];
  for (const [name, { field, values: constants }] of everyComparison(program, values)) {
    if (values.has(name) || new Walk(program, values, name).accepts()) continue;
    const possible = [...constants].filter((value) =>
      new Walk(program, new Map([...values, [name, value]])).accepts(),
    );
    if (possible.length <= MOST_VALUES) guards.push({ field, values: possible });
  }
  return guards.toSorted(
    (a, b) =>
      a.values.length - b.values.length ||
      b.field.size - a.field.size ||
      (fieldName(a.field) < fieldName(b.field) ? -1 : 1),
  )[0];
}

/** All that is compared on any way, taken or not: a walk that takes nothing sees all. */
function everyComparison(program: Program, known: ReadonlyMap<string, number>): Walk["compared"] {
  const none = program.map((one) => ((one.code & 0x07) === BPF_RET ? { ...one, code: BPF_RET, k: 0 } : one));
  const walk = new Walk(none, known);
  walk.accepts();
  return walk.compared;
}
