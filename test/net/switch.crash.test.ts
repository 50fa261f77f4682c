// What dies takes its own with it and nothing else: kill -9 of a client, and of netd.
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { LAB_LLADDR } from "../../src/lab/lab.ts";
import { curl, patternHash } from "../peers/pattern.ts";
import { alive, type BpfIds, bpfIds } from "../xdp/bpf.ts";
import { ip, xdpOn } from "./card.ts";
import { TcpPair } from "./kernel.ts";
import { OWN, OWN6, SwitchRig } from "./switch.ts";
import { until } from "./wait.ts";

setDefaultTimeout(120_000);

/** curl without its complaints. */
const quiet = (before: readonly string[]): string[] => [...before, "sh", "-c", 'exec "$@" 2>/dev/null', "-"];

test("kill -9 of a client: its matches go at once, the kernel has its ports back, the next client may have them", async () => {
  await using rig = await SwitchRig.start();
  using pair = await TcpPair.open(rig.lab);
  for (let round = 0; round < 3; round++) {
    const lwip = await rig.lwip();
    await lwip.match("tcp", OWN, 8080);
    await lwip.tell("http 8080");
    const got = await curl(`http://${OWN}:8080/100000`, rig.far);
    expect(got).toMatchObject({ code: 0, hash: patternHash(100_000) });
    expect((await rig.clients()).map(({ pid }) => pid)).toEqual([lwip.child.pid]);
    const fetching = curl(`http://${OWN}:8080/1000000000`, quiet(rig.far), { seconds: 1 });
    await Bun.sleep(100);
    await lwip.kill("SIGKILL");
    await until("the client to be gone", async () => (await rig.clients()).length === 0);
    expect(await rig.netd.ask("matches")).toEqual([]);
    expect((await fetching).code).not.toBe(0); // it has nothing to send, and so nobody tells it
    await until("the kernel to refuse", async () => {
      const { code } = await curl(`http://${OWN}:8080/1`, quiet(rig.far));
      return code === 7;
    });
    await pair.works();
  }
});

test("weakness: a crash leaves macvtap and routes behind: kill -9 of netd, and nothing is left on the card, and a connection of the kernel's outlives it, and its next life", async () => {
  await using rig = await SwitchRig.start();
  const { lab } = rig;
  using pair = await TcpPair.open(lab);
  const links = () => ip(lab.daemonHost, "link", "show").map(({ ifname }) => ifname);
  const bare = ["lo", "nd0"];
  for (let round = 0; round < 2; round++) {
    if (round > 0) await rig.run();
    expect(links()).not.toEqual(bare); // the tap
    const lwip = await rig.lwip();
    await lwip.match("tcp", OWN, 8080);
    await lwip.match("tcp", OWN6, 8080);
    await lwip.tell("http 8080");
    for (const before of [rig.far, rig.near]) {
      const got = await curl(`http://${OWN}:8080/100000`, before);
      expect(got).toMatchObject({ code: 0, hash: patternHash(100_000) });
    }
    await pair.works();
    const seen: BpfIds = bpfIds(rig.netd.child.pid);
    expect(alive(seen)).toBeGreaterThan(0);
    rig.netd.child.kill("SIGKILL");
    await rig.netd.ended;
    await pair.works();
    await until("the card to be bare", () => xdpOn(lab.daemonHost, "nd0") === undefined);
    expect(links()).toEqual(bare);
    await until("the programs to be gone", () => alive(seen) === 0);
    await pair.works();
    const refused = await curl(`http://${OWN}:8080/1`, quiet(rig.far));
    expect(refused.code).toBe(7);
    await lwip.kill();
  }
  // A clean end leaves no socket either.
  await rig.run();
  const ended = await rig.netd.stop();
  expect([ended.code, ended.err]).toEqual([0, ""]);
  expect([existsSync(rig.usnetd), existsSync(rig.control)]).toEqual([false, false]);
  expect(links()).toEqual(bare);
  await pair.works();
  await rig.run();
  expect(LAB_LLADDR).toBe(ip(lab.daemonHost, "link", "show", "dev", "nd0")[0].address);
});

test("channels that a living process drops without a word are noticed, though nobody sends to them", async () => {
  await using rig = await SwitchRig.start();
  using staying = rig.raw();
  staying.match({ protocol: 17, dst: OWN, dport: 6000 });
  for (let i = 0; i < 20; i++) {
    using client = rig.raw();
    client.match({ protocol: 17, dst: OWN, dport: 6001 + i });
  }
  await until("them to be taken back", async () => (await rig.clients()).length === 1, 20_000);
  expect((await rig.netd.ask<unknown[]>("matches")).length).toBe(1);
  expect(staying.ask("ListMatches").text).toContain("6000");
});
