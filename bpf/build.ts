// Compiles bpf/NAME.bpf.c to build/NAME.o with clang, where a source or header is newer than the object; otherwise silent
// and quick. Run as a script (`bun run bpf`, and `./run` before anything else), or call `buildBpf()`.
import { mkdirSync, readdirSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";

const modified = (path: string): number => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** Compiles what is out of date and returns the names of those objects. Throws one Error with clang's own words. */
export function buildBpf(sources = import.meta.dir, objects = join(sources, "..", "build")): string[] {
  const files = readdirSync(sources).filter((name) => /\.(bpf\.c|h)$/.test(name));
  const headers = Math.max(
    0,
    ...files.filter((name) => name.endsWith(".h")).map((name) => modified(join(sources, name))),
  );
  const built: string[] = [];
  for (const file of files.filter((name) => name.endsWith(".bpf.c"))) {
    const source = join(sources, file);
    const object = join(objects, file.replace(".bpf.c", ".o"));
    if (modified(object) > Math.max(headers, modified(source))) continue;
    mkdirSync(objects, { recursive: true });
    compile(source, object);
    built.push(object);
  }
  return built;
}

function compile(source: string, object: string): void {
  const clang = Bun.which("clang", { PATH: process.env["PATH"] ?? "" });
  if (!clang) throw new Error(`compile ${source}: no clang (apt-get install clang llvm libbpf-dev)`);
  // Debian keeps asm/ below the multiarch directory, which clang does not search for the target bpf.
  const asm = `/usr/include/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`;
  // Under another name first: who builds at the same time, or reads, never sees half an object.
  const part = `${object}.${process.pid}`;
  const flags = ["-O2", "-g", "-target", "bpf", "-Wall", "-Werror", `-I${asm}`];
  const { exitCode, stderr } = Bun.spawnSync([clang, ...flags, "-c", source, "-o", part], { stderr: "pipe" });
  if (exitCode !== 0) throw new Error(`compile ${source}: clang ended with ${exitCode}\n${stderr}`);
  renameSync(part, object);
}

if (import.meta.main)
  try {
    for (const object of buildBpf()) console.error(`built ${object}`);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  }
