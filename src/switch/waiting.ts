// Clients' frames that wait: for the answer to a claim (held.ts says in which place), or for a neighbour that was asked for.
// They stay where they are in the link's memory, and are ours until they are taken out here.
//
// Those for a neighbour wait in the order in which they came, and are sent in it. A destination has as many as the kernel
// keeps for a neighbour (net.ipv4.neigh.*.unres_qlen_bytes), a client somewhat more, all clients an eighth of the link's
// frames at most. Nobody tells that a neighbour is known by now: one frame of each destination tries it, once a
// millisecond at first and then rarely, and the others do what it does.
import { HELD as PLACES } from "./held.ts";

const MOST = 1024;
export const EACH = 128;
export const DESTINATION = 96;
const LIFE_MS = 3000; // a kernel gives up a neighbour after three probes, a second apart
const SOON_MS = 16; // as long as a frame is tried once a millisecond; then once in so many
const DESTINATIONS = 256; // are told apart by the low bits of their keys

/** How often a frame was looked at: it asks for a claim once, and waits for a neighbour in one place. */
export const FIRST_TIME = 0;
/** Its claim was answered, or its first fragment has come. */
export const AGAIN = 1;
/** It waits for a neighbour. */
export const WAITS = 2;

export class Waiting {
  /** Frames in held.ts's places; offset -1: none. */
  readonly off: Int32Array = new Int32Array(PLACES).fill(-1);
  readonly len: Int32Array = new Int32Array(PLACES);
  readonly generation: Int32Array = new Int32Array(PLACES);
  // Frames that wait for a neighbour, the first `asked` of these.
  asked = 0;
  readonly askedOff: Int32Array = new Int32Array(MOST);
  readonly askedLen: Int32Array = new Int32Array(MOST);
  readonly askedSlot: Int32Array = new Int32Array(MOST);
  readonly askedGeneration: Int32Array = new Int32Array(MOST);
  private readonly keys = new Int32Array(MOST);
  private readonly since = new Int32Array(MOST);
  private readonly most: number;
  private now = 0;
  /** How many there are of each client, and of each destination. */
  private readonly its: Uint8Array;
  private readonly same = new Uint16Array(DESTINATIONS);
  // A look at all of them: when it was, how many stay; of destinations, whose turn came and whether it was in vain.
  private looked = -1;
  private kept = 0;
  private readonly seen = new Int32Array(DESTINATIONS);
  private readonly isVain = new Uint8Array(DESTINATIONS);

  /** @param frames of the link; @param clients that there may be */
  constructor(frames: number, clients: number) {
    this.most = Math.min(MOST, frames >>> 3);
    this.its = new Uint8Array(clients);
  }

  tick(milliseconds: number): void {
    this.now = milliseconds;
  }

  /** Puts a frame in a place that held.ts gave. */
  keep(place: number, generation: number, off: number, len: number): void {
    this.off[place] = off;
    this.len[place] = len;
    this.generation[place] = generation;
  }

  /**
   * Keeps a frame for a neighbour. False if there is no room, or the client or the destination has enough there.
   * @param key a hash of the destination
   */
  ask(slot: number, generation: number, off: number, len: number, key: number): boolean {
    const { asked, its, same } = this;
    const place = (key ^ slot) & (DESTINATIONS - 1);
    if (asked === this.most || its[slot]! >= EACH || same[place]! >= DESTINATION) return false;
    this.askedOff[asked] = off;
    this.askedLen[asked] = len;
    this.askedSlot[asked] = slot;
    this.askedGeneration[asked] = generation;
    this.keys[asked] = key ^ slot;
    this.since[asked] = this.now;
    its[slot]!++;
    same[place]!++;
    this.asked++;
    return true;
  }

  /** Whether to look at all of them, each by `isDue`, then `stay` or `leave`; and `end` afterwards. */
  begin(): boolean {
    if (this.asked === 0 || this.looked === this.now) return false;
    this.looked = this.now;
    this.kept = 0;
    this.seen.fill(0);
    return true;
  }

  /** Whether frame `i` is to be tried now: the first of its destination says so for the others. */
  isDue(i: number): boolean {
    const { now, seen, isVain } = this;
    const key = this.keys[i]! | 1; // 0 is none
    const place = this.keys[i]! & (DESTINATIONS - 1);
    if (seen[place] === key) return isVain[place] === 0;
    const isDue = ((now - this.since[i]!) | 0) < SOON_MS || ((now ^ key) & (SOON_MS - 1)) === 0;
    seen[place] = key;
    isVain[place] = isDue ? 0 : 1;
    return isDue;
  }

  isLate(i: number): boolean {
    return ((this.now - this.since[i]!) | 0) > LIFE_MS;
  }

  /** Frame `i` waits on; so do others of its destination. */
  stay(i: number): void {
    const { askedOff, askedLen, askedSlot, askedGeneration, keys, since } = this;
    this.isVain[keys[i]! & (DESTINATIONS - 1)] = 1;
    const to = this.kept++;
    for (const column of [askedOff, askedLen, askedSlot, askedGeneration, keys, since])
      column[to] = column[i]!;
  }

  /** Frame `i` waits no more: it is the caller's. */
  leave(i: number): void {
    this.its[this.askedSlot[i]!]!--;
    this.same[this.keys[i]! & (DESTINATIONS - 1)]!--;
  }

  end(): void {
    this.asked = this.kept;
  }
}
