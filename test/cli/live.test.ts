import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { bits } from "../../src/live.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const live = join(import.meta.dir, "../../src/live.ts");
const out = join(import.meta.dir, "../../src/out.ts");

/** A child that shows three samples, one second apart by their own clock, and the summary. */
function script(json: boolean, tty: boolean, count: number): string {
  return `
    const { Live } = await import(${JSON.stringify(live)});
    const { drained } = await import(${JSON.stringify(out)});
    const live = new Live(${json}, "netd in a test", ${tty});
    let ended = false;
    process.on("SIGTERM", () => { ended = true; });
    live.hints(["try this", "or that"]);
    let sample;
    for (let i = 1; i <= ${count} && !ended; i++) {
      sample = {
        t: 5000 + i * 1000, rxPackets: 1000 * i, rxBytes: 64000 * i, txPackets: 500 * i * i, txBytes: 32000 * i * i,
        drops: { no_match: 3 * i, runt: 0 }, mode: "copy", echo: { sent: 10 * i, received: 9 * i, lost: 0 },
        neighbours: () => [{ dst: "10.77.0.2", dev: "nd0", lladdr: "02:00:00:00:00:02", state: ["REACHABLE"] }],
        routes: () => [{ family: "inet", type: "unicast", dst: "default", gateway: "10.77.0.2", dev: "nd0", table: "main", protocol: "boot", flags: [] }],
        total: { neighbours: 1, routes: 12345 },
      };
      live.update(sample);
      await Bun.sleep(1);
    }
    live.summary({ ...sample, leftovers: ended ? ["ended"] : [] });
    await drained();
    if (ended) console.error("ended early");
    process.exit(0);`;
}

async function run(json: boolean, tty: boolean, env: Record<string, string> = {}): Promise<string> {
  const child = Bun.spawn([process.execPath, "-e", script(json, tty, 3)], {
    env: { ...process.env, ...env },
  });
  const text = await child.stdout.text();
  expect(await child.exited).toBe(0);
  return text;
}

test("bits a second, with the unit that fits", () => {
  const cases: [number, string][] = [
    [0, "0 bit/s"],
    [999, "999 bit/s"],
    [1000, "1.0 kbit/s"],
    [999_940, "999.9 kbit/s"],
    [999_960, "1.0 Mbit/s"],
    [9_876_543_210, "9.9 Gbit/s"],
    [1e16, "10000.0 Tbit/s"],
  ];
  for (const [value, text] of cases) expect(bits(value)).toBe(text);
});

describe("a run", () => {
  test("--json: an object a second with counters and rates, then the summary", async () => {
    const lines = (await run(true, false))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines).toHaveLength(4);
    expect(lines[2]).toEqual({
      t: 8,
      rxPackets: 3000,
      rxBytes: 192000,
      txPackets: 4500,
      txBytes: 288000,
      drops: { no_match: 9, runt: 0 },
      mode: "copy",
      echo: { sent: 30, received: 27, lost: 0 },
      rxPps: 1000,
      rxBps: 512000,
      txPps: 2500,
      txBps: 1280000,
      neighbours: 1,
      routes: 12345,
    });
    expect(lines[3]).toEqual({
      echo: { sent: 30, received: 27, lost: 0 },
      rx: 3000,
      tx: 4500,
      drops: { no_match: 9, runt: 0 },
      mode: "copy",
      leftovers: [],
    });
  });

  test("into a pipe: what to try, a line a sample, the totals; no escape sequences", async () => {
    const text = await run(false, false);
    const lines = text.split("\n");
    expect(text).not.toContain("\x1b");
    expect(lines.slice(0, 3)).toEqual(["netd in a test", "try this", "or that"]);
    expect(lines[5]!.trim()).toMatch(
      /^0 s {2}rx 1,000 p\/s 512\.0 kbit\/s {2}tx 2,500 p\/s 1\.3 Mbit\/s {2}echo: 30 sent, 27 received, 0 lost {2}drops 9 {2}mode copy {2}neighbours 1 {2}routes 12,345$/,
    );
    expect(lines.slice(6)).toEqual([
      "",
      "received 3,000 packets, sent 4,500, queue mode copy",
      "echo: 30 sent, 27 received, 0 lost",
      "dropped: no_match 9",
      "nothing left behind",
      "",
    ]);
  });

  test("on a terminal: one screen that repaints itself and fits", async () => {
    const text = await run(false, true);
    const screens = text.split("\x1b[?7l").slice(1);
    expect(screens).toHaveLength(3);
    const [painted] = screens[2]!.split("\x1b[?7h");
    const lines = painted!.trimEnd().split("\n");
    expect(lines.length).toBeLessThan(24);
    expect(text).toContain(`\x1b[${lines.length}A\r\x1b[J\x1b[?7l`);
    expect(lines.join("\n")).toBe(
      `
netd in a test  0 s, queue mode copy

             PACKETS/S         BITS/S          PACKETS
received         1,000   512.0 kbit/s            3,000
sent             2,500     1.3 Mbit/s            4,500

echo: 30 sent, 27 received, 0 lost

DROPPED              PACKETS/S          PACKETS
no_match                     3                9

NEIGHBOUR         DEV  LLADDR             STATE
10.77.0.2         nd0  02:00:00:00:00:02  REACHABLE

ROUTE             DEV  VIA        TYPE     TABLE
default           nd0  10.77.0.2  unicast  main
and 12,344 more: netd show routes

try this
or that`.slice(1),
    );
  });

  test("ends as by SIGTERM when nobody reads any more", async () => {
    const child = Bun.spawn([process.execPath, "-e", script(false, false, 5000)], { stderr: "pipe" });
    const reader = child.stdout.getReader();
    await reader.read();
    await reader.cancel();
    expect(await child.stderr.text()).toBe("ended early\n");
    expect(await child.exited).toBe(0);
  });
});
