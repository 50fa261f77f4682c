// Frame memory: what the frames of one link lie in. A shared WebAssembly.Memory, because that is memory which never
// moves, whose address C may keep, which any Worker can be sent, and which SIMD code can sum (src/wire/simd.ts).
// It is freed when nobody refers to it any more; `release` gives its pages back at once.
//
//   | frames of the link | clients' memory (src/link/memif/window.ts) | regions (views.ts) | scratch |
import { libc } from "../../ffi/libc.ts";
import { type Pointer, ptr } from "../../ffi/memory.ts";

const PAGE = 65536;
const SCRATCH = 4 * PAGE;
const MADV_DONTNEED = 4;
const MADV_HUGEPAGE = 14;
const MADV_POPULATE_WRITE = 23;

/** Where its scratch begins, and everything else ends. */
export const scratchOf = (memory: WebAssembly.Memory): number => memory.buffer.byteLength - SCRATCH;

const taken = new WeakMap<WebAssembly.Memory, number>();

/**
 * Bytes of it that are the caller's for good, for what it tells WebAssembly: where they begin, at a cache line. One thread alone
 * takes some, the net Worker.
 */
export function scratch(memory: WebAssembly.Memory, bytes: number): number {
  const from = taken.get(memory) ?? 0;
  const end = from + Math.ceil(bytes / 64) * 64;
  if (end > SCRATCH) throw new RangeError(`${bytes} bytes of scratch: ${SCRATCH - from} are left`);
  taken.set(memory, end);
  return scratchOf(memory) + from;
}

/**
 * At least `all` bytes of zeroed memory, the first `bytes` of it present at once, in huge pages where the kernel gives them.
 * The rest is address space: clients' memory is mapped there (src/link/memif/window.ts).
 */
export function frameMemory(bytes: number, all: number = bytes): WebAssembly.Memory {
  const pages = Math.ceil((all + SCRATCH) / PAGE);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const address = frameAddress(memory) as Pointer;
  const present = Math.ceil(bytes / PAGE) * PAGE;
  libc.madvise(address, present, MADV_HUGEPAGE);
  libc.madvise(address, present, MADV_POPULATE_WRITE);
  return memory;
}

/** Where it begins: page-aligned, the same for all threads. */
export const frameAddress = (memory: WebAssembly.Memory): number =>
  Number(ptr(new Uint8Array(memory.buffer)));

/** Gives the pages back to the kernel; the contents are gone. */
export function releaseFrames(memory: WebAssembly.Memory): void {
  libc.madvise(frameAddress(memory) as Pointer, memory.buffer.byteLength, MADV_DONTNEED);
}
