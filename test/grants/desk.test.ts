// The permission server's decisions, over SQLite and over a real etcd: who gets what, renews, revokes and sees it, and what
// the log says of each.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { admit } from "../../src/grants/grant.ts";
import { generateKey, publicOf, thumbprint } from "../../src/grants/keys.ts";
import { Desk, readDeskPolicy } from "../../src/grants/desk.ts";
import { type Ask, signRequest } from "../../src/grants/request.ts";
import { readList } from "../../src/grants/revocation.ts";
import { detailOf } from "../../src/grants/scope.ts";
import { openState, type State } from "../../src/grants/state.ts";
import { Scratch } from "../net/child.ts";
import { admin, deskWith, EtcdProcess, stranger, web } from "./fleet.ts";
import { detail, handed, HOST, ISSUER, issuerKey, NOW, payloadOf, trust } from "./make.ts";

setDefaultTimeout(60_000);

const scratch = new Scratch();
let etcd: EtcdProcess;
beforeAll(async () => {
  etcd = await EtcdProcess.start(scratch.path);
});
afterAll(async () => {
  await etcd[Symbol.asyncDispose]();
  scratch[Symbol.dispose]();
});

const fits = detail({ protocols: ["tcp"], addresses: ["10.77.0.1"], ports: [8080], packets_per_second: 10 });
const issueAsk = (more: object = {}): Ask => ({
  do: "issue",
  hosts: [HOST],
  seconds: 60,
  details: [fits],
  ...more,
});
/** The code that it is denied with, or "granted". */
const outcome = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "granted",
    (error) => error.code ?? String(error),
  );

let number = 0;
const kinds: [string, () => Promise<State>][] = [
  ["SQLite", () => openState("sqlite::memory:")],
  ["etcd", () => openState(`etcd://${etcd.hosts}/test-${++number}`)],
];

describe.each(kinds)("%s", (_kind, open) => {
  test("who the policy allows it gets a grant that daemons take, and no more than was asked for", async () => {
    const { ask, log } = deskWith(await open());
    const { grant } = await ask(issueAsk(), web);
    const permit = admit([grant], trust, NOW);
    expect(permit).toMatchObject({ subject: "web", ids: ["1"], until: NOW + 60, holder: publicOf(web) });
    expect(permit.scopes.map(detailOf)).toEqual([
      {
        protocols: ["tcp"],
        addresses: ["10.77.0.1"],
        transmit: ["10.77.0.1"],
        ports: [8080],
        packets_per_second: 10,
      },
    ]);
    expect(payloadOf((await ask(issueAsk({ subject: "shop" }), web)).grant)).toMatchObject({
      jti: "2",
      sub: "shop",
    });
    expect(log[0]).toEqual({
      at: new Date(NOW * 1000).toISOString(),
      asker: thumbprint(web),
      who: "web",
      do: "issue",
      decision: "granted",
      about: expect.objectContaining({ serial: 1, hosts: [HOST], until: NOW + 60 }),
    });
  });

  test("a grant for another's key", async () => {
    const { ask } = deskWith(await open());
    const other = generateKey();
    const { grant } = await ask(issueAsk({ holder: publicOf(other) }), web);
    expect(admit([grant], trust, NOW).holder).toEqual(publicOf(other));
  });

  test.each<[string, object]>([
    ["a host", { hosts: [HOST, "host-c"] }],
    ["a longer life", { seconds: 601 }],
    ["a protocol", { details: [{ ...fits, protocols: ["sctp"] }] }],
    ["any protocol", { details: [{ ...fits, protocols: undefined }] }],
    ["an address", { details: [{ ...fits, addresses: ["10.78.0.1"] }] }],
    ["a port", { details: [{ ...fits, ports: [[8080, 10000]] }] }],
    ["a rate", { details: [{ ...fits, packets_per_second: 1001 }] }],
    ["any rate", { details: [{ ...fits, packets_per_second: undefined }] }],
    ["one detail of two", { details: [fits, { ...fits, ports: [1] }] }],
  ])("beyond the policy: %s", async (_what, more) => {
    const { ask, log } = deskWith(await open());
    expect(await outcome(ask(issueAsk(more), web))).toBe("not_granted");
    expect(log).toHaveLength(1);
    expect(log[0]).toMatchObject({ who: "web", do: "issue", decision: "denied", code: "not_granted" });
  });

  test("strangers, requests of another time or issuer, forged ones, and those that were answered", async () => {
    const { desk, ask, log } = deskWith(await open());
    expect(await outcome(ask(issueAsk(), stranger))).toBe("not_granted");
    expect(await outcome(ask(issueAsk(), web, NOW - 61))).toBe("replay");
    expect(await outcome(ask(issueAsk(), web, NOW + 61))).toBe("replay");
    const elsewhere = await signRequest(issueAsk(), "https://elsewhere.example", web, NOW);
    expect(await outcome(desk.decide(elsewhere))).toBe("wrong_audience");
    const request = await signRequest(issueAsk(), ISSUER, web, NOW);
    expect(await outcome(desk.decide(request.replace(/.{8}$/, "AAAAAAAA")))).toBe("forged");
    expect(await outcome(desk.decide("x"))).toBe("malformed");
    expect(await outcome(desk.decide(request))).toBe("granted");
    expect(await outcome(desk.decide(request))).toBe("replay");
    expect(await outcome(ask({ ...issueAsk(), more: 1 } as unknown as Ask, web))).toBe("unknown_constraint");
    expect(log.map(({ decision }) => decision)).toEqual([
      ...Array(6).fill("denied"),
      "granted",
      "denied",
      "denied",
    ]);
  });

  test("renewal: the same again from now on, by its holder, while it is good", async () => {
    let at = NOW;
    const { ask } = deskWith(await open(), () => at);
    const { grant } = await ask(issueAsk(), web);
    at = NOW + 50;
    const again = payloadOf((await ask({ do: "renew", grant }, web)).grant);
    expect(again).toMatchObject({
      jti: "2",
      nbf: NOW + 50,
      exp: NOW + 110,
      sub: "web",
      authorization_details: [fits],
    });
    expect(await outcome(ask({ do: "renew", grant }, admin))).toBe("wrong_holder");
    at = NOW + 60;
    expect(await outcome(ask({ do: "renew", grant }, web))).toBe("expired");
  });

  test("revocation: by who asked for it, who holds it, or an admin; the list goes forward", async () => {
    const { desk, ask } = deskWith(await open());
    const listed = (list: string) => readList(list, trust.issuers);
    expect(listed(await desk.publish())).toMatchObject({ version: 1, serials: [], ids: [] });
    for (let i = 0; i < 3; i++) await ask(issueAsk(), web);
    expect(await outcome(ask({ do: "revoke", ids: ["1"] }, stranger))).toBe("not_granted");
    expect(await outcome(ask({ do: "revoke", ids: ["9"] }, web))).toBe("not_granted");
    expect(await outcome(ask({ do: "revoke" }, web))).toBe("malformed");
    expect(listed((await ask({ do: "revoke", ids: ["1"], why: "lost" }, web)).list)).toMatchObject({
      version: 2,
      serials: [[1, 1]],
    });
    const { grant } = await ask(issueAsk(), web);
    expect(listed((await ask({ do: "revoke", ids: ["4", "2"] }, admin)).list)).toMatchObject({
      version: 3,
      serials: [
        [1, 2],
        [4, 4],
      ],
    });
    expect(await outcome(ask({ do: "renew", grant }, web))).toBe("revoked");
    const { grants } = await ask({ do: "list" }, admin);
    expect(grants).toMatchObject([
      { serial: 1, revoked: true },
      { serial: 2, revoked: true },
      { serial: 3, revoked: false },
      { serial: 4, revoked: true },
    ]);
  });

  test("a link is revoked by a holder before it, and not by its own", async () => {
    const { ask } = deskWith(await open());
    const { grant } = await ask(issueAsk(), web);
    const chain = await handed([grant], web, stranger, { exp: NOW + 30, details: [fits] });
    const other = await handed(chain, stranger, admin, { exp: NOW + 30, details: [fits] });
    expect(await outcome(ask({ do: "revoke", chain: [grant] }, web))).toBe("not_granted");
    expect(readList((await ask({ do: "revoke", chain }, web)).list, trust.issuers).ids).toEqual(["child-1"]);
    expect(readList((await ask({ do: "revoke", chain: other }, admin)).list, trust.issuers).ids).toEqual([
      "child-1",
      "child-2",
    ]);
  });

  test("each sees its own, an admin everything", async () => {
    const { ask } = deskWith(await open());
    await ask(issueAsk(), web);
    expect((await ask({ do: "list" }, web)).grants).toHaveLength(1);
    expect((await ask({ do: "list" }, admin)).grants).toHaveLength(1);
    expect(await outcome(ask({ do: "list" }, stranger))).toBe("not_granted");
  });

  test("what has ended is forgotten, and leaves the list; numbers are not given again", async () => {
    let at = NOW;
    const state = await open();
    const { desk, ask } = deskWith(state, () => at);
    await ask(issueAsk(), web);
    await ask({ do: "revoke", ids: ["1"] }, web);
    at = NOW + 61;
    await state.prune(at);
    expect(readList(await desk.publish(), trust.issuers)).toMatchObject({ version: 2, serials: [] });
    expect(await state.grants()).toEqual([]);
    expect(payloadOf((await ask(issueAsk(), web)).grant).jti).toBe("2");
  });

  test("two servers on one state: no number twice, no list lost", async () => {
    const state = await open();
    const desks = [deskWith(state), deskWith(state)];
    await desks[0]!.desk.publish();
    const asks = Array.from({ length: 20 }, (_, i) => desks[i % 2]!.ask(issueAsk(), web));
    const ids = (await Promise.all(asks)).map(({ grant }) => payloadOf(grant).jti);
    expect(new Set(ids).size).toBe(20);
    await Promise.all(ids.map((id, i) => desks[i % 2]!.ask({ do: "revoke", ids: [id] }, web)));
    expect(readList((await state.list())!, trust.issuers)).toMatchObject({ serials: [[1, 20]] });
  });
});

test("a policy that is wrong is refused by the key that is", () => {
  const wrong = (text: string) => () => readDeskPolicy(text, "policy.toml");
  expect(wrong("")).toThrow("policy.toml: issuer: expected");
  expect(wrong('issuer = "x"\nwho = []\nadmins = 1')).toThrow("policy.toml: admins: unknown key");
  expect(wrong('issuer = "x"\n[[who]]\nname = "a"\nkeys = []\n[[who.allow]]\nport = [1]')).toThrow(
    "policy.toml: who[0].allow[0].port: unknown key",
  );
});

test("a key that signed before is published still, and its lists are followed", async () => {
  const state = await openState("sqlite::memory:");
  const first = deskWith(state);
  await first.desk.publish();
  const key = generateKey();
  const { policy } = first.desk;
  const second = new Desk({ policy, key, previous: [issuerKey], state, audit() {}, now: () => NOW });
  expect(second.issuer.keys).toEqual([publicOf(key), publicOf(issuerKey)]);
  expect(readList(await second.publish(), [second.issuer]).version).toBe(2);
});
