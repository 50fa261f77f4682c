// The control Worker: everything that clients say and ask for, and their coming and going. One thread, asleep in epoll_wait
// unless a request, a death or a net Worker's wish wakes it, or something is due. The one writer of the switch table, and of
// the BPF maps that follow it. Never returns to its event loop between boot and stop.
//
// Posts {type:"ready"}, {type:"client"...} when one has come and {type:"left", slot} when one has gone, {type:"error",
// message}, and {type:"stopped"} as its last act. It is stopped after the net Workers: what they used is closed then.
import { check, errno, SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { programHash } from "../filter/program.ts";
import { Control as Reins } from "../mem/control.ts";
import { Region, type RegionRef } from "../mem/region.ts";
import { Rubbish } from "../mem/rubbish.ts";
import { NetbaseReader } from "../netbase/netbase.ts";
import { Netns } from "../netlink/netns.ts";
import { parseLladdr } from "../wire/address.ts";
import { CardFilter } from "../xdp/filter.ts";
import { SteerMaps } from "../xdp/maps.ts";
import { Accounts } from "../switch/account.ts";
import type { SwitchBoot } from "./boot.ts";
import { Claims } from "./claim.ts";
import { type Asker, Control } from "./control.ts";
import {
  CONTROL_COUNTERS,
  type ClientCame,
  type ClientLeft,
  type GrantNews,
  type Shadowed,
} from "./events.ts";
import { ClientFilters } from "./filters.ts";
import { setFirewall } from "./firewall.ts";
import { Grants } from "./grants.ts";
import { Guard } from "./guard.ts";
import { Local } from "./local.ts";
import { Memifs } from "./memif.ts";
import { Own } from "../switch/own.ts";
import { Asked } from "../switch/request.ts";
import { type Client, Roster } from "./roster.ts";
import { timeoutOf } from "./settings.ts";
import { SockDiag } from "./sockdiag.ts";
import { ControlSocket } from "./socket.ts";
import { StaticChannels } from "./static.ts";
import { Shadows } from "./shadow.ts";
import { Steering } from "./steering.ts";
import { RECEIVE } from "../switch/filters/layout.ts";
import { FilterWriter } from "../switch/filters/writer.ts";
import { TableReader } from "../switch/table/find.ts";
import { TableWriter } from "../switch/table/table.ts";
import { UnixDiag } from "./unixdiag.ts";
import { DHCP } from "./wanted.ts";
import { writeMatch } from "./wants.ts";

declare const self: Worker;

const PRIO_PROCESS = 0;
/** Where there are not CPUs enough, clients that come and go wait, and frames do not. */
const MODESTY = 10;

const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CLOEXEC = 0o2000000;
const EPOLLIN = 1;
const EPOLLRDHUP = 0x2000;
const POLLIN = 1;
const POLLRDHUP = 0x2000;
const EINTR = 4;
const EVENTS = 64;
const EVENT_WORDS = 3; // struct epoll_event is packed on x86-64
/** Requests of one socket that are answered before anything else is looked at. */
const BURST = 64;
const TICK_MS = 1000;
/** As long as a client's fd waits for the net Workers. */
const RECLAIM_MS = 2;
/** Between two looks at claims, while not all of them were looked at in this second. */
const EXPIRE_MS = 20;

// Whose an event is: the high word of its data. The low word: which.
const WAKE = 0;
const SOCKET = 1;
const CHANNEL = 2;
const CLIENT = 3;
const HOLDER = 4;
const MEMIF = 5; // its listening socket
const CONNECTION = 6;

type Boot = SwitchBoot & { control: RegionRef; wakeFd: number };

function run(boot: Boot): void {
  libc.setpriority(PRIO_PROCESS, 0, MODESTY);
  using stack = new DisposableStack();
  const open = (ref: RegionRef, mode: "read-only" | "read-write"): Region => {
    const region = Region.open(ref, mode);
    stack.defer(() => region.unmap());
    return region;
  };
  const { settings, capacity } = boot;
  const reins = new Reins(open(boot.control, "read-write"), CONTROL_COUNTERS);
  const seed = crypto.getRandomValues(new Int32Array(1))[0]!;
  const region = open(boot.table, "read-write");
  const table = new TableWriter(region.buffer, capacity, seed);
  const owns = boot.own.map((ref) => new Own(open(ref, "read-only").buffer, capacity));
  const accounts = owns.map((own) => own.accounts);
  const netbase = NetbaseReader.open(boot.netbase, boot.netbaseEpochs, boot.reader);
  stack.defer(() => netbase.close());
  const local = new Local(netbase, boot.ifindex);
  const sockets = new SockDiag(Netns.of(boot.netnsFd), boot.ifindex);
  stack.defer(() => sockets.close());
  const channels = new UnixDiag();
  stack.defer(() => channels.close());
  const filter = Netns.of(boot.netnsFd).run(() => new CardFilter(boot.ifindex));
  stack.defer(() => filter.close());
  const maps = new SteerMaps(boot.maps, filter);
  const epochs = new Int32Array(open(boot.epochs, "read-write").buffer);
  const roster = new Roster({
    table,
    epochs,
    epollFds: boot.epollFds,
    settings,
  });
  stack.defer(() => roster.close());
  const guard = new Guard(local, sockets, settings, boot.services);
  const shadows = new Shadows(new TableReader(region.buffer, capacity), sockets, local, roster, guard);
  const steering = new Steering(maps, table, local);

  const filters = new ClientFilters({
    writer: new FilterWriter(
      open(boot.filters.table, "read-write").buffer,
      { ...capacity, filters: boot.filters.filters },
      epochs,
      table.words,
    ),
    limits: settings,
    rules: boot.filters.rules,
    clientAt: (slot) => roster.at(slot),
    describe: (entry) => writeMatch(table.get(entry).match),
    flagged: ({ slot, flags }) => table.clients.setFlags(slot, flags),
  });

  const epoll = check("epoll_create1", libc.epoll_create1(EPOLL_CLOEXEC));
  stack.defer(() => void libc.close(epoll));
  const watch = (fd: number, kind: number, which: number, events = EPOLLIN) => {
    const event = Int32Array.of(events, which, kind);
    check("epoll_ctl", libc.epoll_ctl(epoll, EPOLL_CTL_ADD, fd, ptr(event)));
  };

  const grants = new Grants({
    settings: boot.grants.settings,
    ifname: boot.ifname,
    perUser: settings.clientsPerUser,
    watch: (pidfd, which) => watch(pidfd, HOLDER, which),
    tell: (door, path, text) => void doors[door]?.socket.send(path, text),
    filters: (client) => filters.hashes(client),
  });
  stack.defer(() => grants.close());
  filters.mayInstall = (client, program, direction, entry) => {
    if (direction === RECEIVE && entry === 0) grants.install(client, programHash(program));
  };
  const control = new Control({
    ifname: boot.ifname,
    table,
    roster,
    steering,
    guard,
    grants,
    filters,
    local,
    macs: settings.macs,
    setMac: (mac, on) => void (on ? maps.addMac(mac) : maps.removeMac(mac)),
    serve: (client) => memifs.serve(client),
    changed(client, there) {
      const { slot, path, peer, pidfd, fd } = client;
      const connected = boot.channels.some((channel) => channel.path === path);
      if (!there) {
        memifs.left(client, "this client's channel is taken back");
        if (connected) libc.epoll_ctl(epoll, EPOLL_CTL_DEL, fd, null);
        return postMessage({ type: "left", slot } satisfies ClientLeft);
      }
      watch(pidfd, CLIENT, slot);
      if (connected) watch(fd, CLIENT, slot, EPOLLRDHUP);
      const base = Accounts.sum(accounts, slot);
      postMessage({ type: "client", slot, path, ...peer, base } satisfies ClientCame);
    },
  });
  const statics = new StaticChannels(boot.channels, control, roster, table, local);
  const memifs = new Memifs(
    {
      boot: boot.memif,
      control,
      roster,
      statics,
      grants,
      epollFds: boot.epollFds,
      watch: (fd) => watch(fd, CONNECTION, fd, EPOLLIN | EPOLLRDHUP),
      unwatch: (fd) => void libc.epoll_ctl(epoll, EPOLL_CTL_DEL, fd, null),
    },
    boot.memif.ports.map((ref) => open(ref, "read-write").buffer),
  );
  stack.defer(() => memifs.close());
  const claims = new Claims(
    table,
    owns.map((own) => new Asked(own)),
    owns.map((own) => own.touches),
    {
      perClient: settings.claimsPerClient,
      crowded: (client) => roster.crowded(client),
      timeout: (protocol) => timeoutOf(settings, protocol),
      allows: (match, client) =>
        (local.has(match.family, match.dst) || steering.has(match.family, match.dst, client)) &&
        guard.allows(match) &&
        grants.flow(roster.at(client)!, match),
      allowsDhcp: (client) => grants.flow(roster.at(client)!, DHCP),
      added(entry) {
        const { kind, match, client } = table.get(entry);
        try {
          if (kind === "dhcp") steering.addDhcp(match.dst[0]!);
          else steering.add(match, -1);
          roster.claimed(client, 1);
          return true;
        } catch {
          return false; // a map is full: the flow's frames find no claim and are dropped
        }
      },
      removing(entry) {
        const { kind, match, client } = table.get(entry);
        if (kind === "dhcp") steering.removeDhcp(match.dst[0]!);
        else steering.remove(match, -1);
        roster.claimed(client, -1);
      },
      gone(slot) {
        const client = roster.at(slot);
        if (client) control.drop(client);
      },
    },
  );

  const doors = boot.sockets.map(({ fd, path, usnetd }) => ({ socket: new ControlSocket(fd, path), usnetd }));
  for (const { socket } of doors) stack.defer(() => socket.close());
  let answersLost = 0;

  /** Answers what waits at a socket, a burst of it. */
  function listen(which: number): void {
    const door = doors[which]!;
    for (let n = 0; n < BURST; n++) {
      const received = door.socket.receive();
      if (received === undefined) return;
      const asker: Asker = { ...received, usnetd: door.usnetd, door: door.usnetd ? -1 : which };
      const answer = control.answer(received.bytes, asker);
      if (asker.pidfd >= 0) libc.close(asker.pidfd);
      if (answer === undefined) continue;
      const sent = door.socket.send(asker.path, answer.text, answer.fd);
      if (answer.fd !== undefined) libc.close(answer.fd);
      if (sent === 0) continue;
      answersLost++;
      // Its channel went with the answer: nobody has the other end.
      const client = answer.fd === undefined ? undefined : roster.of(asker.path);
      if (client) control.drop(client);
    }
  }

  const review = (client: Client): boolean => control.review(client);

  const pollfds = new Int32Array(new ArrayBuffer(16));
  /** Its process or its connection has ended, as it seems; asked again, because the slot may be another's by now. */
  function died(slot: number): void {
    const client = roster.at(slot);
    if (client === undefined) return;
    pollfds.set([client.pidfd, POLLIN, client.fd, POLLRDHUP]);
    if (libc.poll(ptr(pollfds), 2, 0) > 0) control.drop(client);
  }

  function publish(): void {
    const { counters } = reins;
    const values: Record<(typeof CONTROL_COUNTERS)[number], number> = {
      clients: roster.size,
      ...control.counts,
      answersLost,
      unheard: doors.reduce((sum, { socket }) => sum + socket.unheard, 0),
      entries: table.entries,
      claimsGranted: claims.granted,
      claimsRefused: claims.refused,
      claimsEvicted: claims.evicted,
      claimsExpired: claims.expired,
      grantsTaken: grants.taken,
      grantsDenied: grants.denied,
      grantsEnded: grants.ended,
    };
    for (const [i, name] of CONTROL_COUNTERS.entries()) counters.values[i] = values[name];
    reins.beat();
  }

  let told = "";
  function tellGrants(): void {
    const { warnings, taken, ended, forgotten } = grants;
    const now = `${taken} ${ended} ${forgotten} ${warnings}`;
    if (now === told) return;
    told = now;
    postMessage({ type: "grants", warnings, grants: grants.all() } satisfies GrantNews);
  }

  let isLate = false;
  let shadowed = "";
  function tellShadows(): void {
    const { warnings } = shadows;
    if (warnings.join() === shadowed) return;
    shadowed = warnings.join();
    postMessage({ type: "shadows", warnings } satisfies Shadowed);
  }

  /** What is due once a second. */
  function tick(now: number): void {
    table.setNow(Math.floor(now / 1000) + 1);
    table.gather(region);
    isLate = claims.expire();
    for (const client of channels.closed(roster.all())) control.drop(client);
    if (local.refresh(now)) {
      steering.follow();
      for (const client of roster.all()) {
        if (!client.ownMac) client.mac = local.mac;
        roster.update(client, local.mtu);
      }
      statics.follow();
    }
    tellGrants();
    shadows.tick(now);
    tellShadows();
    memifs.tick(now);
    publish();
  }

  watch(boot.wakeFd, WAKE, 0);
  watch(boot.grants.heardFd, WAKE, 0);
  for (const [i, { socket }] of doors.entries()) watch(socket.fd, SOCKET, i);
  for (const [i, { fd }] of boot.channels.entries()) watch(fd, CHANNEL, i);
  if (boot.memif.listening >= 0) watch(boot.memif.listening, MEMIF, boot.memif.listening);
  const events = new Int32Array(new ArrayBuffer(EVENTS * EVENT_WORDS * 4));
  const counter = new BigUint64Array(new ArrayBuffer(8));
  for (const mac of settings.macs) maps.addMac(parseLladdr(mac)!);
  setFirewall(maps, settings, sockets, local);
  tick(performance.now());
  postMessage({ type: "ready" });
  let due = performance.now() + TICK_MS;
  let look = 0;
  const rubbish = new Rubbish();
  while (!reins.stopping) {
    const wait = Math.max(0, Math.ceil(Math.min(due - performance.now(), grants.wait)));
    const isHeld = roster.reclaim();
    const isBusy = filters.settle() || isHeld;
    const most = isBusy ? RECLAIM_MS : isLate ? EXPIRE_MS : TICK_MS;
    rubbish.collect();
    const n = libc.epoll_wait(epoll, ptr(events), EVENTS, Math.min(wait, most));
    if (n < 0 && errno() !== EINTR) throw new SysError("epoll_wait", errno());
    libc.read(boot.wakeFd, ptr(counter), 8);
    const isLook = libc.read(boot.grants.heardFd, ptr(counter), 8) === 8;
    grants.turn(isLook || performance.now() >= due, review); // before anybody is answered
    for (let i = 0; i < n; i++) {
      const which = events[i * EVENT_WORDS + 1]!;
      const kind = events[i * EVENT_WORDS + 2]!;
      if (kind === CLIENT) died(which);
      else if (kind === SOCKET) listen(which);
      else if (kind === CHANNEL) statics.accept(which);
      else if (kind === HOLDER) grants.died(which);
      else if (kind === MEMIF) memifs.accept(which);
      else if (kind === CONNECTION) memifs.read(which);
    }
    claims.serve();
    const now = performance.now();
    if (now >= due) {
      tick(now);
      due = now + TICK_MS;
    } else if (n > 0) publish();
    if (isLate && now >= look) {
      isLate = claims.expire();
      look = now + EXPIRE_MS;
    }
  }
  publish();
}

self.onmessage = (event: MessageEvent<Boot>) => {
  try {
    run(event.data);
    postMessage({ type: "stopped" });
  } catch (error) {
    postMessage({ type: "error", message: (error as Error).message });
  }
};
