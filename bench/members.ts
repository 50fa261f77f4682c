// A packet to a group whose members have filters, none of which takes it: the child of bench/filter.ts. The whole way from
// the link through the switch of a net Worker, and back to the link.
//   bun bench/members.ts MEMBERS SECONDS      ns a frame
import { check } from "../ffi/errno.ts";
import { libc } from "../ffi/libc.ts";
import { pcapCompile } from "../ffi/libpcap.ts";
import { Recorder } from "../src/capture/recorder.ts";
import { captureBytes } from "../src/capture/region.ts";
import { Groups } from "../src/control/groups.ts";
import { decode } from "../src/filter/program.ts";
import { SimLoop } from "../src/lab/simloop.ts";
import { portsBytes } from "../src/link/memif/port.ts";
import { epochBytes } from "../src/mem/epoch.ts";
import { Counts } from "../src/switch/filters/counts.ts";
import { filterBytes, RECEIVE } from "../src/switch/filters/layout.ts";
import { FilterOwn, filterOwnBytes } from "../src/switch/filters/own.ts";
import { FilterWriter } from "../src/switch/filters/writer.ts";
import { fragmentBytes } from "../src/switch/fragment.ts";
import { Own, ownBytes } from "../src/switch/own.ts";
import { lockBytes } from "../src/switch/ports.ts";
import { Requests } from "../src/switch/request.ts";
import { Switch } from "../src/switch/switch.ts";
import { TableReader } from "../src/switch/table/find.ts";
import { FILTERS_TO, tableBytes } from "../src/switch/table/layout.ts";
import { TableWriter } from "../src/switch/table/table.ts";
import { parseIPv4, parseLladdr } from "../src/wire/address.ts";
import { udpFrame } from "../src/wire/frame.ts";
import { IPPROTO_UDP } from "./crossing.ts";

const GROUP = "224.0.0.9";
const PORT = 520;
const BATCH = 64;
const STRANGER = 7; // a source port that no filter asks for

const mac = parseLladdr("02:00:00:00:00:01")!;
const frameFrom = (sport: number): Uint8Array =>
  udpFrame({
    dstMac: parseLladdr("01:00:5e:00:00:09")!,
    srcMac: mac,
    src: parseIPv4("10.77.0.2")!,
    dst: parseIPv4(GROUP)!,
    sport,
    dport: PORT,
    payload: new Uint8Array(22),
  });
/** Half of the members look at the port, half at the address. */
const textOf = (member: number): string =>
  member % 2 ? `udp src port ${10_000 + member}` : `src host 10.99.${member >> 8}.${member & 255}`;

class Members {
  private readonly sim: SimLoop;
  private readonly own: ArrayBuffer;
  private readonly writer: FilterWriter;
  private readonly entries: number[] = [];
  private readonly slots: number[] = [];
  private readonly off = new Int32Array(BATCH);
  private readonly len = new Int32Array(BATCH);

  constructor(members: number) {
    const capacity = { clients: members + 1, matches: members + 1, filters: members + 1 };
    const memory = new ArrayBuffer(tableBytes(capacity));
    const table = new TableWriter(memory, capacity, 1);
    const reader = new TableReader(memory, capacity);
    const own = new Own(new ArrayBuffer(ownBytes(capacity)), capacity);
    const filters = new ArrayBuffer(filterBytes(capacity));
    const writer = new FilterWriter(filters, capacity, new Int32Array(epochBytes(1) / 4), table.words);
    this.own = new ArrayBuffer(filterOwnBytes(capacity.filters));
    this.writer = writer;
    let made: Switch | undefined;
    this.sim = new SimLoop({
      switch: (parts) =>
        (made = new Switch({
          ...parts,
          ...{
            table: reader,
            fragments: [new ArrayBuffer(fragmentBytes)],
            requests: new Requests(own, reader, 0),
          },
          ...{ touches: own.touches, accounts: own.accounts, wake: () => {} },
          recorder: new Recorder(new ArrayBuffer(captureBytes)),
          epollFd: check("epoll_create1", libc.epoll_create1(0)),
          ...{ tapFd: -1, tapIfindex: -1, worker: 1 }, // the tap is another's to read
          ports: new ArrayBuffer(portsBytes),
          locks: new ArrayBuffer(lockBytes(capacity.clients)),
          ...{ alias4: new Int32Array(4), alias6: new Int32Array(4), macs: new Int32Array(0) },
          ...{ firewall: false, partialChecksums: false },
          filters: {
            ...{ filters, own: [this.own], capacity, worker: 0, rules: [] },
            ...{ flowSeconds: { tcp: 1, udp: 1, icmp: 1, other: 1 }, ifindex: 2, queue: 0 },
          },
        })),
    });
    const row = { fd: -1, mac, mtu: 1500, home: 1, ratePps: 0, pid: 1, uid: 0, gid: 0, flags: FILTERS_TO };
    const groups = new Groups(writer);
    const address = Int32Array.of(parseIPv4(GROUP)!, 0, 0, 0);
    for (let member = 0; member < members; member++) {
      const slot = table.addClient(row);
      const entry = table.addGroup({ family: 2, protocol: IPPROTO_UDP, address, port: PORT }, slot);
      if (!writer.put(slot, 0, RECEIVE, decode(pcapCompile(textOf(member))))) throw new Error("no room");
      groups.join(slot, entry, table.get(entry).match);
      this.slots.push(slot);
      this.entries.push(entry);
    }
    while (groups.settle()) Bun.sleepSync(1);
    while (made!.turn() > 0);
  }

  /** `n` frames through it. */
  private run(frame: Uint8Array, n: number): void {
    const { sim, off, len } = this;
    const { link } = sim;
    for (let done = 0; done < n; done += BATCH) {
      for (let i = 0; i < BATCH; i++) {
        const base = link.take();
        link.bytes.set(frame, base + 2);
        off[i] = base + 2;
        len[i] = frame.length;
      }
      link.rx.put(off, len, BATCH);
      while (sim.loop.turn() > 0);
      sim.netbase.quiesce();
    }
  }

  /** A member's frame is judged by its filter alone, which takes it; nobody's by none. */
  check(): void {
    const counts = [new FilterOwn(this.own, this.writer.layout.capacity.filters).counts];
    const judged = (member: number) => {
      const row = this.writer.find(this.slots[member]!, 0, RECEIVE);
      return Counts.sum(counts, row, this.writer.idOf(row));
    };
    const member = this.slots.length - 1 - (this.slots.length % 2);
    if (member > 0) {
      this.run(frameFrom(10_000 + member), BATCH);
      const { passed } = judged(member);
      if (passed !== BATCH) throw new Error(`member ${member} was given ${passed} of ${BATCH} frames`);
    }
    this.run(frameFrom(STRANGER), BATCH);
    const all = this.slots
      .map((_, i) => judged(i))
      .reduce((sum, { passed, refused }) => sum + passed + refused, 0);
    if (all !== (member > 0 ? BATCH : 0)) throw new Error(`${all} frames were judged`);
  }

  /** ns a frame that nobody takes. */
  time(seconds: number): number {
    const frame = frameFrom(STRANGER);
    const each = 16 * BATCH;
    const one = (): number => {
      const start = Bun.nanoseconds();
      this.run(frame, each);
      return (Bun.nanoseconds() - start) / each;
    };
    for (const end = Bun.nanoseconds() + 3e8; Bun.nanoseconds() < end; ) one();
    const slices: number[] = [];
    for (const end = Bun.nanoseconds() + seconds * 1e9; Bun.nanoseconds() < end; ) slices.push(one());
    return slices.sort((a, b) => a - b)[Math.floor(slices.length / 10)]!;
  }
}

if (import.meta.main) {
  const [count, seconds] = Bun.argv.slice(2).map(Number);
  const members = new Members(count!);
  members.check();
  console.log(JSON.stringify({ case: "ns", value: members.time(seconds!) }));
  process.exit(0);
}
