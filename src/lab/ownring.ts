// A client by memif that is this process itself: its rings lie in the room behind a sim link's frames. For tests and benches
// of the net Worker's side, without a socket and without another process.
//
//   at + 0          ring S2M         at + RING_BYTES(log2)   ring M2S
//   at + buffers    2^log2 buffers of 2048 bytes for each
import { beginRing, COOKIE, DESCRIPTORS } from "../link/memif/ring.ts";
import type { PortPlace, PortWriter } from "../link/memif/port.ts";

const BUFFER = 2048;
const HEAD = 1;
const TAIL = 16;

export class OwnRing {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  readonly size: number;
  readonly place: PortPlace;
  private readonly from: number;
  private readonly to: number;
  private readonly buffers: number;
  private head = 0;
  private taken = 0;

  /** Bytes of room for one client. */
  static bytes(log2: number): number {
    return buffersAt(log2) + 2 ** log2 * BUFFER * 2;
  }

  /** @param at where in `memory` its room begins: a multiple of 4096 */
  constructor(memory: WebAssembly.Memory, at: number, log2: number, client: number, mode = 0) {
    this.words = new Int32Array(memory.buffer);
    this.bytes = new Uint8Array(memory.buffer);
    this.size = 2 ** log2;
    this.from = at >>> 2;
    this.to = (at + 128 + 16 * this.size) >>> 2;
    this.buffers = at + buffersAt(log2);
    const offs = new Int32Array(256).fill(-1);
    const bytes = new Int32Array(256);
    offs[0] = at;
    bytes[0] = OwnRing.bytes(log2);
    const rings = [this.from, this.to].map((word) => ({ region: 0, offset: word * 4 - at, log2, fd: -1 }));
    for (const word of [this.from, this.to]) {
      this.words[word] = COOKIE;
      this.words[word + HEAD] = 1; // neither of us needs to be woken
    }
    for (const ring of rings) beginRing(this.words, { offs, bytes }, ring);
    for (let i = 0; i < this.size; i++)
      this.describe(this.to, i, BUFFER, this.buffers + (this.size + i) * BUFFER - at);
    this.setHead(this.to, this.size);
    this.place = { client, mode, from: [rings[0]!], to: [rings[1]!], sharedRing: -1, offs, bytes };
  }

  /** Makes it a port of a net Worker's. */
  attach(ports: PortWriter): void {
    ports.add(this.place);
  }

  /** Puts a frame in slot `i`, `lead` bytes behind its buffer's begin; sends nothing yet. */
  put(i: number, frame: Uint8Array, lead = 0): void {
    const at = this.buffers + (i & (this.size - 1)) * BUFFER + lead;
    this.bytes.set(frame, at);
    this.describe(this.from, i, frame.length, at - this.from * 4);
  }

  /** Sends one frame; false if the ring is full. */
  send(frame: Uint8Array, lead = 0): boolean {
    if (((this.head - this.served()) & 0xffff) === this.size) return false;
    this.put(this.head, frame, lead);
    this.setHead(this.from, ++this.head);
    return true;
  }

  /** All slots, as they were put, are sent again. */
  refill(): void {
    this.head = this.served() + this.size;
    this.setHead(this.from, this.head);
  }

  /** What has come, as copies. */
  receive(): Uint8Array[] {
    const got: Uint8Array[] = [];
    while ((this.words[this.to + TAIL]! & 0xffff) !== (this.taken & 0xffff)) {
      const d = this.to + DESCRIPTORS + (this.taken & (this.size - 1)) * 4;
      const at = this.to * 4 - (this.to - this.from) * 4 + this.words[d + 2]!;
      got.push(this.bytes.slice(at, at + this.words[d + 1]!));
      this.words[d + 1] = BUFFER;
      this.taken++;
    }
    this.setHead(this.to, this.taken + this.size);
    return got;
  }

  /** What has come is read. */
  drain(): void {
    for (const end = this.words[this.to + TAIL]! & 0xffff; (this.taken & 0xffff) !== end; this.taken++)
      this.words[this.to + DESCRIPTORS + (this.taken & (this.size - 1)) * 4 + 1] = BUFFER;
    this.setHead(this.to, this.taken + this.size);
  }

  private served(): number {
    return this.words[this.from + TAIL]! & 0xffff;
  }

  private describe(ring: number, i: number, length: number, offset: number): void {
    this.words.set([0, length, offset, 0], ring + DESCRIPTORS + (i & (this.size - 1)) * 4);
  }

  private setHead(ring: number, head: number): void {
    this.words[ring + HEAD] = (this.words[ring + HEAD]! & 0xffff) | (head << 16);
  }
}

const buffersAt = (log2: number): number => Math.ceil((2 * (128 + 16 * 2 ** log2)) / 4096) * 4096;
