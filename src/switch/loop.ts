// One turn of the net loop: receive a batch, pass over them (pass.ts), transmit, give back what
// was dropped. No allocation, no system call of its own (the link kicks where the ring asks for it),
// no exception. Counts in private integers; publish() adds them to the shared counters now and then.
import { Batch, BATCH, type Link } from "../link/link.ts";
import type { Counters } from "../mem/counters.ts";
import type { NetbaseReader } from "../netbase/netbase.ts";
import { Drop, dropNames } from "./drops.ts";
import type { MatchTable } from "./match.ts";
import { makePass } from "./pass.ts";
import type { Transmit } from "./transmit.ts";

/** Names of a net Worker's counters: traffic, then one a drop reason. */
export const LOOP_COUNTERS = ["rxPackets", "rxBytes", "txPackets", "txBytes", ...dropNames.slice(1)];

export interface LoopOptions {
  /** Take UDP checksums that the sender's kernel left undone: the card is a veth. */
  readonly partialChecksums: boolean;
  /** Frames a turn at most; BATCH if missing. */
  readonly batch?: number;
}

export class NetLoop {
  private readonly link: Link;
  private readonly pass: () => void;
  private readonly batch: Batch;
  private readonly limit: number;
  /** Frames by what became of them: index Drop.*, 0 sent. */
  private readonly counts = new Int32Array(dropNames.length);
  private rxPackets = 0;
  private rxBytes = 0;
  private txBytes = 0;

  constructor(
    link: Link,
    matches: MatchTable,
    netbase: NetbaseReader,
    transmit: Transmit,
    options: LoopOptions,
  ) {
    this.link = link;
    this.limit = options.batch ?? BATCH;
    this.batch = new Batch(this.limit);
    this.pass = makePass(this.batch, link, matches, netbase, transmit, options.partialChecksums, this.counts);
  }

  /** Returns how many frames were received. */
  turn(): number {
    const { link, batch, counts } = this;
    link.receive(batch, this.limit);
    const received = batch.n;
    if (received === 0) return 0;
    this.rxPackets += received;
    this.pass();
    const { n, off, len, dropped } = batch;
    const sent = n > 0 ? link.transmit(batch) : 0;
    this.rxBytes += batch.rxBytes;
    this.txBytes += batch.txBytes;
    counts[Drop.sent] = counts[Drop.sent]! + sent;
    if (sent < n) {
      counts[Drop.tx_full] = counts[Drop.tx_full]! + n - sent;
      for (let i = sent; i < n; i++) {
        this.txBytes -= len[i]!;
        dropped[batch.drops++] = off[i]!;
      }
    }
    if (batch.drops > 0) link.release(batch);
    return received;
  }

  /** Adds what was counted since the last time to the shared counters. */
  publish(counters: Counters<string>): void {
    const { values } = counters;
    const { counts } = this;
    values[0]! += this.rxPackets;
    values[1]! += this.rxBytes;
    values[2]! += counts[Drop.sent]!;
    values[3]! += this.txBytes;
    for (let i = 1; i < counts.length; i++) values[i + 3]! += counts[i]!;
    counts.fill(0);
    this.rxPackets = this.rxBytes = this.txBytes = 0;
  }
}
