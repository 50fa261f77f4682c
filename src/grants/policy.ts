// The local policy file: what users of this host may have without a grant. TOML, read again when it changes.
//
//   [[allow]]
//   uids = [1000]                    # or gids; neither: everybody who may use the control socket
//   protocols = ["udp"]
//   addresses = ["10.0.0.1"]
//   ports = [[9000, 9099], 53]       # and whatever else a grant's detail says (scope.ts)
import * as v from "valibot";
import { Denied } from "./denied.ts";
import { Detail, type Scope, scopeOf } from "./scope.ts";

const id = v.pipe(v.number("a list of ids"), v.integer("a list of ids"), v.minValue(0, "a list of ids"));
const { type: _, ...fields } = Detail.entries;
const File = v.strictObject({
  allow: v.array(
    v.strictObject({
      ...fields,
      uids: v.optional(v.array(id, "a list of ids")),
      gids: v.optional(v.array(id, "a list of ids")),
    }),
    "tables [[allow]]",
  ),
});

interface Rule {
  readonly uids: readonly number[] | undefined;
  readonly gids: readonly number[] | undefined;
  readonly scope: Scope;
}

/** TOML as its schema has it. @param what is read, for errors  @throws Denied naming the key that is wrong */
export function readToml<const S extends v.GenericSchema>(
  schema: S,
  text: string,
  what: string,
): v.InferOutput<S> {
  let tree: unknown;
  try {
    tree = Bun.TOML.parse(text);
  } catch (error) {
    throw new Denied("malformed", `${what}: ${(error as Error).message}`);
  }
  const result = v.safeParse(schema, tree);
  if (result.success) return result.output;
  const [{ type, expected, path, message }] = result.issues;
  const where = (path ?? []).map(({ key }) => (typeof key === "number" ? `[${key}]` : `.${key}`)).join("");
  const unknown = type === "strict_object" && expected === "never";
  throw new Denied(
    "malformed",
    `${what}: ${where.slice(1)}: ${unknown ? "unknown key" : `expected ${message}`}`,
  );
}

export class Policy {
  private readonly rules: readonly Rule[];

  /** @throws Denied */
  constructor(text: string, path: string) {
    this.rules = readToml(File, text, path).allow.map(({ uids, gids, ...detail }) => ({
      uids,
      gids,
      scope: scopeOf({ type: "netd", ...detail }),
    }));
  }

  /** What a user may have. */
  scopes(uid: number, gid: number): Scope[] {
    return this.rules
      .filter(({ uids, gids }) => (!uids && !gids) || uids?.includes(uid) || gids?.includes(gid))
      .map(({ scope }) => scope);
  }
}
