// Ed25519 keys as JWKs (RFC 8037), named by their thumbprints (RFC 7638); key files, and files of issuers' public keys.
//
//   a key file   {"kty":"OKP","crv":"Ed25519","x":"..","d":".."}        mode 0600
//   an issuer    {"issuer":"https://..","keys":[{"kty":"OKP","crv":"Ed25519","x":".."}]}   a JWKS (RFC 7517) with its name
import { createHash, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import * as v from "valibot";
import { Denied } from "./denied.ts";

/** 32 bytes in base64url, written in the one way that there is. */
export const Bytes32 = v.pipe(
  v.string("32 bytes in base64url"),
  v.regex(/^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/, "32 bytes in base64url"),
);

const publicEntries = {
  kty: v.literal("OKP", '"OKP"'),
  crv: v.literal("Ed25519", '"Ed25519"'),
  x: Bytes32,
};
export const PublicKey = v.strictObject(publicEntries, "an Ed25519 public key (JWK)");
/** As others publish theirs: with kid, use, alg and whatever else. */
const PublishedKey = v.object(publicEntries, "an Ed25519 public key (JWK)");
const PrivateKey = v.object({ ...publicEntries, d: Bytes32 }, "an Ed25519 private key (JWK)");
const IssuerFile = v.object({
  issuer: v.pipe(v.string("the issuer's name"), v.nonEmpty("the issuer's name")),
  keys: v.pipe(v.array(PublishedKey, "a list of keys"), v.nonEmpty("a list of keys")),
});

export type PublicKey = v.InferOutput<typeof PublicKey>;
export type PrivateKey = v.InferOutput<typeof PrivateKey>;

/** Whose grants are believed: what it calls itself, and its keys. */
export interface Issuer {
  readonly issuer: string;
  readonly keys: readonly PublicKey[];
}

export const sha256 = (text: string | Uint8Array): string =>
  createHash("sha256").update(text).digest("base64url");

/** RFC 7638: SHA-256 of the required members in lexicographic order. A key's kid, and a holder's name. */
export const thumbprint = ({ x }: PublicKey): string => sha256(`{"crv":"Ed25519","kty":"OKP","x":"${x}"}`);

export const publicOf = ({ x }: PublicKey): PublicKey => ({ kty: "OKP", crv: "Ed25519", x });

/** For node's verify, which unlike WebCrypto's answers at once. */
export const keyObject = (key: PublicKey): KeyObject =>
  createPublicKey({ key: publicOf(key), format: "jwk" });

export function generateKey(): PrivateKey {
  const { privateKey } = generateKeyPairSync("ed25519");
  return v.parse(PrivateKey, privateKey.export({ format: "jwk" }));
}

/** @param what is read, for errors */
function parse<const S extends v.GenericSchema>(schema: S, text: string, what: string): v.InferOutput<S> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new Denied("malformed", `${what}: no JSON`);
  }
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const { path: at, message } = result.issues[0];
  const where = (at ?? []).map((item) => `.${item.key}`).join("");
  throw new Denied("malformed", `${what}${where}: expected ${message}`);
}

/** @throws Denied naming the file and what is wrong with it */
export const readKey = (path: string): PrivateKey => parse(PrivateKey, readFileSync(path, "utf8"), path);
/** @throws Denied naming the file and what is wrong with it */
export const readPublicKey = (path: string): PublicKey =>
  publicOf(parse(PublishedKey, readFileSync(path, "utf8"), path));

/** A JWKS with its issuer's name. @throws Denied */
export function parseIssuer(text: string, what: string): Issuer {
  const { issuer, keys } = parse(IssuerFile, text, what);
  return { issuer, keys: keys.map(publicOf) };
}

/** Refuses to overwrite: a key that is lost cannot be had back. */
export const writeKey = (path: string, key: PrivateKey): void =>
  writeFileSync(path, `${JSON.stringify(key)}\n`, { mode: 0o600, flag: "wx" });
