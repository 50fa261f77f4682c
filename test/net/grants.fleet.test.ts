// A fleet: two permission servers on one real etcd, two daemons that watch it, on two cards. A revocation cuts a client on the
// second daemon off in less than a second; without etcd, what is there goes on, and nothing new is believed for longer than
// the list's age.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Daemon } from "../../src/daemon.ts";
import { ask as askServer, issuerOf } from "../../src/grants/client.ts";
import { prove } from "../../src/grants/proof.ts";
import { GrantServer } from "../../src/grants/server.ts";
import { openState, type State } from "../../src/grants/state.ts";
import { admin, deskWith, EtcdProcess, web } from "../grants/fleet.ts";
import { detail, HOST } from "../grants/make.ts";
import { addMatch, Asker } from "../switch/asker.ts";
import { configFor, type Options, Rig } from "./card.ts";
import { Scratch } from "./child.ts";
import { until } from "./wait.ts";

setDefaultTimeout(90_000);

const OWN = "10.77.0.1";
const LIST_SECONDS = 4;
const scratch = new Scratch();
const file = (name: string) => join(scratch.path, name);
const made: Asker[] = [];
const rigs: Rig[] = [];
const servers: GrantServer[] = [];
let etcd: EtcdProcess;
let state: State;
let number = 0;

const control = (daemon: number) => file(join(`daemon-${daemon}`, "control.sock"));
const options = (daemon: number): Options => ({
  switch: { sockets: [control(daemon)] },
  grants: {
    host: ["host-b", HOST][daemon]!,
    interfaces: ["*"],
    issuers: [file("issuer.jwks")],
    revocations: [`etcd://${etcd.hosts}/fleet`],
    directory: file(`lists-${daemon}`),
    listSeconds: LIST_SECONDS,
  },
});

beforeAll(async () => {
  etcd = await EtcdProcess.start(scratch.path);
  state = await openState(`etcd://${etcd.hosts}/fleet`);
  for (const name of ["one", "two"]) {
    const { desk } = deskWith(state, () => Math.floor(Date.now() / 1000));
    servers.push(
      await GrantServer.start({
        desk,
        state,
        listen: `unix:${file(name)}`,
        listSeconds: 2,
        lookMs: 100,
        fault() {},
      }),
    );
  }
  writeFileSync(file("issuer.jwks"), JSON.stringify(await issuerOf({ url: servers[0]!.url })));
  for (const daemon of [0, 1]) rigs.push(await Rig.start(options(daemon)));
});
afterAll(async () => {
  for (const one of made) one.close();
  for (const rig of rigs) await rig[Symbol.asyncDispose]();
  for (const server of servers) await server.stop();
  await etcd[Symbol.asyncDispose]();
  scratch[Symbol.dispose]();
});

const details = [
  detail({ protocols: ["tcp"], addresses: [OWN], ports: [[8000, 8099]], packets_per_second: 10 }),
];
async function issue(): Promise<{ grant: string; id: string }> {
  const what = { do: "issue", hosts: [HOST, "host-b"], seconds: 300, details } as const;
  const { grant } = await askServer<{ grant: string }>(
    { url: servers[0]!.url },
    { ...what, hosts: [...what.hosts] },
    web,
  );
  return { grant, id: JSON.parse(Buffer.from(grant.split(".")[1]!, "base64url").toString()).jti };
}
const said = (one: Asker, daemon: number, request: string) => {
  const { text } = one.ask(control(daemon), request)!;
  return text.startsWith("{") ? JSON.parse(text) : text;
};
function asker(): Asker {
  const one = new Asker(file(`client-${++number}`));
  made.push(one);
  return one;
}
/** Presents; the code of what comes back. */
async function present(one: Asker, daemon: number, grant: string): Promise<string> {
  const { Challenge } = said(one, daemon, '"Challenge"');
  const proof = await prove(Challenge, [grant], web);
  const answer = said(one, daemon, JSON.stringify({ Present: { grant: [grant], proof } }));
  return answer.Error?.code ?? "Granted";
}
async function client(daemon: number, grant: string, port: number): Promise<Asker> {
  const one = asker();
  await until("the list at the daemon", async () => (await present(one, daemon, grant)) === "Granted");
  one.channel(control(daemon), "nd0");
  expect(said(one, daemon, addMatch(OWN, port))).toBe("OK");
  return one;
}

test("a revocation at one server reaches clients on both daemons in less than a second", async () => {
  const { grant, id } = await issue();
  const spared = await issue();
  const clients = [await client(0, grant, 8001), await client(1, grant, 8001)];
  const other = await client(1, spared.grant, 8002);
  await askServer({ url: servers[1]!.url }, { do: "revoke", ids: [id] }, admin);
  const since = performance.now();
  for (const [daemon, one] of clients.entries()) {
    const heard = one.hear(1000);
    expect(heard, `daemon ${daemon}, after ${Math.round(performance.now() - since)} ms`).toBeDefined();
    expect(JSON.parse(heard!.text).GrantEnded).toMatchObject({ code: "revoked" });
    expect(said(one, daemon, addMatch(OWN, 8003)).Error.code).toBe("revoked");
    expect(await present(one, daemon, grant)).toBe("revoked");
  }
  console.log(`both were told ${Math.round(performance.now() - since)} ms after the server had answered`);
  expect(said(other, 1, addMatch(OWN, 8004))).toBe("OK");
});

test("without etcd what is there goes on, new ones come in until the list is too old, and after that nobody", async () => {
  const { grant } = await issue();
  const one = await client(1, grant, 8010);
  await etcd.stop();
  expect(await present(asker(), 1, grant)).toBe("Granted");
  await until(
    "the list to be too old",
    async () => (await present(asker(), 1, grant)) === "stale_list",
    30_000,
  );
  expect(said(one, 1, addMatch(OWN, 8011))).toBe("OK");
  await until("a warning", () =>
    rigs[1]!.daemon.views.summary().warnings.some((text) => text.includes("etcd://")),
  );

  await etcd.run();
  await until("the next list", async () => (await present(asker(), 1, grant)) === "Granted", 30_000);
  expect(said(one, 1, addMatch(OWN, 8012))).toBe("OK");
});

test("a daemon that starts while etcd is away begins with the list that it had", async () => {
  const { grant } = await issue();
  const revoked = await issue();
  await client(1, grant, 8020);
  await askServer({ url: servers[0]!.url }, { do: "revoke", ids: [revoked.id] }, admin);
  await until("the list at the daemon", async () => (await present(asker(), 1, revoked.grant)) === "revoked");
  await etcd.stop();
  await rigs[1]!.daemon.stop();
  const given = options(1);
  const patient = { ...given, grants: { ...given.grants, listSeconds: 300 } };
  const again = await Daemon.start(configFor(rigs[1]!.lab, rigs[1]!.scratch.socket, patient));
  try {
    expect(await present(asker(), 1, revoked.grant)).toBe("revoked");
    expect(await present(asker(), 1, grant)).toBe("Granted");
  } finally {
    await again.stop();
    await etcd.run();
  }
});
