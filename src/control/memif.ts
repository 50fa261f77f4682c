// Clients by memif: their handshakes, their memory, and their places in the net Workers' ports (link/memif/port.ts).
//
//   connection  comes by the listening socket (any program of memif's: its id says what it may have, `memif.clients`), or by
//               RequestMemif on a control socket, and then is the channel of the client that asked
//   connected   its regions are mapped into the frame memory of every net Worker that serves one of its rings
//   gone        its ports go first; its memory and fds when every net Worker has begun another batch
//
// Ring i from the client is net Worker i's, modulo their number, and so is ring i to it; a Worker that would have none of those
// shares one. One thread: the control Worker.
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { Connection } from "../link/memif/connection.ts";
import { MODE_ETHERNET, MODE_IP } from "../link/memif/message.ts";
import { type PortPlace, PortWriter, REGIONS, RINGS } from "../link/memif/port.ts";
import { beginRing } from "../link/memif/ring.ts";
import type { Limits, Region, RingPlace } from "../link/memif/session.ts";
import { Windows } from "../link/memif/window.ts";
import { MEMIF } from "../switch/channels.ts";
import type { MemifBoot } from "./boot.ts";
import type { Control } from "./control.ts";
import type { Grants } from "./grants.ts";
import { type MemifClient, readMemifClient } from "./memifclient.ts";
import { peerOf } from "./peer.ts";
import { Refusal } from "./protocol.ts";
import type { Client, Roster } from "./roster.ts";
import type { StaticChannels } from "./static.ts";

const SOCK_NONBLOCK_CLOEXEC = 0o2004000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLLIN = 1;
const EPOLLET = 1 << 31;
/** A handshake takes a millisecond; who takes longer than this keeps others out. */
const HANDSHAKE_MS = 5000;
/** Handshakes under way at a time. */
const MOST_UNDER_WAY = 64;
const NAME = "netd";

/** One connection, from its accept on. */
interface Peer {
  readonly connection: Connection;
  /** whose channel it is: known from the start by RequestMemif, else once it is connected */
  client: Client | undefined;
  /** in its Workers: number of the port, and where its regions are */
  readonly ports: {
    worker: number;
    port: number;
    eventfds: number[];
    windows: { offset: number; bytes: number }[];
  }[];
  readonly since: number;
  isConnected: boolean;
}

export interface MemifParts {
  readonly boot: MemifBoot;
  readonly control: Control;
  readonly roster: Roster;
  readonly statics: StaticChannels;
  readonly grants: Grants;
  /** a net Worker's epoll fd each */
  readonly epollFds: readonly number[];
  /** begins, and ends, to tell of what comes by a connection */
  readonly watch: (fd: number) => void;
  readonly unwatch: (fd: number) => void;
}

export class Memifs {
  private readonly parts: MemifParts;
  private readonly ports: readonly PortWriter[];
  private readonly memories: readonly Int32Array[];
  private readonly windows: readonly Windows[];
  private readonly limits: Limits;
  private readonly ids: ReadonlyMap<number, MemifClient>;
  /** By the connection's fd. */
  private readonly peers = new Map<number, Peer>();

  /** @param ports each net Worker's, mapped read-write */
  constructor(parts: MemifParts, ports: readonly ArrayBuffer[]) {
    const { settings, places } = parts.boot;
    this.parts = parts;
    this.ports = ports.map((buffer) => new PortWriter(buffer));
    this.memories = places.map(({ memory }) => new Int32Array(memory.buffer));
    this.windows = places.map(({ memory, from, to }) => new Windows(memory, from, to));
    this.limits = {
      rings: RINGS,
      bytes: settings.clientMegabytes * 2 ** 20,
      secret: Buffer.from(settings.secret ?? ""),
      modes: [MODE_ETHERNET, MODE_IP],
    };
    const clients = settings.clients.map((text) => readMemifClient(text)!);
    this.ids = new Map(clients.map((client) => [client.id, client]));
  }

  /** Somebody connects to the listening socket. */
  accept(listening: number): void {
    const fd = libc.accept4(listening, null, null, SOCK_NONBLOCK_CLOEXEC);
    if (fd >= 0) this.open(fd, this.limits, undefined);
  }

  /** Serves the channel of a client that came by a control socket. @param fd taken over */
  serve(client: Client): void {
    this.open(client.fd, { ...this.limits, secret: new Uint8Array() }, client);
  }

  /** Something has come by connection `fd`, or it is closed. */
  read(fd: number): void {
    const peer = this.peers.get(fd);
    if (peer === undefined) return;
    const { connection } = peer;
    if (connection.read()) this.connect(peer);
    if (connection.ended !== "") this.end(peer);
  }

  /** A client has left, or is sent away: takes back what it has here. @param reason told to it */
  left(client: Client, reason: string): void {
    const peer = this.peers.get(client.fd);
    if (peer !== undefined) this.take(peer, reason);
  }

  /** Now and then: who does not get on is sent away. */
  tick(now: number): void {
    for (const peer of this.peers.values())
      if (!peer.isConnected && now - peer.since > HANDSHAKE_MS) {
        peer.connection.refuse(`no connect within ${HANDSHAKE_MS} ms`);
        this.end(peer);
      }
  }

  private open(fd: number, limits: Limits, client: Client | undefined): void {
    const under = [...this.peers.values()].filter(({ isConnected }) => !isConnected);
    if (client === undefined && under.length >= MOST_UNDER_WAY) {
      under[0]!.connection.refuse("too many handshakes under way");
      this.end(under[0]!);
    }
    const connection = new Connection(fd, NAME, limits);
    this.peers.set(fd, { connection, client, ports: [], since: performance.now(), isConnected: false });
    this.parts.watch(fd);
  }

  /** It has said all: gives it a place in the table, if it has none, and in its Workers. */
  private connect(peer: Peer): void {
    const { connection } = peer;
    try {
      peer.client ??= this.admit(connection);
      const rings = connection.session.s2m.length;
      this.parts.roster.spread(peer.client, Math.max(Math.min(rings, this.ports.length), 1));
      for (const worker of this.ports.keys()) this.map(peer, peer.client, worker);
      connection.mapped();
      peer.isConnected = true;
      // What comes for it from now on reaches it: its Workers have its rings.
      this.parts.roster.later(() => {
        if (this.peers.get(connection.fd) === peer) connection.connected(this.parts.boot.ifname);
      });
    } catch (error) {
      if (connection.ended === "") connection.refuse((error as Error).message);
    }
  }

  /** Who came by the listening socket becomes a client, with what the configuration gives its id. @throws Refusal, SysError */
  private admit(connection: Connection): Client {
    const { fd, session } = connection;
    const { control, roster, statics, grants, boot } = this.parts;
    const path = `${boot.path}#${session.id}`;
    if (roster.of(path)) throw new Refusal("exists", `id ${session.id} is connected already`);
    const { peer, pidfd } = peerOf(fd);
    if (peer === undefined || pidfd < 0) throw new Refusal("failed", "nobody is at the other end");
    const wanted = this.ids.get(session.id);
    if (wanted === undefined && grants.needed(peer)) {
      libc.close(pidfd);
      throw new Refusal(
        "not_granted",
        `id ${session.id} is not in memif.clients, and others need a grant here`,
      );
    }
    const client = control.attach(path, peer, pidfd, fd, "memif");
    try {
      if (wanted?.mac !== undefined) control.giveMac(client, wanted.mac);
      for (const match of wanted?.matches ?? []) control.addMatch(client, match, true);
      for (const endpoint of wanted?.endpoints ?? []) statics.take(client, endpoint);
    } catch (error) {
      connection.refuse((error as Error).message); // before it hears only that it has to go
      control.drop(client);
      throw error;
    }
    return client;
  }

  private map(peer: Peer, client: Client, worker: number): void {
    const workers = this.ports.length;
    const { session } = peer.connection;
    const own = (rings: readonly RingPlace[]) => rings.filter((_, i) => i % workers === worker);
    const from = own(session.s2m);
    const isShared = session.m2s.length > 0 && session.m2s.length < workers;
    const sharedRing = isShared ? worker % session.m2s.length : -1;
    const to = isShared ? [session.m2s[sharedRing]!] : own(session.m2s);
    if (from.length === 0 && to.length === 0) return;
    const place = { worker, port: -1, eventfds: from.map(({ fd }) => fd), windows: [] };
    peer.ports.push(place);
    const { offs, bytes } = this.mapRegions(session.regions, worker, place.windows);
    for (const ring of [...from, ...to]) {
      const wrong = beginRing(this.memories[worker]!, { offs, bytes }, ring);
      if (wrong !== "") throw new Refusal("failed", wrong);
    }
    const port: PortPlace = { client: client.slot, mode: session.mode, from, to, sharedRing, offs, bytes };
    for (const fd of place.eventfds)
      libc.epoll_ctl(
        this.parts.epollFds[worker]!,
        EPOLL_CTL_ADD,
        fd,
        ptr(Int32Array.of(EPOLLIN | EPOLLET, MEMIF, fd)),
      );
    place.port = this.ports[worker]!.add(port);
    if (place.port < 0) throw new Refusal("limit", "too many clients by memif");
  }

  private mapRegions(
    regions: readonly Region[],
    worker: number,
    windows: { offset: number; bytes: number }[],
  ) {
    const offs = new Int32Array(REGIONS).fill(-1);
    const bytes = new Int32Array(REGIONS);
    for (const region of regions) {
      const offset = this.windows[worker]!.map(region.fd, region.bytes);
      if (offset < 0)
        throw new Refusal(
          "limit",
          `no room for ${Math.ceil(region.bytes / 2 ** 20)} MiB of region ${region.index}: memif.megabytes`,
        );
      windows.push({ offset, bytes: region.bytes });
      offs[region.index] = offset;
      bytes[region.index] = region.bytes;
    }
    return { offs, bytes };
  }

  /** A connection is over: so is its client. */
  private end(peer: Peer): void {
    if (peer.client) this.parts.control.drop(peer.client);
    else this.take(peer, "");
  }

  private take(peer: Peer, reason: string): void {
    const { connection, ports } = peer;
    if (!this.peers.delete(connection.fd)) return; // gone with its client already
    this.parts.unwatch(connection.fd);
    if (connection.ended === "" && reason !== "") connection.refuse(reason);
    for (const { worker, port, eventfds } of ports) {
      for (const fd of eventfds) libc.epoll_ctl(this.parts.epollFds[worker]!, EPOLL_CTL_DEL, fd, null);
      if (port >= 0) this.ports[worker]!.remove(port);
    }
    this.parts.roster.later(() => {
      for (const { worker, port, windows } of ports) {
        for (const { offset, bytes } of windows) this.windows[worker]!.unmap(offset, bytes);
        if (port >= 0) this.ports[worker]!.free(port);
      }
      connection.close();
    });
  }

  /** Closes everything: the net Workers have ended. */
  close(): void {
    for (const peer of this.peers.values()) this.take(peer, "netd ends");
  }
}
