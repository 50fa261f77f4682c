// What every benchmark is made of: the Bench type, compiling a C peer, running ours and the peer alternately, and
// the one result shape. A bench file in bench/ exports `bench`; main.ts finds it by its file name.
//
// ours and the peer are usually child processes pinned to one core, that print one JSON line a case on stdout:
//   {"case":"64B batch 32","value":17.2}
// A bench file may be its own child: `if (import.meta.main) ...`, started with `runChild(script(import.meta.path, ...))`.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { basename, join } from "node:path";

export interface Bench {
  readonly name: string;
  /** One line: what is measured, against what. */
  readonly about: string;
  /** Proves that ours (and the peer) do the work that is timed; throws where they do not. Always runs first. */
  verify(ctx: Context): Promise<void> | void;
  /** The timed run; reports through `ctx.compare`. Skipped with --brief. */
  run(ctx: Context): Promise<void> | void;
}

/** One comparison as it is printed with --json; `ratio` over 1 always means that we are better. */
export interface Result {
  readonly bench: string;
  readonly case: string;
  readonly unit: string;
  readonly ours: number;
  readonly peer: number;
  readonly peerName: string;
  readonly ratio: number;
}

/** What one run of one side measured: case name -> value. */
export type Sample = Record<string, number>;

export interface Comparison {
  readonly unit: string;
  /** Whether a lower value is better (ns, MiB) or a higher one (Mpps, updates/s). */
  readonly better: "lower" | "higher";
  readonly peerName: string;
  /** How often each side runs, alternately, the first to go changing each round. */
  readonly rounds?: number;
  /** Takes each side's best run, not its median: where the machine has two modes, and keeps one for seconds. */
  readonly best?: boolean;
  readonly ours: () => Promise<Sample> | Sample;
  readonly peer: () => Promise<Sample> | Sample;
}

export interface ChildOptions {
  /** The core to pin the whole child to; `cores.measured` unless given, -1 for none. */
  readonly core?: number;
  readonly env?: Record<string, string>;
}

const root = join(import.meta.dir, "..");
const build = join(root, "build");

/** The measured side's core, and the one for whatever feeds it. */
export const cores = { measured: cpus().length - 1, other: 0 };

export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
};

/** How many times better `ours` is, whichever way the unit points. */
export const ratio = (better: Comparison["better"], ours: number, peer: number): number =>
  better === "higher" ? ours / peer : peer / ours;

/** Four significant digits: enough for a ratio, and no false precision. */
const rounded = (value: number): number => Number(value.toPrecision(4));

/** Writes a generated file into build/, only if that changes it, and returns its path. */
export function buildFile(name: string, text: string): string {
  const path = join(build, name);
  mkdirSync(build, { recursive: true });
  if (!existsSync(path) || readFileSync(path, "utf8") !== text) writeFileSync(path, text);
  return path;
}

/**
 * Compiles bench/peers/NAME.c (-O3 -march=native) into build/ when it, a header beside it or one of `depends` is newer than
 * the program; returns the program's path.
 */
export function compilePeer(
  name: string,
  flags: readonly string[] = [],
  depends: readonly string[] = [],
): string {
  const peers = join(import.meta.dir, "peers");
  const program = join(build, `peer-${name}`);
  const source = join(peers, `${name}.c`);
  const headers = readdirSync(peers).filter((file) => file.endsWith(".h"));
  const newest = Math.max(
    ...[source, ...depends, ...headers.map((file) => join(peers, file))].map((f) => statSync(f).mtimeMs),
  );
  if ((statSync(program, { throwIfNoEntry: false })?.mtimeMs ?? 0) > newest) return program;
  mkdirSync(build, { recursive: true });
  const command = ["gcc", "-O3", "-march=native", "-Wall", "-Wextra", "-o", program, source, ...flags];
  const gcc = Bun.spawnSync(command, { stdout: "inherit", stderr: "inherit" });
  if (gcc.exitCode !== 0) throw new Error(`gcc could not compile ${source}`);
  return program;
}

/** The command that runs a TypeScript file of ours. */
export const script = (file: string, ...args: string[]): string[] => [process.execPath, file, ...args];

/** `command`, pinned as a whole. */
export const pinned = (command: readonly string[], core: number = cores.measured): string[] =>
  core < 0 ? [...command] : ["taskset", "-c", String(core), ...command];

/** Reads a child's JSON lines; anything else that it printed is passed on to stderr. */
export function parseSample(output: string): Sample {
  const sample: Sample = {};
  for (const line of output.split("\n")) {
    if (!line.startsWith("{")) {
      if (line) process.stderr.write(`${line}\n`);
      continue;
    }
    const { case: name, value } = JSON.parse(line) as { case?: unknown; value?: unknown };
    if (typeof name !== "string" || typeof value !== "number" || !Number.isFinite(value))
      throw new Error(`a child must print {"case","value"}, not ${line}`);
    sample[name] = value;
  }
  return sample;
}

/** Runs a child to its end and returns what it measured; throws if it fails or measures nothing. */
export async function runChild(command: readonly string[], options: ChildOptions = {}): Promise<Sample> {
  const child = Bun.spawn(pinned(command, options.core), {
    stdout: "pipe",
    stderr: "inherit",
    env: { ...process.env, ...options.env },
  });
  const output = await new Response(child.stdout).text();
  const status = await child.exited;
  if (status !== 0)
    throw new Error(`${command.map((word) => basename(word)).join(" ")}: exit status ${status}`);
  const sample = parseSample(output);
  if (Object.keys(sample).length === 0) throw new Error(`${command.join(" ")}: measured nothing`);
  return sample;
}

/** What a bench is given. */
export class Context {
  readonly bench: string;
  /** --seconds: how long one timed sample lasts; each bench has its own default. */
  readonly seconds: number | undefined;
  readonly results: Result[] = [];
  private readonly emit: (result: Result) => void;

  constructor(bench: string, seconds: number | undefined, emit: (result: Result) => void) {
    this.bench = bench;
    this.seconds = seconds;
    this.emit = emit;
  }

  /** For people, on stderr. */
  note(text: string): void {
    process.stderr.write(`${this.bench}: ${text}\n`);
  }

  report(comparison: Comparison, name: string, ours: number, peer: number): void {
    const result: Result = {
      bench: this.bench,
      case: name,
      unit: comparison.unit,
      ours: rounded(ours),
      peer: rounded(peer),
      peerName: comparison.peerName,
      ratio: rounded(ratio(comparison.better, ours, peer)),
    };
    this.results.push(result);
    this.emit(result);
  }

  /** Runs both sides alternately and reports the medians, or the best, case by case; both must measure the same cases. */
  async compare(comparison: Comparison): Promise<void> {
    const ours: Sample[] = [];
    const peer: Sample[] = [];
    for (let round = 0; round < (comparison.rounds ?? 3); round++) {
      if (round % 2 === 1) peer.push(await comparison.peer());
      ours.push(await comparison.ours());
      if (round % 2 === 0) peer.push(await comparison.peer());
    }
    for (const name of Object.keys(ours[0]!)) {
      const side = (samples: Sample[]) => {
        const values = samples.map((sample) => {
          const value = sample[name];
          if (value === undefined) throw new Error(`${this.bench}: a run lacks the case "${name}"`);
          return value;
        });
        if (comparison.best !== true) return median(values);
        return comparison.better === "higher" ? Math.max(...values) : Math.min(...values);
      };
      this.report(comparison, name, side(ours), side(peer));
    }
  }
}

/** Results as an aligned table, for people. */
export function table(results: readonly Result[]): string {
  const rows = [
    ["case", "unit", "ours", "peer", "ratio", "against"],
    ...results.map((r) => [r.case, r.unit, `${r.ours}`, `${r.peer}`, r.ratio.toFixed(2), r.peerName]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i >= 2 && i <= 4 ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
