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
import { Region, type RegionRef } from "../mem/region.ts";
import { Ring } from "../mem/ring.ts";
import { NetbaseReader } from "../netbase/netbase.ts";
import { pinSelf } from "../repin.ts";
import { LOOP_COUNTERS, NetLoop } from "../switch/loop.ts";
import { MatchTable } from "../switch/match.ts";
import { Solicitor } from "../switch/solicit.ts";
import { Transmit } from "../switch/transmit.ts";

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
}

/** Turns between two looks at the clock, the stop flag and the links. */
const TURNS = 64;
const SLEEP_MS = 1000;
const POLLIN = 1;

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
  const loop = new NetLoop(link, matches, netbase, transmit, { partialChecksums, recorder });
  const pollfds = new Int32Array(new ArrayBuffer(16));
  pollfds.set([link.fd, POLLIN, boot.wakeFd, POLLIN]);
  const idleNs = boot.poll === "interrupt" ? 0 : boot.idleMicroseconds * 1000;

  transmit.refresh(); // before the first frame
  postMessage({ type: "ready" });
  let lastFrame = Bun.nanoseconds();
  while (!control.stopping) {
    let received = 0;
    let sending = false;
    for (let i = 0; i < TURNS; i++) {
      received += loop.turn();
      sending = link.maintain();
      netbase.quiesce();
    }
    const now = Bun.nanoseconds();
    solicitor.tick(now);
    transmit.refresh();
    recorder.refresh();
    loop.publish(control.counters);
    control.beat();
    if (received > 0) lastFrame = now;
    else if (boot.poll !== "busy" && !sending && now - lastFrame >= idleNs) {
      netbase.offline();
      libc.poll(ptr(pollfds), 2, SLEEP_MS);
      netbase.online();
      transmit.refresh(); // the card may have changed meanwhile
      recorder.refresh();
      lastFrame = Bun.nanoseconds();
    }
  }
  loop.publish(control.counters);
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
