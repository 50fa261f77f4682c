// A reader over a read-only mapping against a writer in another thread that never pauses: what is there before and after
// is never missed, nobody gets what was never its own, and a search sees the table as it was at one time.
import { expect, setDefaultTimeout, test } from "bun:test";
import { Region } from "../../src/mem/region.ts";
import { makeAhead, UNKNOWN } from "../../src/switch/table/ahead.ts";
import { TableReader } from "../../src/switch/table/find.ts";
import { tableBytes } from "../../src/switch/table/layout.ts";
import { portsWord } from "../../src/switch/table/pattern.ts";
import {
  addressOf,
  CHURNERS,
  CLIENTS,
  MOVING,
  STABLE,
  TUPLES,
  tuple,
  type WriterBoot,
} from "./table.worker.ts";

setDefaultTimeout(120_000); // a loaded machine; nothing here is timed

test("searches under a writer at full speed", async () => {
  const capacity = { clients: CLIENTS, matches: 150 };
  const table = Region.create("table", tableBytes(capacity));
  const control = Region.create("control", 4096);
  const state = new Int32Array(control.buffer);
  const worker = new Worker(new URL("./table.worker.ts", import.meta.url));
  const messages: string[] = [];
  let wake = () => {};
  const say = (text: string) => {
    messages.push(text);
    wake();
  };
  worker.onmessage = ({ data }) => say(data);
  worker.onerror = ({ message }) => say(`error ${message}`);
  const message = async (): Promise<string> => {
    while (messages.length === 0) await new Promise<void>((resolve) => (wake = resolve));
    return messages.shift()!;
  };
  const boot: WriterBoot = { table: table.ref, control: control.ref, capacity };
  worker.postMessage(boot);
  expect(await message()).toBe("ready");

  const mapping = Region.open(table.ref, "read-only");
  const reader = new TableReader(mapping.buffer, capacity);
  const header = new Int32Array(8);
  const find = (six: boolean, n: number): number => {
    const match = tuple(six ? 10 : 2, n);
    const ports = portsWord(match.sport, match.dport);
    if (!six) return reader.find4(6, match.dst[0]!, match.src[0]!, ports);
    header.set(match.dst, 0);
    header.set(match.src, 4);
    return reader.find6(header, 0, 4, 6, ports);
  };
  // Frames of tuples 0..31, and of the listener and of the one that is now by one match its own, now by another.
  const ahead = makeAhead(reader, 0);
  const numbers = [...Array(32).keys(), 1000, 2000];
  const frames = new Int32Array(numbers.length * 2 * 16);
  const offs = Int32Array.from({ length: numbers.length * 2 }, (_, i) => i * 64 + 2);
  for (const [i, off] of offs.entries()) {
    const { dst, src, dport, sport } = tuple((i & 1) === 1 ? 10 : 2, numbers[i >> 1]!);
    const ip = (off + 14) >> 2;
    const size = (i & 1) === 1 ? 4 : 1;
    frames[ip - 1] = (size === 4 ? 0xdd86 : 0x0008) << 16;
    frames[ip + (size === 4 ? 1 : 2)] = 6 << (size === 4 ? 16 : 8);
    frames.set(src.subarray(0, size), ip + (size === 4 ? 2 : 3));
    frames.set(dst.subarray(0, size), ip + (size === 4 ? 6 : 4));
    frames[ip + (size === 4 ? 10 : 5)] = portsWord(sport, dport);
  }
  const guess = (i: number): number => {
    const { dst, src, dport, sport } = tuple((i & 1) === 1 ? 10 : 2, numbers[i >> 1]!);
    const ports = portsWord(sport, dport);
    if ((i & 1) === 0) return ahead.find4(i, 6, dst[0]!, src[0]!, ports);
    header.set(dst, 0);
    header.set(src, 4);
    return ahead.find6(i, header, 0, 4, 6, ports);
  };
  const guesses = { right: 0, wrong: 0, none: 0 };
  const wrong = { missed: 0, anothers: 0, moving: 0, groups: 0 };
  const seen = { found: 0, none: 0, moved: new Set<number>(), groups: new Set<number>() };
  const out = new Int32Array(CLIENTS + 5);
  for (let i = 0; i < 400_000; i++) {
    const six = (i & 1) === 1;
    if (find(six, 1000 + (i & 31)) !== STABLE) wrong.missed++;
    const n = i % TUPLES;
    const client = find(six, n);
    if (client === -1) seen.none++;
    else if (client === n % CHURNERS) seen.found++;
    else wrong.anothers++;
    if (find(six, 2000) !== MOVING) wrong.moving++;
    seen.moved.add(reader.found[0]!);
    if ((i & 63) === 0) {
      ahead.look(frames, offs, offs.length, false);
      for (let j = 0; j < offs.length; j++) {
        const n = numbers[j >> 1]!;
        const client = guess(j);
        if (client === UNKNOWN) guesses.none++;
        else if (client === (n === 2000 ? MOVING : n === 1000 ? STABLE : n % CHURNERS)) guesses.right++;
        else guesses.wrong++;
      }
    }
    if ((i & 3) === 0) {
      const count = reader.groups4(17, addressOf(2, 9000)[0]!, portsWord(i & 0xffff, 53), out);
      const members = new Set(out.subarray(0, count));
      if (members.size !== count || !members.has(STABLE) || count > CLIENTS) wrong.groups++;
      seen.groups.add(count);
    }
  }
  const rounds = Atomics.load(state, 1);
  Atomics.store(state, 0, 1);
  expect(await message()).toBe("stopped");
  mapping.unmap();
  table.close();
  control.close();
  expect(wrong).toEqual({ missed: 0, anothers: 0, moving: 0, groups: 0 });
  expect(guesses).toMatchObject({ wrong: 0 });
  expect(guesses.right).toBeGreaterThan(100);
  expect(rounds).toBeGreaterThan(1000); // it did write all the while
  expect(seen.found).toBeGreaterThan(1000);
  expect(seen.none).toBeGreaterThan(1000);
  expect(seen.moved.size).toBeGreaterThan(2);
  expect(seen.groups.size).toBeGreaterThan(1);
  console.log(`${rounds} rounds`);
});
