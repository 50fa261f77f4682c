// The netlink Worker: mirrors the kernel's tables into the netbase and asks the kernel for the neighbours that traffic
// needs. One thread, asleep in epoll_wait unless there are events, messages on a solicit ring (their writer turns
// the eventfd) or something is due. Never returns to its event loop between boot and stop.
//
// Posts {type:"synced"} when the tables are complete for the first time, {type:"beyond", beyond: string[]} whenever the
// policy rules and routes that it does not follow change, {type:"error", message}, and {type:"stopped"} as its last act.
import { check, errno, SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { Control } from "../mem/control.ts";
import { Region, type RegionRef } from "../mem/region.ts";
import { Ring } from "../mem/ring.ts";
import { Rubbish } from "../mem/rubbish.ts";
import type { Capacity } from "../netbase/layout.ts";
import { NetbaseWriter } from "../netbase/netbase.ts";
import { Around } from "./around.ts";
import { RTM_DELNEIGH } from "./constants.ts";
import { MirrorCounts } from "./counts.ts";
import { Mirror } from "./mirror.ts";
import { Netns } from "./netns.ts";
import { SolicitCounts, type SolicitLimits, Solicitor } from "./solicit.ts";

declare const self: Worker;

const prefixed = (name: string): string => `solicit${name[0]!.toUpperCase()}${name.slice(1)}`;
const mirrorNames = Object.keys(new MirrorCounts()) as (keyof MirrorCounts)[];
const solicitNames = Object.keys(new SolicitCounts()) as (keyof SolicitCounts)[];

/** Names of the netlink Worker's counters; `settled` is 1 while nothing is known to be missing. */
export const MIRROR_COUNTERS: readonly string[] = [
  "settled",
  ...mirrorNames,
  ...solicitNames.map(prefixed),
  "solicitUnresolved",
];

export interface NetlinkBoot {
  /** the namespace that is mirrored; stays the sender's */
  netnsFd: number;
  netbase: RegionRef;
  epochs: RegionRef;
  control: RegionRef;
  /** our eventfd, non-blocking */
  wakeFd: number;
  capacity: Capacity;
  /** one ring a net Worker */
  solicit: RegionRef[];
  solicitSlots: number;
  limits: SolicitLimits;
  /** of the event socket */
  receiveBytes: number;
  /** ifindexes whose neighbours are mirrored and may be asked for; all if missing */
  neighbours?: number[];
}

/** Posted whenever the policy rules and routes that the mirror does not follow change: each in words. */
export interface NetlinkBeyond {
  type: "beyond";
  beyond: string[];
}

const EPOLL_CTL_ADD = 1;
const EPOLL_CLOEXEC = 0o2000000;
const EPOLLIN = 1;
const EINTR = 4;
/** Counters are published at least this often while something happens. */
const PUBLISH_MS = 100;

function run(boot: NetlinkBoot): void {
  using stack = new DisposableStack();
  const open = (ref: RegionRef): Region => {
    const region = Region.open(ref, "read-write");
    stack.defer(() => region.unmap());
    return region;
  };
  const control = new Control(open(boot.control), MIRROR_COUNTERS);
  const writer = new NetbaseWriter(open(boot.netbase), open(boot.epochs), boot.capacity);
  const rings = boot.solicit.map((ref) => new Ring(open(ref).buffer, 0, boot.solicitSlots));
  const neighbours = boot.neighbours && new Set(boot.neighbours);
  const mirror = new Mirror({
    netns: Netns.of(boot.netnsFd),
    writer,
    receiveBytes: boot.receiveBytes,
    ...(neighbours && { neighbours }),
    pause: () => void requests(),
    onNeighbour(type) {
      const { ifindex, family, dst, state } = mirror.apply.neigh;
      solicitor.event(ifindex, family, dst, 0, type === RTM_DELNEIGH ? 0 : state, performance.now());
    },
    onBeyond: (beyond) => postMessage({ type: "beyond", beyond } satisfies NetlinkBeyond),
  });
  stack.defer(() => mirror.close());
  const around = new Around(writer, boot.capacity, mirror.socket, neighbours);
  const solicitor = new Solicitor(boot.limits, around);
  const message = new Int32Array(8);

  /** Reads the rings and asks for what may be asked for. Returns ms until it must be called again, or -1. */
  function requests(): number {
    const now = performance.now();
    for (const ring of rings)
      for (let n = 0; n < boot.solicitSlots && ring.pop(message); n++) solicitor.message(message, now);
    const next = solicitor.turn(now);
    if (!around.flush()) solicitor.counts.unsent++;
    return next;
  }

  function publish(): void {
    const { values } = control.counters;
    let i = 0;
    values[i++] = mirror.settled ? 1 : 0;
    for (const name of mirrorNames) values[i++] = mirror.counts[name];
    for (const name of solicitNames) values[i++] = solicitor.counts[name];
    values[i] = solicitor.unresolved;
    control.beat();
  }

  const epoll = check("epoll_create1", libc.epoll_create1(EPOLL_CLOEXEC));
  stack.defer(() => void libc.close(epoll));
  for (const fd of [mirror.fd, boot.wakeFd]) {
    const event = new Int32Array([EPOLLIN, fd, 0, 0]);
    check("epoll_ctl", libc.epoll_ctl(epoll, EPOLL_CTL_ADD, fd, ptr(event)));
  }
  const events = new Int32Array(new ArrayBuffer(48));
  const counter = new BigUint64Array(new ArrayBuffer(8));
  mirror.sync();
  publish();
  postMessage({ type: "synced" });
  let published = performance.now();
  const rubbish = new Rubbish();
  while (!control.stopping) {
    const dumps = mirror.turn();
    const asks = requests();
    let wait = asks < 0 ? dumps : Math.min(dumps, asks);
    // What was counted is published before a sleep, and now and then where there is none.
    if (performance.now() - published >= PUBLISH_MS) {
      publish();
      published = performance.now();
    } else wait = Math.min(wait, PUBLISH_MS);
    if (wait > 0) rubbish.collect();
    if (wait > 0 && libc.epoll_wait(epoll, ptr(events), 4, wait) < 0 && errno() !== EINTR)
      throw new SysError("epoll_wait", errno());
    // Before the rings are read again: what is written to them after this turns the eventfd anew.
    libc.read(boot.wakeFd, ptr(counter), 8);
  }
  publish();
}

self.onmessage = (event: MessageEvent<NetlinkBoot>) => {
  try {
    run(event.data);
    postMessage({ type: "stopped" });
  } catch (error) {
    postMessage({ type: "error", message: (error as Error).message });
  }
};
