// Hostile grants, proofs and lists: bytes that were changed, and signed claims that are nearly right. Whatever comes, it is
// denied with a code or taken as it says; nothing that was changed after signing is ever taken, and nothing else is thrown.
// NETD_FUZZ_SECONDS runs longer, NETD_SEED repeats a run.
import { expect, setDefaultTimeout, test } from "bun:test";
import { Denied } from "../../src/grants/denied.ts";
import { admit } from "../../src/grants/grant.ts";
import { generateKey, publicOf } from "../../src/grants/keys.ts";
import { checkProof, prove, readProof } from "../../src/grants/proof.ts";
import { packIds, readList, signList } from "../../src/grants/revocation.ts";
import { Random } from "../random.ts";
import { detail, forged, granted, handed, HOST, ISSUER, issuerKey, NOW, payloadOf, trust } from "./make.ts";

setDefaultTimeout(120_000);

const SECONDS = Number(process.env["NETD_FUZZ_SECONDS"] ?? 1);
const SEED = Number(process.env["NETD_SEED"] ?? Date.now() & 0x7fffffff);
const random = new Random(SEED);

const holder = generateKey();
const other = generateKey();
const details = [detail({ protocols: ["tcp"], addresses: ["10.0.0.0/8"], ports: [80, [90, 99]] })];
const chain = await handed([await granted(holder, { details })], holder, other, { details });
const challenge = { nonce: "nonce", host: HOST, client: "/run/app.sock" };
const proof = await prove(challenge, chain, other);
const list = await signList({ iss: ISSUER, iat: NOW, version: 1, ...packIds(["1", "x"]) }, issuerKey);
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \0é";

/** Whether it is taken. @throws what is no denial */
function taken(call: () => unknown): boolean {
  try {
    call();
    return true;
  } catch (error) {
    if (error instanceof Denied && error.message !== "") return false;
    throw error;
  }
}

/** The text with something of it replaced, cut out, put in or moved; always another text. */
function changed(text: string): string {
  let now = text;
  for (let n = 1 + random.below(3); n > 0; n--) {
    const at = random.below(now.length + 1);
    const letter = alphabet[random.below(alphabet.length)]!;
    const length = random.chance(80) ? random.below(2) : random.below(40);
    const part = random.chance(30) ? now.slice(random.below(now.length + 1)).slice(0, 20) : letter;
    now = now.slice(0, at) + part + now.slice(at + length);
  }
  return now === text ? `${text}A` : now;
}

const values = (): unknown =>
  random.pick<unknown>([
    null,
    true,
    -1,
    0,
    1.5,
    1e300,
    "",
    "netd",
    "tcp",
    HOST,
    [],
    {},
    [[]],
    [null],
    NOW,
    NOW - 1,
    `${NOW}`,
    ["10.0.0.0/8"],
    [[9, 1]],
    [[0, 65536]],
    { __proto__: null },
    publicOf(other),
    [detail()],
    "x".repeat(3000),
  ]);

/** A copy in which a value somewhere is another, or is gone, or has a new neighbour. */
function mutated(value: unknown, depth = 0): unknown {
  if (typeof value !== "object" || value === null || (depth > 0 && random.chance(15))) return values();
  const copy: Record<string, unknown> = Array.isArray(value) ? ([...value] as never) : { ...value };
  const key = random.pick([...Object.keys(value), "__proto__", "constructor", "extra"]);
  if (random.chance(15)) delete copy[key];
  else
    Object.defineProperty(copy, key, {
      value: mutated(copy[key], depth + 1),
      enumerable: true,
      writable: true,
      configurable: true,
    });
  return copy;
}

function* rounds(): Generator<number> {
  const end = performance.now() + (SECONDS * 1000) / 3;
  for (let n = 0; performance.now() < end || n < 200; n++) yield n;
}

test(`texts that were changed after signing are never taken, seed ${SEED}`, () => {
  expect(taken(() => admit(chain, trust, NOW))).toBe(true);
  for (const n of rounds()) {
    const links = [...chain];
    const at = random.below(links.length);
    links[at] = changed(links[at]!);
    expect(
      taken(() => admit(links, trust, NOW)),
      `round ${n}: ${JSON.stringify(links)}`,
    ).toBe(false);
    const expected = {
      aud: HOST,
      client: challenge.client,
      nonce: "nonce",
      grant: admit(chain, trust, NOW).id,
    };
    const wrong = changed(proof);
    expect(
      taken(() => checkProof(readProof(wrong), publicOf(other), expected)),
      wrong,
    ).toBe(false);
    const text = changed(list);
    if (text.trim() !== list)
      expect(
        taken(() => readList(text, trust.issuers)),
        text,
      ).toBe(false);
  }
});

test(`chains that are cut, repeated and shuffled are not taken, seed ${SEED}`, () => {
  for (const n of rounds()) {
    const links = Array.from({ length: random.below(7) }, () => random.pick([...chain, proof, list]));
    const right = links.join() === chain.join() || links.join() === chain[0];
    expect(
      taken(() => admit(links, trust, NOW)),
      `round ${n}: ${JSON.stringify(links)}`,
    ).toBe(right);
  }
});

test(`signed claims that are nearly right: denied, or taken with no more than they say, seed ${SEED}`, async () => {
  let some = 0;
  for (const _ of rounds()) {
    const claims = mutated(payloadOf(chain[0]!)) as object;
    const text = await forged(claims, {}, issuerKey);
    if (!taken(() => admit([text], trust, NOW))) continue;
    some++;
    const permit = admit([text], trust, NOW);
    const said = payloadOf(text);
    expect(permit.until).toBe(said.exp);
    expect([said.aud].flat()).toContain(HOST);
    expect(permit.ids).toEqual([said.jti]);
    expect(permit.scopes.length).toBe(said.authorization_details.length);
  }
  expect(some).toBeGreaterThan(0);
});
