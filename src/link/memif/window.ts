// Clients' memory where the loop can reach it: regions are mapped into windows of the link's own frame memory
// (src/mem/frames.ts), so that one set of views serves frames and all clients, and a copy is a copy within one array.
//
//   frame memory   | frames of the link ... | window 0 | window 1 | ...      windows: whole pages, first fit
//
// A window that is given back is anonymous memory again: a late look at it sees zeroes, not somebody else's bytes.
// The region must be sealed against shrinking (session.ts sees to it): a look behind a file's end is a SIGBUS.
import { SysError, errno } from "../../../ffi/errno.ts";
import { libc } from "../../../ffi/libc.ts";
import type { Pointer } from "../../../ffi/memory.ts";
import { frameAddress } from "../../mem/frames.ts";

const PAGE = 4096;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;

const pages = (bytes: number): number => Math.ceil(bytes / PAGE) * PAGE;

export class Windows {
  private readonly address: number;
  /** Free pieces by offset: [begin, end), in order, never touching each other. */
  private readonly free: [number, number][];

  /** @param from, to the part of the memory, in bytes, that windows are given of: multiples of 4096 */
  constructor(memory: WebAssembly.Memory, from: number, to: number) {
    this.address = frameAddress(memory);
    this.free = [[from, to]];
  }

  /** Maps the first `bytes` of `fd`; returns the offset in the memory, or -1 if there is no room. @throws SysError */
  map(fd: number, bytes: number): number {
    const size = pages(bytes);
    const at = this.free.findIndex(([begin, end]) => end - begin >= size);
    if (at < 0) return -1;
    const piece = this.free[at]!;
    const offset = piece[0];
    this.place(offset, size, MAP_SHARED | MAP_FIXED, fd);
    piece[0] += size;
    if (piece[0] === piece[1]) this.free.splice(at, 1);
    return offset;
  }

  /** Takes back what `map` gave. */
  unmap(offset: number, bytes: number): void {
    const size = pages(bytes);
    this.clear(offset, size);
    this.free.push([offset, offset + size]);
    this.free.sort(([a], [b]) => a - b);
    for (let i = this.free.length - 1; i > 0; i--)
      if (this.free[i]![0] === this.free[i - 1]![1]) {
        this.free[i - 1]![1] = this.free[i]![1];
        this.free.splice(i, 1);
      }
  }

  private clear(offset: number, bytes: number): void {
    this.place(offset, bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1);
  }

  private place(offset: number, bytes: number, flags: number, fd: number): void {
    const where = this.address + offset;
    const got = libc.mmap(where as Pointer, bytes, PROT_READ_WRITE, flags, fd, 0) as unknown;
    if (got === where) return;
    const error = new SysError(`mmap ${bytes} bytes of fd ${fd} into a window`, errno());
    // The kernel may have taken away what was there before it failed; a hole is anybody's next mmap.
    if (fd >= 0) this.clear(offset, bytes);
    throw error;
  }
}
