// The main thread's side of captures: opens sessions, takes the net Workers' records out of their rings and gives each
// session its frames as pcapng. Nothing runs and nothing is copied while there is no session.
import type { Region } from "../mem/region.ts";
import { encode, type Program } from "../filter/program.ts";
import { BPF_K, BPF_RET } from "../filter/opcodes.ts";
import { PcapngWriter } from "./pcapng.ts";
import {
  CONSUMER,
  DATA,
  FILTER_BYTES,
  FRAME_BYTES,
  LOST,
  PRODUCER,
  RECORD_WORDS,
  RING_BYTES,
  SESSIONS,
  sessionAt,
  VERSION,
} from "./region.ts";
import { type ClientText, comment, Origin } from "./verdict.ts";

const DRAIN_MS = 5;
/** Bytes that may wait for a session's reader; then it loses frames. */
const BACKLOG = 32 << 20;

/** The program of a capture without a filter: everything. */
const EVERYTHING: Program = [{ code: BPF_RET | BPF_K, jt: 0, jf: 0, k: FRAME_BYTES }];

export interface CaptureOptions {
  readonly ifname: string;
  /** such as "netd 0.1.0" */
  readonly application: string;
  /** names of drop reasons by number */
  readonly reasons: readonly string[];
  readonly client: ClientText;
}

export interface Session {
  /** Ends it. */
  close(): void;
}

/** Takes pcapng as it comes. */
export interface Sink {
  /** @throws if nobody takes it any more: that ends the session */
  write(bytes: Uint8Array<ArrayBuffer>): void;
  /** bytes given to it that its reader has not taken */
  backlog(): number;
  /** There will be no more. */
  end(): void;
}

class Live {
  readonly writer = new PcapngWriter();
  readonly sink: Sink;
  /** Version of each ring's sessions with which this one began: older records are another's. */
  readonly since: number[] = [];
  lost = 0;
  told = 0;

  constructor(sink: Sink) {
    this.sink = sink;
  }
}

/** A net Worker's ring. */
class Ring {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  /** LOST as it was when it was looked at last */
  lost = 0;
  private producer = 0;
  private consumer: number;

  constructor(buffer: ArrayBuffer) {
    this.words = new Int32Array(buffer);
    this.bytes = new Uint8Array(buffer);
    this.consumer = Atomics.load(this.words, CONSUMER) >>> 0;
  }

  /** Looks how far the Worker is. */
  refresh(): void {
    this.producer = Atomics.load(this.words, PRODUCER) >>> 0;
  }

  /** First word of the oldest record, -1 if there is none. */
  oldest(): number {
    const { words } = this;
    while (this.consumer !== this.producer) {
      const at = DATA + ((this.consumer & (RING_BYTES - 1)) >> 2);
      if ((words[at + 1]! & 0xff) !== 0) return at;
      this.release(at);
    }
    return -1;
  }

  release(at: number): void {
    this.consumer = (this.consumer + this.words[at]!) >>> 0;
    Atomics.store(this.words, CONSUMER, this.consumer | 0);
  }
}

export class Captures {
  private readonly rings: Ring[];
  private readonly options: CaptureOptions;
  private readonly sessions: (Live | undefined)[] = new Array(SESSIONS).fill(undefined);
  private timer: Timer | undefined;

  /** @param regions one a net Worker, of captureBytes */
  constructor(regions: readonly Region[], options: CaptureOptions) {
    this.rings = regions.map(({ buffer }) => new Ring(buffer));
    this.options = options;
  }

  /**
   * Begins a session; net Workers take it over at their next round.
   * @param program verified (src/filter/verify.ts); what it returns is how many bytes of a frame are kept
   * @returns undefined if there are as many as there may be
   */
  open(sink: Sink, program: Program = EVERYTHING): Session | undefined {
    const slot = this.sessions.indexOf(undefined);
    if (slot < 0) return undefined;
    const live = new Live(sink);
    live.writer.begin(this.options.application, this.options.ifname, FRAME_BYTES);
    sink.write(live.writer.take());
    this.drain(); // what was lost so far was not this session's
    this.sessions[slot] = live;
    live.since.push(...this.publish(slot, encode(program)));
    this.timer ??= setInterval(() => this.drain(), DRAIN_MS);
    return {
      close: () => {
        if (this.sessions[slot] === live) this.drain();
        if (this.sessions[slot] === live) this.end(slot);
      },
    };
  }

  /** The session is over: net Workers copy nothing for it any more. */
  private end(slot: number): void {
    this.sessions[slot] = undefined;
    this.publish(slot, new Uint8Array(0));
    if (this.sessions.some((other) => other !== undefined)) return;
    clearInterval(this.timer);
    this.timer = undefined;
  }

  /** Ends all sessions. Before the regions go. */
  close(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    for (const [slot, live] of this.sessions.entries()) {
      this.sessions[slot] = undefined;
      live?.sink.end();
    }
  }

  /** Writes a session's filter for all Workers. Returns the versions that have it. */
  private publish(slot: number, program: Uint8Array): number[] {
    if (program.length > FILTER_BYTES) throw new RangeError(`a filter of ${program.length} bytes`);
    return this.rings.map(({ words, bytes }) => {
      const at = sessionAt(slot);
      Atomics.add(words, VERSION, 1);
      bytes.set(program, (at + 1) * 4);
      words[at] = program.length;
      return Atomics.add(words, VERSION, 1) + 1;
    });
  }

  /** Takes all records out of the rings, the oldest first, and gives the sessions what was made of them. */
  private drain(): void {
    for (const ring of this.rings) ring.refresh();
    for (;;) {
      let next = -1;
      let at = -1;
      for (let i = 0; i < this.rings.length; i++) {
        const { words } = this.rings[i]!;
        const other = this.rings[i]!.oldest();
        if (other < 0) continue;
        const before = next >= 0 ? this.rings[next]!.words : words;
        const seconds = words[other + 4]! - before[at + 4]!;
        if (next >= 0 && (seconds > 0 || (seconds === 0 && words[other + 5]! >= before[at + 5]!))) continue;
        next = i;
        at = other;
      }
      if (next < 0) break;
      this.record(next, at);
      this.rings[next]!.release(at);
    }
    for (const ring of this.rings) {
      const lost = Atomics.load(ring.words, LOST) >>> 0;
      for (const live of this.sessions) if (live) live.lost += (lost - ring.lost) >>> 0;
      ring.lost = lost;
    }
    for (const [slot, live] of this.sessions.entries()) {
      if (!live) continue;
      if (live.lost > live.told) {
        const now = Date.now();
        live.writer.lost(Math.floor(now / 1000), (now % 1000) * 1e6, live.lost);
        live.told = live.lost;
      }
      if (live.writer.pending === 0) continue;
      try {
        live.sink.write(live.writer.take());
      } catch {
        this.end(slot);
      }
    }
  }

  private record(index: number, at: number): void {
    const { reasons, client } = this.options;
    const { words, bytes } = this.rings[index]!;
    const mask = words[at + 1]!;
    const origin = (mask >> 8) & 0xff;
    const off = (at + RECORD_WORDS) * 4;
    const data = bytes.subarray(off, off + words[at + 2]!);
    const text = comment(words[at + 6]!, words[at + 7]!, words[at + 8]!, reasons, client);
    const direction = origin === Origin.card ? 1 : origin === Origin.host ? 0 : 2;
    for (let i = 0; i < SESSIONS; i++) {
      const live = this.sessions[i];
      if (!live || (mask & (1 << i)) === 0) continue;
      if ((((mask >>> 16) - live.since[index]!) & 0xffff) >= 0x8000) continue; // from a session before it
      if (live.sink.backlog() + live.writer.pending > BACKLOG) live.lost++;
      else live.writer.packet(words[at + 4]! >>> 0, words[at + 5]!, words[at + 3]!, data, direction, text);
    }
  }
}
