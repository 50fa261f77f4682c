// Large tables out of the kernel: 1M routes and 64k neighbours as columns and as objects, against C that only walks the
// messages (nlwalk.c), against libnl's and pyroute2's objects, and against `ip` and `ip -j`, which print them.
// pyroute2 takes a minute for a million: it is held to 100k. Both sides dump as often (TIMES), and the best counts.
import { readFileSync } from "node:fs";
import { Netlink } from "../src/netlink/netlink.ts";
import {
  child,
  Crowd,
  installed,
  neighbour,
  NEIGHBOURS,
  ours,
  print,
  ROUTES,
  route,
  timed,
} from "./crowd.ts";
import { type Bench, compilePeer } from "./harness.ts";

const SOME = 100_000;
const LIBNL = "/usr/include/libnl3/netlink/netlink.h";
const PYROUTE2 = "/usr/lib/python3/dist-packages/pyroute2/__init__.py";

type Kind = "route4" | "neigh4";
/** A dump of neighbours is short: caches and compilers are warm only after a few. */
const TIMES = { route4: 4, neigh4: 12 } as const;

export const bench: Bench = {
  name: "dump",
  about: "1M routes and 64k neighbours, as columns and as objects, against C, libnl, pyroute2, ip and ip -j",

  async verify() {
    const crowd = new Crowd();
    try {
      await crowd.routes(0, 20_000);
      await crowd.neighbours(0, 1000);
      await using nl = await Netlink.open({ netns: crowd.host.netns });
      const columns = await nl.routes.columns({ table: "main" });
      const objects = await nl.routes.dump({ table: "main", family: "inet" }).toArray();
      if (columns.length !== 20_001 || objects.length !== 20_001) throw new Error("routes are missing");
      objects.forEach((object, i) => {
        const { dst, via } = i === 0 ? { dst: "10.0.0.0/8", via: undefined } : route(i - 1);
        if (object.dst !== dst || object.via !== via) throw new Error(`object ${i} is not route ${dst}`);
        if (columns.prefix(i) !== dst || columns.via(i) !== via)
          throw new Error(`row ${i} is not route ${dst}`);
      });
      const neighs = await nl.neighs.columns();
      const found = new Map(
        Array.from({ length: neighs.length }, (_, i) => [neighs.address(i), neighs.lladdrText(i)]),
      );
      for (let i = 0; i < 1000; i++)
        if (found.get(neighbour(i).dst) !== neighbour(i).lladdr) throw new Error(`neighbour ${i} is missing`);
    } finally {
      crowd.close();
    }
  },

  async run(ctx) {
    const walk = compilePeer("nlwalk");
    const libnl = installed(LIBNL, "libnl-route-3-dev")
      ? compilePeer("nllibnl", ["-I/usr/include/libnl3", "-lnl-route-3", "-lnl-3"])
      : undefined;
    if (!libnl) ctx.note("libnl is left out: libnl-route-3-dev could not be installed");
    const pyroute2 = installed(PYROUTE2, "python3-pyroute2");
    if (!pyroute2) ctx.note("pyroute2 is left out: python3-pyroute2 could not be installed");
    const crowd = new Crowd();
    const { path } = crowd;
    const script = new URL("./peers/nlpyroute2.py", import.meta.url).pathname;
    const ms = { unit: "ms", better: "lower", rounds: 3 } as const;

    const against = async (kind: Kind, size: string) => {
      const side = (mode: string, name: string) => () =>
        child(ours(import.meta.path, mode, kind, path, name));
      const columns = `${size}, columns`;
      const objects = `${size}, objects`;
      await ctx.compare({
        ...ms,
        peerName: "C walker",
        ours: side("columns", columns),
        peer: () => child([walk, kind, path, columns, String(TIMES[kind])]),
      });
      if (libnl)
        await ctx.compare({
          ...ms,
          peerName: "libnl",
          ours: side("objects", objects),
          peer: () => child([libnl, kind, path, objects, String(kind === "neigh4" ? TIMES[kind] : 1)]),
        });
      const what =
        kind === "route4" ? ["-4", "route", "show", "table", "main"] : ["-4", "neigh", "show", "nud", "all"];
      for (const [peerName, ...flags] of [["ip"], ["ip -j", "-j"]] as const)
        await ctx.compare({
          ...ms,
          rounds: 1,
          peerName,
          ours: side("objects", objects),
          peer: () => timed(objects, path, "ip", ...flags, ...what),
        });
    };
    const python = async (kind: Kind, size: string) => {
      const name = `${size}, objects`;
      if (pyroute2)
        await ctx.compare({
          ...ms,
          rounds: 1,
          peerName: "pyroute2",
          ours: () => child(ours(import.meta.path, "objects", kind, path, name)),
          peer: () => child(["nsenter", `--net=${path}`, "--", "/usr/bin/python3", script, kind, name]),
        });
    };
    try {
      await crowd.neighbours(0, NEIGHBOURS);
      await against("neigh4", "64k neighbours");
      await python("neigh4", "64k neighbours");
      await crowd.routes(0, SOME);
      await python("route4", "100k routes");
      await crowd.routes(SOME, ROUTES);
      await against("route4", "1M routes");
      const name = "1M routes, columns, peak memory";
      await ctx.compare({
        unit: "MiB",
        better: "lower",
        rounds: 1,
        peerName: "the goal",
        ours: () => child(ours(import.meta.path, "memory", "route4", path, name)),
        peer: () => ({ [name]: 150 }),
      });
    } finally {
      crowd.close();
    }
  },
};

/** Most MiB resident at any time. */
const peak = (): number =>
  Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]) / 1024;

if (import.meta.main) {
  const [mode, kind, netns, name] = process.argv.slice(2) as [string, Kind, string, string];
  await using nl = await Netlink.open({ netns });
  const dump = {
    columns: async () =>
      (await (kind === "route4" ? nl.routes.columns({ table: "main" }) : nl.neighs.columns())).length,
    objects: async () =>
      (
        await (kind === "route4"
          ? nl.routes.dump({ table: "main", family: "inet" })
          : nl.neighs.dump({ family: "inet" })
        ).toArray()
      ).length,
  };
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < (mode === "memory" ? 1 : TIMES[kind]); i++) {
    const start = performance.now();
    const n = await dump[mode === "objects" ? "objects" : "columns"]();
    best = Math.min(best, performance.now() - start);
    if (n < 1000) throw new Error(`only ${n}`);
  }
  print(name, mode === "memory" ? peak() : best);
}
