// docs/netlink.md is run: each of its programs, in a namespace of its own, prints what the page says that it prints. And
// the reference is what the sources say.
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { reference } from "../../docs/reference.ts";
import { Host } from "../../src/lab/host.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const root = join(import.meta.dir, "../..");
const page = readFileSync(join(root, "docs/netlink.md"), "utf8");
const programs = [...page.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, text]) => text!);

test("the page has programs", () => expect(programs.length).toBeGreaterThan(7));

test.each(programs.map((text, i) => [i + 1, text] as const))("program %d", async (_i, text) => {
  // In the repository, so that "netd/netlink" is this package.
  mkdirSync(join(root, "build"), { recursive: true });
  const dir = mkdtempSync(join(root, "build/docs-"));
  using host = new Host("docs");
  using far = new Host("docs far");
  try {
    host.veth("eth0", far, "peer0");
    host.addr("eth0", "10.0.0.1/24");
    writeFileSync(join(dir, "program.ts"), text);
    const child = Bun.spawn(host.command(process.execPath, join(dir, "program.ts")), {
      stdout: "pipe",
      stderr: "pipe",
    });
    const [out, err] = await Promise.all([child.stdout.text(), child.stderr.text()]);
    expect(await child.exited, err).toBe(0);
    const wanted = [...text.matchAll(/^\/\/ prints: (.*)$/gm)].map(([, line]) => line!);
    const flat = (line: string) => line.replace(/\s+/g, " ").trim();
    if (wanted.length > 0) expect(flat(out)).toBe(flat(wanted.join("\n")));
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("the reference is generated from these sources: bun docs/reference.ts", () => {
  expect(readFileSync(join(root, "docs/netlink-reference.md"), "utf8")).toBe(reference());
});
