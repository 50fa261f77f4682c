// `netd dump` and `netd monitor` as programs and people see them.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { Host } from "../../src/lab/host.ts";
import { run } from "../netlink/view.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const main = join(import.meta.dir, "../../src/main.ts");
let host: Host;
beforeAll(() => {
  host = new Host("kernel");
  host.link({ name: "v0", kind: "veth", peer: { name: "v1" } });
  host.up("v0");
  host.up("v1");
  host.addr("v0", "10.0.0.1/24");
  host.route({ dst: "10.1.0.0/16", via: "10.0.0.2" });
});
afterAll(() => host.close());

function netd(...args: string[]): { code: number; out: string; err: string } {
  const child = Bun.spawnSync([process.execPath, main, ...args], { env: { ...process.env, NO_COLOR: "1" } });
  return { code: child.exitCode, out: child.stdout.toString(), err: child.stderr.toString() };
}
const lines = (text: string) =>
  text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

test("dump --json: one object a line, as ip -j has them", () => {
  const { out, code } = netd("dump", "routes", "--json", "--netns", host.netns.path);
  expect(code).toBe(0);
  const theirs = JSON.parse(run(host, "ip", "-j", "-4", "route", "show", "table", "all"));
  expect(lines(out).filter((o) => !String(o.dst).includes(":"))).toEqual(theirs);
  expect(
    lines(netd("dump", "link", "--json", "--netns", host.netns.path).out).map((o) => o.ifname),
  ).toContain("v0");
});

test("dump for people, and wrong calls", () => {
  const { out } = netd("dump", "routes", "--netns", host.netns.path);
  expect(out).toContain("10.1.0.0/16 gateway 10.0.0.2 dev v0 protocol static");
  expect(netd("dump", "colours")).toMatchObject({
    code: 2,
    err: expect.stringContaining("expected links, addrs"),
  });
  expect(netd("dump", "links", "--netns", "no-such")).toMatchObject({
    code: 1,
    err: expect.stringContaining("ENOENT"),
  });
});

test("monitor: what happens, until it is interrupted", async () => {
  const child = Bun.spawn(
    [process.execPath, main, "monitor", "routes", "--json", "--netns", host.netns.path],
    {
      stdout: "pipe",
    },
  );
  const reader = child.stdout.getReader();
  let text = "";
  const until = async (found: string) => {
    while (!text.includes(found)) {
      const { value, done } = await reader.read();
      if (done) throw new Error(`ended: ${text}`);
      text += new TextDecoder().decode(value);
    }
  };
  // It tells of nothing before it has subscribed: changed until it does.
  let changing = true;
  const changes = (async () => {
    while (changing) {
      run(host, "ip", "route", "add", "10.9.0.0/16", "via", "10.0.0.3");
      run(host, "ip", "route", "del", "10.9.0.0/16");
      await Bun.sleep(20);
    }
  })();
  await until("deleted");
  changing = false;
  await changes;
  expect(lines(text)[0]).toMatchObject({
    kind: "routes",
    dst: "10.9.0.0/16",
    gateway: "10.0.0.3",
    dev: "v0",
  });
  child.kill("SIGTERM");
  expect(await child.exited).toBe(0);
}, 30_000);
