// One turn of the net loop: receive a batch, pass over them (pass.ts), transmit, give back what
// was dropped. No allocation, no system call of its own (the link kicks where the ring asks for it),
// no exception. Counts in private integers; publish() adds them to the shared counters now and then.
import type { Recorder } from "../capture/recorder.ts";
import { Origin, Verdict } from "../capture/verdict.ts";
import { Batch, BATCH, type Link } from "../link/link.ts";
import type { Counters } from "../mem/counters.ts";
import type { NetbaseReader } from "../netbase/netbase.ts";
import { Drop, dropNames } from "./drops.ts";
import type { MatchTable } from "./match.ts";
import { makePass, REASONS, TX_BYTES } from "./pass.ts";
import type { Transmit } from "./transmit.ts";

/** Names of a net Worker's counters: traffic, then one a drop reason. */
export const LOOP_COUNTERS = ["rxPackets", "rxBytes", "txPackets", "txBytes", ...dropNames.slice(1)];
const TX_PACKETS = 2;

export interface LoopOptions {
  /** Take UDP checksums that the sender's kernel left undone: the card is a veth. */
  readonly partialChecksums: boolean;
  /** Frames a turn at most; BATCH if missing. */
  readonly batch?: number;
  /** Captures what passes, while somebody wants it. */
  readonly recorder?: Recorder;
}

export class NetLoop {
  /** One turn; returns how many frames were received. A closure, as everything per frame (batches of 1: 6 ns). */
  readonly turn: () => number;
  /** What was counted since the last publish(), in the order of LOOP_COUNTERS. */
  private readonly tally = new Int32Array(LOOP_COUNTERS.length);

  constructor(
    link: Link,
    matches: MatchTable,
    netbase: NetbaseReader,
    transmit: Transmit,
    options: LoopOptions,
  ) {
    const { tally } = this;
    const { recorder } = options;
    const limit = options.batch ?? BATCH;
    const batch = new Batch(limit);
    const pass = makePass(batch, link, matches, netbase, transmit, options.partialChecksums, tally);

    this.turn = () => {
      if (recorder !== undefined && recorder.on !== 0) return watched(recorder);
      link.receive(batch, limit);
      const received = batch.n;
      if (received === 0) return 0;
      pass();
      const { n } = batch;
      if (n > 0) {
        const sent = link.transmit(batch);
        tally[TX_PACKETS] = tally[TX_PACKETS]! + sent;
        if (sent < n) refused(sent);
      }
      if (batch.drops > 0) link.release(batch);
      return received;
    };

    /** A turn of one frame, while somebody captures: what the pass counts says what became of it. */
    const before = new Int32Array(tally.length);
    const watched = (recorder: Recorder): number => {
      const { words } = link;
      link.receive(batch, 1);
      if (batch.n === 0) return 0;
      recorder.begin(words, batch.off[0]!, batch.len[0]!, Origin.card);
      before.set(tally);
      pass();
      if (batch.n === 0) {
        let reason = 1;
        while (reason < dropNames.length && tally[REASONS + reason] === before[REASONS + reason]) reason++;
        recorder.end(reason);
      } else {
        recorder.end(Verdict.answered);
        recorder.begin(words, batch.off[0]!, batch.len[0]!, Origin.self);
        const sent = link.transmit(batch);
        tally[TX_PACKETS] = tally[TX_PACKETS]! + sent;
        recorder.end(sent === 1 ? Verdict.sent : Drop.tx_full);
        if (sent === 0) refused(0);
      }
      if (batch.drops > 0) link.release(batch);
      return 1;
    };

    /** The ring took no more than `sent` frames: the rest are dropped. */
    const refused = (sent: number): void => {
      tally[REASONS + Drop.tx_full]! += batch.n - sent;
      for (let i = sent; i < batch.n; i++) {
        tally[TX_BYTES]! -= batch.len[i]!;
        batch.dropped[batch.drops++] = batch.off[i]!;
      }
    };
  }

  /** Adds what was counted since the last time to the shared counters. */
  publish(counters: Counters<string>): void {
    const { values } = counters;
    const { tally } = this;
    for (let i = 0; i < tally.length; i++) values[i]! += tally[i]!;
    tally.fill(0);
  }
}
