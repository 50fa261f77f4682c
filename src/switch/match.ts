// The match table: (protocol, destination address, destination port) -> endpoint, IPv4, in shared memory.
// One writer (the main thread); net loops read it per frame. Open addressing, linear probing; entries of four words:
//
//   address (memory word) | port (memory half) | protocol << 16 | endpoint, -1 none | 0
//
// Removing a match takes its endpoint away and leaves its key, so that no reader ever misses another entry; the slot is
// the next new match's on that path, or free once nothing follows it. The key word is written last, so a reader that
// finds it finds the rest; while a slot changes hands its key is CHANGING. Half of the slots at most have a key: a
// search always ends.

const ENTRY = 4;
const CHANGING = -1;

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

/** Where the search for a match begins. */
const slotOf = (address: number, key: number, mask: number): number => {
  const h = Math.imul(address ^ Math.imul(key, 0x9e3779b1), 0x85ebca6b);
  return ((h ^ (h >>> 15)) & mask) << 2;
};

export class MatchTable {
  private readonly table: Int32Array;
  private readonly mask: number;
  /** Slots that have a key; the writer's count. */
  private used = 0;

  static bytes(slots: number): number {
    return slots * ENTRY * 4;
  }

  /** @param slots a power of two; half of it can be used */
  constructor(buffer: ArrayBuffer, slots: number) {
    this.table = new Int32Array(buffer, 0, slots * ENTRY);
    this.mask = slots - 1;
    const { table, mask } = this;
    this.find = (address, key) => {
      for (let at = slotOf(address, key, mask); ; at = (at + ENTRY) & (mask * ENTRY)) {
        const have = table[at + 1]!;
        if (have === key && table[at] === address) return table[at + 2]!;
        if (have === 0) return -1;
      }
    };
  }

  /** Writer: adds a match or changes its endpoint. False if there is no room for it. */
  set(match: Match, endpoint: number): boolean {
    const { table, mask } = this;
    const { address } = match;
    const key = portHalf(match.port) | (match.protocol << 16);
    let slot = slotOf(address, key, mask);
    let dead = -1;
    for (; table[slot + 1] !== 0; slot = (slot + ENTRY) & (mask * ENTRY)) {
      if (table[slot + 1] === key && table[slot] === address) {
        table[slot + 2] = endpoint;
        return true;
      }
      if (dead < 0 && table[slot + 2] === -1) dead = slot;
    }
    if (dead >= 0) {
      slot = dead;
      Atomics.store(table, slot + 1, CHANGING);
    } else if (this.used > mask >> 1) return false;
    else this.used++;
    table[slot] = address;
    table[slot + 2] = endpoint;
    Atomics.store(table, slot + 1, key);
    return true;
  }

  /** Writer: frames for this match find no endpoint any more. */
  remove(match: Match): void {
    const { table, mask } = this;
    if (this.find(match.address, portHalf(match.port) | (match.protocol << 16)) < 0) return;
    this.set(match, -1);
    // Slots without endpoint at the end of a run are free again: no search goes on behind them.
    const step = (slot: number, by: number) => (slot + by * ENTRY) & (mask * ENTRY);
    let last = slotOf(match.address, portHalf(match.port) | (match.protocol << 16), mask);
    while (table[last + 1] !== 0) last = step(last, 1);
    for (;;) {
      last = step(last, -1);
      if (table[last + 1] === 0 || table[last + 2] !== -1) return;
      Atomics.store(table, last + 1, 0);
      this.used--;
    }
  }

  /** @param key port as it lies in the header | protocol << 16. Returns the endpoint, or -1. Hot. */
  readonly find: (address: number, key: number) => number;
}
