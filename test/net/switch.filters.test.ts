// Filters and rules in a running daemon: installed over the control socket as `netd filter compile` prints them, rules from
// the configuration, whose libpcap runs in a process of its own; what a client hears of its frames, and what is shown.
import { expect, setDefaultTimeout, test } from "bun:test";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { parse, programHash } from "../../src/filter/program.ts";
import { LAB_LLADDR, LAB_PEER_LLADDR } from "../../src/lab/lab.ts";
import type { ClientView, DropView, FilterView } from "../../src/view.ts";
import { type RawClient, wantMsg } from "../peers/client.ts";
import { curl, patternHash } from "../peers/pattern.ts";
import { command, run, Scratch } from "./child.ts";
import { onCard } from "./card.ts";
import { frame, pattern } from "./packet.ts";
import { OWN, PEER, SwitchRig } from "./switch.ts";
import { until } from "./wait.ts";

setDefaultTimeout(60_000);

const compiled = (text: string): string =>
  Bun.spawnSync(command(["filter", "compile", "--form", "numbers", text])).stdout.toString();
const rules = (...texts: string[]): string[] => ["--set", `switch.rules=${texts.join(",")}`];
const fromClient = (sport: number, dport: number) =>
  frame({
    ...{ srcMac: LAB_LLADDR, dstMac: LAB_PEER_LLADDR, src: OWN, dst: PEER },
    ...{ sport, dport, payload: pattern(10, 1) },
  });
const refusal = (client: RawClient, request: object): string =>
  JSON.parse(client.ask(request).text).Error?.code;

/** Datagrams from the far side to a port of ours. */
function knock(rig: SwitchRig, sport: number, dport: number): void {
  const script = `require("dgram").createSocket("udp4").bind(${sport}, "${PEER}", function () { this.send("hello", ${dport}, "${OWN}", () => this.close()); })`;
  const child = Bun.spawnSync([...rig.far, process.execPath, "-e", script]);
  expect(child.stderr.toString()).toBe("");
}

const drops = async (rig: SwitchRig): Promise<Record<string, number>> =>
  Object.fromEntries(
    (await rig.netd.ask<DropView[]>("drops"))
      .filter(({ reason, packets }) => packets > 0 && reason.includes("filtered"))
      .map(({ reason, packets }) => [reason, packets]),
  );

test("installed, shown, replaced and removed; who refused a frame is told", async () => {
  await using rig = await SwitchRig.start();
  using client = rig.raw();
  client.match({ protocol: 17, dst: OWN, dport: 5000 });
  client.match({ protocol: 17, dst: OWN, dport: 5001 });
  const program = compiled("udp src port 7");
  const match = wantMsg({ protocol: 17, dst: OWN, dport: 5000 });
  expect(client.ask({ InstallFilter: { direction: "Receive", match, program } }).text).toBe("OK");
  const out = compiled("not udp dst port 25");
  expect(client.ask({ InstallFilter: { direction: "Transmit", program: out } }).text).toBe("OK");

  for (const [sport, dport] of [
    [7, 5000],
    [8, 5000],
    [8, 5001],
  ] as const)
    knock(rig, sport, dport);
  const got: string[] = [];
  await until("two datagrams", () => {
    for (const one of client.drain())
      if (one[23] === 17) got.push(`${one[35]} ${(one[36]! << 8) | one[37]!}`);
    return got.length === 2;
  });
  expect(got.toSorted()).toEqual(["7 5000", "8 5001"]);

  const { text, fd } = client.ask('"RequestAcks"'.slice(1, -1));
  expect(text).toBe("$");
  for (const dport of [53, 25, 53]) expect(client.send(fromClient(5000, dport))).toBe(true);
  const heard = new Uint32Array(new ArrayBuffer(1024));
  const told: number[][] = [];
  await until("three acknowledgements", () => {
    const bytes = Number(libc.recvfrom(fd, ptr(heard), 1024, 0x40, null, null));
    for (let i = 0; i < bytes / 8; i++) told.push([heard[2 * i]!, heard[2 * i + 1]!]);
    return told.length === 3;
  });
  libc.close(fd);
  expect(told.toSorted(([a], [b]) => a! - b!)).toEqual([
    [0, 0],
    [1, 1],
    [2, 0],
  ]);

  await until("the counts", async () => (await drops(rig))["tx_filtered_client"] === 1);
  expect(await drops(rig)).toEqual({ rx_filtered_client: 1, tx_filtered_client: 1 });
  const filters = await rig.netd.ask<FilterView[]>("filters");
  expect(
    filters.map(({ layer, direction, match: of, passed, refused }) => [
      layer,
      direction,
      of?.dport,
      passed,
      refused,
    ]),
  ).toEqual([
    ["client", "in", 5000, 1, 1],
    ["client", "out", undefined, 2, 1],
  ]);
  expect(filters.map(({ pid, uid, run: how, instructions }) => [pid, uid, how, instructions])).toEqual(
    [program, out].map((one) => [process.pid, 0, "compiled", parse(one).length]),
  );
  const list = JSON.parse(client.ask("ListFilters").text).Filters;
  expect(list).toEqual([
    { direction: "Transmit", instructions: parse(out).length, hash: programHash(parse(out)) },
    { direction: "Receive", match, instructions: parse(program).length, hash: programHash(parse(program)) },
  ]);

  // Everything again: nothing comes.
  const nothing = [6, 0, 0, 0];
  expect(client.ask({ InstallFilter: { direction: "Receive", match: null, program: nothing } }).text).toBe(
    "OK",
  );
  knock(rig, 7, 5000);
  await until("it to be refused", async () => (await drops(rig))["rx_filtered_client"] === 2);
  for (const one of [{ direction: "Receive" }, { direction: "Receive", match }, { direction: "Transmit" }])
    expect(client.ask({ RemoveFilter: one }).text).toBe("OK");
  expect(refusal(client, { RemoveFilter: { direction: "Receive" } })).toBe("no_filter");
  knock(rig, 8, 5000);
  await until("a datagram", () => client.drain().some((one) => one[23] === 17));
  expect(await rig.netd.ask<FilterView[]>("filters")).toEqual([]);
});

test("what cannot be installed is refused, and says why", async () => {
  await using rig = await SwitchRig.start(
    {},
    ...["--set", "switch.filtersPerClient=2", "--set", "switch.instructionsPerClient=100"],
  );
  using client = rig.raw();
  client.match({ protocol: 17, dst: OWN, dport: 5000 });
  const install = (more: object) => ({
    InstallFilter: { direction: "Receive", program: "1,6 0 0 1", ...more },
  });
  const match = wantMsg({ protocol: 17, dst: OWN, dport: 5000 });
  expect(refusal(client, install({ program: "1,0 0 0 0" }))).toBe("bad_filter");
  expect(refusal(client, install({ program: [32, 0, 0, 0xfffff000 + 20, 22, 0, 0, 0] }))).toBe("bad_filter"); // skb->mark
  expect(refusal(client, install({ program: "x" }))).toBe("malformed");
  expect(refusal(client, install({ program: [6, 0, 256, 0] }))).toBe("malformed");
  expect(refusal(client, install({ program: [6, 0, 0] }))).toBe("malformed");
  expect(refusal(client, install({ direction: "Both" }))).toBe("malformed");
  expect(refusal(client, install({ direction: "Transmit", match }))).toBe("bad_filter");
  expect(refusal(client, install({ match: { ...match, dst_port: 5001 } }))).toBe("no_match");
  const long = Array.from({ length: 99 }, () => [0, 0, 0, 0]).flat();
  expect(client.ask(install({ program: [...long, 6, 0, 0, 1] })).text).toBe("OK");
  expect(refusal(client, install({ match }))).toBe("limit"); // 101 instructions
  expect(client.ask(install({})).text).toBe("OK");
  expect(client.ask(install({ match })).text).toBe("OK");
  expect(refusal(client, install({ direction: "Transmit" }))).toBe("limit"); // three filters
  using other = rig.raw();
  expect(refusal(other, install({ match }))).toBe("not_yours");
  client.open(rig.lab.ifname); // begins anew
  expect(JSON.parse(client.ask("ListFilters").text)).toEqual({ Filters: [] });
  expect(await rig.netd.ask<FilterView[]>("filters")).toEqual([]);
});

test("a firewall of a few lines around a stack: its service is reached, and nothing else", async () => {
  const lines = [
    "allow in established",
    "allow in tcp dst port 8080",
    "deny in",
    "allow out established",
    "deny out",
  ];
  await using rig = await SwitchRig.start({}, ...rules(...lines));
  const lwip = await rig.lwip();
  await lwip.match("tcp", OWN, 8080);
  await lwip.tell("http 8080");
  const got = await curl(`http://${OWN}:8080/5000`, rig.far);
  expect(got).toMatchObject({ code: 0, hash: patternHash(5000) });
  using client = rig.raw();
  client.match({ protocol: 17, dst: OWN, dport: 5000 });
  knock(rig, 7, 5000);
  await until("it to be denied", async () => (await drops(rig))["rx_filtered_system"] !== undefined);
  client.send(fromClient(5000, 53));
  client.send(fromClient(6000, 53)); // a flow of its own
  const views = () => rig.netd.ask<ClientView[]>("clients"); // lwIP sends more that is denied, of its own accord
  await until(
    "those too",
    async () => (await views()).find(({ pid }) => pid === process.pid)!.drops["tx_filtered_system"] === 2,
  );
  const filters = await rig.netd.ask<FilterView[]>("filters");
  expect(filters.map(({ layer, rule }) => `${layer} ${rule}`)).toEqual(lines.map((line) => `system ${line}`));
  expect(filters[1]!.passed).toBeGreaterThan(0); // the handshake's first segment
  expect(filters[3]!.passed).toBeGreaterThan(3);
  expect(filters[2]!.passed).toBe(0);
  expect(filters[2]!.refused).toBeGreaterThan(0);
  expect(filters[4]!.refused).toBeGreaterThan(1);
});

test("rules that are none end the start, with libpcap's words", async () => {
  await using rig = await SwitchRig.start();
  await rig.netd.stop();
  for (const [rule, words] of [
    ["deny out udp and and", /^netd: switch\.rules: deny out udp and and: EINVAL \(.*syntax error/],
    ["allow sideways", /expected \[uid NUMBER\] allow\|deny in\|out/],
    ["deny out bytecode 1;6 0 0", /expected \[uid NUMBER\]/],
  ] as const) {
    using scratch = new Scratch();
    const ended = await run(scratch.socket, onCard(rig.lab, ...rules(rule)));
    expect(ended.code).not.toBe(0);
    expect(ended.err).toMatch(words);
  }
});
