// netd on a card that the kernel goes on using: however it ends, the kernel's own networking is there, at once.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, statSync } from "node:fs";
import { Lab } from "../../src/lab/lab.ts";
import { setVlanStripping } from "../../src/xdp/queues.ts";
import { cardState, onCard, xdpOn } from "./card.ts";
import { NetdProcess, Scratch } from "./child.ts";
import { kernelUdp, pings, TcpPair, whoAnswers } from "./kernel.ts";
import { UdpClient } from "./udp.ts";
import { until } from "./wait.ts";

setDefaultTimeout(60_000);

let lab: Lab;
let scratch: Scratch;
beforeAll(() => {
  lab = Lab.create();
  scratch = new Scratch();
});
afterAll(() => {
  scratch[Symbol.dispose]();
  lab.close();
});

test("kill -9: the kernel has the card at once, a TCP connection lives on, and the next start works", async () => {
  const udp = await kernelUdp(lab, 7); // the service's port, and one that is the kernel's alone
  const other = await kernelUdp(lab, 8);
  using tcp = await TcpPair.open(lab);
  await tcp.works();
  expect(await whoAnswers(lab, 7)).toBe("kernel: hello");

  for (let round = 0; round < 3; round++) {
    const netd = await NetdProcess.running(scratch.socket, onCard(lab));
    expect(statSync(scratch.socket).mode & 0o777).toBe(0o600);
    expect(xdpOn(lab.daemonHost, "nd0")).toBeDefined();
    await tcp.works();
    expect(pings(lab)).toBe(true);
    expect(await whoAnswers(lab, 8)).toBe("kernel: hello");
    await until("netd to answer", async () => (await whoAnswers(lab, 7, "hello", 100)) === "hello");

    const { signal } = await netd.stop("SIGKILL");
    expect(signal).toBe("SIGKILL");
    expect(xdpOn(lab.daemonHost, "nd0")).toBeUndefined();
    expect(await whoAnswers(lab, 7)).toBe("kernel: hello");
    expect(await whoAnswers(lab, 8)).toBe("kernel: hello");
    expect(pings(lab)).toBe(true);
    await tcp.works();
    expect(existsSync(scratch.socket)).toBe(true); // stale: the next start replaces it
  }
  udp.close();
  other.close();
});

test("start and stop: a TCP connection and the kernel's UDP live on; nothing is left", async () => {
  const udp = await kernelUdp(lab, 7);
  using tcp = await TcpPair.open(lab);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    const netd = await NetdProcess.running(scratch.socket, onCard(lab));
    await tcp.works();
    await until("netd to answer", async () => (await whoAnswers(lab, 7, "hello", 100)) === "hello");
    const { code, out, err } = await netd.stop(signal);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toContain("nothing left behind");
    expect(await whoAnswers(lab, 7)).toBe("kernel: hello");
    await tcp.works();
    expect(xdpOn(lab.daemonHost, "nd0")).toBeUndefined();
    expect(readdirSync(scratch.path)).toEqual([]);
  }
  udp.close();
});

test("signals while starting: it undoes what it has done and ends well", async () => {
  lab.daemon.run(() => setVlanStripping("nd0", true)); // kill -9 leaves it off
  const before = cardState(lab);
  const stages: [string, (netd: NetdProcess) => Promise<unknown>][] = [
    ["the program is on the card", () => until("the program", () => xdpOn(lab.daemonHost, "nd0"))],
    ["it listens", () => until("the admin socket", () => existsSync(scratch.socket))],
    ...[80, 120, 160, 200, 240, 280, 320].map((ms): [string, () => Promise<unknown>] => [
      `after ${ms} ms`,
      () => Bun.sleep(ms),
    ]),
  ];
  for (const [i, [stage, reached]] of stages.entries()) {
    const netd = new NetdProcess(scratch.socket, onCard(lab));
    await reached(netd);
    const signal = i % 2 === 0 ? "SIGTERM" : "SIGINT";
    const { code, signal: by, err } = await netd.stop(signal);
    // Before the program of netd runs at all, the signal ends the process, and there is nothing to undo.
    expect([0, 128 + 2, 128 + 15], stage).toContain(code);
    if (i < 2) expect({ code, by, err }, stage).toEqual({ code: 0, by: null, err: "" });
    expect(cardState(lab), stage).toEqual(before);
    expect(readdirSync(scratch.path), stage).toEqual([]);
  }
});

test("under nohup a hangup does not end it", async () => {
  const netd = await NetdProcess.running(scratch.socket, onCard(lab), ["nohup"]);
  netd.child.kill("SIGHUP");
  using client = await UdpClient.open(lab.peer, "10.77.0.2");
  await client.echo("10.77.0.1");
  expect((await netd.summary()).pid).toBe(netd.child.pid);
  expect((await netd.stop()).code).toBe(0);
});

test("two starts at once on one card: one serves, the other says why not", async () => {
  using second = new Scratch();
  const both = [scratch, second].map(({ socket }) => new NetdProcess(socket, onCard(lab)));
  const served = await until("one to serve", () => both.find(({ socket }) => existsSync(socket)));
  const refused = both.find((netd) => netd !== served)!;
  const { code, err } = await refused.ended;
  expect(code).toBe(1);
  expect(err).toContain("another netd runs there");
  using client = await UdpClient.open(lab.peer, "10.77.0.2");
  await client.echo("10.77.0.1");
  expect((await served.stop()).code).toBe(0);
  expect(xdpOn(lab.daemonHost, "nd0")).toBeUndefined();
});
