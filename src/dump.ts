// The configuration in print: as TOML that can be read back (with where each key was set), and its JSON Schema.
import { toJsonSchema } from "@valibot/to-json-schema";
import { ConfigSchema } from "./config.ts";
import type { Loaded } from "./sources.ts";

/** JSON text of strings, numbers, lists and flat tables, which TOML reads too but for its "=" in tables. */
function toml(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(toml).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{ ${Object.entries(value)
    .map(([key, entry]) => `${key} = ${toml(entry)}`)
    .join(", ")} }`;
}

/** The effective configuration as TOML, its comments saying where a key was set. */
export function toToml({ config, from }: Loaded): string {
  const line = (key: string, path: string, value: unknown): string =>
    `${key} = ${toml(value)}${from.has(path) ? `  # ${from.get(path)}` : ""}\n`;
  let top = "";
  let tables = "";
  for (const [name, value] of Object.entries(config)) {
    if (Array.isArray(value)) {
      top += line(name, name, value);
      continue;
    }
    tables += `\n[${name}]\n`;
    for (const [key, entry] of Object.entries(value)) tables += line(key, `${name}.${key}`, entry);
  }
  return top + tables;
}

/** JSON Schema of the configuration file (draft 2020-12). */
export function jsonSchema(): unknown {
  return toJsonSchema(ConfigSchema, {
    target: "draft-2020-12",
    typeMode: "input",
    overrideAction: ({ valibotAction, jsonSchema: json }) => {
      // What JSON Schema has no words for: bytes of a path, and keys that depend on one another.
      if (valibotAction.type === "max_bytes" || valibotAction.type === "partial_check") return json;
      // The checks of lists are those for different ones; of texts, what no short pattern says.
      if (valibotAction.type === "check")
        return json.type === "array" ? { ...json, uniqueItems: true } : json;
      return undefined;
    },
  });
}
