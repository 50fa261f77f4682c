// The collector of threads that never go back to their event loop. Mapped tables count as heap, 800 MB of it, and the
// collector waits until there is about as much rubbish: months of some bytes a turn, all of it resident.

export class Rubbish {
  private readonly everyMs: number;
  private collected = performance.now();

  constructor(everyMs = 600_000) {
    this.everyMs = everyMs;
  }

  /** Before a sleep: has rubbish collected if that was long ago. Takes some ms. */
  collect(): void {
    if (performance.now() - this.collected < this.everyMs) return;
    Bun.gc(true);
    this.collected = performance.now();
  }
}
