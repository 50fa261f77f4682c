// A small memif server over the product's parts, for tests: listens, takes one client at a time, and gives back to it
// all that it sends.
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { BATCH } from "../../src/link/link.ts";
import { Connection } from "../../src/link/memif/connection.ts";
import { frameBatch, makeReceive, makeTransmit } from "../../src/link/memif/batches.ts";
import { beginRing, FromClient, type Mapped, ToClient } from "../../src/link/memif/ring.ts";
import type { Limits } from "../../src/link/memif/session.ts";
import { Windows } from "../../src/link/memif/window.ts";
import { frameMemory } from "../../src/mem/frames.ts";

const SYS_ACCEPT4 = 288;
export const FRAME = 2048;
const OWN = 1 << 20;
const ALL = 512 << 20;

export const LIMITS: Limits = { rings: 8, bytes: 256 << 20, secret: new Uint8Array(), modes: [0, 1] };

export class MemifServer implements Disposable {
  readonly memory: WebAssembly.Memory = frameMemory(OWN, ALL);
  readonly windows: Windows = new Windows(this.memory, OWN, ALL);
  connection: Connection | undefined;
  from: FromClient[] = [];
  to: ToClient[] = [];
  frames = 0;
  bytes = 0;
  full = 0;
  /** Reasons for which clients were sent away, or left. */
  readonly ends: string[] = [];
  private readonly fd: number;
  private readonly batch = frameBatch(this.memory);
  private readonly receive = makeReceive(this.memory);
  private readonly transmit = makeTransmit(this.memory);
  private readonly limits: Limits;
  private turns = 0;
  private mapped: { offset: number; bytes: number }[] = [];

  constructor(path: string, limits: Limits = LIMITS) {
    this.limits = limits;
    const name = new Uint8Array(new ArrayBuffer(110));
    name[0] = 1;
    name.set(Buffer.from(path), 2);
    this.fd = check("socket", libc.socket(1, 5 | 0o2004000, 0));
    check("bind", libc.bind(this.fd, ptr(name), name.length));
    check("listen", libc.listen(this.fd, 8));
    for (let i = 0; i < BATCH; i++) this.batch.off[i] = i * FRAME + 2;
  }

  /** One turn: a new client, a message, a batch of frames. Returns the frames. */
  turn(reflect = true): number {
    if (this.connection === undefined) {
      const fd = Number(libc.syscall(SYS_ACCEPT4, this.fd, 0, 0, 0o2004000, 0, 0, 0));
      if (fd < 0) return 0;
      this.connection = new Connection(fd, "netd-test", this.limits);
    }
    if (this.turns++ % 64 === 0) this.control(this.connection);
    let got = 0;
    for (const [i, ring] of this.from.entries()) {
      const { batch } = this;
      this.receive(ring, batch, BATCH, FRAME - 2, 0);
      got += batch.n;
      for (let f = 0; f < batch.n; f++) this.bytes += batch.len[f]!;
      const to = this.to[i];
      if (reflect && to && batch.n > 0) this.full += batch.n - this.transmit(to, batch);
      const broken = ring.broken || to?.broken;
      if (broken) {
        this.connection?.refuse(broken);
        this.end();
        break;
      }
    }
    this.frames += got;
    return got;
  }

  private control(connection: Connection): void {
    if (connection.read()) {
      const { session } = connection;
      const mapped: Mapped = { offs: new Int32Array(256).fill(-1), bytes: new Int32Array(256) };
      for (const { index, bytes, fd } of session.regions) {
        const offset = this.windows.map(fd, bytes);
        if (offset < 0) throw new Error("no window");
        mapped.offs[index] = offset;
        mapped.bytes[index] = bytes;
        this.mapped.push({ offset, bytes });
      }
      const words = new Int32Array(this.memory.buffer);
      const wrong = [...session.s2m, ...session.m2s]
        .map((place) => beginRing(words, mapped, place))
        .find(Boolean);
      if (wrong) {
        connection.refuse(wrong);
        this.end();
        return;
      }
      this.from = session.s2m.map((place) => new FromClient(this.memory, mapped, place));
      this.to = session.m2s.map((place) => new ToClient(this.memory, mapped, place));
      const broken = [...this.from, ...this.to].find((ring) => ring.broken)?.broken;
      if (broken) connection.refuse(broken);
      else {
        for (const ring of this.from) ring.interrupts(false);
        connection.connected("netd0");
      }
    }
    if (connection.ended) this.end();
  }

  private end(): void {
    if (!this.connection) return;
    this.ends.push(this.connection.ended);
    this.connection.close();
    this.connection = undefined;
    for (const { offset, bytes } of this.mapped) this.windows.unmap(offset, bytes);
    this.mapped = [];
    this.from = [];
    this.to = [];
  }

  [Symbol.dispose](): void {
    this.connection?.refuse("the server ends");
    this.end();
    libc.close(this.fd);
    Bun.gc(true); // the memories of servers before: half a gigabyte of address space each
  }
}
