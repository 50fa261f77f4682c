// Who needs a grant, by the configuration, and what a start makes of files that are wrong. What a running daemon does with
// grants is in test/net/grants.test.ts.
import { afterAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { defaultConfig } from "../../src/config.ts";
import { Grants } from "../../src/control/grants.ts";
import { grantSettings } from "../../src/grantlists.ts";
import { Scratch } from "../net/child.ts";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
const put = (name: string, text: string): string => {
  writeFileSync(join(scratch.path, name), text);
  return join(scratch.path, name);
};

const grants = (config: object, ifname = "eth0"): Grants =>
  new Grants({
    settings: grantSettings({ ...defaultConfig().grants, ...config }),
    ifname,
    perUser: 8,
    watch: () => {},
    tell: () => {},
    filters: () => [],
  });
/** Which of these users need one. */
const needy = (config: object, ifname?: string): number[] =>
  [0, 1000, 1001].filter((uid) => grants(config, ifname).needed({ pid: 1, uid, gid: 100 }));

test("who needs a grant: by card, by user, and who never does", () => {
  expect(needy({})).toEqual([]);
  expect(needy({ users: [1000] })).toEqual([1000]);
  expect(needy({ interfaces: ["*"] })).toEqual([0, 1000, 1001]);
  expect(needy({ interfaces: ["eth0", "eth1"] })).toEqual([0, 1000, 1001]);
  expect(needy({ interfaces: ["eth1"] })).toEqual([]);
  expect(needy({ interfaces: ["eth1"] }, "eth1")).toEqual([0, 1000, 1001]);
  expect(needy({ interfaces: ["eth0"], exempt: [0, 1001] })).toEqual([1000]);
  expect(needy({ users: [0, 1000], exempt: [0] })).toEqual([1000]);
});

test("a policy or an issuer that cannot be read ends the start with its name; a list may come later", () => {
  const missing = join(scratch.path, "missing");
  expect(() => grants({ policy: missing })).toThrow(`grants: ${missing}: ENOENT`);
  expect(() => grants({ issuers: [missing] })).toThrow(`grants: ${missing}: ENOENT`);
  const policy = put("policy.toml", "[[allow]]\nuid = 0\n");
  expect(() => grants({ policy })).toThrow(`grants: ${policy}: policy: allow[0].uid: unknown key`);
  const issuer = put("issuer.jwks", '{"issuer":"x","keys":[{"kty":"RSA"}]}');
  expect(() => grants({ issuers: [issuer] })).toThrow(`grants: ${issuer}: keys.keys.0.kty: expected`);
  expect(grants({ revocations: [missing] }).warnings).toEqual([`grants: ${missing}: ENOENT`]);
  expect(grants({}).warnings).toEqual([]);
});

test("the policy file gives to users and groups, and to everybody who is not named", () => {
  const policy = put(
    "users.toml",
    `[[allow]]
     uids = [1000]
     ports = [1]
     [[allow]]
     gids = [100]
     ports = [2]
     [[allow]]
     protocols = ["icmp"]`,
  );
  const all = grants({ policy, interfaces: ["*"] });
  const attach = (uid: number, gid: number) =>
    all.attach({ path: "/p", peer: { pid: 1, uid, gid }, door: -1, pidfd: -1 });
  expect(() => attach(1000, 1)).not.toThrow();
  expect(() => attach(5, 5)).not.toThrow();
  const narrow = grants({ policy: put("narrow.toml", "[[allow]]\ngids = [100]\n"), interfaces: ["*"] });
  const narrowly = (uid: number, gid: number) => () =>
    narrow.attach({ path: "/p", peer: { pid: 1, uid, gid }, door: -1, pidfd: -1 });
  expect(narrowly(5, 100)).not.toThrow();
  expect(narrowly(5, 101)).toThrow("it needs a grant");
  const elsewhere = grants({
    policy: put("card.toml", '[[allow]]\ninterfaces = ["eth1"]\n'),
    interfaces: ["*"],
  });
  expect(() =>
    elsewhere.attach({ path: "/p", peer: { pid: 1, uid: 0, gid: 0 }, door: -1, pidfd: -1 }),
  ).toThrow("it needs a grant");
});
