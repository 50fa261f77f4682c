// Compact JWS (RFC 7515) with Ed25519, and nothing else of JOSE: one algorithm, and a `typ` for each kind of statement, so
// that none can be taken for another (RFC 8725 sections 3.1, 3.11). What is not exactly that is refused before any key is
// looked at.
//
// Signing is jose's, and async as WebCrypto is. Verifying is node:crypto's, because the control Worker never returns to
// its event loop, and a promise would never be settled there: 59 us a signature, and only who has an open challenge can ask
// for some. The same function verifies everywhere; tests hold it to jose's.
import { verify } from "node:crypto";
import { CompactSign, importJWK } from "jose";
import * as v from "valibot";
import { Denied, quoted } from "./denied.ts";
import { type PrivateKey, PublicKey, keyObject, thumbprint } from "./keys.ts";

const ALG = "EdDSA";
/** Of one JWS, if nothing else is said. */
const JWS_BYTES = 16_384;

export type JwsType = "netd-grant+jwt" | "netd-proof+jwt" | "netd-revocations+jwt" | "netd-request+jwt";

const Header = v.strictObject({
  alg: v.literal(ALG),
  typ: v.string(),
  kid: v.optional(v.string()),
  jwk: v.optional(PublicKey),
});

export interface Jws {
  readonly text: string;
  readonly header: v.InferOutput<typeof Header>;
  /** what it says, if verifyJws says that it is signed */
  readonly claims: unknown;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Base64url without padding, in the one way that there is to write it. */
function bytesOf(part: string, what: string): Buffer {
  const bytes = Buffer.from(part, "base64url");
  if (bytes.toString("base64url") !== part) throw new Denied("malformed", `its ${what} is no base64url`);
  return bytes;
}

function jsonOf(part: string, what: string): unknown {
  try {
    return JSON.parse(utf8.decode(bytesOf(part, what)));
  } catch (error) {
    if (error instanceof Denied) throw error;
    throw new Denied("malformed", `its ${what} is no JSON`);
  }
}

/** @throws Denied if it is no JWS, or one of another algorithm or type */
export function parseJws(text: string, type: JwsType, most = JWS_BYTES): Jws {
  if (text.length > most) throw new Denied("malformed", `a JWS has at most ${most} characters`);
  const parts = text.split(".");
  if (parts.length !== 3) throw new Denied("malformed", "a compact JWS has three parts");
  const json = jsonOf(parts[0]!, "header");
  const { alg, typ } = (json ?? {}) as Record<string, unknown>;
  if (alg !== ALG) throw new Denied("forged", `its alg is ${quoted(String(alg))}: only "${ALG}" is taken`);
  if (typ !== type) throw new Denied("malformed", `its typ is ${quoted(String(typ))}, not "${type}"`);
  const header = v.safeParse(Header, json);
  if (!header.success) {
    const key = header.issues[0].path?.[0]?.key;
    throw new Denied("malformed", `its header has a ${quoted(String(key))} that is not taken`);
  }
  return { text, header: header.output, claims: jsonOf(parts[1]!, "payload") };
}

/** What kind of statement it says to be; undefined if it is no JWS. */
export function typeOf(text: string): string | undefined {
  try {
    return (jsonOf(text.split(".")[0]!, "header") as { typ?: string } | null)?.typ;
  } catch {
    return undefined;
  }
}

/** Whether the key has signed it. */
export function isSigned({ text }: Jws, key: PublicKey): boolean {
  const at = text.lastIndexOf(".");
  const signature = bytesOf(text.slice(at + 1), "signature");
  return signature.length === 64 && verify(null, Buffer.from(text.slice(0, at)), keyObject(key), signature);
}

/** @param jwk whether the key itself goes along, for who does not know it */
export async function signJws(
  type: JwsType,
  claims: object,
  key: PrivateKey,
  { jwk = false } = {},
): Promise<string> {
  const { kty, crv, x } = key;
  const named = jwk ? { jwk: { kty, crv, x } } : { kid: thumbprint(key) };
  return new CompactSign(new TextEncoder().encode(JSON.stringify(claims)))
    .setProtectedHeader({ alg: ALG, typ: type, ...named })
    .sign(await importJWK(key, ALG));
}

/**
 * Claims as their schema has them. @throws Denied naming the first fault: a key that the schema does not have is an
 * unknown constraint, which nobody here could enforce
 */
export function claimsOf<const S extends v.GenericSchema>(schema: S, { claims }: Jws): v.InferOutput<S> {
  const result = v.safeParse(schema, claims);
  if (result.success) return result.output;
  const [{ type, expected, path, message }] = result.issues;
  const where = (path ?? []).map((item) => String(item.key)).join(".");
  if (type === "strict_object" && expected === "never")
    throw new Denied("unknown_constraint", `${quoted(where)} is not known here, so it cannot be enforced`);
  throw new Denied("malformed", `${where || "the payload"}: expected ${message}`);
}
