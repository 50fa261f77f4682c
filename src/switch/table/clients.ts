// The clients' rows of the table. A client's slot is its number; who finds one in a search reads its row without a lock:
// words change one by one, the MAC's two in one store, and one that is leaving has no matches before its row goes.
//
// A net Worker may use a slot that it found until its batch ends. So a slot has three states: taken, leaving (`leave`:
// generation even, no matches), and free again (`free`) once all net Workers have quiesced.
import {
  CLIENT_ACK_FD,
  CLIENT_FD,
  CLIENT_FLAGS,
  CLIENT_GEN,
  CLIENT_GID,
  CLIENT_HOME,
  CLIENT_MAC0,
  CLIENT_MTU,
  CLIENT_PID,
  CLIENT_RATE_PPS,
  CLIENT_SINCE,
  CLIENT_UID,
  CLIENT_WORDS,
  H_NOW,
  type Layout,
} from "./layout.ts";

export interface ClientRow {
  /** the daemon's end of its channel */
  readonly fd: number;
  /** 6 bytes */
  readonly mac: Uint8Array;
  readonly mtu: number;
  readonly flags: number;
  /** the net Worker that receives from it */
  readonly home: number;
  /** frames a second; 0: any number */
  readonly ratePps: number;
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

export class Clients {
  private readonly words: Int32Array;
  private readonly at: number;
  private readonly pairs: BigInt64Array; // the same memory, for 64-bit stores
  private readonly spare: number[];

  constructor(words: Int32Array, at: Layout) {
    this.words = words;
    this.at = at.clients;
    this.pairs = new BigInt64Array(words.buffer, words.byteOffset, words.length >> 1);
    this.spare = Array.from({ length: at.capacity.clients }, (_, i) => at.capacity.clients - 1 - i);
  }

  /** A slot, -1 if there is none. */
  add(row: ClientRow): number {
    const slot = this.spare.pop();
    if (slot === undefined) return -1;
    this.update(slot, row);
    this.words[this.at + slot * CLIENT_WORDS + CLIENT_SINCE] = this.words[H_NOW]!;
    this.turn(slot);
    return slot;
  }

  update(slot: number, row: ClientRow): void {
    const { words } = this;
    const at = this.at + slot * CLIENT_WORDS;
    const { mac } = row;
    words[at + CLIENT_FD] = row.fd;
    const mac0 = mac[0]! | (mac[1]! << 8) | (mac[2]! << 16) | (mac[3]! << 24);
    const pair = (BigInt(mac[4]! | (mac[5]! << 8)) << 32n) | BigInt(mac0 >>> 0);
    Atomics.store(this.pairs, (at + CLIENT_MAC0) >> 1, pair);
    words[at + CLIENT_MTU] = row.mtu;
    words[at + CLIENT_FLAGS] = row.flags;
    words[at + CLIENT_HOME] = row.home;
    words[at + CLIENT_RATE_PPS] = row.ratePps;
    words[at + CLIENT_PID] = row.pid;
    words[at + CLIENT_UID] = row.uid;
    words[at + CLIENT_GID] = row.gid;
  }

  /** Tells the net Workers where a client hears what became of its frames; before its flags say that it does. */
  setAckFd(slot: number, fd: number): void {
    Atomics.store(this.words, this.at + slot * CLIENT_WORDS + CLIENT_ACK_FD, fd);
  }

  setFlags(slot: number, flags: number): void {
    Atomics.store(this.words, this.at + slot * CLIENT_WORDS + CLIENT_FLAGS, flags);
  }

  setRate(slot: number, ratePps: number): void {
    Atomics.store(this.words, this.at + slot * CLIENT_WORDS + CLIENT_RATE_PPS, ratePps);
  }

  isLive(slot: number): boolean {
    return (this.generation(slot) & 1) === 1;
  }

  generation(slot: number): number {
    return this.words[this.at + slot * CLIENT_WORDS + CLIENT_GEN]!;
  }

  leave(slot: number): void {
    this.turn(slot);
  }

  free(slot: number): void {
    this.spare.push(slot);
  }

  private turn(slot: number): void {
    Atomics.add(this.words, this.at + slot * CLIENT_WORDS + CLIENT_GEN, 1);
  }
}
