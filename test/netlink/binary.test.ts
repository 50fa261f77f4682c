// The compiled binary has its own idea of where files are: what of netlink runs on threads of its own must be found there
// too. Long dumps, notifications, and the mirror's second thread.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Host } from "../../src/lab/host.ts";
import * as nl from "../../src/netlink/constants.ts";
import { newRoute } from "../../src/netlink/routeset.ts";
import { swap32 } from "../../src/wire/address.ts";

setDefaultTimeout(120_000); // a loaded machine; nothing here is timed

const ROUTES = 120_000;
const root = join(import.meta.dir, "../..");
const dir = mkdtempSync(join(tmpdir(), "netd-binary-"));
const netd = join(dir, "netd");
let host: Host;
let far: Host;
beforeAll(() => {
  for (const args of [["bpf/build.ts"], ["build.ts", netd]]) {
    const { exitCode, stderr } = Bun.spawnSync([process.execPath, ...args], { cwd: root });
    if (exitCode !== 0) throw new Error(stderr.toString());
  }
  host = new Host("binary");
  far = new Host("binary far");
  host.veth("nd0", far, "peer0");
  host.addr("nd0", "10.0.0.1/24");
  const failures = host.nl.batch((m) => {
    for (let i = 0; i < ROUTES; i++)
      newRoute(m, {
        dst: { family: nl.AF_INET, words: [swap32(0x20000000 + i * 256)], prefixLen: 24 },
        via: "10.0.0.2",
      });
  });
  expect(failures).toEqual([]);
});
afterAll(() => {
  host.close();
  far.close();
  rmSync(dir, { recursive: true });
});

/** How often the process has mapped the memory that long dumps go through: the mirror once, the second thread too. */
const mapped = (pid: number): number =>
  readFileSync(`/proc/${pid}/maps`, "utf8").split("/memfd:netd-dump").length - 1;

test("dump: more routes than one turn takes", async () => {
  const child = Bun.spawn([netd, "dump", "routes", "--json", "--netns", host.netns.path], { stdout: "pipe" });
  const lines = (await child.stdout.text()).trim().split("\n");
  expect(await child.exited).toBe(0);
  const found = new Set(lines.map((line) => JSON.parse(line)).map((o) => o.gateway && o.dst));
  expect(found.size).toBe(ROUTES + 1); // undefined: those without gateway
});

test("monitor: its waiting thread is found", async () => {
  const child = Bun.spawn([netd, "monitor", "routes", "--json", "--netns", host.netns.path], {
    stdout: "pipe",
  });
  const reading = child.stdout.getReader().read();
  // It tells of nothing before it has subscribed: changed until it does.
  let told = "";
  void reading.then(({ value }) => {
    told = new TextDecoder().decode(value);
  });
  const replace = nl.NLM_F_CREATE | nl.NLM_F_REPLACE;
  for (let i = 0; told === "" && child.exitCode === null; i++) {
    host.nl.call((m) => newRoute(m, { dst: "10.9.0.0/16", via: `10.0.0.${3 + (i & 1)}` }, replace));
    await Bun.sleep(20);
  }
  expect(told).toContain('"dst":"10.9.0.0/16"');
  child.kill("SIGTERM");
  expect(await child.exited).toBe(0);
});

test("the daemon's mirror: the second thread of its long dumps comes, and stays", async () => {
  const child = Bun.spawn([netd, "--interface", "nd0", "--netns", host.netns.path, "--json"], {
    stdout: "pipe",
    env: { ...process.env, NETD_ADMIN_SOCKET: join(dir, "admin") },
  });
  let most = 0;
  const until = performance.now() + 60_000;
  while (most < 2 && child.exitCode === null && performance.now() < until) {
    most = Math.max(most, mapped(child.pid));
    Bun.sleepSync(1);
  }
  expect(most).toBe(2);
  const { value } = await child.stdout.getReader().read(); // it runs: the tables are there
  expect(JSON.parse(new TextDecoder().decode(value)).routes).toBeGreaterThan(ROUTES);
  expect(mapped(child.pid)).toBe(2);
  child.kill("SIGTERM");
  expect(await child.exited).toBe(0);
});
