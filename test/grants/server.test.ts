// The permission server over HTTP: what it publishes, whom it lets wait for a newer list, and what follows its lists.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from "jose";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { defaultConfig } from "../../src/config.ts";
import { GrantLists, grantSettings } from "../../src/grantlists.ts";
import { ask, issuerOf, page } from "../../src/grants/client.ts";
import { follow } from "../../src/grants/follow.ts";
import { parseIssuer } from "../../src/grants/keys.ts";
import { packIds, readList, signList } from "../../src/grants/revocation.ts";
import { GrantServer } from "../../src/grants/server.ts";
import { openState, type State } from "../../src/grants/state.ts";
import { Scratch } from "../net/child.ts";
import { until } from "../net/wait.ts";
import { admin, deskWith, web } from "./fleet.ts";
import { detail, HOST, ISSUER, issuerKey, trust } from "./make.ts";

setDefaultTimeout(60_000);

const now = () => Math.floor(Date.now() / 1000);
const scratch = new Scratch();
const file = (name: string) => join(scratch.path, name);
let state: State;
let server: GrantServer;
let url: string;

const serve = async (listen: string) =>
  GrantServer.start({
    desk: deskWith(state, now).desk,
    state,
    listen,
    listSeconds: 60,
    lookMs: 20,
    fault() {},
  });
beforeAll(async () => {
  state = await openState("sqlite::memory:");
  server = await serve("http://127.0.0.1:0");
  ({ url } = server);
  writeFileSync(file("issuer.jwks"), JSON.stringify(await issuerOf({ url })));
});
afterAll(async () => {
  await server.stop();
  state.close();
  scratch[Symbol.dispose]();
});

const details = [
  detail({ protocols: ["tcp"], addresses: ["10.77.0.1"], ports: [8080], packets_per_second: 10 }),
];
const issue = () =>
  ask<{ grant: string }>({ url }, { do: "issue", hosts: [HOST], seconds: 60, details }, web);
const version = (list: string) => readList(list, trust.issuers).version;
const list = async (after?: number) =>
  (await page({ url }, `/revocations${after === undefined ? "" : `?after=${after}`}`)).text();

test("its keys are a daemon's file of issuers, and a JWKS", async () => {
  const text = await (await page({ url }, "/jwks")).text();
  expect(parseIssuer(text, "jwks")).toEqual(trust.issuers[0]!);
  expect(JSON.parse(text).keys[0]).toMatchObject({ kty: "OKP", crv: "Ed25519" });
});

test("others verify grants by what it publishes", async () => {
  const keys = createLocalJWKSet((await (await page({ url }, "/jwks")).json()) as JSONWebKeySet);
  const { grant } = await issue();
  const { payload } = await jwtVerify(grant, keys, {
    issuer: ISSUER,
    audience: HOST,
    typ: "netd-grant+jwt",
    algorithms: ["EdDSA"],
  });
  expect(payload.sub).toBe("web");
});

test("who waits for a newer list is told when there is none", async () => {
  const { desk } = deskWith(state, now);
  const brief = await GrantServer.start({
    desk,
    state,
    listen: "http://127.0.0.1:0",
    listSeconds: 60,
    waitMs: 30,
    fault() {},
  });
  const response = await page({ url: brief.url }, "/revocations?after=1000000");
  expect([response.status, await response.text()]).toEqual([204, ""]);
  await brief.stop();
});

test("errors have a code and a status", async () => {
  const post = async (body: string) => {
    const response = await page({ url }, "/ask", { method: "POST", body });
    return [response.status, ((await response.json()) as { error: { code: string } }).error.code];
  };
  expect(await post("x")).toEqual([403, "malformed"]);
  expect((await page({ url }, "/ask", { method: "POST", body: "x".repeat(200_000) })).status).toBe(413);
  expect((await page({ url }, "/elsewhere")).status).toBe(404);
  expect((await page({ url }, "/ask")).status).toBe(404);
});

test("who asks for a newer list than it has waits for it, here and at another server on the same state", async () => {
  const before = version(await list());
  await using other = {
    server: await serve("http://127.0.0.1:0"),
    [Symbol.asyncDispose]: () => other.server.stop(),
  };
  const start = version(await list(before)); // its start published one
  const waiting = [
    list(start),
    page({ url: other.server.url }, `/revocations?after=${start}`).then((r) => r.text()),
  ];
  await issue();
  await ask({ url }, { do: "revoke", ids: ["2"] }, admin);
  for (const text of await Promise.all(waiting))
    expect(readList(text, trust.issuers).serials).toEqual([[2, 2]]);
});

test("lists are followed into a file, and nothing that is forged or older gets there", async () => {
  const directory = file("lists");
  const config = { ...defaultConfig().grants, directory, issuers: [file("issuer.jwks")] };
  const fake = {
    text: await signList({ iss: ISSUER, iat: now(), version: 1000, ...packIds([]) }, issuerKey),
  };
  using liar = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response(fake.text) });
  const from = `http://127.0.0.1:${liar.port}`;
  const lists = new GrantLists({ ...config, revocations: [url, from] });
  const [path, other] = grantSettings({ ...config, revocations: [url, from] }).lists as [string, string];
  await until("both lists", () => existsSync(path) && existsSync(other));
  expect(readFileSync(path, "utf8")).toBe(await list());
  const counter = new BigUint64Array(new ArrayBuffer(8));
  expect(libc.read(lists.heardFd, ptr(counter), 8)).toBe(8);
  await issue();
  await ask({ url }, { do: "revoke", ids: ["3"] }, admin);
  await until("the new list", () => readList(readFileSync(path, "utf8"), trust.issuers).serials[0]![1] === 3);

  fake.text = await signList({ iss: ISSUER, iat: now(), version: 999, ...packIds(["1"]) }, issuerKey);
  await until("a warning", () => lists.warnings.some((text) => text.includes("has version 999, after 1000")));
  fake.text = fake.text.replace(/.{8}$/, "AAAAAAAA");
  await until("another", () => lists.warnings.some((text) => text.includes("has not signed")));
  expect(version(readFileSync(other, "utf8"))).toBe(1000);
  await lists.close();
  expect(readdirSync(directory).toSorted()).toEqual(
    [path, other].map((one) => one.split("/").at(-1)!).toSorted(),
  );
});

test.each(["http", "etcd"])(
  "a connection over %s that is dead without a word is given up",
  async (scheme) => {
    let connections = 0;
    using silent = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: { open: () => void connections++, data() {} },
    });
    const end = new AbortController();
    const follower = { heard: () => true, version: () => 1, fault() {} };
    const following = follow(`${scheme}://127.0.0.1:${silent.port}`, follower, end.signal, 50);
    await until("another connection", () => connections > 2);
    end.abort();
    await following;
  },
);

test("who asks a server that is silent, or none, is told so", async () => {
  using silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const url = `http://127.0.0.1:${silent.port}`;
  await expect(ask({ url, patienceMs: 50 }, { do: "list" }, web)).rejects.toThrow(
    `permission server ${url}: The operation timed out.`,
  );
  for (const none of ["foo:bar", "grants.example", "http://"])
    await expect(ask({ url: none }, { do: "list" }, web)).rejects.toThrow(
      `permission server ${none}: expected https://HOST:PORT`,
    );
});

test("a server that is away is a warning, until it is back", async () => {
  const config = { ...defaultConfig().grants, directory: file("away"), issuers: [file("issuer.jwks")] };
  const socket = `unix:${file("away.sock")}`;
  const lists = new GrantLists({ ...config, revocations: [socket] });
  await until("a warning", () => lists.warnings.length === 1);
  expect(lists.warnings[0]).toStartWith(`grants: ${socket}: permission server ${socket}: `);
  const late = await serve(socket);
  await until("no warning", () => lists.warnings.length === 0);
  await late.stop();
  await lists.close();
});
