// errno of the calling thread, and SysError, the one error class of the cold paths.
// Read errno straight after the call that failed: any other Bun API call in between may change it.
import { dlopen, FFIType, type Pointer, read } from "bun:ffi";
import { constants } from "node:os";

const { __errno_location } = dlopen("libc.so.6", {
  __errno_location: { args: [], returns: FFIType.ptr },
}).symbols;

/** errno of this thread, as the last failed libc call left it. */
export const errno = (): number => read.i32(__errno_location() as Pointer, 0);

const names = new Map(Object.entries(constants.errno).map(([name, number]) => [number as number, name]));
for (const [number, name] of [
  [41, "EUNATCH"],
  [105, "ENOBUFS"],
  [524, "ENOTSUPP"],
] as const)
  if (!names.has(number)) names.set(number, name);

/** The errno's name ("EBUSY"), or "errno 999" for one that the platform does not name. */
export const errnoName = (number: number): string => names.get(number) ?? `errno ${number}`;

/**
 * What was tried (`op`), what came back (`errno`, `code`), and what to do or what the kernel said (`detail`).
 * Prints as `bind AF_XDP eth0 queue 0: EBUSY (another socket holds this queue; ss --xdp shows it)`.
 */
export class SysError extends Error {
  readonly op: string;
  readonly errno: number;
  readonly code: string;
  readonly detail: string;

  /** @param number errno, positive; @param detail the kernel's own text, or what the reader should do */
  constructor(op: string, number: number, detail = "") {
    const code = errnoName(number);
    super(`${op}: ${code}${detail ? ` (${detail})` : ""}`);
    this.name = "SysError";
    this.op = op;
    this.errno = number;
    this.code = code;
    this.detail = detail;
  }
}

/** Returns `result`, or throws a SysError with this thread's errno if it is negative. */
export function check(op: string, result: number | bigint, detail = ""): number {
  const value = Number(result);
  if (value < 0) throw new SysError(op, errno(), detail);
  return value;
}
