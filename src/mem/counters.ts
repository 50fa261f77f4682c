// Counters: named totals of one thread, in shared memory, read by any other.
// Each is a double at 8 bytes times its index: exact to 2^53, stored in one aligned write, so never torn on 64-bit
// machines. The owner counts in private integers where it is hot and publishes here once in a while.

export class Counters<Name extends string> {
  readonly names: readonly Name[];
  /** One slot a name, in the order of `names`. Written by the owner alone. */
  readonly values: Float64Array;

  static bytes(names: readonly string[]): number {
    return names.length * 8;
  }

  constructor(names: readonly Name[], buffer: ArrayBuffer, byteOffset: number) {
    this.names = names;
    this.values = new Float64Array(buffer, byteOffset, names.length);
  }

  /** Owner only. */
  add(name: Name, n = 1): void {
    const i = this.names.indexOf(name);
    this.values[i] = this.values[i]! + n;
  }

  get(name: Name): number {
    return this.values[this.names.indexOf(name)]!;
  }

  /** All totals by name, as they stand now. */
  snapshot(): Record<Name, number> {
    return Object.fromEntries(this.names.map((name, i) => [name, this.values[i]!])) as Record<Name, number>;
  }
}
