// The rows of the key table in docs/operations.md, made from the JSON Schema, so that the page cannot fall behind.
import { jsonSchema } from "../../src/dump.ts";

interface Node {
  description: string;
  properties?: Record<string, Node>;
  default?: unknown;
  type?: string;
  enum?: unknown[];
  anyOf?: unknown[];
  minimum?: number;
  maximum?: number;
}

/** What a value may be, in few words. */
function accepts({ type, enum: words, anyOf, minimum, maximum }: Node): string {
  if (words && words.length > 4) return `power of two, ${words[0]} to ${words.at(-1)}`;
  if (words) return words.join(", ");
  if (anyOf) return '"all" or list';
  if (type === "integer" || type === "number") return `${minimum} to ${maximum}`;
  return type === "array" ? "list" : "text";
}

/** `| poll.mode | busy, adaptive, interrupt | adaptive | ... |` for every key. */
export function keyRows(): string[] {
  const rows: string[] = [];
  const walk = (node: Node, path: string): void => {
    for (const [key, child] of Object.entries(node.properties ?? {}))
      if (child.properties) walk(child, `${path}${key}.`);
      else {
        const fallback = child.default === undefined ? "" : `\`${JSON.stringify(child.default)}\``;
        rows.push(`| \`${path}${key}\` | ${accepts(child)} | ${fallback} | ${child.description} |`);
      }
  };
  walk(jsonSchema() as Node, "");
  return rows;
}
