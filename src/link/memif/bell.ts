// Wakes clients by their eventfds, without ever waiting for them. write(2) would: O_NONBLOCK is a property of the open file,
// which the client shares and may take off again, and it may fill the counter. The kernel's own signal does not wait: that of
// an asynchronous read which is done at once, of nothing, from /dev/null.
//
//   iocb   data u64 | key u32 | flags u32 | opcode u16 | priority u16 | fd u32 @20 | buffer u64 | bytes u64 | offset i64
//          | reserved u64 | flags u32 @56: 1 = with an eventfd | eventfd u32 @60
// Source: io_submit(2), linux/aio_abi.h; fs/aio.c signals by eventfd_signal(), which saturates.
import { closeSync, openSync } from "node:fs";
import { check } from "../../../ffi/errno.ts";
import { libc } from "../../../ffi/libc.ts";
import { mapPrivate, bufferAt, unmap } from "../../../ffi/memory.ts";

const [SYS_IO_SETUP, SYS_IO_DESTROY, SYS_IO_GETEVENTS, SYS_IO_SUBMIT] =
  process.arch === "x64" ? [206, 207, 208, 209] : [0, 1, 4, 2];
const FD = 20 >> 2;
const WITH_EVENTFD = 56 >> 2;
const EVENTFD = 60 >> 2;
/** Signals until the kernel's record of them is thrown away. */
const RECORD = 64;
const EVENT_BYTES = 32;
// In its memory: context, pointer to the iocb, iocb, events.
const POINTER = 8;
const IOCB = 64;
const EVENTS = 128;
const BYTES = EVENTS + RECORD * EVENT_BYTES;

export class Bell {
  private readonly memory = mapPrivate(BYTES, true);
  private readonly iocb: Int32Array;
  private readonly nothing: number;
  private readonly context: bigint;
  private recorded = 0;

  /** @throws SysError where the kernel has no asynchronous I/O */
  constructor() {
    const { memory } = this;
    const buffer = bufferAt(memory, BYTES);
    const view = new DataView(buffer);
    check(
      "io_setup",
      this.call(SYS_IO_SETUP, RECORD, memory),
      "raise sysctl fs.aio-max-nr; ENOSYS: a kernel without CONFIG_AIO",
    );
    this.context = view.getBigUint64(0, true);
    view.setBigUint64(POINTER, BigInt(memory + IOCB), true);
    this.nothing = openSync("/dev/null", "r");
    this.iocb = new Int32Array(buffer, IOCB, 16);
    this.iocb[FD] = this.nothing;
    this.iocb[WITH_EVENTFD] = 1;
  }

  /** Adds 1 to an eventfd; a full one stays full. */
  ring(eventfd: number): void {
    const { memory, context } = this;
    if (this.recorded === RECORD) {
      this.call(SYS_IO_GETEVENTS, context, 0, RECORD, memory + EVENTS, 0);
      this.recorded = 0;
    }
    this.iocb[EVENTFD] = eventfd;
    this.call(SYS_IO_SUBMIT, context, 1, memory + POINTER);
    this.recorded++;
  }

  close(): void {
    this.call(SYS_IO_DESTROY, this.context);
    closeSync(this.nothing);
    unmap(this.memory, BYTES);
  }

  private call(number: number, a: number | bigint, b = 0, c = 0, d = 0, e = 0): number {
    return Number(libc.syscall(number, a, b, c, d, e, 0));
  }
}
