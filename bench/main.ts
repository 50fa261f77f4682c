// `bun bench`: runs the benches of this folder, all of them unless named (--help). Each verifies its output first.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Bench, Context, table } from "./harness.ts";

/** Names of the files here that export a bench. */
const names = (): string[] =>
  readdirSync(import.meta.dir)
    .filter((file) => file.endsWith(".ts"))
    .filter((file) => /^export const bench\b/m.test(readFileSync(join(import.meta.dir, file), "utf8")))
    .map((file) => file.slice(0, -3))
    .sort();

async function load(name: string): Promise<Bench> {
  const { bench } = (await import(join(import.meta.dir, `${name}.ts`))) as { bench: Bench };
  return bench;
}

interface Options {
  json: boolean;
  brief: boolean;
  seconds: number | undefined;
}

async function runBench(name: string, options: Options): Promise<void> {
  const bench = await load(name);
  const context = new Context(name, options.seconds, (result) => {
    if (options.json) console.log(JSON.stringify(result));
  });
  if (!options.json) console.log(`\n${name}: ${bench.about}`);
  const start = performance.now();
  await bench.verify(context);
  context.note(`output verified in ${((performance.now() - start) / 1000).toFixed(1)} s`);
  if (options.brief) return;
  await bench.run(context);
  if (!options.json) console.log(table(context.results));
}

const options = {
  json: { type: "boolean", default: false },
  brief: { type: "boolean", default: false },
  seconds: { type: "string" },
  help: { type: "boolean", short: "h", default: false },
} as const;

const usage = async (): Promise<string> => {
  const known = names();
  const width = Math.max(...known.map((name) => name.length));
  const abouts = known.map(async (name) => `  ${name.padEnd(width)}  ${(await load(name)).about}`);
  return [
    "bun bench [name...] [--json] [--brief] [--seconds S]: all benches, unless some are named",
    "",
    "  --json       one result a line: {bench, case, unit, ours, peer, peerName, ratio}",
    "  --brief      only prove that the work that is timed is done",
    "  --seconds S  how long one timed sample lasts; each bench has its own default",
    "",
    ...(await Promise.all(abouts)),
  ].join("\n");
};

/** @throws Error what is wrong with the command line, in words */
function parsed() {
  const { values, positionals } = parseArgs({ allowPositionals: true, options });
  const known = names();
  const unknown = positionals.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`no bench named ${unknown}; there are: ${known.join(", ")}`);
  const seconds = values.seconds === undefined ? undefined : Number(values.seconds);
  if (seconds !== undefined && !(seconds > 0))
    throw new Error(`--seconds ${values.seconds}: not a number over 0`);
  return { ...values, seconds, benches: positionals.length ? positionals : known };
}

function commandLine(): ReturnType<typeof parsed> {
  try {
    return parsed();
  } catch (error) {
    console.error((error as Error).message);
    process.exit(2);
  }
}

const wanted = commandLine();
if (wanted.help) {
  console.log(await usage());
  process.exit(0);
}
let failures = 0;
for (const name of wanted.benches) {
  try {
    await runBench(name, wanted);
  } catch (error) {
    failures++;
    console.error(`${name}: FAILED: ${error instanceof Error ? (error.stack ?? error.message) : error}`);
  }
}
process.exit(failures ? 1 : 0);
