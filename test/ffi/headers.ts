// Holds numbers in TypeScript to C headers: one _Static_assert each, compiled by clang, nothing run.
import { expect } from "bun:test";

/** Compiles `source` after `lines`; returns what clang says, "" if it says nothing. */
export function compile(source: string, ...flags: string[]): string {
  const { stderr } = Bun.spawnSync(["clang", "-fsyntax-only", "-x", "c", ...flags, "-"], {
    stdin: Buffer.from(source),
    stderr: "pipe",
  });
  return stderr.toString();
}

/** C that does not compile unless `layouts` has the sizes and offsets of the structs it names. */
export function assertions(layouts: {
  readonly [struct: string]: { readonly [field: string]: number };
}): string {
  return Object.entries(layouts)
    .flatMap(([struct, fields]) =>
      Object.entries(fields).map(([field, value]) => {
        const actual =
          field === "sizeof" ? `sizeof(struct ${struct})` : `__builtin_offsetof(struct ${struct}, ${field})`;
        return `_Static_assert(${actual} == ${value}, "${struct}.${field}");`;
      }),
    )
    .join("\n");
}

/** Expects every number right, and each of them to be looked at: one off anywhere must not compile. */
export function expectLayouts(
  headers: string,
  layouts: { readonly [struct: string]: { readonly [field: string]: number } },
  ...flags: string[]
): void {
  expect(compile(`${headers}\n${assertions(layouts)}`, ...flags)).toBe("");
  const wrong = Object.fromEntries(
    Object.entries(layouts).map(([struct, fields]) => [
      struct,
      Object.fromEntries(Object.entries(fields).map(([field, value]) => [field, value + 1])),
    ]),
  );
  const errors = compile(`${headers}\n${assertions(wrong)}`, "-ferror-limit=0", ...flags).match(
    /static.assert\S* failed/g,
  );
  expect(errors?.length).toBe(Object.values(layouts).flatMap((fields) => Object.keys(fields)).length);
}
