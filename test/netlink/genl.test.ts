// Generic netlink: families by name, ethtool and netdev-genl on a veth, against `genl`-free truth: sysfs and ethtool(8).
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Netlink, NetlinkError } from "netd/netlink";
import { Host } from "../../src/lab/host.ts";
import { run } from "./view.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

let host: Host;
let nl: Netlink;
beforeAll(async () => {
  host = new Host("genl");
  nl = await Netlink.open({ netns: host.netns });
  await nl.links.add({
    name: "v0",
    info: { kind: "veth", data: { peer: { name: "v1" } } },
    txQueues: 4,
    rxQueues: 4,
    up: true,
  });
  await nl.links.change("v1", { up: true });
});
afterAll(async () => {
  await nl.close();
  host.close();
});

test("families, their operations and groups, and one by name", async () => {
  const families = await nl.genl.families();
  expect(families.length).toBeGreaterThan(2);
  const ethtool = families.find(({ name }) => name === "ethtool")!;
  expect(ethtool.operations!.length).toBeGreaterThan(20);
  expect(ethtool.operations!.find(({ id }) => id === 15)!.flags).toEqual(["do", "dump", "policy"]);
  expect(ethtool.groups!.map(({ name }) => name)).toContain("monitor");
  const one = await nl.genl.family("ethtool");
  expect(one).toMatchObject({ id: ethtool.id, name: "ethtool", version: 1 });
  expect(await nl.genl.family("nlctrl")).toMatchObject({ id: 16 });
  const error = await nl.genl.family("no-such-family").catch((thrown) => thrown);
  expect(error).toBeInstanceOf(NetlinkError);
  expect(error).toMatchObject({ op: "CTRL_CMD_GETFAMILY", code: "ENOENT" });
});

test("ethtool: channels, link state, features", async () => {
  expect(await nl.ethtool.channels("v0")).toMatchObject({ rxMax: 4, txMax: 4, rxCount: 4, txCount: 4 });
  await nl.ethtool.setChannels("v0", { rxCount: 2, txCount: 3 });
  expect(await nl.ethtool.channels(nl.ifindex("v0"))).toMatchObject({
    rxCount: 2,
    txCount: 3,
    header: { name: "v0" },
  });
  expect(run(host, "ethtool", "-l", "v0")).toMatch(/Current hardware settings:\s+RX:\s+2\s+TX:\s+3/);
  expect(await nl.ethtool.linkState("v0")).toMatchObject({ link: true });
  await nl.links.change("v1", { up: false });
  expect(await nl.ethtool.linkState("v0")).toMatchObject({ link: false });
  await nl.links.change("v1", { up: true });

  const features = await nl.ethtool.features("v0");
  const shown = run(host, "ethtool", "-k", "v0");
  for (const [name, { active, changeable }] of features) {
    const line = new RegExp(`^\\s*${name}: (on|off)( \\[fixed\\])?`, "m").exec(shown);
    if (!line) continue; // ethtool shows a few under older names
    expect([name, active, changeable]).toEqual([name, line[1] === "on", line[2] === undefined]);
  }
  expect(features.get("tx-checksum-ip-generic")).toEqual({ active: true, wanted: true, changeable: true });
  await nl.ethtool.setFeatures("v0", { "tx-checksum-ip-generic": false });
  expect((await nl.ethtool.features("v0")).get("tx-checksum-ip-generic")!.active).toBe(false);
  await nl.ethtool.setFeatures("v0", { "tx-checksum-ip-generic": true });
});

test("ethtool: refusals have a reason and an attribute", async () => {
  const refusal = (what: Promise<unknown>): Promise<NetlinkError> =>
    what.then(
      () => expect.unreachable(),
      (thrown) => thrown,
    );
  expect(await refusal(nl.ethtool.rings("lo"))).toMatchObject({
    op: "ETHTOOL_MSG_RINGS_GET",
    code: "EOPNOTSUPP",
  });
  expect(await refusal(nl.ethtool.linkState("nowhere"))).toMatchObject({
    code: "ENODEV",
    attribute: "ETHTOOL_A_LINKSTATE_HEADER.ETHTOOL_A_HEADER_DEV_NAME",
  });
  expect(await refusal(nl.ethtool.setChannels("v0", { rxCount: 99 }))).toMatchObject({
    code: "EINVAL",
    text: "requested channel count exceeds maximum",
    attribute: "ETHTOOL_A_CHANNELS_RX_COUNT",
  });
  const unknown: NetlinkError = await refusal(nl.ethtool.setFeatures("v0", { "no-such-feature": true }));
  expect(unknown).toMatchObject({ text: "bit name not found" });
  expect(unknown.attribute).toContain("ETHTOOL_A_FEATURES_WANTED");
});

test("netdev: XDP features and queues", async () => {
  const devices = await nl.netdev.devices();
  const index = nl.ifindex("v0");
  expect(devices.map(({ link }) => link)).toContain(index);
  const device = await nl.netdev.device("v0");
  expect(device).toEqual(devices.find(({ link }) => link === index)!);
  expect(device.xdpFeatures).toEqual(expect.arrayContaining(["basic", "redirect", "rxSg"]));
  const queues = await nl.netdev.queues("v0");
  expect(queues.filter(({ type }) => type === "rx").map(({ id }) => id)).toEqual([0, 1]);
  expect(queues.filter(({ type }) => type === "tx").map(({ id }) => id)).toEqual([0, 1, 2]);
  const error = await nl.netdev.device(9999).catch((thrown) => thrown);
  expect(error).toMatchObject({ op: "NETDEV_CMD_DEV_GET", code: "ENODEV" });
});

test("a family's notifications, its group found by name", async () => {
  const stop = new AbortController();
  const stream = await nl.genl.monitor("ethtool", "monitor", { signal: stop.signal });
  await nl.ethtool.setChannels("v0", { rxCount: 1 });
  for await (const { command } of stream) {
    expect(command).toBe(19); // ETHTOOL_MSG_CHANNELS_NTF
    stop.abort();
  }
  await expect(nl.genl.monitor("ethtool", "no-such-group")).rejects.toThrow("ENOENT");
});
