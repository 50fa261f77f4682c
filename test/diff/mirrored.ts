// A mirror on this thread, for tests: the tables of one namespace, and a reader of them.
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { epochBytes } from "../../src/mem/epoch.ts";
import { Region } from "../../src/mem/region.ts";
import { type Capacity, defaultCapacity, layout } from "../../src/netbase/layout.ts";
import { NetbaseReader, NetbaseWriter } from "../../src/netbase/netbase.ts";
import { Mirror, type MirrorOptions } from "../../src/netlink/mirror.ts";
import type { Netns } from "../../src/netlink/netns.ts";

const POLLIN = 1;

export class Mirrored {
  readonly writer: NetbaseWriter;
  readonly reader: NetbaseReader;
  readonly mirror: Mirror;
  private readonly base: Region;
  private readonly epochs: Region;
  private readonly pollfd = new Int32Array(new ArrayBuffer(8));

  /** Synchronised when this returns. */
  constructor(netns: Netns, options: Partial<MirrorOptions> = {}, capacity: Partial<Capacity> = {}) {
    const all = { ...defaultCapacity, ...capacity };
    this.base = Region.create("netd-test-netbase", layout(all).bytes);
    this.epochs = Region.create("netd-test-epochs", epochBytes(1));
    this.writer = new NetbaseWriter(this.base, this.epochs, all);
    this.reader = new NetbaseReader(this.base, this.epochs, 0);
    this.mirror = new Mirror({ netns, writer: this.writer, receiveBytes: 32 << 20, ...options });
    this.mirror.sync();
  }

  /** Whether an event comes within `ms`. */
  wait(ms: number): boolean {
    this.pollfd[0] = this.mirror.fd;
    this.pollfd[1] = POLLIN;
    return libc.poll(ptr(this.pollfd), 1, ms) > 0;
  }

  /** Turns until nothing is left to do. @throws Error if that takes longer than `limitMs` */
  settle(limitMs = 20_000): void {
    const end = performance.now() + limitMs;
    for (;;) {
      const next = this.mirror.turn();
      this.reader.quiesce();
      if (this.mirror.settled && !this.wait(0)) return;
      if (performance.now() > end)
        throw new Error(`the mirror did not settle: ${JSON.stringify(this.mirror.counts)}`);
      if (next !== 0) this.wait(Math.min(next, 10));
    }
  }

  close(): void {
    this.mirror.close();
    this.base.close();
    this.epochs.close();
  }
}
