// The control words of one Worker: how the main thread stops it and sees that it lives. One region a Worker.
//
//   word 0   stop: set by main, which then writes the Worker's wake fd
//   word 1   heartbeat: turned by the Worker whenever it publishes its counters
//   byte 64  counters (doubles), written by the Worker
import { type Counters, Counters as CountersOf } from "./counters.ts";
import type { Region } from "./region.ts";

const STOP = 0;
const HEARTBEAT = 1;
const COUNTERS = 64;

export class Control<Name extends string> {
  private readonly words: Int32Array;
  readonly counters: Counters<Name>;

  static bytes(names: readonly string[]): number {
    return COUNTERS + CountersOf.bytes(names);
  }

  constructor(region: Region, names: readonly Name[]) {
    this.words = new Int32Array(region.buffer, 0, 16);
    this.counters = new CountersOf(names, region.buffer, COUNTERS);
  }

  /** Main: asks the Worker to leave its loop; wake it afterwards. */
  stop(): void {
    Atomics.store(this.words, STOP, 1);
  }

  get stopping(): boolean {
    return Atomics.load(this.words, STOP) !== 0;
  }

  /** Worker: still here. */
  beat(): void {
    Atomics.add(this.words, HEARTBEAT, 1);
  }

  get heartbeat(): number {
    return Atomics.load(this.words, HEARTBEAT);
  }
}
