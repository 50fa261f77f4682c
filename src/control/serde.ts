// JSON as Rust's serde_json reads it, and not as JSON.parse does: usnetd's clients and its control socket are held to
// serde's rules. A text becomes a tree that keeps what decides there: keys in order and twice, how a number was written,
// whether a string is one that Rust could hold. What a reader ignores may be laxer (a lone surrogate, a number out of any
// range), so those faults count only where a value is used.
//
// Depth is bounded. Sources: RFC 8259; serde_json 1.0.64 src/de.rs, src/read.rs.

export type Json =
  | { readonly type: "null" | "true" | "false" }
  | { readonly type: "number"; readonly text: string }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "array"; readonly items: readonly Json[] }
  | { readonly type: "object"; readonly entries: readonly (readonly [key: Json, value: Json])[] };

/** The text, or a value in it, is not what was to be read. */
export class SerdeError extends Error {}

const fail = (message: string): never => {
  throw new SerdeError(message);
};

/** Lists and structs in one another: more than any request has, and less than the stack bears. */
const DEPTH = 2000;

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const SPACE = /[ \t\n\r]*/y;
// biome-ignore lint/suspicious/noControlCharactersInRegex: those are what it stops at
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const HEX = /[0-9a-fA-F]{4}/y;
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

/** @throws SerdeError where serde_json finds a syntax error */
export function readJson(text: string): Json {
  let at = 0;
  let depth = 0;

  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0];
    if (found !== undefined) at += found.length;
    return found;
  };
  const space = (): void => void take(SPACE);
  const eat = (character: string): boolean => {
    if (text[at] !== character) return false;
    at++;
    return true;
  };

  function string(): Json {
    let value = "";
    for (;;) {
      value += take(PLAIN);
      if (eat('"')) return { type: "string", value };
      if (!eat("\\")) fail(`no control characters, and an end, in a string: at ${at}`);
      const letter = text[at++] ?? "";
      if (letter === "u")
        value += String.fromCharCode(Number.parseInt(take(HEX) ?? fail(`\\u at ${at}`), 16));
      else value += ESCAPES[letter] ?? fail(`no such escape: at ${at}`);
    }
  }

  /** What stands between `[` or `{` and its end, behind the first of them. */
  function list<T>(end: string, item: () => T): T[] {
    const items: T[] = [];
    if (++depth > DEPTH) fail(`more than ${DEPTH} lists in one another: at ${at}`);
    space();
    while (!eat(end)) {
      if (items.length > 0 && !eat(",")) fail(`expected , or ${end} at ${at}`);
      space();
      items.push(item());
      space();
    }
    depth--;
    return items;
  }

  function entry(): readonly [Json, Json] {
    if (!eat('"')) fail(`a key is a string: at ${at}`);
    const key = string();
    space();
    if (!eat(":")) fail(`expected : at ${at}`);
    return [key, value()];
  }

  function value(): Json {
    space();
    if (eat('"')) return string();
    if (eat("{")) return { type: "object", entries: list("}", entry) };
    if (eat("[")) return { type: "array", items: list("]", value) };
    for (const word of ["null", "true", "false"] as const)
      if (text.startsWith(word, at)) {
        at += word.length;
        return { type: word };
      }
    return { type: "number", text: take(NUMBER) ?? fail(`expected a value at ${at}`) };
  }

  const whole = value();
  space();
  if (at < text.length) fail(`characters behind the end: at ${at}`);
  return whole;
}

/** A String. */
export function asString(json: Json): string {
  if (json.type !== "string") return fail(`expected a string, not ${json.type}`);
  if (!json.value.isWellFormed()) fail("half of a surrogate pair");
  return json.value;
}

/** An unsigned integer up to `max`; -0, 1.0 and 1e0 are fractions to serde. */
export function asUnsigned(json: Json, max: bigint): bigint {
  if (json.type !== "number" || !/^[0-9]+$/.test(json.text)) return fail("expected an unsigned integer");
  const value = BigInt(json.text);
  return value <= max ? value : fail(`${json.text} is over ${max}`);
}

/** An Option: undefined for null. */
export const asOption = <T>(json: Json, read: (json: Json) => T): T | undefined =>
  json.type === "null" ? undefined : read(json);

/** A Vec. */
export function asList<T>(json: Json, read: (json: Json) => T): readonly T[] {
  return json.type === "array" ? json.items.map(read) : fail(`expected a list, not ${json.type}`);
}

/** A tuple of `length` values. */
export function asTuple(json: Json, length: number): readonly Json[] {
  if (json.type !== "array" || json.items.length !== length) return fail(`expected a list of ${length}`);
  return json.items;
}

/**
 * The fields of a struct, in their order: from an object, whose other keys are ignored, or from a list.
 * A field that is not there is null if it is `optional`; in a list none may be missing.
 */
export function asStruct(
  json: Json,
  fields: readonly string[],
  optional: ReadonlySet<string>,
): readonly Json[] {
  if (json.type === "array") return asTuple(json, fields.length);
  if (json.type !== "object") return fail(`expected a struct, not ${json.type}`);
  const found = new Map<string, Json>();
  for (const [name, value] of json.entries) {
    const key = asString(name);
    if (!fields.includes(key)) continue;
    if (found.has(key)) fail(`${key} is given twice`);
    found.set(key, value);
  }
  return fields.map(
    (field) => found.get(field) ?? (optional.has(field) ? { type: "null" } : fail(`${field} is missing`)),
  );
}

/** An enum, externally tagged: its variant's name, and what the variant holds; undefined where it stands alone. */
export function asEnum(json: Json): readonly [variant: string, content: Json | undefined] {
  if (json.type === "string") return [asString(json), undefined];
  if (json.type !== "object" || json.entries.length !== 1) return fail("expected one variant");
  const [name, content] = json.entries[0]!;
  return [asString(name), content];
}
