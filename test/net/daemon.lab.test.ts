// `netd` with no argument, as a newcomer types it: the lab runs, says what it measured, ends well, and leaves nothing.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inventory, leftovers } from "../../src/lab/leftovers.ts";
import { Region } from "../../src/mem/region.ts";
import { Netns } from "../../src/netlink/netns.ts";
import { command, NetdProcess, run, Scratch } from "./child.ts";
import { until } from "./wait.ts";

setDefaultTimeout(60_000);

let scratch: Scratch;
beforeAll(() => {
  scratch = new Scratch();
});
afterAll(() => scratch[Symbol.dispose]());

interface Summary {
  echo: { sent: number; received: number; lost: number; unresolved: number };
  rx: number;
  tx: number;
  drops: Record<string, number>;
  mode: string;
  leftovers: string[];
}

const interfaces = (): string[] => readdirSync("/sys/class/net").sort();

/** Nothing of a run is left: no interface here, no file of the admin socket. Namespaces and processes went with it. */
function nothingLeft(before: string[]): void {
  expect(interfaces()).toEqual(before);
  expect(readdirSync(scratch.path)).toEqual([]);
}

/** Every echo is accounted for. */
function checkSummary(summary: Summary): void {
  const { echo, rx, tx, drops, mode, leftovers } = summary;
  expect(leftovers).toEqual([]);
  expect(mode).toBe("copy");
  expect(echo.lost).toBe(0);
  expect(echo.received).toBeGreaterThan(1000);
  expect(echo.sent).toBe(echo.received + echo.unresolved);
  expect(tx).toBe(echo.received);
  expect(rx).toBe(echo.sent);
  expect(rx).toBe(tx + Object.values(drops).reduce((sum, n) => sum + n, 0));
  // What was lost before a neighbour was resolved, and nothing else.
  expect(drops["no_neighbour"]).toBe(echo.unresolved);
}

test("--duration --json: an object a second, a summary in which everything is accounted for, exit code 0", async () => {
  const before = interfaces();
  const { code, out, err } = await run(scratch.socket, ["--duration", "2.5", "--json"]);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  const lines = out
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  const summary = lines.pop() as Summary;
  checkSummary(summary);
  expect(lines.length).toBeGreaterThan(0);
  for (const line of lines) {
    expect(line).toMatchObject({ mode: "copy", echo: { lost: 0 } });
    expect(Object.keys(line)).toEqual(
      expect.arrayContaining(["t", "rxPps", "rxBps", "txPps", "txBps", "drops"]),
    );
    expect(line.routes).toBeGreaterThan(5);
  }
  nothingLeft(before);
});

test.each(["SIGINT", "SIGTERM"] as const)("%s ends it, with the summary", async (signal) => {
  const before = interfaces();
  const netd = await NetdProcess.running(scratch.socket, ["--json"]);
  const neighbours = await until("three kinds of neighbours to be resolved", async () => {
    const neighs = await netd.ask<{ dst: string; state: string[] }[]>("neighs");
    const resolved = neighs.filter(({ state }) => state[0] !== "FAILED" && state[0] !== "INCOMPLETE");
    return resolved.length >= 2 && resolved;
  });
  expect(neighbours.map(({ dst }) => dst).sort()).toEqual(expect.arrayContaining(["10.77.0.2", "10.77.0.3"]));
  await until("a thousand echoes", async () => {
    const [queue] = await netd.ask<{ txPackets: number }[]>("queues");
    return queue!.txPackets > 1000;
  });
  const { code, out, err } = await netd.stop(signal);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  checkSummary(JSON.parse(out.trimEnd().split("\n").at(-1)!));
  nothingLeft(before);
});

test("signals while it starts: it ends well, with nothing left", async () => {
  const before = interfaces();
  for (const ms of [50, 100, 150, 200, 250, 300, 400]) {
    const netd = new NetdProcess(scratch.socket, ["--json"]);
    await Bun.sleep(ms);
    const { code, err } = await netd.stop(ms % 100 === 0 ? "SIGINT" : "SIGTERM");
    // On a loaded machine a start that is cut short was once seen to end with 1: then it must say why, in one line.
    if (code === 1) expect(err).toMatch(/^netd: .+\n$/);
    else expect([0, 128 + 2, 128 + 15]).toContain(code);
    nothingLeft(before);
  }
});

test("a reader that goes away ends it as a signal does", async () => {
  const before = interfaces();
  const ends = [["--json"], []].map(async (json, i) => {
    const args = [...json, "--admin", join(scratch.path, `${i}.sock`)];
    const child = Bun.spawn(command(args), { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
    const reader = child.stdout.getReader();
    await reader.read();
    await reader.cancel();
    return { code: await child.exited, err: await child.stderr.text() };
  });
  for (const end of await Promise.all(ends)) expect(end).toEqual({ code: 0, err: "" });
  nothingLeft(before);
});

test("stdout that cannot be written to: said, and exit code 1", async () => {
  const before = interfaces();
  const child = Bun.spawn(
    ["sh", "-c", 'exec "$@" >/dev/full', "sh", ...command(["--json", "--admin", scratch.socket])],
    {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
    },
  );
  expect(await child.exited).toBe(1);
  expect(await child.stderr.text()).toMatch(/ENOSPC/);
  nothingLeft(before);
});

test("a directory for the admin socket is made, and taken away again", async () => {
  const directory = join(scratch.path, "run");
  const netd = await NetdProcess.running(join(directory, "admin.sock"), []);
  expect((await netd.stop()).code).toBe(0);
  expect(existsSync(directory)).toBe(false);
});

test("two labs at once do not meet", async () => {
  using other = new Scratch();
  const runs = await Promise.all(
    [scratch, other].map(({ socket }) => run(socket, ["--duration", "1.5", "--json"])),
  );
  for (const { code, out } of runs) {
    expect(code).toBe(0);
    checkSummary(JSON.parse(out.trimEnd().split("\n").at(-1)!));
  }
});

test("what is left behind is found: memory, a namespace, a file", async () => {
  const file = join(scratch.path, "left");
  const before = inventory([file]);
  const region = Region.create("netd-left", 4096);
  const netns = Netns.create();
  writeFileSync(file, "");
  const left = await leftovers(before, [file]);
  expect(left.length).toBe(3);
  expect(left.join()).toMatch(/memfd:netd-left.*net:\[.*file .*left/);
  region.close();
  netns.close();
  rmSync(file);
  expect(await leftovers(before, [file])).toEqual([]);
});
