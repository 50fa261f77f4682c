// A client of netd for tests, at its barest: it asks by usnetd's protocol and sends and takes raw frames.
//   msghdr (56) | iovec (16) | sockaddr_un (112) | control (64) | bytes (1 MiB): one piece of mapped memory for all
import { unlinkSync } from "node:fs";
import { join } from "node:path";
import { check, errno, SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { bufferAt, mapPrivate, type Pointer, ptr } from "../../ffi/memory.ts";

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0x80000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const ETIMEDOUT = 110;
const POLLIN = 1;

const IOVEC = 56;
const NAME = 72;
const CONTROL = NAME + 112;
const BYTES = CONTROL + 64;
const ROOM = 1 << 20;
const memory = mapPrivate(BYTES + ROOM, true);
const buffer = bufferAt(memory, BYTES + ROOM);
const view = new DataView(buffer);
const bytes = new Uint8Array(buffer, BYTES, ROOM);

function sockaddr(path: string): Uint8Array<ArrayBuffer> {
  const text = Buffer.from(path, "latin1");
  const name = new Uint8Array(new ArrayBuffer(2 + text.length + 1));
  name[0] = AF_UNIX;
  name.set(text, 2);
  return name;
}

export interface Answer {
  text: string;
  /** -1 if there came none */
  fd: number;
}

export interface MatchSpec {
  protocol: number;
  dst: string;
  dport?: number | null;
  src?: string;
  sport?: number;
}

/** usnetd's WantMsg as its clients write it. */
export function wantMsg({ protocol, dst, dport = null, src, sport }: MatchSpec): object {
  const address = (text: string) => ({ [text.includes(":") ? "Ipv6" : "Ipv4"]: text });
  return {
    dst_addr: address(dst),
    dst_port: dport,
    src_addr: src === undefined ? null : address(src),
    src_port: sport ?? null,
    protocol,
  };
}

let number = 0;

export class RawClient {
  readonly control: number;
  /** fd of the channel, -1 before it was asked for */
  channel = -1;
  readonly path: string;
  private readonly server: Uint8Array<ArrayBuffer>;

  /** Binds a socket in `directory`; asks for nothing yet. */
  constructor(server: string, directory: string) {
    this.path = join(directory, `client-${process.pid}-${++number}`);
    this.server = sockaddr(server);
    this.control = check("socket AF_UNIX", libc.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0));
    const name = sockaddr(this.path);
    check(`bind ${this.path}`, libc.bind(this.control, ptr(name), name.length));
  }

  static attach(server: string, directory: string, ifname: string): RawClient {
    const client = new RawClient(server, directory);
    try {
      client.open(ifname);
      return client;
    } catch (error) {
      client.close();
      throw error;
    }
  }

  /** Asks for a channel; if it has one, it begins anew. @throws Error with what came instead */
  open(ifname: string): void {
    if (this.channel >= 0) libc.close(this.channel);
    this.channel = -1;
    const { text, fd } = this.ask({ RequestUDS: [ifname, process.pid] });
    if (text !== "$" || fd < 0) throw new Error(`no channel: ${text}`);
    this.channel = fd;
  }

  tell(request: unknown): void {
    const text = Buffer.from(typeof request === "string" ? request : JSON.stringify(request));
    const { server } = this;
    check(
      "send a request",
      libc.sendto(this.control, ptr(text), text.length, MSG_NOSIGNAL, ptr(server), server.length),
    );
  }

  /** A request (an object, or its text) and its answer. It blocks. @throws SysError ETIMEDOUT where there is none */
  ask(request: unknown, ms = 5000): Answer {
    this.tell(typeof request === "string" && !request.startsWith("{") ? JSON.stringify(request) : request);
    const wait = new Int32Array(new ArrayBuffer(8));
    wait.set([this.control, POLLIN]);
    if (libc.poll(ptr(wait), 1, ms) !== 1) throw new SysError("wait for an answer", ETIMEDOUT);
    view.setBigUint64(0, BigInt(memory + NAME), true);
    view.setUint32(8, 112, true);
    view.setBigUint64(16, BigInt(memory + IOVEC), true);
    view.setBigUint64(24, 1n, true);
    view.setBigUint64(32, BigInt(memory + CONTROL), true);
    view.setBigUint64(40, 64n, true);
    view.setBigUint64(IOVEC, BigInt(memory + BYTES), true);
    view.setBigUint64(IOVEC + 8, BigInt(ROOM), true);
    const n = check("recvmsg", libc.recvmsg(this.control, memory as Pointer, MSG_CMSG_CLOEXEC));
    const rights =
      view.getBigUint64(40, true) >= 20n &&
      view.getInt32(CONTROL + 8, true) === SOL_SOCKET &&
      view.getInt32(CONTROL + 12, true) === SCM_RIGHTS;
    return {
      text: Buffer.from(bytes.subarray(0, n)).toString(),
      fd: rights ? view.getInt32(CONTROL + 16, true) : -1,
    };
  }

  /** @throws Error with what came instead of OK */
  match(spec: MatchSpec): void {
    const { text } = this.ask({ AddMatch: wantMsg(spec) });
    if (text !== "OK") throw new Error(`match ${JSON.stringify(spec)}: ${text}`);
  }

  unmatch(spec: MatchSpec): void {
    this.tell({ RemoveMatch: wantMsg(spec) });
  }

  /** False if the channel is full. @throws SysError for anything else */
  send(frame: Uint8Array): boolean {
    const sent = libc.sendto(this.channel, ptr(frame), frame.length, MSG_DONTWAIT | MSG_NOSIGNAL, null, 0);
    if (Number(sent) === frame.length) return true;
    if (errno() === 11) return false;
    throw new SysError("send a frame", errno());
  }

  /** The next frame, a copy; undefined if there is none. */
  receive(): Uint8Array<ArrayBuffer> | undefined {
    const n = Number(libc.recvfrom(this.channel, ptr(bytes), ROOM, MSG_DONTWAIT, null, null));
    return n < 0 ? undefined : bytes.slice(0, n);
  }

  drain(): Uint8Array<ArrayBuffer>[] {
    const frames: Uint8Array<ArrayBuffer>[] = [];
    for (let next: Uint8Array<ArrayBuffer> | undefined; (next = this.receive()); ) frames.push(next);
    return frames;
  }

  /** Goes as a program does that ends: without a word. */
  close(): void {
    if (this.channel >= 0) libc.close(this.channel);
    libc.close(this.control);
    unlinkSync(this.path);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
