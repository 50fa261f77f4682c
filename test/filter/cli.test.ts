// `netd filter`: what it prints, and one clear error for what is no filter.
import { expect, test } from "bun:test";
import { join } from "node:path";

const main = join(import.meta.dir, "..", "..", "src", "main.ts");

function netd(args: string[], input = ""): { code: number; out: string; err: string } {
  const child = Bun.spawnSync([process.execPath, main, "filter", ...args], { stdin: Buffer.from(input) });
  return { code: child.exitCode, out: child.stdout.toString(), err: child.stderr.toString() };
}

test("compile, in every form", () => {
  expect(netd(["compile", "udp", "and", "dst", "port", "53"]).out).toStartWith(
    "(000) ldh      [12]\n(001) jeq      #0x800",
  );
  expect(netd(["compile", "--form", "numbers", "icmp"]).out).toStartWith("6\n40 0 0 12\n21 0 3 2048\n");
  expect(JSON.parse(netd(["compile", "--form", "json", "icmp"]).out)[0]).toEqual({
    code: 40,
    jt: 0,
    jf: 0,
    k: 12,
  });
  expect(netd(["compile", "--form", "js", "icmp"]).out).toContain("a = w[(i + 3) | 0] >>> 16;");
});

test("check: a program from a pipe, and why it is refused", () => {
  expect(netd(["check"], "1\n6 0 0 65535\n")).toEqual({ code: 0, out: "(000) ret      #65535\n", err: "" });
  for (const [input, reason] of [
    ["1\n0 0 0 0\n", "instruction 0: the last instruction does not return"],
    ["1\n6 0 0\n", 'line 2 is "6 0 0": expected "code jt jf k"'],
    ["", "expected the number of instructions"],
  ] as const) {
    const { code, err } = netd(["check"], input);
    expect(code).toBe(1);
    expect(err).toMatch(/^netd: check filter of stdin: EINVAL \(.*\)\n$/);
    expect(err).toContain(reason);
  }
  expect(netd(["check", "/nonexistent"])).toMatchObject({
    code: 1,
    err: "netd: check filter of /nonexistent: ENOENT\n",
  });
});

test("a text that is no filter", () => {
  expect(netd(["compile", "udp and and"])).toMatchObject({ code: 1, out: "" });
  expect(netd(["compile", "--form", "x", "udp"]).code).toBe(2);
});
