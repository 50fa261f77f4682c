// A Worker of ours from the main thread's side: boot message in, "ready" or an error out; stopped by its control
// region's flag and its eventfd, because a Worker in its loop hears nothing else.
import { check, SysError } from "../ffi/errno.ts";
import { libc } from "../ffi/libc.ts";
import { ptr } from "../ffi/memory.ts";
import { Control } from "./mem/control.ts";
import { Region, type RegionRef } from "./mem/region.ts";

const EFD_CLOEXEC_NONBLOCK = 0o2004000;
const ETIMEDOUT = 110;
const START_MS = 60_000;
const STOP_MS = 10_000;

export type Message = { type: string; message?: string };

/** Our Workers' entry files. Here, because the compiled binary resolves them against src/ and no other folder. */
const entries = {
  netlink: new URL("./netlink/worker.ts", import.meta.url),
  net: new URL("./xdp/worker.ts", import.meta.url),
  control: new URL("./control/worker.ts", import.meta.url),
  traffic: new URL("./lab/worker.ts", import.meta.url),
};

/** What every boot message has: how the Worker is stopped, and where it counts. */
export interface Reins {
  readonly control: RegionRef;
  readonly wakeFd: number;
}

export class Thread<Name extends string = string> {
  readonly name: string;
  readonly control: Control<Name>;
  readonly reins: Reins;
  /** Rejects if the Worker dies or reports an error after it was ready. */
  readonly failed: Promise<never>;
  private readonly region: Region;
  private readonly worker: Worker;
  private fail!: (error: Error) => void;
  private heard: (message: Message) => void = () => {};
  private timer: Timer | undefined;
  private stopped = false;

  /**
   * Starts nothing that runs yet: the Worker waits for its boot message.
   * @param told is given every message of the Worker
   */
  constructor(
    name: string,
    entry: keyof typeof entries,
    counters: readonly Name[],
    told: (message: Message) => void = () => {},
  ) {
    this.name = name;
    this.region = Region.create(`netd-${name}`, Control.bytes(counters));
    this.control = new Control(this.region, counters);
    const wakeFd = check(`eventfd for ${name}`, libc.eventfd(0, EFD_CLOEXEC_NONBLOCK));
    this.reins = { control: this.region.ref, wakeFd };
    this.failed = new Promise((_, reject) => {
      this.fail = reject;
    });
    this.failed.catch(() => {}); // whoever waits for it sees it; nobody else has to
    this.worker = new Worker(entries[entry].href, { name: `netd-${name}` });
    this.worker.onmessage = (event: MessageEvent<Message>) => {
      if (event.data.type === "error") this.fail(new Error(`${name}: ${event.data.message}`));
      this.heard(event.data);
      told(event.data);
    };
    this.worker.onerror = (event) => this.fail(new Error(`${name}: ${event.message}`));
  }

  /** Boots the Worker and waits for its first message of type `ready`. @throws also the reason of an abort */
  async boot(message: object, ready: string, signal?: AbortSignal): Promise<void> {
    const answered = this.hear(ready, START_MS);
    this.worker.postMessage({ ...message, ...this.reins });
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(signal!.reason);
    signal?.addEventListener("abort", abort);
    try {
      await Promise.race([answered, this.failed, aborted.promise]);
      signal?.throwIfAborted();
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Wakes the Worker if it sleeps. */
  wake(): void {
    libc.write(this.reins.wakeFd, ptr(new BigUint64Array(new ArrayBuffer(8)).fill(1n)), 8);
  }

  /** Asks it to leave its loop and waits until it has. Its counters can still be read, until close(). */
  async stop(): Promise<void> {
    if (this.stopped) return;
    this.stopped = true;
    const stopped = this.hear("stopped", STOP_MS);
    this.control.stop();
    this.wake();
    // A Worker that failed has stopped in its own way.
    await Promise.race([stopped, this.failed]).catch(() => {});
    await this.worker.terminate();
  }

  /** Stops it, and frees what it shared. */
  async close(): Promise<void> {
    await this.stop();
    libc.close(this.reins.wakeFd);
    this.region.close();
  }

  /** The next message of this type; instead of one that was waited for before. */
  private hear(type: string, timeoutMs: number): Promise<void> {
    clearTimeout(this.timer);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new SysError(`wait for ${this.name} to be ${type}`, ETIMEDOUT, `${timeoutMs} ms`)),
        timeoutMs,
      );
      this.timer = timer;
      this.heard = (message) => {
        if (message.type !== type) return;
        clearTimeout(timer);
        resolve();
      };
      this.failed.catch(() => clearTimeout(timer));
    });
  }
}
