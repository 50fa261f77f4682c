// The pages are held to the program: what they say to run is run, what they list is all there is.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { keyRows } from "./keyrows.ts";
import { netd } from "./netd.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const root = join(import.meta.dir, "../..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");
const pages = ["README.md", "docs/operations.md", "docs/grants.md"];
const dir = mkdtempSync(join(tmpdir(), "netd-docs-"));
afterAll(() => rmSync(dir, { recursive: true }));

/** The lines of the fenced blocks whose first line is ```sh or, with `mark`, ```sh test. */
const commands = (page: string, mark: string): string[] =>
  [...read(page).matchAll(/^```sh(.*)\n([\s\S]*?)^```/gm)]
    .filter(([, info]) => info!.trim() === mark)
    .flatMap(([, , text]) => text!.split("\n"))
    .filter((line) => line !== "" && !line.startsWith("#"));

/** What `netd grants` has. */
const GRANTS = ["keygen", "serve", "issue", "renew", "revoke", "list", "inspect", "prove", "attenuate"];

test("the session of docs/grants.md is run as it stands", async () => {
  const script = commands("docs/grants.md", "session").join("\n");
  writeFileSync(
    join(dir, "netd"),
    `#!/bin/sh\nexec ${process.execPath} ${join(root, "src/main.ts")} "$@"\n`,
    {
      mode: 0o755,
    },
  );
  const env = { ...process.env, PATH: `${dir}:${process.env["PATH"]}` };
  const child = Bun.spawn(["sh", "-eu", "-c", script], { cwd: dir, env, stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  expect(await child.exited, err).toBe(0);
  for (const name of GRANTS) expect(script).toContain(`netd grants ${name} `);
  expect(out.match(/"good": true/g)).toHaveLength(2);
  expect(out).toContain('{"Present":{"grant":["');
  expect(out.split("\n").at(-2)).toContain('"do":"revoke","decision":"granted"');
});

describe("commands", () => {
  const tested = pages.flatMap((page) => commands(page, "test"));

  test("some are marked to be run", () => expect(tested.length).toBeGreaterThan(2));

  test.each(tested)("%s", async (line) => {
    const env = { ...process.env, NETD_ADMIN_SOCKET: join(dir, "admin.sock") };
    const child = Bun.spawn(["sh", "-c", line], { cwd: root, env, stdout: "pipe", stderr: "pipe" });
    const said = await Promise.all([child.stdout.text(), child.stderr.text()]);
    expect(await child.exited, said.join("\n")).toBe(0);
  });

  test("those that are only shown name files and scripts that exist", () => {
    const scripts = Object.keys((JSON.parse(read("package.json")) as { scripts: object }).scripts);
    for (const line of pages.flatMap((page) => [...commands(page, ""), ...commands(page, "test")])) {
      const [program, script] = line.split(/\s+/);
      expect(existsSync(join(root, program!)), line).toBe(true);
      if (program === "./run") expect(scripts, line).toContain(script!);
    }
  });
});

test.each(pages)("%s links to what is there", (page) => {
  const links = [...read(page).matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, to]) => to!);
  for (const to of links) expect(existsSync(join(root, dirname(page), to)), to).toBe(true);
});

test("the first screen of README.md has the two commands", () => {
  const screen = read("README.md").split("\n").slice(0, 24).join("\n");
  expect(screen).toContain("./run netd ");
  expect(screen).toContain("./run test ");
});

test("docs/operations.md lists every key as it is", () => {
  const rows = read("docs/operations.md")
    .split("\n")
    .filter((line) => /^\| `[a-z]+(\.\w+)?` \|/.test(line));
  expect(rows).toEqual(keyRows());
});

test("docs/netd.8 has every flag and command, and no other", async () => {
  const text = read("docs/netd.8").replaceAll("\\-", "-");
  const help = await Promise.all(
    [[], ["config"], ["show"], ["lookup"], ...GRANTS.map((name) => ["grants", name])].map((args) =>
      netd([...args, "--help"]),
    ),
  );
  const flags = (source: string) => new Set(source.match(/--[a-z]+(-[a-z]+)*\b/g));
  expect([...flags(text)].toSorted()).toEqual([...flags(help.map(({ out }) => out).join("\n"))].toSorted());
  for (const command of ["config", "show", "lookup", "grants"]) expect(text).toContain(`.B ${command}\n`);
});
