// The writing side of table.torture.test.ts: a Worker that changes the table as fast as it can until word 0 of `control`
// says stop. Whose an entry is shows by itself: the n-th tuple is always client n % CHURNERS's.
import { Region, type RegionRef } from "../../src/mem/region.ts";
import type { SwitchCapacity } from "../../src/switch/boot.ts";
import type { Match } from "../../src/switch/table/pattern.ts";
import { TableWriter } from "../../src/switch/table/table.ts";

declare const self: Worker;

export interface WriterBoot {
  table: RegionRef;
  control: RegionRef;
  capacity: SwitchCapacity;
}

export const CHURNERS = 5;
/** Clients that stay as they are; and one whose packets are now by one match its own, now by another. */
export const STABLE = 5;
export const MOVING = 6;
export const CLIENTS = 7;
export const TUPLES = 200;
/** Of these at a time, so many. */
const AT_ONCE = 60;
const PORT = 443;

export const addressOf = (family: 2 | 10, n: number): Int32Array =>
  family === 2 ? Int32Array.of(0x0a | (n << 8), 0, 0, 0) : Int32Array.of(0xfd, n, n, n);

/** The exact tuple number n. */
export const tuple = (family: 2 | 10, n: number): Match => ({
  family,
  protocol: 6,
  dst: addressOf(family, n),
  dstPrefix: family === 2 ? 32 : 128,
  dport: PORT,
  src: addressOf(family, n + 1),
  srcPrefix: family === 2 ? 32 : 128,
  sport: n,
});

/** A listener on the tuple's address and port. */
const listener = (match: Match): Match => ({ ...match, srcPrefix: 0, sport: -1 });

/** The same on all of the tuple's ports: a pattern that comes and goes with it. */
const wide = (match: Match): Match => ({ ...listener(match), dport: -1 });

const row = {
  fd: 3,
  mac: new Uint8Array(6),
  mtu: 1500,
  flags: 0,
  home: 0,
  ratePps: 0,
  pid: 1,
  uid: 0,
  gid: 0,
};

function churn({ table, control, capacity }: WriterBoot): void {
  const state = new Int32Array(Region.open(control, "read-write").buffer);
  const writer = new TableWriter(Region.open(table, "read-write").buffer, capacity, Math.random() * 2 ** 32);
  const add = (match: Match, client: number): number => {
    const entry = writer.add(match, client, "match");
    if (entry <= 0) throw new Error(`refused: ${entry}`);
    return entry;
  };
  for (let client = 0; client < CLIENTS; client++)
    if (writer.addClient(row) !== client) throw new Error("slots in another order");
  const families = [2, 10] as const;
  const group = { family: 2 as const, protocol: 17, address: addressOf(2, 9000), port: 53 };
  for (const family of families) for (let n = 1000; n < 1032; n++) add(listener(tuple(family, n)), STABLE);
  writer.addGroup(group, STABLE);
  writer.addGroup(group, MOVING);
  const moving = families.map((family) => ({
    exact: tuple(family, 2000),
    wide: wide(tuple(family, 2000)),
    at: add(wide(tuple(family, 2000)), MOVING),
  }));
  postMessage("ready");
  const entries = new Map<number, number>();
  for (let n = 0; Atomics.load(state, 0) === 0; n++) {
    const key = Math.imul(n, 0x9e3779b1) >>> 16;
    const family = families[key & 1]!;
    const which = key % TUPLES;
    const id = which * 2 + (key & 1);
    const have = entries.get(id);
    if (have !== undefined) {
      writer.remove(have);
      entries.delete(id);
    } else if (entries.size < AT_ONCE) entries.set(id, add(tuple(family, which), which % CHURNERS));
    if (n % 8 === 0)
      for (const one of moving) {
        const exact = add(one.exact, MOVING);
        writer.remove(one.at);
        one.at = add(one.wide, MOVING);
        writer.remove(exact);
      }
    // Members on both sides of those that stay.
    if (n % 16 === 0) writer.addGroup(group, (n >>> 4) % CHURNERS);
    if (n % 16 === 8) writer.removeGroup(group, (n >>> 4) % CHURNERS);
    if (n % 64 === 0) {
      writer.removeGroup(group, MOVING);
      writer.addGroup(group, MOVING);
    }
    Atomics.store(state, 1, n);
  }
}

if (!Bun.isMainThread)
  self.onmessage = ({ data }: MessageEvent<WriterBoot>) => {
    churn(data);
    postMessage("stopped");
  };
