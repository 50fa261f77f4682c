// bpf/build.ts in a directory of its own: what it compiles, when it does nothing, and what it says when it cannot.
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildBpf } from "../../bpf/build.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

let directory: string;
let objects: string;
const write = (name: string, text: string): void => writeFileSync(join(directory, name), text);
const age = (name: string, seconds: number): void => {
  const then = Date.now() / 1000 - seconds;
  utimesSync(join(directory, name), then, then);
};

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "netd-bpf-"));
  objects = join(directory, "out");
  write("a.h", "#define A 1\n");
  write("a.bpf.c", '#include "a.h"\nint a = A;\n');
  write("b.bpf.c", "int b = 2;\n");
});
afterEach(() => rmSync(directory, { recursive: true }));

test("compiles each source to BPF once, and again when it or a header is newer", () => {
  const a = join(objects, "a.o");
  const b = join(objects, "b.o");
  expect(buildBpf(directory, objects).sort()).toEqual([a, b]);
  expect(readFileSync(a).readUInt16LE(18)).toBe(247); // e_machine: EM_BPF
  expect(readdirSync(objects).sort()).toEqual(["a.o", "b.o"]);
  expect(buildBpf(directory, objects)).toEqual([]);
  age("out/b.o", 100);
  age("b.bpf.c", 50);
  age("a.h", 200);
  expect(buildBpf(directory, objects)).toEqual([b]);
  age("a.h", -100);
  expect(buildBpf(directory, objects).sort()).toEqual([a, b]);
});

test("a source that does not compile: one error with clang's words, and no object", () => {
  write("b.bpf.c", "int b = nothing;\n");
  expect(() => buildBpf(directory, objects)).toThrow(/compile .*b\.bpf\.c: clang ended with 1\n.*'nothing'/s);
  expect(existsSync(join(objects, "b.o"))).toBe(false);
});

test("without clang: one error that says what to install; nothing to do needs none", () => {
  const path = process.env["PATH"];
  try {
    process.env["PATH"] = directory;
    expect(() => buildBpf(directory, objects)).toThrow(/compile .*: no clang \(apt-get install clang/);
    process.env["PATH"] = path;
    buildBpf(directory, objects);
    process.env["PATH"] = directory;
    expect(buildBpf(directory, objects)).toEqual([]);
  } finally {
    process.env["PATH"] = path;
  }
});
