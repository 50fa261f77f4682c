// AF_XDP sockets on a veth: frames in and out through the ring addresses that a Worker gets, and every way to be refused.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { check, errno, SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { bufferAt, ptr } from "../../ffi/memory.ts";
import { AF_INET } from "../../src/wire/address.ts";
import { receiveQueues, setVlanStripping } from "../../src/xdp/queues.ts";
import { SteerProgram } from "../../src/xdp/program.ts";
import type { RingRef } from "../../src/link/xdp.ts";
import { createSocket, frameBytesFor, type SocketOptions, statistics } from "../../src/xdp/socket.ts";
import { Card, MAC, PEER_MAC } from "./card.ts";
import { ADDRESS4, concat, ETH_P_IP, ethernet, ipv4, u16, UDP, udp, words } from "./frames.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0o4000 | 0o2000000;
const MSG_DONTWAIT = 0x40;
const PORT = 7;

let card: Card;
let options: SocketOptions;
let raw: number; // a packet socket on peer0

beforeAll(() => {
  card = new Card(2);
  options = {
    ifname: "nd0",
    ifindex: card.ifindex,
    queue: 0,
    frames: 64,
    frameBytes: 2048,
    rxSize: 16,
    txSize: 32,
    mode: "auto",
  };
  raw = card.run(() => {
    const fd = check("socket", libc.socket(AF_PACKET, SOCK_RAW_NONBLOCK_CLOEXEC, 0x0300)); // ETH_P_ALL
    const address = new DataView(new ArrayBuffer(20)); // sockaddr_ll
    address.setUint16(0, AF_PACKET, true);
    address.setUint16(2, 3);
    address.setInt32(4, card.peerIfindex, true);
    check("bind", libc.bind(fd, ptr(address), 20));
    return fd;
  });
});
afterAll(() => {
  libc.close(raw);
  card.close();
});

const create = (change: Partial<SocketOptions> = {}): ReturnType<typeof createSocket> =>
  card.run(() => createSocket({ ...options, ...change }));

function refusal(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    if (error instanceof SysError) return error.message;
    throw error;
  }
  throw new Error("not refused");
}

const send = (frame: Uint8Array): void =>
  void check("send", libc.sendto(raw, ptr(frame), frame.length, 0, null, 0));

/** Reads frames from the packet socket until one satisfies `wanted`. */
async function receive(wanted: (frame: Uint8Array) => boolean): Promise<Uint8Array> {
  const buffer = new Uint8Array(4096);
  for (let turn = 0; turn < 1000; turn++) {
    const n = Number(libc.recvfrom(raw, ptr(buffer), buffer.length, MSG_DONTWAIT, null, null));
    if (n < 0) {
      expect(errno()).toBe(11); // EAGAIN
      await Bun.sleep(1);
    } else if (wanted(buffer.subarray(0, n))) return buffer.slice(0, n);
  }
  throw new Error("no frame came");
}

class Ring {
  readonly producer: Int32Array;
  readonly consumer: Int32Array;
  readonly entries: Int32Array;
  constructor(ref: RingRef, entryBytes: number) {
    this.producer = new Int32Array(bufferAt(ref.producer, 4));
    this.consumer = new Int32Array(bufferAt(ref.consumer, 4));
    this.entries = new Int32Array(bufferAt(ref.ring, ref.size * entryBytes));
  }
}

async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 1000 && !condition(); turn++) await Bun.sleep(1);
  expect(condition()).toBe(true);
}

test("the ref: what a Worker can be sent, ring sizes as asked for, copy mode on a veth", () => {
  const socket = create();
  const { ref } = socket;
  expect(structuredClone(ref)).toEqual(ref);
  expect([ref.rx.size, ref.tx.size, ref.fill.size, ref.completion.size]).toEqual([16, 32, 32, 32]);
  expect(ref.umem).toMatchObject({ frames: 64, frameBytes: 2048 });
  expect(ref.umem.memory.buffer.byteLength).toBeGreaterThanOrEqual(64 * 2048);
  expect([ref.zerocopy, ref.needWakeup, ref.queue, ref.ifindex]).toEqual([false, true, 0, card.ifindex]);
  for (const ring of [ref.rx, ref.tx, ref.fill, ref.completion])
    for (const address of [ring.producer, ring.consumer, ring.flags]) {
      const word = new Int32Array(bufferAt(address, 4));
      expect(word[0]! & ~1).toBe(0); // empty, and at most NEED_WAKEUP
    }
  expect(libc.fcntl(ref.fd, 1, 0)).toBe(1); // F_GETFD: FD_CLOEXEC
  socket.close();
  socket.close(); // a second time does no harm
  const sized = create({ fillSize: 64, completionSize: 128, needWakeup: false });
  expect([sized.ref.fill.size, sized.ref.completion.size, sized.ref.needWakeup]).toEqual([64, 128, false]);
  sized.close();
});

test.each(["native", "skb"] as const)(
  "%s mode: a frame that matches comes in, another is the kernel's",
  async (mode) => {
    const program = SteerProgram.load();
    const socket = create();
    card.run(() => program.attach(card.ifindex, mode));
    program.setAddress(MAC);
    // The veth hands a packet socket's frames to its queue 0 or 1 as it likes: one socket a queue.
    const other = create({ queue: 1 });
    program.setSocket(0, socket.ref.fd);
    program.setSocket(1, other.ref.fd);
    program.addMatch({ family: AF_INET, proto: UDP, address: words(ADDRESS4), port: PORT });
    const ends = [socket, other].map(({ ref }) => {
      const fill = new Ring(ref.fill, 8);
      for (let i = 0; i < 8; i++) fill.entries[2 * i] = i * 2048;
      Atomics.store(fill.producer, 0, 8);
      return { rx: new Ring(ref.rx, 16), umem: new Uint8Array(ref.umem.memory.buffer) };
    });
    const frame = ethernet(ETH_P_IP, ipv4(udp(PORT, Buffer.from("in through the ring"))));
    send(ethernet(ETH_P_IP, ipv4(udp(PORT + 1))));
    send(frame);
    await until(() => ends.some(({ rx }) => Atomics.load(rx.producer, 0) > 0));
    const { rx, umem } = ends.find((end) => Atomics.load(end.rx.producer, 0) > 0)!;
    const [address, high, length] = rx.entries;
    expect(high).toBe(0);
    expect(umem.slice(address!, address! + length!)).toEqual(frame);
    expect(address! % 2048).toBe(258); // RX_HEADROOM
    expect(program.counters()).toMatchObject({ redirected: 1, noMatch: 1, noSocket: 0 });
    expect(ends.reduce((sum, end) => sum + Atomics.load(end.rx.producer, 0), 0)).toBe(1);
    program.close();
    socket.close();
    other.close();
  },
);

test("a frame put on the tx ring goes out, and its address comes back on the completion ring", async () => {
  const socket = create();
  const { ref } = socket;
  const tx = new Ring(ref.tx, 16);
  const completion = new Ring(ref.completion, 8);
  const frame = concat(PEER_MAC, MAC, u16(0x88b5), Buffer.from("out through the ring".padEnd(60)));
  new Uint8Array(ref.umem.memory.buffer).set(frame, 3 * 2048);
  tx.entries.set([3 * 2048, 0, frame.length, 0]);
  Atomics.store(tx.producer, 0, 1);
  check("kick", libc.sendto(ref.fd, null, 0, MSG_DONTWAIT, null, 0));
  expect(await receive((got) => got[12] === 0x88 && got[13] === 0xb5)).toEqual(frame);
  await until(() => Atomics.load(completion.producer, 0) === 1);
  expect(completion.entries[0]).toBe(3 * 2048);
  // A descriptor outside the UMEM is refused, and counted.
  tx.entries.set([64 * 2048, 0, 60, 0], 4);
  Atomics.store(tx.producer, 0, 2);
  libc.sendto(ref.fd, null, 0, MSG_DONTWAIT, null, 0);
  expect(statistics(ref.fd)).toEqual({
    rxDropped: 0,
    rxInvalidDescs: 0,
    txInvalidDescs: 1,
    rxRingFull: 0,
    rxFillRingEmptyDescs: 0,
    txRingEmptyDescs: expect.any(Number),
  });
  socket.close();
});

test("frames without room are counted as such", async () => {
  const program = SteerProgram.load();
  const sockets = [0, 1].map((queue) => create({ queue })); // their fill rings stay empty
  card.run(() => program.attach(card.ifindex));
  program.setAddress(MAC);
  for (const { ref } of sockets) program.setSocket(ref.queue, ref.fd);
  program.addMatch({ family: AF_INET, proto: UDP, address: words(ADDRESS4), port: PORT });
  for (let i = 0; i < 5; i++) send(ethernet(ETH_P_IP, ipv4(udp(PORT))));
  const sum = (name: "rxDropped" | "rxFillRingEmptyDescs"): number =>
    sockets.reduce((total, { ref }) => total + statistics(ref.fd)[name], 0);
  await until(() => sum("rxFillRingEmptyDescs") === 5);
  expect(sum("rxDropped")).toBe(5);
  program.close();
  for (const socket of sockets) socket.close();
});

test("refused: a queue in use, naming who holds it", () => {
  const socket = create();
  expect(refusal(create)).toMatch(
    new RegExp(
      `^bind AF_XDP nd0 queue 0: EBUSY \\(another socket holds .* in .*PID ${process.pid} \\(.*\\); stop it, or`,
    ),
  );
  const other = create({ queue: 1 });
  other.close();
  socket.close();
});

test("refused: no such interface or queue, no zero copy, sizes that are none", () => {
  expect(refusal(() => create({ ifname: "nd9" }))).toBe(
    "bind AF_XDP nd9 queue 0: ENODEV (no such interface in this network namespace)",
  );
  expect(refusal(() => createSocket(options))).toContain("ENODEV"); // in the wrong namespace
  expect(refusal(() => create({ queue: 2 }))).toStartWith(
    "bind AF_XDP nd0 queue 2: EINVAL (the queue does not exist",
  );
  expect(refusal(() => create({ mode: "zerocopy" }))).toBe(
    "bind AF_XDP nd0 queue 0: EOPNOTSUPP (the driver has no zero copy: choose copy or auto)",
  );
  expect(refusal(() => create({ rxSize: 48 }))).toContain("EINVAL");
  expect(refusal(() => create({ frameBytes: 1000 }))).toStartWith("register UMEM of 64000 bytes: EINVAL");
});

test("a socket can be made at once after the last one on its queue was closed, and after a refusal", () => {
  for (let i = 0; i < 20; i++) {
    create().close();
    refusal(() => create({ mode: "zerocopy" }));
  }
});

test("frame sizes for MTUs", () => {
  expect([576, 1500, 1768].map(frameBytesFor)).toEqual([2048, 2048, 2048]);
  expect([1769, 3000, 3496].map(frameBytesFor)).toEqual([4096, 4096, 4096]);
  for (const mtu of [3497, 9000, 65535])
    expect(refusal(() => frameBytesFor(mtu))).toMatch(
      /MTU \d+: EINVAL \(.*lower the card's MTU to at most 3496\)/,
    );
});

test("queues of an interface: by channels, else one", () => {
  card.run(() => {
    expect(receiveQueues("nd0")).toBe(2);
    expect(receiveQueues("lo")).toBe(1);
    expect(refusal(() => receiveQueues("nd9"))).toContain("ENODEV");
  });
  const single = new Card(1);
  expect(single.run(() => receiveQueues("nd0"))).toBe(1);
  single.close();
});

test("VLAN stripping goes off and back on, and stays off where it was", () => {
  card.run(() => {
    expect(setVlanStripping("nd0", false)).toBe(true);
    expect(setVlanStripping("nd0", false)).toBe(false);
    expect(setVlanStripping("nd0", true)).toBe(false);
    expect(setVlanStripping("nd0", true)).toBe(true);
    expect(refusal(() => setVlanStripping("nd9", false))).toContain("ENODEV");
  });
});
