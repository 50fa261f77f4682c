// Compiles the C programs of this folder into build/, when they or a header are newer than what is there.
import { mkdirSync, readdirSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";

const build = join(import.meta.dir, "../../build");
const flags: Record<string, readonly string[]> = { lwip: ["-I/usr/include/lwip", "-llwip"] };

const modified = (path: string): number => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** The program made of NAME.c. @throws Error with what gcc says */
export function peer(name: "lwip" | "memif" | "tap"): string {
  const program = join(build, `test-${name}`);
  const headers = readdirSync(import.meta.dir).filter((file) => file.endsWith(".h"));
  const sources = [`${name}.c`, ...headers].map((file) => join(import.meta.dir, file));
  if (modified(program) > Math.max(...sources.map(modified))) return program;
  mkdirSync(build, { recursive: true });
  const made = `${program}.${process.pid}`; // another test file may run the old one, or make its own
  const command = ["gcc", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-o", made, sources[0]!];
  const gcc = Bun.spawnSync([...command, ...(flags[name] ?? [])]);
  if (gcc.exitCode !== 0) throw new Error(`gcc ${name}.c: ${gcc.stderr}`);
  renameSync(made, program);
  return program;
}
