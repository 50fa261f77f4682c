// docs/client.md is run: each of its programs, beside a netd, prints what the page says, or serves as it says.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { OWN, PEER, SwitchRig } from "../net/switch.ts";

setDefaultTimeout(60_000);

const root = join(import.meta.dir, "../..");
const page = readFileSync(join(root, "docs/client.md"), "utf8");
const programs = [...page.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, text]) => text!);

let rig: SwitchRig;
let dir = "";
const open: { close(): void }[] = [];

beforeAll(async () => {
  rig = await SwitchRig.start();
  const { lab } = rig;
  open.push(await lab.daemon.run(() => Bun.udpSocket({ hostname: OWN, port: 5353 })));
  open.push(
    await lab.peer.run(() =>
      Bun.udpSocket({
        hostname: PEER,
        port: 7,
        socket: { data: (self, data, port, address) => void self.send(data, port, address) },
      }),
    ),
  );
  // In the repository, so that "netd/client" is this package.
  mkdirSync(join(root, "build"), { recursive: true });
  dir = mkdtempSync(join(root, "build/docs-"));
});
afterAll(async () => {
  for (const socket of open) socket.close();
  await rig?.[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true, force: true });
});

test("the page has programs", () => expect(programs.length).toBeGreaterThan(4));

/** Asks `port` until it answers. */
async function ask(port: number): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = await rig.lab.peer.run(() =>
    Bun.udpSocket({ hostname: PEER, socket: { data: (_, data) => resolve(String(data)), error: () => {} } }),
  );
  const timer = setInterval(() => socket.send("netd", port, OWN), 50);
  const answer = await promise;
  clearInterval(timer);
  socket.close();
  return answer;
}

test.each(programs.map((text, i) => [i + 1, text] as const))("program %d", async (i, text) => {
  const file = join(dir, `program${i}.ts`);
  const here = `interface: "${rig.lab.ifname}", server: ${JSON.stringify(rig.control)}`;
  writeFileSync(file, text.replaceAll('interface: "eth0"', here));
  const child = Bun.spawn([process.execPath, file], { stdout: "pipe", stderr: "pipe" });
  const texts = Promise.all([child.stdout.text(), child.stderr.text()]);
  const [, port, turned] = /^\/\/ serves: (\d+)(.*)$/m.exec(text) ?? [];
  if (port !== undefined) {
    expect(await ask(Number(port))).toBe(turned === "" ? "netd" : "Netd");
    child.kill();
  }
  const [out, err] = await texts;
  expect({ code: await child.exited, err }).toEqual({ code: port === undefined ? 0 : 143, err: "" });
  const wanted = [...text.matchAll(/^\/\/ prints: (.*)$/gm)].map(([, line]) => line!);
  expect(out.trim().replaceAll(rig.lab.ifname, "eth0")).toBe(wanted.join("\n"));
});
