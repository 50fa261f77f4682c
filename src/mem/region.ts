// A region: shared memory with one name, one owner who writes, and any number of threads that read.
// The owner creates it (memfd + read-write mapping) and hands a RegionRef to each Worker in its boot message;
// a reader opens the same memfd PROT_READ, so that a stray write faults instead of corrupting.
import { SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { bufferAt, collapse, HUGE_PAGE, mapShared, memfd, unmap } from "../../ffi/memory.ts";

const ENOMEM = 12;
/** What an ArrayBuffer takes. */
const MOST = 2 ** 32;

/** What crosses to another Worker: plain numbers, valid within this process. */
export interface RegionRef {
  readonly name: string;
  readonly fd: number;
  readonly bytes: number;
}

export class Region implements RegionRef {
  readonly name: string;
  readonly fd: number;
  readonly bytes: number;
  readonly address: number;
  readonly buffer: ArrayBuffer;

  private constructor(ref: RegionRef, readOnly: boolean) {
    this.name = ref.name;
    this.fd = ref.fd;
    this.bytes = ref.bytes;
    this.address = mapShared(ref.fd, ref.bytes, readOnly);
    this.buffer = bufferAt(this.address, ref.bytes);
  }

  /** New zeroed memory, mapped read-write; sparse: pages cost nothing until they are touched. @throws SysError */
  static create(name: string, bytes: number): Region {
    const size = Math.ceil(bytes / 4096) * 4096;
    if (size > MOST)
      throw new SysError(
        `make ${name} of ${Math.ceil(bytes / 2 ** 20)} MiB`,
        ENOMEM,
        "lower its capacities: 4096 MiB is the most",
      );
    return new Region({ name, fd: memfd(name, size), bytes: size }, false);
  }

  /** Another mapping of the same memory in this process. */
  static open(ref: RegionRef, mode: "read-only" | "read-write"): Region {
    return new Region(ref, mode === "read-only");
  }

  /** Makes huge pages, for every mapping, of those that `bytes` bytes from `off` on are in; for what is used all over. */
  collapse(off: number, bytes = 1): boolean {
    const from = Math.floor(off / HUGE_PAGE) * HUGE_PAGE;
    const end =
      Math.min(Math.ceil((off + bytes) / HUGE_PAGE), Math.floor(this.bytes / HUGE_PAGE)) * HUGE_PAGE;
    return from < end && collapse(this.address + from, end - from);
  }

  get ref(): RegionRef {
    return { name: this.name, fd: this.fd, bytes: this.bytes };
  }

  /** Unmaps this mapping. Only when no view of it is used any more. */
  unmap(): void {
    unmap(this.address, this.bytes);
  }

  /** Unmaps, and closes the memfd: the owner's last act. */
  close(): void {
    this.unmap();
    libc.close(this.fd);
  }
}
