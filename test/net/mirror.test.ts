// The netlink Worker as a thread, against the kernel: solicitation from the ring to the table, floods, freshness.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { Lab } from "../../src/lab/lab.ts";
import { NUD_PERMANENT, NUD_REACHABLE, NUD_STALE } from "../../src/netlink/constants.ts";
import { newNeigh } from "../../src/netlink/neigh.ts";
import { ip } from "../diff/compare.ts";
import { NetlinkThread } from "./netlinkthread.ts";
import { until } from "./wait.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const USABLE = 0xde;

/** A lab and the netlink Worker on its daemon's side. */
async function running(options: Parameters<typeof Lab.create>[0] = {}) {
  const stack = new AsyncDisposableStack();
  const lab = stack.use(Lab.create(options));
  const thread = await NetlinkThread.start(lab.daemon);
  stack.defer(() => thread.close());
  return { lab, thread, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

test("a message on the ring resolves a neighbour of either family, a gateway too", async () => {
  await using made = await running();
  const { lab, thread } = made;
  for (const address of ["10.77.0.3", "fd77::2", "10.77.0.2"]) {
    expect(thread.state(lab.ifindex, address)).toBe(0);
    expect(thread.ask(lab.ifindex, address)).toBe(true);
    await until(`${address} to be resolved`, () => thread.state(lab.ifindex, address) & NUD_REACHABLE);
  }
  await until("the counters", () => thread.count("solicitResolved") === 3);
  expect(thread.count("solicitSent")).toBe(3);
});

test("what is not ours, not on link, our own, or a group's is not asked for; a wrong index harms nobody (fault 9)", async () => {
  await using made = await running();
  const { lab, thread } = made;
  const { ifindex } = lab;
  for (const [index, address] of [
    [9999, "10.77.0.3"],
    [-1, "10.77.0.3"],
    [0x7fffffff, "fd77::2"],
    [1, "127.0.0.2"], // lo needs no neighbours
    [ifindex, "8.8.8.8"], // no route
    [ifindex, "10.78.0.2"], // behind a gateway
    [ifindex, "10.77.0.1"], // our own
    [ifindex, "10.77.0.255"],
    [ifindex, "224.0.0.1"],
    [ifindex, "255.255.255.255"],
    [ifindex, "0.0.0.0"],
    [ifindex, "fd77::1"],
    [ifindex, "ff02::1"],
    [ifindex, "::1"],
    [ifindex, "2001:db8::1"],
  ] as const)
    expect(thread.ask(index, address)).toBe(true);
  expect(thread.push(ifindex, 99, new Int32Array(4))).toBe(true);
  thread.ask(ifindex, "10.77.0.3");
  await until("the last one, which is right", () => thread.state(ifindex, "10.77.0.3"));
  await until("the counters", () => thread.count("solicitReceived") === 17);
  expect(thread.count("solicitSent")).toBe(1);
  expect(thread.count("solicitBadInterface")).toBe(4);
  expect(thread.count("solicitBadAddress")).toBe(9);
  expect(thread.count("solicitOffLink")).toBe(3);
  expect(ip(lab.daemonHost, "neigh", "show", "nud", "all").filter((n) => n["dst"] === "8.8.8.8")).toEqual([]);
});

test("a flood of 100,000 made-up sources in a /16 fills up neither table, and a true one gets through (fault 2)", async () => {
  await using made = await running({ addrs: ["10.90.0.1/16"], peerAddrs: ["10.90.255.1/16"] });
  const { lab, thread } = made;
  const { ifindex } = lab;
  const words = new Int32Array(4);
  const known = ["10.77.0.2", "10.77.0.3"];
  for (const address of known) thread.ask(ifindex, address);
  await until("the known neighbours", () => known.every((address) => thread.state(ifindex, address)));
  let asked = false;
  let most = 0;
  for (let i = 0; i < 100_000; ) {
    // As fast as the Worker takes them: a full ring drops, so wait for it.
    words[0] = 10 | (90 << 8) | (((i >>> 8) & 0xff) << 16) | ((i & 0xff) << 24);
    if (!thread.push(ifindex, 2, words, 0, i % 64 === 0)) {
      thread.thread.wake();
      await Bun.sleep(1);
      continue;
    }
    if (++i % 10_000 !== 0) continue;
    if (i >= 50_000) asked = thread.ask(ifindex, "10.90.255.1") || asked;
    most = Math.max(most, ip(lab.daemonHost, "neigh", "show", "nud", "all").length);
    for (const address of known) expect(thread.state(ifindex, address) & USABLE).not.toBe(0);
  }
  expect(asked).toBe(true);
  await until("the true one", () => {
    thread.ask(ifindex, "10.90.255.1");
    return thread.state(ifindex, "10.90.255.1");
  });
  most = Math.max(most, ip(lab.daemonHost, "neigh", "show", "nud", "all").length);
  expect(most).toBeLessThan(250);
  expect(thread.reader.neighs().length).toBeLessThan(10);
  expect(thread.count("solicitUnresolved")).toBeLessThanOrEqual(96);
  expect(thread.count("overruns")).toBe(0);
}, 60_000);

test("a stale neighbour that traffic uses is confirmed (fault 10); a permanent one is left as it is", async () => {
  await using made = await running();
  const { lab, thread } = made;
  const { ifindex } = lab;
  lab.daemonHost.sysctl("net/ipv4/neigh/nd0/delay_first_probe_time", 1);
  lab.daemonHost.sysctl("net/ipv6/neigh/nd0/delay_first_probe_time", 1);
  const addresses = ["10.77.0.2", "fd77::2"];
  for (const address of addresses) thread.ask(ifindex, address);
  await until("both", () => addresses.every((address) => thread.state(ifindex, address) === NUD_REACHABLE));
  const set = (dst: string, state: number, lladdr: string) =>
    lab.daemonHost.nl.call((m) => newNeigh(m, { ifindex, dst, state, lladdr }));
  for (const address of addresses) set(address, NUD_STALE, "02:00:00:00:77:02");
  set("10.77.0.99", NUD_PERMANENT, "02:00:00:00:00:99");
  await until("stale", () => addresses.every((address) => thread.state(ifindex, address) === NUD_STALE));
  for (const address of [...addresses, "10.77.0.99"]) thread.ask(ifindex, address, 1);
  await until("fresh", () => addresses.every((address) => thread.state(ifindex, address) === NUD_REACHABLE));
  expect(thread.state(ifindex, "10.77.0.99")).toBe(NUD_PERMANENT);
  await until("the counters", () => thread.count("solicitRefreshed") === 2);
});

test("a neighbour that moved is seen with its new address", async () => {
  await using made = await running();
  const { lab, thread } = made;
  thread.ask(lab.ifindex, "10.77.0.2");
  await until("the neighbour", () => thread.state(lab.ifindex, "10.77.0.2"));
  lab.daemonHost.nl.call((m) =>
    newNeigh(m, { ifindex: lab.ifindex, dst: "10.77.0.2", lladdr: "02:00:00:00:00:42", state: NUD_STALE }),
  );
  await until("its new address", () => {
    thread.state(lab.ifindex, "10.77.0.2");
    return (thread.reader.neigh4.mac1 & 0xffff) === 0x4200;
  });
});

test("what the kernel says of a neighbour is in the table within a millisecond", async () => {
  await using made = await running();
  const { lab, thread } = made;
  const { ifindex } = lab;
  const waits: number[] = [];
  for (let i = 1; i <= 200; i++) {
    const lladdr = [2, 0, 0, 0, i, 7];
    const asked = performance.now(); // before the kernel could tell
    lab.daemonHost.nl.call((m) => newNeigh(m, { ifindex, dst: "10.77.0.50", lladdr, state: NUD_REACHABLE }));
    do waits[i - 1] = performance.now() - asked;
    while (
      waits[i - 1]! < 1000 &&
      !(thread.state(ifindex, "10.77.0.50") && (thread.reader.neigh4.mac1 & 0xffff) === ((7 << 8) | i))
    );
  }
  waits.sort((a, b) => a - b);
  console.log(
    `told ${(waits[100]! * 1000).toFixed()} us after the change was asked for, ${(waits[198]! * 1000).toFixed()} us at the worst but one`,
  );
  expect(waits[50]).toBeLessThan(1); // of a loaded machine's better moments
});

test("started and stopped many times, nothing is left", async () => {
  const fds = () => readdirSync("/proc/self/fd").length;
  using lab = Lab.create();
  const once = async () => {
    const thread = await NetlinkThread.start(lab.daemon);
    expect(thread.reader.links.find(lab.ifindex)).not.toBe(0);
    await thread.close();
  };
  await once(); // what stays open after the first time stays open
  const before = fds();
  for (let i = 0; i < 10; i++) await once();
  await until("all threads to end", () => fds() <= before);
}, 60_000);

test("a namespace that cannot be entered is an error, not a Worker that hangs", async () => {
  const nowhere = { fd: 9999 } as Parameters<typeof NetlinkThread.start>[0];
  await expect(NetlinkThread.start(nowhere)).rejects.toThrow(/9999/);
});
