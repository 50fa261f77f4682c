// A switch without a kernel's network: a sim link as the card, real socket pairs as clients' channels, a socket pair as
// the tap, and the control Worker's side (table, claims) called in between. What happens is what happens in a net Worker.
//
//   card: 02:00:00:00:00:01, 10.77.0.1/24 and fd77::1/64, MTU 1500      kernel's addresses: those (type local)
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { Recorder } from "../../src/capture/recorder.ts";
import { captureBytes } from "../../src/capture/region.ts";
import { CARD_LLADDR, SimLoop } from "../../src/lab/simloop.ts";
import { CLIENT_COUNTERS } from "../../src/switch/account.ts";
import { Claims } from "../../src/control/claim.ts";
import { dropNames } from "../../src/switch/drops.ts";
import { TableReader } from "../../src/switch/table/find.ts";
import { tableBytes } from "../../src/switch/table/layout.ts";
import { Own, ownBytes } from "../../src/switch/own.ts";
import type { Match } from "../../src/switch/table/pattern.ts";
import { Asked, Requests } from "../../src/switch/request.ts";
import { Switch } from "../../src/switch/switch.ts";
import { TableWriter } from "../../src/switch/table/table.ts";
import { parseAddress, parseIPv4, parseIPv6, parseLladdr } from "../../src/wire/address.ts";

const AF_UNIX = 1;
const SOCK_DGRAM_NONBLOCK_CLOEXEC = 2 | 0x800 | 0x80000;
const EPOLL_CTL_ADD = 1;
const EPOLLIN = 1;
const MSG_DONTWAIT = 0x40;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
export const ALIAS4 = "192.0.0.8";
export const ALIAS6 = "fd6e:6574:64::8";
export const TAP_IFINDEX = 7;
export const TAP_LLADDR = "02:00:00:00:00:77";

const buffer = new Uint8Array(new ArrayBuffer(65536));

function socketPair(): [number, number] {
  const fds = new Int32Array(new ArrayBuffer(8));
  check("socketpair", libc.socketpair(AF_UNIX, SOCK_DGRAM_NONBLOCK_CLOEXEC, 0, ptr(fds)));
  return [fds[0]!, fds[1]!];
}

/** One end of a pair, with frames as messages. */
export class End {
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** False if it is full. */
  send(frame: Uint8Array): boolean {
    buffer.set(frame);
    return Number(libc.sendto(this.fd, ptr(buffer), frame.length, MSG_DONTWAIT, null, 0)) === frame.length;
  }

  /** All that is there. */
  receive(): Uint8Array[] {
    const frames: Uint8Array[] = [];
    for (;;) {
      const n = Number(libc.recvfrom(this.fd, ptr(buffer), buffer.length, MSG_DONTWAIT, null, null));
      if (n < 0) return frames;
      frames.push(buffer.slice(0, n));
    }
  }

  close(): void {
    libc.close(this.fd);
  }
}

export class TestClient extends End {
  readonly slot: number;
  readonly serverFd: number;
  readonly world: World;

  constructor(world: World, fd: number, serverFd: number, slot: number) {
    super(fd);
    this.world = world;
    this.serverFd = serverFd;
    this.slot = slot;
  }

  /** What it got and lost, by name, without zeros. */
  counts(): Record<string, number> {
    const row = this.world.own.accounts.read(this.slot);
    return Object.fromEntries(CLIENT_COUNTERS.map((name, i) => [name, row[i]!]).filter(([, n]) => n !== 0));
  }
}

export interface WorldOptions {
  frames?: number;
  partialChecksums?: boolean;
  firewall?: boolean;
  perClient?: number;
  matches?: number;
  /** what control refuses to claim */
  refuses?: (match: Match, client: number) => boolean;
}

export class World {
  readonly sim: SimLoop;
  readonly table: TableWriter;
  readonly own: Own;
  readonly claims: Claims;
  readonly tap: End;
  readonly switch: Switch;
  readonly frames: number;
  private readonly epollFd: number;
  private readonly fds: number[] = [];
  /** Milliseconds by the switch's clock. */
  private now = 1000;

  constructor(options: WorldOptions = {}) {
    const capacity = { clients: 16, matches: options.matches ?? 256 };
    const { frames = 256, partialChecksums = false, firewall = false } = options;
    this.frames = frames;
    const memory = new ArrayBuffer(tableBytes(capacity));
    this.table = new TableWriter(memory, capacity, 1234567);
    this.table.setNow(1);
    const reader = new TableReader(memory, capacity);
    this.own = new Own(new ArrayBuffer(ownBytes(capacity)), capacity);
    this.claims = new Claims(this.table, [new Asked(this.own)], [this.own.touches], {
      perClient: options.perClient ?? 32,
      timeout: () => 60,
      allowsDhcp: () => true,
      allows: (match, client) => !options.refuses?.(match, client),
      added: () => {},
      removing: () => {},
      gone: (client) => this.gone.push(client),
    });
    this.epollFd = check("epoll_create1", libc.epoll_create1(0));
    const [tap, tapServer] = socketPair();
    this.tap = new End(tap);
    this.fds.push(this.epollFd, tapServer);
    let made: Switch | undefined;
    this.sim = new SimLoop({
      frames,
      partialChecksums,
      switch: (parts) => {
        made = new Switch({
          ...parts,
          table: reader,
          requests: new Requests(this.own, reader, 0),
          touches: this.own.touches,
          accounts: this.own.accounts,
          recorder: new Recorder(new ArrayBuffer(captureBytes)),
          epollFd: this.epollFd,
          tapFd: tapServer,
          tapIfindex: TAP_IFINDEX,
          readsTap: true,
          alias4: Int32Array.of(parseIPv4(ALIAS4)!),
          alias6: parseIPv6(ALIAS6)!,
          macs: new Int32Array(0),
          firewall,
          partialChecksums,
          wake: () => {},
        });
        return made;
      },
    });
    this.switch = made!;
    this.sim.setLink({ ifindex: TAP_IFINDEX, lladdr: TAP_LLADDR });
    this.sim.route("10.77.0.0/24");
    this.sim.route("10.77.0.1/32", undefined, { type: 2 });
    this.sim.route6("fd77::/64");
    this.sim.route6("fd77::1/128", 2);
    this.sim.neigh("10.77.0.2");
    this.sim.neigh6("fd77::2");
    this.tick(0);
  }

  /** Clients that control was told are gone. */
  readonly gone: number[] = [];

  attach(options: { mac?: string; mtu?: number; ratePps?: number; sndbuf?: number } = {}): TestClient {
    const [fd, serverFd] = socketPair();
    if (options.sndbuf !== undefined)
      libc.setsockopt(serverFd, SOL_SOCKET, SO_SNDBUF, ptr(new Int32Array([options.sndbuf])), 4);
    const mac = parseLladdr(options.mac ?? CARD_LLADDR)!;
    const { mtu = 1500, ratePps = 0 } = options;
    const row = { fd: serverFd, mac, mtu, flags: 0, home: 0, ratePps, pid: 1, uid: 0, gid: 0 };
    const slot = this.table.addClient(row);
    this.fds.push(serverFd);
    const event = new Int32Array(new ArrayBuffer(16));
    event[0] = EPOLLIN;
    event[process.arch === "x64" ? 1 : 2] = slot;
    check("epoll_ctl", libc.epoll_ctl(this.epollFd, EPOLL_CTL_ADD, serverFd, ptr(event)));
    return new TestClient(this, fd, serverFd, slot);
  }

  /** Gives a client what comes for an address and port (-1 any), from a remote one if it is told. */
  match(client: TestClient, protocol: number, dst: string, dport = -1, src?: string, sport = -1): number {
    const to = parseAddress(dst)!;
    const from = src === undefined ? undefined : parseAddress(src)!;
    const bits = to.family === 2 ? 32 : 128;
    const match: Match = {
      family: to.family as 2 | 10,
      protocol,
      dst: to.words,
      dstPrefix: bits,
      dport,
      src: from?.words ?? new Int32Array(4),
      srcPrefix: from ? bits : 0,
      sport,
    };
    return this.table.add(match, client.slot, "match");
  }

  owned(client: TestClient, address: string): void {
    const { family, words } = parseAddress(address)!;
    this.table.addOwned(family as 2 | 10, words, client.slot);
  }

  group(client: TestClient, protocol: number, text: string, port: number): void {
    const { family, words } = parseAddress(text)!;
    this.table.addGroup({ family: family as 2 | 10, protocol, address: words, port }, client.slot);
  }

  /** A frame from the wire. */
  wire(frame: Uint8Array, at = 2): void {
    if (!this.sim.link.inject(frame, at)) throw new Error("no free frame to inject");
  }

  /** Turns until nothing comes any more; control answers in between. Returns what went out of the card. */
  run(): Uint8Array[] {
    const { sim, claims } = this;
    for (let idle = 0; idle < 2; ) {
      const received = sim.loop.turn() + this.switch.turn();
      idle = received + claims.serve() > 0 ? 0 : idle + 1;
      sim.netbase.quiesce();
    }
    return sim.link.sent();
  }

  /** Time passes. */
  tick(milliseconds: number): void {
    this.now += milliseconds;
    this.switch.tick(this.now * 1e6);
  }

  /** Drops by reason, and other counts of the loop, without zeros. */
  counts(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.sim.counts()).filter(([, n]) => n !== 0));
  }

  drops(): Record<string, number> {
    const names = new Set<string>(dropNames);
    return Object.fromEntries(Object.entries(this.counts()).filter(([name]) => names.has(name)));
  }

  /** Closes the switch; returns how many frames are missing then. */
  close(): number {
    this.switch.close();
    const missing = this.frames - this.sim.link.freeFrames;
    for (const fd of this.fds) libc.close(fd);
    this.tap.close();
    this.sim.close();
    return missing;
  }
}
