// One dump after another on one socket: short and long, with the second thread and without, broken off, refused; and
// when a job that could not be done in peace comes up again.
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { Host } from "../../src/lab/host.ts";
import { RouteRow } from "../../src/netbase/rows.ts";
import { Job } from "../../src/netlink/agenda.ts";
import type { Chunks } from "../../src/netlink/chunks.ts";
import * as nl from "../../src/netlink/constants.ts";
import { Dumper } from "../../src/netlink/dump.ts";
import { dumpLinks } from "../../src/netlink/link.ts";
import { decodeRoute } from "../../src/netlink/route.ts";
import { dumpRoutes, newRoute } from "../../src/netlink/routeset.ts";
import { swap32 } from "../../src/wire/address.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const ROUTES = 100_000; // 180 chunks: more than the ring has; a long dump is one of more than 32
const host = new Host("dump");
host.link({ name: "br", kind: "bridge", up: true });
host.addr("br", "10.0.0.1/24");
host.nl.batch((m) => {
  for (let i = 0; i < ROUTES; i++)
    newRoute(m, {
      dst: { family: nl.AF_INET, words: [swap32(0x20000000 + i * 256)], prefixLen: 24 },
      via: "10.0.0.2",
    });
});
afterAll(() => host.close());

const main = (m: Parameters<typeof dumpRoutes>[0]) =>
  dumpRoutes(m, { family: nl.AF_INET, table: nl.RT_TABLE_MAIN });

/** Dumps table main; returns how many different routes were told, and how often there was a pause. */
function dump(dumper: Dumper): { messages: number; routes: number; pauses: number } {
  const seen = new Set<number>();
  const row = new RouteRow();
  let pauses = 0;
  const { messages, interrupted, error } = dumper.run(main, {
    message(type, words, bytes, off, len) {
      expect(type).toBe(nl.RTM_NEWROUTE);
      expect(decodeRoute(words, bytes, off, len, row)).toBe(true);
      seen.add(row.dst[0]!);
    },
    pause() {
      pauses++;
    },
  });
  expect([interrupted, error]).toEqual([false, 0]);
  return { messages, routes: seen.size, pauses };
}

test("a long dump, with the second thread, again and again: every route once", () => {
  const dumper = new Dumper(host.netns);
  for (let i = 0; i < 3; i++) {
    const { messages, routes, pauses } = dump(dumper);
    expect([messages, routes]).toEqual([ROUTES + 1, ROUTES + 1]);
    expect(pauses).toBeGreaterThan(100);
  }
  dumper.close();
});

test("the second thread, once it is there, receives most of every long dump", async () => {
  const dumper = new Dumper(host.netns);
  const { chunks } = dumper as unknown as { chunks: Chunks };
  while (!chunks.present) await Bun.sleep(1);
  for (let i = 0; i < 5; i++) {
    let own = 0;
    const fill = chunks.fill.bind(chunks);
    chunks.fill = (...args) => {
      const filled = fill(...args);
      if (filled) own++;
      return filled;
    };
    expect(dump(dumper)).toMatchObject({ messages: ROUTES + 1, routes: ROUTES + 1 });
    chunks.fill = fill;
    expect(own).toBeLessThan(90);
  }
  dumper.close();
});

test("without a second thread it is as good", () => {
  const dumper = new Dumper(host.netns);
  (dumper as unknown as { ask(): void }).ask = () => {};
  expect(dump(dumper)).toMatchObject({ messages: ROUTES + 1, routes: ROUTES + 1 });
  dumper.close();
});

test("a sink that throws breaks the dump off, and the thread with it", () => {
  const dumper = new Dumper(host.netns);
  const stop = () => {
    throw new RangeError("enough");
  };
  expect(() => dumper.run(main, { message: stop, pause() {} })).toThrow("enough");
  dumper.close();
  const next = new Dumper(host.netns);
  expect(dump(next).routes).toBe(ROUTES + 1);
  next.close();
});

test("what the kernel refuses is a result, and the next dump is not harmed", () => {
  const dumper = new Dumper(host.netns);
  const ignore = { message() {}, pause() {} };
  const none = dumper.run((m) => dumpRoutes(m, { family: nl.AF_INET, table: 4711 }), ignore);
  expect(none).toMatchObject({ messages: 0, error: -2 });
  const nowhere = dumper.run((m) => dumpRoutes(m, { family: nl.AF_INET, oif: 99_999 }), ignore);
  expect(nowhere).toMatchObject({ messages: 0, error: -19 });
  expect(dumper.run(dumpLinks, ignore).messages).toBe(2);
  dumper.close();
});

test("a job that was disturbed comes up at once a few times, then less and less often, and as soon as it is quiet", () => {
  const job = new Job("routes4");
  const due = (now: number) => job.due - now;
  expect(job.due).toBe(Number.POSITIVE_INFINITY);
  job.whole = true;
  let now = 1000;
  const waits: number[] = [];
  for (let i = 0; i < 20; i++) {
    job.lastEvent = now + 1e9; // it never rests
    job.done(false, now - 1, now);
    waits.push(due(now));
    now += 10_000;
  }
  expect(waits.slice(0, 8)).toEqual([2, 2, 2, 2, 22, 42, 82, 162]);
  expect(Math.max(...waits)).toBe(5000);
  job.lastEvent = now - 100;
  expect(due(now)).toBeLessThan(0);
  job.whole = false;
  job.done(true, now - 1, now);
  expect(job.tries).toBe(0);
});

test("routes over many interfaces at once are all routes", () => {
  const job = new Job("routes4");
  for (let i = 1; i <= 16; i++) job.addOif(i);
  expect([job.whole, job.oifs.size]).toEqual([false, 16]);
  job.addOif(17);
  expect([job.whole, job.oifs.size]).toEqual([true, 0]);
  job.addOif(3);
  expect(job.oifs.size).toBe(0);
});
