// An established TCP connection of the kernel's through the card, while netd with its switch starts, stops and is killed
// beside it, with and without the firewall.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Lab } from "../../src/lab/lab.ts";
import { ip, onCard } from "../net/card.ts";
import { NetdProcess, Scratch } from "../net/child.ts";
import { until } from "../net/wait.ts";
import { TcpPair } from "./tcp.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

let lab: Lab;
beforeAll(() => {
  lab = Lab.create();
});
afterAll(() => lab.close());

for (const firewall of [false, true])
  test(`starts and stops, firewall ${firewall ? "on" : "off"}`, async () => {
    using scratch = new Scratch();
    using before = await TcpPair.open(lab);
    await before.works();
    for (let round = 0; round < 3; round++) {
      const netd = await start(scratch, firewall);
      await before.works();
      // Nobody told the firewall of this port: what comes from outside finds it shut.
      using during = firewall ? undefined : await TcpPair.open(lab);
      await during?.works();
      expect((await netd.stop()).code).toBe(0);
      await before.works();
      await during?.works();
    }
  });

for (const firewall of [false, true])
  test(`kill -9, firewall ${firewall ? "on" : "off"}`, async () => {
    using scratch = new Scratch();
    using pair = await TcpPair.open(lab);
    for (let round = 0; round < 2; round++) {
      await using netd = await start(scratch, firewall);
      await pair.works();
      pair.write("in flight\n");
      netd.child.kill("SIGKILL");
      await netd.ended;
      await until("the echo", () => pair.echoed === "in flight\n");
      await pair.works();
      expect(devices()).toEqual(["lo", "nd0"]);
    }
  });

test("the kernel's new connections with the firewall on: those that it makes, not those that come", async () => {
  using scratch = new Scratch();
  await using netd = await start(scratch, true);
  using out = await TcpPair.open(lab, "daemon");
  await out.works();
  const came = TcpPair.open(lab);
  expect(await Promise.race([came, Bun.sleep(500).then(() => "nothing")])).toBe("nothing");
  await netd.stop();
  using pair = await came; // a later SYN
  await pair.works();
  await out.works();
});

/** netd on the lab's card with a switch. */
function start(scratch: Scratch, firewall: boolean): Promise<NetdProcess> {
  const config = join(scratch.path, "netd.toml");
  writeFileSync(
    config,
    `[switch]\nfirewall = ${firewall}\nsockets = ["${join(scratch.path, "control.sock")}"]\n`,
  );
  return NetdProcess.running(scratch.socket, onCard(lab, "--config", config));
}

const devices = (): string[] =>
  ip(lab.daemonHost, "link", "show")
    .map(({ ifname }) => ifname)
    .sort();
