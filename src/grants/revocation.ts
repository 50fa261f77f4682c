// The revocation list: which grants have ended before their time. Signed by their issuer, with a version that only goes up
// and an age, in the manner of OpenSSH's KRL: ranges of serial numbers (the jti of what the issuer has issued), and single
// ids (the jti of links that holders have made). One list an issuer.
import * as v from "valibot";
import { Denied, quoted } from "./denied.ts";
import { claimsOf, isSigned, parseJws, signJws } from "./jws.ts";
import { type Issuer, type PrivateKey, thumbprint } from "./keys.ts";
import { joined, type Range } from "./scope.ts";

export const LIST_TYPE = "netd-revocations+jwt";
/** Of a list: some hundred thousand ids. */
export const LIST_BYTES = 8 << 20;

const whole = v.pipe(v.number("a whole number"), v.safeInteger("a whole number"), v.minValue(0));
const Claims = v.strictObject({
  iss: v.string("the issuer's name"),
  iat: whole,
  version: whole,
  serials: v.array(v.strictTuple([whole, whole]), "ranges of serial numbers"),
  ids: v.array(v.string("ids"), "ids"),
});
export type ListClaims = v.InferOutput<typeof Claims>;

/** A decimal serial number as the issuer writes it in jti. */
const serialOf = (jti: string): number => (/^(0|[1-9][0-9]{0,14})$/.test(jti) ? Number(jti) : -1);

/** @throws Denied if it is no list that an issuer of these has signed */
export function readList(text: string, issuers: readonly Issuer[]): ListClaims {
  const jws = parseJws(text.trim(), LIST_TYPE, LIST_BYTES);
  const claims = claimsOf(Claims, jws);
  const issuer = issuers.find((one) => one.issuer === claims.iss);
  if (!issuer) throw new Denied("unknown_issuer", `a revocation list of ${quoted(claims.iss)}`);
  const keys = issuer.keys.filter((key) => (jws.header.kid ?? thumbprint(key)) === thumbprint(key));
  if (!keys.some((key) => isSigned(jws, key)))
    throw new Denied("forged", `a revocation list that ${quoted(claims.iss)} has not signed`);
  return claims;
}

/** Serial numbers in as few ranges as there are, and what else was revoked. */
export function packIds(ids: Iterable<string>): Pick<ListClaims, "serials" | "ids"> {
  const all = [...new Set(ids)];
  const serials: [number, number][] = [];
  for (const serial of all
    .map(serialOf)
    .filter((n) => n >= 0)
    .toSorted((a, b) => a - b)) {
    const last = serials.at(-1);
    if (last && serial === last[1] + 1) last[1] = serial;
    else serials.push([serial, serial]);
  }
  return { serials, ids: all.filter((id) => serialOf(id) < 0).toSorted() };
}

export const signList = (claims: ListClaims, key: PrivateKey): Promise<string> =>
  signJws(LIST_TYPE, claims, key);

interface Held {
  readonly iat: number;
  readonly version: number;
  /** in order, and apart */
  readonly serials: readonly Range[];
  readonly ids: ReadonlySet<string>;
}

/** The newest list of each issuer, and what follows from them. */
export class Revocations {
  private readonly issuers: () => readonly Issuer[];
  /** seconds after which a list says nothing any more of grants that come */
  private readonly maxAge: number;
  private readonly skew: number;
  private readonly held = new Map<string, Held>();

  /** @param issuers who is believed now */
  constructor(issuers: () => readonly Issuer[], maxAge: number, skew: number) {
    this.issuers = issuers;
    this.maxAge = maxAge;
    this.skew = skew;
  }

  /** Takes a list, if it is newer. Returns whether it is. @throws Denied: forged, or older than what is here */
  take(text: string): boolean {
    const claims = readList(text, this.issuers());
    const version = this.version(claims.iss) ?? -1;
    if (claims.version < version)
      throw new Denied(
        "old_list",
        `${quoted(claims.iss)}'s revocation list has version ${claims.version}, after ${version}`,
      );
    if (claims.version === version) return false;
    const { iss, iat, serials, ids } = claims;
    this.held.set(iss, { iat, version: claims.version, serials: joined(serials), ids: new Set(ids) });
    return true;
  }

  version(issuer: string): number | undefined {
    return this.held.get(issuer)?.version;
  }

  /** @throws Denied if nothing new may be believed of this issuer: its list is missing, too old, or of the future */
  fresh(issuer: string, now: number): void {
    const iat = this.held.get(issuer)?.iat;
    if (iat === undefined)
      throw new Denied(
        "stale_list",
        `there is no revocation list of ${quoted(issuer)} yet: see grants.revocations`,
      );
    if (now - iat > this.maxAge)
      throw new Denied(
        "stale_list",
        `the revocation list of ${quoted(issuer)} is ${now - iat} s old, and grants.listSeconds allows ${this.maxAge}: is its server reachable?`,
      );
    if (iat > now + this.skew)
      throw new Denied(
        "stale_list",
        `the revocation list of ${quoted(issuer)} is from ${iat - now} s ahead by this host's clock: which clock is wrong?`,
      );
  }

  /** The first of these ids that is revoked. */
  revoked(issuer: string, ids: readonly string[]): string | undefined {
    const held = this.held.get(issuer);
    return held && ids.find((id) => isIn(held, id));
  }
}

function isIn({ serials, ids }: Held, id: string): boolean {
  if (ids.has(id)) return true;
  const serial = serialOf(id);
  // The last range that begins at or before it.
  let [from, to] = [0, serials.length];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (serials[middle]![0] <= serial) from = middle + 1;
    else to = middle;
  }
  return from > 0 && serial <= serials[from - 1]![1];
}
