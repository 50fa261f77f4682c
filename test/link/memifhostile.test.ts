// Clients that lie: every check on what they say (session.ts) and on the memory that they own (ring.ts), and a fuzzer
// that changes descriptors and cursors while they are read. NETD_FUZZ_SECONDS makes it longer, NETD_SEED repeats it.
import { expect, setDefaultTimeout, test } from "bun:test";
import { decode, encode, type Message, MESSAGE_BYTES } from "../../src/link/memif/message.ts";
import { frameBatch, makeReceive, makeTransmit } from "../../src/link/memif/batches.ts";
import { beginRing, COOKIE, FromClient, type Mapped, ToClient } from "../../src/link/memif/ring.ts";
import { type FdFacts, type Limits, Refusal, Session } from "../../src/link/memif/session.ts";
import { frameMemory } from "../../src/mem/frames.ts";
import { Random } from "../random.ts";

setDefaultTimeout(300_000);

const limits: Limits = { rings: 2, bytes: 1 << 20, secret: new Uint8Array(), modes: [0] };
const INIT: Message = { type: "init", version: 0x200, id: 0, mode: 0, secret: new Uint8Array(24), name: "x" };
const memfd = (bytes = 65536): FdFacts => ({ bytes, shrinkSealed: true, isTmpfs: true, isEventfd: false });
const eventfd: FdFacts = { bytes: 0, shrinkSealed: false, isTmpfs: false, isEventfd: true };
const REGION: Message = { type: "addRegion", index: 0, bytes: 65536 };
const ring = (change: Partial<Extract<Message, { type: "addRing" }>> = {}): Message => ({
  type: "addRing",
  s2m: true,
  index: 0,
  region: 0,
  offset: 0,
  log2: 4,
  privateBytes: 0,
  ...change,
});
const CONNECT: Message = { type: "connect", name: "x" };

/** A session that is told all of these; what it says to the last one, or why it refuses. */
function told(steps: readonly [Message, number?, FdFacts?][], session = new Session(limits)): unknown {
  try {
    let answer: unknown;
    for (const [message, fd = -1, facts] of steps) answer = session.take(message, fd, facts);
    return answer;
  } catch (error) {
    if (error instanceof Refusal) return error.message;
    throw error;
  }
}
const region: [Message, number, FdFacts] = [REGION, 5, memfd()];

test("the handshake: what is taken, and every refusal", () => {
  expect(told([[INIT]])).toEqual({ type: "ack" });
  expect(told([[INIT], region])).toEqual({ type: "ack" });
  expect(told([[INIT], region, [ring(), 6, eventfd]])).toEqual({ type: "ack" });
  expect(told([[INIT], region, [ring(), 6, eventfd], [CONNECT]])).toBeUndefined();
  // Rings may be said before their region.
  expect(told([[INIT], [ring(), 6, eventfd], region, [CONNECT]])).toBeUndefined();
  const refused: [readonly [Message, number?, FdFacts?][], RegExp][] = [
    [[region], /addRegion while new/],
    [[[CONNECT]], /connect while new/],
    [[[INIT], [INIT]], /init while named/],
    [[[INIT, 5, memfd()]], /init with a file descriptor/],
    [[[{ ...INIT, version: 0x100 }]], /version 0x100: expected 0x200/],
    [[[{ ...INIT, mode: 1 }]], /mode 1/],
    [[[INIT], [REGION]], /region 0: no file descriptor/],
    [[[INIT], [{ ...REGION, index: 1 }, 5, memfd()]], /region 1: expected 0 next/],
    [[[INIT], [{ ...REGION, index: 16 }, 5, memfd()]], /region 16: expected 0 to 15/],
    [[[INIT], [{ ...REGION, bytes: 0 }, 5, memfd()]], /region 0 of 0 bytes/],
    [[[INIT], [{ ...REGION, bytes: 2 ** 40 }, 5, memfd(2 ** 41)]], /1048576 are left/],
    [[[INIT], [REGION, 5, { ...memfd(), shrinkSealed: false }]], /not sealed against shrinking/],
    [[[INIT], [REGION, 5, { ...memfd(), isTmpfs: false }]], /not in ordinary pages/],
    [[[INIT], [REGION, 5, memfd(65535)]], /its file has 65535/],
    [[[INIT], region, [ring()]], /no eventfd/],
    [[[INIT], region, [ring(), 6, memfd()]], /no eventfd/],
    [[[INIT], region, [ring({ index: 1 }), 6, eventfd]], /ring S2M 1: expected 0 next/],
    [[[INIT], region, [ring({ index: 2 }), 6, eventfd]], /expected 0 to 1/],
    [[[INIT], region, [ring({ log2: 15 }), 6, eventfd]], /2\^15 slots/],
    [[[INIT], region, [ring({ log2: 255 }), 6, eventfd]], /2\^255 slots/],
    [[[INIT], region, [ring({ privateBytes: 1 }), 6, eventfd]], /private header/],
    [[[INIT], region, [ring({ offset: 4 }), 6, eventfd]], /multiple of 8/],
    [[[INIT], region, [CONNECT]], /connect without a ring/],
    [[[INIT], region, [ring({ region: 3 }), 6, eventfd], [CONNECT]], /region 3, which there is not/],
    [
      [[INIT], region, [ring({ offset: 65528 }), 6, eventfd], [CONNECT]],
      /ends at 65912, the region at 65536/,
    ],
    [[[INIT], region, [ring({ offset: 0xfffffff8 }), 6, eventfd], [CONNECT]], /ends at/],
    [
      [[INIT], region, [ring(), 6, eventfd], [ring({ s2m: false, offset: 376 }), 7, eventfd], [CONNECT]],
      /overlap/,
    ],
    [[[INIT], [{ type: "hello" } as Message]], /for the server to say/],
  ];
  for (const [steps, reason] of refused) expect(told(steps)).toMatch(reason);
});

test("messages: every type there and back, and bytes that are none", () => {
  const all: Message[] = [
    { type: "ack" },
    new Session(limits).hello("netd"),
    INIT,
    REGION,
    ring({ s2m: false, region: 7, offset: 4096, log2: 14 }),
    CONNECT,
    { type: "connected", name: "a name that is exactly 31 bytes" },
    { type: "disconnect", code: 3, reason: "because" },
  ];
  for (const message of all) expect(decode(encode(message))).toEqual(message);
  for (const length of [0, 1, 127, 129]) expect(decode(new Uint8Array(length))).toBeUndefined();
  for (const type of [0, 9, 0xffff]) {
    const bytes = new Uint8Array(MESSAGE_BYTES);
    new DataView(bytes.buffer).setUint16(0, type, true);
    expect(decode(bytes)).toBeUndefined();
  }
});

const REGION_AT = 65536;
const REGION_BYTES = 65536;
const LOG2 = 4;
const SIZE = 16;

/** A client's ring in one region, its buffers behind it, as an honest client would make it. */
function world() {
  const memory = frameMemory(2 * 65536);
  const words = new Int32Array(memory.buffer);
  const mapped: Mapped = { offs: new Int32Array(256).fill(-1), bytes: new Int32Array(256) };
  mapped.offs[0] = REGION_AT;
  mapped.bytes[0] = REGION_BYTES;
  const base = REGION_AT >>> 2;
  words[base] = COOKIE;
  const place = { region: 0, offset: 0, log2: LOG2, fd: -1 };
  const descriptor = (i: number, flags: number, index: number, length: number, offset: number) =>
    words.set([flags | (index << 16), length, offset, 0], base + 32 + (i & (SIZE - 1)) * 4);
  const head = (n: number) => {
    words[base + 1] = (words[base + 1]! & 0xffff) | (n << 16);
  };
  const batch = frameBatch(memory);
  for (let i = 0; i < 8; i++) batch.off[i] = i * 2048 + 2;
  const receive = makeReceive(memory);
  const transmit = makeTransmit(memory);
  return {
    ...{ memory, words, mapped, place, base, descriptor, head, batch },
    receive: (from: FromClient) => receive(from, batch, 8, 2046, 0),
    transmit: (to: ToClient) => transmit(to, batch),
  };
}

test("rings: cursors and descriptors that cannot be true end the client, and nothing is read for them", () => {
  const cases: [string, (w: ReturnType<typeof world>) => unknown, RegExp][] = [
    ["head too far", (w) => w.head(SIZE + 1), /16 slots with 17 in it/],
    ["head behind tail", (w) => w.head(0xffff), /with 65535 in it/],
    ["unknown region", (w) => [w.descriptor(0, 0, 1, 64, 0), w.head(1)], /region 1/],
    ["region over 255", (w) => [w.descriptor(0, 0, 0xffff, 64, 0), w.head(1)], /region 65535/],
    [
      "end behind the region",
      (w) => [w.descriptor(0, 0, 0, 64, REGION_BYTES - 63), w.head(1)],
      /64 bytes at 65473/,
    ],
    [
      "offset + length over 32 bits",
      (w) => [w.descriptor(0, 0, 0, 64, 0xffffffff), w.head(1)],
      /at 4294967295/,
    ],
    ["length over 31 bits", (w) => [w.descriptor(0, 0, 0, -1, 8), w.head(1)], /4294967295 bytes/],
    ["a chain behind head", (w) => [w.descriptor(0, 1, 0, 64, 4096), w.head(1)], /goes on behind/],
  ];
  for (const [name, lie, reason] of cases) {
    const w = world();
    const from = new FromClient(w.memory, w.mapped, w.place);
    lie(w);
    w.receive(from);
    expect([name, w.batch.n]).toEqual([name, 0]);
    expect(from.broken).toMatch(reason);
    w.receive(from);
    expect(w.batch.n).toBe(0);
  }
});

test("a ring begins empty, whatever the client has written there; one without its cookie is none", () => {
  const w = world();
  w.head(7);
  w.words[w.base + 16] = 3;
  expect(beginRing(w.words, w.mapped, w.place)).toBe("");
  expect(new FromClient(w.memory, w.mapped, w.place).waiting).toBe(false);
  w.words[w.base] = COOKIE + 1;
  expect(beginRing(w.words, w.mapped, w.place)).toMatch(/without its cookie/);
});

test("frames of no bytes and frames that are too long are dropped and counted, and the next one comes", () => {
  const w = world();
  const from = new FromClient(w.memory, w.mapped, w.place);
  w.descriptor(0, 0, 0, 0, 4096);
  w.descriptor(1, 0, 0, 2047, 4096);
  w.descriptor(2, 1, 0, 2000, 4096);
  w.descriptor(3, 0, 0, 60, 4096);
  w.descriptor(4, 0, 0, 60, 4096);
  w.head(5);
  w.receive(from);
  expect([w.batch.n, w.batch.len[0], from.dropped, from.broken]).toEqual([1, 60, 3, ""]);
});

test("a ring full of frames that are none takes a bounded look at a time", () => {
  const memory = frameMemory(1 << 20);
  const words = new Int32Array(memory.buffer);
  const mapped: Mapped = { offs: new Int32Array(256).fill(-1), bytes: new Int32Array(256) };
  mapped.offs[0] = 65536;
  mapped.bytes[0] = 900_000;
  words[65536 >> 2] = COOKIE;
  const from = new FromClient(memory, mapped, { region: 0, offset: 0, log2: 12, fd: -1 });
  words[(65536 >> 2) + 1] = 4096 << 16;
  const batch = frameBatch(memory);
  const receive = makeReceive(memory);
  receive(from, batch, 8, 2046, 0);
  expect([batch.n, from.dropped, from.broken]).toEqual([0, 256, ""]);
  for (let i = 0; i < 15; i++) receive(from, batch, 8, 2046, 0);
  expect([from.dropped, from.waiting]).toEqual([4096, false]);
});

test("a chain of a ring's worth of slots is bounded", () => {
  const memory = frameMemory(1 << 20);
  const words = new Int32Array(memory.buffer);
  const mapped: Mapped = { offs: new Int32Array(256).fill(-1), bytes: new Int32Array(256) };
  mapped.offs[0] = 65536;
  mapped.bytes[0] = 900_000;
  words[65536 >> 2] = COOKIE;
  for (let i = 0; i < 4096; i++) words.set([1, 1, 0, 0], (65536 >> 2) + 32 + i * 4);
  const from = new FromClient(memory, mapped, { region: 0, offset: 0, log2: 12, fd: -1 });
  words[(65536 >> 2) + 1] = 4000 << 16;
  const batch = frameBatch(memory);
  makeReceive(memory)(from, batch, 8, 2046, 0);
  expect([batch.n, from.broken]).toEqual([0, "a frame of over 64 parts"]);
});

test("buffers that we fill: without bytes, outside of the region, too few", () => {
  const w = world();
  const to = new ToClient(w.memory, w.mapped, w.place);
  w.batch.n = 2;
  w.batch.len[0] = w.batch.len[1] = 100;
  expect(w.transmit(to)).toBe(0); // none offered
  w.descriptor(0, 0, 0, 60, 4096);
  w.head(1);
  expect(w.transmit(to)).toBe(0); // a frame's first half only
  w.descriptor(1, 0, 0, 60, 5000);
  w.head(2);
  expect(w.transmit(to)).toBe(1);
  expect([w.words[w.base + 16], w.words[w.base + 33], w.words[w.base + 37]]).toEqual([2, 60, 40]);
  expect([w.words[w.base + 32]! & 1, w.words[w.base + 36]! & 1]).toEqual([1, 0]);
  w.descriptor(2, 0, 0, 0, 4096);
  w.head(3);
  expect(w.transmit(to)).toBe(0);
  expect(to.broken).toMatch(/no bytes/);
  const other = new ToClient(w.memory, w.mapped, w.place);
  w.descriptor(0, 0, 0, 2000, REGION_BYTES - 1999);
  w.head(1);
  expect(w.transmit(other)).toBe(0);
  expect(other.broken).toMatch(/2000 bytes at 63537/);
});

test("a batch taken, and a batch given, is what was there: every length, in one part or several, over the ring's end", () => {
  const random = new Random(1);
  for (let length = 1; length <= 2000; length += length < 200 ? 1 : 37) {
    const w = world();
    const bytes = new Uint8Array(w.memory.buffer);
    const from = new FromClient(w.memory, w.mapped, w.place);
    const to = new ToClient(w.memory, w.mapped, { ...w.place, offset: 4096 });
    const frames = Array.from({ length: 8 }, () => new Uint8Array(length).map(() => random.below(256)));
    let cursor = 0;
    for (const start of [0, 10]) {
      cursor = start === 0 ? 0 : 8;
      bytes.fill(0xee, 0, 8 * 2048);
      for (const [i, frame] of frames.entries()) {
        const at = 8192 + i * 2048 + random.below(40);
        bytes.set(frame, REGION_AT + at);
        w.descriptor(cursor + i, 0, 0, length, at);
      }
      w.head(cursor + 8);
      w.receive(from);
      expect(w.batch.n).toBe(8);
      for (const [i, frame] of frames.entries()) {
        const at = i * 2048 + 2;
        expect(w.batch.len[i]).toBe(length);
        expect(bytes.subarray(at, at + length)).toEqual(frame);
        expect([bytes[at - 1], bytes[at + length]]).toEqual([0xee, 0xee]);
      }
      // And back, into buffers of a size of their own.
      bytes.fill(0xdd, REGION_AT + 8192, REGION_AT + REGION_BYTES);
      const room = random.chance(70) ? 2048 : Math.ceil(length / 2) + random.below(20);
      const parts = Math.ceil(length / room);
      const count = Math.floor(8 / parts);
      const ring = (REGION_AT + 4096) >>> 2;
      w.words.set([COOKIE, ((cursor + 8) & 0xffff) << 16], ring);
      for (let i = 0; i < 8; i++)
        w.words.set([0, room, 8192 + i * 2048 + 3, 0], ring + 32 + ((cursor + i) & 15) * 4);
      expect(w.transmit(to)).toBe(count);
      for (let n = 0; n < count; n++) {
        const got: number[] = [];
        for (let k = 0; k < parts; k++) {
          const d = ring + 32 + ((cursor + n * parts + k) & 15) * 4;
          const at = REGION_AT + w.words[d + 2]!;
          got.push(...bytes.subarray(at, at + w.words[d + 1]!));
          expect([w.words[d]! & 1, bytes[at - 1], bytes[at + w.words[d + 1]!]]).toEqual([
            k < parts - 1 ? 1 : 0,
            0xdd,
            0xdd,
          ]);
        }
        expect(new Uint8Array(got)).toEqual(frames[n]!);
      }
      to.publish((cursor + 8) & 0xffff);
    }
  }
});

test("a client that changes everything all the time: nothing outside of its region is written, no frame is too long", () => {
  const seed = Number(process.env["NETD_SEED"] ?? (Math.random() * 0x7fffffff) | 0);
  console.log(`seed ${seed}`);
  const numbers = new Random(seed);
  const random = () => numbers.word();
  const seconds = Number(process.env["NETD_FUZZ_SECONDS"] ?? 1);
  let frames = 0;
  let ends = 0;
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    const w = world();
    const bytes = new Uint8Array(w.memory.buffer);
    const fromClient = random() % 2 === 0;
    const side = fromClient
      ? new FromClient(w.memory, w.mapped, w.place)
      : new ToClient(w.memory, w.mapped, w.place);
    let cursor = 0;
    for (let turn = 0; turn < 200 && side.broken === ""; turn++) {
      for (let i = 0; i < 4; i++) {
        const lie = random() % 60;
        const length = lie === 0 ? random() : random() % 1600;
        const offset = lie === 1 ? random() : 4096 + (random() % 50_000);
        w.descriptor(
          cursor + i,
          random() % 6 === 0 ? 1 : 0,
          lie === 2 ? random() & 0xffff : 0,
          length | 0,
          offset | 0,
        );
      }
      cursor = (cursor + 4) & 0xffff;
      w.head(random() % 200 === 0 ? random() & 0xffff : cursor);
      if (fromClient) {
        bytes.fill(0xaa, 8 * 2048, REGION_AT);
        w.receive(side as FromClient);
        for (let i = 0; i < w.batch.n; i++) {
          if (w.batch.len[i]! < 1 || w.batch.len[i]! > 2046)
            throw new Error(`seed ${seed}: ${w.batch.len[i]} bytes`);
          frames++;
        }
        if (bytes.indexOf(0xaa, 8 * 2048) !== 8 * 2048)
          throw new Error(`seed ${seed}: written behind the frames`);
      } else {
        w.batch.n = 4;
        for (let i = 0; i < 4; i++) w.batch.len[i] = 1 + (random() % 1514);
        bytes.fill(0xbb, 0, REGION_AT);
        frames += w.transmit(side as ToClient);
        for (let i = 0; i < REGION_AT; i += 509)
          if (bytes[i] !== 0xbb) throw new Error(`seed ${seed}: a frame of ours was written to`);
      }
    }
    if (side.broken !== "") ends++;
  }
  expect(frames).toBeGreaterThan(100);
  expect(ends).toBeGreaterThan(10);
});
