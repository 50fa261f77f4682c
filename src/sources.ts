// Where a configuration comes from: defaults < file (TOML or JSON) < NETD_* variables < flags, key by key.
// Every value keeps its place ("netd.toml:poll.mode", "NETD_POLL_MODE", "--poll"), for errors and `netd config`.
// Text from the environment and from flags becomes what the key's schema wants: numbers, comma lists, services.
import { readFileSync } from "node:fs";
import * as v from "valibot";
import { type Config, ConfigSchema } from "./config.ts";
import { nearest } from "./nearest.ts";

/** Something is wrong with the configuration; the message has one line a fault. */
export class ConfigError extends Error {
  constructor(faults: string[]) {
    super(faults.join("\n"));
    this.name = "ConfigError";
  }
}

/** A value for a key, from outside the file. Text is converted; other values are taken as they are. */
export interface Setting {
  /** such as "poll.mode" */
  readonly key: string;
  readonly value: unknown;
  /** such as "--poll" */
  readonly from: string;
}

export interface Loaded {
  readonly config: Config;
  /** Where each key that is not at its default was set. */
  readonly from: ReadonlyMap<string, string>;
}

type Tree = { [key: string]: unknown };

/** What is looked at of a valibot schema, of whichever kind. */
interface Schema {
  readonly type: string;
  readonly wrapped?: Schema;
  readonly entries?: Record<string, Schema>;
  readonly item?: Schema;
  readonly options?: readonly unknown[];
}
const root = ConfigSchema as unknown as Schema;

const unwrap = (schema: Schema): Schema => (schema.wrapped ? unwrap(schema.wrapped) : schema);
const isTree = (value: unknown): value is Tree =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const leaves = new Map<string, Schema>();
const walk = (schema: Schema, path: string): void => {
  const { entries } = unwrap(schema);
  if (!entries) leaves.set(path, unwrap(schema));
  else for (const [key, entry] of Object.entries(entries)) walk(entry, path ? `${path}.${key}` : key);
};
walk(root, "");

/** Every key, as "poll.mode". */
export const keys: readonly string[] = [...leaves.keys()];

/** "poll.idleMicroseconds" -> "NETD_POLL_IDLE_MICROSECONDS" */
export const variable = (key: string): string =>
  `NETD_${key.replace(/[A-Z]/g, "_$&").replaceAll(".", "_").toUpperCase()}`;

/** Variables of netd's that are no configuration keys. */
const otherVariables = ["NETD_CONFIG", "NETD_DEBUG"];

const toNumber = (text: string): number | string =>
  /^\s*-?\d+(\.\d+)?\s*$/.test(text) ? Number(text) : text.trim();

/** "echo:7", "echo:10.0.0.1:7" */
function toService(text: string): unknown {
  const [service, ...rest] = text.trim().split(":");
  const port = rest.pop();
  return {
    service,
    ...(rest.length > 0 && { address: rest.join(":") }),
    ...(port !== undefined && { port: toNumber(port) }),
  };
}

/** Text as the key's schema wants it; what does not fit stays text, and the schema says what was expected. */
function fromText(schema: Schema, text: string): unknown {
  const list = (item: (text: string) => unknown) => (text.trim() === "" ? [] : text.split(",").map(item));
  if (schema.type === "number" || typeof schema.options?.[0] === "number") return toNumber(text);
  if (schema.type === "boolean") return { true: true, false: false }[text.trim()] ?? text;
  if (schema.type === "array") {
    const { type } = unwrap(schema.item!);
    return list(type === "number" ? toNumber : type === "string" ? (item) => item.trim() : toService);
  }
  if (schema.type === "union") return text === "all" ? text : list(toNumber);
  return text;
}

/** Lays `value` over `tree`: tables key by key, the rest whole. Own, prototype-less objects only. */
function lay(tree: Tree, value: Tree, path: string, note: (path: string) => void): void {
  for (const [key, entry] of Object.entries(value)) {
    const at = path ? `${path}.${key}` : key;
    if (!isTree(entry)) {
      tree[key] = entry;
      note(at);
      continue;
    }
    if (Object.keys(entry).length === 0) note(at);
    const below = (tree[key] ??= Object.create(null));
    if (isTree(below)) lay(below, entry, at, note);
  }
}

/** A value as it is shown in an error. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** The line on which the statement begins that makes this TOML wrong: Bun's parser does not say it. */
function badLine(text: string): number {
  const lines = text.split("\n");
  for (let good = lines.length - 1; good > 0; good--) {
    try {
      Bun.TOML.parse(lines.slice(0, good).join("\n"));
      return good + 1;
    } catch {
      // wrong already without line `good`
    }
  }
  return 1;
}

function readFile(path: string): Tree {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new ConfigError([`config file ${path}: ${code} (is the path right, and readable?)`]);
  }
  const json = path.endsWith(".json");
  let tree: unknown;
  try {
    tree = json ? JSON.parse(text) : Bun.TOML.parse(text);
  } catch (error) {
    throw new ConfigError([
      `config file ${path}${json ? "" : `:${badLine(text)}`}: ${(error as Error).message}`,
    ]);
  }
  if (!isTree(tree)) throw new ConfigError([`config file ${path}: expected a table of keys`]);
  return tree;
}

/** The entries of the table at `path`, to suggest one of them. */
function siblings(path: string[]): string[] {
  let schema: Schema | undefined = root;
  for (const key of path) {
    const { entries, item } = unwrap(schema);
    schema = entries?.[key] ?? (item && unwrap(item));
    if (!schema) return [];
  }
  return Object.keys(unwrap(schema).entries ?? {});
}

function unknownKey(path: string[]): string {
  const last = path.at(-1)!;
  const parent = path.slice(0, -1);
  const near = nearest(last, siblings(parent));
  if (near) return [...parent, near].join(".");
  return keys.find((key) => key.endsWith(`.${last}`)) ?? nearest(path.join("."), keys) ?? "";
}

function fault(issue: v.BaseIssue<unknown>, from: ReadonlyMap<string, string>): string {
  const path = (issue.path ?? []).map((item) => String(item.key));
  const key = path.join(".");
  let prefix = key;
  while (prefix && !from.has(prefix)) prefix = prefix.slice(0, Math.max(0, prefix.lastIndexOf(".")));
  const below = [...from].find(([set]) => set.startsWith(`${key}.`))?.[1];
  const where = from.get(prefix) ?? below ?? "default";
  if (issue.type === "strict_object" && issue.expected === "never") {
    const suggestion = unknownKey(path);
    return `unknown key ${key} (${where})${suggestion && `; did you mean ${suggestion}?`}`;
  }
  const value = issue.path?.at(-1)?.value;
  if (value === undefined) return `${key} is missing (${where}): expected ${issue.message}`;
  return `${key} is ${shown(value)} (${where}): expected ${issue.message}`;
}

/** Settings from NETD_* variables; an empty one counts as not set. */
export function fromEnvironment(env: Record<string, string | undefined>): Setting[] {
  const byName = new Map(keys.map((key) => [variable(key), key]));
  const known = [...byName.keys(), ...otherVariables];
  const faults: string[] = [];
  const settings: Setting[] = [];
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith("NETD_") || !value || otherVariables.includes(name)) continue;
    const key = byName.get(name);
    if (key) settings.push({ key, value, from: name });
    else {
      const near = nearest(name, known);
      faults.push(`unknown variable ${name} (environment)${near ? `; did you mean ${near}?` : ""}`);
    }
  }
  if (faults.length > 0) throw new ConfigError(faults);
  return settings;
}

/**
 * The effective configuration from all sources.
 * @param file path of a TOML file, or of a JSON file if it ends in .json
 * @param settings the environment's, then the flags': the later wins
 * @throws ConfigError with one line for each fault
 */
export function loadConfig(file: string | undefined, settings: readonly Setting[]): Loaded {
  const tree: Tree = Object.create(null);
  const from = new Map<string, string>();
  if (file) lay(tree, readFile(file), "", (path) => from.set(path, `${file}:${path}`));
  for (const setting of settings) {
    const schema = leaves.get(setting.key);
    const value =
      schema && typeof setting.value === "string" ? fromText(schema, setting.value) : setting.value;
    const nested = setting.key.split(".").reduceRight<unknown>((inner, key) => ({ [key]: inner }), value);
    lay(tree, nested as Tree, "", (path) => from.set(path, setting.from));
  }
  const result = v.safeParse(ConfigSchema, tree);
  if (!result.success) throw new ConfigError(result.issues.map((issue) => fault(issue, from)));
  return { config: result.output, from };
}
