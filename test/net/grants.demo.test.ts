// `netd --demo grants` as a user runs it: what it shows is what has happened, it ends well, and nothing of it stays.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { command, NetdProcess, Scratch } from "./child.ts";

setDefaultTimeout(60_000);

interface Line {
  readonly t: number;
  readonly who: string;
  readonly what: string;
  readonly code?: string;
  readonly received?: number;
  readonly left?: string[];
}

const left = () => readdirSync(tmpdir()).filter((name) => name.startsWith("netd-grants-"));

test("one client echoes by its grant, the other is refused, and the grant is revoked while frames flow", async () => {
  using scratch = new Scratch();
  const before = left();
  const args = ["--demo", "grants", "--duration", "4", "--json"];
  const { code, out, err } = await new NetdProcess(scratch.socket, args).ended;
  expect(err).toBe("");
  expect(code).toBe(0);
  const lines = out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
  expect(lines.filter(({ code: word }) => word).map(({ who, code: word }) => [who, word])).toEqual([
    ["client two", "not_granted"],
    ["client one", "revoked"],
    ["client one", "revoked"],
  ]);
  expect(Math.max(...lines.map(({ received = 0 }) => received))).toBeGreaterThan(100);
  const revoked = lines.findIndex(({ who }) => who === "administrator");
  expect(lines[revoked - 1]!.who).toBe("other side");
  expect(lines[revoked]!.t - lines[revoked - 1]!.t).toBeLessThan(0.5);
  expect(lines.at(-1)!.left).toEqual([]);
  expect(left()).toEqual(before);
});

test.each(["permission server", "client two", "administrator"])(
  "SIGINT after `%s` ends it well",
  async (who) => {
    using scratch = new Scratch();
    const before = left();
    const args = ["--demo", "grants", "--duration", "4", "--json", "--admin", scratch.socket];
    const child = Bun.spawn(command(args), { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
    const err = child.stderr.text();
    let out = "";
    for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) {
      if (!out.includes(who) && (out + piece).includes(who)) child.kill("SIGINT");
      out += piece;
    }
    expect(await err).toBe("");
    expect(await child.exited).toBe(0);
    expect(left()).toEqual(before);
  },
);

test("it is about the lab, and knows its parts", async () => {
  using scratch = new Scratch();
  const run = (...args: string[]) => new NetdProcess(scratch.socket, args).ended;
  expect(await run("--demo", "grants", "--interface", "lo")).toMatchObject({ code: 2 });
  expect(await run("--demo", "magic")).toMatchObject({ code: 2 });
});
