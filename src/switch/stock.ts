// Frames of a link for what does not come in by it: clients' frames are received into them, and sent from them. A frame
// is in exactly one place: the link's, a receive slot of a channel, a list of those that wait, or here for a moment.
import { Batch, BATCH, type Link } from "../link/link.ts";
import type { Deliver } from "./deliver.ts";

/** Where a frame's Ethernet header begins in its memory: IP lies in whole words then. */
export const FRAME_START = 2;

export class Stock {
  /** Bytes that a frame may have. */
  readonly longest: number;
  /** Frames that somebody may keep at hand. */
  readonly share: number;
  private readonly link: Link;
  private readonly deliver: Deliver;
  private readonly back = new Batch(BATCH);

  /** @param deliver may refer to frames that are given back: it is flushed before they are the link's */
  constructor(link: Link, deliver: Deliver) {
    this.link = link;
    this.deliver = deliver;
    this.longest = link.frameBytes - FRAME_START;
    this.share = link.frames >> 2;
  }

  /** Where a new frame begins, or -1. */
  take(): number {
    const base = this.link.take();
    return base < 0 ? -1 : base + FRAME_START;
  }

  /** Puts new frames into `off[from..)`; returns how many are there then: fewer than fit if there are no more. */
  fill(off: Int32Array, from: number): number {
    return this.link.takeMany(off, from, FRAME_START);
  }

  /** A frame is not used any more. */
  give(off: number): void {
    const { back } = this;
    if (back.drops === back.dropped.length) this.settle();
    back.dropped[back.drops++] = off;
  }

  /** What was given back is the link's again. */
  settle(): void {
    if (this.back.drops === 0) return;
    this.deliver.flush();
    this.link.release(this.back);
    this.back.drops = 0;
  }
}
