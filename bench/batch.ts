// 100k routes added and deleted through nl.batch(), text and all, against batched C (nlbatch.c) and `ip -batch`.
// The kernel's own part bounds all of it: the C peer spends no time of its own (0.00 user s), so that its ratio to
// `ip -batch`, measured beside ours, is the most that any program can have.
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Netlink } from "../src/netlink/netlink.ts";
import { child, Crowd, ours, print, route, timed } from "./crowd.ts";
import { type Bench, compilePeer, type Sample } from "./harness.ts";

const ROUTES = 100_000;
const ADD = "add 100k routes";
const DELETE = "delete 100k routes";

/** Encoded and sent: ms. */
async function change(nl: Netlink, what: "add" | "delete", n: number): Promise<number> {
  const start = performance.now();
  const batch = nl.batch();
  for (let i = 0; i < n; i++) batch.routes[what](route(i));
  const [refused] = await batch.send();
  const took = performance.now() - start;
  if (refused) throw refused.error;
  return took;
}

export const bench: Bench = {
  name: "batch",
  about: "adding and deleting 100k routes in batches, against C and ip -batch",

  async verify() {
    const crowd = new Crowd();
    try {
      await using nl = await Netlink.open({ netns: crowd.host.netns });
      const count = async () => (await nl.routes.columns({ protocol: "static" })).length;
      await change(nl, "add", 10_000);
      if ((await count()) !== 10_000) throw new Error(`${await count()} of 10000 routes are there`);
      await change(nl, "delete", 10_000);
      if ((await count()) !== 0) throw new Error(`${await count()} routes are left`);
    } finally {
      crowd.close();
    }
  },

  async run(ctx) {
    const peer = compilePeer("nlbatch");
    const crowd = new Crowd();
    const { path } = crowd;
    const dir = mkdtempSync(join(tmpdir(), "netd-batch-"));
    try {
      const lines = (what: string) =>
        Array.from({ length: ROUTES }, (_, i) => `route ${what} ${route(i).dst} via ${route(i).via}\n`).join(
          "",
        );
      writeFileSync(join(dir, "add"), lines("add"));
      writeFileSync(join(dir, "del"), lines("del"));
      const ms = {
        unit: "ms",
        better: "lower",
        rounds: 3,
        ours: () => child(ours(import.meta.path, path)),
      } as const;
      await ctx.compare({ ...ms, peerName: "C", peer: () => child([peer, path, String(ROUTES)]) });
      const batched = async () => ({
        ...(await timed(ADD, path, "ip", "-batch", join(dir, "add"))),
        ...(await timed(DELETE, path, "ip", "-batch", join(dir, "del"))),
      });
      await ctx.compare({ ...ms, rounds: 1, peerName: "ip -batch", peer: batched });
      const bound = (sample: Sample): Sample => ({
        [`${ADD}: C, the most there can be`]: sample[ADD]!,
        [`${DELETE}: C, the most there can be`]: sample[DELETE]!,
      });
      await ctx.compare({
        ...ms,
        rounds: 1,
        peerName: "ip -batch",
        ours: async () => bound(await child([peer, path, String(ROUTES)])),
        peer: async () => bound(await batched()),
      });
    } finally {
      rmSync(dir, { recursive: true });
      crowd.close();
    }
  },
};

if (import.meta.main) {
  await using nl = await Netlink.open({ netns: process.argv[2]! });
  let add = Number.POSITIVE_INFINITY;
  let del = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3; i++) {
    add = Math.min(add, await change(nl, "add", ROUTES));
    del = Math.min(del, await change(nl, "delete", ROUTES));
  }
  print(ADD, add);
  print(DELETE, del);
}
