// nl.monitor() with a buffer of 32 MiB while the kernel makes changes as fast as it can: every notification comes, as an
// object and in order, and how many a second that is, against C that only counts them (nlwalk.c).
import { Netlink } from "../src/netlink/netlink.ts";
import { Crowd, NEIGHBOURS, neighbour, ours, print, route } from "./crowd.ts";
import { type Bench, compilePeer, type Sample } from "./harness.ts";

const ROUTES = 100_000;

/** Starts a listener, and once it is ready lets the kernel make changes. */
async function listen(command: string[], make: () => Promise<void>): Promise<Sample> {
  const run = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
  let output = "";
  let making: Promise<void> | undefined;
  for await (const chunk of run.stdout) {
    output += new TextDecoder().decode(chunk);
    if (!making && output.includes("ready\n")) making = make();
  }
  await making;
  if ((await run.exited) !== 0) throw new Error(`${command.join(" ")} failed`);
  const { case: name, value } = JSON.parse(output.split("\n").find((line) => line.startsWith("{"))!);
  return { [name]: value };
}

/** Changes written beforehand, so that the kernel's own rate is the limit. */
async function prepared(
  crowd: Crowd,
  n: number,
  write: (batch: ReturnType<Netlink["batch"]>, i: number) => unknown,
) {
  const nl = await Netlink.open({ netns: crowd.host.netns });
  const batches = Array.from({ length: Math.ceil(n / 20_000) }, (_, k) => {
    const batch = nl.batch();
    for (let i = k * 20_000; i < Math.min(n, (k + 1) * 20_000); i++) write(batch, i);
    return batch;
  });
  return async () => {
    for (const batch of batches) {
      const [refused] = await batch.send();
      if (refused) throw refused.error;
    }
    await nl.close();
  };
}

async function routeChanges(crowd: Crowd) {
  const add = await prepared(crowd, ROUTES, (batch, i) => batch.routes.add(route(i)));
  const remove = await prepared(crowd, ROUTES, (batch, i) => batch.routes.delete({ dst: route(i).dst }));
  return async () => {
    await add();
    await remove();
  };
}

async function neighChanges(crowd: Crowd) {
  const link = crowd.host.ifindex("nd0");
  const add = await prepared(crowd, NEIGHBOURS, (batch, i) => batch.neighs.add({ link, ...neighbour(i) }));
  const remove = await prepared(crowd, NEIGHBOURS, (batch, i) =>
    batch.neighs.delete({ link, dst: neighbour(i).dst }),
  );
  return async () => {
    await add();
    await remove();
  };
}

export const bench: Bench = {
  name: "events",
  about: "notifications as objects at the kernel's own top rate, none lost, against C that counts them",

  async verify() {
    const crowd = new Crowd();
    try {
      await using nl = await Netlink.open({ netns: crowd.host.netns });
      const stop = new AbortController();
      const stream = nl.monitor(["routes4"], { signal: stop.signal });
      const reading = (async () => {
        const seen: string[] = [];
        for await (const { event, object } of stream) {
          if (event === "overrun") throw new Error("notifications were lost");
          seen.push(`${event} ${"dst" in object ? object.dst : ""}`);
          if (seen.length === 40_000) stop.abort();
        }
        return seen;
      })();
      await crowd.each(0, 20_000, (batch, i) => batch.routes.add(route(i)));
      await crowd.each(0, 20_000, (batch, i) => batch.routes.delete(route(i)));
      (await reading).forEach((one, i) => {
        const want = `${i < 20_000 ? "new" : "delete"} ${route(i % 20_000).dst}`;
        if (one !== want) throw new Error(`notification ${i}: ${one}, not ${want}`);
      });
    } finally {
      crowd.close();
    }
  },

  async run(ctx) {
    const walk = compilePeer("nlwalk");
    const crowd = new Crowd();
    const { path } = crowd;
    const kinds = [
      ["route4", "routes4", "route events", routeChanges, 2 * ROUTES],
      // A permanent neighbour's end is told twice.
      ["neigh4", "neighs", "neighbour events", neighChanges, 3 * NEIGHBOURS],
    ] as const;
    try {
      for (const [peerKind, group, name, changes, count] of kinds)
        await ctx.compare({
          unit: "events/s",
          better: "higher",
          rounds: 2,
          peerName: "C counting",
          ours: async () =>
            listen(ours(import.meta.path, path, group, name, String(count)), await changes(crowd)),
          peer: async () => listen([walk, "listen", peerKind, path, name], await changes(crowd)),
        });
    } finally {
      crowd.close();
    }
  },
};

if (import.meta.main) {
  const [netns, group, name, wanted] = process.argv.slice(2) as [
    string,
    "routes4" | "neighs",
    string,
    string,
  ];
  await using nl = await Netlink.open({ netns });
  const stream = nl.monitor([group]);
  let events = 0;
  let overruns = 0;
  let first = 0;
  let last = 0;
  let before = -1;
  // After a loss the count is never reached.
  const idle = setInterval(() => {
    if (events === before) stream.close();
    before = events || -1;
  }, 1000);
  console.log("ready");
  for await (const { event } of stream) {
    if (event === "overrun") overruns++;
    else if (events++ === 0) first = performance.now();
    if (events % 1000 === 0) last = performance.now();
    if (events === Number(wanted)) break;
  }
  clearInterval(idle);
  const { user, system } = process.cpuUsage();
  const each = ((user + system) / events).toFixed(2);
  console.error(`ours: ${events} of ${wanted} events, ${overruns} overruns, ${each} us of CPU each`);
  print(name, (events / (last - first)) * 1000);
}
