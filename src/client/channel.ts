// A program's channel to netd: which packets are its, and the frames themselves. `attach` asks for shared memory (memif)
// first, and takes a Unix socket where the daemon has none.
import { SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { ETHERNET } from "../wire/ether.ts";
import { PROTOCOLS } from "../wire/protocol.ts";
import { MemifPipe } from "./memifpipe.ts";
import { Frames, type Pipe } from "./pipe.ts";
import { type Grant, type Refused, refusal, Requests } from "./request.ts";
import { UnixPipe } from "./unixpipe.ts";
import { Watch } from "./waiter.ts";

const EBADF = 9;
const ECONNRESET = 104;
/** What one wait is told at most: more queues' wake-ups only make the next wait a short one. */
const EVENTS = 16;
const EVENT_BYTES = 16; // 12 on x86-64
const MOST_LOG2 = 14;
/** The control socket of a netd that was not told otherwise (switch.sockets). */
export const SERVER = "/run/netd/control.sock";

/** Packets that are to come to this program. */
export interface Listen {
  proto: "udp" | "tcp" | "icmp" | "icmpv6" | "sctp" | "dccp" | "udplite";
  /** the destination's; without it all, but netd has its word in that */
  port?: number;
  /** "10.0.0.1" or "10.0.0.0/24"; without it, every address of the host, of both families */
  address?: string;
  /** only from there: an address, or a prefix */
  from?: string;
  fromPort?: number;
}

export interface AttachOptions {
  /** the card: "eth0" */
  interface: string;
  listen?: readonly Listen[];
  /** netd's control socket; "/run/netd/control.sock" */
  server?: string | undefined;
  /** where both the daemon and this program see a file: its answers come to a socket there, for a moment; /tmp */
  directory?: string | undefined;
  /** shared memory, or a Unix socket; without it the first that netd has */
  pipe?: "memif" | "unix";
  /** bare IP packets, for which netd does routing, neighbours and headers; over memif alone */
  ip?: boolean;
  /** memif queues each way, best one for each queue of the card; 1 */
  queues?: number;
  /** slots of each, a power of two up to 16384; 1024 */
  slots?: number;
  /** what netd asks for on some cards; when it ends, so does the channel */
  grant?: Grant | undefined;
}

const addressOf = (text: string): object => ({ [text.includes(":") ? "Ipv6" : "Ipv4"]: text });

/** What JSON would make null of is a match for anything. */
function expectNumber(what: string, number: number | undefined): void {
  if (number !== undefined && !Number.isInteger(number))
    throw new TypeError(`${what} ${number}: expected a whole number`);
}

function prefixOf(text: string): { address: string; prefix: number | undefined } {
  const [, address, prefix] = /^([^/]*)(?:\/(\d+))?$/.exec(text) ?? [];
  if (address === undefined) throw new TypeError(`"${text}" is no address, and no prefix`);
  return { address, prefix: prefix === undefined ? undefined : Number(prefix) };
}

function wantMsg({ proto, port, from, fromPort }: Listen, to: string): object {
  expectNumber("port", port);
  expectNumber("fromPort", fromPort);
  if (PROTOCOLS[proto] === undefined)
    throw new TypeError(`proto "${proto}": expected ${Object.keys(PROTOCOLS).join(", ")}`);
  const { address: dst, prefix: dstPrefix } = prefixOf(to);
  const { address: src, prefix: srcPrefix } = from === undefined ? {} : prefixOf(from);
  return {
    dst_addr: addressOf(dst),
    dst_port: port ?? null,
    src_addr: src === undefined ? null : addressOf(src),
    src_port: fromPort ?? null,
    protocol: PROTOCOLS[proto],
    ...(dstPrefix !== undefined && { dst_prefix: dstPrefix }),
    ...(srcPrefix !== undefined && { src_prefix: srcPrefix }),
  };
}

/** The matches that a Listen is. */
function wants(listen: Listen): object[] {
  const { address, from, proto } = listen;
  if (address !== undefined) return [wantMsg(listen, address)];
  const any = ["0.0.0.0", "::"].filter((to) => {
    if (proto === "icmp" || proto === "icmpv6") return (proto === "icmp") !== to.includes(":");
    return from === undefined || from.includes(":") === to.includes(":");
  });
  return any.map((to) => wantMsg(listen, to));
}

const nameOf = ({ proto, port, address }: Listen): string =>
  `${proto}${port === undefined ? "" : ` port ${port}`}${address === undefined ? "" : ` at ${address}`}`;

/** What netd says of a client. */
interface Self {
  readonly mtu: number;
  readonly mac: string;
  readonly addresses: readonly string[];
}

/**
 * A channel. Everything but `ready` is synchronous and never waits, `wait` aside.
 * Frames are Ethernet frames without FCS, or bare IP packets (`head` is 0), with complete checksums.
 */
export class Channel implements Disposable {
  readonly interface: string;
  /** how frames get here */
  readonly kind: Pipe["kind"];
  /** where a frame's IP header begins: 14, or 0 */
  readonly head: number;
  /** the client's link-layer address, the card's own: "02:00:00:00:00:01" */
  readonly mac: string;
  /** bytes of a packet, IP header included */
  readonly mtu: number;
  /** the card's addresses, as they were when this was attached */
  readonly addresses: readonly string[];
  /** for what is built upon channels */
  readonly pipe: Pipe;
  private readonly requests: Requests;
  /** @internal */
  readonly frames: Frames;
  private readonly events = new Int32Array(new ArrayBuffer(EVENTS * EVENT_BYTES));
  private watch: Watch | undefined;
  private news: Watch | undefined;
  private taken: Refused | undefined;
  private waiting: PromiseWithResolvers<boolean> | undefined;
  private closed = false;

  /** @internal use attach */
  constructor(ifname: string, requests: Requests, pipe: Pipe, self: Self) {
    this.interface = ifname;
    this.requests = requests;
    this.pipe = pipe;
    this.kind = pipe.kind;
    this.head = pipe.head;
    this.mac = self.mac;
    this.mtu = self.mtu;
    this.addresses = self.addresses;
    this.frames = new Frames(pipe);
    if (requests.fd < 0) return;
    this.news = new Watch(requests.fd, () => void this.heard());
    this.news.arm();
  }

  /** These packets come here from now on. @throws Refused */
  async listen(listen: Listen): Promise<void> {
    for (const want of wants(listen))
      await this.requests.demand(`listen to ${nameOf(listen)} on ${this.interface}`, want);
  }

  /** And no more. */
  async unlisten(listen: Listen): Promise<void> {
    for (const want of wants(listen))
      await this.requests.tell(`unlisten ${nameOf(listen)}`, { RemoveMatch: want });
  }

  /**
   * Calls `handler` with the frames that have come, 64 at most, and sends what it answered or pushed. Returns how many
   * frames there were. Allocates nothing.
   */
  poll(handler: (frames: Frames) => void): number {
    const { pipe, frames } = this;
    if (this.closed) return 0;
    pipe.receive(frames);
    const { n } = frames;
    if (n === 0) {
      if (pipe.staged > 0) pipe.flush();
      return 0;
    }
    try {
      handler(frames);
    } finally {
      // Unless the handler has closed it: then its memory and its fds are gone.
      if (!this.closed) {
        pipe.release();
        pipe.flush();
      }
    }
    return n;
  }

  /**
   * Copies a frame out. False where the daemon does not keep up. Sent at once; see `pipe` for many.
   * @throws SysError EBADF once it is closed
   */
  send(frame: Uint8Array): boolean {
    const { pipe, frames } = this;
    if (this.closed) throw new SysError(`send on ${this.interface}`, EBADF, "the channel is closed");
    if (frame.length > pipe.longest)
      throw new RangeError(`a frame of ${frame.length} bytes: at most ${pipe.longest}`);
    const off = pipe.take();
    if (off < 0) return false;
    frames.bytes.set(frame, off);
    pipe.push(frame.length);
    pipe.flush();
    return true;
  }

  /**
   * Waits in the event loop: true when frames have come, false once it is closed. One at a time.
   * @throws SysError when netd has ended
   */
  ready(): Promise<boolean> {
    if (this.closed) return Promise.resolve(false);
    const { promise } = (this.waiting ??= Promise.withResolvers());
    if (this.pipe.arm()) (this.watch ??= new Watch(this.pipe.fd, () => void this.woken())).arm();
    else void this.woken();
    return promise;
  }

  /**
   * Blocks this thread until frames have come, `ms` milliseconds at most (-1: for ever). For a thread of one's own.
   * @throws SysError when netd has ended
   */
  wait(ms = -1): boolean {
    const { pipe, events } = this;
    if (this.closed) return false;
    if (!pipe.arm()) {
      this.alive();
      return true;
    }
    const n = libc.epoll_wait(pipe.fd, ptr(events), EVENTS, ms);
    pipe.disarm();
    // To ask after netd is a system call: not while there are frames.
    if (n > 0 && (!pipe.hasFrames || this.taken !== undefined)) this.alive();
    return n > 0;
  }

  /** @throws SysError if netd is gone, Refused if it has taken the channel back */
  alive(): void {
    if (this.taken !== undefined) throw this.taken;
    const reason = this.pipe.gone();
    if (reason !== "")
      throw new SysError(`channel on ${this.interface}`, ECONNRESET, `netd is gone: ${reason}`);
  }

  get isClosed(): boolean {
    return this.closed;
  }

  /** Its matches end with it. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.watch?.close();
    this.news?.close();
    this.requests.close();
    this.pipe.close();
    this.waiting?.resolve(false);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** A grant has ended, and the channel with it if nothing else allows it. */
  private async heard(): Promise<void> {
    await this.inquire();
    if (this.taken !== undefined) void this.woken();
    else if (!this.closed) this.news?.arm();
  }

  /** Asks whether the channel is there. Whatever netd had to say comes before the answer. */
  private async inquire(): Promise<void> {
    const { requests } = this;
    const { text } = await requests.ask("hear netd", "WhoAmI").catch(() => ({ text: "{}" }));
    const { Client: self } = JSON.parse(text) as { Client?: { client?: number } };
    if (self !== undefined && self.client === undefined) this.taken = requests.ended;
  }

  private async woken(): Promise<void> {
    const { waiting } = this;
    if (this.closed || waiting === undefined) return;
    this.waiting = undefined;
    this.pipe.disarm();
    libc.epoll_wait(this.pipe.fd, ptr(this.events), EVENTS, 0); // what woke us is told: the waiter asks this epoll alone
    try {
      this.alive();
      waiting.resolve(true);
    } catch (error) {
      if (this.requests.fd >= 0) await this.inquire();
      waiting.reject(this.taken ?? error);
    }
  }
}

/**
 * Attaches to netd on this host.
 * @throws Refused with netd's code and sentence, SysError where no netd answers
 */
export async function attach(options: AttachOptions): Promise<Channel> {
  const { interface: ifname, listen = [], server = SERVER, directory, pipe: wanted, ip = false } = options;
  const op = `attach to ${ifname}`;
  const requests = new Requests(server, directory);
  const self = async (): Promise<Self> => {
    const { text } = await requests.ask(op, "WhoAmI");
    return (JSON.parse(text) as { Client?: Self }).Client ?? fail(refusal(op, text));
  };
  let pipe: Pipe | undefined;
  try {
    const { mtu } = await self();
    if (options.grant) await requests.present(op, options.grant);
    if (wanted !== "unix") {
      const log2 = log2Of(options.slots ?? 1024);
      const { text, fd } = await requests.ask(op, { RequestMemif: [ifname, process.pid] });
      if (fd >= 0) pipe = new MemifPipe(fd, mtu, ip, options.queues ?? 1, log2);
      else if (wanted === "memif") throw refusal(op, text);
    }
    if (pipe === undefined) {
      const { text, fd } = await requests.ask(op, { RequestUDS: [ifname, process.pid] });
      if (fd < 0) throw refusal(op, text);
      pipe = new UnixPipe(fd, mtu + ETHERNET);
    }
    const channel = new Channel(ifname, requests, pipe, await self());
    for (const one of listen) await channel.listen(one);
    return channel;
  } catch (error) {
    pipe?.close();
    requests.close();
    throw error;
  }
}

function log2Of(slots: number): number {
  const log2 = Math.log2(slots);
  if (Number.isInteger(log2) && log2 >= 3 && log2 <= MOST_LOG2) return log2;
  throw new RangeError(`slots ${slots}: a power of two from 8 to ${2 ** MOST_LOG2}`);
}

const fail = (error: Refused): never => {
  throw error;
};
