// The neighbour table: ns a hit and a miss at 1k, 16k and 64k entries, both families, quiet and with a writer in
// another thread that rewrites entries at full speed; one by one, and 64 at a time as frames come (netbase/many.ts); against
// the same table in C at -O3, by the same two ways (peers/neigh.c).
// 65,536 addresses are asked for over and over: too many for the branch predictor to learn, few enough not to measure how
// fast the questions come out of memory. Of each side the best of 20 passes counts: what else the machine does, and what
// our compiler has not done yet, only ever adds time, and to both alike; a pass has a million lookups and evens out luck.
// Entries of IPv6 are twice as long: 16k of them are in a table of 2 MiB, more than a core's own caches have, and one by one a
// hit takes over 10 ns from there on, in C as well.
// Verification: every entry is found with its own address, others are not, and the writer does write meanwhile
// (torn reads are test/netbase/torture.test.ts's matter).
import { epochBytes } from "../src/mem/epoch.ts";
import { Region, type RegionRef } from "../src/mem/region.ts";
import { defaultCapacity, layout } from "../src/netbase/layout.ts";
import { FOUND_WORDS } from "../src/netbase/many.ts";
import { NetbaseReader, NetbaseWriter } from "../src/netbase/netbase.ts";
import { NeighRow } from "../src/netbase/rows.ts";
import { AF_INET, AF_INET6, swap32 } from "../src/wire/address.ts";
import { type Bench, type Context, compilePeer, cores, runChild, script } from "./harness.ts";
import { generator } from "./prefixes.ts";

const IFINDEX = 2;
const ASKED = 65_536;
const ROUNDS = 16;
const PASSES = 20;
const BATCH = 64;
const LOOKUPS = ASKED * ROUNDS; // a pass
const ENTRIES = [1024, 16_384, 65_536];
const ABSENT = 1_000_000; // the number of the first address that is not in the table

type Kind = "hit" | "miss";
type Load = "quiet" | "busy";
type Way = "single" | "batch";

/** Four words of the n-th address: 10.x.y.z, or fd77::h:n. The same as in peers/neigh.c. */
function address(six: boolean, n: number, out: Int32Array, at: number): void {
  out[at] = six ? 0x77fd : 0x0a | swap32(n & 0xffffff);
  out[at + 1] = 0;
  out[at + 2] = Math.imul(n, 0x9e3779b1);
  out[at + 3] = n;
}

class Table {
  readonly writer: NetbaseWriter;
  private readonly row = new NeighRow();

  constructor(netbase: RegionRef, epochs: RegionRef, entries: number) {
    const capacity = { ...defaultCapacity, neighbours4: entries, neighbours6: entries };
    const open = (ref: RegionRef) => Region.open(ref, "read-write");
    this.writer = new NetbaseWriter(open(netbase), open(epochs), capacity);
    this.row.ifindex = IFINDEX;
    this.row.state = 2;
    this.row.lladdrLen = 6;
  }

  put(six: boolean, n: number, mac: number): void {
    const { row } = this;
    row.family = six ? AF_INET6 : AF_INET;
    address(six, n, row.dst, 0);
    for (let i = 0; i < 4; i++) row.lladdr[i] = mac >>> (i * 8);
    row.lladdr[4] = mac;
    row.lladdr[5] = mac >>> 8;
    this.writer.neighs.upsert(row);
  }
}

declare const self: Worker;

interface Boot {
  netbase: RegionRef;
  epochs: RegionRef;
  /** word 0: stop; word 1: writes */
  control: RegionRef;
  entries: number;
  six: boolean;
  busy: boolean;
}

/** The writing thread: fills the table, then rewrites it until it is told to stop. */
function write({ netbase, epochs, control, entries, six, busy }: Boot): void {
  const state = new Int32Array(Region.open(control, "read-write").buffer);
  const table = new Table(netbase, epochs, entries);
  for (let n = 0; n < entries; n++) table.put(six, n, n);
  postMessage("ready");
  if (busy)
    for (let n = 0; Atomics.load(state, 0) === 0; n++) {
      table.put(six, n % entries, n);
      if ((n & 1023) === 0) Atomics.store(state, 1, n);
    }
  postMessage("stopped");
}

/** Looks up the BATCH addresses from word `at` of the questions on, four words each; returns how many are there. */
type Lookup = (at: number) => number;

/** @param asked questions of ASKED addresses */
const lookups: Record<Way, (reader: NetbaseReader, asked: Int32Array, six: boolean) => Lookup> = {
  single({ neigh4, neigh6 }, a, six) {
    if (six)
      return (at) => {
        let found = 0;
        for (let i = at; i < at + BATCH * 4; i += 4)
          if (neigh6.find(a[i]!, a[i + 1]!, a[i + 2]!, a[i + 3]!, IFINDEX) !== 0) found++;
        return found;
      };
    return (at) => {
      let found = 0;
      for (let i = at; i < at + BATCH * 4; i += 4) if (neigh4.find(a[i]!, IFINDEX) !== 0) found++;
      return found;
    };
  },
  batch(reader, asked, six) {
    const answers = BATCH * FOUND_WORDS;
    const { words, find4, find6 } = reader.many(answers + asked.length);
    if (six) words.set(asked, answers);
    else
      words.set(
        asked.filter((_, i) => i % 4 === 0),
        answers,
      );
    return six
      ? (at) => find6(answers + at, BATCH, 0, IFINDEX)
      : (at) => find4(answers + (at >>> 2), BATCH, 0, IFINDEX);
  },
};

const caseName = (kind: Kind, family: string, entries: number, load: Load, way: Way): string =>
  `IPv${family} ${kind}, ${entries} entries${load === "busy" ? ", writer busy" : ""}${way === "single" ? ", one by one" : ""}`;

/** The reading thread, main: returns ns a lookup. */
async function measure(kind: Kind, family: string, entries: number, load: Load, way: Way): Promise<number> {
  const six = family === "6";
  const capacity = { ...defaultCapacity, neighbours4: entries, neighbours6: entries };
  const netbase = Region.create("bench-netbase", layout(capacity).bytes);
  const epochs = Region.create("bench-epochs", epochBytes(1));
  const control = Region.create("bench-control", 4096);
  const state = new Int32Array(control.buffer);
  const boot: Boot = {
    netbase: netbase.ref,
    epochs: epochs.ref,
    control: control.ref,
    entries,
    six,
    busy: load === "busy",
  };
  const worker = new Worker(import.meta.path);
  const told = (): Promise<void> =>
    new Promise((resolve, reject) => {
      worker.onmessage = () => resolve();
      worker.onerror = ({ message }) => reject(new Error(message));
    });
  worker.postMessage(boot);
  await told();
  const reader = NetbaseReader.open(netbase.ref, epochs.ref, 0);
  const asked = new Int32Array(ASKED * 4);
  const next = generator(2463534242);
  for (let i = 0; i < ASKED; i++)
    address(six, ((next() >>> 0) % entries) + (kind === "miss" ? ABSENT : 0), asked, i * 4);
  const lookup = lookups[way](reader, asked, six);
  const passes: number[] = [];
  const writes = Atomics.load(state, 1);
  let found = 0;
  for (let pass = 0; pass < PASSES; pass++) {
    const start = Bun.nanoseconds();
    for (let round = 0; round < ROUNDS; round++)
      for (let at = 0; at < asked.length; at += BATCH * 4) found += lookup(at);
    passes.push((Bun.nanoseconds() - start) / LOOKUPS);
  }
  if (found !== (kind === "hit" ? PASSES * LOOKUPS : 0))
    throw new Error(`${found} of ${PASSES * LOOKUPS} found`);
  if (boot.busy && Atomics.load(state, 1) - writes < 20_000) throw new Error("the writer did not write");
  const stopped = told();
  Atomics.store(state, 0, 1);
  await stopped;
  worker.terminate();
  return Math.min(...passes);
}

function verify(ctx: Context): void {
  for (const entries of [1000, 65_536])
    for (const six of [false, true]) {
      const capacity = { ...defaultCapacity, neighbours4: entries, neighbours6: entries };
      const netbase = Region.create("bench-netbase", layout(capacity).bytes);
      const epochs = Region.create("bench-epochs", epochBytes(1));
      const table = new Table(netbase.ref, epochs.ref, entries);
      for (let n = 0; n < entries; n++) table.put(six, n, n);
      const reader = NetbaseReader.open(netbase.ref, epochs.ref, 0);
      const a = new Int32Array(4);
      const find = (n: number) => {
        address(six, n, a, 0);
        return six
          ? reader.neigh6.find(a[0]!, a[1]!, a[2]!, a[3]!, IFINDEX)
          : reader.neigh4.find(a[0]!, IFINDEX);
      };
      const { neigh4, neigh6 } = reader;
      for (let n = 0; n < entries; n++) {
        if (find(n) !== 2) throw new Error(`entry ${n} of ${entries} is not found`);
        const mac0 = six ? neigh6.mac0 : neigh4.mac0;
        const mac1 = (six ? neigh6.mac1 : neigh4.mac1) & 0xffff;
        if (mac0 !== n || mac1 !== (n & 0xffff))
          throw new Error(`entry ${n} of ${entries} has another's address`);
        if (find(n + ABSENT) !== 0) throw new Error(`entry ${n + ABSENT} is found, and was never there`);
      }
      reader.close();
      netbase.close();
      epochs.close();
    }
  ctx.note("all entries found with their own addresses, no others");
}

async function run(ctx: Context): Promise<void> {
  const peer = compilePeer("neigh", ["-pthread"]);
  for (const entries of ENTRIES)
    for (const family of ["4", "6"])
      for (const kind of ["hit", "miss"])
        for (const load of ["quiet", "busy"])
          for (const way of ["batch", "single"]) {
            const args = [kind, family, `${entries}`, load, way];
            // Both sides have two threads, one a core; the reader's is the measured one.
            await ctx.compare({
              unit: "ns/lookup",
              better: "lower",
              peerName: "C, same table",
              ours: () =>
                runChild(script(import.meta.path, ...args), { core: load === "busy" ? -1 : cores.measured }),
              peer: () => runChild([peer, ...args, `${cores.measured}`, `${cores.other}`], { core: -1 }),
            });
          }
}

export const bench: Bench = {
  name: "neigh",
  about:
    "a neighbour looked up, quiet and under a writer at full speed; goal: a hit under 10 ns, 64 at a time",
  verify,
  run,
};

if (Bun.isMainThread) {
  if (import.meta.main) {
    const [kind, family, entries, load, way] = process.argv.slice(2) as [Kind, string, string, Load, Way];
    const value = await measure(kind, family, Number(entries), load, way);
    console.log(JSON.stringify({ case: caseName(kind, family, Number(entries), load, way), value }));
    process.exit(0);
  }
} else self.onmessage = ({ data }: MessageEvent<Boot>) => write(data);
