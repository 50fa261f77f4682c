// A client that rewrites its frames while they are being sent, from another thread, by memif and by its Unix socket: nothing
// that its filter refuses gets out, not a byte. NETD_RACE_SECONDS makes it longer.
import { expect, setDefaultTimeout, test } from "bun:test";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { LAB_LLADDR, LAB_PEER_LLADDR } from "../../src/lab/lab.ts";
import { MemifClient } from "../../src/link/memif/client.ts";
import type { FilterView } from "../../src/view.ts";
import { command } from "./child.ts";
import { frame } from "./packet.ts";
import type { Rewriting } from "./rewriter.ts";
import { RawSocket } from "./raw.ts";
import { OWN, PEER, SwitchRig } from "./switch.ts";
import { until } from "./wait.ts";

const SECONDS = Number(process.env["NETD_RACE_SECONDS"] ?? 1);
setDefaultTimeout((SECONDS * 2 + 60) * 1000);

const GOOD = 0x01010101;
const BAD = 0x02020202;
const WORDS = 5; // of the payload, that are rewritten and judged
const SLOTS = 16;
const FRAME = frame({
  ...{ srcMac: LAB_LLADDR, dstMac: LAB_PEER_LLADDR, src: OWN, dst: PEER, sport: 5001, dport: 5555 },
  payload: new Uint8Array(64).fill(1),
  checksum: 0,
});
const PAYLOAD = 42;
const EXPRESSION = Array.from({ length: WORDS }, (_, i) => `udp[${8 + i * 4}:4] = ${GOOD}`).join(" and ");

/** Rewrites the frames at these offsets, 2 mod 4, while `during` runs. */
async function rewriting(
  buffer: SharedArrayBuffer,
  offs: readonly number[],
  during: () => Promise<void>,
): Promise<number> {
  const worker = new Worker(new URL("./rewriter.ts", import.meta.url).href);
  const stop = new SharedArrayBuffer(4);
  const rounds = new Promise<number>((resolve) => {
    worker.onmessage = ({ data }) => resolve(data);
  });
  const words = offs.map((off) => Array.from({ length: WORDS }, (_, i) => (off + PAYLOAD) / 4 + i));
  const each = (value: number) => new Array<number>(WORDS).fill(value);
  worker.postMessage({ buffer, words, good: each(GOOD), bad: each(BAD), stop } satisfies Rewriting);
  try {
    await during();
  } finally {
    Atomics.store(new Int32Array(stop), 0, 1);
  }
  const n = await rounds;
  worker.terminate();
  return n;
}

/** What arrived at the far side, and what of it should not have. */
class Watch implements Disposable {
  arrived = 0;
  private readonly socket: RawSocket;

  constructor({ lab }: SwitchRig) {
    this.socket = new RawSocket(lab.peer, lab.peerIfindex);
  }

  look(): void {
    for (let one = this.socket.receive(); one !== undefined; one = this.socket.receive()) {
      if (one[23] !== 17 || ((one[34]! << 8) | one[35]!) !== 5001) continue;
      this.arrived++;
      const judged = one.subarray(PAYLOAD, PAYLOAD + WORDS * 4);
      if (judged.some((byte) => byte !== 1)) throw new Error(`got out: ${Buffer.from(one).toString("hex")}`);
    }
  }

  [Symbol.dispose](): void {
    this.socket.close();
  }
}

const program = Bun.spawnSync(
  command(["filter", "compile", "--form", "numbers", EXPRESSION]),
).stdout.toString();

/** Sends until the time is over; `send` fills what room there is. */
async function race(rig: SwitchRig, watch: Watch, send: () => void): Promise<void> {
  const some = (): void => {
    for (let i = 0; i < 100; i++) {
      send();
      watch.look();
    }
  };
  for (const end = performance.now() + SECONDS * 1000; performance.now() < end; await Bun.sleep(0)) some();
  const filter = await until("frames that pass and frames that do not", async () => {
    some();
    const [one] = await rig.netd.ask<FilterView[]>("filters");
    return one!.passed > 50 && one!.refused > 50 && watch.arrived > 50 && one;
  });
  console.log(`${watch.arrived} arrived; ${filter.passed} passed, ${filter.refused} refused`);
}

test("by memif", async () => {
  await using rig = await SwitchRig.start();
  using watch = new Watch(rig);
  using raw = rig.raw();
  const { fd } = raw.ask({ RequestMemif: [rig.lab.ifname, process.pid] });
  using client = new MemifClient({ server: fd, log2: Math.log2(SLOTS), lead: 2 });
  raw.match({ protocol: 17, dst: OWN, dport: 5001 });
  expect(raw.ask({ InstallFilter: { direction: "Transmit", program } }).text).toBe("OK");
  const ring = client.toServer[0]!;
  const offs = Array.from({ length: SLOTS }, (_, i) => ring.slot(i));
  for (const off of offs) ring.bytes.set(FRAME, off);
  const rounds = await rewriting(client.memory.buffer as unknown as SharedArrayBuffer, offs, () =>
    race(rig, watch, () => {
      const { room } = ring;
      for (let i = 0; i < room; i++) ring.fill(i, FRAME.length);
      if (room > 0) ring.send(room);
    }),
  );
  expect(rounds).toBeGreaterThan(1000);
});

test("by its Unix socket", async () => {
  await using rig = await SwitchRig.start();
  using watch = new Watch(rig);
  using raw = rig.raw();
  raw.match({ protocol: 17, dst: OWN, dport: 5001 });
  expect(raw.ask({ InstallFilter: { direction: "Transmit", program } }).text).toBe("OK");
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const bytes = new Uint8Array(memory.buffer);
  const offs = Array.from({ length: SLOTS }, (_, i) => 2 + i * 256);
  for (const off of offs) bytes.set(FRAME, off);
  const rounds = await rewriting(memory.buffer as unknown as SharedArrayBuffer, offs, () =>
    race(rig, watch, () => {
      for (const off of offs) libc.sendto(raw.channel, ptr(bytes, off), FRAME.length, 0x4040, null, 0);
    }),
  );
  expect(rounds).toBeGreaterThan(1000);
});
