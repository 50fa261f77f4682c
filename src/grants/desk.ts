// The permission server's decisions: a signed request comes in, the policy says whether, and everything that was decided is
// in the audit log. Knows nothing of HTTP.
//
//   issuer = "https://grants.example"
//
//   [[who]]
//   name = "web"
//   keys = ["THUMBPRINT"]          # who asks: netd grants keygen prints it
//   hosts = ["host-a"]             # for which daemons; missing: any
//   seconds = 3600                 # longest life
//   admin = true                   # may revoke and list what others have
//   [[who.allow]]                  # what a grant may say at most, in a grant's own words (scope.ts)
//   protocols = ["tcp"]
//   ports = [[8000, 8099]]
import * as v from "valibot";
import { Denied } from "./denied.ts";
import { admit, type GrantClaims, inspect, issue } from "./grant.ts";
import { type Issuer, type PrivateKey, type PublicKey, publicOf, thumbprint } from "./keys.ts";
import { readToml } from "./policy.ts";
import { REQUEST_SECONDS, type Ask, type Asked, readRequest } from "./request.ts";
import { packIds, readList, signList } from "./revocation.ts";
import { Detail, isWithin, scopeOf } from "./scope.ts";
import type { Issued, State } from "./state.ts";

const { type: _, ...fields } = Detail.entries;
const text = v.pipe(v.string("a text"), v.nonEmpty("a text"));
const DeskPolicy = v.strictObject({
  issuer: text,
  who: v.array(
    v.strictObject({
      name: text,
      keys: v.array(text, "a list of thumbprints"),
      hosts: v.optional(v.array(text, "a list of hosts")),
      seconds: v.optional(v.pipe(v.number("seconds"), v.integer("seconds"), v.minValue(1, "seconds")), 3600),
      admin: v.optional(v.boolean("true or false"), false),
      allow: v.optional(v.array(v.strictObject(fields), "tables [[who.allow]]"), []),
    }),
    "tables [[who]]",
  ),
});
export type DeskPolicy = v.InferOutput<typeof DeskPolicy>;
type Who = DeskPolicy["who"][number];

/** @throws Denied naming the key that is wrong */
export const readDeskPolicy = (toml: string, path: string): DeskPolicy => readToml(DeskPolicy, toml, path);

/** One decision, as the audit log has it. */
export interface Decision {
  readonly at: string;
  readonly asker: string | undefined;
  readonly who: string | undefined;
  readonly do: Ask["do"] | undefined;
  readonly decision: "granted" | "denied";
  /** of a denial */
  readonly code?: string;
  readonly message?: string;
  /** what it was about */
  readonly about?: object;
}

interface Outcome {
  readonly answer: object;
  readonly about?: object;
}

export interface DeskParts {
  readonly policy: DeskPolicy;
  readonly key: PrivateKey;
  /** signed before, and is published still */
  readonly previous?: readonly PublicKey[];
  readonly state: State;
  readonly audit: (decision: Decision) => void;
  /** seconds since 1970 */
  readonly now?: () => number;
}

export class Desk {
  /** What it goes by from now on; its issuer's name stays. */
  policy: DeskPolicy;
  readonly issuer: Issuer;
  private readonly parts: DeskParts;
  private readonly now: () => number;

  constructor(parts: DeskParts) {
    this.parts = parts;
    this.policy = parts.policy;
    this.issuer = { issuer: parts.policy.issuer, keys: [parts.key, ...(parts.previous ?? [])].map(publicOf) };
    this.now = parts.now ?? (() => Math.floor(Date.now() / 1000));
  }

  /** Does what a request asks for. @throws Denied, which is in the log by then */
  async decide(request: string): Promise<object> {
    let asked: Asked | undefined;
    let who: Who | undefined;
    const log = (decision: Decision["decision"], more: object) =>
      this.parts.audit({
        at: new Date(this.now() * 1000).toISOString(),
        asker: asked?.asker,
        who: who?.name,
        do: asked?.ask.do,
        decision,
        ...more,
      });
    try {
      asked = readRequest(request, this.issuer.issuer, this.now());
      who = this.policy.who.find(({ keys }) => keys.includes(asked!.asker));
      if (!who) throw new Denied("not_granted", `the policy has nobody with the key ${asked.asker}`);
      if (!(await this.parts.state.once(asked.jti, 2 * REQUEST_SECONDS)))
        throw new Denied("replay", "the request was answered before");
      const { answer, about } = await this.act(asked, who);
      log("granted", { about });
      return answer;
    } catch (error) {
      if (error instanceof Denied) log("denied", { code: error.code, message: error.message });
      throw error;
    }
  }

  /** Signs the list anew: with what was revoked since, and as of now. Returns it. */
  async publish(): Promise<string> {
    const { state, key } = this.parts;
    for (;;) {
      const before = await state.list();
      const now = this.now();
      const version = before === undefined ? 1 : readList(before, [this.issuer]).version + 1;
      const ids = (await state.revoked()).filter(({ until }) => until >= now).map(({ id }) => id);
      const list = await signList({ iss: this.issuer.issuer, iat: now, version, ...packIds(ids) }, key);
      if (await state.publish(list, before)) return list;
    }
  }

  private act({ ask, key, asker }: Asked, who: Who): Promise<Outcome> {
    switch (ask.do) {
      case "issue": {
        const { subject = who.name, hosts, seconds, details, holder = key } = ask;
        return this.issue({ subject, hosts, seconds, details, holder }, asker, who);
      }
      case "renew":
        return this.renew(ask.grant, asker, who);
      case "revoke":
        return this.revoke(ask, asker, who);
      case "list":
        return this.list(asker, who);
    }
  }

  private async issue(
    { subject, hosts, seconds, details, holder }: Required<Omit<Extract<Ask, { do: "issue" }>, "do">>,
    asker: string,
    who: Who,
  ): Promise<Outcome> {
    const { state, key } = this.parts;
    const elsewhere = who.hosts && hosts.find((host) => !who.hosts!.includes(host));
    if (elsewhere !== undefined)
      throw new Denied("not_granted", `the policy gives ${who.name} no grants for the host ${elsewhere}`);
    if (seconds > who.seconds)
      throw new Denied(
        "not_granted",
        `the policy gives ${who.name} at most ${who.seconds} s, not ${seconds}`,
      );
    const allowed = who.allow.map((detail) => scopeOf({ type: "netd", ...detail }));
    const beyond = details.find((one) => !allowed.some((scope) => isWithin(scopeOf(one), scope)));
    if (beyond)
      throw new Denied(
        "not_granted",
        `the policy does not give ${who.name} all of ${JSON.stringify(beyond)}`,
      );
    const from = this.now();
    const until = from + seconds;
    const serial = await state.serial();
    const record: Issued = {
      serial,
      subject,
      holder: thumbprint(holder),
      asker,
      hosts,
      details,
      from,
      until,
    };
    await state.add(record);
    const said = { sub: subject, aud: hosts, nbf: from, exp: until, jti: `${serial}`, holder, details };
    const grant = await issue(said, key, { iss: this.issuer.issuer }, from);
    return { answer: { grant }, about: record };
  }

  /** The same again, if the policy still gives it: for who asked for it, or has it. */
  private async renew(text: string, asker: string, who: Who): Promise<Outcome> {
    const { claims } = this.own(text);
    const record = await this.find(claims.jti);
    const { jwk: holder } = claims.cnf;
    if (asker !== record.asker && asker !== thumbprint(holder))
      throw new Denied("wrong_holder", "a grant is renewed by who asked for it, or who has it");
    if ((await this.parts.state.revoked()).some(({ id }) => id === claims.jti))
      throw new Denied("revoked", `${claims.jti} was revoked: it is not renewed`);
    const { subject, hosts, details, from, until } = record;
    const again = { subject, hosts: [...hosts], details: [...details], seconds: until - from, holder };
    return this.issue(again, asker, who);
  }

  private async revoke(
    { ids = [], chain, why = "" }: Extract<Ask, { do: "revoke" }>,
    asker: string,
    who: Who,
  ): Promise<Outcome> {
    const { state } = this.parts;
    const revoked = [];
    for (const id of ids) {
      const { asker: first, holder, until } = await this.find(id);
      if (!who.admin && asker !== first && asker !== holder)
        throw new Denied("not_granted", `${id} is somebody else's`);
      revoked.push({ id, until, why });
    }
    if (chain) revoked.push({ ...this.lastLink(chain, asker, who), why });
    if (revoked.length === 0) throw new Denied("malformed", "nothing to revoke: ids, or a chain");
    for (const one of revoked) await state.revoke(one);
    const list = await this.publish();
    return { answer: { list }, about: { revoked } };
  }

  /** What a holder has made may be revoked by every holder before it. */
  private lastLink(chain: readonly string[], asker: string, { admin }: Who): { id: string; until: number } {
    const links = chain.map((link) => inspect(link).claims);
    const hosts = [links[0]?.aud ?? []].flat();
    const trust = { issuers: [this.issuer], host: hosts[0] ?? "", skew: REQUEST_SECONDS };
    const { ids, until } = admit(chain, trust, this.now());
    if (!admin && !links.slice(0, -1).some(({ cnf }) => thumbprint(cnf.jwk) === asker))
      throw new Denied("not_granted", "a link is revoked by who holds one before it");
    return { id: ids.at(-1)!, until };
  }

  private async list(asker: string, { admin }: Who): Promise<Outcome> {
    const revoked = new Set((await this.parts.state.revoked()).map(({ id }) => id));
    const grants = (await this.parts.state.grants())
      .filter((one) => admin || one.asker === asker || one.holder === asker)
      .map((one) => ({ ...one, revoked: revoked.has(`${one.serial}`) }));
    return { answer: { grants } };
  }

  /** A grant that was issued here. */
  private own(text: string): { claims: GrantClaims } {
    const { claims } = inspect(text);
    admit(
      [text],
      { issuers: [this.issuer], host: [claims.aud].flat()[0]!, skew: REQUEST_SECONDS },
      this.now(),
    );
    return { claims };
  }

  private async find(id: string): Promise<Issued> {
    const found = /^[0-9]{1,15}$/.test(id) ? await this.parts.state.grant(Number(id)) : undefined;
    if (!found)
      throw new Denied("not_granted", `no grant ${JSON.stringify(id)} is known here, or it has ended`);
    return found;
  }
}
