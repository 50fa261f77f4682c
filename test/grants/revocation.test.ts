// The revocation list: what it revokes, whose it is, that it only goes forward, and how old it may be.
import { expect, test } from "bun:test";
import { generateKey } from "../../src/grants/keys.ts";
import { packIds, readList, Revocations, signList } from "../../src/grants/revocation.ts";
import { denial, granted, ISSUER, issuerKey, NOW, trust } from "./make.ts";

const list = (version: number, ids: string[] = [], iat = NOW, iss = ISSUER, key = issuerKey) =>
  signList({ iss, iat, version, ...packIds(ids) }, key);
const held = (): Revocations => new Revocations(() => trust.issuers, 60, 5);

test("serial numbers are ranges, other ids are themselves", () => {
  expect(packIds(["3", "1", "2", "9", "child", "3", "007"])).toEqual({
    serials: [
      [1, 3],
      [9, 9],
    ],
    ids: ["007", "child"],
  });
});

test("any id of a chain that is on the list, and no other", async () => {
  const lists = held();
  expect(lists.revoked(ISSUER, ["1"])).toBeUndefined();
  lists.take(await list(1, ["1", "2", "3", "child"]));
  for (const ids of [["1"], ["2"], ["3"], ["7", "child"], ["child"]])
    expect(lists.revoked(ISSUER, ids)).toBe(ids.at(-1)!);
  for (const ids of [["0"], ["4"], ["03"], ["1e0"], [""], ["children"], ["-1"]])
    expect(lists.revoked(ISSUER, ids)).toBeUndefined();
  expect(lists.revoked("https://elsewhere.example", ["1"])).toBeUndefined();
});

test("ranges as others may write them: out of order, one in another, empty, many", async () => {
  const lists = held();
  const serials: [number, number][] = [
    [50, 60],
    [10, 19],
    [15, 16],
    [20, 20],
    [9, 8],
    [55, 70],
  ];
  for (let i = 0; i < 10_000; i++) serials.push([1000 + 3 * i, 1001 + 3 * i]);
  lists.take(await signList({ iss: ISSUER, iat: NOW, version: 1, serials, ids: [] }, issuerKey));
  const there = (n: number) => lists.revoked(ISSUER, [`${n}`]) !== undefined;
  for (let n = 0; n < 32_000; n++)
    if (there(n) !== serials.some(([from, to]) => from <= n && n <= to))
      throw new Error(`serial number ${n}`);
});

test("the version only goes up", async () => {
  const lists = held();
  expect(lists.take(await list(5, ["1"]))).toBe(true);
  expect(lists.take(await list(5))).toBe(false);
  expect(denial(() => lists.take(""))).toBe("malformed");
  const old = await list(4);
  expect(denial(() => lists.take(old))).toBe("old_list");
  expect(lists.revoked(ISSUER, ["1"])).toBe("1");
  expect(lists.take(await list(6))).toBe(true);
  expect(lists.revoked(ISSUER, ["1"])).toBeUndefined();
});

test("a list of an unknown issuer, one that another has signed, and something else that is signed", async () => {
  const forged = await list(1, [], NOW, ISSUER, generateKey());
  expect(denial(() => readList(forged, trust.issuers))).toBe("forged");
  const foreign = await list(1, [], NOW, "https://elsewhere.example");
  expect(denial(() => readList(foreign, trust.issuers))).toBe("unknown_issuer");
  const grant = await granted(generateKey());
  expect(denial(() => readList(grant, trust.issuers))).toBe("malformed");
});

test("how old it may be, and of which clock", async () => {
  const lists = held();
  expect(denial(() => lists.fresh(ISSUER, NOW))).toBe("stale_list");
  lists.take(await list(1));
  for (const [now, code] of [
    [NOW, "none"],
    [NOW + 60, "none"],
    [NOW + 61, "stale_list"],
    [NOW - 5, "none"],
    [NOW - 6, "stale_list"],
  ] as const)
    expect(denial(() => lists.fresh(ISSUER, now))).toBe(code);
});
