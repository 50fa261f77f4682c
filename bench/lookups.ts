// Our side of bench/fib.ts, run as a child: a netbase with the routes of prefixes.ts, and what is measured of it.
//   bun bench/lookups.ts lookups|updates|memory|scan N      one JSON line a case
import { epochBytes } from "../src/mem/epoch.ts";
import { Region } from "../src/mem/region.ts";
import { defaultCapacity, layout } from "../src/netbase/layout.ts";
import { NetbaseReader, NetbaseWriter } from "../src/netbase/netbase.ts";
import { LinkRow, RouteRow } from "../src/netbase/rows.ts";
import { AF_INET, AF_INET6 } from "../src/wire/address.ts";
import { generator, type Prefixes, prefixes4, prefixes6, traffic } from "./prefixes.ts";

export const ROUTES4 = 1_000_000;
export const ROUTES6 = 200_000;
export const LOOKUPS = 1_000_000;
export const TRAFFIC: [kind: string, flows: number][] = [
  ["random", LOOKUPS],
  ["localised", 4096],
];
const CHANGE_EVERY = 100_000; // lookups
export const CHANGING = ", one by one, 1000 changes/s";
const IFINDEX = 2;
const NLM_F_CREATE = 0x400;

export const name = (family: 4 | 6, what: string): string =>
  `IPv${family}, ${family === 4 ? "1M" : "200k"} routes, ${what}`;

/** A netbase with one link, and routes put in and taken out one by one. */
export class World {
  readonly region = Region.create("bench-netbase", layout(defaultCapacity).bytes);
  private readonly epochs = Region.create("bench-epochs", epochBytes(1));
  readonly writer = new NetbaseWriter(this.region, this.epochs, defaultCapacity);
  private readonly row = new RouteRow();

  constructor() {
    const link = new LinkRow();
    link.ifindex = IFINDEX;
    link.flags = 1;
    link.name = "bench";
    this.writer.links.upsert(link);
    this.writer.commit();
    this.row.table = 254;
    this.row.type = 1;
    this.row.legs.add();
    this.row.legs.ifindex[0] = IFINDEX;
  }

  /** Opened last, and once: it maps the tables a second time. */
  reader(): NetbaseReader {
    return NetbaseReader.open(this.region.ref, this.epochs.ref, 0);
  }

  /** Adds (or removes) the prefixes of `order`, with a commit every 256, as the mirror has it; returns changes a second. */
  change(prefixes: Prefixes, order: ArrayLike<number>, add: boolean): number {
    const { row, writer } = this;
    const { words, lengths, hops } = prefixes;
    const six = prefixes.family === 6;
    const { dst, legs } = row;
    row.family = legs.gatewayFamily[0] = six ? AF_INET6 : AF_INET;
    row.priority = six ? 1024 : 0;
    legs.gateway.fill(0, 0, 4);
    dst.fill(0);
    const start = Bun.nanoseconds();
    for (let k = 0; k < order.length; k++) {
      const i = order[k]!;
      if (six) for (let w = 0; w < 4; w++) dst[w] = words[i * 4 + w]!;
      else dst[0] = words[i]!;
      row.dstLen = lengths[i]!;
      legs.gateway[0] = six ? 0x80fe : 0x0a | (hops[i]! << 24);
      if (six) legs.gateway[3] = hops[i]! << 24;
      if ((add ? writer.routes.upsert(row, NLM_F_CREATE) : writer.routes.remove(row)) <= 0)
        throw new Error(`route ${i} of IPv${prefixes.family}: not ${add ? "added" : "removed"}`);
      if ((k & 255) === 255) writer.commit();
    }
    writer.commit();
    return (order.length * 1e9) / (Bun.nanoseconds() - start);
  }

  /** What the tables take, by the kernel's count of the region's pages. */
  get mebibytes(): number {
    const blocks = Bun.spawnSync(["stat", "-L", "-c", "%b", `/proc/${process.pid}/fd/${this.region.fd}`]);
    return Number(blocks.stdout.toString()) / 2048;
  }
}

export const all = (n: number): Int32Array => Int32Array.from({ length: n }, (_, i) => i);

export function shuffled(n: number): Int32Array {
  const next = generator(42);
  const order = all(n);
  for (let i = n - 1; i > 0; i--) {
    const k = (next() >>> 0) % (i + 1);
    [order[i], order[k]] = [order[k]!, order[i]!];
  }
  return order;
}

const BATCH = 64; // as dpdk-test-fib has it

const out = new Int32Array(BATCH);

function all4({ fib4 }: NetbaseReader, addresses: Int32Array, at: number): number {
  fib4.lookupAll(addresses, at, out);
  return out[0]!;
}

function all6({ fib6 }: NetbaseReader, addresses: Int32Array, at: number): number {
  fib6.lookupAll(addresses, at * 4, out);
  return out[0]!;
}

function one4({ fib4 }: NetbaseReader, addresses: Int32Array, at: number): number {
  let sum = 0;
  for (let i = at; i < at + BATCH; i++) sum ^= fib4.lookup(addresses[i]!);
  return sum;
}

function one6({ fib6 }: NetbaseReader, a: Int32Array, at: number): number {
  let sum = 0;
  for (let i = at * 4; i < (at + BATCH) * 4; i += 4)
    sum ^= fib6.lookup(a[i]!, a[i + 1]!, a[i + 2]!, a[i + 3]!);
  return sum;
}

type Lookup = typeof one4;

/** ns a lookup: the best of some passes over all addresses. */
function time(reader: NetbaseReader, lookup: Lookup, addresses: Int32Array, n: number): number {
  const passes: number[] = [];
  let sum = 0;
  for (let pass = 0; pass < 20; pass++) {
    const start = Bun.nanoseconds();
    for (let at = 0; at + BATCH <= n; at += BATCH) sum ^= lookup(reader, addresses, at);
    passes.push((Bun.nanoseconds() - start) / n);
  }
  if (sum === 1) console.error("");
  return Math.min(...passes);
}

const print = (what: string, value: number): void => console.log(JSON.stringify({ case: what, value }));

const children: Record<string, () => void> = {
  lookups() {
    const world = new World();
    const sets = [prefixes4(ROUTES4), prefixes6(ROUTES6)];
    for (const set of sets) world.change(set, all(set.n), true);
    const reader = world.reader();
    for (const set of sets)
      for (const [kind, flows] of TRAFFIC) {
        const addresses = traffic(set, LOOKUPS, flows);
        const all = set.family === 6 ? all6 : all4;
        const one = set.family === 6 ? one6 : one4;
        print(name(set.family, kind), time(reader, all, addresses, LOOKUPS));
        print(name(set.family, `${kind}, one by one`), time(reader, one, addresses, LOOKUPS));
        if (set.family === 4 || flows === LOOKUPS) continue;
        let at = 0;
        let changes = 0;
        const order = shuffled(set.n);
        const changing: Lookup = (...args) => {
          if ((at += BATCH) % CHANGE_EVERY < BATCH) {
            const one = [order[changes++ % set.n]!];
            world.change(set, one, false);
            world.change(set, one, true);
          }
          return one6(...args);
        };
        print(name(6, kind + CHANGING), time(reader, changing, addresses, LOOKUPS));
      }
  },
  updates() {
    const world = new World();
    for (const set of [prefixes4(ROUTES4), prefixes6(ROUTES6)]) {
      // A tenth of the routes, in random order, in a full table.
      const order = shuffled(set.n).subarray(0, set.n / 10);
      world.change(set, all(set.n), true);
      const removed: number[] = [];
      const added: number[] = [];
      for (let i = 0; i < 4; i++) {
        removed.push(world.change(set, order, false));
        added.push(world.change(set, order, true));
      }
      print(name(set.family, "add"), Math.max(...added));
      print(name(set.family, "delete"), Math.max(...removed));
    }
  },
  memory() {
    const world = new World();
    const before = world.mebibytes;
    const four = prefixes4(ROUTES4);
    world.change(four, all(four.n), true);
    const six = prefixes6(ROUTES6);
    world.change(six, all(six.n), true);
    print("tables of 1M IPv4 and 200k IPv6 routes", world.mebibytes - before);
  },
  scan() {
    const n = Number(process.argv[3]);
    const world = new World();
    const set = prefixes4(ROUTES4);
    world.change(set, shuffled(ROUTES4).subarray(0, n), true);
    print(`${n} prefixes`, time(world.reader(), one4, traffic(set, 4096), 4096));
  },
};

if (import.meta.main) children[process.argv[2]!]!();
