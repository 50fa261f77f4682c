// `bun bench`'s command line: what it says of itself, and of words that it does not know.
import { expect, test } from "bun:test";
import { join } from "node:path";

const MAIN = join(import.meta.dir, "../../bench/main.ts");

function bench(...args: string[]): { exitCode: number; out: string; err: string } {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, MAIN, ...args]);
  return { exitCode, out: stdout.toString(), err: stderr.toString() };
}

test("--help lists the flags and every bench with what it measures", () => {
  const { exitCode, out } = bench("--help");
  expect(exitCode).toBe(0);
  for (const flag of ["--json", "--brief", "--seconds"]) expect(out).toContain(flag);
  expect(out).toMatch(/^ {2}fib +\S.* lookups/m);
  expect(out).toMatch(/^ {2}udp +UDP echo/m);
});

test("an unknown flag, an unknown bench and a time that is none are refused in a line", () => {
  for (const [args, says] of [
    [["--nope"], "'--nope'"],
    [["nope"], "no bench named nope; there are: batch"],
    [["--seconds", "0"], "--seconds 0: not a number over 0"],
  ] as const) {
    const { exitCode, out, err } = bench(...args);
    expect(exitCode).toBe(2);
    expect(out).toBe("");
    expect(err).toContain(says);
    expect(err.trimEnd()).not.toContain("\n");
  }
});
