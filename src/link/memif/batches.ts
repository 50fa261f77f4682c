// Batches of frames from a ring, and to one: the usual frames, which are one part in the ring's first region, all at once
// (copies.ts); what is anything else, and what follows it, by the ring's own `rest` (ring.ts).
import { scratch } from "../../mem/frames.ts";
import { Batch, VECTOR } from "../link.ts";
import { type Copies, LENS, makeGive, makeTake } from "./copies.ts";
import { DESCRIPTORS, type FromClient, type Side, type ToClient } from "./ring.ts";

export type Receive = (ring: FromClient, batch: Batch, max: number, room: number, skip: number) => void;

/** Frames of one part in the ring's first region, all at once: how many that is of `n` from the ring's cursor on. */
function many(copies: Copies, ring: Side, { off }: Batch, n: number, room: number): number {
  const { base, size, cursor, region, mapped } = ring;
  const at = cursor & (size - 1);
  const start = mapped.offs[region]!;
  const bytes = mapped.bytes[region]!;
  const first = (base + DESCRIPTORS) << 2;
  const batch = off.byteOffset;
  const run = Math.min(n, size - at);
  const done = copies(first + (at << 4), run, batch, room, region, start, bytes);
  return done < run || run === n
    ? done
    : done + copies(first, n - run, batch + run * 4, room, region, start, bytes);
}

/**
 * Receives up to `max` frames into a batch (frameBatch): to `skip` bytes behind where `batch.off[0..max)` says, at most `room` bytes
 * each; sets `batch.len` and `batch.n`. What is not the usual frame, and what follows it, is FromClient.rest's.
 */
export function makeReceive(memory: WebAssembly.Memory): Receive {
  const take = makeTake(memory);
  return (ring, batch, max, room, skip) => {
    const { off } = batch;
    batch.n = 0;
    if (ring.broken !== "") return;
    const ready = ring.ready();
    const most = ready < max ? ready : max;
    if (most === 0) return;
    if (skip !== 0) for (let i = 0; i < most; i++) off[i]! += skip;
    const n = many(take, ring, batch, most, room);
    if (skip !== 0) for (let i = 0; i < most; i++) off[i]! -= skip;
    batch.n = n;
    if (n > 0) ring.publish(ring.cursor + n);
    if (n < most) ring.rest(batch, max, room, skip, ready - n);
  };
}

export type Transmit = (ring: ToClient, batch: Batch) => number;

/** Copies a batch (frameBatch) to the client; returns how many frames, from the front: there is no room for more. */
export function makeTransmit(memory: WebAssembly.Memory): Transmit {
  const give = makeGive(memory);
  return (ring, batch) => {
    if (ring.broken !== "") return 0;
    const ready = ring.ready();
    const most = ready < batch.n ? ready : batch.n;
    if (most === 0) return 0;
    const n = many(give, ring, batch, most, 0);
    if (n > 0) ring.publish(ring.cursor + n);
    return n < batch.n ? ring.rest(batch, n, ready - n) : n;
  };
}

/** A batch of VECTOR frames in the scratch of a link's memory (mem/frames.ts), its lengths behind its offsets. @param more words behind those */
export function frameBatch(memory: WebAssembly.Memory, more = 0): Batch {
  const at = scratch(memory, (2 * VECTOR + more) * 4);
  const { buffer } = memory;
  return new Batch(VECTOR, new Int32Array(buffer, at, VECTOR), new Int32Array(buffer, at + LENS, VECTOR));
}
