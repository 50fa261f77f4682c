// Grants and chains: every claim with one that passes and one that is refused; what a forger tries; what a child may do.
import { describe, expect, test } from "bun:test";
import { calculateJwkThumbprint, compactVerify, importJWK } from "jose";
import { admit, CHAIN_LINKS, type GrantClaims, issue } from "../../src/grants/grant.ts";
import { generateKey, publicOf, sha256, thumbprint } from "../../src/grants/keys.ts";
import { detailOf } from "../../src/grants/scope.ts";
import {
  denial,
  detail,
  forged,
  granted,
  handed,
  HOST,
  ISSUER,
  issuerKey,
  NOW,
  payloadOf,
  saying,
  trust,
} from "./make.ts";

const holder = generateKey();
const other = generateKey();
const good = await granted(holder, { jti: "7", details: [detail({ ports: [80] })] });
const scopes = (links: string[]) => admit(links, trust, NOW).scopes.map(detailOf);
const refusal = (links: string[], now = NOW, given = trust) => denial(() => admit(links, given, now));
/** The good one's claims, changed, and signed by its issuer. */
const changed = (claims: object, header: object = {}) =>
  forged({ ...payloadOf(good), ...claims }, header, issuerKey);

test("a grant as it should be says who, what and until when", () => {
  expect(admit([good], trust, NOW)).toEqual({
    id: sha256(good),
    issuer: ISSUER,
    subject: "web",
    holder: publicOf(holder),
    ids: ["7"],
    until: NOW + 3600,
    scopes: [expect.objectContaining({ ports: [[80, 80]], protocols: undefined })],
  });
});

test("jose verifies what is signed here, and names keys as we do", async () => {
  const { protectedHeader } = await compactVerify(good, await importJWK(publicOf(issuerKey), "EdDSA"));
  expect(protectedHeader).toEqual({ alg: "EdDSA", typ: "netd-grant+jwt", kid: thumbprint(issuerKey) });
  expect(thumbprint(holder)).toBe(await calculateJwkThumbprint(publicOf(holder)));
});

describe("each claim: one that passes, one that is refused", () => {
  const cases: [claim: string, passes: Partial<GrantClaims>, refused: Partial<GrantClaims>, code: string][] =
    [
      ["iss", { iss: ISSUER }, { iss: "https://elsewhere.example" }, "unknown_issuer"],
      ["sub", { sub: "somebody else" }, { sub: "" }, "malformed"],
      ["aud, one", { aud: HOST }, { aud: "host-b" }, "wrong_audience"],
      ["aud, several", { aud: ["host-b", HOST] }, { aud: ["host-b", "host-c"] }, "wrong_audience"],
      ["aud, none", { aud: [HOST] }, { aud: [] }, "malformed"],
      ["iat", { iat: NOW + 5 }, { iat: NOW + 6 }, "not_yet_valid"],
      ["nbf", { nbf: NOW + 5 }, { nbf: NOW + 6 }, "not_yet_valid"],
      ["exp", { exp: NOW + 1 }, { exp: NOW }, "expired"],
      ["exp is a number", { exp: NOW + 1 }, { exp: `${NOW + 1}` as unknown as number }, "malformed"],
      ["jti", { jti: "x" }, { jti: undefined as unknown as string }, "malformed"],
      ["cnf", { cnf: { jwk: publicOf(other) } }, { cnf: {} as GrantClaims["cnf"] }, "malformed"],
      [
        "cnf with a private key",
        { cnf: { jwk: publicOf(other) } },
        { cnf: { jwk: other } as GrantClaims["cnf"] },
        "unknown_constraint",
      ],
      [
        "authorization_details",
        { authorization_details: [detail()] },
        { authorization_details: [] },
        "malformed",
      ],
      ["par", {}, { par: sha256("another") }, "broken_chain"],
    ];
  test.each(cases)("%s", async (_claim, passes, refused, code) => {
    expect(refusal([await changed(passes)])).toBe("none");
    expect(refusal([await changed(refused)])).toBe(code);
  });

  test("clocks: what begins later is refused, with both clocks' difference; the allowed skew is taken", async () => {
    const later = await granted(holder, { nbf: NOW + 60 });
    expect(refusal([later])).toBe("not_yet_valid");
    expect(refusal([later], NOW, { ...trust, skew: 60 })).toBe("none");
    expect(() => admit([later], trust, NOW)).toThrow("it begins in 60 s by this host's clock");
  });
});

describe("each constraint of a detail: one that is read, one that is refused", () => {
  const cases: [name: string, fits: unknown, not: unknown][] = [
    ["type", "netd", "other"],
    ["interfaces", ["eth0"], [""]],
    ["protocols", ["tcp", "icmpv6"], ["gre"]],
    ["addresses", ["10.0.0.0/8", "fd00::1"], ["10.0.0.0/33"]],
    ["ports", [80, [8000, 8099]], [[8099, 8000]]],
    ["remotes", ["0.0.0.0/0"], ["anywhere"]],
    ["transmit", [], ["10.0.0.1/-1"]],
    ["macs", ["02:00:00:00:00:05"], ["02:00:00:00:00"]],
    ["filter", "0f".repeat(32), "0F".repeat(32)],
    ["packets_per_second", 1, 0],
    ["matches", 1, 1.5],
  ];
  test.each(cases)("%s", async (name, fits, not) => {
    expect(refusal([await changed({ authorization_details: [detail({ [name]: fits })] })])).toBe("none");
    expect(refusal([await changed({ authorization_details: [detail({ [name]: not })] })])).toBe("malformed");
  });

  test("an unknown constraint is refused by name, and so is an unknown claim", async () => {
    const unknown = await changed({ authorization_details: [detail({ colours: ["blue"] })] });
    expect(refusal([unknown])).toBe("unknown_constraint");
    expect(() => admit([unknown], trust, NOW)).toThrow('"authorization_details.0.colours" is not known here');
    expect(refusal([await changed({ scope: "all" })])).toBe("unknown_constraint");
  });
});

describe("forgeries", () => {
  const [head, payload, signature] = good.split(".") as [string, string, string];
  const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const headed = (header: object) => `${encoded(header)}.${payload}.${signature}`;
  const typ = "netd-grant+jwt";

  test("claims that were changed after signing", () => {
    const wider = encoded({ ...payloadOf(good), authorization_details: [detail()] });
    expect(refusal([`${head}.${wider}.${signature}`])).toBe("forged");
  });

  test("a signature of another key, also under the issuer's name", async () => {
    expect(refusal([await forged(payloadOf(good), {}, other)])).toBe("unknown_issuer");
    expect(refusal([await forged(payloadOf(good), { kid: thumbprint(issuerKey) }, other)])).toBe("forged");
    expect(refusal([await forged(payloadOf(good), { kid: undefined }, other)])).toBe("forged");
  });

  test.each(["none", "HS256", "ES256", "Ed25519", "eddsa", "", null, undefined])("alg %p", (alg) => {
    expect(refusal([headed({ alg, typ })])).toBe("forged");
    expect(refusal([`${encoded({ alg, typ })}.${payload}.`])).toBe("forged");
  });

  test("HS256 with the public key for its secret", () => {
    const text = `${encoded({ alg: "HS256", typ })}.${payload}`;
    const mac = new Bun.CryptoHasher("sha256", publicOf(issuerKey).x).update(text).digest("base64url");
    expect(refusal([`${text}.${mac}`])).toBe("forged");
  });

  test("another typ, and headers that nobody asked for", async () => {
    for (const other of ["JWT", "netd-proof+jwt", "netd-revocations+jwt", "NETD-GRANT+JWT", undefined])
      expect(refusal([headed({ alg: "EdDSA", typ: other })])).toBe("malformed");
    for (const more of [{ crit: ["b64"], b64: false }, { jku: "https://x.example" }, { x5c: [] }])
      expect(refusal([headed({ alg: "EdDSA", typ, ...more })])).toBe("malformed");
  });

  test("a key that the header brings along is not believed", async () => {
    expect(refusal([await forged(payloadOf(good), { kid: undefined, jwk: publicOf(other) }, other)])).toBe(
      "forged",
    );
  });

  test("other spellings of the same bytes", () => {
    for (const text of [
      `${good}=`,
      `${good} `,
      `${good}\n`,
      good.replace(".", ".."),
      `${head}.${payload}`,
      `${good}.`,
    ])
      expect(refusal([text])).not.toBe("none");
    // Bits of the last character that no byte has.
    const last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const twin = last[last.indexOf(good.at(-1)!) ^ 1]!;
    expect(refusal([good.slice(0, -1) + twin])).toBe("malformed");
  });

  test("not UTF-8, not JSON, not an object", () => {
    for (const bytes of [Buffer.from([0xff, 0xfe]), Buffer.from("{"), Buffer.from("null"), Buffer.from("[]")])
      expect(refusal([`${head}.${bytes.toString("base64url")}.${signature}`])).toBe("malformed");
  });
});

describe("chains", () => {
  const narrow = [
    detail({ protocols: ["tcp"], addresses: ["10.0.0.0/24"], ports: [[8000, 8099]], matches: 4 }),
  ];
  test("the conjunction of every link is what holds", async () => {
    const root = await granted(holder, {
      details: [
        detail({
          protocols: ["tcp", "udp"],
          addresses: ["10.0.0.0/16"],
          ports: [[1, 9000]],
          packets_per_second: 50,
        }),
        detail({ protocols: ["icmp"] }),
      ],
      exp: NOW + 100,
    });
    const chain = await handed([root], holder, other, { details: narrow, exp: NOW + 200 });
    expect(scopes(chain)).toEqual([
      {
        protocols: ["tcp"],
        addresses: ["10.0.0.0/24"],
        ports: [[8000, 8099]],
        transmit: ["10.0.0.0/24"],
        packets_per_second: 50,
        matches: 4,
      },
    ]);
    const { until, ids, holder: last } = admit(chain, trust, NOW);
    expect({ until, ids, last }).toEqual({ until: NOW + 100, ids: ["1", "child-1"], last: publicOf(other) });
  });

  test("a widened child has no more than its parent", async () => {
    const root = await granted(holder, { details: narrow });
    const wide = [detail({ ports: [[1, 65535]], matches: 1000, packets_per_second: 9 })];
    expect(scopes(await handed([root], holder, other, { details: wide, exp: NOW + 1e6 }))).toEqual([
      { ...scopes([root])[0], packets_per_second: 9 },
    ]);
    const elsewhere = await handed([root], holder, other, {
      details: [detail({ addresses: ["10.9.0.0/16"] })],
    });
    expect(refusal(elsewhere)).toBe("nothing_granted");
  });

  test("filters of all links must be there", async () => {
    const [one, two] = ["1", "2"].map((digit) => digit.repeat(64)) as [string, string];
    const root = await granted(holder, { details: [detail({ filter: one })] });
    const chain = await handed([root], holder, other, { details: [detail({ filter: two })] });
    expect(admit(chain, trust, NOW).scopes[0]!.filters).toEqual([one, two]);
  });

  test("so many links, and not one more", async () => {
    let links = [good];
    let by = holder;
    while (links.length < CHAIN_LINKS) {
      const to = generateKey();
      links = await handed(links, by, to, { details: [detail({ ports: [80] })] });
      by = to;
    }
    expect(refusal(links)).toBe("none");
    expect(refusal(await handed(links, by, other))).toBe("chain_too_long");
    expect(refusal([])).toBe("malformed");
  });

  test("a link that its parent's holder has not signed, or that belongs to another parent", async () => {
    const root = await granted(holder, { jti: "2" });
    expect(refusal([good, await issue(saying(other, { jti: "c" }), other, { parent: good }, NOW)])).toBe(
      "broken_chain",
    );
    const stolen = { ...payloadOf(root), iss: thumbprint(holder), par: sha256(good) };
    expect(refusal([good, await forged(stolen, {}, other)])).toBe("forged");
    const [, child] = await handed([root], holder, other);
    expect(refusal([root, child!])).toBe("none");
    expect(refusal([good, child!])).toBe("broken_chain"); // same holder, another parent
    expect(refusal([child!])).toBe("broken_chain");
    expect(refusal([root, good])).toBe("broken_chain");
  });

  test("a child for another host, one that has ended, one that begins later", async () => {
    expect(refusal(await handed([good], holder, other, { aud: "host-b" }))).toBe("wrong_audience");
    expect(refusal(await handed([good], holder, other, { exp: NOW - 1 }))).toBe("expired");
    expect(refusal(await handed([good], holder, other, { nbf: NOW + 100 }))).toBe("not_yet_valid");
  });

  test("details that multiply are refused before they do harm", async () => {
    const many = Array.from({ length: 16 }, (_, i) => detail({ matches: i + 1 }));
    const root = await granted(holder, { details: many });
    expect(refusal(await handed([root], holder, other, { details: many }))).toBe("limit");
  });
});
