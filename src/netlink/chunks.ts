// A dump's chunks on their way from the socket to who decodes them: a ring of slots in shared memory, filled by
// `fill` (on the netlink Worker itself, or on the thread of drain.ts while a long dump lasts) and emptied by the
// netlink Worker. Receiving apart from decoding keeps the kernel's walk short: what changes while it lasts can be
// missed (reference: linux/Documentation/userspace-api/netlink/intro.rst, "Dumping"; net/ipv6/ip6_fib.c).
//
//   word 0   slots filled (free running)      by the filler
//   word 16  slots emptied (free running)     by the decoder
//   word 32  state: RUNNING, or how it ended  by the filler, last of all
//   word 33  NLM_F_* of all messages, ored    by the filler
//   word 34  -errno of the dump or of recv    by the filler
//   word 35  1: give up                       by the decoder
//   word 36  who fills: NOBODY, THREAD or DECODER
//   word 37  sequence number of the dump      by the decoder, before it fills itself
//   word 48  1: the thread has mapped this    by drain.ts, for good
//   word 64.. bytes in slot i
//   byte 4096.. slots of 64 KiB, one datagram each
import { errno } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { type Pointer, ptr } from "../../ffi/memory.ts";
import type { Region } from "../mem/region.ts";
import { NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR } from "./constants.ts";
import { messageFlags, messageLength, messageSeq, messageType } from "./message.ts";

const FILLED = 0;
const EMPTIED = 16;
const STATE = 32;
const FLAGS = 33;
const ERROR = 34;
const ABORT = 35;
const FILLER = 36;
const SEQ = 37;
const PRESENT = 48;
const LENGTHS = 64;
const SLOTS_OFF = 4096;
const SLOT_BYTES = 65_536;
/** As many as lengths fit before the slots; a dump of 50,000 routes needs that many. */
export const SLOTS = 128;
export const CHUNKS_BYTES: number = SLOTS_OFF + SLOTS * SLOT_BYTES;

const NOBODY = 0;
export const THREAD = 1;
export const DECODER = 2;

const RUNNING = 0;
const DONE = 1;

const MSG_TRUNC = 0x20;
const EINTR = 4;
const EBADMSG = 74;
const EMSGSIZE = 90;

export class Chunks {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  private readonly address: number;
  private readonly name = new Uint32Array(new ArrayBuffer(16));
  private readonly nameLen = new Int32Array(new ArrayBuffer(8));

  constructor(region: Region) {
    this.words = new Int32Array(region.buffer);
    this.bytes = new Uint8Array(region.buffer);
    this.address = region.address;
  }

  /** Decoder: forgets the last dump, and fills the next one as long as it does not yield. */
  reset(seq: number): void {
    // A thread that comes late for an earlier dump may hold it for a moment.
    while (!this.claim(DECODER)) libc.poll(null, 0, 1);
    this.words.fill(0, 0, FILLER);
    this.words[SEQ] = seq;
  }

  /** Which dump this is. */
  get seq(): number {
    return this.words[SEQ]! >>> 0;
  }

  /** Becomes the one who fills; false if the other is. */
  claim(who: typeof THREAD | typeof DECODER): boolean {
    return Atomics.compareExchange(this.words, FILLER, NOBODY, who) === NOBODY;
  }

  /** Fills no more; the other may. */
  yield(): void {
    Atomics.store(this.words, FILLER, NOBODY);
  }

  /** Whether anybody fills. */
  get claimed(): boolean {
    return Atomics.load(this.words, FILLER) !== NOBODY;
  }

  /** Filler: takes one datagram of the dump `seq`, waiting for it. False if the ring is full or the dump at its end. */
  fill(fd: number, seq: number): boolean {
    const { words } = this;
    const filled = Atomics.load(words, FILLED);
    if (words[STATE] !== RUNNING) return false;
    if (Atomics.load(words, ABORT) !== 0) return this.end(0);
    if ((filled - Atomics.load(words, EMPTIED)) >>> 0 >= SLOTS) return false;
    const slot = (filled >>> 0) % SLOTS;
    const off = SLOTS_OFF + slot * SLOT_BYTES;
    this.nameLen[0] = 12;
    const length = Number(
      libc.recvfrom(
        fd,
        (this.address + off) as Pointer,
        SLOT_BYTES,
        MSG_TRUNC,
        ptr(this.name),
        ptr(this.nameLen),
      ),
    );
    if (length < 0) {
      const error = errno();
      return error === EINTR || this.end(-error);
    }
    if (this.name[1] !== 0) return true; // not from the kernel
    if (length > SLOT_BYTES) return this.end(-EMSGSIZE);
    const last = this.scan(off, off + length, seq);
    if (last < 0) return true; // of an earlier dump
    words[LENGTHS + slot] = length;
    Atomics.store(words, FILLED, filled + 1);
    return last === 0 || this.end(words[ERROR]!);
  }

  /** Whether DONE (1) or more (0) comes after this datagram; -1 if it belongs to another request. */
  private scan(off: number, end: number, seq: number): number {
    const { words } = this;
    let flags = 0;
    let last = 0;
    if (end - off < 16 || messageSeq(words, off) !== seq) return -1;
    for (let len: number; (len = messageLength(words, off, end)) > 0; off += (len + 3) & ~3) {
      flags |= messageFlags(words, off);
      const type = messageType(words, off);
      if (type !== NLMSG_DONE && type !== NLMSG_ERROR) continue;
      words[ERROR] = len >= 20 ? Math.min(words[(off >> 2) + 4]!, 0) : -EBADMSG;
      last = 1;
    }
    if (off < end) {
      words[ERROR] = -EBADMSG;
      last = 1;
    }
    words[FLAGS]! |= flags & NLM_F_DUMP_INTR;
    return last;
  }

  private end(error: number): false {
    this.words[ERROR] = error;
    Atomics.store(this.words, STATE, DONE);
    return false;
  }

  /** Decoder: whether nothing will be added any more. */
  get ended(): boolean {
    return Atomics.load(this.words, STATE) !== RUNNING;
  }

  /** Decoder: chunks there are to decode. */
  get ready(): number {
    return (Atomics.load(this.words, FILLED) - Atomics.load(this.words, EMPTIED)) >>> 0;
  }

  /** Decoder: where the oldest chunk begins, and its length. */
  get offset(): number {
    return SLOTS_OFF + ((this.words[EMPTIED]! >>> 0) % SLOTS) * SLOT_BYTES;
  }

  get length(): number {
    return this.words[LENGTHS + ((this.words[EMPTIED]! >>> 0) % SLOTS)]!;
  }

  /** Decoder: gives the oldest chunk's slot back. */
  release(): void {
    Atomics.add(this.words, EMPTIED, 1);
  }

  /** Decoder, once ended: the kernel says that things changed under the dump. */
  get interrupted(): boolean {
    return this.words[FLAGS] !== 0;
  }

  /** Decoder, once ended: 0 or -errno. */
  get error(): number {
    return this.words[ERROR]!;
  }

  abort(): void {
    Atomics.store(this.words, ABORT, 1);
  }

  /** Whether the thread looks at this memory through a mapping of its own. */
  get present(): boolean {
    return Atomics.load(this.words, PRESENT) !== 0;
  }

  arrive(): void {
    Atomics.store(this.words, PRESENT, 1);
  }

  /** Decoder: another thread will come, or none. */
  forget(): void {
    Atomics.store(this.words, PRESENT, 0);
  }
}
