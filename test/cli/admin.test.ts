import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SysError } from "../../ffi/errno.ts";
import { lists, serveAdmin } from "../../src/admin.ts";
import type { DaemonView, LookupOptions } from "../../src/view.ts";
import { fake } from "./fake.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const dir = mkdtempSync(join(tmpdir(), "netd-admin-"));
afterAll(() => rmSync(dir, { recursive: true }));

let next = 0;
const fresh = (): string => join(dir, `${next++}.sock`);

async function get(path: string, page: string, method = "GET") {
  const response = await fetch(`http://netd${page}`, { unix: path, method });
  return { status: response.status, body: (await response.json()) as unknown };
}

async function refusal(path: string, view: DaemonView = fake): Promise<SysError> {
  try {
    await (await serveAdmin(path, view)).stop();
  } catch (error) {
    if (error instanceof SysError) return error;
    throw error;
  }
  throw new Error("served");
}

test("every page", async () => {
  const path = fresh();
  const server = await serveAdmin(path, fake);
  for (const list of lists)
    expect(await get(path, `/${list}`)).toEqual({
      status: 200,
      body: JSON.parse(JSON.stringify(fake[list]())),
    });
  expect(await get(path, "/summary")).toEqual({ status: 200, body: fake.summary() });
  expect(await get(path, "/lookup?address=10.1.2.3")).toEqual({ status: 200, body: fake.lookup("10.1.2.3") });
  await server.stop();
});

test("a row a line, in an array; an empty list is one too", async () => {
  const path = fresh();
  const server = await serveAdmin(path, { ...fake, drops: () => [] });
  const text = async (page: string) => (await fetch(`http://netd${page}`, { unix: path })).text();
  const [, lo, vlan] = (await text("/links")).split("\n");
  expect([lo, vlan]).toEqual([`${JSON.stringify(fake.links()[0])},`, JSON.stringify(fake.links()[1])]);
  expect(JSON.parse(await text("/drops"))).toEqual([]);
  await server.stop();
});

test("what a lookup is asked reaches the view, whole", async () => {
  const path = fresh();
  const asked: [string, LookupOptions][] = [];
  const server = await serveAdmin(path, {
    ...fake,
    lookup(address, options) {
      asked.push([address, options]);
      return fake.lookup(address);
    },
  });
  await get(path, "/lookup?address=fd00::1&from=fd00::2&oif=eth0&tos=0x10&flow=udp:40000:53");
  await get(path, "/lookup?address=10.0.0.1&flow=47");
  expect(asked).toEqual([
    ["fd00::1", { from: "fd00::2", oif: "eth0", tos: 16, flow: { protocol: 17, sport: 40000, dport: 53 } }],
    ["10.0.0.1", { flow: { protocol: 47, sport: 0, dport: 0 } }],
  ]);
  await server.stop();
});

test("refusals are JSON and say what was expected", async () => {
  const path = fresh();
  const server = await serveAdmin(path, {
    ...fake,
    neighs() {
      throw new Error("the mirror is gone");
    },
    lookup() {
      throw new Error("no interface eth9");
    },
  });
  const error = (status: number, text: string) => ({ status, body: { error: text } });
  const pages =
    "/links /addrs /routes /neighs /queues /drops /clients /matches /claims /filters /grants /summary /lookup?address=ADDRESS";
  expect(await get(path, "/nope")).toEqual(error(404, `no page /nope; there are ${pages}`));
  expect(await get(path, "/links", "POST")).toEqual(error(405, "POST is not served here, only GET"));
  expect(await get(path, "/neighs")).toEqual(error(500, "the mirror is gone"));
  expect(await get(path, "/lookup?address=10.0.0.1&oif=eth9")).toEqual(error(500, "no interface eth9"));
  for (const [query, text] of [
    ["", "address is missing: expected an IPv4 or IPv6 address"],
    ["address=10.0.0", 'address is "10.0.0": expected an IPv4 or IPv6 address'],
    ["address=fe80::1%25eth0", 'address is "fe80::1%eth0": expected an IPv4 or IPv6 address'],
    ["address=::1&from=1.2.3.4", 'from is "1.2.3.4": expected an address of the same family as ::1'],
    ["address=::1&tos=256", 'tos is "256": expected a whole number from 0 to 255'],
    ["address=::1&tos=-1", 'tos is "-1": expected a whole number from 0 to 255'],
    [
      "address=::1&flow=udp:1",
      'flow is "udp:1": expected PROTOCOL:SOURCEPORT:DESTINATIONPORT, such as udp:40000:53',
    ],
    ["address=::1&flow=xyz:1:2", `flow's protocol is "xyz": expected a whole number from 0 to 255`],
    [
      "address=::1&flow=tcp:1:65536",
      `flow's destination port is "65536": expected a whole number from 0 to 65535`,
    ],
    ["address=::1&to=x", "unknown parameter to: expected address, from, oif, tos, flow"],
    ["address=::1&__proto__=x", "unknown parameter __proto__: expected address, from, oif, tos, flow"],
  ])
    expect(await get(path, `/lookup?${query}`)).toEqual(error(400, text!));
  await server.stop();
});

test("the socket is private whatever the umask, and the umask stays as it was", async () => {
  const path = fresh();
  const umask = process.umask(0);
  try {
    const server = await serveAdmin(path, fake);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(process.umask()).toBe(0);
    await server.stop();
  } finally {
    process.umask(umask);
  }
});

test("stop leaves nothing: no socket, no directory that it made", async () => {
  const path = join(dir, "run", "admin.sock");
  const server = await serveAdmin(path, fake);
  expect(statSync(join(dir, "run")).mode & 0o777).toBe(0o755);
  await server.stop();
  expect(existsSync(join(dir, "run"))).toBe(false);
  const other = fresh();
  await (await serveAdmin(other, fake)).stop();
  expect(existsSync(other)).toBe(false);
  expect(existsSync(dir)).toBe(true);
});

test("the socket of a daemon that was killed is replaced", async () => {
  const path = fresh();
  const code = `const { serveAdmin } = await import(${JSON.stringify(join(import.meta.dir, "../../src/admin.ts"))});
    await serveAdmin(${JSON.stringify(path)}, {}); console.log("up"); await Bun.sleep(60_000);`;
  const child = Bun.spawn([process.execPath, "-e", code], { stdout: "pipe" });
  await child.stdout.getReader().read();
  child.kill("SIGKILL");
  await child.exited;
  expect(statSync(path).isSocket()).toBe(true);
  const server = await serveAdmin(path, fake);
  expect((await get(path, "/summary")).status).toBe(200);
  await server.stop();
});

test("a live daemon is an error that names it, and it goes on", async () => {
  const path = fresh();
  const server = await serveAdmin(path, fake);
  const { code, message } = await refusal(path);
  expect(code).toBe("EADDRINUSE");
  expect(message).toContain(
    "netd with pid 4242 on eth0 serves it; stop it, or choose another path with --admin",
  );
  expect((await get(path, "/summary")).status).toBe(200);
  await server.stop();
});

test("another program's socket is not taken either", async () => {
  const path = fresh();
  const other = Bun.listen({ unix: path, socket: { data() {}, open: (socket) => void socket.end() } });
  expect((await refusal(path)).message).toContain("another process listens there");
  other.stop(true);
});

test("what is no socket is left alone, and a place that cannot be is named", async () => {
  const path = fresh();
  writeFileSync(path, "precious");
  expect((await refusal(path)).message).toBe(
    `admin socket ${path}: EEXIST (not a socket; choose another path)`,
  );
  expect(statSync(path).size).toBe(8);
  chmodSync(path, 0o600);
  expect((await refusal(join(path, "below.sock"))).message).toStartWith(`admin socket ${path}/below.sock: E`);
  expect((await refusal("/proc/nope/a.sock")).code).toBe("ENOENT");
});

test("a long table is read as the client takes it, and left where the client leaves or stands still", async () => {
  const path = fresh();
  const total = 200_000;
  let made = 0;
  let left = false;
  const server = await serveAdmin(
    path,
    {
      ...fake,
      *neighs() {
        left = false;
        try {
          for (made = 0; made < total; made++) yield { dst: `10.0.0.${made}`, dev: "eth0", state: ["STALE"] };
        } finally {
          left = made < total;
        }
      },
    },
    1000,
  );
  const whole = await get(path, "/neighs");
  expect((whole.body as unknown[]).length).toBe(total);
  expect(left).toBe(false);

  const begin = async (signal?: AbortSignal) => {
    const response = await fetch("http://netd/neighs", { unix: path, ...(signal && { signal }) });
    const reader = response.body!.getReader();
    await reader.read();
    return reader;
  };
  const ended = async () => {
    for (let i = 0; i < 500 && !left; i++) await Bun.sleep(20);
    expect(left).toBe(true);
  };
  const abort = new AbortController();
  const reader = await begin(abort.signal);
  await Bun.sleep(200);
  expect(made).toBeLessThan(total); // what is made is bounded by the buffers between, not by the table
  expect(left).toBe(false);
  abort.abort();
  await ended();
  await reader.closed.catch(() => {}); // held until here: one that is collected has left as well

  const still = await begin();
  await ended();
  const drain = async () => {
    while (!(await still.read()).done);
  };
  await expect(drain()).rejects.toThrow(); // cut, and not as if it were whole
  await server.stop();
});
