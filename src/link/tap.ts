// The tap, one frame a system call: what this host's kernel has for clients, and what clients have for it (src/xdp/tap.ts
// makes the device). A character device knows no sendmmsg; nothing that needs speed goes this way.
import { libc } from "../../ffi/libc.ts";
import type { Pointer } from "../../ffi/memory.ts";

export class TapQueue {
  private readonly fd: number;
  private readonly base: number;

  /** @param fd non-blocking; @param base address of the memory that offsets are into */
  constructor(fd: number, base: number) {
    this.fd = fd;
    this.base = base;
  }

  /** Gives the kernel a frame; false if it does not take it. */
  write(off: number, len: number): boolean {
    return libc.write(this.fd, (this.base + off) as Pointer, len) === len;
  }

  /** Takes a frame of at most `max` bytes (the rest of a longer one is lost); its length, 0 if there is none. */
  read(off: number, max: number): number {
    const got = libc.read(this.fd, (this.base + off) as Pointer, max) as number;
    return got > 0 ? got : 0;
  }
}
