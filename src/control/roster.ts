// The clients: who is attached, with which channel, and how one leaves. Nothing of a client is reused as long as a net
// Worker may still hold it: first all of its matches go (the program's maps, then the table), then its slot out of the
// table, then, when every net Worker has begun another batch, its channel's fd and its slot.
//
// Limits are counted here, a client and a user. One thread: the control Worker.
import { check, errno, SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { Epochs } from "../mem/epoch.ts";
import { ACKNOWLEDGED, H_EPOCH } from "../switch/table/layout.ts";
import type { Peer } from "./peer.ts";
import { Refusal } from "./protocol.ts";
import type { SwitchSettings } from "./settings.ts";
import type { TableWriter } from "../switch/table/table.ts";

const AF_UNIX = 1;
const SOCK_DGRAM_NONBLOCK_CLOEXEC = 2 | 0o2004000;
const SOCK_SEQPACKET_NONBLOCK_CLOEXEC = 5 | 0o2004000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_SNDBUFFORCE = 32;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLLIN = 1;
/** What a channel's end may have under way: some 450 frames of 1514 bytes. */
const CHANNEL_BYTES = 1 << 20;

const RETIRE_FD = 0;
const RETIRE_SLOT = 1;
const RETIRE_OTHER = 2;

export interface Client {
  readonly slot: number;
  /** where it is bound, or the static channel's name */
  readonly path: string;
  readonly peer: Peer;
  readonly pidfd: number;
  /** the daemon's end of its channel; by memif that of its connection, which is memif.ts's to close */
  readonly fd: number;
  readonly channel: "socket" | "memif";
  readonly home: number;
  mac: Uint8Array;
  /** CLIENT_FLAGS (table/layout.ts) */
  flags: number;
  /** the daemon's end of what it hears by what became of its frames; -1: it has not asked */
  ackFd: number;
  /** has an address of its own: not the card's */
  ownMac: boolean;
  /** entries that it asked for */
  matches: number;
  /** frames that its grants let it send; Infinity: any number */
  packetsPerSecond: number;
  /** net Workers that take its frames: each lets it send an equal part */
  takers: number;
}

interface User {
  readonly slots: Set<number>;
  matches: number;
  claims: number;
}

export interface RosterOptions {
  readonly table: TableWriter;
  /** the switch's epochs region, a slot a net Worker */
  readonly epochs: Int32Array;
  /** a net Worker's epoll fd each */
  readonly epollFds: readonly number[];
  readonly settings: SwitchSettings;
}

export class Roster {
  private readonly table: TableWriter;
  private readonly epollFds: readonly number[];
  private readonly settings: SwitchSettings;
  private readonly epochs: Epochs;
  private readonly bySlot = new Map<number, Client>();
  private readonly byPath = new Map<string, Client>();
  private readonly users = new Map<number, User>();
  private readonly others = new Map<number, () => void>();
  private nextOther = 0;

  constructor({ table, epochs, epollFds, settings }: RosterOptions) {
    this.table = table;
    this.epollFds = epollFds;
    this.settings = settings;
    this.epochs = new Epochs(epochs, table.words, H_EPOCH, (kind, thing) => {
      if (kind === RETIRE_FD) libc.close(thing);
      else if (kind === RETIRE_SLOT) table.freeClient(thing);
      else {
        this.others.get(thing)!();
        this.others.delete(thing);
      }
    });
  }

  get size(): number {
    return this.bySlot.size;
  }

  all(): IterableIterator<Client> {
    return this.bySlot.values();
  }

  at(slot: number): Client | undefined {
    return this.bySlot.get(slot);
  }

  of(path: string): Client | undefined {
    return this.byPath.get(path);
  }

  /** A pair of sockets, both ends non-blocking: ours, the client's. @throws SysError */
  static channel(channel: Client["channel"]): [number, number] {
    const pair = new Int32Array(new ArrayBuffer(8));
    const type = channel === "memif" ? SOCK_SEQPACKET_NONBLOCK_CLOEXEC : SOCK_DGRAM_NONBLOCK_CLOEXEC;
    check("socketpair for a client", libc.socketpair(AF_UNIX, type, 0, ptr(pair)));
    return [pair[0]!, pair[1]!];
  }

  /**
   * Makes a client. Takes over `pidfd`, and the `fd` of a socket: they are closed with it, or at once if this throws.
   * @throws Refusal over a limit, SysError
   */
  attach(
    path: string,
    peer: Peer,
    pidfd: number,
    fd: number,
    channel: Client["channel"],
    mac: Uint8Array,
    mtu: number,
  ): Client {
    try {
      const user = this.users.get(peer.uid) ?? { slots: new Set(), matches: 0, claims: 0 };
      if (user.slots.size >= this.settings.clientsPerUser)
        throw new Refusal("limit", `uid ${peer.uid} has ${user.slots.size} clients: switch.clientsPerUser`);
      for (const end of [SO_SNDBUFFORCE, SO_SNDBUF])
        if (libc.setsockopt(fd, SOL_SOCKET, end, ptr(Int32Array.of(CHANNEL_BYTES)), 4) === 0) break;
      const row = {
        fd: channel === "memif" ? -1 : fd,
        mac,
        mtu,
        flags: 0,
        home: 0,
        ratePps: this.settings.packetsPerSecond,
        ...peer,
      };
      const slot = this.table.addClient(row);
      if (slot < 0) throw new Refusal("limit", `there are ${this.size} clients already: switch.clients`);
      const home = slot % this.epollFds.length;
      this.table.updateClient(slot, { ...row, home });
      const event = Int32Array.of(EPOLLIN, slot, 0);
      if (row.fd >= 0 && libc.epoll_ctl(this.epollFds[home]!, EPOLL_CTL_ADD, fd, ptr(event)) < 0) {
        const error = new SysError("epoll_ctl for a client", errno());
        this.table.removeClient(slot);
        this.epochs.retire(RETIRE_SLOT, slot);
        throw error;
      }
      const client = {
        slot,
        path,
        peer,
        pidfd,
        fd,
        channel,
        home,
        mac,
        flags: 0,
        ackFd: -1,
        ownMac: false,
        matches: 0,
        packetsPerSecond: Number.POSITIVE_INFINITY,
        takers: 1,
      };
      user.slots.add(slot);
      this.users.set(peer.uid, user);
      this.bySlot.set(slot, client);
      this.byPath.set(path, client);
      this.share(user);
      return client;
    } catch (error) {
      if (channel === "socket") libc.close(fd);
      libc.close(pidfd);
      throw error;
    }
  }

  /** Takes a client out whose matches are gone from the program's maps. */
  detach(client: Client): void {
    const { slot, fd, path, peer } = client;
    this.table.removeClient(slot);
    if (client.channel === "socket") libc.epoll_ctl(this.epollFds[client.home]!, EPOLL_CTL_DEL, fd, null);
    this.bySlot.delete(slot);
    this.byPath.delete(path);
    const user = this.users.get(peer.uid)!;
    user.matches -= client.matches;
    user.slots.delete(slot);
    if (user.slots.size === 0) this.users.delete(peer.uid);
    else this.share(user);
    libc.close(client.pidfd);
    if (client.channel === "socket") this.epochs.retire(RETIRE_FD, fd);
    if (client.ackFd >= 0) this.epochs.retire(RETIRE_FD, client.ackFd);
    this.epochs.retire(RETIRE_SLOT, slot);
  }

  /** Writes a client's row anew. */
  update(client: Client, mtu: number): void {
    const { slot, channel, mac, home, flags, peer } = client;
    const ratePps = this.rate(client);
    const fd = channel === "memif" ? -1 : client.fd;
    this.table.updateClient(slot, { fd, mac, mtu, flags, home, ratePps, ...peer });
  }

  /** Frames a second that each net Worker lets a client send; 0: any number. */
  private rate({ peer, packetsPerSecond: granted, takers }: Client): number {
    const { packetsPerSecond, packetsPerSecondPerUser } = this.settings;
    const part = packetsPerSecondPerUser / this.users.get(peer.uid)!.slots.size;
    const limits = [packetsPerSecond, Math.ceil(part)].filter((limit) => limit > 0);
    const most = Math.min(granted, ...limits);
    return Number.isFinite(most) ? Math.ceil(most / takers) : 0;
  }

  /** So many net Workers are about to take a client's frames: it has a ring in each. */
  spread(client: Client, takers: number): void {
    client.takers = takers;
    this.table.clients.setRate(client.slot, this.rate(client));
  }

  /** The clients of a user are more or fewer: each has its part. */
  private share({ slots }: User): void {
    if (this.settings.packetsPerSecondPerUser === 0) return;
    for (const slot of slots) this.table.clients.setRate(slot, this.rate(this.bySlot.get(slot)!));
  }

  /** From now on a client hears what became of its frames: at the returned end of a pair, which is the receiver's to close. */
  acknowledge(client: Client): number {
    const [ours, theirs] = Roster.channel("socket");
    if (client.ackFd >= 0) this.epochs.retire(RETIRE_FD, client.ackFd);
    client.ackFd = ours;
    this.table.clients.setAckFd(client.slot, ours);
    client.flags |= ACKNOWLEDGED;
    this.table.clients.setFlags(client.slot, client.flags);
    return theirs;
  }

  /** @throws Refusal if the client or its user has as many matches as it may have */
  room(client: Client): void {
    const { matchesPerClient, matchesPerUser } = this.settings;
    const user = this.users.get(client.peer.uid)!;
    if (client.matches >= matchesPerClient)
      throw new Refusal("limit", `this client has ${client.matches} matches: switch.matchesPerClient`);
    if (user.matches >= matchesPerUser)
      throw new Refusal("limit", `uid ${client.peer.uid} has ${user.matches} matches: switch.matchesPerUser`);
  }

  /** Counts a match more, or with -1 one less. */
  count(client: Client, by: 1 | -1): void {
    client.matches += by;
    this.users.get(client.peer.uid)!.matches += by;
  }

  /** Counts a claim of a client's more, or with -1 one less. */
  claimed(slot: number, by: 1 | -1): void {
    this.users.get(this.bySlot.get(slot)!.peer.uid)!.claims += by;
  }

  /** ClaimRules.crowded. */
  crowded(slot: number): number {
    const { slots, claims } = this.users.get(this.bySlot.get(slot)!.peer.uid)!;
    if (claims < this.settings.claimsPerUser) return -1;
    const has = (one: number) => this.table.countOf(one, true);
    return has(slot) > 0 ? slot : slots.values().reduce((most, one) => (has(one) > has(most) ? one : most));
  }

  /** Calls `free` when no net Worker can hold any more what is taken out of its reach by now. */
  later(free: () => void): void {
    this.others.set(this.nextOther, free);
    this.epochs.retire(RETIRE_OTHER, this.nextOther++);
  }

  /** Gives back what no net Worker can hold any more. Returns whether something is still held. */
  reclaim(): boolean {
    this.epochs.advance();
    return this.epochs.waiting > 0;
  }

  /** Closes everything: the net Workers have ended. */
  close(): void {
    this.reclaim();
    for (const client of this.bySlot.values()) {
      if (client.channel === "socket") libc.close(client.fd);
      libc.close(client.pidfd);
      if (client.ackFd >= 0) libc.close(client.ackFd);
    }
    this.bySlot.clear();
  }
}
