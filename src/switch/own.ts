// A net Worker's own region, netd-switch-N: it alone writes it; the control Worker and the main thread read.
//
//   word 0     requests made so far (control/claim.ts)
//   word 16    the last REQUESTS of them, 16 words each
//   then       touches: seconds by the table's clock, a word an entry: when this Worker last had a frame for it
//   then       accounts: what each client sent, got and lost (account.ts)
import { Accounts } from "./account.ts";
import type { SwitchCapacity } from "./boot.ts";
import { numberCount } from "./table/layout.ts";

/** How many requests may be unanswered. */
export const REQUESTS = 1024;
export const REQUEST_WORDS = 16;
const HEAD_WORDS = 16;

const touchesAt = HEAD_WORDS + REQUESTS * REQUEST_WORDS;
const accountsAt = (capacity: SwitchCapacity): number => touchesAt + numberCount(capacity);

/** Bytes of the region. */
export const ownBytes = (capacity: SwitchCapacity): number =>
  accountsAt(capacity) * 4 + Accounts.bytes(capacity.clients);

export class Own {
  /** Word 0: how many requests were made, free running. */
  readonly made: Int32Array;
  /** Request number s, from 1 on, is at word ((s - 1) % REQUESTS) * REQUEST_WORDS. */
  readonly requests: Int32Array;
  readonly touches: Int32Array;
  readonly accounts: Accounts;

  constructor(buffer: ArrayBuffer, capacity: SwitchCapacity) {
    this.made = new Int32Array(buffer, 0, 1);
    this.requests = new Int32Array(buffer, HEAD_WORDS * 4, REQUESTS * REQUEST_WORDS);
    this.touches = new Int32Array(buffer, touchesAt * 4, numberCount(capacity));
    this.accounts = new Accounts(buffer, accountsAt(capacity) * 4, capacity.clients);
  }
}

/** Where request `sequence` is in `requests`. */
export const requestAt = (sequence: number): number => ((sequence - 1) & (REQUESTS - 1)) * REQUEST_WORDS;
