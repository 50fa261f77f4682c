// A classic program as the kernel runs it: translated to eBPF the way net/core/filter.c does (the load instructions
// are the same ones there, and the verifier expands them alike), and timed by BPF_PROG_TEST_RUN. Only for bench/filter.ts:
// a socket filter cannot be timed alone. COPIES of the program stand one behind the other, since the kernel's answer is
// in whole nanoseconds and its loop around a run costs more than a filter.
import { errno, SysError } from "../ffi/errno.ts";
import { cstring, libc } from "../ffi/libc.ts";
import { ptr } from "../ffi/memory.ts";
import type { Program } from "../src/filter/program.ts";

const SYS_BPF = 321;
const BPF_PROG_LOAD = 5;
const BPF_PROG_TEST_RUN = 10;
const BPF_PROG_TYPE_SCHED_CLS = 3;
export const COPIES = 16;
const REPEAT = 20_000;
const REGISTERS = { result: 0, context: 6, a: 8, x: 9, frame: 10 };

type Line = { code: number; dst?: number; src?: number; to?: number; imm?: number; off?: number };

/** Classic instruction `at`, whose targets are written as classic instruction numbers; `end` is behind the last one. */
function translate(program: Program, at: number, end: number): Line[] {
  const { code, jt, jf, k } = program[at]!;
  const { a, x, result, context, frame } = REGISTERS;
  const imm = k | 0;
  const mode = code & 0xe0;
  const move = (dst: number, src: number): Line => ({ code: 0xbc, dst, src });
  switch (code & 0x07) {
    case 0: // LD; loads of the packet leave it in r0
      if (mode === 0x20) return [{ code: 0x20 | (code & 0x18), imm }, move(a, result)];
      if (mode === 0x40) return [{ code: 0x40 | (code & 0x18), src: x, imm }, move(a, result)];
      if (mode === 0x80) return [{ code: 0x61, dst: a, src: context }]; // __sk_buff.len
      return mode === 0
        ? [{ code: 0xb4, dst: a, imm }]
        : [{ code: 0x61, dst: a, src: frame, off: -4 - 4 * k }];
    case 1: // LDX
      if (mode === 0xa0)
        return [{ code: 0x30, imm }, { code: 0x54, imm: 15 }, { code: 0x64, imm: 2 }, move(x, result)];
      if (mode === 0x80) return [{ code: 0x61, dst: x, src: context }];
      return mode === 0
        ? [{ code: 0xb4, dst: x, imm }]
        : [{ code: 0x61, dst: x, src: frame, off: -4 - 4 * k }];
    case 2: // ST, STX
    case 3:
      return [{ code: 0x63, dst: frame, src: (code & 7) === 2 ? a : x, off: -4 - 4 * k }];
    case 4: // ALU, 32 bits
      return [{ code: 0x04 | (code & 0xf8), dst: a, src: code & 8 ? x : 0, imm: code & 8 ? 0 : imm }];
    case 5: // JMP; JMP32 has the unsigned comparisons
      if ((code & 0xf0) === 0) return [{ code: 0x05, to: at + 1 + k }];
      return [
        {
          code: 0x06 | (code & 0xf8),
          dst: a,
          src: code & 8 ? x : 0,
          imm: code & 8 ? 0 : imm,
          to: at + 1 + jt,
        },
        { code: 0x05, to: at + 1 + jf },
      ];
    case 6: // RET
      return [code & 0x10 ? move(result, a) : { code: 0xb4, imm }, { code: 0x05, to: end }];
    default:
      return [code & 0x80 ? move(a, x) : move(x, a)];
  }
}

function assemble(program: Program): Uint8Array<ArrayBuffer> {
  const { a, x, context } = REGISTERS;
  const lines: (Line & { at?: number })[] = [{ code: 0xbf, dst: context, src: 1 }];
  const starts: number[] = [];
  for (let copy = 0; copy < COPIES; copy++) {
    const base = copy * (program.length + 1);
    starts[base] = lines.length;
    lines.push({ code: 0xb4, dst: a }, { code: 0xb4, dst: x });
    for (let at = 0; at < program.length; at++) {
      starts[base + at] ??= lines.length;
      for (const line of translate(program, at, program.length))
        lines.push(line.to === undefined ? line : { ...line, to: base + line.to });
    }
    starts[base + program.length] = lines.length;
  }
  lines.push({ code: 0x95 });
  const bytes = new DataView(new ArrayBuffer(lines.length * 8));
  lines.forEach(({ code, dst = 0, src = 0, off = 0, imm = 0, to }, i) => {
    bytes.setUint8(i * 8, code);
    bytes.setUint8(i * 8 + 1, dst | (src << 4));
    bytes.setInt16(i * 8 + 2, to === undefined ? off : starts[to]! - i - 1, true);
    bytes.setInt32(i * 8 + 4, imm, true);
  });
  return new Uint8Array(bytes.buffer);
}

/** The kernel's JIT on one program. A load beyond the packet ends all copies: time frames that hold what is loaded. */
export class KernelJit implements Disposable {
  private readonly fd: number;

  constructor(program: Program) {
    const code = assemble(program);
    const license = cstring("GPL");
    const log = new Uint8Array(new ArrayBuffer(1 << 20));
    const attr = new DataView(new ArrayBuffer(120));
    attr.setUint32(0, BPF_PROG_TYPE_SCHED_CLS, true);
    attr.setUint32(4, code.length / 8, true);
    attr.setBigUint64(8, BigInt(Number(ptr(code))), true);
    attr.setBigUint64(16, BigInt(Number(ptr(license))), true);
    attr.setUint32(24, 1, true);
    attr.setUint32(28, log.length, true);
    attr.setBigUint64(32, BigInt(Number(ptr(log))), true);
    this.fd = Number(libc.syscall(SYS_BPF, BPF_PROG_LOAD, Number(ptr(attr)), attr.byteLength, 0, 0, 0));
    if (this.fd < 0) {
      const number = errno();
      throw new SysError(
        "load filter as eBPF",
        number,
        Buffer.from(log).toString().split("\0")[0]!.slice(-800),
      );
    }
  }

  /** [what the last copy returned, ns a copy] */
  run(frame: Uint8Array): [number, number] {
    const attr = new DataView(new ArrayBuffer(80));
    const input = new Uint8Array(new ArrayBuffer(frame.length));
    input.set(frame);
    attr.setUint32(0, this.fd, true);
    attr.setUint32(8, input.length, true);
    attr.setBigUint64(16, BigInt(Number(ptr(input))), true);
    attr.setUint32(32, REPEAT, true);
    if (libc.syscall(SYS_BPF, BPF_PROG_TEST_RUN, Number(ptr(attr)), attr.byteLength, 0, 0, 0) < 0)
      throw new SysError("BPF_PROG_TEST_RUN of a filter", errno());
    return [attr.getUint32(4, true), attr.getUint32(36, true) / COPIES];
  }

  [Symbol.dispose](): void {
    libc.close(this.fd);
  }
}
