// Grants in a running daemon: who needs one and has none is refused, whoever presents one has what it says and no more, and what
// ends is taken back at once and told. The card, the sockets, the frames and the keys are real.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readlinkSync, renameSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { attach } from "../../src/client/client.ts";
import { programHash } from "../../src/filter/program.ts";
import { prove } from "../../src/grants/proof.ts";
import { generateKey, publicOf } from "../../src/grants/keys.ts";
import { packIds, signList } from "../../src/grants/revocation.ts";
import { LAB_LLADDR, LAB_PEER_LLADDR } from "../../src/lab/lab.ts";
import { CLIENT_RATE_PPS } from "../../src/switch/table/layout.ts";
import { parseIPv4, parseLladdr } from "../../src/wire/address.ts";
import { checksum, udpFrame } from "../../src/wire/frame.ts";
import { detail, granted, handed, HOST, ISSUER, issuerKey, type Said } from "../grants/make.ts";
import { addMatch, Asker } from "../switch/asker.ts";
import { Rig } from "./card.ts";
import { command, Scratch } from "./child.ts";
import { until } from "./wait.ts";

setDefaultTimeout(60_000);

const OWN = "10.77.0.1";
const now = () => Math.floor(Date.now() / 1000);

let rig: Rig;
let scratch: Scratch;
let control: string;
let usnetd: string;
let version = 0;
let number = 0;
const made: Asker[] = [];
const holder = generateKey();

const file = (name: string) => join(scratch.path, name);
/** Replaces a file as a whole, as editors and the daemon do. */
function put(name: string, text: string): void {
  writeFileSync(file(`${name}.new`), text);
  renameSync(file(`${name}.new`), file(name));
}
const publish = async (ids: string[] = [], iat = now()) =>
  put("list.jws", await signList({ iss: ISSUER, iat, version: ++version, ...packIds(ids) }, issuerKey));
const policy = (text: string) => put("policy.toml", text);

beforeAll(async () => {
  scratch = new Scratch();
  usnetd = file("usnetd.socket");
  control = file("control.sock");
  put("issuer.jwks", JSON.stringify({ issuer: ISSUER, keys: [publicOf(issuerKey)] }));
  policy("allow = []\n");
  await publish();
  rig = await Rig.start({
    switch: { sockets: [usnetd, control], mode: "0777", static: ["udp:7777"] },
    grants: {
      host: HOST,
      interfaces: ["nd0"],
      policy: file("policy.toml"),
      issuers: [file("issuer.jwks")],
      revocations: [file("list.jws")],
      listSeconds: 60,
    },
  });
});
afterAll(async () => {
  for (const asker of made) asker.close();
  await rig[Symbol.asyncDispose]();
  scratch[Symbol.dispose]();
});

function asker(): Asker {
  const one = new Asker(file(`client-${++number}`));
  made.push(one);
  return one;
}
const ask = (one: Asker, request: unknown) => {
  const text = one.ask(control, typeof request === "string" ? request : JSON.stringify(request))?.text ?? "";
  return text.startsWith("{") ? JSON.parse(text) : text;
};
const pidfds = () =>
  readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes("pidfd");
    } catch {
      return false;
    }
  }).length;
const code = (one: Asker, request: unknown): string => {
  const answer = ask(one, request);
  return typeof answer === "string" ? answer : (answer.Error?.code ?? Object.keys(answer)[0]);
};
const CHANNEL = { RequestUDS: ["nd0", 1] };

/** What the holder of a chain's last key would send. */
async function presenting(one: Asker, links: string[], key = holder, as: object = {}): Promise<object> {
  const { Challenge } = ask(one, '"Challenge"');
  return { Present: { grant: links, proof: await prove({ ...Challenge, ...as }, links, key) } };
}
const present = async (one: Asker, links: string[], key = holder, as: object = {}): Promise<string> =>
  code(one, await presenting(one, links, key, as));
let serial = 100;
const grant = (said: Said = {}) =>
  granted(holder, { nbf: now(), exp: now() + 600, jti: `${++serial}`, ...said });
/** One that has a channel by a grant that says this. */
async function client(said: Said = {}): Promise<Asker> {
  const one = asker();
  expect(await present(one, [await grant(said)])).toBe("Granted");
  one.channel(control, "nd0");
  return one;
}
const ports = (one: Asker): (number | null)[] =>
  ask(one, '"ListMatches"').Matches.map((row: { dst_port: number | null }) => row.dst_port);
/** A datagram of the client's to the far side. */
function send(fd: number, source: string, sport: number, protocol = 17): void {
  const frame = udpFrame({
    srcMac: parseLladdr(LAB_LLADDR)!,
    dstMac: parseLladdr(LAB_PEER_LLADDR)!,
    src: parseIPv4(source)!,
    dst: parseIPv4("10.77.0.2")!,
    sport,
    dport: 9,
    payload: new Uint8Array(8),
  });
  frame[23] = protocol;
  new DataView(frame.buffer).setUint16(24, 0);
  new DataView(frame.buffer).setUint16(24, checksum(frame, 14, 20));
  expect(Number(libc.sendto(fd, ptr(frame), frame.length, 0, null, 0))).toBe(frame.length);
}
const claims = (one: Asker) => ask(one, '"WhoAmI"').Client.claims;
const slotOf = (one: Asker) =>
  rig.daemon.parts.switchboard!.clients().find(({ path }) => path === one.path)?.slot;
const gone = (one: Asker) => until("its client is gone", () => slotOf(one) === undefined);
const ended = (one: Asker) => JSON.parse(one.hear()!.text).GrantEnded;

describe("without a grant", () => {
  test("no channel: the answer says what to do; usnetd's clients hear ER", () => {
    const one = asker();
    expect(ask(one, CHANNEL)).toEqual({
      Error: { code: "not_granted", message: "it needs a grant: ask for a Challenge, and Present one" },
    });
    expect(one.ask(usnetd, JSON.stringify(CHANNEL))!.text).toBe("ER");
    expect(slotOf(one)).toBeUndefined();
  });

  test("the control sockets have the configured mode, the channels' have theirs", () => {
    const mode = (path: string) => statSync(path).mode & 0o7777;
    expect([control, usnetd, file("udp-7777.sock"), file("memif.sock")].map(mode)).toEqual([
      0o777, 0o777, 0o660, 0o660,
    ]);
  });

  test("a static channel is the operator's word", async () => {
    const fd = libc.socket(1, 5 | 0o2004000, 0);
    const path = file("udp-7777.sock");
    const name = new Uint8Array(new ArrayBuffer(3 + path.length));
    name[0] = 1;
    name.set(Buffer.from(path), 2);
    expect(libc.connect(fd, ptr(name), name.length)).toBe(0);
    await until("its matches", () => [...rig.daemon.views.matches()].some(({ dport }) => dport === 7777));
    libc.close(fd);
  });
});

describe("with a grant", () => {
  test("it has a channel, and the matches that the grant says, and no other", async () => {
    const one = await client({
      details: [detail({ protocols: ["udp"], addresses: [OWN], ports: [[9000, 9001]] })],
    });
    expect(ask(one, addMatch(OWN, 9000, { protocol: 17 }))).toBe("OK");
    expect(code(one, addMatch(OWN, 9000, { protocol: 6 }))).toBe("not_granted");
    expect(code(one, addMatch(OWN, 9002, { protocol: 17 }))).toBe("not_granted");
    expect(code(one, addMatch(OWN, null, { protocol: 17 }))).toBe("not_granted");
    expect(code(one, addMatch("10.77.0.9", 9001, { protocol: 17 }))).toBe("not_granted");
    expect(code(one, addMatch("224.0.0.5", 9001, { protocol: 17 }))).toBe("not_granted");
    expect(ports(one)).toEqual([9000]);
    expect(ask(one, addMatch(OWN, 9002, { protocol: 17 })).Error.message).toBe("not allowed by ports");
  });

  test("only on the cards that it says", async () => {
    const one = asker();
    const elsewhere = [detail({ interfaces: ["nd9"] }), detail({ interfaces: ["eth0"], ports: [9050] })];
    expect(await present(one, [await grant({ details: elsewhere })])).toBe("Granted");
    expect(code(one, CHANNEL)).toBe("not_granted");
    const here = detail({ interfaces: ["nd9", "nd0"], addresses: [OWN], ports: [9051] });
    expect(await present(one, [await grant({ details: [here] })])).toBe("Granted");
    one.channel(control, "nd0");
    expect(code(one, addMatch(OWN, 9051))).toBe("OK");
    expect(code(one, addMatch(OWN, 9050))).toBe("not_granted");
  });

  test("groups, remotes, other families, and so many matches as it says", async () => {
    const details = [
      detail({ addresses: ["224.0.0.0/4"], ports: [5353] }),
      detail({ protocols: ["tcp"], addresses: ["fd77::/64"], remotes: ["fd77::/64"], matches: 2 }),
    ];
    const one = await client({ details });
    expect(ask(one, addMatch("224.0.0.251", 5353, { protocol: 17 }))).toBe("OK");
    expect(code(one, addMatch("fd77::1", 80))).toBe("not_granted");
    const from = (port: number) => addMatch("fd77::1", port, { src: "fd77::2" });
    expect([from(80), from(81), from(82)].map((request) => code(one, request))).toEqual([
      "OK",
      "OK",
      "not_granted",
    ]);
    one.send(control, from(80).replace("AddMatch", "RemoveMatch"));
    expect(code(one, from(82))).toBe("OK");
  });

  test("several grants are one beside the other; ListGrants says them", async () => {
    const one = await client({ details: [detail({ ports: [9100], addresses: [OWN] })] });
    expect(code(one, addMatch(OWN, 9101))).toBe("not_granted");
    expect(
      await present(one, [await grant({ details: [detail({ ports: [9101], addresses: [OWN] })] })]),
    ).toBe("Granted");
    expect(code(one, addMatch(OWN, 9101))).toBe("OK");
    const { Grants } = ask(one, '"ListGrants"');
    expect(Grants).toHaveLength(2);
    const row = () => [...rig.daemon.views.grants()].find(({ grant: id }) => id === Grants[1].grant);
    const { path } = one;
    expect(await until("it to be shown", row)).toMatchObject({
      path,
      pid: process.pid,
      uid: 0,
      details: Grants[1].details,
    });
    expect(Grants[0]).toMatchObject({
      issuer: ISSUER,
      subject: "web",
      details: [{ addresses: [OWN], ports: [9100], transmit: [OWN] }],
    });
  });

  test("flows that it begins: from the sources that it says, by the protocols that it says", async () => {
    const one = await client({ details: [detail({ protocols: ["udp"], transmit: [OWN] })] });
    const fd = one.channel(control, "nd0");
    send(fd, OWN, 40000);
    await until("its claim", () => claims(one) === 1);
    send(fd, "10.77.0.77", 40001);
    send(fd, OWN, 40002, 132);
    await until("the drops", () => rig.counts().drops["claim_refused"] === 2);
    expect(claims(one)).toBe(1);
  });

  test("rates: the least of the configuration's and the grant's, of several grants the most", async () => {
    const rate = (one: Asker) => {
      const { table } = rig.daemon.parts.switchboard!;
      return table.words[table.client(slotOf(one)!) + CLIENT_RATE_PPS];
    };
    const one = await client({ details: [detail({ packets_per_second: 10 })] });
    await until("its row", () => slotOf(one) !== undefined);
    expect(rate(one)).toBe(10);
    await present(one, [await grant({ details: [detail({ packets_per_second: 70 })] })]);
    expect(rate(one)).toBe(70);
    await present(one, [await grant()]);
    expect(rate(one)).toBe(0);
  });

  test("a MAC of its own: those that the grant says; it goes with the grant", async () => {
    const mac = "02:00:00:00:00:05";
    const set = (text: string) => ({ SetMac: text });
    const one = await client({ details: [detail({ addresses: [OWN], ports: [9150] })] });
    expect(ask(one, set(mac)).Error).toEqual({ code: "not_granted", message: "not allowed by macs" });
    expect(code(one, set(LAB_LLADDR))).toBe("OK"); // the card's
    const jti = "7010";
    await present(one, [await grant({ jti, details: [detail({ addresses: [OWN], macs: [mac] })] })]);
    expect(code(one, set("02:00:00:00:00:06"))).toBe("not_granted");
    expect(code(one, set(mac))).toBe("OK");
    await publish([jti]);
    expect(ended(one)).toMatchObject({ code: "revoked" });
    expect(ask(one, '"WhoAmI"').Client.mac).toBe(LAB_LLADDR);
  });

  test("a chain that was narrowed and handed on", async () => {
    const child = generateKey();
    const links = await handed(
      [await grant({ details: [detail({ ports: [[9200, 9299]] })] })],
      holder,
      child,
      {
        details: [detail({ ports: [[9250, 9999]], addresses: [OWN] })],
        nbf: now(),
        exp: now() + 9999,
      },
    );
    const one = asker();
    expect(await present(one, links, holder)).toBe("wrong_holder");
    expect(await present(one, links, child)).toBe("Granted");
    one.channel(control, "nd0");
    expect(code(one, addMatch(OWN, 9250))).toBe("OK");
    expect(code(one, addMatch(OWN, 9249))).toBe("not_granted");
    expect(code(one, addMatch(OWN, 9300))).toBe("not_granted");
  });
});

test("netd grants prove: for programs that have no library", async () => {
  const one = asker();
  const [chain, key] = [file("chain"), file("key.jwk")];
  writeFileSync(chain, `${await grant()}\n`);
  writeFileSync(key, JSON.stringify(holder));
  const run = (stdin: string) =>
    Bun.spawnSync(command(["grants", "prove", chain, "--key", key]), { stdin: Buffer.from(stdin) });
  const { stdout } = run(one.ask(control, '"Challenge"')!.text);
  expect(code(one, stdout.toString().trim())).toBe("Granted");
  expect(run('{"Challenge":{"nonce":"x","host":"host-b","client":"/x"}}').stderr.toString()).toStartWith(
    "netd: wrong_audience: host-b asks",
  );
  expect(run("{}").stderr.toString()).toStartWith("netd: malformed: stdin: expected");
});

describe("what is presented and denied", () => {
  test("a proof for another host, another client, another challenge; one that was used", async () => {
    const links = [await grant()];
    const one = asker();
    expect(await present(one, links, holder, { host: "host-b" })).toBe("wrong_holder");
    expect(await present(one, links, holder, { client: "/elsewhere" })).toBe("wrong_holder");
    expect(await present(one, links, holder, { nonce: "guessed" })).toBe("replay");
    const right = await presenting(one, links);
    expect(code(asker(), right)).toBe("replay");
    expect(code(one, right)).toBe("Granted");
    expect(code(one, right)).toBe("replay");
    const stale = await presenting(one, links);
    ask(one, '"Challenge"');
    expect(code(one, stale)).toBe("replay");
  });

  test.each<[string, Said]>([
    ["expired", { exp: now() - 1 }],
    ["not_yet_valid", { nbf: now() + 3000, exp: now() + 4000 }],
    ["wrong_audience", { aud: "host-b" }],
    ["unknown_constraint", { details: [detail({ moon: "full" })] }],
  ])("%s", async (wanted, said) => {
    expect(await present(asker(), [await grant(said)])).toBe(wanted);
  });

  test("what is no grant at all", async () => {
    const one = asker();
    for (const bad of [["x"], ["a.b.c"], ["..", ""]]) expect(await present(one, bad)).toBe("malformed");
    expect(code(one, { Present: { grant: "x", proof: "y" } })).toBe("malformed");
    expect(code(one, { Present: { grant: [] } })).toBe("malformed");
    expect(code(one, CHANNEL)).toBe("not_granted");
  });

  test("another process at the holder's path has nothing of its", async () => {
    const one = await client();
    const { path } = one;
    one.close();
    made.splice(made.indexOf(one), 1);
    unlinkSync(path!);
    const child = Bun.spawnSync(
      [process.execPath, join(import.meta.dir, "../switch/askerchild.ts"), control, path!],
      {
        stdin: Buffer.from(`${JSON.stringify(CHANNEL)}\n`),
      },
    );
    const [heard] = child.stdout.toString().split("\n");
    expect(JSON.parse(JSON.parse(heard!).text).Error.code).toBe("not_granted");
  });
});

describe("ends", () => {
  test("when it expires, its matches and its channel are taken back, and the client is told, and told again", async () => {
    const one = await client({ exp: now() + 2 });
    expect(code(one, addMatch(OWN, 9400))).toBe("OK");
    expect(ended(one)).toMatchObject({ code: "expired", message: "it has ended: present a new one" });
    await gone(one);
    expect([...rig.daemon.views.matches()].filter(({ dport }) => dport === 9400)).toEqual([]);
    expect(code(one, addMatch(OWN, 9401))).toBe("expired");
    expect(code(one, CHANNEL)).toBe("expired");
    expect(await present(one, [await grant()])).toBe("Granted");
    one.channel(control, "nd0");
  });

  test("when it was renewed in time, nothing is taken", async () => {
    const one = await client({ exp: now() + 2 });
    expect(code(one, addMatch(OWN, 9410))).toBe("OK");
    await present(one, [await grant()]);
    expect(ended(one)).toMatchObject({ code: "expired" });
    expect(ports(one)).toHaveLength(1);
  });

  test("when one of several is revoked, what the others do not allow is taken, flows too", async () => {
    const one = await client({ jti: "7001", details: [detail({ ports: [9420], transmit: [OWN] })] });
    await present(one, [
      await grant({ jti: "7002", details: [detail({ ports: [9421], addresses: ["10.77.0.9"] })] }),
    ]);
    const fd = one.channel(control, "nd0");
    expect(code(one, addMatch(OWN, 9420))).toBe("OK");
    expect(code(one, addMatch("10.77.0.9", 9421))).toBe("OK");
    send(fd, OWN, 40100);
    await until("its claim", () => claims(one) === 1);
    await publish(["7001"]);
    expect(ended(one)).toMatchObject({ code: "revoked", message: "it was revoked (7001)" });
    expect(ports(one)).toEqual([9421]);
    expect(claims(one)).toBe(0);
    expect(ask(one, addMatch(OWN, 9420)).Error).toEqual({
      code: "not_granted",
      message: "not allowed by addresses; a grant ended: it was revoked (7001)",
    });
  });

  test("when a parent is revoked; and neither it nor its child can be presented again", async () => {
    const child = generateKey();
    const parent = await grant({ jti: "7100" });
    const links = await handed([parent], holder, child, { nbf: now(), exp: now() + 600 });
    const one = asker();
    expect(await present(one, links, child)).toBe("Granted");
    one.channel(control, "nd0");
    await publish(["7001", "7100"]);
    expect(ended(one)).toMatchObject({
      code: "revoked",
      message: "a grant that it was made of was revoked (7100)",
    });
    await gone(one);
    expect(await present(one, links, child)).toBe("revoked");
    expect(await present(one, [parent])).toBe("revoked");
  });

  test("lists go forward only, and a stale one lets nothing new in, and what is there go on", async () => {
    const one = await client();
    await publish(["7001", "7100"], now() - 61);
    await until("the list", async () => (await present(asker(), [await grant()])) === "stale_list");
    expect(code(one, addMatch(OWN, 9430))).toBe("OK");
    put("list.jws", await signList({ iss: ISSUER, iat: now(), version: 1, ...packIds([]) }, issuerKey));
    await until("a warning", () =>
      rig.daemon.views.summary().warnings.some((text) => text.includes("has version 1, after")),
    );
    expect(await present(asker(), [await grant()])).toBe("stale_list");
    await publish(["7001", "7100"]);
    await until("the new list", async () => (await present(asker(), [await grant()])) === "Granted");
    expect(ports(one)).toHaveLength(1);
  });

  test("when its issuer's keys are no longer believed", async () => {
    const one = await client();
    put("issuer.jwks", JSON.stringify({ issuer: ISSUER, keys: [publicOf(generateKey())] }));
    expect(ended(one)).toMatchObject({ code: "unknown_issuer" });
    await gone(one);
    put("issuer.jwks", JSON.stringify({ issuer: ISSUER, keys: [publicOf(issuerKey)] }));
    await until("the key again", async () => (await present(asker(), [await grant()])) === "Granted");
  });

  test("when its process ends, its holder is forgotten", async () => {
    const links = [await grant()];
    const path = file(`client-${++number}`);
    const child = Bun.spawn(
      [process.execPath, join(import.meta.dir, "../switch/askerchild.ts"), control, path],
      {
        stdin: "pipe",
        stdout: "pipe",
      },
    );
    const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const say = async (request: unknown) => {
      child.stdin.write(`${JSON.stringify(request)}\n`);
      child.stdin.flush();
      return JSON.parse(JSON.parse((await lines.read()).value!).text);
    };
    const { Challenge } = await say("Challenge");
    expect(
      Object.keys(await say({ Present: { grant: links, proof: await prove(Challenge, links, holder) } })),
    ).toEqual(["Granted"]);
    const before = pidfds();
    child.kill("SIGKILL");
    await child.exited;
    await until("its pidfd to be closed", () => pidfds() < before);
  });
});

describe("filters", () => {
  test("matches and flows that need one: only while it is installed for all that the client gets, and no other may be", async () => {
    const install = (accept: number) => ({
      InstallFilter: { direction: "Receive", program: [6, 0, 0, accept] },
    });
    const [whole, half] = [65535, 32767].map((k) => programHash([{ code: 6, jt: 0, jf: 0, k }]));
    const one = asker();
    await present(one, [await grant({ details: [detail({ ports: [[9600, 9609]], filter: whole })] })]);
    const fd = one.channel(control, "nd0");
    const refused = rig.counts().drops["claim_refused"]!;
    send(fd, OWN, 40300);
    await until("the drop", () => rig.counts().drops["claim_refused"] === refused + 1);
    expect(ask(one, addMatch(OWN, 9600)).Error.message).toContain(
      `the filter ${whole}, which must be installed first`,
    );
    expect(code(one, install(32767))).toBe("not_granted");
    expect(code(one, install(65535))).toBe("OK");
    expect(code(one, addMatch(OWN, 9600))).toBe("OK");
    send(fd, OWN, 40301);
    await until("its claim", () => claims(one) === 1);
    one.send(control, JSON.stringify({ RemoveFilter: { direction: "Receive" } }));
    one.hear();
    expect(ports(one)).toEqual([]);
    expect(claims(one)).toBe(0);
    const two = await client({ details: [detail({ filter: half })] });
    expect(code(two, install(65535))).toBe("not_granted");
  });
});

describe("the client library", () => {
  const sockets = () => readdirSync(scratch.path).filter((name) => name.startsWith("netd-client-"));
  const options = (pipe: "unix" | "memif" = "unix") => ({
    interface: "nd0",
    server: control,
    directory: scratch.path,
    pipe,
  });

  test.each(["unix", "memif"] as const)(
    "presents a grant, and says why it has lost its channel: %s",
    async (pipe) => {
      const jti = { unix: "7300", memif: "7301" }[pipe];
      const chain = [await grant({ jti, details: [detail({ protocols: ["udp"], ports: [9700] })] })];
      const channel = await attach({ ...options(pipe), grant: { chain, key: holder } });
      await channel.listen({ proto: "udp", port: 9700 });
      await expect(channel.listen({ proto: "udp", port: 9701 })).rejects.toThrow(
        "not_granted (not allowed by ports)",
      );
      const ready = channel.ready();
      await publish(["7001", "7100", jti]);
      await expect(ready).rejects.toThrow(`grant: revoked (it was revoked (${jti}))`);
      expect(() => channel.alive()).toThrow("revoked");
      channel.close();
      await until("its socket to be gone", () => sockets().length === 0); // a question may be open
    },
  );

  test("a grant that ends beside what goes on ends nothing", async () => {
    policy("[[allow]]\nuids = [0]\n");
    await until("the policy", () => code(asker(), CHANNEL) === "$");
    const chain = [await grant({ exp: now() + 1 })];
    const channel = await attach({ ...options(), grant: { chain, key: holder } });
    const ready = channel.ready();
    await Bun.sleep(1500);
    await channel.listen({ proto: "udp", port: 9710 });
    expect(() => channel.alive()).not.toThrow();
    channel.close();
    expect(await ready).toBe(false);
    policy("allow = []\n");
  });

  test("without one, and with another's, it is refused", async () => {
    await until("no policy", () => code(asker(), CHANNEL) === "not_granted");
    await expect(attach(options())).rejects.toThrow("not_granted");
    const chain = [await grant()];
    await expect(attach({ ...options(), grant: { chain, key: generateKey() } })).rejects.toThrow(
      "wrong_holder",
    );
    expect(sockets()).toEqual([]);
  });
});

describe("the policy file", () => {
  test("gives users what it says without a grant; what it takes back goes at once", async () => {
    policy(
      `[[allow]]\nuids = [0]\nports = [9500, 9501]\naddresses = ["${OWN}"]\n[[allow]]\nuids = [1]\nports = [9502]\n`,
    );
    const one = asker();
    await until("the policy", () => code(one, CHANNEL) === "$");
    expect([9500, 9501, 9502].map((port) => code(one, addMatch(OWN, port)))).toEqual([
      "OK",
      "OK",
      "not_granted",
    ]);
    policy(`[[allow]]\nports = [9501]\n`);
    expect(ended(one)).toEqual({ code: "not_granted", message: "the policy has changed" });
    expect(ports(one)).toEqual([9501]);
    policy("allow = [\n");
    await until("a warning", () =>
      rig.daemon.views.summary().warnings.some((text) => text.includes("policy.toml")),
    );
    expect(ports(one)).toEqual([9501]);
    policy("allow = []\n");
    await gone(one);
  });
});
