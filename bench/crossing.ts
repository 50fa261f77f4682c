// Our side of bench/switch.ts, run as a child: the switch's own functions (src/switch) over frames in memory. What a card
// and a channel's system call cost is not in it: the channel that a frame is copied to is memory.
//   bun bench/crossing.ts NETBASE EPOCHS TABLE COUNT in|out|find 4|6 time SECONDS   ns a frame, or a search
//   bun bench/crossing.ts NETBASE EPOCHS TABLE COUNT in|out|find 4|6 check          throws where a frame goes astray
//   bun bench/crossing.ts NETBASE EPOCHS TABLE COUNT in 4 time SECONDS FILTERED     every match has a filter (bench/filter.ts)
//
// Match n of COUNT is client n % CLIENTS's: an even one a connected one, an odd one a listener. "in": frames from the wire
// for matches in no order. "out": frames from clients, from their matches. "find": the search alone, IPv4.
import { pcapCompile } from "../ffi/libpcap.ts";
import { Recorder } from "../src/capture/recorder.ts";
import { captureBytes } from "../src/capture/region.ts";
import { SimLink } from "../src/link/sim.ts";
import { TapQueue } from "../src/link/tap.ts";
import { Region } from "../src/mem/region.ts";
import { Ring } from "../src/mem/ring.ts";
import { NetbaseReader } from "../src/netbase/netbase.ts";
import { Arp } from "../src/switch/arp.ts";
import { Core, DONE, WIRE } from "../src/switch/core.ts";
import type { Deliver } from "../src/switch/deliver.ts";
import { decode } from "../src/filter/program.ts";
import { Discovery } from "../src/switch/discovery.ts";
import { TableReader } from "../src/switch/table/find.ts";
import { Judge } from "../src/switch/filters/judge.ts";
import { filterBytes, RECEIVE } from "../src/switch/filters/layout.ts";
import { filterOwnBytes } from "../src/switch/filters/own.ts";
import { FilterWriter } from "../src/switch/filters/writer.ts";
import { fragmentBytes, Fragments } from "../src/switch/fragment.ts";
import { Held } from "../src/switch/held.ts";
import { Drop, dropNames } from "../src/switch/drops.ts";
import { FROM_WIRE, Host } from "../src/switch/host.ts";
import { Inbound } from "../src/switch/inbound.ts";
import { Members } from "../src/switch/members.ts";
import { Own, ownBytes } from "../src/switch/own.ts";
import { Outbound } from "../src/switch/outbound.ts";
import { Requests } from "../src/switch/request.ts";
import { Solicitor } from "../src/switch/solicit.ts";
import { Stock } from "../src/switch/stock.ts";
import { Transmit } from "../src/switch/transmit.ts";
import { FIRST_TIME, Waiting } from "../src/switch/waiting.ts";
import { Wire } from "../src/switch/wire.ts";
import { AF_INET, formatAddress, swap32 } from "../src/wire/address.ts";
import { FOUND_ENTRY } from "../src/switch/table/search.ts";
import { portsWord } from "../src/switch/table/pattern.ts";
import { IFINDEX, OWN, refOf } from "./world.ts";
import { generator } from "./prefixes.ts";

export const CAPACITY = { clients: 64, matches: 131_072 };
export const CLIENTS = 8;
export const PORT = 8080;
export const REMOTE_PORT = 1234;
export const IPPROTO_UDP = 17;
const FRAMES = 512;
const BATCH = 64;
const ORDER = 262_144;
const CHANNEL_FRAMES = 64;
const CHANNEL_WORDS = 32;
const SLICE = 16_384;
const WARM_UP_MS = 400;
export const CHECKED = 100_000;

/** Word `i` of the n-th match's own address: 10.x.y.z or fd77::n, and of its peer's. */
export const ownWord = (six: boolean, n: number, i: number): number =>
  six ? [0x77fd, 0, Math.imul(n, 0x9e3779b1), n][i]! : 0x0a | swap32(n & 0xffffff);
export const peerWord = (six: boolean, n: number, i: number): number =>
  six ? [0x78fd, 0, 0, Math.imul(n, 0x85ebca6b)][i]! : 0x0000a8c0 | swap32((n * 7) & 0xffff);

export const macOf = (client: number): Uint8Array => Uint8Array.of(2, 0, 0, 0, 1, client);

/** The same order every time, and peers/switch.c's. */
export function orderOf(count: number, length: number): Int32Array {
  const next = generator(2463534242);
  return Int32Array.from({ length }, () => (next() >>> 0) % count);
}

/** A channel that is memory: CHANNEL_FRAMES frames a client, over and over. */
class Channels {
  /** Whose the last frame was. */
  last = -1;
  private readonly frames = new Int32Array(CLIENTS * CHANNEL_FRAMES * CHANNEL_WORDS);
  private readonly next = new Int32Array(CLIENTS);
  private readonly words: Int32Array;

  constructor(words: Int32Array) {
    this.words = words;
  }

  queue(slot: number, off: number, len: number): void {
    const { frames, next, words } = this;
    const n = next[slot]!;
    next[slot] = (n + 1) & (CHANNEL_FRAMES - 1);
    let to = (slot * CHANNEL_FRAMES + n) * CHANNEL_WORDS;
    let from = off >> 2;
    for (let left = (len + 5) >> 2; left > 0; left--) frames[to++] = words[from++]!;
    this.last = slot;
  }
}

/** Filters as programs have them: they differ in addresses and ports, and are of a few kinds. */
const FILTERS: readonly ((peer: string, n: number) => string)[] = [
  (peer) => `udp and src host ${peer}`,
  (_peer, n) => `udp src port ${REMOTE_PORT} or udp src port ${2000 + n}`,
  (peer) => `src net ${peer.replace(/\d+$/, "0")}/24 and udp dst port ${PORT}`,
  (peer, n) => `(host ${peer} or host 10.9.${(n >> 8) & 255}.${n & 255}) and not tcp`,
  (_peer, n) => `udp portrange 1000-${2000 + n}`,
];

class Crossing {
  private readonly link = new SimLink(FRAMES, 2048);
  private readonly words = this.link.words;
  private readonly channels = new Channels(this.words);
  private readonly inbound: Inbound;
  private readonly outbound: Outbound;
  private readonly table: TableReader;
  private readonly core: Core;
  private readonly batch = new Int32Array(BATCH);
  private readonly offs: number[] = [];
  private readonly out: boolean;
  private readonly six: boolean;
  private readonly len: number;

  /** @param filtered how many matches have a filter each */
  constructor([netbasePath, epochs, tablePath]: string[], out: boolean, six: boolean, filtered = 0) {
    this.out = out;
    this.six = six;
    this.len = six ? 70 : 64;
    const { link, words } = this;
    const netbase = NetbaseReader.open(refOf(netbasePath!), refOf(epochs!), 0);
    const table = new TableReader(Region.open(refOf(tablePath!), "read-only").buffer, CAPACITY);
    this.table = table;
    const own = new Own(new ArrayBuffer(ownBytes(CAPACITY)), CAPACITY);
    const solicitor = new Solicitor(new Ring(new ArrayBuffer(Ring.bytes(64)), 0, 64), -1);
    const transmit = new Transmit(words, netbase, solicitor, IFINDEX);
    transmit.refresh();
    const deliver = this.channels as unknown as Deliver;
    const macs = new Int32Array(0);
    const core = (this.core = new Core(
      words,
      table,
      own.touches,
      own.accounts,
      deliver,
      netbase,
      transmit,
      solicitor,
      macs,
    ));
    const alias4 = Int32Array.of(0x0800_00c0, 0, 0, 0);
    const alias6 = Int32Array.of(0x656e_6efd, 0x0064, 0, 0x0800_0000);
    const host = new Host(core, new TapQueue(-1, 0), -1, alias4, alias6, false);
    const arp = new Arp(core, alias4[0]!);
    const discovery = new Discovery(core, alias6);
    const recorder = new Recorder(new ArrayBuffer(captureBytes));
    const stock = new Stock(link, deliver);
    const tally = new Int32Array(dropNames.length);
    const fragments = new Fragments([new ArrayBuffer(fragmentBytes)], 0, 1);
    const members = new Members(core, host, tally, true);
    const wire = new Wire(link, stock, deliver, own.accounts, core.acks, transmit.port);
    this.inbound = new Inbound(
      core,
      host,
      arp,
      discovery,
      members,
      stock,
      wire,
      recorder,
      true,
      tally,
      fragments,
    );
    const held = new Held(new Requests(own, table, 0), CAPACITY.clients);
    const waiting = new Waiting(FRAMES, CAPACITY.clients);
    const { bytes } = link;
    this.outbound = new Outbound(
      core,
      host,
      members,
      arp,
      discovery,
      held,
      waiting,
      recorder,
      bytes,
      alias4,
      alias6,
      true,
    );
    core.tick();
    if (filtered > 0) core.judge = this.filter(core, filtered);
    for (let i = 0; i < FRAMES; i++) this.offs.push(this.prepare(link.take() + 2));
  }

  /** Gives the first `count` matches a filter each, that takes their frames. */
  private filter(core: Core, count: number): Judge {
    const capacity = { ...CAPACITY, filters: 16_384 };
    const memory = new ArrayBuffer(filterBytes(capacity));
    const writer = new FilterWriter(memory, capacity, new Int32Array(16), new Int32Array(16));
    for (let n = 0; n < count; n++) {
      this.table.find4(
        IPPROTO_UDP,
        ownWord(false, n, 0),
        peerWord(false, n, 0),
        portsWord(REMOTE_PORT, PORT),
      );
      const entry = this.table.found[FOUND_ENTRY]!;
      const peer = formatAddress(AF_INET, Int32Array.of(peerWord(false, n, 0)));
      const program = decode(pcapCompile(FILTERS[n % FILTERS.length]!(peer, n)));
      if (entry === 0 || !writer.put(n % CLIENTS, entry, RECEIVE, program)) throw new Error(`filter ${n}`);
    }
    const judge = new Judge(core, {
      ...{ filters: memory, own: [new ArrayBuffer(filterOwnBytes(capacity.filters))], capacity },
      ...{ worker: 0, rules: [], flowSeconds: { tcp: 1, udp: 1, icmp: 1, other: 1 } },
      ...{ ifindex: IFINDEX, queue: 0 },
    });
    while (judge.programs.make());
    return judge;
  }

  /** All of a frame but addresses, ports and source MAC. */
  private prepare(off: number): number {
    const { out, six, len, link } = this;
    const { bytes } = link;
    bytes.fill(0x5a, off, off + len);
    bytes.set(out ? Uint8Array.of(2, 0, 0x5e, 0x10, 0x20, 2) : OWN, off);
    bytes.set(macOf(0), off + 6);
    bytes.set(
      six ? [0x86, 0xdd, 0x60, 0, 0, 0, 0, len - 54, 17, 64] : [8, 0, 0x45, 0, 0, len - 14],
      off + 12,
    );
    if (!six) bytes.set([0, 0, 0x40, 0, 64, 17, 0, 0], off + 18);
    bytes.set([0, len - (six ? 54 : 34), 0, 0], off + (six ? 58 : 38));
    return off;
  }

  /** Makes a frame one of match n's, from `client` if it is sent by one. */
  private address(off: number, n: number, client: number): void {
    const { out, six, words } = this;
    const ip = (off + 14) >> 2;
    const size = six ? 4 : 1;
    const source = ip + (six ? 2 : 3);
    const mine = out ? source : source + size;
    const peers = out ? source + size : source;
    if (six) {
      const own = Math.imul(n, 0x9e3779b1);
      words[mine] = 0x77fd;
      words[mine + 1] = 0;
      words[mine + 2] = own;
      words[mine + 3] = n;
      words[peers] = 0x78fd;
      words[peers + 1] = 0;
      words[peers + 2] = 0;
      words[peers + 3] = Math.imul(n, 0x85ebca6b);
    } else {
      words[mine] = 0x0a | swap32(n & 0xffffff);
      words[peers] = 0xa8c0 | swap32((n * 7) & 0xffff);
    }
    words[source + size * 2] = out ? portsWord(PORT, REMOTE_PORT) : portsWord(REMOTE_PORT, PORT);
    if (out) words[ip - 1] = (words[ip - 1]! & ~0xffff) | 1 | (client << 8);
  }

  /** The client that a frame goes to, or comes from; -1 - the drop reason where it is dropped. */
  private one(off: number, client: number): number {
    const { channels, len } = this;
    if (this.out) {
      const result = this.outbound.frame(client, off, len, FIRST_TIME);
      return result === WIRE ? client : -1 - result;
    }
    const result = this.inbound.frame(off, len, FROM_WIRE);
    return result === DONE ? channels.last : -1 - result;
  }

  time(count: number, seconds: number): number {
    const { offs, batch, core, words, out } = this;
    const order = orderOf(count, ORDER);
    return fastest(seconds, (at) => {
      let wrong = 0;
      for (let end = at + SLICE; at < end; at += BATCH) {
        for (let i = 0; i < BATCH; i++) {
          const n = order[at + i]!;
          const off = offs[(at + i) & (FRAMES - 1)]!;
          this.address(off, n, n & (CLIENTS - 1));
          batch[i] = off;
        }
        core.ahead(words, batch, BATCH, out);
        for (let i = 0; i < BATCH; i++) {
          const client = order[at + i]! & (CLIENTS - 1);
          core.hand = i;
          if (this.one(batch[i]!, client) !== client) wrong++;
        }
      }
      return wrong;
    });
  }

  /** Frames of all matches and of as many that there are not; from clients, also of those that do not own their source. */
  check(count: number): void {
    const off = this.offs[0]!;
    for (const i of orderOf(CHECKED, CHECKED)) {
      const n = i % (count * 2);
      const owner = n % CLIENTS;
      const client = this.out && i % 3 === 0 ? (owner + 1) % CLIENTS : owner;
      this.address(off, n, client);
      this.core.ahead(this.words, Int32Array.of(off), 1, this.out);
      this.core.hand = 0;
      const got = this.one(off, client);
      const wanted = n >= count ? this.unmatched : client === owner ? owner : -1 - Drop.not_owner;
      if (got !== wanted) throw new Error(`match ${n} of ${count}, client ${client}: ${got}, not ${wanted}`);
    }
  }

  /** What becomes of a frame of no match: claims are asked for until too many wait. */
  private get unmatched(): number {
    return -1 - (this.out ? Drop.claim_crowded : Drop.no_match);
  }

  /** Claims that nobody answers take all room there is for waiting frames. */
  crowd(): void {
    for (let n = 0; n < 1000; n++) {
      const client = n % CLIENTS;
      this.address(this.offs[0]!, 1_000_000 + n, client);
      this.one(this.offs[0]!, client);
    }
  }

  find(count: number, seconds: number): number {
    const { find4 } = this.table;
    const order = orderOf(count, ORDER);
    const ports = portsWord(REMOTE_PORT, PORT);
    return fastest(seconds, (at) => {
      let wrong = 0;
      for (let i = at; i < at + SLICE; i++) {
        const n = order[i]!;
        const own = 0x0a | swap32(n & 0xffffff);
        if (find4(IPPROTO_UDP, own, 0xa8c0 | swap32((n * 7) & 0xffff), ports) !== (n & (CLIENTS - 1)))
          wrong++;
      }
      return wrong;
    });
  }

  /** What the searches find, as one number: the same in peers/switch.c. */
  findAll(count: number): number {
    let sum = 0;
    for (let n = 0; n < count * 2; n++) {
      const client = this.table.find4(
        IPPROTO_UDP,
        ownWord(false, n, 0),
        peerWord(false, n + (n % 3 === 0 ? 1 : 0), 0),
        portsWord(REMOTE_PORT, PORT),
      );
      sum = (Math.imul(sum, 31) + client) >>> 0;
    }
    return sum;
  }
}

/** ns of each of SLICE: the first decile of slices, so that what else the machine does counts for little. */
function fastest(seconds: number, slice: (at: number) => number): number {
  let at = 0;
  const one = (): number => {
    const start = Bun.nanoseconds();
    const wrong = slice(at);
    const ns = (Bun.nanoseconds() - start) / SLICE;
    if (wrong > 0) throw new Error(`${wrong} of ${SLICE} went astray`);
    at = (at + SLICE) & (ORDER - 1);
    return ns;
  };
  for (const end = Bun.nanoseconds() + WARM_UP_MS * 1e6; Bun.nanoseconds() < end; ) one();
  const slices: number[] = [];
  for (const end = Bun.nanoseconds() + seconds * 1e9; Bun.nanoseconds() < end; ) slices.push(one());
  return slices.sort((a, b) => a - b)[Math.floor(slices.length / 10)]!;
}

if (import.meta.main) {
  const [netbase, epochs, table, text, way, family, mode, seconds, filtered] = Bun.argv.slice(2) as string[];
  const count = Number(text);
  const crossing = new Crossing(
    [netbase!, epochs!, table!],
    way === "out",
    family === "6",
    Number(filtered ?? 0),
  );
  const print = (name: string, value: number) => console.log(JSON.stringify({ case: name, value }));
  if (mode === "time")
    print(
      "ns",
      way === "find" ? crossing.find(count, Number(seconds)) : crossing.time(count, Number(seconds)),
    );
  else if (way === "find") print("found", crossing.findAll(count));
  else {
    if (way === "out") crossing.crowd();
    crossing.check(count);
    print("checked", CHECKED);
  }
}
