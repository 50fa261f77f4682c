// netd/filter as a program of another's has it, by its package name: from tcpdump's text to a verdict.
import { expect, test } from "bun:test";
import { compile, decode, disassemble, encode, interpreter, parse, plainMeta, verify } from "netd/filter";

/** tcpdump -ddd udp, Ethernet, without IPv6. */
const UDP = "6\n40 0 0 12\n21 0 3 2048\n48 0 0 23\n21 0 1 17\n6 0 0 262144\n6 0 0 0\n";

test("parsed, verified, run both ways, and written back", () => {
  const program = parse(UDP);
  expect(verify(program)).toBeUndefined();
  expect(decode(encode(program))).toEqual(program);
  expect(disassemble(program).split("\n")[0]).toBe("(000) ldh      [12]");
  const memory = new Uint8Array(128);
  memory.set([8, 0], 12);
  for (const [protocol, verdict] of [
    [17, 262144],
    [6, 0],
  ] as const) {
    memory[23] = protocol;
    expect(interpreter(program, memory, plainMeta())(0, 60)).toBe(verdict);
    expect(compile(program, memory, plainMeta(), 0)(0, 60)).toBe(verdict);
  }
  expect(verify(parse("1\n40 0 0 12\n"))?.message).toBeString();
});
