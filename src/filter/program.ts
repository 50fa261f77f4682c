// A classic BPF program as data, and its two written forms: the kernel's array of struct sock_filter (linux/filter.h)
//
//   u16 code | u8 jt | u8 jf | u32 k        8 bytes an instruction, the machine's byte order
//
// and the decimal text of `tcpdump -ddd`: the number of instructions, then "code jt jf k" a line.

export interface Instruction {
  readonly code: number;
  /** Instructions to skip if a comparison holds, and if it does not: 0..255 */
  readonly jt: number;
  readonly jf: number;
  /** u32 */
  readonly k: number;
}

export type Program = readonly Instruction[];

/** What `netd filter` prints a program as; here, where main.ts gets it without libpcap. */
export const FORMS = ["words", "numbers", "json", "js"] as const;
export type Form = (typeof FORMS)[number];

/** The text or the bytes are no program at all. */
export class ProgramError extends Error {}

const BYTES = 8;

/** The program as C keeps it. @throws ProgramError if a field does not fit its width */
export function encode(program: Program): Uint8Array<ArrayBuffer> {
  const bytes = new DataView(new ArrayBuffer(program.length * BYTES));
  program.forEach(({ code, jt, jf, k }, i) => {
    const limits = [code, 0xffff, jt, 0xff, jf, 0xff, k, 0xffffffff];
    for (let field = 0; field < limits.length; field += 2) {
      const value = limits[field]!;
      if (!(Number.isInteger(value) && value >= 0 && value <= limits[field + 1]!))
        throw new ProgramError(`instruction ${i}: ${value} does not fit its field`);
    }
    bytes.setUint16(i * BYTES, code, true);
    bytes.setUint8(i * BYTES + 2, jt);
    bytes.setUint8(i * BYTES + 3, jf);
    bytes.setUint32(i * BYTES + 4, k, true);
  });
  return new Uint8Array(bytes.buffer);
}

/** The same as words, two an instruction: code | jt << 16 | jf << 24, then k. */
export const programWords = (program: Program): Int32Array => new Int32Array(encode(program).buffer);

/** @throws ProgramError if the bytes are not whole instructions */
export function decode(bytes: Uint8Array): Program {
  if (bytes.length % BYTES !== 0)
    throw new ProgramError(`${bytes.length} bytes: not a multiple of ${BYTES}, an instruction's`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: bytes.length / BYTES }, (_, i) => ({
    code: view.getUint16(i * BYTES, true),
    jt: view.getUint8(i * BYTES + 2),
    jf: view.getUint8(i * BYTES + 3),
    k: view.getUint32(i * BYTES + 4, true),
  }));
}

/** What names a program elsewhere, as in a grant: SHA-256 of it as C keeps it, in hexadecimal digits. */
export const programHash = (program: Program): string =>
  new Bun.CryptoHasher("sha256").update(encode(program)).digest("hex");

/** `tcpdump -ddd`'s text. */
export const format = (program: Program): string =>
  [program.length, ...program.map(({ code, jt, jf, k }) => `${code} ${jt} ${jf} ${k}`)]
    .join("\n")
    .concat("\n");

/** Reads `tcpdump -ddd`'s text, its lines also separated by commas (as iptables' bpf match has it). @throws ProgramError */
export function parse(text: string): Program {
  const lines = text.split(/[\n,]/).filter((line) => line.trim() !== "");
  const numbers = lines.map((line) =>
    line
      .trim()
      .split(/\s+/)
      .map((word) => (/^\d{1,10}$/.test(word) ? Number(word) : Number.NaN)),
  );
  const [count, ...rows] = numbers;
  if (count === undefined || count.length !== 1 || count[0] !== rows.length)
    throw new ProgramError(`expected the number of instructions, then as many lines of "code jt jf k"`);
  const program = rows.map((row, i) => {
    if (row.length !== 4 || row.some(Number.isNaN))
      throw new ProgramError(`line ${i + 2} is "${lines[i + 1]}": expected "code jt jf k"`);
    const [code, jt, jf, k] = row as [number, number, number, number];
    return { code, jt, jf, k };
  });
  return decode(encode(program));
}
