// memif: our server's parts against our client, against dpdk-testpmd as it is packaged, and against clients that lie.
import { afterAll, afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ClientOptions, MemifClient } from "../../src/link/memif/client.ts";
import { until } from "../net/wait.ts";
import { LIMITS, MemifServer } from "./memifserver.ts";

setDefaultTimeout(120_000);

const scratch = mkdtempSync(join(tmpdir(), "netd-memif-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));
let path = "";
let count = 0;
const fresh = () => {
  path = join(scratch, `${count++}.sock`);
  return path;
};
afterEach(() => rmSync(path, { force: true }));

/** Our client lives in a Worker, one for all tests: its handshake waits for the server, which is here. */
const worker = new Worker(new URL("./memifworker.ts", import.meta.url).href);
afterAll(() => worker.terminate());

/** Runs a client against the server until it is done; `turn` is the server's. */
async function run(task: Record<string, unknown>, turn: () => void): Promise<Record<string, unknown>> {
  let answer: Record<string, unknown> | undefined;
  worker.onmessage = (event) => {
    answer = event.data;
  };
  worker.postMessage(task);
  while (answer === undefined) {
    for (let i = 0; i < 200; i++) turn();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return answer;
}

const client = (options: Partial<ClientOptions>, task: object, server: MemifServer) =>
  run({ options: { server: path, ...options }, ...task }, () => server.turn());

for (const log2 of [3, 8, 11, 14])
  test(`rings of 2^${log2}: what is sent comes back, byte by byte, in order`, async () => {
    using server = new MemifServer(fresh());
    const frames = 20_000;
    expect(await client({ log2, rings: 2 }, { frames }, server)).toEqual({
      got: 2 * frames,
      wrong: 0,
      peer: "netd0",
    });
    expect(server.full).toBe(0);
  });

test("frames over several small buffers, both ways", async () => {
  using server = new MemifServer(fresh());
  expect(await client({ bufferBytes: 256, log2: 9 }, { frames: 5000, long: true }, server)).toMatchObject({
    wrong: 0,
    got: 5000,
  });
});

test("clients come and go: no fd, no window and no memory is left", async () => {
  using server = new MemifServer(fresh());
  const fds = () => Array.from(new Bun.Glob("*").scanSync({ cwd: "/proc/self/fd", onlyFiles: false })).length;
  await client({}, { frames: 10 }, server);
  while (server.ends.length < 1) server.turn();
  const before = fds();
  for (let i = 0; i < 30; i++) await client({ log2: 8 }, { frames: 10 }, server);
  while (server.ends.length < 31) server.turn();
  // Threads of tests that ran before this one may still be ending; what they had goes then.
  await until("all fds to be given back", () => fds() <= before);
  expect(server.windows.map(-1, 2 ** 40)).toBe(-1);
  expect(server.ends.length).toBe(31);
});

test("a wrong secret, a wrong mode, too many rings: told why", async () => {
  const secret = new TextEncoder().encode("open sesame");
  using server = new MemifServer(fresh(), { ...LIMITS, secret, modes: [0], rings: 1 });
  const error = (options: Partial<ClientOptions>) =>
    client(options, { frames: 1 }, server).then((answer) => `${answer["error"]}`);
  expect(await error({})).toMatch(/ECONNREFUSED \(wrong secret\)/);
  expect(await error({ secret, mode: 1 })).toMatch(/mode 1: expected 0 \(Ethernet\)/);
  expect(await error({ secret, rings: 2 })).toMatch(/ring S2M 1: expected 0 to 0/);
  expect(await error({ secret, log2: 15 })).toMatch(/2\^15 slots: expected at most 2\^14/);
  expect(await client({ secret }, { frames: 1 }, server)).toMatchObject({ got: 1 });
});

test("nobody listens: one error that says what to do", () => {
  fresh();
  expect(() => new MemifClient({ server: path })).toThrow(/connect memif .*ENOENT|ECONNREFUSED/);
});

for (const [queues, log2] of [
  [1, 8],
  [1, 11],
  [2, 11],
  [1, 14],
])
  test(`dpdk-testpmd with ${queues} queues of 2^${log2} sends, and gets everything back`, async () => {
    using server = new MemifServer(fresh());
    const testpmd = Bun.spawn(
      [
        "dpdk-testpmd",
        ...["--no-huge", "-m", "256", "--no-pci", "--no-shconf", `--file-prefix=netd${process.pid}`],
        `--vdev=net_memif0,role=client,id=0,socket=${path},socket-abstract=no,rsize=${log2}`,
        "--log-level=4",
        ...["--", "--forward-mode=flowgen", "--no-mlockall", "--total-num-mbufs=40960"],
        ...[`--rxq=${queues}`, `--txq=${queues}`, "--stats-period=1", "--auto-start"],
      ],
      { stdin: "pipe", stdout: "pipe", stderr: "inherit" },
    );
    try {
      const end = Date.now() + 60_000;
      while (server.frames < 200_000 && Date.now() < end) {
        for (let i = 0; i < 1000; i++) server.turn();
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect(server.frames).toBeGreaterThanOrEqual(200_000);
      expect(server.from.length).toBe(queues!);
      expect(server.ends).toEqual([]);
    } finally {
      testpmd.kill("SIGKILL");
      await testpmd.exited;
    }
    for (let i = 0; i < 100_000 && server.ends.length === 0; i++) server.turn();
    expect(server.ends).toEqual(["the client closed its socket"]);
  });
