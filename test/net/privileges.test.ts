// What a running daemon has of root: each of its threads, as the kernel has it.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { KEPT_TO_ENTER } from "../../src/privileges.ts";
import { SwitchRig } from "./switch.ts";

setDefaultTimeout(120_000);

test("weakness: it runs as root to the end", async () => {
  await using rig = await SwitchRig.start(); // in another network namespace than its own
  const { pid } = rig.netd.child;
  const kept = KEPT_TO_ENTER.reduce((bits, cap) => bits | (1n << BigInt(cap)), 0n);
  const more = (name: string, status: string): bigint =>
    BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)`, "m").exec(status)![1]}`) & ~kept;
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    const status = readFileSync(`/proc/${pid}/task/${tid}/status`, "utf8");
    expect([more("CapPrm", status), more("CapEff", status), more("CapBnd", status)]).toEqual([0n, 0n, 0n]);
    expect(status).toContain("NoNewPrivs:\t1");
  }
});
