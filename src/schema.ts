// The words that the configuration's schema is written in (config.ts, switchkeys.ts): leaves with a description and a
// default, sections of them, and the checks that both need. Every message is what was expected.
import * as v from "valibot";

/** A whole number from `min` to `max`, both included. */
export const whole = (min: number, max: number, unit = "") => {
  const expected = `a whole number${unit && ` of ${unit}`} from ${min} to ${max}`;
  return v.pipe(
    v.number(expected),
    v.integer(expected),
    v.minValue(min, expected),
    v.maxValue(max, expected),
  );
};

/** The powers of two from `min` to `max`: an enumeration, so that JSON Schema can say it. */
export const powerOfTwo = (min: number, max: number) => {
  const values: number[] = [];
  for (let value = min; value <= max; value *= 2) values.push(value);
  return v.picklist(values, `a power of two from ${min} to ${max}`);
};

export const oneOf = <const T extends readonly string[]>(...words: T) =>
  v.picklist(words, `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`);

/** A leaf: its schema, what it is for, its default. */
export const key = <const S extends v.GenericSchema, const D extends v.InferInput<S>>(
  schema: S,
  description: string,
  fallback: D & v.InferInput<S>,
) => v.optional(v.pipe(schema, v.description(description)), fallback);

/** A leaf that may be absent. */
export const maybe = <const S extends v.GenericSchema>(schema: S, description: string) =>
  v.optional(v.pipe(schema, v.description(description)));

/** A section: keys that it does not list are errors. */
export const section = <const E extends v.ObjectEntries>(entries: E, description: string) => {
  const schema = v.pipe(v.strictObject(entries, "a table of keys"), v.description(description));
  return v.optional(schema, {} as v.InferInput<typeof schema>);
};

/** A list without anything twice. */
export const unique = <T>(list: T[]): boolean => new Set(list).size === list.length;

const socketText = "a path of 1 to 107 bytes (the limit of a Unix socket's address)";

/** Path of a Unix socket. */
export const SocketPath = v.pipe(
  v.string(socketText),
  v.minLength(1, socketText),
  v.maxBytes(107, socketText),
  v.regex(/^[^\0]*$/, socketText),
);
