// Fragments of one packet that come by two queues of the card: they meet, whichever comes first.
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpus } from "node:os";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { LAB_LLADDR, LAB_PEER_LLADDR } from "../../src/lab/lab.ts";
import { addMatch, Asker } from "../switch/asker.ts";
import * as f from "../switch/packets.ts";
import { RawSocket } from "./raw.ts";
import { OWN, SwitchRig } from "./switch.ts";
import { until } from "./wait.ts";

setDefaultTimeout(60_000);

const MASK_BYTES = 128;
const PAYLOAD = Array.from({ length: 64 }, (_, i) => i);

/** Runs something on one CPU. */
function on(cpu: number, run: () => void): void {
  const before = new Uint8Array(new ArrayBuffer(MASK_BYTES));
  const mask = new Uint8Array(new ArrayBuffer(MASK_BYTES));
  mask[cpu >> 3] = 1 << (cpu & 7);
  libc.sched_getaffinity(0, MASK_BYTES, ptr(before));
  expect(libc.sched_setaffinity(0, MASK_BYTES, ptr(mask))).toBe(0);
  run();
  libc.sched_setaffinity(0, MASK_BYTES, ptr(before));
}

test.skipIf(cpus().length < 2)("a packet's fragments come by two queues, in either order", async () => {
  await using rig = await SwitchRig.start({ queues: 2 });
  const { lab } = rig;
  using raw = new RawSocket(lab.peer, lab.peerIfindex);
  raw.byCpu();
  using client = new Asker(`${rig.scratch.path}/client`);
  const channel = client.channel(rig.control, lab.ifname);
  expect(client.ask(rig.control, addMatch(OWN, 5000, { protocol: 17 }))?.text).toBe("OK");

  const whole = f.udp({ dport: 5000, payload: PAYLOAD });
  const macs = { srcMac: LAB_PEER_LLADDR, dstMac: LAB_LLADDR };
  const pieces = (id: number): Uint8Array<ArrayBuffer>[] => [
    Uint8Array.from(f.packet({ ...macs, id, fragment: 0x2000, l4: whole.slice(0, 24) })),
    Uint8Array.from(f.packet({ ...macs, id, fragment: 0x0003, l4: whole.slice(24) })),
  ];
  const buffer = new Uint8Array(new ArrayBuffer(2048));
  const receive = async (): Promise<string> => {
    const n = await until("a frame", () => {
      const got = Number(libc.recvfrom(channel, ptr(buffer), buffer.length, 0, null, null));
      return got > 0 && got;
    });
    return f.hex(buffer.subarray(0, n));
  };
  for (let id = 1; id <= 20; id++) {
    const [first, later] = pieces(id);
    const isFirst = id % 2 === 0;
    on(0, () => raw.send(isFirst ? first! : later!));
    if (id % 3 === 0) await Bun.sleep(20);
    on(1, () => raw.send(isFirst ? later! : first!));
    const got = [await receive(), await receive()];
    expect({ id, got: got.sort() }).toEqual({ id, got: [f.hex(first!), f.hex(later!)].sort() });
  }
  const queues = await rig.netd.ask<{ rxPackets: number }[]>("queues");
  for (const { rxPackets } of queues) expect(rxPackets).toBeGreaterThanOrEqual(20);
});
