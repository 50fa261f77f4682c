// A program at the other end of a control socket, byte for byte: binds a path, sends datagrams, reads answers with the fds
// that come with them and the path that they come from, and sends and receives frames by the channel that it got.
import { check, errno } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { bufferAt, mapPrivate, type Pointer, ptr, unmap } from "../../ffi/memory.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const POLLIN = 1;
const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x40000000;
const ROOM = 1 << 20;
const AT = 4096; // of the answer's bytes in its memory

export interface Heard {
  readonly text: string;
  readonly fds: readonly number[];
  /** the path that it was sent from */
  readonly from: string;
}

/** sockaddr_un; an abstract name begins with NUL. */
const sockaddr = (path: string): Uint8Array<ArrayBuffer> => {
  const bytes = Buffer.from(path, "latin1");
  const name = new Uint8Array(new ArrayBuffer(2 + bytes.length + (path.startsWith("\0") ? 0 : 1)));
  name[0] = AF_UNIX;
  name.set(bytes, 2);
  return name;
};

const readable = (fd: number, ms: number): boolean => libc.poll(ptr(Int32Array.of(fd, POLLIN)), 1, ms) === 1;

export class Asker implements Disposable {
  readonly fd: number;
  readonly path: string | undefined;
  private readonly memory = mapPrivate(AT + ROOM, true);
  private readonly view = new DataView(bufferAt(this.memory, AT + ROOM));
  private readonly owned: number[] = [];

  /** @param path undefined: not bound; beginning with NUL: abstract */
  constructor(path?: string) {
    this.path = path;
    this.fd = check("socket", libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (path === undefined) return;
    const name = sockaddr(path);
    check(`bind ${path}`, libc.bind(this.fd, ptr(name), name.length));
  }

  /** Waits while the server's queue is full. Returns 0 or -errno. */
  send(to: string, request: string | Uint8Array): number {
    const name = sockaddr(to);
    const length = Buffer.byteLength(request);
    const bytes = new Uint8Array(new ArrayBuffer(length + 1));
    bytes.set(typeof request === "string" ? Buffer.from(request) : request);
    const sent = libc.sendto(this.fd, ptr(bytes), length, 0, ptr(name), name.length);
    return Number(sent) < 0 ? -errno() : 0;
  }

  /** Passes fds along with a request. */
  sendFds(to: string, request: string, fds: readonly number[]): number {
    const { view, memory } = this;
    const name = sockaddr(to);
    const bytes = new Uint8Array(view.buffer);
    bytes.set(name, 128);
    bytes.set(Buffer.from(request), AT);
    this.header(name.length, Buffer.byteLength(request), 16 + 4 * fds.length);
    view.setBigUint64(512, BigInt(16 + 4 * fds.length), true);
    view.setInt32(520, 1, true);
    view.setInt32(524, 1, true);
    for (const [i, fd] of fds.entries()) view.setInt32(528 + 4 * i, fd, true);
    return Number(libc.sendmsg(this.fd, memory as Pointer, 0)) < 0 ? -errno() : 0;
  }

  /** The next answer, or undefined if none comes in time. Its fds are closed with the asker. */
  hear(ms = 5000): Heard | undefined {
    const { view, memory } = this;
    if (!readable(this.fd, ms)) return undefined;
    this.header(112, ROOM, 1024);
    const n = Number(libc.recvmsg(this.fd, memory as Pointer, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
    if (n < 0) return undefined;
    const fds: number[] = [];
    if (view.getUint32(40, true) >= 20)
      for (let at = 528; at < 512 + Number(view.getBigUint64(512, true)); at += 4)
        fds.push(view.getInt32(at, true));
    this.owned.push(...fds);
    const nameBytes = Math.max(2, view.getUint32(8, true));
    const from = Buffer.from(view.buffer, 130, nameBytes - 2)
      .toString("latin1")
      .replace(/\0.*$/s, "");
    return { text: Buffer.from(view.buffer, AT, n).toString("utf8"), fds, from };
  }

  /** Asks, and waits for the answer. */
  ask(to: string, request: string | Uint8Array): Heard | undefined {
    return this.send(to, request) < 0 ? undefined : this.hear();
  }

  /** Asks for a channel: its fd. @throws Error with the answer, if it is another */
  channel(to: string, ifname: string): number {
    const heard = this.ask(to, JSON.stringify({ RequestUDS: [ifname, libc.gettid()] }));
    if (heard?.text === "$" && heard.fds.length === 1) return heard.fds[0]!;
    throw new Error(`no channel: ${JSON.stringify(heard)}`);
  }

  /** Closes the channels that it got, and what other fds. */
  closeChannels(): void {
    for (const fd of this.owned) libc.close(fd);
    this.owned.length = 0;
  }

  close(): void {
    this.closeChannels();
    libc.close(this.fd);
    unmap(this.memory, AT + ROOM);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private header(nameBytes: number, bytes: number, controlBytes: number): void {
    const { view, memory } = this;
    const address = (off: number, to: number) => view.setBigUint64(off, BigInt(memory + to), true);
    address(0, 128);
    view.setUint32(8, nameBytes, true);
    address(16, 64);
    view.setBigUint64(24, 1n, true);
    address(32, 512);
    view.setBigUint64(40, BigInt(controlBytes), true);
    view.setInt32(48, 0, true);
    address(64, AT);
    view.setBigUint64(72, BigInt(bytes), true);
  }
}

/** A match as a request has it. */
export const match = (
  address: string,
  port: number | null,
  more: { protocol?: number; src?: string; srcPort?: number; [key: string]: unknown } = {},
): object => {
  const { protocol = 6, src, srcPort, ...rest } = more;
  const wire = (text: string) => ({ [text.includes(":") ? "Ipv6" : "Ipv4"]: text });
  return {
    dst_addr: wire(address),
    dst_port: port,
    src_addr: src === undefined ? null : wire(src),
    src_port: srcPort ?? null,
    protocol,
    ...rest,
  };
};

export const addMatch = (...args: Parameters<typeof match>): string =>
  JSON.stringify({ AddMatch: match(...args) });
export const removeMatch = (...args: Parameters<typeof match>): string =>
  JSON.stringify({ RemoveMatch: match(...args) });
