// Keeps every other thread off the CPUs that net Workers are pinned to. Bun's JIT helper threads are cloned by the
// thread that asks for a compile and inherit its CPU, end when idle and come back: a pinned Worker starves its own
// compiler, and is starved by it. So they are moved away again and again, from the main thread.
import { readdirSync, readFileSync } from "node:fs";
import { libc } from "../ffi/libc.ts";
import { ptr } from "../ffi/memory.ts";

const EVERY_MS = 50;
const PR_SET_NAME = 15;
const MASK_BYTES = 128;

/** The name that a pinned thread gives itself (at most 15 bytes), by which it is left where it is. */
const PINNED = "netd-pinned\0";

/** For the pinned thread itself: stays on `core`, and says so. Returns false if the kernel refuses the core. */
export function pinSelf(core: number): boolean {
  const mask = new Uint8Array(new ArrayBuffer(MASK_BYTES));
  mask[core >> 3] = 1 << (core & 7);
  if (libc.sched_setaffinity(0, MASK_BYTES, ptr(mask)) < 0) return false;
  const name = new Uint8Array(new ArrayBuffer(16));
  Buffer.from(name.buffer).write(PINNED);
  libc.prctl(PR_SET_NAME, ptr(name), 0, 0, 0);
  return true;
}

/** Moves all other threads of this process off `cores`, now and every so often, until it is stopped. */
export function keepClear(cores: readonly number[]): { stop(): void } {
  const mask = new Uint8Array(new ArrayBuffer(MASK_BYTES));
  libc.sched_getaffinity(0, MASK_BYTES, ptr(mask));
  for (const core of cores) mask[core >> 3] = mask[core >> 3]! & ~(1 << (core & 7));
  if (mask.every((bits) => bits === 0)) return { stop() {} }; // nowhere to go
  const move = () => {
    for (const tid of readdirSync("/proc/self/task"))
      if (commandOf(tid) !== PINNED.slice(0, -1)) libc.sched_setaffinity(Number(tid), MASK_BYTES, ptr(mask));
  };
  move();
  const timer = setInterval(move, EVERY_MS);
  return { stop: () => clearInterval(timer) };
}

function commandOf(tid: string): string {
  try {
    return readFileSync(`/proc/self/task/${tid}/comm`, "utf8").trimEnd();
  } catch {
    return ""; // ended meanwhile
  }
}
