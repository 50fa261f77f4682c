// A net Worker's own region, netd-switch-N: it alone writes it; the control Worker and the main thread read.
//
//   word 0     requests made so far (claim.ts)
//   word 16    the last REQUESTS of them, 16 words each
//   then       touches: seconds by the table's clock, a word an entry: when this Worker last had a frame for it
//   then       counters: CLIENT_COUNTERS doubles a client
import type { SwitchCapacity } from "./boot.ts";

/** How many requests may be unanswered. */
export const REQUESTS = 128;
export const REQUEST_WORDS = 16;
const HEAD_WORDS = 16;
/** What there is room for; what each is, who counts says. */
export const CLIENT_COUNTERS = 16;

const align = (words: number): number => Math.ceil(words / 16) * 16;

const touchesAt = HEAD_WORDS + REQUESTS * REQUEST_WORDS;
const countersAt = ({ matches }: SwitchCapacity): number => touchesAt + align(matches + 1);

/** Bytes of the region. */
export const ownBytes = (capacity: SwitchCapacity): number =>
  (countersAt(capacity) + capacity.clients * CLIENT_COUNTERS * 2) * 4;

export class Own {
  /** Word 0: how many requests were made, free running. */
  readonly made: Int32Array;
  /** Request number s, from 1 on, is at word ((s - 1) % REQUESTS) * REQUEST_WORDS. */
  readonly requests: Int32Array;
  readonly touches: Int32Array;
  readonly counters: Float64Array;

  constructor(buffer: ArrayBuffer, capacity: SwitchCapacity) {
    this.made = new Int32Array(buffer, 0, 1);
    this.requests = new Int32Array(buffer, HEAD_WORDS * 4, REQUESTS * REQUEST_WORDS);
    this.touches = new Int32Array(buffer, touchesAt * 4, capacity.matches + 1);
    const { clients } = capacity;
    this.counters = new Float64Array(buffer, countersAt(capacity) * 4, clients * CLIENT_COUNTERS);
  }
}

/** Where request `sequence` is in `requests`. */
export const requestAt = (sequence: number): number => ((sequence - 1) & (REQUESTS - 1)) * REQUEST_WORDS;
