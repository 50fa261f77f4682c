// Pauses of a loop, and what of them is the machine's: the time in which another thread had the core.
import { cstring, libc } from "../ffi/libc.ts";
import { ptr } from "../ffi/memory.ts";

/** Shorter pauses are not looked into. */
const LOOK_NS = 100_000;
const PREAD64 = 17;

/** How long this thread was ready to run while another had its core: run delay of /proc/thread-self/schedstat. */
class RunDelay {
  private readonly fd = libc.open(cstring("/proc/thread-self/schedstat"), 0o2000000, 0);
  private readonly text = new Uint8Array(new ArrayBuffer(64));
  private last = 0;

  constructor() {
    this.since();
  }

  /** Nanoseconds of it since the last call. No allocation. */
  since(): number {
    const { text } = this;
    const n = Number(libc.syscall(PREAD64, this.fd, Number(ptr(text)), text.length, 0, 0, 0));
    let delay = 0;
    let spaces = 0;
    for (let i = 0; i < n && spaces < 2; i++) {
      if (text[i] === 0x20) spaces++;
      else if (spaces === 1) delay = delay * 10 + text[i]! - 0x30;
    }
    const since = delay - this.last;
    this.last = delay;
    return since;
  }
}

/** The longest times between two turns, from now on: in nanoseconds. */
export class Pauses {
  longest = 0;
  /** The same without the time in which another thread had the core. */
  running = 0;
  private readonly delay = new RunDelay();
  private last = Bun.nanoseconds();

  /** A turn has ended; returns when. No allocation. */
  turn(): number {
    const now = Bun.nanoseconds();
    const pause = now - this.last;
    this.last = now;
    if (pause > this.longest) this.longest = pause;
    if (pause > LOOK_NS) {
      const onCore = pause - this.delay.since();
      if (onCore > this.running) this.running = onCore;
      this.last = Bun.nanoseconds();
    } else if (pause > this.running) this.running = pause;
    return this.last;
  }
}
