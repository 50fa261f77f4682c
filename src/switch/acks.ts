// What became of a client's frames, for those that asked to hear it (RequestAcks): a datagram of pairs to a socket of the
// client's own, once a turn at most.
//
//   u32 number of the frame | u32 verdict        little-endian, 8 bytes a pair, up to PAIRS of them
//
// Frames are numbered from 0 on, in the order in which they were taken from the channel since the client asked. A frame
// that waits (for a claim, a neighbour, its first fragment) is told of when it is decided about, so numbers may come out of
// order. Who does not read loses pairs, and no frames.
//
// A frame's number is kept under its place in the link's memory, where nobody else's frame can be meanwhile.
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { Drop } from "./drops.ts";
import type { TableReader } from "./table/find.ts";
import { ACKNOWLEDGED, CLIENT_ACK_FD, CLIENT_FLAGS, CLIENT_GEN } from "./table/layout.ts";

/** Verdicts as they are told. */
export const ACK_SENT = 0;
export const ACK_REFUSED_CLIENT = 1; // by its own filter
export const ACK_REFUSED_USER = 2; // by a rule for its user
export const ACK_REFUSED_SYSTEM = 3; // by a rule for everybody
export const ACK_DROPPED = 4; // for another reason: its counters say which

const PAIRS = 64;
/** No two frames begin within so many bytes (a power of two). */
const PLACE_SHIFT = 11;
const MSG_DONTWAIT_NOSIGNAL = 0x4040;

const verdictOf = (reason: number): number => {
  switch (reason) {
    case Drop.tx_filtered_client:
      return ACK_REFUSED_CLIENT;
    case Drop.tx_filtered_user:
      return ACK_REFUSED_USER;
    case Drop.tx_filtered_system:
      return ACK_REFUSED_SYSTEM;
    default:
      return reason > 0 ? ACK_DROPPED : ACK_SENT;
  }
};

export class Acks {
  private readonly table: TableReader;
  /** By place of the frame: its number. */
  private readonly numbers: Uint32Array;
  /** By client: the number of its next frame, and the socket and the client that this counts for: another one begins anew. */
  private readonly next: Uint32Array;
  private readonly fds: Int32Array;
  private readonly generations: Int32Array;
  private readonly pairs = new Uint32Array(new ArrayBuffer(PAIRS * 8));
  private readonly address = ptr(this.pairs);
  private pending = 0;
  private slot = -1;

  /** @param bytes of the frames' memory */
  constructor(table: TableReader, bytes: number) {
    const { clients } = table.layout.capacity;
    this.table = table;
    this.numbers = new Uint32Array(Math.ceil(bytes / 2 ** PLACE_SHIFT));
    this.next = new Uint32Array(clients);
    this.fds = new Int32Array(clients).fill(-1);
    this.generations = new Int32Array(clients);
  }

  /** Whether the client wants to hear. */
  has(slot: number): boolean {
    const { table } = this;
    return (table.words[table.client(slot) + CLIENT_FLAGS]! & ACKNOWLEDGED) !== 0;
  }

  /** A frame of a client that wants to hear has been taken from its channel. */
  begin(slot: number, off: number): void {
    const { words } = this.table;
    const row = this.table.client(slot);
    const fd = words[row + CLIENT_ACK_FD]!;
    const generation = words[row + CLIENT_GEN]!;
    if (this.fds[slot] !== fd || this.generations[slot] !== generation) {
      this.fds[slot] = fd;
      this.generations[slot] = generation;
      this.next[slot] = 0;
    }
    this.numbers[off >>> PLACE_SHIFT] = this.next[slot]!;
    this.next[slot] = this.next[slot]! + 1;
  }

  /** It is decided about: dropped for a reason over 0, or on its way. */
  end(slot: number, off: number, result: number): void {
    if (this.slot !== slot || this.pending === PAIRS) this.flush();
    this.slot = slot;
    this.pairs[this.pending * 2] = this.numbers[off >>> PLACE_SHIFT]!;
    this.pairs[this.pending * 2 + 1] = verdictOf(result);
    this.pending++;
  }

  /** Tells what there is. */
  flush(): void {
    if (this.pending === 0) return;
    const { slot, table } = this;
    const fd = table.words[table.client(slot) + CLIENT_ACK_FD]!;
    if (this.has(slot)) libc.sendto(fd, this.address, this.pending * 8, MSG_DONTWAIT_NOSIGNAL, null, 0);
    this.pending = 0;
  }
}
