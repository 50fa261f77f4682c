// Writes docs/netlink-reference.md: everything that netd/netlink exports, as the sources say it. Run it after a change of
// src/netlink: bun docs/reference.ts. test/netlink/docs.test.ts fails where it was forgotten.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const dir = join(import.meta.dir, "../src/netlink");
const out = join(import.meta.dir, "netlink-reference.md");
const read = (path: string): string => readFileSync(join(dir, path), "utf8");

/** The text from `at` on, to the end of the declaration: a line that is `}` or ends it with `;` at depth 0. */
function declaration(text: string, at: number): string {
  let depth = 0;
  for (let i = at; i < text.length; i++) {
    const c = text[i]!;
    if ("{([".includes(c)) depth++;
    if ("})]".includes(c)) depth--;
    if (
      depth === 0 &&
      (c === ";" ||
        (c === "}" && text[i + 1] === "\n" && /^(abstract )?(class|interface)/.test(text.slice(at))))
    )
      return text.slice(at, i + 1);
  }
  return text.slice(at);
}

/** A class without what is private, and without bodies. */
function outline(source: string): string {
  const lines = source.split("\n");
  const kept = [lines[0]!];
  for (let i = 1; i < lines.length - 1; i++) {
    const line = lines[i]!;
    if (/^ {2}\/\*\*/.test(line)) {
      const from = i;
      while (!lines[i]!.includes("*/")) i++;
      if (!/^ {2}(private|protected|constructor|override)/.test(lines[i + 1] ?? ""))
        kept.push(...lines.slice(from, i + 1));
      continue;
    }
    if (!/^ {2}[\w[*]/.test(line) || /^ {2}(private|protected|constructor|override|abstract)/.test(line))
      continue;
    let head = line;
    while (!/[;{]$/.test(lines[i]!) && i < lines.length - 1) head += ` ${lines[++i]!.trim()}`;
    kept.push(
      head
        .replace(/ = [^=>]*;$/, ";")
        .replace(/ \{$/, ";")
        .replace(/^ {2}async /, "  "),
    );
  }
  return [...kept, "}"].join("\n");
}

export function reference(): string {
  const entry = read("netlink.ts");
  const names: [string, string][] = [
    ...entry.matchAll(/^export (?:type )?\{([^}]*)\} from "\.\/([^"]+)";/gm),
  ].flatMap(([, list, file]) =>
    list!.split(",").flatMap((name): [string, string][] => (name.trim() ? [[name.trim(), file!]] : [])),
  );
  for (const [, name] of entry.matchAll(/^export (?:class|interface) (\w+)/gm))
    names.push([name!, "netlink.ts"]);
  const part = ([name, file]: [string, string]): string => {
    const text = read(file);
    const found = new RegExp(
      `(/\\*\\*(?:(?!\\*/)[\\s\\S])*\\*/\\n)?export (?=(?:abstract )?(?:class|interface|type) ${name}\\b)`,
    ).exec(text);
    if (!found) throw new Error(`${name} is not in ${file}`);
    const source = declaration(text, found.index + found[0].length);
    const about = (found[1] ?? "")
      .replace(/^\/\*\*|\*\/\n$/g, "")
      .replace(/^ *\* ?/gm, "")
      .trim();
    const shown = /^(abstract )?class/.test(source) ? outline(source) : source;
    return `### ${name}\n\n${about ? `${about}\n\n` : ""}\`\`\`ts\n${shown}\n\`\`\`\n\n<sub>src/netlink/${file}</sub>\n`;
  };
  const sorted = names.sort(([a], [b]) => (a < b ? -1 : 1));
  const first = ["Netlink", "Links", "Addrs", "Routes", "Nexthops", "Neighs", "Rules", "Batch"];
  const rank = ([name]: [string, string]): number =>
    first.includes(name) ? first.indexOf(name) : first.length;
  return [
    "# Reference of netd/netlink",
    "",
    "Generated from the sources by docs/reference.ts; [netlink.md](netlink.md) has the examples.",
    "",
    ...sorted.toSorted((a, b) => rank(a) - rank(b)).map(part),
  ].join("\n");
}

if (import.meta.main) writeFileSync(out, reference());
