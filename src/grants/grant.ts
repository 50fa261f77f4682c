// A grant: who may have what, where, from when to when. A JWT by its claims (RFC 7519), with the holder's key (RFC 7800) and
// what is granted (RFC 9396). One that is narrowed and handed on names its parent, and is signed by the parent's holder.
//
//   issuer --signs--> link 0 {iss, cnf: A} --A signs--> link 1 {iss: A's thumbprint, par: SHA-256 of link 0, cnf: B} ...
//
// What a chain allows is what every link allows: intersected ranges, the smallest rates, the latest start, the earliest
// end. `admit` is all of the checking but for revocation (revocation.ts) and possession (proof.ts). Pure.
import * as v from "valibot";
import { Denied, quoted } from "./denied.ts";
import { claimsOf, isSigned, type Jws, parseJws, signJws } from "./jws.ts";
import { Bytes32, type Issuer, type PrivateKey, PublicKey, publicOf, sha256, thumbprint } from "./keys.ts";
import { Details, intersect, type Scope, scopeOf } from "./scope.ts";

/** Links of a chain at most, the issuer's included. */
export const CHAIN_LINKS = 5;
/** What a chain's links have in common is at most so many scopes. */
const SCOPES = 64;

const name = v.pipe(v.string("a name"), v.nonEmpty("a name"), v.maxLength(256, "at most 256 characters"));
const seconds = v.pipe(v.number("seconds since 1970"), v.integer("seconds since 1970"), v.minValue(0));
const Hosts = v.union(
  [name, v.pipe(v.array(name), v.nonEmpty("a host or several"), v.maxLength(64))],
  "a host or several",
);

const Claims = v.strictObject({
  iss: name,
  sub: name,
  aud: Hosts,
  iat: seconds,
  nbf: seconds,
  exp: seconds,
  jti: name,
  cnf: v.strictObject({ jwk: PublicKey }),
  authorization_details: Details,
  par: v.optional(Bytes32),
});
export type GrantClaims = v.InferOutput<typeof Claims>;

/** One link as it is shown. */
export interface Link {
  readonly claims: GrantClaims;
  /** thumbprint of the key that it is signed with, as it says */
  readonly kid: string | undefined;
}

/** What a chain that was checked allows. */
export interface Permit {
  /** SHA-256 of the chain: what a proof is made for, and its name */
  readonly id: string;
  readonly issuer: string;
  /** of the last link */
  readonly subject: string;
  readonly holder: PublicKey;
  /** of all links: any of them revoked ends it */
  readonly ids: readonly string[];
  /** seconds since 1970 */
  readonly until: number;
  readonly scopes: readonly Scope[];
}

/** Who is believed, and where and when that is. */
export interface Trust {
  readonly issuers: readonly Issuer[];
  /** this daemon's name, as `aud` says it */
  readonly host: string;
  /** seconds that another's clock may be ahead of ours */
  readonly skew: number;
}

export const chainId = (links: readonly string[]): string => sha256(links.join("~"));

const readGrant = (text: string): { jws: Jws; claims: GrantClaims } => {
  const jws = parseJws(text, "netd-grant+jwt");
  return { jws, claims: claimsOf(Claims, jws) };
};

/** A link, unchecked: to be shown. @throws Denied if it is none */
export function inspect(text: string): Link {
  const { jws, claims } = readGrant(text);
  return { claims, kid: jws.header.kid };
}

function checkIssuer(jws: Jws, { iss }: GrantClaims, { issuers }: Trust): void {
  const issuer = issuers.find((one) => one.issuer === iss);
  if (!issuer)
    throw new Denied("unknown_issuer", `${quoted(iss)} is not among the issuers of grants.issuers`);
  const { kid } = jws.header;
  const keys = issuer.keys.filter((key) => kid === undefined || thumbprint(key) === kid);
  if (keys.length === 0)
    throw new Denied("unknown_issuer", `${quoted(iss)} has no key ${quoted(kid!)} that is known here`);
  if (!keys.some((key) => isSigned(jws, key)))
    throw new Denied("forged", `it is not signed by ${quoted(iss)}`);
}

function checkParent(jws: Jws, { iss, par }: GrantClaims, parent: string, holder: PublicKey): void {
  if (par !== sha256(parent)) throw new Denied("broken_chain", "a link names another parent");
  if (iss !== thumbprint(holder))
    throw new Denied("broken_chain", "a link is issued by somebody who does not hold its parent");
  if (!isSigned(jws, holder)) throw new Denied("forged", "a link is not signed by its parent's holder");
}

function checkTimes({ iat, nbf, exp }: GrantClaims, { skew }: Trust, now: number): void {
  const start = Math.max(iat, nbf);
  if (start > now + skew)
    throw new Denied(
      "not_yet_valid",
      `it begins in ${start - now} s by this host's clock, and grants.skewSeconds allows ${skew}`,
    );
  if (exp <= now) throw new Denied("expired", `it ended ${now - exp} s ago by this host's clock: renew it`);
}

/** @param links the issuer's first  @param now seconds since 1970  @throws Denied */
export function admit(links: readonly string[], trust: Trust, now: number): Permit {
  if (links.length === 0) throw new Denied("malformed", "a chain has at least one link");
  if (links.length > CHAIN_LINKS)
    throw new Denied("chain_too_long", `${links.length} links: at most ${CHAIN_LINKS}`);
  let scopes: readonly Scope[] | undefined;
  let last: GrantClaims | undefined;
  const ids: string[] = [];
  let until = Number.POSITIVE_INFINITY;
  for (const [i, text] of links.entries()) {
    const { jws, claims } = readGrant(text);
    if (last) checkParent(jws, claims, links[i - 1]!, last.cnf.jwk);
    else if (claims.par === undefined) checkIssuer(jws, claims, trust);
    else throw new Denied("broken_chain", "its first link is not its issuer's: the parent is missing");
    const hosts = [claims.aud].flat();
    if (!hosts.includes(trust.host))
      throw new Denied("wrong_audience", `it is for ${hosts.map(quoted).join()}, and this is ${trust.host}`);
    checkTimes(claims, trust, now);
    ids.push(claims.jti);
    until = Math.min(until, claims.exp);
    scopes = both(scopes, claims.authorization_details.map(scopeOf));
    last = claims;
  }
  return {
    id: chainId(links),
    issuer: inspect(links[0]!).claims.iss,
    subject: last!.sub,
    holder: last!.cnf.jwk,
    ids,
    until,
    scopes: scopes!,
  };
}

/** What two links allow. */
function both(before: readonly Scope[] | undefined, more: readonly Scope[]): readonly Scope[] {
  const found = before
    ? before.flatMap((a) => more.map((b) => intersect(a, b)).filter((scope) => scope !== undefined))
    : more;
  if (found.length === 0) throw new Denied("nothing_granted", "its links allow nothing in common");
  if (found.length > SCOPES)
    throw new Denied("limit", `its links have ${found.length} details in common: at most ${SCOPES}`);
  return found;
}

/** What the signer says of a new link; the rest follows from the keys. */
export interface NewGrant {
  readonly sub: string;
  readonly aud: string | string[];
  readonly nbf: number;
  readonly exp: number;
  readonly jti: string;
  readonly holder: PublicKey;
  readonly details: GrantClaims["authorization_details"];
}

/** @param parent of a link that is handed on: the link before it; else `iss` is the issuer's name */
export function issue(
  { holder, details, ...said }: NewGrant,
  key: PrivateKey,
  from: { readonly iss: string } | { readonly parent: string },
  now: number,
): Promise<string> {
  const origin = "parent" in from ? { iss: thumbprint(key), par: sha256(from.parent) } : { iss: from.iss };
  const claims: GrantClaims = {
    ...origin,
    ...said,
    iat: now,
    cnf: { jwk: publicOf(holder) },
    authorization_details: details,
  };
  return signJws("netd-grant+jwt", claims, key);
}
