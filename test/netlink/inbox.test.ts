// The memory between the thread that reads netlink sockets and who decodes what came: laps, a reader that finds no room,
// losses in their place, and memory given back. The socket is made up.
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { EAGAIN, ENOBUFS } from "../../src/netlink/constants.ts";
import { Inbox } from "../../src/netlink/inbox.ts";
import type { Slots } from "../../src/netlink/slots.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const SEED = Number(process.env["NETD_SEED"] ?? Date.now() & 0x7fffffff);
let state = SEED || 1;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

const TYPE = 24;
const STRIDE = 128 * 1024;
/** A socket that gives `next` datagrams a receive, each one message with its number in it; then what `ends` says. */
class Fake {
  truncated = 0;
  drops = 0;
  sent = 0;
  ends: number[] = [];
  most = 0;
  longest = 1000;
  readonly words = new Int32Array((STRIDE * 32) / 4);
  private readonly lengths: number[] = [];
  receiveFrom(_fd: number, max: number): number {
    if (this.most === 0) return this.ends.shift() ?? -EAGAIN;
    const n = Math.min(max, this.most);
    this.most -= n;
    for (let i = 0; i < n; i++) {
      const len = 24 + random(this.longest);
      const w = (i * STRIDE) >> 2;
      this.words[w] = len;
      this.words[w + 1] = TYPE;
      this.words[w + 4] = this.sent++;
      this.words[w + 5] = len;
      this.lengths[i] = len;
    }
    return n;
  }
  offset(i: number): number {
    return i * STRIDE;
  }
  length(i: number): number {
    return this.lengths[i]!;
  }
  dropsOf(): number {
    return this.drops;
  }
  get slots(): Slots {
    return this as unknown as Slots;
  }
}

let inbox: Inbox;
afterEach(() => inbox.free());

/** Takes once; returns the numbers of the messages that came. */
function take(): { what: string; numbers: number[] } {
  const numbers: number[] = [];
  const what = inbox.take((type, words, _bytes, off, len) => {
    if (type !== TYPE || words[(off >> 2) + 5] !== len) throw new Error(`a message of ${len} bytes is torn`);
    numbers.push(words[(off >> 2) + 4]!);
  });
  return { what, numbers };
}

test(`every message once and in order, over many laps (NETD_SEED=${SEED})`, () => {
  inbox = Inbox.create(9, 1);
  const fake = new Fake();
  fake.longest = 100_000;
  let taken = 0;
  let full = 0;
  const check = (numbers: number[]): void => {
    for (const number of numbers) if (number !== taken++) expect(number).toBe(taken - 1);
  };
  for (let round = 0; round < 600; round++) {
    fake.most = random(400);
    const filled = inbox.fill(fake.slots, 1 + random(20));
    if (filled === "full") full++;
    // Now and then all of it, mostly too little.
    for (let i = random(12) === 0 ? 10_000 : random(60); i > 0; i--) {
      const { what, numbers } = take();
      if (what === "nothing") break;
      check(numbers);
    }
    expect(inbox.empty).toBe(taken === fake.sent);
  }
  while (!inbox.empty) check(take().numbers);
  expect(taken).toBe(fake.sent);
  expect(full).toBeGreaterThan(0);
});

test("a reader without room says so, and is told when there is some", () => {
  inbox = Inbox.create(9, 1);
  const fake = new Fake();
  fake.longest = 100_000;
  fake.most = 1e6;
  expect(inbox.fill(fake.slots, 1e6)).toBe("full");
  expect(inbox.resume()).toBe(false);
  let resumed = 0;
  while (!inbox.empty) {
    take();
    if (inbox.resume()) resumed++;
  }
  expect(resumed).toBe(1);
  fake.most = 3;
  fake.longest = 1000;
  expect(inbox.fill(fake.slots, 10)).toBe("empty");
  expect(take().numbers).toHaveLength(3);
});

test("a loss is told once, after what was queued, however it shows", () => {
  inbox = Inbox.create(9, 1);
  const fake = new Fake();
  fake.ends = [-ENOBUFS, -EAGAIN];
  fake.most = 5;
  expect(inbox.fill(fake.slots, 10)).toBe("empty");
  expect(inbox.holds(() => false)).toBe(true);
  expect(take()).toEqual({ what: "messages", numbers: [0, 1, 2, 3, 4] });
  expect(take().what).toBe("overrun");
  expect(take().what).toBe("nothing");
  fake.drops = 7;
  inbox.fill(fake.slots, 10);
  fake.truncated = 1;
  inbox.fill(fake.slots, 10);
  inbox.fill(fake.slots, 10);
  expect([take().what, take().what, take().what]).toEqual(["overrun", "overrun", "nothing"]);
  expect(inbox.overruns).toBe(3);
  fake.ends = [-9];
  expect(inbox.fill(fake.slots, 10)).toBe("broken");
  expect(inbox.error).toBe(-9);
});

test("an owner who wants to read is given way, and a thread waits for it", () => {
  inbox = Inbox.create(9, 1);
  expect(inbox.served).toBe(false);
  inbox.seize();
  expect(inbox.claim()).toBe(false);
  inbox.yield();
  expect(inbox.claim()).toBe(true);
  inbox.yield();
  expect(inbox.served).toBe(true);
  expect([inbox.tell(), inbox.tell()]).toEqual([true, false]);
  inbox.heard();
  expect(inbox.tell()).toBe(true);
});

test("a visitor that throws loses what it was shown, and nothing else", () => {
  inbox = Inbox.create(9, 1);
  const fake = new Fake();
  fake.most = 3;
  inbox.fill(fake.slots, 10);
  expect(() =>
    inbox.take(() => {
      throw new RangeError("enough");
    }),
  ).toThrow("enough");
  expect(take().numbers).toEqual([1, 2]);
});
