// Our side of bench/line-rate.ts, run as a child: the net Worker's loop and switch (src/switch) with clients by memif, over a
// card that has sent what it is given by the time that it is asked again. Nothing is measured here that the daemon does not
// run.
//
//   bun bench/forwarding.ts alone OPTIONS    the clients are this process's own rings, always full: ns a frame
//   bun bench/forwarding.ts pause OPTIONS    the same: the longest pause
//   bun bench/forwarding.ts memif OPTIONS    a client connects at OPTIONS.socket (testpmd): frames received and sent a second
//   bun bench/forwarding.ts drop OPTIONS     the same, but what is received is dropped at once
//   bun bench/forwarding.ts check OPTIONS    alone, every frame once: prints a sum over all that was sent, the same as C's
//
// OPTIONS is JSON (Options). Prints {"case","value"} lines.
import { Recorder } from "../src/capture/recorder.ts";
import { captureBytes } from "../src/capture/region.ts";
import { OwnRing } from "../src/lab/ownring.ts";
import { type Batch, BATCH, type Link } from "../src/link/link.ts";
import { frameBatch } from "../src/link/memif/batches.ts";
import { portsBytes, PortWriter } from "../src/link/memif/port.ts";
import { type FramePlace, placeFrames } from "../src/mem/views.ts";
import { Region } from "../src/mem/region.ts";
import { Ring } from "../src/mem/ring.ts";
import { NetbaseReader } from "../src/netbase/netbase.ts";
import { NetLoop } from "../src/switch/loop.ts";
import { TO_PACKETS } from "../src/switch/account.ts";
import { MatchTable } from "../src/switch/match.ts";
import { fragmentBytes } from "../src/switch/fragment.ts";
import { Own, ownBytes } from "../src/switch/own.ts";
import { lockBytes } from "../src/switch/ports.ts";
import { Requests } from "../src/switch/request.ts";
import { Solicitor } from "../src/switch/solicit.ts";
import { Switch } from "../src/switch/switch.ts";
import { TableReader } from "../src/switch/table/find.ts";
import { Transmit } from "../src/switch/transmit.ts";
import { parseIPv4, parseIPv6 } from "../src/wire/address.ts";
import { Pauses } from "./pauses.ts";
import { CAPACITY, IFINDEX, type Routed, routedFrames } from "./routed.ts";
import { serveMemif } from "./served.ts";
import { refOf } from "./world.ts";

export interface Options extends Routed {
  readonly seconds: number;
  /** bytes a frame */
  readonly bytes: number;
  readonly flows: number;
  readonly log2: number;
  /** clients that send, in turn; 1 if missing */
  readonly senders?: number;
  /** of memif; a client's id is its slot in the table */
  readonly socket?: string;
}

const FRAMES = 4096;
const FRAME_BYTES = 2048;
const CLIENT_BYTES = 768 << 20;
const SLICE = 8192;
const WARM_UP_NS = 1e9;
const TURNS = 64;

class SentLink implements Link {
  readonly place: FramePlace;
  readonly memory: WebAssembly.Memory;
  readonly words: Int32Array;
  readonly frames = FRAMES;
  readonly frameBytes = FRAME_BYTES;
  readonly fd = -1;
  sent = 0;
  /** Told of each frame, where somebody looks. */
  look: ((off: number, len: number) => void) | undefined;
  /** The ring that a card would read: offset, length. */
  private readonly ring = new Int32Array(4 * 2048);
  private producer = 0;
  private readonly free = Int32Array.from({ length: FRAMES }, (_, i) => i * FRAME_BYTES);
  private top = FRAMES;

  constructor(regions: readonly number[]) {
    this.place = placeFrames(FRAMES * FRAME_BYTES, CLIENT_BYTES, regions);
    this.memory = this.place.memory;
    this.words = new Int32Array(this.memory.buffer);
  }

  receive(batch: Batch): void {
    batch.n = 0;
  }

  transmit(batch: Batch): number {
    const { ring, free, producer, look } = this;
    const { off, len, n } = batch;
    let { top } = this;
    for (let i = 0; i < n; i++) {
      const d = ((producer + i) & 2047) << 2;
      ring[d] = off[i]!;
      ring[d + 2] = len[i]!;
      free[top++] = off[i]! & -FRAME_BYTES;
      if (look !== undefined) look(off[i]!, len[i]!);
    }
    this.producer = (producer + n) | 0;
    this.top = top;
    this.sent += n;
    return n;
  }

  release(batch: Batch): void {
    for (let i = 0; i < batch.drops; i++) this.free[this.top++] = batch.dropped[i]! & -FRAME_BYTES;
  }

  take(): number {
    return this.top > 0 ? this.free[--this.top]! : -1;
  }

  takeMany(off: Int32Array, from: number, start: number): number {
    const { free } = this;
    let { top } = this;
    let i = from;
    for (; i < off.length && top > 0; i++) off[i] = free[--top]! + start;
    this.top = top;
    return i;
  }

  maintain(): boolean {
    return false;
  }
}

/** The parts of a net Worker, put together as src/xdp/worker.ts does. */
class World {
  readonly link: SentLink;
  readonly ports: Region = Region.create("bench-ports", portsBytes);
  readonly own: Own = new Own(new ArrayBuffer(ownBytes(CAPACITY)), CAPACITY);
  private readonly loop: NetLoop;
  private readonly switch: Switch;
  private readonly netbase: NetbaseReader;

  constructor({ netbase, epochs, table }: Routed) {
    const views = { netbase: refOf(netbase), table: refOf(table) };
    this.link = new SentLink([views.netbase.bytes, views.table.bytes]);
    const { link, own } = this;
    this.netbase = NetbaseReader.open(views.netbase, refOf(epochs), 0);
    const solicitor = new Solicitor(new Ring(new ArrayBuffer(Ring.bytes(64)), 0, 64), -1);
    const transmit = new Transmit(link.words, this.netbase, solicitor, IFINDEX);
    const reader = new TableReader(Region.open(views.table, "read-only").buffer, CAPACITY);
    const services = new MatchTable(new ArrayBuffer(MatchTable.bytes(64)), 64);
    const recorder = new Recorder(new ArrayBuffer(captureBytes));
    const partialChecksums = false;
    this.switch = new Switch({
      ...{
        link,
        services,
        netbase: this.netbase,
        transmit,
        solicitor,
        table: reader,
        recorder,
        partialChecksums,
        views,
      },
      ports: this.ports.buffer,
      locks: new ArrayBuffer(lockBytes(CAPACITY.clients)),
      worker: 0,
      fragments: [new ArrayBuffer(fragmentBytes)],
      requests: new Requests(own, reader, 0),
      touches: own.touches,
      accounts: own.accounts,
      ...{ epollFd: -1, tapFd: -1, tapIfindex: -1, macs: new Int32Array(0), firewall: false },
      alias4: Int32Array.of(parseIPv4("192.0.0.8")!),
      alias6: parseIPv6("fd6e:6574:64::8")!,
      wake() {},
    });
    this.loop = new NetLoop(link, services, this.netbase, transmit, {
      partialChecksums,
      switch: this.switch,
    });
    transmit.refresh();
  }

  /** Receives, and looks at nothing. */
  drop(batch: Batch): number {
    const { ports } = this.switch;
    ports.refresh();
    let n = 0;
    for (const port of ports.all)
      for (const ring of port.from) {
        ports.receive(ring, batch, BATCH, FRAME_BYTES - 2, 0);
        n += batch.n;
      }
    return n;
  }

  turn(): number {
    const received = this.loop.turn() + this.switch.turn();
    this.netbase.quiesce();
    return received;
  }
}

const print = (name: string, value: number) => console.log(JSON.stringify({ case: name, value }));

function ownRings(world: World, { log2, flows, bytes, senders = 1 }: Options): OwnRing[] {
  const { memory, place } = world.link;
  const ports = new PortWriter(world.ports.buffer);
  return Array.from({ length: senders }, (_, client) => {
    const at = place.from + client * Math.ceil(OwnRing.bytes(log2) / 4096) * 4096;
    const ring = new OwnRing(memory, at, log2, client);
    for (const [i, frame] of routedFrames(ring.size, flows, bytes, client).entries()) ring.put(i, frame);
    ring.attach(ports);
    return ring;
  });
}

/** What `alone` and `pause` do: the path over rings that are always full. */
class Alone {
  readonly world: World;
  private readonly rings: readonly OwnRing[];

  constructor(options: Options) {
    this.world = new World(options);
    this.rings = ownRings(this.world, options);
    for (const end = Bun.nanoseconds() + WARM_UP_NS; Bun.nanoseconds() < end; ) this.slice();
  }

  turn(): number {
    for (const ring of this.rings) ring.refill();
    return this.world.turn();
  }

  /** ns a frame. */
  slice(): number {
    const start = Bun.nanoseconds();
    let n = 0;
    while (n < SLICE) n += this.turn();
    return (Bun.nanoseconds() - start) / n;
  }
}

/** ns a frame: the first twentieth of slices, so that what else the machine does counts for little. */
function alone(options: Options): void {
  const path = new Alone(options);
  const { link } = path.world;
  const before = link.sent;
  const slices: number[] = [];
  for (const end = Bun.nanoseconds() + options.seconds * 1e9; Bun.nanoseconds() < end; )
    slices.push(path.slice());
  if (link.sent - before < slices.length * SLICE) throw new Error("frames were dropped");
  slices.sort((a, b) => a - b);
  print("ns", slices[Math.floor(slices.length / 20)]!);
}

/** The longest time from turn to turn, without that in which another thread had the core: microseconds. */
function pause(options: Options): void {
  const path = new Alone(options);
  const pauses = new Pauses();
  const end = Bun.nanoseconds() + options.seconds * 1e9;
  do path.turn();
  while (pauses.turn() < end);
  print("pause", pauses.running / 1000);
}

/** Frames a second that come from a real client and, unless they are dropped, are sent; and what came back to it. */
function memif(options: Options, isDropped: boolean): void {
  const world = new World(options);
  const { link, ports, own } = world;
  serveMemif(options.socket!, 1, link.place, ports.buffer);
  const batch = frameBatch(link.memory);
  for (let i = 0; i < BATCH; i++) batch.off[i] = link.take() + 2;
  const turn = isDropped ? () => world.drop(batch) : () => world.turn();
  const run = (ns: number): number => {
    let n = 0;
    for (const end = Bun.nanoseconds() + ns; Bun.nanoseconds() < end; )
      for (let i = 0; i < TURNS; i++) n += turn();
    return n;
  };
  run(WARM_UP_NS);
  const [sent, start, row] = [link.sent, Bun.nanoseconds(), own.accounts.read(0)];
  const received = run(options.seconds * 1e9);
  const seconds = (Bun.nanoseconds() - start) / 1e9;
  print("received", received / seconds / 1e6);
  if (isDropped) return;
  print("sent", (link.sent - sent) / seconds / 1e6);
  print("back", (own.accounts.read(0)[TO_PACKETS]! - row[TO_PACKETS]!) / seconds / 1e6);
}

function check(options: Options): void {
  const world = new World(options);
  const [ring] = ownRings(world, options) as [OwnRing];
  const { words } = world.link;
  let sum = 0;
  let n = 0;
  world.link.look = (off, len) => {
    for (let at = off >>> 2, end = (off + len + 2) >>> 2, i = 0; at < end; at++, i++)
      sum = (Math.imul(sum, 31) + (i === 0 ? words[at]! & ~0xffff : words[at]!)) >>> 0;
    n++;
  };
  ring.refill();
  while (n < ring.size && world.turn() > 0);
  print("sent", n);
  print("sum", sum);
}

if (import.meta.main) {
  const [mode, text] = Bun.argv.slice(2) as [string, string];
  const options = JSON.parse(text) as Options;
  if (mode === "alone") alone(options);
  else if (mode === "pause") pause(options);
  else if (mode === "check") check(options);
  else memif(options, mode === "drop");
}
