// What this client may have: the one place where the control plane asks. Who needs grants at all the configuration says
// (its section [grants]); what those may have, the local policy file and the grants that they present (src/grants). When a
// grant ends, whatever was had by it is taken back, and then its holder is told.
//
// Files (policy, issuers' keys, revocation lists) are looked at once a second, and at once when the main thread says so, which
// fetches the lists that come from servers. Runs in the control Worker: nothing here waits.
import { libc } from "../../ffi/libc.ts";
import { Allowance, type Objection } from "../grants/allowance.ts";
import { Denied } from "../grants/denied.ts";
import { type End, type Holder, type Holding, Holdings } from "../grants/holdings.ts";
import { type Issuer, parseIssuer } from "../grants/keys.ts";
import type { Permit, Trust } from "../grants/grant.ts";
import { Policy } from "../grants/policy.ts";
import { Revocations } from "../grants/revocation.ts";
import { detailOf, type Wanted } from "../grants/scope.ts";
import { Watched } from "../grants/watched.ts";
import type { PresentedGrant } from "./events.ts";
import type { Peer } from "./peer.ts";
import { Refusal } from "./protocol.ts";
import type { Client } from "./roster.ts";

/** What the configuration says about grants, as the control Worker reads it. */
export interface GrantSettings {
  /** this daemon's name in grants */
  readonly host: string;
  /** cards ("*": all) and uids whose clients need a grant, and uids that never do */
  readonly interfaces: readonly string[];
  readonly users: readonly number[];
  readonly exempt: readonly number[];
  /** files: issuers' keys, the local policy, revocation lists */
  readonly issuers: readonly string[];
  readonly policy: string | undefined;
  readonly lists: readonly string[];
  /** seconds: most age of a list, what another's clock may be ahead */
  readonly listSeconds: number;
  readonly skewSeconds: number;
}

/** Who asks, as far as this is about. */
export interface Applicant {
  readonly path: string;
  readonly peer: Peer;
  /** number of the socket that it asks by; -1: one where nothing is said unasked */
  readonly door: number;
  /** taken over by Present, else the caller's */
  pidfd: number;
}

export interface GrantParts {
  readonly settings: GrantSettings;
  readonly ifname: string;
  /** holders of one uid at a time */
  readonly perUser: number;
  /** begins to tell, by `died`, of a holder's end */
  readonly watch: (pidfd: number, holder: number) => void;
  readonly tell: (door: number, path: string, text: string) => void;
  /** hashes of the filters that judge all that a client gets */
  readonly filters: (client: Client) => readonly string[];
}

/** What is asked of grants, beside what a grant is asked for. */
export type GrantRequest =
  | { readonly kind: "Challenge" }
  | { readonly kind: "ListGrants" }
  | { readonly kind: "Present"; readonly links: readonly string[]; readonly proof: string };

interface Watch {
  readonly holding: Holding;
  readonly pidfd: number;
}

const seconds = (): number => Math.floor(Date.now() / 1000);

export class Grants {
  taken = 0;
  denied = 0;
  ended = 0;
  /** holders whose process has ended */
  forgotten = 0;
  private readonly parts: GrantParts;
  private readonly files: readonly Watched[];
  private readonly revocations: Revocations | undefined;
  private readonly holdings: Holdings;
  private trust: Trust;
  private policy = new Policy("allow = []", "");
  /** Clients that have what they have by policy and grants alone. */
  private readonly governed = new Map<string, { readonly client: Client; readonly door: number }>();
  private readonly watches = new Map<number, Watch>();
  /** by which socket each was heard last: where it is told of ends */
  private readonly doors = new WeakMap<Holding, number>();
  private nextWatch = 0;

  /** @throws Error naming the file of an issuer or of the policy that cannot be taken; lists may come later */
  constructor(parts: GrantParts) {
    const { host, issuers, policy, lists, listSeconds, skewSeconds } = parts.settings;
    this.parts = parts;
    this.trust = { host, skew: skewSeconds, issuers: [] };
    const known = new Map<string, Issuer>();
    const believed = issuers.map(
      (path) =>
        new Watched(path, (text) => {
          known.set(path, parseIssuer(text, "keys"));
          this.trust = { ...this.trust, issuers: [...known.values()] };
        }),
    );
    const rules = (policy === undefined ? [] : [policy]).map(
      (path) =>
        new Watched(path, (text) => {
          this.policy = new Policy(text, "policy");
        }),
    );
    const issued = () => this.trust.issuers;
    this.revocations = lists.length === 0 ? undefined : new Revocations(issued, listSeconds, skewSeconds);
    const revoked = lists.map((path) => new Watched(path, (text) => void this.revocations!.take(text)));
    this.files = [...believed, ...rules, ...revoked];
    for (const file of this.files) file.look();
    for (const { fault } of [...believed, ...rules]) if (fault !== "") throw new Error(`grants: ${fault}`);
    this.holdings = new Holdings(this.trust, this.revocations, parts.perUser);
  }

  /** What an operator should know. */
  get warnings(): string[] {
    return this.files.flatMap(({ fault }) => (fault === "" ? [] : [`grants: ${fault}`]));
  }

  /** Everything that was presented and has not ended. */
  all(): PresentedGrant[] {
    return this.holdings
      .all()
      .flatMap(({ path, pid, uid, held }) =>
        held.map(({ permit }) => ({ ...shown(permit), pid, uid, path })),
      );
  }

  /** Milliseconds until a grant ends by itself. */
  get wait(): number {
    return Math.max(0, this.holdings.next * 1000 - Date.now());
  }

  /** @throws Refusal */
  answer(request: GrantRequest, asker: Applicant): string {
    const holder = holderOf(asker.path, asker.peer);
    if (request.kind === "ListGrants")
      return JSON.stringify({ Grants: this.holdings.permits(holder).map(shown) });
    if (request.kind === "Challenge")
      return JSON.stringify({ Challenge: this.holdings.challenge(holder, seconds()) });
    const permit = this.present(holder, request.links, request.proof);
    this.follow(this.holdings.of(holder)!, asker);
    return JSON.stringify({ Granted: shown(permit) });
  }

  /** Whether this user's clients have only what policy and grants say. */
  needed({ uid }: Peer): boolean {
    const { interfaces, users, exempt } = this.parts.settings;
    if (exempt.includes(uid)) return false;
    return users.includes(uid) || interfaces.includes("*") || interfaces.includes(this.parts.ifname);
  }

  /** Before a channel is made. @throws Refusal if the asker needs a grant for it and has none */
  attach({ path, peer }: Applicant): void {
    if (this.needed(peer) && this.allowed(path, peer, []).scopes.length === 0)
      throw this.refusal(path, peer, "it needs a grant: ask for a Challenge, and Present one");
  }

  /** A channel was made: what its client may have is asked here from now on, if grants are needed. */
  govern(client: Client, { path, peer, door }: Applicant): void {
    if (this.needed(peer)) this.governed.set(path, { client, door });
  }

  /** A client is gone. */
  left({ path }: Client): void {
    this.governed.delete(path);
  }

  /** What a client may have; undefined: whatever is free. */
  of(client: Client): Allowance | undefined {
    const { path, peer } = client;
    if (this.governed.get(path)?.client !== client) return undefined;
    return this.allowed(path, peer, this.parts.filters(client));
  }

  /** One match more. @param had those that it has  @throws Refusal */
  match(client: Client, wanted: Wanted, had: () => Iterable<Wanted>): void {
    const allowance = this.of(client);
    if (allowance?.counts) for (const one of had()) allowance.match(one);
    this.demand(client, allowance?.match(wanted));
  }

  /** Whether it may begin a flow, of which these are the answers. */
  flow(client: Client, wanted: Wanted): boolean {
    return this.of(client)?.flow(wanted) === undefined;
  }

  /** A link-layer address beside the card's. @throws Refusal */
  mac(client: Client, name: string): void {
    this.demand(client, this.of(client)?.mac(name));
  }

  /** A receive filter, by its hash. @throws Refusal */
  install(client: Client, hash: string): void {
    this.demand(client, this.of(client)?.install(hash));
  }

  /** A holder's process has ended. */
  died(which: number): void {
    const watch = this.watches.get(which);
    if (!watch) return;
    this.holdings.forget(watch.holding);
    this.forgotten++;
    this.watches.delete(which);
    libc.close(watch.pidfd);
  }

  /**
   * Takes back what nobody may have any more: `review` is called for each client that may have less, and then its holder is
   * told. @param look whether files may have changed
   */
  turn(look: boolean, review: (client: Client) => boolean): void {
    const { policy, trust } = this;
    const isNew = look && this.files.map((file) => file.look()).includes(true);
    const now = seconds();
    const ends = trust === this.trust ? [] : this.holdings.believe(this.trust, now);
    if (isNew || this.holdings.next <= now) ends.push(...this.holdings.end(now));
    for (const { client, door } of policy === this.policy ? [] : [...this.governed.values()])
      if (review(client)) this.tell(door, client.path, new Denied("not_granted", "the policy has changed"));
    for (const end of ends) this.finish(end, review);
  }

  close(): void {
    for (const { pidfd } of this.watches.values()) libc.close(pidfd);
  }

  private finish({ holding, permit, why }: End, review: (client: Client) => boolean): void {
    this.ended++;
    const governed = this.governed.get(holding.path);
    if (governed && this.holdings.of(holderOf(holding.path, governed.client.peer)) === holding)
      review(governed.client);
    this.tell(this.doors.get(holding)!, holding.path, why, permit.id);
  }

  private tell(door: number, path: string, { code, message }: Denied, grant?: string): void {
    this.parts.tell(door, path, JSON.stringify({ GrantEnded: { code, message, grant } }));
  }

  private present(holder: Holder, links: readonly string[], proof: string): Permit {
    try {
      const permit = this.holdings.present(holder, links, proof, seconds());
      this.taken++;
      return permit;
    } catch (error) {
      if (!(error instanceof Denied)) throw error;
      this.denied++;
      throw new Refusal(error.code, error.message);
    }
  }

  private allowed(path: string, peer: Peer, filters: readonly string[]): Allowance {
    const scopes = [...this.policy.scopes(peer.uid, peer.gid), ...this.holdings.scopes(holderOf(path, peer))];
    return new Allowance(scopes, this.parts.ifname, filters);
  }

  private demand({ path, peer }: Client, objection: Objection): void {
    if (objection !== undefined) throw this.refusal(path, peer, objection);
  }

  /** With what ended, if something did: that may be why. */
  private refusal(path: string, peer: Peer, objection: string): Refusal {
    const holding = this.holdings.of(holderOf(path, peer));
    if (!holding?.ended) return new Refusal("not_granted", objection);
    const { code, message } = holding.ended;
    return new Refusal(
      holding.held.length > 0 ? "not_granted" : code,
      `${objection}; a grant ended: ${message}`,
    );
  }

  /** From the first grant that it presents on, a holder's end is heard of. */
  private follow(holding: Holding, asker: Applicant): void {
    const isNew = !this.doors.has(holding);
    this.doors.set(holding, asker.door);
    if (!isNew) return;
    const { pidfd } = asker;
    asker.pidfd = -1;
    this.watches.set(this.nextWatch, { holding, pidfd });
    this.parts.watch(pidfd, this.nextWatch++);
  }
}

const holderOf = (path: string, { pid, uid }: Peer): Holder => ({ path, pid, uid });

/** A permit as its holder is told of it. */
const shown = ({ id, issuer, subject, until, ids, scopes }: Permit) => ({
  grant: id,
  issuer,
  subject,
  ids,
  until,
  details: scopes.map(detailOf),
});
