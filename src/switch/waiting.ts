// Clients' frames that wait: for the answer to a claim (held.ts says in which place), or for a neighbour that was asked for.
// They stay where they are in the link's memory, and are ours until they are taken out here.
import { HELD as PLACES } from "./held.ts";

const QUESTIONS = 32;
const EACH = 4;
const LIFE_MS = 3000; // a kernel gives up a neighbour after three probes, a second apart

export class Waiting {
  /** Frames in held.ts's places; offset -1: none. */
  readonly off: Int32Array = new Int32Array(PLACES).fill(-1);
  readonly len: Int32Array = new Int32Array(PLACES);
  readonly generation: Int32Array = new Int32Array(PLACES);
  // Questions about neighbours: offset (-1: none here), and the rest.
  readonly askedOff: Int32Array = new Int32Array(QUESTIONS).fill(-1);
  readonly askedLen: Int32Array = new Int32Array(QUESTIONS);
  readonly askedSlot: Int32Array = new Int32Array(QUESTIONS);
  readonly askedGeneration: Int32Array = new Int32Array(QUESTIONS);
  readonly questions: number = QUESTIONS;
  /** How many wait for a neighbour. */
  asked = 0;
  private readonly since = new Int32Array(QUESTIONS);
  private now = 0;

  tick(milliseconds: number): void {
    this.now = milliseconds;
  }

  /** Puts a frame in a place that held.ts gave. */
  keep(place: number, generation: number, off: number, len: number): void {
    this.off[place] = off;
    this.len[place] = len;
    this.generation[place] = generation;
  }

  /** Keeps a question about a neighbour. False if there is no room, or the client has enough there. */
  ask(slot: number, generation: number, off: number, len: number): boolean {
    let free = -1;
    let its = 0;
    for (let i = 0; i < QUESTIONS; i++) {
      if (this.askedOff[i] === -1) free = i;
      else if (this.askedSlot[i] === slot && this.askedGeneration[i] === generation) its++;
    }
    if (free < 0 || its >= EACH) return false;
    this.askedOff[free] = off;
    this.askedLen[free] = len;
    this.askedSlot[free] = slot;
    this.askedGeneration[free] = generation;
    this.since[free] = this.now;
    this.asked++;
    return true;
  }

  isLate(i: number): boolean {
    return ((this.now - this.since[i]!) | 0) > LIFE_MS;
  }

  /** The question in place `i` waits no more; its frame is the caller's. */
  leave(i: number): void {
    this.askedOff[i] = -1;
    this.asked--;
  }
}
