import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { version } from "../../package.json";
import { netd } from "./netd.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const dir = mkdtempSync(join(tmpdir(), "netd-main-"));
const none = join(dir, "none.sock");
const dead = join(dir, "dead.sock");
writeFileSync(dead, "");
afterAll(() => rmSync(dir, { recursive: true }));

const pages =
  "links, addrs, routes, neighs, queues, drops, clients, matches, claims, filters, grants or summary";
const start = "start one with `netd --interface IF`";

/** [arguments, exit code, the whole of stderr] */
const failures: [string[], number, string][] = [
  [["foo"], 2, 'netd: no command "foo"; see netd --help'],
  [["lokup", "10.0.0.1"], 2, 'netd: no command "lokup"; did you mean lookup?'],
  [["--interfac", "eth0"], 2, "netd: unknown option '--interfac'\n(Did you mean --interface?)"],
  [["--poll"], 2, "netd: option '--poll <mode>' argument missing"],
  [["--poll", "bsy"], 2, 'netd: poll.mode is "bsy" (--poll): expected busy, adaptive or interrupt'],
  [["--echo", "0"], 2, "netd: services.0.port is 0 (--echo): expected a whole number from 1 to 65535"],
  [["--set", "poll"], 2, "netd: --set poll: expected KEY=VALUE, such as poll.mode=busy"],
  [["--set", "poll.mod=x"], 2, "netd: unknown key poll.mod (--set); did you mean poll.mode?"],
  [["--duration", "soon"], 2, 'netd: --duration is "soon": expected a number of seconds'],
  [["--netns", "blue"], 2, "netd: --netns needs --interface: the lab makes its own namespaces"],
  [
    ["--config", `${dir}/x.toml`],
    2,
    `netd: config file ${dir}/x.toml: ENOENT (is the path right, and readable?)`,
  ],
  [["show", "everything"], 2, `netd: show everything: expected ${pages}`],
  [
    ["show", "links", "addrs"],
    2,
    "netd: too many arguments for 'show'. Expected 1 argument but got 2: links, addrs.",
  ],
  [["lookup"], 2, "netd: missing required argument 'address'"],
  [["lookup", "10.0.0"], 2, 'netd: address is "10.0.0": expected an IPv4 or IPv6 address'],
  [["lookup", "::1", "--tos", "x"], 2, 'netd: tos is "x": expected a whole number from 0 to 255'],
  [
    ["show", "links", "--admin", none],
    1,
    `netd: ask the daemon at ${none}: ENOENT (no daemon has made this socket; ${start}, or name its socket with --admin)`,
  ],
  [
    ["--admin", dead, "lookup", "10.0.0.1"],
    1,
    `netd: ask the daemon at ${dead}: ECONNREFUSED (its daemon is gone; ${start}, or name another socket with --admin)`,
  ],
];

describe("failures: one clear error, its exit code, nothing on stdout", () => {
  test.each(failures)("netd %p", async (args, code, err) => {
    expect(await netd(args)).toEqual({ code, out: "", err: `${err}\n` });
  });

  test("every fault of the environment and of a file, a line each", async () => {
    const env = { NETD_POLL_MOD: "busy", NETD_RING_RX: "64" };
    expect((await netd(["config"], { env })).err).toBe(
      "netd: unknown variable NETD_POLL_MOD (environment); did you mean NETD_POLL_MODE?\n" +
        "netd: unknown variable NETD_RING_RX (environment); did you mean NETD_RINGS_RX?\n",
    );
    const path = join(dir, "bad.json");
    writeFileSync(path, '{"poll": {"mode": 1}, "rings": {"rx": 1}}');
    const { code, err } = await netd(["config"], { env: { NETD_CONFIG: path } });
    expect(
      err
        .trimEnd()
        .split("\n")
        .map((line) => line.split(" is ")[0]),
    ).toEqual(["netd: poll.mode", "netd: rings.rx"]);
    expect(code).toBe(2);
  });

  test("NETD_DEBUG=1 shows where an error arose", async () => {
    const { code, err } = await netd(["show", "--admin", none], { env: { NETD_DEBUG: "1" } });
    expect(err).toContain("src/ask.ts:");
    expect(code).toBe(1);
  });
});

describe("what needs no daemon", () => {
  test("--version", async () => {
    expect(await netd(["--version"])).toEqual({ code: 0, out: `${version}\n`, err: "" });
  });

  test("--help has every command and examples", async () => {
    const { code, out, err } = await netd(["--help"]);
    for (const text of [
      "config [options]",
      "show [options] [what]",
      "lookup [options] <address>",
      "Examples:",
    ])
      expect(out).toContain(text);
    expect({ code, err }).toEqual({ code: 0, err: "" });
  });

  test("config prints what a run would use, and it can be read back", async () => {
    const env = { NETD_POLL_MODE: "interrupt" };
    const { out } = await netd(["config", "--poll", "busy", "--echo", "10.0.0.1:7", "--echo", "9"], { env });
    expect(out).toContain('mode = "busy"  # --poll\n');
    const path = join(dir, "printed.toml");
    writeFileSync(path, out);
    const again = JSON.parse((await netd(["config", "--config", path, "--json"])).out);
    expect(again.services).toEqual([
      { service: "echo", address: "10.0.0.1", port: 7 },
      { service: "echo", port: 9 },
    ]);
    expect(again.poll.mode).toBe("busy");
  });

  test("config --schema is JSON Schema, whatever the configuration is", async () => {
    const { code, out } = await netd(["config", "--schema"], { env: { NETD_POLL_MODE: "x" } });
    expect(JSON.parse(out).$schema).toBe("https://json-schema.org/draft/2020-12/schema");
    expect(code).toBe(0);
  });

  test("stdout that is full, or closed", async () => {
    const shell = (redirect: string) =>
      Bun.spawn(["sh", "-c", `exec "$0" "$1" config --schema ${redirect}`, process.execPath, "src/main.ts"], {
        cwd: join(import.meta.dir, "../.."),
        stderr: "pipe",
      });
    const full = shell(">/dev/full");
    expect(await full.stderr.text()).toBe("netd: write to stdout: ENOSPC\n");
    expect(await full.exited).toBe(1);
    const closed = shell(">&-");
    expect(await closed.stderr.text()).toBe("");
    expect(await closed.exited).toBe(0);
  });
});
