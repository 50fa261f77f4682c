// The match table: (protocol, destination address, destination port) -> endpoint, IPv4, in shared memory.
// One writer (the main thread); net loops read it per frame. Open addressing, linear probing; entries of four words:
//
//   address (memory word) | port (memory half) | protocol << 16 | endpoint, -1 none | 0
//
// A key, once written, stays: removing it only takes its endpoint away, so no reader ever misses another entry.
// The key word is written last, so a reader that finds it finds the rest.

const ENTRY = 4;

export interface Match {
  /** IPPROTO_UDP... */
  readonly protocol: number;
  /** memory word, network byte order */
  readonly address: number;
  /** host byte order */
  readonly port: number;
}

/** A port as it lies in a header's memory: bytes swapped. */
const portHalf = (port: number): number => ((port & 0xff) << 8) | (port >>> 8);

export class MatchTable {
  private readonly table: Int32Array;
  private readonly mask: number;

  static bytes(slots: number): number {
    return slots * ENTRY * 4;
  }

  /** @param slots a power of two; half of it can be used */
  constructor(buffer: ArrayBuffer, slots: number) {
    this.table = new Int32Array(buffer, 0, slots * ENTRY);
    this.mask = slots - 1;
  }

  /** Writer: adds a match or changes its endpoint. @throws RangeError if the table is half full */
  set(match: Match, endpoint: number): void {
    const key = portHalf(match.port) | (match.protocol << 16);
    let slot = this.slot(match.address, key);
    let probes = 0;
    while (
      this.table[slot + 1] !== 0 &&
      !(this.table[slot + 1] === key && this.table[slot] === match.address)
    ) {
      slot = (slot + ENTRY) & (this.mask * ENTRY);
      if (++probes > this.mask >> 1)
        throw new RangeError(`match table full (${(this.mask + 1) / 2} matches)`);
    }
    this.table[slot] = match.address;
    this.table[slot + 2] = endpoint;
    Atomics.store(this.table, slot + 1, key);
  }

  /** Writer: frames for this match find no endpoint any more. */
  remove(match: Match): void {
    if (this.find(match.address, portHalf(match.port) | (match.protocol << 16)) >= 0) this.set(match, -1);
  }

  private slot(address: number, key: number): number {
    let h = Math.imul(address ^ Math.imul(key, 0x9e3779b1), 0x85ebca6b);
    h ^= h >>> 15;
    return (h & this.mask) * ENTRY;
  }

  /** @param key port as it lies in the header | protocol << 16. Returns the endpoint, or -1. Hot. */
  find(address: number, key: number): number {
    const { table, mask } = this;
    for (let slot = this.slot(address, key); ; slot = (slot + ENTRY) & (mask * ENTRY)) {
      const have = table[slot + 1]!;
      if (have === key && table[slot] === address) return table[slot + 2]!;
      if (have === 0) return -1;
    }
  }
}
