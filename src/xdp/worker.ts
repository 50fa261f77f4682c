// A net Worker: one queue of the card, one busy-polling loop, from boot message to stop flag. It never returns to its
// event loop in between; what it needs it gets as numbers and shared memory.
//
// Poll modes: `busy` never sleeps; `adaptive` sleeps in poll(2) once nothing came for idleMicroseconds; `interrupt`
// sleeps whenever nothing waits. While it sleeps it is offline for the netbase (src/mem/epoch.ts).
import { errno, SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { Recorder } from "../capture/recorder.ts";
import { type SocketRef, XdpLink } from "../link/xdp.ts";
import { Control } from "../mem/control.ts";
import { EpochReader } from "../mem/epoch.ts";
import { Region, type RegionRef } from "../mem/region.ts";
import { Ring } from "../mem/ring.ts";
import { NetbaseReader } from "../netbase/netbase.ts";
import { pinSelf } from "../repin.ts";
import type { NetSwitch } from "../switch/boot.ts";
import { TableReader } from "../switch/table/find.ts";
import { H_EPOCH } from "../switch/table/layout.ts";
import { LOOP_COUNTERS, NetLoop } from "../switch/loop.ts";
import { MatchTable } from "../switch/match.ts";
import { Own } from "../switch/own.ts";
import { Requests } from "../switch/request.ts";
import { Solicitor } from "../switch/solicit.ts";
import { Switch, type SwitchParts } from "../switch/switch.ts";
import { Transmit } from "../switch/transmit.ts";
import { parseIPv4, parseIPv6, parseLladdr } from "../wire/address.ts";

declare const self: Worker;

export const MATCH_SLOTS = 1024;
export const SOLICIT_SLOTS = 1024;

export interface NetBoot {
  socket: SocketRef;
  ifindex: number;
  control: RegionRef;
  netbase: RegionRef;
  epochs: RegionRef;
  /** this Worker's slot in `epochs` */
  reader: number;
  matches: RegionRef;
  solicit: RegionRef;
  /** this Worker's ring of captured frames */
  capture: RegionRef;
  /** eventfds: the netlink Worker's, and this Worker's own */
  netlinkWakeFd: number;
  wakeFd: number;
  poll: "busy" | "adaptive" | "interrupt";
  idleMicroseconds: number;
  /** CPU to stay on, -1 for any */
  core: number;
  /** take checksums that the sender's kernel left undone: the card is a veth */
  partialChecksums: boolean;
  /** missing: no clients */
  switch?: NetSwitch | undefined;
}

/** Turns between two looks at the clock, the stop flag and the links, at most. */
const TURNS = 64;
/** Turns without a frame, one after the other, before `interrupt` sleeps: more burn a core that its clients may share. */
const EMPTY_TURNS = 8;
const SLEEP_MS = 1000;
/** How long it sleeps while something waits that wakes nobody. */
const SHORT_MS = 1;
const POLLIN = 1;

/** This Worker's part of the switch, made of what it was sent. */
class Clients {
  readonly switch: Switch;
  readonly epoch: EpochReader;

  constructor(
    boot: NetSwitch,
    shared: Pick<
      SwitchParts,
      "link" | "services" | "netbase" | "transmit" | "solicitor" | "recorder" | "partialChecksums"
    >,
    card: { readonly ifindex: number; readonly queue: number },
    netbase: RegionRef,
    open: (ref: RegionRef, mode: "read-only" | "read-write") => Region,
  ) {
    const { capacity, worker, epollFd, tapFd, tapIfindex, filters } = boot;
    const table = new TableReader(open(boot.table, "read-only").buffer, capacity);
    const own = new Own(open(boot.own, "read-write").buffer, capacity);
    const epochs = new Int32Array(open(boot.epochs, "read-write").buffer);
    this.epoch = new EpochReader(epochs, worker, table.words, H_EPOCH);
    const one = new BigUint64Array(new ArrayBuffer(8)).fill(1n);
    this.switch = new Switch({
      ...shared,
      ...{ table, epollFd, tapFd, tapIfindex, worker },
      views: boot.isMapped ? { netbase, table: boot.table } : undefined,
      ports: open(boot.ports, "read-only").buffer,
      locks: open(boot.locks, "read-write").buffer,
      fragments: boot.fragments.map((ref, i) => open(ref, i === worker ? "read-write" : "read-only").buffer),
      requests: new Requests(own, table, worker),
      touches: own.touches,
      accounts: own.accounts,
      filters: {
        ...card,
        filters: open(filters.table, "read-only").buffer,
        own: filters.own.map((ref, i) => open(ref, i === worker ? "read-write" : "read-only").buffer),
        capacity: { ...capacity, filters: filters.filters },
        worker,
        rules: filters.rules,
        flowSeconds: filters.flowSeconds,
      },
      alias4: Int32Array.of(parseIPv4(boot.alias4)!),
      alias6: parseIPv6(boot.alias6)!,
      macs: Int32Array.from(boot.macs.flatMap(macWords)),
      firewall: boot.firewall,
      wake: () => void libc.write(boot.controlWakeFd, ptr(one), 8),
    });
    this.switch.ports.open();
    this.epoch.quiesce(); // from now on control waits for us
  }

  /** Says that nothing is held. The turn begins with what ports there are: none that control takes back now is used again. */
  turn(): number {
    this.epoch.quiesce();
    return this.switch.turn();
  }

  close(): void {
    this.switch.close();
    this.epoch.offline();
  }
}

const macWords = (text: string): number[] => {
  const bytes = new Uint8Array(8);
  bytes.set(parseLladdr(text)!);
  return [...new Int32Array(bytes.buffer)];
};

function run(boot: NetBoot): void {
  if (boot.core >= 0 && !pinSelf(boot.core))
    throw new SysError(`pin to CPU ${boot.core}`, errno(), "poll.cores: see /sys/devices/system/cpu/online");
  const regions: Region[] = [];
  const open = (ref: RegionRef, mode: "read-only" | "read-write"): Region => {
    const region = Region.open(ref, mode);
    regions.push(region);
    return region;
  };
  const control = new Control(open(boot.control, "read-write"), LOOP_COUNTERS);
  const matches = new MatchTable(open(boot.matches, "read-only").buffer, MATCH_SLOTS);
  const netbase = NetbaseReader.open(boot.netbase, boot.epochs, boot.reader);
  const link = new XdpLink(boot.socket);
  const ring = new Ring(open(boot.solicit, "read-write").buffer, 0, SOLICIT_SLOTS);
  const solicitor = new Solicitor(ring, boot.netlinkWakeFd);
  const transmit = new Transmit(link.words, netbase, solicitor, boot.ifindex);
  const recorder = new Recorder(open(boot.capture, "read-write").buffer);
  const { partialChecksums } = boot;
  const shared = { link, services: matches, netbase, transmit, solicitor, recorder, partialChecksums };
  const clients =
    boot.switch &&
    new Clients(boot.switch, shared, { ifindex: boot.ifindex, queue: boot.socket.queue }, boot.netbase, open);
  const others = clients?.switch;
  const loop = new NetLoop(link, matches, netbase, transmit, { partialChecksums, recorder, switch: others });
  const pollfds = new Int32Array(new ArrayBuffer(24));
  pollfds.set([link.fd, POLLIN, boot.wakeFd, POLLIN, boot.switch?.epollFd ?? -1, POLLIN]);
  const isInterrupt = boot.poll === "interrupt";
  const idleNs = isInterrupt ? 0 : boot.idleMicroseconds * 1000;
  const mostEmpty = isInterrupt ? EMPTY_TURNS : TURNS;

  transmit.refresh(); // before the first frame
  postMessage({ type: "ready" });
  let lastFrame = Bun.nanoseconds();
  while (!control.stopping) {
    let empty = 0;
    let sending = false;
    for (let i = 0; i < TURNS && empty < mostEmpty; i++) {
      let received = loop.turn();
      if (clients !== undefined) received += clients.turn();
      empty = received > 0 ? 0 : empty + 1;
      sending = link.maintain();
      netbase.quiesce();
    }
    const now = Bun.nanoseconds();
    solicitor.tick(now);
    transmit.refresh();
    recorder.refresh();
    others?.tick(now);
    loop.publish(control.counters);
    control.beat();
    if (empty < mostEmpty) lastFrame = now;
    else if (boot.poll !== "busy" && !sending && !others?.isDue && now - lastFrame >= idleNs) {
      if (others?.ports.rest() === false) {
        others.ports.rise();
        continue; // a client by memif sent meanwhile, and has not rung
      }
      netbase.offline();
      clients?.epoch.offline();
      const isLimited = others?.channels.isLimited; // who waits for its rate wakes nobody
      libc.poll(ptr(pollfds), isLimited ? 2 : 3, isLimited || others?.waits ? SHORT_MS : SLEEP_MS);
      clients?.epoch.quiesce();
      others?.ports.rise();
      netbase.online();
      transmit.refresh(); // the card may have changed meanwhile
      recorder.refresh();
      lastFrame = Bun.nanoseconds();
    }
  }
  loop.publish(control.counters);
  clients?.close();
  netbase.close();
  for (const region of regions) region.unmap();
}

self.onmessage = (event: MessageEvent<NetBoot>) => {
  try {
    run(event.data);
    postMessage({ type: "stopped" });
  } catch (error) {
    postMessage({ type: "error", message: (error as Error).message });
  }
};
