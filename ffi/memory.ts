// Mapped memory: what C or another thread may keep a pointer to. Addresses are numbers below 2^53.
// Nothing here unmaps behind your back: a view over unmapped memory is a segmentation fault.
import { type Pointer, ptr, toArrayBuffer } from "bun:ffi";
import { errno, SysError } from "./errno.ts";
import { cstring, libc } from "./libc.ts";

export { ptr, toArrayBuffer };
export type { Pointer };

export const PROT_READ = 1;
export const PROT_WRITE = 2;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MFD_CLOEXEC = 1;
const MADV_HUGEPAGE = 14;
const MADV_POPULATE_WRITE = 23;
const MADV_COLLAPSE = 25;

/** Bytes of a huge page. */
export const HUGE_PAGE: number = 2 << 20;

function mmap(what: string, bytes: number, prot: number, flags: number, fd: number, at = 0): number {
  const address = libc.mmap(at === 0 ? null : (at as Pointer), bytes, prot, flags, fd, 0);
  // A failed mmap comes back as BigInt 2^64-1, and as a negative number from other Bun versions.
  if (address === null || typeof address !== "number" || address <= 0)
    throw new SysError(`mmap ${what} (${bytes} bytes)`, errno());
  return address;
}

/** A fd for `bytes` bytes of anonymous shared memory, CLOEXEC; pages exist once they are touched. */
export function memfd(name: string, bytes: number): number {
  const fd = libc.memfd_create(cstring(name), MFD_CLOEXEC);
  if (fd < 0) throw new SysError(`memfd_create ${name}`, errno());
  if (libc.ftruncate(fd, bytes) < 0) {
    const error = new SysError(`ftruncate ${name} to ${bytes} bytes`, errno());
    libc.close(fd);
    throw error;
  }
  return fd;
}

/**
 * Maps `fd` shared, read-write or read-only. A write through a read-only mapping is a SIGSEGV. What is as long as a huge
 * page begins where one can.
 */
export function mapShared(fd: number, bytes: number, readOnly = false): number {
  const prot = readOnly ? PROT_READ : PROT_READ | PROT_WRITE;
  if (bytes < HUGE_PAGE) return mmap(`fd ${fd}`, bytes, prot, MAP_SHARED, fd);
  const room = mmap(`fd ${fd}`, bytes + HUGE_PAGE, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  const at = Math.ceil(room / HUGE_PAGE) * HUGE_PAGE;
  try {
    mmap(`fd ${fd}`, bytes, prot, MAP_SHARED | MAP_FIXED, fd, at);
  } catch (error) {
    libc.munmap(room as Pointer, bytes + HUGE_PAGE);
    throw error;
  }
  const end = at + Math.ceil(bytes / 4096) * 4096;
  if (at > room) libc.munmap(room as Pointer, at - room);
  if (room + HUGE_PAGE + bytes > end) libc.munmap(end as Pointer, room + HUGE_PAGE + bytes - end);
  return at;
}

/** Maps `fd` shared, to be read alone, over what is at `at`. */
export const mapOver = (at: number, bytes: number, fd: number): void => {
  mmap(`fd ${fd}`, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, at);
};

/**
 * Has the kernel (6.1 or later) put the huge pages of this mapped memory together. Contents stay; it may refuse, as it
 * does where nothing was ever touched: so one small page of each is, first. All of it in one call: each makes every CPU
 * empty its lists of pages before (lru_add_drain_all), 0.4 ms or, where one is busy, 5.
 */
export const collapse = (address: number, bytes: number): boolean => {
  for (let at = address; at < address + bytes; at += HUGE_PAGE)
    libc.madvise(at as Pointer, 4096, MADV_POPULATE_WRITE);
  return libc.madvise(address as Pointer, bytes, MADV_COLLAPSE) === 0;
};

/** Private, zeroed, page-aligned memory, populated at once unless `lazy`; huge pages where the kernel gives them. */
export function mapPrivate(bytes: number, lazy = false): number {
  const address = mmap("private memory", bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  libc.madvise(address as Pointer, bytes, MADV_HUGEPAGE);
  // After the advice: MAP_POPULATE would have filled it with small pages already.
  if (!lazy) libc.madvise(address as Pointer, bytes, MADV_POPULATE_WRITE);
  return address;
}

export const unmap = (address: number, bytes: number): void => {
  libc.munmap(address as Pointer, bytes);
};

/** The memory at `address` as an ArrayBuffer, at most 4 GiB; it keeps nothing alive and frees nothing. */
export const bufferAt = (address: number, bytes: number): ArrayBuffer =>
  toArrayBuffer(address as Pointer, 0, bytes);
