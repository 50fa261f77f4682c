// What each client sent, got and lost: named totals, a row a client's slot, in each net Worker's own region. The Worker
// counts straight into it (its memory alone, one writer); control and main add up the Workers' rows.
// Rows are never cleared, and a slot is another client's later: whoever shows them subtracts what stood there when the
// client came (`read` then, and now).
import { dropNames } from "./drops.ts";

export const TO_PACKETS = 0; // delivered to the client
export const TO_BYTES = 1;
export const FROM_PACKETS = 2; // taken from the client, dropped ones too
export const FROM_BYTES = 3;
const DROPS = 3; // reasons are numbered from 1

/** The places of a row by name: traffic, then one a drop reason. */
export const CLIENT_COUNTERS: readonly string[] = [
  "toPackets",
  "toBytes",
  "fromPackets",
  "fromBytes",
  ...dropNames.slice(1),
];
const STRIDE = Math.ceil(CLIENT_COUNTERS.length / 8) * 8; // whole cache lines

export class Accounts {
  private readonly rows: Float64Array;

  static bytes(clients: number): number {
    return clients * STRIDE * 8;
  }

  constructor(buffer: ArrayBuffer, byteOffset: number, clients: number) {
    this.rows = new Float64Array(buffer, byteOffset, clients * STRIDE);
  }

  /** Hot. */
  add(slot: number, counter: number, n: number): void {
    const at = slot * STRIDE + counter;
    this.rows[at] = this.rows[at]! + n;
  }

  /** Hot. A frame of this client, or for it, was dropped. */
  drop(slot: number, reason: number): void {
    const at = slot * STRIDE + DROPS + reason;
    this.rows[at] = this.rows[at]! + 1;
  }

  /** A client's rows of all Workers together, as they stand now. */
  static sum(all: readonly Accounts[], slot: number): Float64Array {
    const sum = new Float64Array(CLIENT_COUNTERS.length);
    for (const accounts of all) for (const [i, n] of accounts.read(slot).entries()) sum[i] = sum[i]! + n;
    return sum;
  }

  /** A client's row as it stands now, in the order of CLIENT_COUNTERS. */
  read(slot: number): Float64Array {
    return this.rows.slice(slot * STRIDE, slot * STRIDE + CLIENT_COUNTERS.length);
  }
}
