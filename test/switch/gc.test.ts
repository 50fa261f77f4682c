// The net loop allocates nothing, nor does the switch, with its system calls or without, nor a socket of netd/client: a child runs them over many frames
// (NETD_FRAMES=1e8 for longer) with the engine's log of collections on, one due every 256 KiB, and there is none.
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const BYTES = 256 * 1024; // allocated between two collections
const FRAMES = Number(process.env["NETD_FRAMES"] ?? 1e7);

test.each([
  ["the net loop", "gcloop.ts", FRAMES],
  ["the switch", "gcswitch.ts", FRAMES / 50],
  ["the pass over frames by memif", "gcforward.ts", FRAMES],
  ["a socket of netd/client", "../client/gcecho.ts", FRAMES / 50],
])(
  "%s: %s over %p frames without a collection",
  async (_, script, frames) => {
    const child = Bun.spawn([process.execPath, join(import.meta.dir, script), String(frames)], {
      // Without the limit a heap that maps large tables is not collected before hundreds of megabytes.
      env: { ...process.env, BUN_JSC_logGC: "1", BUN_JSC_gcMaxHeapSize: String(BYTES) },
      stderr: "pipe",
    });
    const log = await child.stderr.text();
    expect(await child.exited, log).toBe(0);
    const [before, rest = ""] = log.split("\nBEGIN\n");
    const [during = "", after] = rest.split("\nEND\n");
    const collections = (part = "") => [...part.matchAll(/=> (Eden|Full)Collection/g)].length;
    expect(collections(before)).toBeGreaterThan(0); // the log is there: the child asked for one
    expect(collections(after)).toBeGreaterThan(0); // and it goes on, where objects are made
    expect(collections(during), during).toBe(0);
  },
  120_000,
);
