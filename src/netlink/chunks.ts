// A dump's chunks on their way from the socket to who decodes them: a ring of slots in shared memory, filled by
// `fill` (on the netlink Worker itself, or on the thread of drain.ts while a long dump lasts) and emptied by the
// netlink Worker. Receiving apart from decoding keeps the kernel's walk short: what changes while it lasts can be
// missed (reference: linux/Documentation/userspace-api/netlink/intro.rst, "Dumping"; net/ipv6/ip6_fib.c).
// Who fills does not look into the chunks, which would take the thread's code, always cold, longer than the kernel: the
// decoder finds the dump's end. There is always a chunk to take until then, since the kernel makes the next whenever
// one is taken (af_netlink.c, netlink_recvmsg).
//
//   word 0   slots filled (free running)      by the filler
//   word 16  slots emptied (free running)     by the decoder
//   word 32  1: no more can be received       by the filler
//   word 34  -errno of recv                   by the filler, before
//   word 35  1: no more is wanted             by the decoder
//   word 36  who fills: NOBODY, THREAD or DECODER
//   word 37  sequence number of the dump      by the decoder, before it fills itself
//   word 38  1: the thread is here, and would fill
//   word 48  1: the thread has mapped this    by drain.ts, for good
//   word 64.. bytes in slot i
//   byte 4096.. slots of 64 KiB, one datagram each
import { errno } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { type Pointer, ptr } from "../../ffi/memory.ts";
import type { Region } from "../mem/region.ts";
import { EAGAIN } from "./constants.ts";
import { messageSeq } from "./message.ts";

const FILLED = 0;
const EMPTIED = 16;
const FAILED = 32;
const ERROR = 34;
const ABORT = 35;
const FILLER = 36;
const SEQ = 37;
const WANTED = 38;
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

const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;
const EINTR = 4;
const EMSGSIZE = 90;

/** A moment, for who waits for the other thread. */
export const moment = (): void => void libc.usleep(30);

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
    while (!this.claim(DECODER)) moment();
    this.words.fill(0, 0, FILLER);
    Atomics.store(this.words, SEQ, seq);
  }

  /** Which dump this is. */
  get seq(): number {
    return Atomics.load(this.words, SEQ) >>> 0;
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

  /** Thread: whether it waits for its turn, which the decoder then leaves to it. */
  set wanted(yes: boolean) {
    Atomics.store(this.words, WANTED, yes ? 1 : 0);
  }

  get wanted(): boolean {
    return Atomics.load(this.words, WANTED) !== 0;
  }

  /**
   * Filler: takes one datagram of the dump `seq`, if there is one, or once there is. False if there is none, the ring is
   * full, or the dump over.
   */
  fill(fd: number, seq: number, wait = false): boolean {
    const { words } = this;
    if (this.over || this.full) return false;
    const filled = words[FILLED]!;
    const slot = (filled >>> 0) % SLOTS;
    const off = SLOTS_OFF + slot * SLOT_BYTES;
    this.nameLen[0] = 12;
    const length = Number(
      libc.recvfrom(
        fd,
        (this.address + off) as Pointer,
        SLOT_BYTES,
        wait ? MSG_TRUNC : MSG_TRUNC | MSG_DONTWAIT,
        ptr(this.name),
        ptr(this.nameLen),
      ),
    );
    if (length < 0) {
      const error = errno();
      if (error === EINTR) return true;
      return error === EAGAIN && !wait ? false : this.fail(-error);
    }
    if (this.name[1] !== 0) return true; // not from the kernel
    if (length > SLOT_BYTES) return this.fail(-EMSGSIZE);
    if (length < 16 || messageSeq(words, off) !== seq) return true; // of an earlier dump
    words[LENGTHS + slot] = length;
    Atomics.store(words, FILLED, filled + 1);
    return true;
  }

  private fail(error: number): false {
    this.words[ERROR] = error;
    Atomics.store(this.words, FAILED, 1);
    return false;
  }

  /** Whether there is no room for another datagram. */
  get full(): boolean {
    return this.ready >= SLOTS;
  }

  /** Whether nothing will be added any more. */
  get over(): boolean {
    return Atomics.load(this.words, FAILED) !== 0 || Atomics.load(this.words, ABORT) !== 0;
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

  /** Decoder, once over: 0, or -errno of receiving. */
  get error(): number {
    return this.words[ERROR]!;
  }

  /** Decoder: the dump's end was seen, or it is given up. */
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
}
