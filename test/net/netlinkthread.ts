// The netlink Worker alone, as the daemon starts it, with one solicit ring, and a reader of its tables.
import { epochBytes } from "../../src/mem/epoch.ts";
import { Region } from "../../src/mem/region.ts";
import { Ring } from "../../src/mem/ring.ts";
import { type Capacity, defaultCapacity, layout } from "../../src/netbase/layout.ts";
import { NetbaseReader } from "../../src/netbase/netbase.ts";
import type { Netns } from "../../src/netlink/netns.ts";
import { MIRROR_COUNTERS, type NetlinkBoot } from "../../src/netlink/worker.ts";
import { Thread } from "../../src/thread.ts";
import { parseAddress } from "../../src/wire/address.ts";

const SLOTS = 1024;
const READERS = 4;

export class NetlinkThread {
  readonly thread = new Thread("netlink", "netlink", MIRROR_COUNTERS);
  readonly base: Region;
  readonly epochs: Region;
  private readonly rings: Region;
  private readonly ring: Ring;
  reader!: NetbaseReader;

  private constructor(capacity: Capacity) {
    this.base = Region.create("netd-test-netbase", layout(capacity).bytes);
    this.epochs = Region.create("netd-test-epochs", epochBytes(READERS));
    this.rings = Region.create("netd-test-solicit", Ring.bytes(SLOTS));
    this.ring = new Ring(this.rings.buffer, 0, SLOTS);
  }

  static async start(netns: Netns, boot: Partial<NetlinkBoot> = {}): Promise<NetlinkThread> {
    const capacity = boot.capacity ?? defaultCapacity;
    const made = new NetlinkThread(capacity);
    try {
      await made.boot(netns, capacity, boot);
    } catch (error) {
      await made.close();
      throw error;
    }
    return made;
  }

  private async boot(netns: Netns, capacity: Capacity, boot: Partial<NetlinkBoot>): Promise<void> {
    await this.thread.boot(
      {
        netnsFd: netns.fd,
        netbase: this.base.ref,
        epochs: this.epochs.ref,
        capacity,
        solicit: [this.rings.ref],
        solicitSlots: SLOTS,
        limits: { perHostSeconds: 1, perSecond: 1000, burst: 256 },
        receiveBytes: 32 << 20,
        ...boot,
      } satisfies Omit<NetlinkBoot, "control" | "wakeFd">,
      "synced",
    );
    this.reader = NetbaseReader.open(this.base.ref, this.epochs.ref, 0);
    this.reader.offline();
  }

  /** Asks for a neighbour (kind 0), or says that it is in use (1), as the net Worker does. False: the ring is full. */
  ask(ifindex: number, address: string, kind = 0): boolean {
    const { family, words } = parseAddress(address)!;
    return this.push(ifindex, family, words, kind);
  }

  push(ifindex: number, family: number, words: Int32Array, kind = 0, wake = true): boolean {
    const pushed = this.ring.push(ifindex, family, words[0]!, words[1]!, words[2]!, words[3]!, kind, 0);
    if (wake) this.thread.wake();
    return pushed;
  }

  /** NUD_*, 0 if there is no entry. */
  state(ifindex: number, address: string): number {
    const { family, words } = parseAddress(address)!;
    const { neigh4, neigh6 } = this.reader;
    return family === 2
      ? neigh4.find(words[0]!, ifindex)
      : neigh6.find(words[0]!, words[1]!, words[2]!, words[3]!, ifindex);
  }

  /** Counters as they were published last; at most a tenth of a second old while anything happens. */
  count(name: string): number {
    return this.thread.control.counters.get(name);
  }

  async close(): Promise<void> {
    await this.thread.close();
    this.reader?.close();
    this.base.close();
    this.epochs.close();
    this.rings.close();
  }
}
