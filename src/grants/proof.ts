// Possession: who presents a chain shows that it has the last link's key, by signing the daemon's challenge. The proof says
// for which daemon, which client (the path of its socket), which challenge and which chain it is made, so that it is good
// for nothing else; a challenge is answered once. Pure but for random numbers.
import { randomBytes } from "node:crypto";
import * as v from "valibot";
import { Denied } from "./denied.ts";
import { chainId } from "./grant.ts";
import { claimsOf, isSigned, type Jws, parseJws, signJws } from "./jws.ts";
import type { PrivateKey, PublicKey } from "./keys.ts";

const Claims = v.strictObject({
  aud: v.string(),
  client: v.string(),
  nonce: v.string(),
  grant: v.string(),
});
export type ProofClaims = v.InferOutput<typeof Claims>;

/** A proof as it came: not checked yet. @throws Denied if it is none */
export function readProof(text: string): { readonly jws: Jws; readonly claims: ProofClaims } {
  const jws = parseJws(text, "netd-proof+jwt");
  return { jws, claims: claimsOf(Claims, jws) };
}

/** @throws Denied unless the holder's key has signed exactly `expected` */
export function checkProof(
  { jws, claims }: ReturnType<typeof readProof>,
  holder: PublicKey,
  expected: ProofClaims,
): void {
  for (const name of ["aud", "client", "grant"] as const)
    if (claims[name] !== expected[name])
      throw new Denied("wrong_holder", `the proof's ${name} is another's: it was made for somewhere else`);
  if (!isSigned(jws, holder))
    throw new Denied("wrong_holder", "the proof is not signed with the key that the grant is bound to");
}

/** What the daemon's answer to "Challenge" says. */
export interface Challenge {
  readonly nonce: string;
  readonly host: string;
  /** the asker's path, as the daemon sees it */
  readonly client: string;
}

export const prove = (
  { nonce, host, client }: Challenge,
  links: readonly string[],
  key: PrivateKey,
): Promise<string> =>
  signJws("netd-proof+jwt", { aud: host, client, nonce, grant: chainId(links) } satisfies ProofClaims, key);

interface Open {
  readonly nonce: string;
  readonly uid: number;
  readonly until: number;
}

/** The challenges that are open: one a path, so many a user, each for some seconds. */
export class Challenges {
  private readonly seconds: number;
  private readonly perUser: number;
  private readonly byPath = new Map<string, Open>(); // the oldest first

  constructor(seconds: number, perUser: number) {
    this.seconds = seconds;
    this.perUser = perUser;
  }

  /** A new one, instead of what was open at that path, and of the user's oldest if it has too many. */
  open(path: string, uid: number, now: number): string {
    this.byPath.delete(path);
    const own: string[] = [];
    for (const [at, open] of this.byPath)
      if (open.until <= now) this.byPath.delete(at);
      else if (open.uid === uid) own.push(at);
    if (own.length >= this.perUser) this.byPath.delete(own[0]!);
    const nonce = randomBytes(32).toString("base64url");
    this.byPath.set(path, { nonce, uid, until: now + this.seconds });
    return nonce;
  }

  /** It is answered, and by that closed, whether the answer is right or not. @throws Denied if it was not open */
  answer(path: string, uid: number, nonce: string, now: number): void {
    const open = this.byPath.get(path);
    this.byPath.delete(path);
    if (!open || open.uid !== uid || open.nonce !== nonce || open.until <= now)
      throw new Denied(
        "replay",
        `the proof answers no open challenge: ask for another, and answer within ${this.seconds} s`,
      );
  }
}
