// A net Worker's own region beside the filters', netd-filters-N: what it counts, and the flows that it saw.
import { Counts } from "./counts.ts";
import { flowBytes } from "./flows.ts";

const flowsAt = (filters: number): number => Math.ceil(Counts.bytes(filters) / 64) * 64;

/** Bytes of the region. */
export const filterOwnBytes = (filters: number): number => flowsAt(filters) + flowBytes;

export class FilterOwn {
  readonly counts: Counts;
  readonly flows: Int32Array;

  constructor(buffer: ArrayBuffer, filters: number) {
    this.counts = new Counts(buffer, filters);
    this.flows = new Int32Array(buffer, flowsAt(filters), flowBytes / 4);
  }
}
