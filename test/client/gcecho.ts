// Child of test/switch/gc.test.ts: a socket of netd/client that answers in place, over memif and over a Unix socket, until
// FRAMES went through each; then datagrams as objects, so that the test sees that collections would be logged. netd's side is
// here too, in the same thread: its rings or its end of the socket, and requests that are always the same.
//   bun test/client/gcecho.ts FRAMES
import { writeSync } from "node:fs";
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { UdpSocket } from "../../src/client/client.ts";
import { Channel } from "../../src/client/channel.ts";
import { MemifPipe } from "../../src/client/memifpipe.ts";
import type { Pipe } from "../../src/client/pipe.ts";
import { Requests } from "../../src/client/request.ts";
import { UnixPipe } from "../../src/client/unixpipe.ts";
import { Connection } from "../../src/link/memif/connection.ts";
import { Mailbox } from "../../src/link/memif/mailbox.ts";
import { frameBatch, makeReceive, makeTransmit } from "../../src/link/memif/batches.ts";
import { FromClient, type Mapped, ToClient } from "../../src/link/memif/ring.ts";
import { Windows } from "../../src/link/memif/window.ts";
import { Receiver, Sender } from "../../src/link/uds.ts";
import { frameAddress, frameMemory } from "../../src/mem/frames.ts";
import { LIMITS } from "../link/memifserver.ts";
import * as f from "../switch/packets.ts";

const STDERR = 2;
const BATCH = 32;
const FRAME = 2048;
const WARM_UP = 200_000;
const WINDOWS = 1 << 20;
const PORT = 5000;
const SELF = { mtu: 1500, mac: "02:00:00:00:77:01", addresses: ["10.77.0.1", "fd77::1"] };

function pair(type: number): [number, number] {
  const fds = new Int32Array(new ArrayBuffer(8));
  check("socketpair", libc.socketpair(1, type | 0o2004000, 0, ptr(fds)));
  return [fds[0]!, fds[1]!];
}

/** netd's side: BATCH requests on their way, and the answers to them; returns how many those are. */
interface Far {
  ask(): void;
  hear(): number;
}

const memory = frameMemory(WINDOWS, 64 << 20);
const bytes = new Uint8Array(memory.buffer);
const requests = frameBatch(memory);
const answers = frameBatch(memory);
const receive = makeReceive(memory);
const transmit = makeTransmit(memory);
const packet = f.udpPacket({ dport: PORT });
for (let i = 0; i < BATCH; i++) {
  requests.off[i] = i * FRAME + 2;
  requests.len[i] = packet.length;
  bytes.set(packet, requests.off[i]!);
  answers.off[i] = (BATCH + i) * FRAME + 2;
}
requests.n = BATCH;

function memif(): [Pipe, Far] {
  const [near, far] = pair(5);
  const connection = new Connection(near, "netd", LIMITS);
  const mailbox = new Mailbox(near); // all answers in advance: the handshake waits for them
  for (let i = 0; i < 4; i++) mailbox.send({ type: "ack" }, 0);
  mailbox.send({ type: "connected", name: "netd" }, 0);
  const pipe = new MemifPipe(far, SELF.mtu, false, 1, 10);
  connection.read();
  const { regions, s2m, m2s } = connection.session;
  const mapped: Mapped = { offs: new Int32Array(256).fill(-1), bytes: new Int32Array(256) };
  mapped.offs[0] = new Windows(memory, WINDOWS, memory.buffer.byteLength).map(
    regions[0]!.fd,
    regions[0]!.bytes,
  );
  mapped.bytes[0] = regions[0]!.bytes;
  const from = new FromClient(memory, mapped, s2m[0]!);
  const to = new ToClient(memory, mapped, m2s[0]!);
  return [
    pipe,
    {
      ask: () => void transmit(to, requests),
      hear() {
        receive(from, answers, BATCH, FRAME - 2, 0);
        return answers.n;
      },
    },
  ];
}

function unix(): [Pipe, Far] {
  const [near, far] = pair(2);
  const sender = new Sender(BATCH, frameAddress(memory));
  const receiver = new Receiver(BATCH, frameAddress(memory));
  for (let i = 0; i < BATCH; i++) {
    sender.set(i, requests.off[i]!, requests.len[i]!);
    receiver.set(i, answers.off[i]!, FRAME - 2);
  }
  return [
    new UnixPipe(far, 1514),
    { ask: () => void sender.send(near, BATCH), hear: () => receiver.receive(near, BATCH) },
  ];
}

class Echo {
  heard = 0;
  private wanted = 0;
  private readonly far: Far;
  private readonly stop = new Int32Array(1);
  private readonly socket: UdpSocket;

  constructor([pipe, far]: [Pipe, Far]) {
    this.far = far;
    const channel = new Channel("nd0", new Requests("none"), pipe, SELF);
    this.socket = new UdpSocket(channel, PORT, undefined, {
      batch: (_, batch) => {
        for (let i = 0; i < batch.n; i++) batch.reply(i);
        // The answers to the batch before have been sent.
        this.heard += far.hear();
        if (this.heard < this.wanted) far.ask();
        else this.stop[0] = 1;
      },
    });
  }

  run(frames: number): void {
    this.wanted = this.heard + frames;
    this.stop[0] = 0;
    this.far.ask();
    this.socket.run(this.stop, -1);
    while (this.far.hear() > 0);
  }
}

const echoes = [new Echo(memif()), new Echo(unix())];
for (const echo of echoes) echo.run(WARM_UP);
Bun.gc(true);
writeSync(STDERR, "\nBEGIN\n");
const frames = Number(Bun.argv[2]);
for (const echo of echoes) echo.run(frames);
writeSync(STDERR, "\nEND\n");
for (const { heard } of echoes) if (heard < frames) throw new Error(`${heard} of ${frames}`);
let kept: object[] = [];
for (let i = 0; i < 1_000_000; i++) {
  kept.push({ i });
  if (kept.length > 1000) kept = [];
}
process.exit();
