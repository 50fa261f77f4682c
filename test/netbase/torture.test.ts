// A reader over a read-only mapping against a writer in another thread that never pauses: nothing torn, nothing that
// is there before and after ever missed, no answer that was never given.
import { expect, setDefaultTimeout, test } from "bun:test";
import { SimLink } from "../../src/link/sim.ts";
import { Counters } from "../../src/mem/counters.ts";
import { epochBytes } from "../../src/mem/epoch.ts";
import { Region } from "../../src/mem/region.ts";
import { Ring } from "../../src/mem/ring.ts";
import { type Capacity, layout, NH_GATEWAY, NH_OIF } from "../../src/netbase/layout.ts";
import { FOUND_MAC0, FOUND_MAC1, FOUND_WORDS } from "../../src/netbase/many.ts";
import { NetbaseReader } from "../../src/netbase/netbase.ts";
import { LOOP_COUNTERS, NetLoop } from "../../src/switch/loop.ts";
import { MatchTable } from "../../src/switch/match.ts";
import { Solicitor } from "../../src/switch/solicit.ts";
import { Transmit } from "../../src/switch/transmit.ts";
import { udpFrame } from "../../src/wire/frame.ts";
import { small, words } from "./make.ts";
import type { WriterBoot } from "./writer.worker.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const roomy = { ...small, neighbours4: 2000, neighbours6: 2000 };

async function against(
  churn: WriterBoot["churn"],
  read: (reader: NetbaseReader) => void,
  capacity: Capacity = roomy,
): Promise<void> {
  const netbase = Region.create("netbase", layout(capacity).bytes);
  const epochs = Region.create("epochs", epochBytes(1));
  const control = Region.create("control", 4096);
  const state = new Int32Array(control.buffer);
  const worker = new Worker(new URL("./writer.worker.ts", import.meta.url));
  const messages: string[] = [];
  let wake = () => {};
  worker.onmessage = ({ data }) => {
    messages.push(data);
    wake();
  };
  worker.onerror = ({ message }) => {
    messages.push(`error ${message}`);
    wake();
  };
  const message = async (): Promise<string> => {
    while (messages.length === 0) await new Promise<void>((resolve) => (wake = resolve));
    return messages.shift()!;
  };
  const boot: WriterBoot = {
    netbase: netbase.ref,
    epochs: epochs.ref,
    control: control.ref,
    capacity,
    churn,
  };
  worker.postMessage(boot);
  expect(await message()).toBe("ready");
  const reader = NetbaseReader.open(netbase.ref, epochs.ref, 0);
  try {
    read(reader);
  } finally {
    const rounds = Atomics.load(state, 1);
    Atomics.store(state, 0, 1);
    expect(await message()).toBe("stopped");
    reader.close();
    for (const region of [netbase, epochs, control]) region.close();
    expect(rounds).toBeGreaterThan(10); // it did write all the while
  }
}

/** The last two bytes of an address that the writer made from its first four. */
const tailOf = (mac0: number): number => Math.imul(mac0, 0x9e3779b1) >>> 16;

test("neighbours, 64 at a time, 10^7 reads: none torn, none missed", async () => {
  let torn = 0;
  let missed = 0;
  const seen = new Set<number>();
  await against("neighs", (reader) => {
    const many = reader.many(64 * (FOUND_WORDS + 4));
    const { words } = many;
    const questions = 64 * FOUND_WORDS;
    const tornOnes = (): number => {
      let n = 0;
      for (let at = 0; at < questions; at += FOUND_WORDS)
        if (words[at] !== 0 && (words[at + FOUND_MAC1]! & 0xffff) !== tailOf(words[at + FOUND_MAC0]!)) n++;
      return n;
    };
    for (let n = 0; n < 40_000; n++) {
      const passing = 1000 + ((n * 64) % 5000);
      for (const [find, size] of [
        [many.find4, 1],
        [many.find6, 4],
      ] as const) {
        for (let i = 0; i < 64 * size; i++) words[questions + i] = 1 + Math.floor(i / size);
        missed += 64 - find(questions, 64, 0, 2);
        torn += tornOnes();
        if ((n & 255) === 0) seen.add(words[FOUND_MAC0]!);
        for (let i = 0; i < 64 * size; i++) words[questions + i] = passing + Math.floor(i / size);
        find(questions, 64, 0, 3);
        torn += tornOnes();
      }
      reader.quiesce();
    }
  });
  expect({ torn, missed }).toEqual({ torn: 0, missed: 0 });
  expect(seen.size).toBeGreaterThan(10);
}, 140_000);

test("neighbours that take each other's slots, 64 at a time: each has its own address", async () => {
  let foreign = 0;
  let missed = 0;
  for (let netbase = 0; netbase < 24; netbase++)
    await against(
      "card",
      (reader) => {
        const { words, find4 } = reader.many(64 * (FOUND_WORDS + 1));
        const questions = 64 * FOUND_WORDS;
        const host = (i: number): number => 64 + (i & 15);
        for (let i = 0; i < 64; i++) words[questions + i] = 0x4d0a | (host(i) << 24);
        for (let n = 0; n < 50_000; n++) {
          find4(questions, 64, 0, 2);
          for (let i = 0; i < 64; i++) {
            const at = i * FOUND_WORDS;
            if (words[at] === 0) missed += host(i) < 72 ? 1 : 0;
            else if ((words[at + FOUND_MAC0]! & 0xff) !== host(i)) foreign++;
          }
          reader.quiesce();
        }
      },
      { ...small, neighbours4: 16 },
    );
  expect({ foreign, missed }).toEqual({ foreign: 0, missed: 0 });
}, 140_000);

test("neighbours, 2 x 10^7 reads: none torn, none missed (fault 7)", async () => {
  let torn = 0;
  let missed = 0;
  const seen = new Set<number>();
  await against("neighs", (reader) => {
    const { neigh4, neigh6 } = reader;
    for (let n = 0; n < 5_000_000; n++) {
      const ip = 1 + (n & 63);
      if (neigh4.find(ip, 2) !== 2) missed++;
      if ((neigh4.mac1 & 0xffff) !== tailOf(neigh4.mac0)) torn++;
      if ((n & 0xffff) === 0) seen.add(neigh4.mac0);
      if (neigh6.find(ip, ip, ip, ip, 2) !== 2) missed++;
      if ((neigh6.mac1 & 0xffff) !== tailOf(neigh6.mac0)) torn++;
      const passing = 1000 + (n % 5000);
      if (neigh4.find(passing, 3) !== 0 && (neigh4.mac1 & 0xffff) !== tailOf(neigh4.mac0)) torn++;
      if (
        neigh6.find(passing, passing, passing, passing, 3) !== 0 &&
        (neigh6.mac1 & 0xffff) !== tailOf(neigh6.mac0)
      )
        torn++;
      if ((n & 63) === 0) reader.quiesce();
    }
  });
  expect({ torn, missed }).toEqual({ torn: 0, missed: 0 });
  expect(seen.size).toBeGreaterThan(10); // entries did change under the reader
}, 140_000);

/** A question from a host of 10.77.0.0/24 to UDP port 7 of the writer's card. */
const question = (host: number): Uint8Array => {
  const dstMac = Uint8Array.of(2, 0, 0, 0, 0, 2);
  const [src, dst] = [words(`10.77.0.${host}`)[0]!, words("10.77.0.1")[0]!];
  return udpFrame({ dstMac, srcMac: dstMac, src, dst, sport: 8, dport: 7, payload: new Uint8Array(22) });
};

test("frames that the net loop sends while neighbours change: each has one address, its host's, and is sent", async () => {
  const FRAMES = 64;
  const counts: Record<string, number> = {};
  let mixed = 0;
  let foreign = 0;
  const seen = new Set<number>();
  await against("card", (reader) => {
    const link = new SimLink(FRAMES, 2048);
    const matches = new MatchTable(new ArrayBuffer(MatchTable.bytes(16)), 16);
    matches.set({ protocol: 17, address: words("10.77.0.1")[0]!, port: 7 }, 0);
    const asked = new Ring(new ArrayBuffer(Ring.bytes(16)), 0, 16);
    const transmit = new Transmit(link.words, reader, new Solicitor(asked, -1), 2);
    transmit.refresh();
    const loop = new NetLoop(link, matches, reader, transmit, { partialChecksums: false });
    const frames = Array.from({ length: 16 }, (_, i) => question(64 + i));
    for (let n = 0; n < 40_000; n++) {
      for (let i = 0; i < FRAMES; i++) link.inject(frames[i & 15]!);
      loop.turn();
      for (const frame of link.sent()) {
        const mac0 = frame[0]! | (frame[1]! << 8) | (frame[2]! << 16) | (frame[3]! << 24);
        if ((frame[4]! | (frame[5]! << 8)) !== tailOf(mac0)) mixed++;
        if (frame[0] !== frame[33]) foreign++;
        if (frame[33] === 70) seen.add(mac0);
      }
      reader.quiesce();
    }
    const counters = new Counters(LOOP_COUNTERS, new ArrayBuffer(Counters.bytes(LOOP_COUNTERS)), 0);
    loop.publish(counters);
    Object.assign(counts, counters.snapshot());
    link.close();
  });
  expect({ mixed, foreign }).toEqual({ mixed: 0, foreign: 0 });
  expect(seen.size).toBeGreaterThan(10);
  // Those that are always there are always found; the others are not there half of the time.
  const { rxPackets, txPackets, no_neighbour } = counts;
  expect(rxPackets).toBe(40_000 * FRAMES);
  expect(txPackets! + no_neighbour!).toBe(rxPackets!);
  expect(txPackets).toBeGreaterThanOrEqual(rxPackets! / 2);
}, 140_000);

test("routes of both families: no gap, no mixture, no answer that was never given", async () => {
  // Where a lookup may lead: what never changes must be found, what comes and goes falls back to what covers it.
  const always = [
    "10.1.1.130",
    "10.1.2.3",
    "10.200.0.1",
    "2001:db8:2::1",
    "2001:db8:1:1::1",
    "2001:db8:1:1:0:1::",
  ];
  const targets = [
    ...always,
    "10.1.1.1",
    "10.1.1.200",
    "10.1.2.4",
    "9.1.1.1",
    "2001:db8:1:1::2",
    "2001:1::",
    "2001:db8:1:9000::1",
  ];
  const wrong: string[] = [];
  const answers = targets.map(() => new Set<number>());
  await against("routes", (reader) => {
    const { words: base } = reader;
    const keys = targets.map((text) => ({ six: text.includes(":"), w: words(text) }));
    for (let n = 0; n < 1_000_000; n++) {
      for (let i = 0; i < keys.length; i++) {
        const { six, w } = keys[i]!;
        const nh = six ? reader.fib6.lookup(w[0]!, w[1]!, w[2]!, w[3]!) : reader.fib4.lookup(w[0]!);
        const oif = nh === 0 ? 0 : base[nh + NH_OIF]!;
        const gateway = nh === 0 ? 0 : base[nh + NH_GATEWAY + (six ? 3 : 0)]! >>> 24;
        answers[i]!.add(oif);
        if (oif !== gateway || oif > 9 || oif === 1)
          wrong.push(`${targets[i]} oif ${oif} gateway ${gateway}`);
      }
      reader.quiesce();
    }
  });
  expect(wrong.slice(0, 10)).toEqual([]);
  // The /32 and the /128 are covered by nothing longer: one answer. The others have a stable route below: never none.
  expect([...answers[1]!]).toEqual([2]);
  expect([...answers[4]!]).toEqual([2]);
  targets.forEach((text, i) => {
    const stable = /^10\.|^2001:db8/.test(text);
    expect({ text, none: answers[i]!.has(0) }).toEqual({ text, none: stable ? false : answers[i]!.has(0) });
  });
  expect(answers.some((one) => one.size > 1)).toBe(true);
}, 140_000);

test("a write through a reader's mapping is a SIGSEGV", () => {
  const child = Bun.spawnSync([
    process.execPath,
    "-e",
    `import { makeNetbase } from ${JSON.stringify(`${import.meta.dir}/make.ts`)};
     const { reader } = makeNetbase();
     console.log("before", reader.words[0] !== 0);
     reader.words[0] = 1;
     console.log("after");`,
  ]);
  expect(child.stdout.toString()).toBe("before true\n");
  expect(child.signalCode as string).toBe("SIGSEGV");
});
