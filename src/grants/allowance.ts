// What a client may have: all that its user's policy and its grants say, one beside the other. A thing is allowed if one
// scope allows the whole of it. Matches are counted, scope by scope, so one of these judges one list of them.
import { outsideFlow, outsideMac, outsideMatch, type Outside, type Scope, type Wanted } from "./scope.ts";

/** Why not, in words; undefined: it is allowed. */
export type Objection = string | undefined;

export class Allowance {
  readonly scopes: readonly Scope[];
  private readonly ifname: string;
  private readonly filters: readonly string[];
  /** Matches that were allowed by each scope. */
  private readonly taken: number[];

  /** @param filters hashes of the receive filters that the client has installed for all that it gets */
  constructor(scopes: readonly Scope[], ifname: string, filters: readonly string[]) {
    this.scopes = scopes.filter(({ interfaces }) => interfaces?.includes(ifname) ?? true);
    this.ifname = ifname;
    this.filters = filters;
    this.taken = this.scopes.map(() => 0);
  }

  /** Frames a second that it may send: as the most generous scope says; Infinity: any number. */
  get packetsPerSecond(): number {
    return Math.max(0, ...this.scopes.map(({ packetsPerSecond }) => packetsPerSecond));
  }

  /** Whether its matches are counted: then those that it has must be told first. */
  get counts(): boolean {
    return this.scopes.some(({ matches }) => Number.isFinite(matches));
  }

  /** One match more. */
  match(wanted: Wanted): Objection {
    return this.first((scope, i) => {
      const outside = outsideMatch(scope, this.ifname, wanted);
      if (outside !== undefined) return outside;
      const missing = this.missing(scope);
      if (missing !== undefined) return missing;
      if (this.taken[i]! >= scope.matches) return `matches, of which it allows ${scope.matches}`;
      this.taken[i]!++;
      return undefined;
    });
  }

  /** A flow that it begins: the match of the answers. */
  flow(wanted: Wanted): Objection {
    return this.first((scope) => outsideFlow(scope, this.ifname, wanted) ?? this.missing(scope));
  }

  /** A link-layer address beside the card's. */
  mac(name: string): Objection {
    return this.first((scope) => outsideMac(scope, name));
  }

  /** A receive filter: any, where none is prescribed; else one of those that are. */
  install(hash: string): Objection {
    return this.first(({ filters }) =>
      filters.length === 0 || filters.includes(hash) ? undefined : "filter, which prescribes another",
    );
  }

  private missing({ filters }: Scope): Objection {
    const hash = filters.find((one) => !this.filters.includes(one));
    return hash === undefined ? undefined : `the filter ${hash}, which must be installed first`;
  }

  private first(judge: (scope: Scope, i: number) => Outside | Objection): Objection {
    const reasons = new Set<string>();
    for (const [i, scope] of this.scopes.entries()) {
      const reason = judge(scope, i);
      if (reason === undefined) return undefined;
      reasons.add(reason);
    }
    return reasons.size === 0 ? "nothing is allowed" : `not allowed by ${[...reasons].join(", nor by ")}`;
  }
}
