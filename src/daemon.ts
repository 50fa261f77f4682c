// The daemon: what starts in which order, and stops in the reverse. Everything that is opened goes on a stack the
// moment it exists, so that a start that fails halfway undoes exactly what it did.
//
//   namespace -> control sockets -> program on the card, passing everything -> shared memory -> netlink Worker (synced)
//             -> switch: tap and control Worker -> sockets and net Workers -> tc programs, matches: frames flow -> admin
//
// Stopping takes the program off the card first: the kernel has every frame before anything else goes.
import { SysError } from "../ffi/errno.ts";
import { cstring, libc } from "../ffi/libc.ts";
import { ptr } from "../ffi/memory.ts";
import { version } from "../package.json";
import { clearSocket, serveAdmin } from "./admin.ts";
import { Captures } from "./capture/capture.ts";
import { captureBytes } from "./capture/region.ts";
import { captureFile } from "./capture/stream.ts";
import type { Config } from "./config.ts";
import { Log } from "./log.ts";
import { epochBytes } from "./mem/epoch.ts";
import { placeFrames } from "./mem/views.ts";
import { tableBytes } from "./switch/table/layout.ts";
import { Region } from "./mem/region.ts";
import { Ring } from "./mem/ring.ts";
import { layout } from "./netbase/layout.ts";
import { NetbaseReader } from "./netbase/netbase.ts";
import { Netns } from "./netlink/netns.ts";
import { MIRROR_COUNTERS, type NetlinkBoot, type NetlinkBeyond } from "./netlink/worker.ts";
import { keepClear } from "./repin.ts";
import { compileRules } from "./rules.ts";
import { Services } from "./services.ts";
import { dropNames } from "./switch/drops.ts";
import { LOOP_COUNTERS } from "./switch/loop.ts";
import { MatchTable } from "./switch/match.ts";
import { Sockets, Switchboard, switchCapacity } from "./switchboard.ts";
import { Thread } from "./thread.ts";
import { Views } from "./views.ts";
import { Watch } from "./watch.ts";
import { type Attached, SteerProgram } from "./xdp/program.ts";
import { receiveQueues, restoreVlanStripping, setVlanStripping } from "./xdp/queues.ts";
import { createSocket, frameBytesFor, type XdpSocket } from "./xdp/socket.ts";
import { MATCH_SLOTS, type NetBoot, SOLICIT_SLOTS } from "./xdp/worker.ts";

const WARNINGS_MS = 1000;
const ENODEV = 19;
const EINVAL = 22;
const ENOSPC = 28;
const ARPHRD_ETHER = 1;
/** Of one queue's frames and clients: offsets are int32 (src/xdp/umem.ts). */
const MOST_MEMORY = 2 ** 31;

/** One net Worker as the main thread sees it. */
export interface Queue {
  readonly queue: number;
  readonly core: number;
  readonly socket: XdpSocket;
  readonly thread: Thread;
}

/** The parts of a running daemon, for those who show it. */
export interface Parts {
  readonly config: Config;
  readonly ifname: string;
  readonly ifindex: number;
  readonly netbase: NetbaseReader;
  readonly netlink: Thread;
  readonly queues: readonly Queue[];
  readonly program: SteerProgram;
  readonly services: Services;
  readonly attached: Attached;
  readonly watch: Watch;
  /** Missing without control sockets in the configuration. */
  readonly switchboard: Switchboard | undefined;
  readonly captures: Captures;
  /** Policy rules and routes that the mirror does not follow, in words. */
  readonly beyond: readonly string[];
}

export class Daemon {
  readonly parts: Parts;
  readonly views: Views;
  /** Rejects if one of its Workers fails, or the card is gone. */
  readonly failed: Promise<never>;
  private readonly stack: AsyncDisposableStack;

  private constructor(parts: Parts, views: Views, stack: AsyncDisposableStack) {
    this.parts = parts;
    this.views = views;
    this.stack = stack;
    this.failed = Promise.race(
      [
        parts.watch,
        parts.netlink,
        ...parts.queues.map(({ thread }) => thread),
        ...(parts.switchboard ? [parts.switchboard.thread] : []),
      ].map((t) => t.failed),
    );
    this.failed.catch(() => {});
  }

  /**
   * Starts everything, or as much as there is time for until `signal` is aborted.
   * @throws SysError or another Error that says what to do, or the reason of the abort; then nothing is left behind
   */
  static async start(config: Config, signal?: AbortSignal): Promise<Daemon> {
    await using stack = new AsyncDisposableStack();
    await clearSocket(config.admin.socket); // before the card is touched: whoever has it may have the card too
    const log = new Log(config.log.level);
    const parts = await start(config, log, stack, signal);
    const views = new Views(parts);
    const admin = await serveAdmin(config.admin.socket, views);
    stack.defer(() => admin.stop());
    stack.defer(() => parts.captures.close()); // before its readers' connections are
    const warn = () => {
      views.measure();
      log.warnings(views.summary().warnings);
    };
    warn();
    const timer = setInterval(warn, WARNINGS_MS);
    stack.defer(() => clearInterval(timer));
    const served = parts.queues.map(({ queue }) => queue).join(",");
    log.say("info", `on ${parts.ifname}, queues ${served}, XDP program in ${parts.attached.mode} mode`);
    return new Daemon(parts, views, stack.move());
  }

  /** Undoes everything, in the reverse order. */
  async stop(): Promise<void> {
    await this.stack.disposeAsync();
  }
}

async function start(
  config: Config,
  log: Log,
  stack: AsyncDisposableStack,
  signal: AbortSignal | undefined,
): Promise<Parts> {
  signal?.throwIfAborted();
  const ifname = config.interface.name!;
  const netns = config.interface.netns === undefined ? Netns.current() : Netns.open(config.interface.netns);
  stack.defer(() => netns.close());
  const ifindex = netns.run(() => libc.if_nametoindex(ptr(cstring(ifname))));
  if (ifindex === 0)
    throw new SysError(
      `open interface ${ifname}`,
      ENODEV,
      "no such interface in this namespace; ip link shows them",
    );

  const switchRules = await compileRules(config.switch.rules);
  const sockets = config.switch.sockets.length > 0 ? new Sockets(config.switch, config.memif) : undefined;
  if (sockets) stack.defer(() => sockets.close());
  const region = (name: string, bytes: number): Region => {
    const made = Region.create(`netd-${name}`, bytes);
    stack.defer(() => made.close());
    return made;
  };
  // On the card first, since some drivers change their queues then. Without matches it passes every frame.
  const program = SteerProgram.load();
  stack.defer(() => program.close());
  if (netns.run(() => setVlanStripping(ifname, false)))
    stack.defer(() => netns.run(() => restoreVlanStripping(ifindex)));
  const attached = netns.run(() => program.attach(ifindex, config.interface.mode));
  const queueNumbers = netns.run(() => queuesOf(config, ifname));

  const capacity = config.netbase;
  const base = region("netbase", layout(capacity).bytes);
  const epochs = region("epochs", epochBytes(queueNumbers.length + 2));
  const solicit = queueNumbers.map((queue) => region(`solicit-${queue}`, Ring.bytes(SOLICIT_SLOTS)));
  const matches = region("matches", MatchTable.bytes(MATCH_SLOTS));
  const captureRings = queueNumbers.map((queue) => region(`capture-${queue}`, captureBytes));
  const captures = new Captures(captureRings, {
    ifname,
    application: `netd ${version}`,
    reasons: dropNames,
    client: (slot) => switchboard?.describe(slot) ?? `client=${slot}`,
  });

  const beyond: string[] = [];
  const netlink = new Thread("netlink", "netlink", MIRROR_COUNTERS, (message) => {
    if (message.type === "beyond") beyond.splice(0, beyond.length, ...(message as NetlinkBeyond).beyond);
  });
  stack.defer(() => netlink.close());
  await netlink.boot(
    {
      netnsFd: netns.fd,
      netbase: base.ref,
      epochs: epochs.ref,
      capacity,
      solicit: solicit.map(({ ref }) => ref),
      solicitSlots: SOLICIT_SLOTS,
      limits: config.solicit,
      receiveBytes: config.netlink.receiveBytes,
    } satisfies Omit<NetlinkBoot, "control" | "wakeFd">,
    "synced",
    signal,
  );
  const netbase = NetbaseReader.open(base.ref, epochs.ref, 0);
  stack.defer(() => netbase.close());
  netbase.offline(); // but for moments
  const link = netbase.links.get(ifindex);
  if (link === undefined && netbase.stats.links.missing)
    throw new SysError(`open interface ${ifname}`, ENOSPC, "not all interfaces fit: raise netbase.links");
  if (link === undefined) throw new SysError(`open interface ${ifname}`, ENODEV, "it was deleted meanwhile");
  if (link.type !== ARPHRD_ETHER)
    throw new SysError(`open interface ${ifname}`, EINVAL, "not an Ethernet device");

  // One piece of memory a queue: its frames, behind them room for the memory of clients by memif, and tables.
  const frameBytes = Math.max(config.umem.frameBytes, frameBytesFor(link.mtu));
  const umemBytes = config.umem.frames * frameBytes;
  const room = Math.max(Math.min(config.memif.megabytes * 2 ** 20, MOST_MEMORY - umemBytes), 0);
  const regions = [base.bytes, tableBytes(switchCapacity(config))];
  const places = queueNumbers.map(() =>
    sockets ? placeFrames(umemBytes, room, regions) : placeFrames(umemBytes),
  );

  if (sockets && !places[0]!.isMapped)
    log.say("warn", "tables too large for WebAssembly: memif slower; lower netbase.* or memif.megabytes");

  const services = new Services(config.services, new MatchTable(matches.buffer, MATCH_SLOTS), program);

  const switchboard =
    sockets &&
    (await Switchboard.start(
      {
        config,
        netns,
        ifname,
        ifindex,
        mtu: link.mtu,
        queues: queueNumbers.length,
        netbase: base.ref,
        netbaseEpochs: epochs.ref,
        reader: queueNumbers.length + 1,
        program,
        rules: switchRules,
        places,
      },
      sockets,
      signal,
    ));
  if (switchboard) stack.defer(() => switchboard.close());

  const queues: Queue[] = [];
  for (const [i, queue] of queueNumbers.entries()) {
    const { rings, umem } = config;
    const socket = netns.run(() =>
      createSocket({
        ifname,
        ifindex,
        queue,
        frames: umem.frames,
        frameBytes,
        memory: places[i]!.memory,
        rxSize: rings.rx,
        txSize: rings.tx,
        fillSize: rings.fill,
        completionSize: rings.completion,
        mode: attached.mode === "skb" ? "copy" : config.interface.copy, // generic XDP cannot fill zero-copy frames
      }),
    );
    stack.defer(() => socket.close());
    const core = config.poll.cores[i] ?? -1;
    const thread = new Thread(`net-${queue}`, "net", LOOP_COUNTERS);
    stack.defer(() => thread.close());
    await thread.boot(
      {
        socket: socket.ref,
        ifindex,
        netbase: base.ref,
        epochs: epochs.ref,
        reader: i + 1,
        matches: matches.ref,
        solicit: solicit[i]!.ref,
        capture: captureRings[i]!.ref,
        netlinkWakeFd: netlink.reins.wakeFd,
        poll: config.poll.mode,
        idleMicroseconds: config.poll.idleMicroseconds,
        core,
        partialChecksums: link.kind === "veth",
        ...(switchboard && { switch: switchboard.net(i) }),
      } satisfies Omit<NetBoot, "control" | "wakeFd">,
      "ready",
      signal,
    );
    program.setSocket(queue, socket.ref.fd);
    queues.push({ queue, core, socket, thread });
  }
  if (config.poll.cores.length > 0) {
    const clear = keepClear(config.poll.cores);
    stack.defer(() => clear.stop());
  }

  if (switchboard) {
    const loIfindex = netns.run(() => libc.if_nametoindex(ptr(cstring("lo"))));
    const devices = { cardIfindex: ifindex, tapIfindex: switchboard.tap.ifindex, loIfindex };
    try {
      netns.run(() => program.attachTc(devices));
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      switchboard.missing = [`no client is reached from this host, and no groups: ${error.message}`];
    }
  }
  if (config.log.capture !== undefined) {
    const file = captureFile(captures, config.log.capture, ({ message }) =>
      log.say("warn", `log.capture ends: ${message}`),
    );
    stack.defer(() => file.close());
  }
  const watch = new Watch({ ifname, ifindex, netbase, program, services, frameBytes });
  stack.defer(() => watch.stop());
  stack.defer(() => program.detach());
  return {
    config,
    ifname,
    ifindex,
    netbase,
    netlink,
    queues,
    program,
    services,
    attached,
    watch,
    switchboard,
    captures,
    beyond,
  };
}

/** The queues to serve: those configured, if the card has them, else all. */
function queuesOf(config: Config, ifname: string): number[] {
  const count = receiveQueues(ifname);
  const { queues } = config.interface;
  if (queues === "all") return Array.from({ length: count }, (_, queue) => queue);
  const missing = queues.find((queue) => queue >= count);
  if (missing !== undefined)
    throw new SysError(`open ${ifname} queue ${missing}`, EINVAL, `the card has queues 0 to ${count - 1}`);
  return [...queues];
}
