// The configuration's rules with their expressions compiled. libpcap never runs in the daemon's process: hostile text has
// crashed it before. It does in another one of this same program, `netd filter compile -`, once at the start.
import { join } from "node:path";
import { SysError } from "../ffi/errno.ts";
import { parse } from "./filter/program.ts";
import { verify } from "./filter/verify.ts";
import { RULES } from "./switch/filters/counts.ts";
import { readRule, type Rule, type RuleText } from "./switch/filters/rule.ts";

const EINVAL = 22;

/** How this program is called. */
const self = (): string[] =>
  import.meta.path.startsWith("/$bunfs/")
    ? [process.execPath]
    : [process.execPath, join(import.meta.dir, "main.ts")];

const refuse = (text: string, why: string): SysError => new SysError(`switch.rules: ${text}`, EINVAL, why);

/** @throws SysError for a rule that is none, with libpcap's words if they are its */
export async function compileRules(texts: readonly string[]): Promise<Rule[]> {
  if (texts.length > RULES) throw refuse(`${texts.length} rules`, `there may be ${RULES}`);
  const rules = texts.map((text) => {
    const rule = readRule(text);
    if (typeof rule === "string") throw refuse(text, rule);
    return rule;
  });
  const asked = rules.filter(({ expression }) => expression !== "");
  const lines = await compileAll(asked);
  return rules.map((rule) => {
    const { expression, bytecode, ...rest } = rule;
    const line = lines[asked.indexOf(rule)];
    const program = line === undefined ? bytecode : parse(line);
    const fault = program && verify(program, true);
    if (fault) throw refuse(rule.text, fault.message);
    return { ...rest, program };
  });
}

/** A line of numbers each. */
async function compileAll(rules: readonly RuleText[]): Promise<string[]> {
  if (rules.length === 0) return [];
  const child = Bun.spawn([...self(), "filter", "compile", "-"], {
    stdin: Buffer.from(rules.map(({ expression }) => `${expression.replaceAll(/\s+/g, " ")}\n`).join("")),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  const lines = out.split("\n").filter((line) => line !== "");
  const status = await child.exited;
  if (status === 0 && lines.length === rules.length) return lines;
  throw refuse(
    rules[lines.length]?.text ?? "",
    err.trim().replace(/^netd: /, "") || `its compiler ended with ${status}`,
  );
}
