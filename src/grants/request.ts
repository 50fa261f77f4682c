// What a permission server is asked: a JWS by the asker's own key, which goes along in its header. So there are no passwords,
// a request is worth nothing to who overhears it, and a grant that comes back is bound to a key that was shown to be had.
import { randomBytes } from "node:crypto";
import * as v from "valibot";
import { Denied } from "./denied.ts";
import { claimsOf, isSigned, parseJws, signJws } from "./jws.ts";
import { type PrivateKey, PublicKey, thumbprint } from "./keys.ts";
import { Details } from "./scope.ts";

/** Seconds that a request's clock may differ from the server's. */
export const REQUEST_SECONDS = 60;

const text = v.pipe(v.string("a text"), v.nonEmpty("a text"), v.maxLength(256, "at most 256 characters"));
const Ask = v.variant("do", [
  v.strictObject({
    do: v.literal("issue"),
    subject: v.optional(text),
    hosts: v.pipe(v.array(text, "a list of hosts"), v.nonEmpty("a list of hosts"), v.maxLength(64)),
    seconds: v.pipe(v.number("seconds"), v.integer("seconds"), v.minValue(1, "seconds")),
    details: Details,
    /** whose it will be; the asker's if it is missing */
    holder: v.optional(PublicKey),
  }),
  v.strictObject({ do: v.literal("renew"), grant: v.string("a grant") }),
  v.strictObject({
    do: v.literal("revoke"),
    /** by their ids, what was issued to the asker; or the last link of a chain of which the asker holds another */
    ids: v.optional(v.array(text, "a list of ids")),
    chain: v.optional(v.array(v.string("a chain"), "a chain")),
    why: v.optional(text),
  }),
  v.strictObject({ do: v.literal("list") }),
]);
export type Ask = v.InferOutput<typeof Ask>;

const Claims = v.strictObject({
  aud: v.string("the issuer's name"),
  iat: v.number("seconds since 1970"),
  jti: v.pipe(v.string("an id"), v.regex(/^[\w-]{16,64}$/, "an id of 16 to 64 letters")),
  ask: Ask,
});

export interface Asked {
  readonly key: PublicKey;
  /** of the key */
  readonly asker: string;
  readonly jti: string;
  readonly ask: Ask;
}

export const signRequest = (ask: Ask, issuer: string, key: PrivateKey, now: number): Promise<string> => {
  const jti = randomBytes(16).toString("base64url");
  return signJws("netd-request+jwt", { aud: issuer, iat: now, jti, ask }, key, { jwk: true });
};

/** Who asks, and what; whether it was asked before is for the caller to know. @throws Denied */
export function readRequest(request: string, issuer: string, now: number): Asked {
  const jws = parseJws(request, "netd-request+jwt", 1 << 17);
  const { jwk } = jws.header;
  if (!jwk) throw new Denied("malformed", "a request has the asker's key in its header: jwk");
  if (!isSigned(jws, jwk)) throw new Denied("forged", "the request is not signed by the key in its header");
  const { aud, iat, jti, ask } = claimsOf(Claims, jws);
  if (aud !== issuer) throw new Denied("wrong_audience", `the request is for ${aud}, and this is ${issuer}`);
  if (Math.abs(iat - now) > REQUEST_SECONDS)
    throw new Denied("replay", `the request is ${now - iat} s old by this server's clock`);
  return { key: jwk, asker: thumbprint(jwk), jti, ask };
}
