// Keys, grants and chains for tests: an issuer, what it signs, and what a forger would.
import { CompactSign, importJWK } from "jose";
import { type GrantClaims, issue, type NewGrant, type Trust } from "../../src/grants/grant.ts";
import { generateKey, type PrivateKey, publicOf, thumbprint } from "../../src/grants/keys.ts";

export const ISSUER = "https://grants.example";
export const HOST = "host-a";
/** Now, for whoever is told what time it is. */
export const NOW = 1_800_000_000;

export const issuerKey = generateKey();
export const trust: Trust = {
  issuers: [{ issuer: ISSUER, keys: [publicOf(issuerKey)] }],
  host: HOST,
  skew: 5,
};

export const detail = (more: object = {}): GrantClaims["authorization_details"][number] => ({
  type: "netd",
  ...more,
});

export type Said = Partial<NewGrant>;

export const saying = (holder: PrivateKey, said: Said = {}): NewGrant => ({
  sub: "web",
  aud: HOST,
  nbf: NOW,
  exp: NOW + 3600,
  jti: "1",
  holder: publicOf(holder),
  details: [detail()],
  ...said,
});

/** What the issuer gives to a holder. */
export const granted = (holder: PrivateKey, said: Said = {}, iss = ISSUER): Promise<string> =>
  issue(saying(holder, said), issuerKey, { iss }, said.nbf ?? NOW);

/** The chain with a link more. */
export async function handed(
  links: readonly string[],
  by: PrivateKey,
  to: PrivateKey,
  said: Said = {},
): Promise<string[]> {
  const jti = `child-${links.length}`;
  return [
    ...links,
    await issue(saying(to, { jti, ...said }), by, { parent: links.at(-1)! }, said.nbf ?? NOW),
  ];
}

/** Any claims under any header: what a forger writes. */
export async function forged(claims: object, header: object, key: PrivateKey): Promise<string> {
  return new CompactSign(new TextEncoder().encode(JSON.stringify(claims)))
    .setProtectedHeader({ alg: "EdDSA", kid: thumbprint(key), typ: "netd-grant+jwt", ...header })
    .sign(await importJWK(key, "EdDSA"));
}

export const payloadOf = (jws: string): GrantClaims & Record<string, unknown> =>
  JSON.parse(Buffer.from(jws.split(".")[1]!, "base64url").toString());

/** The code that a call is denied with; "none" if it is not. */
export function denial(call: () => unknown): string {
  try {
    call();
    return "none";
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}
