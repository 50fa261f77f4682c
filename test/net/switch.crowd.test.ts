// Clients come and go while others work: a crowd with thousands of matches, some of which leave and attach all the time,
// and two clients whose traffic must lose nothing meanwhile, and hardly notice.
// NETD_CROWD_SECONDS=30 is as long as the issue asks; then the latency counts, too. CI takes 3 s, and losses alone.
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { compilePeer, parseSample, type Sample } from "../../bench/harness.ts";
import { OWN, PEER, SwitchRig } from "./switch.ts";
import { until } from "./wait.ts";

setDefaultTimeout(300_000);

const SECONDS = Number(process.env["NETD_CROWD_SECONDS"] ?? 3);
const LONG = SECONDS >= 10;
const CLIENTS = 1000;
const MATCHES = 10;
const CHURN = 200;
const RATE = 2000; // requests a second of each of the two
const BYTES = 64;

class Lines {
  readonly lines: string[] = [];
  constructor(stream: ReadableStream<Uint8Array>) {
    void (async () => {
      let rest = "";
      for await (const part of stream) {
        const lines = (rest + Buffer.from(part)).split("\n");
        rest = lines.pop()!;
        this.lines.push(...lines);
      }
    })();
  }
  next(what: string, ms: number): Promise<string> {
    const at = this.lines.length;
    return until(what, () => this.lines[at], ms);
  }
}

test(`${CLIENTS} clients, ${CLIENTS * MATCHES} matches, ${CHURN} a second leave and attach for ${SECONDS} s`, async () => {
  const udp = compilePeer("udp", ["-D_GNU_SOURCE"], [join(import.meta.dir, "../peers/attach.h")]);
  await using rig = await SwitchRig.start();
  const { lab, scratch, usnetd, control } = rig;
  await using stack = new AsyncDisposableStack();

  const ports = [7001, 7002];
  for (const port of ports) {
    const args = [usnetd, join(scratch.path, `echo-${port}`), lab.ifname, OWN, String(port)];
    const child = Bun.spawn([udp, "client", ...args], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
    stack.defer(async () => {
      child.kill();
      await child.exited;
    });
    await new Lines(child.stdout).next("an echo client", 10_000);
  }
  const generate = async (port: number, seconds: number): Promise<Sample> => {
    const args = [PEER, OWN, port, BYTES, 64, RATE, seconds].map(String);
    const child = Bun.spawn(lab.peerHost.command(udp, "gen", ...args), { stdout: "pipe", stderr: "inherit" });
    const text = await child.stdout.text();
    expect(await child.exited).toBe(0);
    return parseSample(text);
  };
  const both = (seconds: number) => Promise.all(ports.map((port) => generate(port, seconds)));

  // Modest: on two cores, who makes others come and go is not to take the time of those whose times are measured.
  const crowd = Bun.spawn(
    [
      ...["nice", "-n", "10", process.execPath],
      join(import.meta.dir, "../peers/crowd.ts"),
      ...[control, scratch.path, lab.ifname, String(CLIENTS), String(MATCHES), OWN],
    ],
    { stdin: "pipe", stdout: "pipe", stderr: "inherit" },
  );
  stack.defer(async () => {
    crowd.kill();
    await crowd.exited;
  });
  const said = new Lines(crowd.stdout);
  await said.next("the crowd to be there", 60_000);
  expect((await rig.clients()).length).toBe(CLIENTS + ports.length);
  expect((await rig.netd.ask<unknown[]>("matches")).length).toBe(CLIENTS * MATCHES + ports.length);

  await both(LONG ? 5 : 0.5); // neighbours, and warm code
  const quiet = await both(SECONDS);
  const answer = said.next("the churn to end", SECONDS * 1000 + 60_000);
  crowd.stdin.write(`churn ${CHURN} ${SECONDS + 1}\n`);
  crowd.stdin.flush();
  await Bun.sleep(500);
  const busy = await both(SECONDS);
  const { done, wanted } = JSON.parse(await answer) as { done: number; wanted: number };
  if (LONG) console.log(JSON.stringify({ quiet, busy, done }));
  for (const sample of [...quiet, ...busy]) {
    expect(sample["lost"]).toBe(0);
    expect(sample["sent"]).toBeGreaterThan(0);
  }
  expect(done).toBeGreaterThan(wanted / 4);
  if (LONG) {
    expect(done).toBeGreaterThanOrEqual(wanted * 0.95);
    for (const [i, sample] of busy.entries()) expect(sample["p99"]!).toBeLessThan(quiet[i]!["p99"]! * 2);
  }
  // Everybody is still there, with all that is theirs; and when they end, nothing of them is.
  expect((await rig.clients()).length).toBe(CLIENTS + ports.length);
  expect((await rig.netd.ask<unknown[]>("matches")).length).toBe(CLIENTS * MATCHES + ports.length);
  crowd.kill("SIGKILL");
  await until("the crowd to be gone", async () => (await rig.clients()).length === ports.length, 30_000);
  expect((await rig.netd.ask<unknown[]>("matches")).length).toBe(ports.length);
  for (const sample of await both(0.5)) expect(sample["lost"]).toBe(0);
});
