// `netd grants` as people use it: keys, a permission server over a Unix socket and over TLS, grants asked for, looked at,
// handed on and revoked.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { page } from "../../src/grants/client.ts";
import { command, Scratch } from "../net/child.ts";
import { until } from "../net/wait.ts";
import { netd, type Run } from "./netd.ts";

setDefaultTimeout(60_000);

const scratch = new Scratch();
const file = (name: string) => join(scratch.path, name);
const grants = (...args: string[]): Promise<Run> => netd(["grants", ...args]);
const put = (name: string, text: string): string => {
  writeFileSync(file(name), text);
  return file(name);
};
const socket = `unix:${file("grants.sock")}`;
const ALLOW = '{"protocols":["tcp"],"ports":[[8000,8099]]}';
const servers: Bun.Subprocess[] = [];

async function serve(...more: string[]): Promise<Bun.Subprocess<"ignore", "ignore", "pipe">> {
  const args = ["grants", "serve", "--policy", file("policy.toml"), "--key", file("issuer.key"), ...more];
  const child = Bun.spawn(command(args), { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  servers.push(child);
  return child;
}
const asking = (key = "web.key", server = socket) => ["--server", server, "--key", file(key)];
const issue = async (...more: string[]): Promise<string> => {
  const { code, out, err } = await grants(
    "issue",
    ...asking(),
    "--host",
    "host-a",
    "--allow",
    ALLOW,
    ...more,
  );
  expect(err).toBe("");
  expect(code).toBe(0);
  return out;
};

beforeAll(async () => {
  const issuer = await grants("keygen", file("issuer.key"), "--issuer", "https://grants.example");
  put("issuer.jwks", issuer.out);
  const keys = await Promise.all(
    ["web", "app", "admin"].map((name) => grants("keygen", file(`${name}.key`))),
  );
  const [web, , admin] = keys.map(({ out }) => out.trim());
  put(
    "policy.toml",
    `issuer = "https://grants.example"
[[who]]
name = "web"
keys = ["${web}"]
[[who.allow]]
protocols = ["tcp", "udp"]
ports = [[8000, 8999]]
[[who]]
name = "admin"
keys = ["${admin}"]
admin = true
`,
  );
  await serve("--listen", socket, "--state", `sqlite:${file("state.db")}`, "--audit", file("audit.log"));
  await until("the server", () => existsSync(file("grants.sock")));
});
afterAll(async () => {
  for (const child of servers) child.kill();
  await Promise.all(servers.map(({ exited }) => exited));
  scratch[Symbol.dispose]();
});

test("a key is for its owner's eyes, and is not overwritten", async () => {
  expect(statSync(file("web.key")).mode & 0o777).toBe(0o600);
  const before = readFileSync(file("web.key"), "utf8");
  expect((await grants("keygen", file("web.key"))).code).toBe(1);
  expect(readFileSync(file("web.key"), "utf8")).toBe(before);
  expect(statSync(file("grants.sock")).mode & 0o777).toBe(0o660);
});

test("issue, inspect, attenuate, renew, list, revoke", async () => {
  const grant = put("grant", await issue());
  const good = ["--issuer", file("issuer.jwks"), "--host", "host-a"];
  const shown = JSON.parse((await grants("inspect", grant, ...good)).out);
  expect(shown).toMatchObject({
    good: true,
    links: [{ iss: "https://grants.example", sub: "web", aud: ["host-a"] }],
  });
  expect(shown.allows).toEqual([{ protocols: ["tcp"], ports: [[8000, 8099]] }]);

  const elsewhere = await grants("inspect", grant, "--issuer", file("issuer.jwks"), "--host", "host-b");
  expect(elsewhere.code).toBe(1);
  expect(JSON.parse(elsewhere.out)).toMatchObject({ good: false, code: "wrong_audience" });

  const narrow = ["--for", file("app.key"), "--allow", '{"ports":[8050]}', "--seconds", "60"];
  const chain = put("chain", (await grants("attenuate", grant, "--key", file("web.key"), ...narrow)).out);
  expect(JSON.parse((await grants("inspect", chain, ...good)).out).allows).toEqual([
    { protocols: ["tcp"], ports: [8050] },
  ]);
  const stolen = await grants("attenuate", grant, "--key", file("app.key"), ...narrow);
  expect(stolen.code).toBe(1);
  expect(stolen.err).toStartWith("netd: wrong_holder:");

  const renewed = put("renewed", (await grants("renew", grant, ...asking())).out);
  const serial = (path: string): string =>
    JSON.parse(Buffer.from(readFileSync(path, "utf8").split(".")[1]!, "base64url").toString()).jti;
  expect(Number(serial(renewed))).toBe(Number(serial(grant)) + 1);

  expect(await grants("revoke", ...asking("admin.key"), serial(grant), "--why", "a test")).toMatchObject({
    code: 0,
    err: "",
  });
  expect(await grants("revoke", ...asking(), "--grant", chain)).toMatchObject({ code: 0, err: "" });
  const listed = JSON.parse((await grants("list", ...asking())).out);
  expect(listed.map(({ revoked }: { revoked: boolean }) => revoked)).toContain(true);
  const list = put("list", await (await page({ url: socket }, "/revocations")).text());
  expect(JSON.parse((await grants("inspect", list, "--issuer", file("issuer.jwks"))).out)).toMatchObject({
    serials: [[Number(serial(grant)), Number(serial(grant))]],
    ids: [expect.any(String)],
    signed: "by its issuer",
  });
});

test("what the policy does not give is refused, and everything is in the log", async () => {
  const refused = await grants("issue", ...asking(), "--host", "host-a", "--allow", '{"ports":[22]}');
  expect(refused).toMatchObject({ code: 1, out: "" });
  expect(refused.err).toStartWith("netd: not_granted: the policy does not give web all of");
  const stranger = await grants("issue", ...asking("app.key"), "--host", "host-a", "--allow", ALLOW);
  expect(stranger.err).toStartWith("netd: not_granted: the policy has nobody with the key");
  const log = readFileSync(file("audit.log"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(log.slice(-2)).toMatchObject([
    { who: "web", do: "issue", decision: "denied", code: "not_granted" },
    { do: "issue", decision: "denied", code: "not_granted" },
  ]);
  expect(statSync(file("audit.log")).mode & 0o777).toBe(0o600);
});

test("a wrong call says what is wrong", async () => {
  const cases: [string[], string][] = [
    [["issue", ...asking(), "--host", "h", "--allow", "x"], "netd: malformed: --allow x: no JSON"],
    [["issue", ...asking(), "--host", "h", "--allow", '{"port":1}'], "netd: malformed: --allow 0.port: "],
    [
      ["issue", ...asking(), "--host", "h", "--allow", ALLOW, "--seconds", "0"],
      'netd: malformed: --seconds is "0"',
    ],
    [["list", ...asking("web.key", "unix:/nowhere")], "netd: permission server unix:/nowhere: "],
    [["inspect", file("nothing")], "netd: ENOENT"],
    [["inspect", file("policy.toml")], "netd: "],
    [
      [
        "serve",
        "--policy",
        file("policy.toml"),
        "--key",
        file("issuer.key"),
        "--listen",
        "http://0.0.0.0:1",
        "--state",
        "sqlite::memory:",
      ],
      "netd: malformed: listen http://0.0.0.0:1: ",
    ],
    [
      [
        "serve",
        "--policy",
        file("policy.toml"),
        "--key",
        file("issuer.key"),
        "--listen",
        socket,
        "--state",
        "mysql:x",
      ],
      "netd: malformed: state mysql:x: ",
    ],
  ];
  for (const [args, message] of cases) {
    const { code, err } = await grants(...args);
    expect(err).toStartWith(message);
    expect(err).not.toContain("NETD_DEBUG");
    expect(code).toBe(1);
  }
  expect((await grants("issue")).code).toBe(2);
});

test("the policy is read again when it changes; a wrong one leaves the old", async () => {
  const policy = readFileSync(file("policy.toml"), "utf8");
  const refused = () =>
    grants("issue", ...asking(), "--host", "host-c", "--allow", ALLOW).then(({ code }) => code === 1);
  put("policy.toml", policy.replace('name = "web"', 'name = "web"\nhosts = ["host-a"]'));
  await until("the new policy", refused);
  put("policy.toml", "issuer =");
  await Bun.sleep(1500);
  expect(await refused()).toBe(true);
  put("policy.toml", policy);
  await until("the old policy", async () => !(await refused()));
});

test("a server that was killed is in nobody's way, one that lives is", async () => {
  const args = ["--listen", `unix:${file("second.sock")}`, "--state", "sqlite::memory:"];
  const first = await serve(...args);
  await until("the first", () => existsSync(file("second.sock")));
  const live = await serve(...args);
  expect(await live.exited).toBe(1);
  expect(await live.stderr.text()).toContain("EADDRINUSE");
  first.kill("SIGKILL");
  await first.exited;
  const next = await serve(...args);
  await until("the next", () =>
    page({ url: `unix:${file("second.sock")}` }, "/jwks").then(
      ({ ok }) => ok,
      () => false,
    ),
  );
  next.kill("SIGTERM");
  expect(await next.exited).toBe(0);
  expect(existsSync(file("second.sock"))).toBe(false);
});

describe("TLS", () => {
  test("its certificate is checked; without one there is no https", async () => {
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    const out = ["-keyout", file("tls.key"), "-out", file("tls.pem")];
    const made = Bun.spawnSync([
      "openssl",
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-days",
      "2",
      ...subject,
      ...out,
    ]);
    expect(made.exitCode, made.stderr.toString()).toBe(0);
    const tls = ["--cert", file("tls.pem"), "--cert-key", file("tls.key")];
    const child = await serve("--listen", "https://localhost:0", "--state", "sqlite::memory:", ...tls);
    const said = await child.stderr.getReader().read();
    const url = /https:\S+\d/.exec(new TextDecoder().decode(said.value))![0];
    const ask = ["issue", ...asking("web.key", url), "--host", "host-a", "--allow", ALLOW];
    expect((await grants(...ask, "--ca", file("tls.pem"))).code).toBe(0);
    const unknown = await grants(...ask);
    expect(unknown.code).toBe(1);
    expect(unknown.err).toMatch(/^netd: permission server .*(SELF_SIGNED|UNABLE|CERT)/);
  });
});
