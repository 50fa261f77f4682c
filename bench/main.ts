// `bun bench [name...] [--json] [--brief] [--seconds S]`: runs the benches of this folder, all of them unless named.
// Each verifies its output first; --brief stops there (CI). --json prints one Result a line on stdout.
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

async function runBench(name: string, options: { json: boolean; brief: boolean; seconds?: number }) {
  const { bench } = (await import(join(import.meta.dir, `${name}.ts`))) as { bench: Bench };
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

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    brief: { type: "boolean", default: false },
    seconds: { type: "string" },
  },
});
const seconds = values.seconds === undefined ? undefined : Number(values.seconds);
const known = names();
const unknown = positionals.find((name) => !known.includes(name));
if (unknown !== undefined || (seconds !== undefined && !(seconds > 0))) {
  console.error(
    unknown === undefined
      ? `--seconds ${values.seconds}: not a number over 0`
      : `no bench named ${unknown}; there are: ${known.join(", ")}`,
  );
  process.exit(2);
}
let failures = 0;
for (const name of positionals.length ? positionals : known) {
  try {
    await runBench(name, { ...values, seconds });
  } catch (error) {
    failures++;
    console.error(`${name}: FAILED: ${error instanceof Error ? (error.stack ?? error.message) : error}`);
  }
}
process.exit(failures ? 1 : 0);
