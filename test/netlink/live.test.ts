// Notifications in order, and live views: what they hold is what a dump says, also after storms that overran them and
// after changes of which the kernel says nothing.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Netlink, Netns, type Notice, type Route } from "netd/netlink";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

let ns: Netns;
let nl: Netlink;
beforeAll(async () => {
  ns = Netns.create();
  nl = await Netlink.open({ netns: ns });
  await nl.links.change("lo", { up: true });
  await nl.links.add({ name: "v0", info: { kind: "veth", data: { peer: { name: "v1" } } }, up: true });
  await nl.links.change("v1", { up: true });
  await nl.addrs.add({ link: "v1", address: "10.0.0.1/16" });
  await nl.addrs.add({ link: "v1", address: "fd00::1/64", flags: ["nodad"] });
});
afterAll(async () => {
  await nl.close();
  ns.close();
});

test("a notification of each change, of each kind, in order", async () => {
  const stop = new AbortController();
  const stream = nl.monitor(["links", "addrs", "routes", "nexthops", "neighs", "rules"], {
    signal: stop.signal,
  });
  const seen: Notice[] = [];
  const reading = (async () => {
    for await (const notice of stream) {
      seen.push(notice);
      if (notice.kind === "links" && notice.event === "delete") stop.abort();
    }
  })();
  await nl.links.add({ name: "br0", info: { kind: "bridge" } });
  await nl.links.change("br0", { mtu: 1400 });
  await nl.addrs.add({ link: "br0", address: "10.9.0.1/24" });
  await nl.routes.add({ dst: "10.1.0.0/16", via: "10.0.0.2" });
  await nl.routes.append({ dst: "10.1.0.0/16", via: "10.0.0.3" });
  await nl.routes.replace({ dst: "10.1.0.0/16", via: "10.0.0.4" });
  await nl.routes.delete({ dst: "10.1.0.0/16", via: "10.0.0.3" });
  await nl.routes.delete({ dst: "10.1.0.0/16" });
  await nl.nexthops.add({ id: 5, link: "v1", via: "10.0.0.2" });
  await nl.nexthops.delete(5);
  await nl.neighs.add({ link: "v1", dst: "10.0.0.9", lladdr: "02:00:00:00:00:09" });
  await nl.rules.add({ family: "inet", priority: 9, table: 1000 });
  await nl.rules.delete({ family: "inet", priority: 9 });
  await nl.neighs.delete({ link: "v1", dst: "10.0.0.9" });
  await nl.links.delete("br0");
  await reading;
  const br0 = seen.filter((n) => n.kind === "links" && n.object.name === "br0" && !n.object.family);
  expect(br0.map((n) => [n.event, n.kind === "links" && n.object.mtu])).toEqual([
    ["new", 1500],
    ["new", 1400],
    ["delete", 1400],
  ]);
  const ours = seen.flatMap((n): unknown[][] => {
    if (n.kind === "routes") return n.object.dst === "10.1.0.0/16" ? [[n.event, n.object.via, n.flags]] : [];
    if (n.kind === "nexthops") return [[n.event, n.object.id]];
    if (n.kind === "neighs") return n.object.dst === "10.0.0.9" ? [[n.event, n.object.state]] : [];
    if (n.kind === "rules") return [[n.event, n.object.priority]];
    return [];
  });
  expect(ours).toEqual([
    ["new", "10.0.0.2", { exclusive: true, create: true }],
    ["new", "10.0.0.3", { create: true, append: true }],
    ["new", "10.0.0.4", { replace: true }],
    ["delete", "10.0.0.3", {}],
    ["delete", "10.0.0.4", {}],
    ["new", 5],
    ["delete", 5],
    ["new", "permanent"],
    ["new", 9],
    ["delete", 9],
    ["new", "failed"],
    ["delete", "failed"],
  ]);
  expect(seen.some((n) => n.kind === "addrs" && n.object.address === "10.9.0.1/24")).toBe(true);
});

test("an overrun is told in its place, and the subscription goes on", async () => {
  const stream = nl.monitor(["routes4"], { receiveBytes: 1024 }); // room for a few
  const batch = nl.batch();
  for (let i = 0; i < 5000; i++) batch.routes.add({ dst: `20.${i >> 8}.${i & 255}.0/24`, type: "blackhole" });
  expect(await batch.send()).toEqual([]);
  const again = { dst: "30.0.0.0/8", type: "blackhole" } as const;
  let told = 0;
  let overruns = 0;
  for await (const notice of stream) {
    if (notice.kind === "overrun") {
      // The last overrun is after all of the 5000, and this after that.
      if (overruns++ > 0) await nl.routes.delete(again);
      await nl.routes.add(again);
    } else if (notice.kind === "routes" && notice.object.dst.startsWith("20.")) told++;
    else if (notice.event === "new") break;
  }
  expect(overruns).toBeGreaterThan(0);
  expect(told).toBeGreaterThan(0);
  expect(told).toBeLessThan(5000);
  for (let i = 0; i < 5000; i++) batch.routes.delete({ dst: `20.${i >> 8}.${i & 255}.0/24` });
  batch.routes.delete({ dst: "30.0.0.0/8" });
  expect(await batch.send()).toEqual([]);
});

/** Without what changes all the time, and in an order of its own. */
const VOLATILE = ["times", "probes", "statistics", "stats32", "afSpec", "change"];
const plain = (objects: Iterable<object>): string[] =>
  [...objects]
    .map((o) =>
      JSON.stringify(Object.fromEntries(Object.entries(o).filter(([key]) => !VOLATILE.includes(key)))),
    )
    .sort();

/** Of group addresses the kernel makes neighbours without a word. */
const telling = (o: object): boolean =>
  !("state" in o) || o.state !== "noarp" || ("type" in o && o.type === 1);

async function agrees(live: { values(): Iterable<object>; synced: boolean }, dump: () => Promise<object[]>) {
  for (let tries = 0; ; tries++) {
    if (live.synced) {
      const before = plain(await dump());
      const here = plain(live.values());
      if (Bun.deepEquals(before, here)) return;
      if (tries > 200) expect(here).toEqual(before);
    } else if (tries > 400) throw new Error("never synced");
    await Bun.sleep(10);
  }
}

test("a live view tells what there is, what changes, and when it is synced", async () => {
  const live = nl.routes.live({ table: 1000 });
  await nl.routes.add({ dst: "10.1.0.0/16", via: "10.0.0.2", table: 1000 });
  await live.ready();
  const events: string[] = [];
  for await (const { event, object } of live) {
    events.push(`${event} ${object?.dst ?? ""} ${object?.via ?? ""}`.trim());
    if (event === "synced" && events.length === 2) {
      await nl.routes.add({ dst: "10.2.0.0/16", via: "10.0.0.2", table: 1000 });
      await nl.routes.add({ dst: "10.3.0.0/16", via: "10.0.0.2" }); // not in the table
      await nl.routes.replace({ dst: "10.2.0.0/16", via: "10.0.0.3", table: 1000 });
      await nl.routes.delete({ dst: "10.1.0.0/16", table: 1000 });
    }
    if (event === "removed") break;
  }
  expect(events).toEqual([
    "added 10.1.0.0/16 10.0.0.2",
    "synced",
    "added 10.2.0.0/16 10.0.0.2",
    "changed 10.2.0.0/16 10.0.0.3",
    "removed 10.1.0.0/16 10.0.0.2",
  ]);
  expect([...live.values()].map((route: Route) => route.dst)).toEqual(["10.2.0.0/16"]);
  live.close();
  for (const route of await nl.routes.dump({ protocol: "static" }).toArray()) await nl.routes.delete(route);
});

test("views of all kinds follow what happens, also without a word: links down, addresses gone, nexthops gone", async () => {
  const views = {
    links: nl.links.live(),
    addrs: nl.addrs.live(),
    routes: nl.routes.live(),
    nexthops: nl.nexthops.live(),
    neighs: nl.neighs.live(),
    rules: nl.rules.live(),
  };
  const all = async () => {
    for (const [kind, view] of Object.entries(views))
      await agrees(view, async () =>
        ((await nl[kind as keyof typeof views].dump().toArray()) as object[]).filter((o) => telling(o)),
      );
  };
  await all();
  await nl.nexthops.add({ id: 5, link: "v1", via: "10.0.0.2" });
  await nl.nexthops.add({ id: 6, group: [{ id: 5 }] });
  await nl.routes.add({ dst: "10.5.0.0/16", nhid: 6 });
  await nl.routes.add({ dst: "10.6.0.0/16", nexthops: [{ via: "10.0.0.2" }, { via: "10.0.0.3" }] });
  await nl.routes.add({ dst: "fd05::/64", nexthops: [{ via: "fd00::2" }, { via: "fd00::3" }] });
  await nl.routes.append({ dst: "fd05::/64", via: "fd00::4" });
  await nl.neighs.add({ link: "v1", dst: "10.0.0.9", lladdr: "02:00:00:00:00:09" });
  await nl.rules.add({ family: "inet6", priority: 9, table: 1000 });
  await all();
  await nl.routes.delete({ dst: "fd05::/64", via: "fd00::3" });
  await all();
  await nl.nexthops.delete(5);
  await all();
  expect([...views.routes.values()].some((route) => route.nhid === 6)).toBe(false);
  await nl.links.change("v1", { up: false });
  await all();
  expect([...views.routes.values()].some((route) => route.dst === "10.6.0.0/16")).toBe(false);
  await nl.links.change("v1", { up: true });
  await all();
  await nl.addrs.delete({ link: "v1", address: "10.0.0.1/16" });
  await all();
  await nl.addrs.add({ link: "v1", address: "10.0.0.1/16" });
  await nl.rules.delete({ family: "inet6", priority: 9 });
  await all();
  for (const view of Object.values(views)) view.close();
}, 60_000);

const SEED = Number(process.env["NETD_SEED"] ?? Date.now() & 0x7fffffff);
test(`a storm that overruns a view leaves it right (NETD_SEED=${SEED})`, async () => {
  let state = SEED || 1;
  const random = (below: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  const routes = nl.routes.live({}, { receiveBytes: 2048 });
  const neighs = nl.neighs.live({}, { receiveBytes: 2048 });
  // What the events say must be what the view holds.
  const held = new Map<string, number>();
  const count = (route: Route, by: number) => {
    const key = plain([route])[0]!;
    held.set(key, (held.get(key) ?? 0) + by);
    if (held.get(key) === 0) held.delete(key);
  };
  const reading = (async () => {
    for await (const event of routes) {
      if (event.event === "synced") continue;
      if (event.event === "changed") count(event.before, -1);
      count(event.object, event.event === "removed" ? -1 : 1);
    }
  })();
  await Promise.all([routes.ready(), neighs.ready()]);
  for (let round = 0; round < 12; round++) {
    const batch = nl.batch();
    for (let i = 0; i < 4000; i++) {
      const dst = `40.${random(16)}.${random(200)}.0/24`;
      const via = `10.0.0.${2 + random(5)}`;
      const what = random(10);
      if (what < 4) batch.routes.add({ dst, via });
      else if (what < 5) batch.routes.append({ dst, via });
      else if (what < 6) batch.routes.replace({ dst, via });
      else if (what < 8) batch.routes.delete({ dst });
      else if (what < 9)
        batch.routes.add({ dst: `fd40:${random(500).toString(16)}::/64`, via: `fd00::${2 + random(5)}` });
      else
        batch.neighs.replace({
          link: "v1",
          dst: `10.0.${1 + random(200)}.${random(250)}`,
          lladdr: "02:00:00:00:00:09",
        });
    }
    await batch.send();
    if (round % 3 === 1) await nl.links.change("v1", { up: round % 2 === 0 });
    if (round % 4 === 3) await Bun.sleep(5);
  }
  await nl.links.change("v1", { up: true });
  expect(routes.resyncs).toBeGreaterThan(0);
  expect(neighs.resyncs).toBeGreaterThan(0);
  await agrees(routes, () => nl.routes.dump().toArray());
  await agrees(neighs, async () => (await nl.neighs.dump().toArray()).filter((o) => telling(o)));
  const told = [...held].flatMap(([key, n]) => Array<string>(n).fill(key)).sort();
  expect(told).toEqual(plain(routes.values()));
  routes.close();
  neighs.close();
  await reading;
}, 60_000);

test("aborting and closing ends every stream", async () => {
  const stop = new AbortController();
  const own = await Netlink.open({ netns: ns });
  const view = own.links.live({}, { signal: stop.signal });
  const other = own.links.live();
  const stream = own.monitor(["links"]);
  const ends = [view, other, stream].map(async (one) => {
    for await (const _ of one);
  });
  await view.ready();
  stop.abort();
  await ends[0];
  await own.close();
  await Promise.all(ends);
  expect(() => own.routes.live({}, { signal: AbortSignal.abort() })).toThrow();
});
