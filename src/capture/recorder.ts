// A net Worker's side of captures: copies frames into its ring, with what became of them, if one of the filters takes
// them. While nobody captures, all there is of it is `on`, which is 0. A full ring loses records and counts them.
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { compile } from "../filter/compile.ts";
import type { Filter } from "../filter/interpret.ts";
import { plainMeta } from "../filter/packet.ts";
import { decode } from "../filter/program.ts";
import {
  CONSUMER,
  DATA,
  FRAME_BYTES,
  LOST,
  PRODUCER,
  RECORD_WORDS,
  RING_BYTES,
  SESSIONS,
  sessionAt,
  VERSION,
} from "./region.ts";

const CLOCK_REALTIME = 0;
const RING_WORDS = RING_BYTES >> 2;

export class Recorder {
  /** Not 0 while somebody captures. Changes in refresh() alone. */
  on = 0;
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;
  private readonly filters: (Filter | undefined)[] = new Array(SESSIONS).fill(undefined);
  private readonly meta = plainMeta();
  /** struct timespec; the threads' own clocks do not agree to the millisecond */
  private readonly clock = new Int32Array(new ArrayBuffer(16));
  private readonly clockAddress = ptr(this.clock);
  private version = 0;
  private producer: number;
  /** The record that begin() made: its first word's place, its bytes (0: there is none), the frame's. */
  private at = 0;
  private size = 0;
  private captured = 0;

  /** @param buffer a region of captureBytes, whose ring this alone fills */
  constructor(buffer: ArrayBuffer) {
    this.words = new Int32Array(buffer);
    this.bytes = new Uint8Array(buffer);
    this.producer = Atomics.load(this.words, PRODUCER) >>> 0;
  }

  /** Between batches: takes over the sessions if they have changed. */
  refresh(): void {
    const version = Atomics.load(this.words, VERSION);
    if (version !== this.version) this.load(version);
  }

  private load(version: number): void {
    const { words, bytes } = this;
    const programs: Uint8Array[] = [];
    for (let i = 0; i < SESSIONS; i++) {
      const at = sessionAt(i);
      programs.push(bytes.slice((at + 1) * 4, (at + 1) * 4 + words[at]!));
    }
    // Odd, or another by now: main writes them. A program that is half of another's is never looked at.
    if ((version & 1) !== 0 || Atomics.load(words, VERSION) !== version) return;
    this.version = version;
    this.on = 0;
    for (const [i, program] of programs.entries()) {
      this.filters[i] = program.length > 0 ? compile(decode(program), bytes, this.meta, 0) : undefined;
      if (program.length > 0) this.on |= 1 << i;
    }
  }

  /** A frame whose fate is known: `len` bytes at byte `off` of `memory`. `to` and `from` are clients' slots, or -1. */
  frame(memory: Int32Array, off: number, len: number, origin: number, verdict: number, to = -1, from = -1) {
    this.begin(memory, off, len, origin);
    this.end(verdict, to, from);
  }

  /** Copies a frame that will be changed before its fate is known; end() says that. */
  begin(memory: Int32Array, off: number, len: number, origin: number): void {
    const { words } = this;
    const captured = len < FRAME_BYTES ? len : FRAME_BYTES;
    const size = (RECORD_WORDS + ((captured + 3) >> 2)) << 2;
    let index = (this.producer & (RING_BYTES - 1)) >> 2;
    const pad = index + (size >> 2) > RING_WORDS ? (RING_WORDS - index) << 2 : 0;
    const used = (this.producer - Atomics.load(words, CONSUMER)) >>> 0;
    if (used + pad + size > RING_BYTES) {
      this.size = 0;
      Atomics.add(words, LOST, 1);
      return;
    }
    if (pad > 0) {
      words[DATA + index] = pad;
      words[DATA + index + 1] = 0;
      this.producer = (this.producer + pad) >>> 0;
      index = 0;
    }
    const at = DATA + index;
    libc.clock_gettime(CLOCK_REALTIME, this.clockAddress);
    words[at] = size;
    words[at + 1] = (origin << 8) | (this.version << 16);
    words[at + 2] = captured;
    words[at + 3] = len;
    words[at + 4] = this.clock[0]!;
    words[at + 5] = this.clock[2]!;
    copy(memory, off, captured, words, at + RECORD_WORDS);
    this.at = at;
    this.size = size;
    this.captured = captured;
  }

  /** The fate of the frame that begin() copied. */
  end(verdict: number, to = -1, from = -1): void {
    const { words, at, size, captured } = this;
    if (size === 0) return;
    const off = (at + RECORD_WORDS) << 2;
    this.meta.protocol = captured < 14 ? 0 : (this.bytes[off + 12]! << 8) | this.bytes[off + 13]!;
    let mask = 0;
    let snap = 0;
    for (let i = 0; i < SESSIONS; i++) {
      const filter = this.filters[i];
      if (filter === undefined) continue;
      const taken = filter(off, captured) >>> 0;
      if (taken === 0) continue;
      mask |= 1 << i;
      if (taken > snap) snap = taken;
    }
    this.size = 0;
    if (mask === 0) return;
    words[at + 1]! |= mask;
    words[at + 6] = verdict;
    words[at + 7] = to;
    words[at + 8] = from;
    if (snap < captured) words[at + 2] = snap;
    this.producer = (this.producer + size) >>> 0;
    Atomics.store(words, PRODUCER, this.producer | 0);
  }
}

/** `len` bytes from byte `off` of `from` to word `at` of `to`; up to three bytes more may be written. */
function copy(from: Int32Array, off: number, len: number, to: Int32Array, at: number): void {
  const shift = (off & 3) << 3;
  const first = off >> 2;
  const n = (len + 3) >> 2;
  if (shift === 0) for (let i = 0; i < n; i++) to[at + i] = from[first + i]!;
  else
    for (let i = 0, low = from[first]!; i < n; i++) {
      const high = from[first + i + 1]!;
      to[at + i] = (low >>> shift) | (high << (32 - shift));
      low = high;
    }
}
