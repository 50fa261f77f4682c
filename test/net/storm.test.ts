// The storm: routes and neighbours of both families change as fast as the kernel takes it, the event socket's buffer
// is far too small, and all the while a reader looks up what never changes. Afterwards every table is the kernel's.
// Brief here; NETD_STORM=30 makes it last that long, with 100,000 routes to begin with (10^8 lookups and more).
import { expect, setDefaultTimeout, test } from "bun:test";
import { Host } from "../../src/lab/host.ts";
import { newNeigh } from "../../src/netlink/neigh.ts";
import { newRoute } from "../../src/netlink/routeset.ts";
import { swap32 } from "../../src/wire/address.ts";
import { differences, kernelTables, ourTables } from "../diff/compare.ts";
import { NetlinkThread } from "./netlinkthread.ts";
import type { StormBoot } from "./stormreader.ts";
import { until } from "./wait.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const SECONDS = Number(process.env["NETD_STORM"] ?? 2);
const STILL = 16_384; // routes that never change, 10.128.0.0/24 and on
const OTHERS = SECONDS > 10 ? 100_000 - STILL : 2000;
const NEIGHBOURS = 256;
const v4 = (value: number, prefixLen: number) => ({ family: 2, words: [swap32(value)], prefixLen });

test(
  "a storm of changes with a small buffer: what stays is always found, and in the end all is right (fault 6)",
  async () => {
    await using stack = new AsyncDisposableStack();
    const host = stack.use(new Host("storm"));
    const far = stack.use(new Host("storm far"));
    const [ifindex] = host.veth("a0", far, "b0");
    host.addr("a0", "10.0.0.1/16");
    host.addr("a0", "10.1.0.1/16");
    host.addr("a0", "fd00::1/64");
    host.nl.batch((m) => {
      for (let i = 0; i < STILL; i++)
        newRoute(m, { dst: v4((0x0a800000 | (i << 8)) >>> 0, 24), via: `10.0.0.${2 + (i & 7)}` });
      for (let i = 0; i < OTHERS; i++)
        newRoute(m, { dst: v4((0x20000000 + i * 256) >>> 0, 24), via: `10.0.0.${2 + (i & 7)}` });
      newRoute(m, { dst: "fd0f::/16", via: "fd00::9" });
      for (let i = 0; i < NEIGHBOURS; i++)
        newNeigh(m, { ifindex, dst: `10.1.1.${i}`, lladdr: [2, 0, 0, 0, 0x70, i] });
    });
    const thread = await NetlinkThread.start(host.netns, { receiveBytes: 2048 });
    stack.defer(() => thread.close());

    const shared = new SharedArrayBuffer(64);
    const seen = new Int32Array(shared);
    const reader = new Worker(new URL("./stormreader.ts", import.meta.url).href);
    const ended = new Promise((resolve) => {
      reader.onmessage = resolve;
    });
    reader.postMessage({
      netbase: thread.base.ref,
      epochs: thread.epochs.ref,
      slot: 1,
      ifindex,
      shared,
      routes: STILL,
      neighbours: NEIGHBOURS,
    } satisfies StormBoot);
    await until("the reader", () => seen[2]! > 0);

    const writer = Bun.spawn(
      [process.execPath, `${import.meta.dir}/stormwriter.ts`, host.netns.path, `${ifindex}`, `${SECONDS}`],
      { stdout: "pipe", stderr: "inherit" },
    );
    const changes = Number(await new Response(writer.stdout).text());
    expect(await writer.exited).toBe(0);
    const stopped = performance.now();
    await until("everything to settle", () => thread.count("settled") === 1, 60_000);
    const settled = performance.now() - stopped;

    let found: string[] = [];
    for (let tries = 0; tries < 20; tries++) {
      found = differences(ourTables({ reader: thread.reader }), kernelTables(host));
      if (found.length === 0) break;
      await Bun.sleep(100);
    }
    expect(found.slice(0, 20)).toEqual([]);
    Atomics.store(seen, 0, 1);
    await ended;
    const lookups = seen[3]! * 0x40000000 + seen[2]!;
    console.log(
      `${thread.reader.stats.routes4.entries} + ${thread.reader.stats.routes6.entries} routes, ${changes} changes, ${thread.count("events")} events, ${thread.count("overruns")} overruns, ${thread.count("interrupted")} dumps not quiet, ${lookups} lookups; settled ${settled.toFixed(0)} ms after the last change, ${thread.count("slowestMs").toFixed(0)} ms at the worst`,
    );
    expect(thread.count("overruns")).toBeGreaterThan(0);
    expect(seen[4]).toBe(0);
    expect(lookups).toBeGreaterThan(100_000);
  },
  60_000 + SECONDS * 4000,
);
