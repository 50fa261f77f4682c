// Possession of the last key: the right proof, and every other.
import { describe, expect, test } from "bun:test";
import { generateKey, publicOf } from "../../src/grants/keys.ts";
import { Challenges, checkProof, prove, readProof } from "../../src/grants/proof.ts";
import { chainId } from "../../src/grants/grant.ts";
import { denial, granted, HOST, NOW } from "./make.ts";

const holder = generateKey();
const links = [await granted(holder)];
const challenge = { nonce: "n", host: HOST, client: "/run/app.sock" };
const expected = { aud: HOST, client: "/run/app.sock", nonce: "n", grant: chainId(links) };
const refusal = (proof: string) => denial(() => checkProof(readProof(proof), publicOf(holder), expected));

test("the holder's proof passes; another's does not", async () => {
  expect(refusal(await prove(challenge, links, holder))).toBe("none");
  expect(refusal(await prove(challenge, links, generateKey()))).toBe("wrong_holder");
});

test("a proof made for another host, client or chain is refused", async () => {
  for (const elsewhere of [{ host: "host-b" }, { client: "/run/other.sock" }])
    expect(refusal(await prove({ ...challenge, ...elsewhere }, links, holder))).toBe("wrong_holder");
  expect(refusal(await prove(challenge, [await granted(holder, { jti: "2" })], holder))).toBe("wrong_holder");
});

test("a grant is no proof", () => expect(refusal(links[0]!)).toBe("malformed"));

describe("challenges", () => {
  const answered = (all: Challenges, path: string, uid: number, nonce: string, now = NOW) =>
    denial(() => all.answer(path, uid, nonce, now));

  test("are answered once, by who asked, with that nonce, in time", () => {
    const all = new Challenges(30, 8);
    const nonce = all.open("/a", 1, NOW);
    expect(answered(all, "/a", 1, nonce, NOW + 29)).toBe("none");
    expect(answered(all, "/a", 1, nonce, NOW + 29)).toBe("replay");
    expect(answered(all, "/b", 1, all.open("/a", 1, NOW))).toBe("replay");
    expect(answered(all, "/a", 2, all.open("/a", 1, NOW))).toBe("replay");
    expect(answered(all, "/a", 1, all.open("/a", 1, NOW), NOW + 30)).toBe("replay");
    all.open("/a", 1, NOW);
    expect(answered(all, "/a", 1, nonce)).toBe("replay");
  });

  test("a wrong answer closes it", () => {
    const all = new Challenges(30, 8);
    const nonce = all.open("/a", 1, NOW);
    expect(answered(all, "/a", 1, "guess")).toBe("replay");
    expect(answered(all, "/a", 1, nonce)).toBe("replay");
  });

  test("one user's many take nobody else's", () => {
    const all = new Challenges(30, 4);
    const mine = all.open("/mine", 1, NOW);
    const theirs = Array.from({ length: 10 }, (_, i) => all.open(`/theirs-${i}`, 2, NOW));
    expect(theirs.map((nonce, i) => answered(all, `/theirs-${i}`, 2, nonce))).toEqual([
      ...Array(6).fill("replay"),
      ...Array(4).fill("none"),
    ]);
    expect(answered(all, "/mine", 1, mine)).toBe("none");
  });
});
