// `netd capture` of a running daemon: into a file that tcpdump reads, to a pipe, as text; filters; errors; ends.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { Lab } from "../../src/lab/lab.ts";
import { readPcapng, tcpdump } from "../capture/pcapng.ts";
import { onCard } from "./card.ts";
import { command, NetdProcess, run, Scratch } from "./child.ts";
import { UdpClient } from "./udp.ts";
import { until } from "./wait.ts";

setDefaultTimeout(60_000);

const capture = (socket: string, ...args: string[]) =>
  Bun.spawn(command(["capture", "--admin", socket, ...args]), {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });

const size = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0;

test("both directions of an echo, with what became of each frame; filters; files, pipes and text", async () => {
  using lab = Lab.create();
  using scratch = new Scratch();
  await using _netd = await NetdProcess.running(scratch.socket, onCard(lab));
  using client = await UdpClient.open(lab.peer, "10.77.0.2");
  const file = join(scratch.path, "all.pcapng");
  const all = capture(scratch.socket, "-w", file);
  const some = capture(scratch.socket, "-w", "-", "udp", "and", "len", ">", "200");
  const text = capture(scratch.socket);
  await until("a frame in the file", async () => {
    await client.echo("10.77.0.1", 7);
    return size(file) > 1000;
  });
  expect(statSync(file).mode & 0o777).toBe(0o600);
  let lines = "";
  const reading = (async () => {
    for await (const part of text.stdout) lines += Buffer.from(part).toString();
  })();
  await until("lines", async () => {
    await client.echo("10.77.0.1", 7);
    return lines.split("\n").length > 4;
  });
  let piped = Buffer.alloc(0);
  const piping = (async () => {
    for await (const part of some.stdout) piped = Buffer.concat([piped, part]);
  })();
  await until("the pipe to begin", () => piped.length > 0);
  await client.echo("10.77.0.1", 7, { bytes: 301 });
  await until("both in the pipe", () => readPcapng(piped).packets.length === 2);
  for (const child of [all, some, text]) child.kill("SIGINT");
  await Promise.all([piping, reading]);
  for (const child of [all, some, text]) {
    expect(await child.exited).toBe(0);
    expect(await child.stderr.text()).toBe("");
  }

  const { application, ifname, packets } = readPcapng(readFileSync(file));
  expect({ application, ifname }).toEqual({ application: "netd 0.1.0", ifname: "nd0" });
  const of = (comment: string) => packets.filter((packet) => packet.comment === comment);
  expect(of("verdict=answered").length).toBe(of("verdict=sent").length);
  for (const { direction, data } of of("verdict=answered")) {
    expect(direction).toBe(1);
    expect(data.readUInt16BE(36)).toBe(7);
  }
  for (const { direction, data } of of("verdict=sent")) {
    expect(direction).toBe(2);
    expect(data.readUInt16BE(34)).toBe(7);
  }
  expect(of("verdict=answered").length).toBeGreaterThan(0);
  expect(tcpdump(file).length).toBe(packets.length);
  const large = readPcapng(piped).packets;
  expect(large.map(({ length, direction }) => [length, direction])).toEqual([
    [343, 1],
    [343, 2],
  ]);
  expect(lines).toMatch(
    /^\d\d:\d\d:\d\d\.\d{6} in {2}10\.77\.0\.2:\d+ > 10\.77\.0\.1:7 udp \d+: verdict=answered$/m,
  );
  // The first echo of a neighbour that is not known yet is dropped, and the capture says why.
  for (const { comment } of packets)
    expect(comment).toMatch(/^verdict=(answered|sent|dropped reason=no_neighbour)$/);
  await client.echo("10.77.0.1", 7);
});

test("wrong filters are libpcap's words; no daemon is said; a reader that goes ends it; so does the daemon", async () => {
  using lab = Lab.create();
  using scratch = new Scratch();
  await using netd = await NetdProcess.running(scratch.socket, onCard(lab));
  const bad = await run(scratch.socket, ["capture", "tcp", "prot", "7"]);
  expect([bad.code, bad.err.trim()]).toEqual([
    1,
    'netd: compile filter "tcp prot 7": EINVAL (can\'t parse filter expression: syntax error)',
  ]);
  const none = await run(join(scratch.path, "none.sock"), ["capture"]);
  expect(none.code).toBe(1);
  expect(none.err).toContain("ENOENT");
  const nowhere = await run(scratch.socket, ["capture", "-w", "/nonexistent/file"]);
  expect(nowhere.code).toBe(1);
  expect(nowhere.err).toContain("write /nonexistent/file: ENOENT (its directory does not exist)");

  // head goes after the first line; netd notices at the next frame.
  using client = await UdpClient.open(lab.peer, "10.77.0.2");
  const line = command(["capture", "--admin", scratch.socket]).map((word) => `'${word}'`);
  const headed = Bun.spawn(["sh", "-c", `${line.join(" ")} | head -n 1`], {
    stdout: "pipe",
    stderr: "inherit",
  });
  let over = false;
  headed.exited.then(() => (over = true));
  await until("head to end the capture", async () => {
    await client.echo("10.77.0.1", 7);
    return over;
  });
  expect((await headed.stdout.text()).split("\n").length).toBe(2);

  const last = capture(scratch.socket, "-w", join(scratch.path, "last.pcapng"));
  await until("it to begin", () => size(join(scratch.path, "last.pcapng")) > 0);
  await netd.stop();
  expect(await last.exited).toBe(0);
  readPcapng(readFileSync(join(scratch.path, "last.pcapng")));
});
