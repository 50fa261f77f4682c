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
import type { Switch } from "./switch.ts";
import type { Transmit } from "./transmit.ts";

/** Names of a net Worker's counters: traffic, then one a drop reason. */
export const LOOP_COUNTERS = [
  ...["rxPackets", "rxBytes", "txPackets", "txBytes"],
  ...dropNames.slice(1),
  ...["toClients", "fromClients", "toKernel", "fromKernel"], // the switch's
];
const TX_PACKETS = 2;
const TO_CLIENTS = REASONS + dropNames.length;
const FROM_CLIENTS = TO_CLIENTS + 1;
const TO_KERNEL = TO_CLIENTS + 2;
const FROM_KERNEL = TO_CLIENTS + 3;

export interface LoopOptions {
  /** Take UDP checksums that the sender's kernel left undone: the card is a veth. */
  readonly partialChecksums: boolean;
  /** Frames a turn at most; BATCH if missing. */
  readonly batch?: number;
  /** Captures what passes, while somebody wants it. */
  readonly recorder?: Recorder;
  /** Takes the frames that no service takes, and clients'. */
  readonly switch?: Switch | undefined;
}

export class NetLoop {
  /** One turn; returns how many frames were received. A closure, as everything per frame (batches of 1: 6 ns). */
  readonly turn: () => number;
  /** What was counted since the last publish(), in the order of LOOP_COUNTERS. */
  private readonly tally = new Int32Array(LOOP_COUNTERS.length);
  private readonly switch: Switch | undefined;

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
    const others = options.switch;
    this.switch = others;
    const pass = makePass(batch, link, matches, netbase, transmit, options.partialChecksums, tally, others);

    this.turn = () => {
      if (recorder !== undefined && recorder.on !== 0) return watched(recorder);
      link.receive(batch, limit);
      const received = batch.n;
      if (received === 0) return 0;
      if (others !== undefined) others.ahead(batch);
      pass();
      const { n } = batch;
      if (n > 0) {
        const sent = link.transmit(batch);
        tally[TX_PACKETS] = tally[TX_PACKETS]! + sent;
        if (sent < n) refused(sent);
      }
      if (others !== undefined) others.flush();
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
        if (reason < dropNames.length) recorder.end(reason);
        else recorder.end(others!.inbound.verdict, others!.inbound.to); // nothing that the pass counts: the switch has it
      } else {
        recorder.end(Verdict.answered);
        recorder.begin(words, batch.off[0]!, batch.len[0]!, Origin.self);
        const sent = link.transmit(batch);
        tally[TX_PACKETS] = tally[TX_PACKETS]! + sent;
        recorder.end(sent === 1 ? Verdict.sent : Drop.tx_full);
        if (sent === 0) refused(0);
      }
      if (others !== undefined) others.flush();
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
    if (this.switch !== undefined) this.collect(this.switch);
    for (let i = 0; i < tally.length; i++) values[i]! += tally[i]!;
    tally.fill(0);
  }

  /** Takes over what the switch counted. */
  private collect(others: Switch): void {
    const { tally } = this;
    const { deliver, host, wire, channels } = others;
    for (let reason = 1; reason < dropNames.length; reason++)
      tally[REASONS + reason]! += others.tally[reason]!;
    others.tally.fill(0);
    tally[TX_PACKETS]! += wire.packets;
    tally[TX_BYTES]! += wire.bytes;
    tally[REASONS + Drop.tx_full]! += wire.full;
    tally[REASONS + Drop.channel_full]! += deliver.full;
    tally[REASONS + Drop.client_gone]! += deliver.gone;
    tally[TO_CLIENTS]! += deliver.delivered;
    tally[FROM_CLIENTS]! += channels.fromClients;
    tally[TO_KERNEL]! += host.toKernel;
    tally[FROM_KERNEL]! += channels.fromKernel;
    wire.packets = wire.bytes = wire.full = 0;
    deliver.delivered = deliver.full = deliver.gone = 0;
    channels.fromClients = channels.fromKernel = host.toKernel = 0;
  }
}
