// Who has presented what: the permits of each asker, by the path that its socket is bound to, and their ends. Checks a chain
// and its proof; what is asked for beside that (matches, flows) is judged by an Allowance of what it has. Pure: time and
// lists are told.
import { Denied } from "./denied.ts";
import { admit, type Permit, type Trust } from "./grant.ts";
import { Challenges, checkProof, readProof } from "./proof.ts";
import type { Revocations } from "./revocation.ts";
import type { Scope } from "./scope.ts";

const CHALLENGE_SECONDS = 30;
const CHALLENGES_PER_USER = 64;
const PERMITS = 16;

/** Who asks, by the kernel's word, and where. */
export interface Holder {
  readonly path: string;
  readonly pid: number;
  readonly uid: number;
}

interface Held {
  readonly permit: Permit;
  readonly links: readonly string[];
}

/** Everything that one asker has presented. */
export interface Holding extends Holder {
  held: readonly Held[];
  /** why the last of those that ended did */
  ended: Denied | undefined;
}

/** A permit that is no more. */
export interface End {
  readonly holding: Holding;
  readonly permit: Permit;
  readonly why: Denied;
}

export class Holdings {
  private trust: Trust;
  private readonly revocations: Revocations | undefined;
  private readonly perUser: number;
  private readonly challenges = new Challenges(CHALLENGE_SECONDS, CHALLENGES_PER_USER);
  private readonly byPath = new Map<string, Holding>();
  private soonest = Number.POSITIVE_INFINITY;

  /** @param revocations undefined: grants are believed until they end  @param perUser holders of one uid at a time */
  constructor(trust: Trust, revocations: Revocations | undefined, perUser: number) {
    this.trust = trust;
    this.revocations = revocations;
    this.perUser = perUser;
  }

  challenge({ path, uid }: Holder, now: number): object {
    const nonce = this.challenges.open(path, uid, now);
    return { nonce, host: this.trust.host, client: path, seconds: CHALLENGE_SECONDS };
  }

  /**
   * Takes a chain whose last key the asker has proved to have. The proof's nonce is looked at before any signature: nobody
   * has signatures verified who has no open challenge.
   * @throws Denied
   */
  present(holder: Holder, links: readonly string[], proof: string, now: number): Permit {
    const read = readProof(proof);
    this.challenges.answer(holder.path, holder.uid, read.claims.nonce, now);
    const permit = admit(links, this.trust, now);
    this.standing(permit);
    this.revocations?.fresh(permit.issuer, now);
    checkProof(read, permit.holder, {
      aud: this.trust.host,
      client: holder.path,
      nonce: read.claims.nonce,
      grant: permit.id,
    });
    const holding = this.of(holder) ?? this.begin(holder);
    const others = holding.held.filter((one) => one.permit.id !== permit.id);
    if (others.length >= PERMITS) throw new Denied("limit", `this client has ${PERMITS} grants already`);
    holding.held = [...others, { permit, links }];
    this.soonest = Math.min(this.soonest, permit.until);
    return permit;
  }

  /** What this asker holds; nothing of what another process had at the same path. */
  of({ path, pid, uid }: Holder): Holding | undefined {
    const holding = this.byPath.get(path);
    return holding?.pid === pid && holding.uid === uid ? holding : undefined;
  }

  all(): Holding[] {
    return [...this.byPath.values()];
  }

  permits(holder: Holder): Permit[] {
    return this.of(holder)?.held.map(({ permit }) => permit) ?? [];
  }

  scopes(holder: Holder): Scope[] {
    return this.permits(holder).flatMap(({ scopes }) => scopes);
  }

  /** Its process has ended. */
  forget(holding: Holding): void {
    if (this.byPath.get(holding.path) === holding) this.byPath.delete(holding.path);
  }

  /** When the next permit ends by itself, at the earliest; Infinity: none does. */
  get next(): number {
    return this.soonest;
  }

  /** Others are believed from now on. Returns what ends by that, as `end` does. */
  believe(trust: Trust, now: number): End[] {
    this.trust = trust;
    return this.sweep(({ links }) => void admit(links, trust, now));
  }

  /** Takes out what has ended, by time or by revocation. */
  end(now: number): End[] {
    return this.sweep(({ permit }) => {
      if (permit.until <= now) throw new Denied("expired", "it has ended: present a new one");
      this.standing(permit);
    });
  }

  private sweep(check: (held: Held) => void): End[] {
    const ends: End[] = [];
    this.soonest = Number.POSITIVE_INFINITY;
    for (const holding of this.byPath.values())
      holding.held = holding.held.filter((one) => {
        const { permit } = one;
        const why = denied(() => check(one));
        if (why === undefined) this.soonest = Math.min(this.soonest, permit.until);
        if (why === undefined) return true;
        holding.ended = why;
        ends.push({ holding, permit, why });
        return false;
      });
    return ends;
  }

  private begin({ path, pid, uid }: Holder): Holding {
    let own = 0;
    for (const holding of this.byPath.values()) if (holding.uid === uid) own++;
    if (own >= this.perUser) throw new Denied("limit", `uid ${uid} has ${own} holders of grants already`);
    const holding: Holding = { path, pid, uid, held: [], ended: undefined };
    this.byPath.set(path, holding);
    return holding;
  }

  /** @throws Denied if it is revoked */
  private standing({ issuer, ids }: Permit): void {
    const id = this.revocations?.revoked(issuer, ids);
    if (id === undefined) return;
    const what = id === ids.at(-1) ? "it" : "a grant that it was made of";
    throw new Denied("revoked", `${what} was revoked (${id})`);
  }
}

function denied(check: () => void): Denied | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (error instanceof Denied) return error;
    throw error;
  }
}
