// What usnetd's configuration makes of a card: the kernel behind the firewall, with what is opened for it and what it begins
// itself; a client beside it. The daemon is started as usnetd is, with its file alone.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Lab } from "../../src/lab/lab.ts";
import { PeerHost } from "../peers/host.ts";
import { curl, patternHash } from "../peers/pattern.ts";
import { NetdProcess, Scratch } from "./child.ts";
import { pings, TcpPair } from "./kernel.ts";
import { until } from "./wait.ts";

setDefaultTimeout(120_000);

const OWN = "10.77.0.1";
const PEER = "10.77.0.2";

test("a card as usnetd's file has it: firewall, open ports, a client, claims, drops, a capture", async () => {
  using scratch = new Scratch();
  using lab = Lab.create();
  const listen = (port: number) =>
    lab.daemon.run(() => Bun.listen({ hostname: "0.0.0.0", port, socket: { data() {} } }));
  const servers = [listen(22), listen(23), listen(25)];
  // There before the daemon is: it goes on.
  using old = await TcpPair.open(lab);
  await old.works();
  const far = lab.peer.run(() =>
    Bun.serve({ hostname: PEER, port: 8000, fetch: () => new Response("hello"), development: false }),
  );
  const capture = join(scratch.path, "log.pcapng");
  const file = join(scratch.path, "usnetd.conf");
  writeFileSync(
    file,
    `INTERFACES=${lab.ifname}\nDEBUG_PORTS=${lab.ifname}:TCP:22,${lab.ifname}:TCP:25:10.77.0.3\nPCAP_LOG=${capture}\n`,
  );
  await using netd = await NetdProcess.running(scratch.socket, [file, "--netns", lab.daemon.path]);

  const reach = async (port: number, from: string): Promise<boolean> => {
    const child = Bun.spawn(lab.peerHost.command("nc", "-z", "-w", "1", "-s", from, OWN, String(port)), {
      stdout: "ignore",
      stderr: "ignore",
    });
    return (await child.exited) === 0;
  };
  expect(await reach(22, PEER)).toBe(true);
  expect(await reach(23, PEER)).toBe(false);
  expect(await reach(25, PEER)).toBe(false);
  expect(await reach(25, "10.77.0.3")).toBe(true);
  expect(pings(lab)).toBe(false); // ICMP is not open
  await old.works();
  const out = await curl(`http://${PEER}:8000/`, lab.daemonHost.command());
  expect(out).toMatchObject({ code: 0, bytes: 5 });

  const server = join(scratch.path, "control.sock");
  await using lwip = await PeerHost.attach("lwip", {
    server,
    directory: scratch.path,
    ifname: lab.ifname,
    lladdr: "02:00:00:00:77:01",
    address: `${OWN}/24,${PEER}`,
  });
  await lwip.match("tcp", OWN, 8080);
  expect(await lwip.tell("http 8080")).toBe("serving");
  const got = await curl(`http://${OWN}:8080/100000`, lab.peerHost.command());
  expect(got).toMatchObject({ code: 0, bytes: 100_000, hash: patternHash(100_000) });
  expect(await lwip.tell(`get ${PEER} 8000 5`, 30_000)).toStartWith("got 5 ");

  type Row = Record<string, unknown>;
  const [client] = await netd.ask<Row[]>("clients");
  expect(client).toMatchObject({ pid: lwip.child.pid, uid: 0, matches: 1, claims: 1, command: "test-lwip" });
  expect(await netd.ask<Row[]>("matches")).toMatchObject([
    { kind: "match", protocol: "tcp", dst: OWN, dport: 8080, client: client!["client"], pid: lwip.child.pid },
  ]);
  const [claim] = await netd.ask<Row[]>("claims");
  expect(claim).toMatchObject({ kind: "claim", protocol: "tcp", dst: OWN, src: PEER, sport: 8000 });
  expect(claim!["expires"]).toBeGreaterThan(7100);
  await until("the sample", async () => {
    const [row] = await netd.ask<Row[]>("clients");
    return (row!["toPackets"] as number) > 10 && (row!["fromPackets"] as number) > 10;
  });
  const drops = await netd.ask<Row[]>("drops");
  expect(drops.find(({ reason }) => reason === "firewall")!["packets"]).toBeGreaterThan(1);
  const ended = await netd.stop();
  expect({ code: ended.code, err: ended.err }).toEqual({ code: 0, err: "" });
  expect(readFileSync(capture).length).toBeGreaterThan(100_000);
  await old.works();
  expect(await reach(23, PEER)).toBe(true);
  for (const one of servers) one.stop(true);
  far.stop(true);
});
