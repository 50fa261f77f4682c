// The switch from the main thread's side: what has to be there before its Workers start (regions, sockets, epoll fds, the
// tap), the control Worker itself, and what clients do as others may see it. Made before the net Workers and closed after
// them: until then they may hold what the control Worker has made.
//
//   control sockets -> regions, epoll fds -> tap -> control Worker (ready) -> net Workers -> programs on tap, lo, card
//
// Everything is fds: a daemon that is killed leaves the paths of its sockets, which the next one takes over.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { check } from "../ffi/errno.ts";
import { libc } from "../ffi/libc.ts";
import type { Config } from "./config.ts";
import { epochBytes } from "./mem/epoch.ts";
import { Region, type RegionRef } from "./mem/region.ts";
import type { FramePlace } from "./mem/views.ts";
import type { Netns } from "./netlink/netns.ts";
import { Accounts } from "./switch/account.ts";
import type { SwitchBoot } from "./control/boot.ts";
import type { NetSwitch, SwitchCapacity } from "./switch/boot.ts";
import type { Entry } from "./switch/table/entry.ts";
import {
  type ClientCame,
  type ClientLeft,
  CONTROL_COUNTERS,
  type GrantNews,
  type PresentedGrant,
  type Shadowed,
} from "./control/events.ts";
import { GrantLists, grantSettings } from "./grantlists.ts";
import type { Counts } from "./switch/filters/counts.ts";
import { filterBytes, type FilterLayout, filterLayout } from "./switch/filters/layout.ts";
import { fragmentBytes } from "./switch/fragment.ts";
import { FilterOwn, filterOwnBytes } from "./switch/filters/own.ts";
import type { Rule } from "./switch/filters/rule.ts";
import { TableReader } from "./switch/table/find.ts";
import { tableBytes } from "./switch/table/layout.ts";
import { Own, ownBytes } from "./switch/own.ts";
import { portsBytes } from "./link/memif/port.ts";
import { lockBytes } from "./switch/ports.ts";
import { type Bound, bindPath } from "./control/socket.ts";
import { type Message, Thread } from "./thread.ts";
import { parseIPv4 } from "./wire/address.ts";
import type { SteerProgram } from "./xdp/program.ts";
import { Tap } from "./xdp/tap.ts";

const EPOLL_CLOEXEC = 0o2000000;
const SAMPLE_MS = 1000;
/** Of sockets whose users have what the configuration gives them. */
const CHANNEL_MODE = 0o660;

/** usnetd's own path: whoever asks there may be one of its clients, which read few bytes. */
const isUsnetd = (path: string): boolean => path.endsWith("/usnetd.socket");

/** What a switch is made of and made in. */
export interface SwitchParts {
  readonly config: Config;
  readonly netns: Netns;
  readonly ifname: string;
  readonly ifindex: number;
  readonly mtu: number;
  readonly queues: number;
  readonly netbase: RegionRef;
  readonly netbaseEpochs: RegionRef;
  /** the control Worker's slot there */
  readonly reader: number;
  readonly program: SteerProgram;
  readonly rules: readonly Rule[];
  /** a queue each */
  readonly places: readonly FramePlace[];
}

export const switchCapacity = ({ switch: { clients, matches } }: Config): SwitchCapacity => ({
  clients,
  matches,
});

/** A client as the main thread knows it. */
export interface ClientState {
  readonly slot: number;
  readonly path: string;
  readonly command: string;
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** totals of its slot when it came */
  readonly base: Float64Array;
  /** totals since then, at the last sample, and a second of them before */
  totals: Float64Array;
  rates: Float64Array;
}

export class Sockets {
  readonly control: readonly Bound[];
  readonly static: readonly (Bound & { readonly endpoint: string })[];
  readonly memif: Bound | undefined;

  /** Binds what the configuration says. @throws SysError; then nothing is left */
  constructor({ sockets, group, mode, static: endpoints }: Config["switch"], { socket }: Config["memif"]) {
    const made: Bound[] = [];
    const bind = (path: string, type: "requests" | "channel"): Bound => {
      const bound = bindPath(
        path,
        group,
        type === "requests" ? Number.parseInt(mode, 8) : CHANNEL_MODE,
        type,
      );
      made.push(bound);
      return bound;
    };
    try {
      const beside = dirname(sockets.at(-1)!);
      this.control = sockets.map((path) => bind(path, "requests"));
      this.static = endpoints.map((endpoint) => ({
        ...bind(join(beside, `${endpoint.replaceAll(/[:/]/g, "-")}.sock`), "channel"),
        endpoint,
      }));
      this.memif = socket === "" ? undefined : bind(socket ?? join(beside, "memif.sock"), "channel");
    } catch (error) {
      for (const bound of made.reverse()) bound.close();
      throw error;
    }
  }

  close(): void {
    // The first one made their directory: it goes last.
    for (const bound of [...this.control, ...this.static, ...(this.memif ? [this.memif] : [])].reverse())
      bound.close();
  }
}

export class Switchboard {
  readonly thread: Thread<(typeof CONTROL_COUNTERS)[number]>;
  readonly tap: Tap;
  /** What does not work on this host. */
  missing: readonly string[] = [];
  /** Set once the control Worker is ready. */
  table!: TableReader;
  private readonly parts: SwitchParts;
  private readonly capacity: SwitchCapacity;
  private readonly stack = new AsyncDisposableStack();
  private readonly regions: {
    table: Region;
    epochs: Region;
    own: Region[];
    fragments: Region[];
    filters: Region;
    filterOwn: Region[];
    ports: Region[];
    locks: Region;
  };
  private readonly epollFds: number[];
  private readonly owns: Own[];
  private readonly accounts: Accounts[];
  private readonly lists: GrantLists;
  private grantWarnings: readonly string[] = [];
  /** What was presented and has not ended, as of a second ago. */
  grants: readonly PresentedGrant[] = [];
  private shadowed: readonly string[] = [];
  private readonly states = new Map<number, ClientState>();
  private sampled = performance.now();

  private constructor(parts: SwitchParts) {
    const { config, netns, ifname, mtu, queues } = parts;
    const { stack } = this;
    this.parts = parts;
    this.capacity = switchCapacity(config);
    const region = (name: string, bytes: number): Region => {
      const made = Region.create(`netd-${name}`, bytes);
      stack.defer(() => made.close());
      return made;
    };
    const { filters } = config.switch;
    const each = Array.from({ length: queues }, (_, i) => i);
    this.regions = {
      table: region("switch", tableBytes(this.capacity)),
      epochs: region("switch-epochs", epochBytes(queues)),
      own: each.map((i) => region(`switch-${i}`, ownBytes(this.capacity))),
      fragments: each.map((i) => region(`fragments-${i}`, fragmentBytes)),
      filters: region("filters", filterBytes({ ...this.capacity, filters })),
      filterOwn: each.map((i) => region(`filters-${i}`, filterOwnBytes(filters))),
      ports: each.map((i) => region(`memif-${i}`, portsBytes)),
      locks: region("memif-locks", lockBytes(this.capacity.clients)),
    };
    this.owns = this.regions.own.map(({ buffer }) => new Own(buffer, this.capacity));
    this.accounts = this.owns.map((own) => own.accounts);
    this.epollFds = each.map(() => {
      const fd = check("epoll_create1", libc.epoll_create1(EPOLL_CLOEXEC));
      stack.defer(() => void libc.close(fd));
      return fd;
    });
    this.tap = netns.run(() => Tap.create({ ifname, mtu, address: parseIPv4(config.switch.alias4)! }));
    stack.defer(() => this.tap.close());
    this.lists = new GrantLists(config.grants);
    stack.defer(() => this.lists.close());
    this.thread = new Thread("control", "control", CONTROL_COUNTERS, (message) => this.hear(message));
    stack.defer(() => this.thread.close());
  }

  /**
   * Makes all of it and starts the control Worker, which answers from then on.
   * @throws SysError and what Thread.boot throws; then nothing is left
   */
  static async start(parts: SwitchParts, sockets: Sockets, signal?: AbortSignal): Promise<Switchboard> {
    const made = new Switchboard(parts);
    try {
      await made.boot(sockets, signal);
      return made;
    } catch (error) {
      await made.close();
      throw error;
    }
  }

  private async boot(sockets: Sockets, signal: AbortSignal | undefined): Promise<void> {
    const { config, netns, ifname, ifindex, netbase, netbaseEpochs, reader, program } = this.parts;
    const { regions, stack } = this;
    await this.thread.boot(
      {
        table: regions.table.ref,
        epochs: regions.epochs.ref,
        own: regions.own.map(({ ref }) => ref),
        epollFds: this.epollFds,
        capacity: this.capacity,
        netbase,
        netbaseEpochs,
        reader,
        ifname,
        ifindex,
        netnsFd: netns.fd,
        maps: program.fds,
        sockets: sockets.control.map(({ fd, path }) => ({ fd, path, usnetd: isUsnetd(path) })),
        channels: sockets.static.map(({ fd, path, endpoint }) => ({ fd, path, endpoint })),
        services: config.services.map(({ address, port }) => ({
          address: address === undefined ? undefined : parseIPv4(address),
          port,
        })),
        settings: config.switch,
        grants: { settings: grantSettings(config.grants), heardFd: this.lists.heardFd },
        filters: { table: regions.filters.ref, filters: config.switch.filters, rules: this.parts.rules },
        memif: {
          ifname,
          listening: sockets.memif?.fd ?? -1,
          path: sockets.memif?.path ?? "",
          ports: regions.ports.map(({ ref }) => ref),
          places: this.parts.places,
          settings: config.memif,
        },
      } satisfies SwitchBoot,
      "ready",
      signal,
    );
    this.table = new TableReader(regions.table.buffer, this.capacity);
    const timer = setInterval(() => this.sample(), SAMPLE_MS);
    stack.defer(() => clearInterval(timer));
  }

  /** Clients' filters and the rules, and what the net Workers count of both. */
  get filters(): {
    words: Int32Array;
    layout: FilterLayout;
    counts: readonly Counts[];
    rules: readonly Rule[];
  } {
    const { filters } = this.parts.config.switch;
    const layout = filterLayout({ ...this.capacity, filters });
    return {
      words: new Int32Array(this.regions.filters.buffer, 0, layout.end),
      layout,
      counts: this.regions.filterOwn.map(({ buffer }) => new FilterOwn(buffer, filters).counts),
      rules: this.parts.rules,
    };
  }

  /** What net Worker `worker` is told. */
  net(worker: number): NetSwitch {
    const { config } = this.parts;
    const { regions, capacity, epollFds, tap } = this;
    return {
      table: regions.table.ref,
      epochs: regions.epochs.ref,
      own: regions.own[worker]!.ref,
      fragments: regions.fragments.map(({ ref }) => ref),
      ports: regions.ports[worker]!.ref,
      locks: regions.locks.ref,
      capacity,
      isMapped: this.parts.places[worker]!.isMapped,
      filters: {
        table: regions.filters.ref,
        own: regions.filterOwn.map(({ ref }) => ref),
        filters: config.switch.filters,
        rules: this.parts.rules,
        flowSeconds: {
          tcp: config.switch.tcpSeconds,
          udp: config.switch.udpSeconds,
          icmp: config.switch.icmpSeconds,
          other: config.switch.otherSeconds,
        },
      },
      worker,
      workers: epollFds.length,
      epollFd: epollFds[worker]!,
      controlWakeFd: this.thread.reins.wakeFd,
      tapFd: tap.fd,
      tapIfindex: tap.ifindex,
      alias4: config.switch.alias4,
      alias6: config.switch.alias6,
      macs: config.switch.macs,
      packetsPerSecond: config.switch.packetsPerSecond,
      firewall: config.switch.firewall,
    };
  }

  /** What an operator should know. */
  get warnings(): readonly string[] {
    return [...this.missing, ...this.grantWarnings, ...this.shadowed, ...this.lists.warnings];
  }

  /** Everybody who is attached, by slot. */
  clients(): ClientState[] {
    return [...this.states.values()].toSorted((a, b) => a.slot - b.slot);
  }

  client(slot: number): ClientState | undefined {
    return this.states.get(slot);
  }

  /** "client=3 pid=1234 uid=0 program", for a capture's comments. */
  describe(slot: number): string {
    const state = this.states.get(slot);
    return `client=${slot}${state ? ` pid=${state.pid} uid=${state.uid} ${state.command}` : ""}`;
  }

  entries(): Iterable<Entry> {
    return this.table.entries();
  }

  /** When an entry had its last frame, or began: seconds by the table's clock. */
  lastFrame({ entry, since }: Entry): number {
    return Math.max(since, ...this.owns.map((own) => own.touches[entry]!));
  }

  async close(): Promise<void> {
    await this.stack.disposeAsync();
  }

  private hear(message: Message): void {
    if (message.type === "client") {
      const { slot, path, pid, uid, gid, base } = message as unknown as ClientCame;
      const none = new Float64Array(base.length);
      const command = commandOf(pid);
      this.states.set(slot, { slot, path, command, pid, uid, gid, base, totals: none, rates: none });
    } else if (message.type === "grants") {
      const { warnings, grants } = message as unknown as GrantNews;
      this.grantWarnings = warnings;
      this.grants = grants;
    } else if (message.type === "shadows") this.shadowed = (message as unknown as Shadowed).warnings;
    else if (message.type === "left") this.states.delete((message as unknown as ClientLeft).slot);
  }

  private sample(): void {
    const now = performance.now();
    const seconds = (now - this.sampled) / 1000;
    this.sampled = now;
    for (const state of this.states.values()) {
      const totals = Accounts.sum(this.accounts, state.slot).map((n, i) => n - state.base[i]!);
      state.rates = totals.map((n, i) => (n - state.totals[i]!) / seconds);
      state.totals = totals;
    }
  }
}

/** The name of a process's program, as ps has it. */
function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trimEnd();
  } catch {
    return "";
  }
}
