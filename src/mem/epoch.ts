// Epochs: when may the one writer of a shared table reuse what readers may still be looking at?
//
//   header word (read-only for readers)      epochs region (read-write for all): one cache line a reader
//   [ global epoch ]                         [ slot 0: epoch seen | pad ][ slot 1 ... ]
//
// Quiescent-state-based reclamation. A reader calls `quiesce()` where it holds nothing out of the tables (once
// a batch): it copies the global epoch into its slot. The writer takes an object out of the tables, and puts it
// on a list (`retire`) under the epoch that begins after that; once every slot that is online has reached that epoch,
// nobody can hold the object and it may be used again. A slot of 0 is offline and holds up nobody.
//
// Rules
//  1. What `lookup` and the like return is good until the same reader's next `quiesce()` or `offline()`.
//  2. A reader that sleeps goes `offline()` first and `quiesce()`s (comes back) before it looks anything up.
//  3. A reader that stops without `offline()` keeps the writer from reusing memory: whoever ends a thread by force
//     clears its slot with `release()`.
//  4. Unlink first, then `retire`, then `advance`: a reader that has seen the new epoch cannot find the old object any more
//     (x86 keeps loads in order and stores in order; elsewhere `quiesce` needs an acquire on the epoch).
//  5. A reader that comes online stores its slot with Atomics (a full fence): the store must be visible before its next
//     loads, or a writer could take it for offline. One that stays online stores plainly (5 ns less a turn): as long as
//     that is on its way the writer sees an older epoch, and only waits longer. What the reader still loaded before is
//     loaded: a store does not pass earlier loads on x86 (elsewhere it would need a release).
// Epochs are u32, skip 0, and are compared by their difference, so that they may wrap.

const STRIDE = 16; // words: a cache line a slot
const BACKLOG = 512; // things on the list that are not worth an epoch of their own

/** Bytes of an epochs region for `slots` readers. */
export const epochBytes = (slots: number): number => slots * STRIDE * 4;

/** One reader's side. `shared` is the epochs region, `global[globalIdx]` the writer's epoch (plain loads only). */
export class EpochReader {
  private readonly shared: Int32Array;
  private readonly slotIdx: number;
  private readonly global: Int32Array;
  private readonly globalIdx: number;

  constructor(shared: Int32Array, slot: number, global: Int32Array, globalIdx: number) {
    if (slot < 0 || slot * STRIDE >= shared.length) throw new RangeError(`epoch slot ${slot} does not exist`);
    this.shared = shared;
    this.slotIdx = slot * STRIDE;
    this.global = global;
    this.globalIdx = globalIdx;
  }

  /** Says that this reader holds nothing; also brings it online. */
  quiesce(): void {
    const { shared, slotIdx } = this;
    const epoch = this.global[this.globalIdx]!;
    if (shared[slotIdx] !== 0) shared[slotIdx] = epoch;
    else Atomics.store(shared, slotIdx, epoch);
  }

  /** Says that this reader holds nothing and will not look until it quiesces again. */
  offline(): void {
    Atomics.store(this.shared, this.slotIdx, 0);
  }
}

/** The writer's side: all slots, and the list of what waits to be reused. */
export class Epochs {
  private readonly shared: Int32Array;
  private readonly global: Int32Array;
  private readonly globalIdx: number;
  // The list: kind, what, and the epoch at which it is free; from `head` on, oldest first.
  private head = 0;
  private readonly kinds: number[] = [];
  private readonly things: number[] = [];
  private readonly freeAt: number[] = [];
  private readonly free: (kind: number, thing: number) => void;
  private tolerated = BACKLOG;

  /** @param free takes back what nobody can hold any more; `kind` and `thing` as they were retired */
  constructor(
    shared: Int32Array,
    global: Int32Array,
    globalIdx: number,
    free: (kind: number, thing: number) => void,
  ) {
    this.shared = shared;
    this.global = global;
    this.globalIdx = globalIdx;
    this.free = free;
    if (global[globalIdx] === 0) Atomics.store(global, globalIdx, 1);
  }

  /** Things on the list. */
  get waiting(): number {
    return this.things.length - this.head;
  }

  /** Puts something that was just unlinked on the list. `kind` is the caller's own. */
  retire(kind: number, thing: number): void {
    this.kinds.push(kind);
    this.things.push(thing);
    this.freeAt.push(next(this.global[this.globalIdx]!));
  }

  /** In the middle of a long batch, between two changes: advances if the list has grown much since the last time. */
  relieve(): void {
    if (this.waiting > this.tolerated) this.advance();
  }

  /** Begins a new epoch, and frees what nobody can hold any more. Call once a batch. */
  advance(): void {
    if (this.waiting === 0) return;
    Atomics.store(this.global, this.globalIdx, next(this.global[this.globalIdx]!));
    const oldest = this.oldest();
    while (this.waiting > 0 && ((this.freeAt[this.head]! - oldest) | 0) <= 0) {
      this.free(this.kinds[this.head]!, this.things[this.head]!);
      this.head++;
    }
    this.tolerated = this.waiting + BACKLOG;
    if (this.waiting > 0 && this.head < 4096) return;
    for (const list of [this.kinds, this.things, this.freeAt]) list.splice(0, this.head);
    this.head = 0;
  }

  /** Clears the slot of a reader that is gone. */
  release(slot: number): void {
    Atomics.store(this.shared, slot * STRIDE, 0);
  }

  /** The oldest epoch that a reader may still be in; the current one if all are offline. */
  private oldest(): number {
    let oldest = this.global[this.globalIdx]!;
    for (let i = 0; i < this.shared.length; i += STRIDE) {
      const seen = Atomics.load(this.shared, i);
      if (seen !== 0 && ((seen - oldest) | 0) < 0) oldest = seen;
    }
    return oldest;
  }
}

const next = (epoch: number): number => (epoch + 1) | 0 || 1;
