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
import { pcapCompile } from "../../ffi/libpcap.ts";
import { Groups } from "../../src/control/groups.ts";
import { Claims } from "../../src/control/claim.ts";
import { dropNames } from "../../src/switch/drops.ts";
import { decode } from "../../src/filter/program.ts";
import type { Capacity } from "../../src/netbase/layout.ts";
import { epochBytes } from "../../src/mem/epoch.ts";
import { Region } from "../../src/mem/region.ts";
import { Counts } from "../../src/switch/filters/counts.ts";
import { filterBytes, RECEIVE, ROW_ID, rowOf, TRANSMIT } from "../../src/switch/filters/layout.ts";
import { FilterOwn, filterOwnBytes } from "../../src/switch/filters/own.ts";
import { readRule, type Rule } from "../../src/switch/filters/rule.ts";
import { FilterWriter } from "../../src/switch/filters/writer.ts";
import { TableReader } from "../../src/switch/table/find.ts";
import { ACKNOWLEDGED, FILTERS_FROM, FILTERS_TO, tableBytes } from "../../src/switch/table/layout.ts";
import { portsBytes } from "../../src/link/memif/port.ts";
import { lockBytes } from "../../src/switch/ports.ts";
import { fragmentBytes } from "../../src/switch/fragment.ts";
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

/** A rule, compiled here. */
function ruleOf(text: string): Rule {
  const rule = readRule(text);
  if (typeof rule === "string") throw new Error(`${text}: ${rule}`);
  const { expression, bytecode, ...rest } = rule;
  return { ...rest, program: expression === "" ? bytecode : decode(pcapCompile(expression)) };
}

export interface WorldOptions {
  frames?: number;
  /** bytes behind the frames, for rings of clients by memif */
  room?: number;
  partialChecksums?: boolean;
  firewall?: boolean;
  perClient?: number;
  matches?: number;
  /** netbase's */
  capacity?: Partial<Capacity>;
  /** the operator's, as the configuration has them */
  rules?: readonly string[];
  /** what control refuses to claim */
  refuses?: (match: Match, client: number) => boolean;
}

/** Of the table, and of fragments. */
export const SEED = 1234567;

export class World {
  readonly sim: SimLoop;
  readonly table: TableWriter;
  readonly own: Own;
  readonly claims: Claims;
  readonly filters: FilterWriter;
  readonly groups: Groups;
  readonly filterOwn: FilterOwn;
  readonly rules: readonly Rule[];
  readonly tap: End;
  readonly switch: Switch;
  readonly frames: number;
  private readonly region: Region;
  private readonly hasRoom: boolean;
  /** where fragments go, by this net Worker and by another that there is not */
  readonly fragments: readonly ArrayBuffer[] = [0, 1].map(() => new ArrayBuffer(fragmentBytes));
  private readonly epollFd: number;
  private readonly fds: number[] = [];
  /** Milliseconds by the switch's clock. */
  private now = 1000;

  constructor(options: WorldOptions = {}) {
    const capacity = { clients: 32, matches: options.matches ?? 256 };
    const { frames = 256, partialChecksums = false, firewall = false } = options;
    this.frames = frames;
    this.hasRoom = options.room !== undefined;
    this.region = Region.create("test-switch", tableBytes(capacity));
    const memory = this.region.buffer;
    this.table = new TableWriter(memory, capacity, SEED);
    this.table.setNow(1);
    const reader = new TableReader(memory, capacity);
    this.own = new Own(new ArrayBuffer(ownBytes(capacity)), capacity);
    this.claims = new Claims(this.table, [new Asked(this.own)], [this.own.touches], {
      perClient: options.perClient ?? 32,
      crowded: () => -1,
      timeout: () => 60,
      allowsDhcp: () => true,
      allows: (match, client) => !options.refuses?.(match, client),
      added: () => true,
      removing: () => {},
      gone: (client) => this.gone.push(client),
    });
    const filterCapacity = { ...capacity, filters: 256 };
    const filterMemory = new ArrayBuffer(filterBytes(filterCapacity));
    const epochs = new Int32Array(epochBytes(1) / 4);
    this.filters = new FilterWriter(filterMemory, filterCapacity, epochs, this.table.words);
    this.groups = new Groups(this.filters);
    const filterOwn = new ArrayBuffer(filterOwnBytes(filterCapacity.filters));
    this.filterOwn = new FilterOwn(filterOwn, filterCapacity.filters);
    this.rules = (options.rules ?? []).map(ruleOf);
    this.epollFd = check("epoll_create1", libc.epoll_create1(0));
    const [tap, tapServer] = socketPair();
    this.ports = new ArrayBuffer(portsBytes);
    this.tap = new End(tap);
    this.fds.push(this.epollFd, tapServer);
    let made: Switch | undefined;
    this.sim = new SimLoop({
      frames,
      partialChecksums,
      ...(options.capacity && { capacity: options.capacity }),
      ...(options.room !== undefined && { room: options.room, table: this.region.ref }),
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
          fragments: this.fragments,
          worker: 0,
          ports: this.ports,
          locks: new ArrayBuffer(lockBytes(capacity.clients)),
          alias4: Int32Array.of(parseIPv4(ALIAS4)!),
          alias6: parseIPv6(ALIAS6)!,
          macs: new Int32Array(0),
          firewall,
          filters: {
            filters: filterMemory,
            own: [filterOwn],
            capacity: filterCapacity,
            worker: 0,
            rules: this.rules,
            flowSeconds: { tcp: 60, udp: 60, icmp: 60, other: 60 },
            ifindex: 2,
            queue: 0,
          },
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
    this.sim.route("10.77.0.255/32", undefined, { type: 3 });
    this.sim.route6("fd77::/64");
    this.sim.route6("fd77::1/128", 2);
    this.sim.neigh("10.77.0.2");
    this.sim.neigh6("fd77::2");
    this.tick(0);
  }

  /** What the control Worker would say of clients by memif. */
  readonly ports: ArrayBuffer;
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
    const client = new TestClient(this, fd, serverFd, slot);
    if (this.rules.length > 0) this.flag(client);
    return client;
  }

  /** Gives a client a filter: libpcap's language. @param entry of a match of its */
  filter(client: TestClient, direction: "receive" | "transmit", text: string, entry = 0): void {
    const way = direction === "receive" ? RECEIVE : TRANSMIT;
    if (!this.filters.put(client.slot, entry, way, decode(pcapCompile(text)))) throw new Error("no room");
    this.flag(client);
    this.groups.filtered(client.slot, entry);
  }

  unfilter(client: TestClient, direction: "receive" | "transmit", entry = 0): void {
    this.filters.remove(client.slot, entry, direction === "receive" ? RECEIVE : TRANSMIT);
    this.groups.filtered(client.slot, entry);
  }

  /** What a filter let pass, and refused. */
  judged(client: TestClient, direction: "receive" | "transmit", entry = 0): [number, number] {
    const { filters, filterOwn } = this;
    const row = filters.find(client.slot, entry, direction === "receive" ? RECEIVE : TRANSMIT);
    const id = filters.words[rowOf(filters.layout, row) + ROW_ID]!;
    const { passed, refused } = Counts.sum([filterOwn.counts], row, id);
    return [passed, refused];
  }

  /** Its row says that filters are about its packets. */
  private flag(client: TestClient, more = 0): void {
    this.table.clients.setFlags(client.slot, FILTERS_TO | FILTERS_FROM | more);
  }

  /** A client hears what became of its frames: pairs of number and verdict. */
  acknowledge(client: TestClient): End {
    const [fd, serverFd] = socketPair();
    this.fds.push(serverFd);
    this.table.clients.setAckFd(client.slot, serverFd);
    this.flag(client, ACKNOWLEDGED);
    return new End(fd);
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

  group(client: TestClient, protocol: number, text: string, port: number): number {
    const { family, words } = parseAddress(text)!;
    const entry = this.table.addGroup(
      { family: family as 2 | 10, protocol, address: words, port },
      client.slot,
    );
    this.groups.join(client.slot, entry, this.table.get(entry).match);
    return entry;
  }

  /** Takes a client out of a group, and the filter of that entry with it. */
  leave(client: TestClient, entry: number): void {
    this.table.remove(entry);
    this.filters.remove(client.slot, entry, RECEIVE);
    this.groups.leave(client.slot, entry);
  }

  /** A frame from the wire. */
  wire(frame: Uint8Array, at = 2): void {
    if (!this.sim.link.inject(frame, at)) throw new Error("no free frame to inject");
  }

  /** Turns until nothing comes any more; control answers in between. Returns what went out of the card. */
  run(): Uint8Array[] {
    const { sim, claims, groups } = this;
    while (groups.settle());
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
    if (this.hasRoom) Bun.gc(true); // what was closed before: engines do not see how much address space a memory has
    libc.close(this.region.fd); // it stays mapped: who closes twice, or looks late, looks at nothing else's memory
    return missing;
  }
}
