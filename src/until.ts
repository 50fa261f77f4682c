// Waiting for the end: of the time that was asked for, or SIGINT, SIGTERM or SIGHUP, with a tick every second meanwhile.
import { readFileSync } from "node:fs";

const SIGHUP = 1;

/** SIGHUP, when the terminal goes: but not for whom `nohup` protects from it. */
const endings = (): NodeJS.Signals[] => {
  const ignored = readFileSync("/proc/self/status", "latin1").match(/^SigIgn:\s*([0-9a-f]+)/m)?.[1] ?? "0";
  const protectedFromHangup = (BigInt(`0x${ignored}`) & (1n << BigInt(SIGHUP - 1))) !== 0n;
  return protectedFromHangup ? ["SIGINT", "SIGTERM"] : ["SIGINT", "SIGTERM", "SIGHUP"];
};

/** A signal came before everything ran: no failure. */
export class Interrupted extends Error {
  constructor() {
    super("interrupted while starting");
  }
}

/** Takes the first of these signals from when it is made until `dispose`; a second one ends the process as ever. */
export class EndSignals {
  private readonly controller = new AbortController();
  private readonly signals = endings();
  private readonly end = () => {
    this[Symbol.dispose]();
    this.controller.abort(new Interrupted());
  };

  constructor() {
    for (const name of this.signals) process.on(name, this.end);
  }

  /** Aborted by the signal, its reason an Interrupted. */
  get signal(): AbortSignal {
    return this.controller.signal;
  }

  [Symbol.dispose](): void {
    for (const name of this.signals) process.off(name, this.end);
  }
}

/**
 * Calls `tick` every second. Resolves after `seconds` (never, if undefined), or when `signal` is aborted; rejects as soon
 * as one of `failures` does. Once it is settled there is no tick more: what it reads may be unmapped then.
 */
export function untilStopped(
  seconds: number | undefined,
  tick: () => void,
  signal: AbortSignal,
  failures: readonly Promise<never>[],
): Promise<void> {
  return new Promise((resolve, reject) => {
    const clear = () => {
      clearInterval(ticker);
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
    };
    const done = () => {
      clear();
      resolve();
    };
    const ticker = setInterval(() => {
      try {
        tick();
      } catch (error) {
        clear();
        reject(error);
      }
    }, 1000);
    const timer = seconds === undefined ? undefined : setTimeout(done, seconds * 1000);
    signal.addEventListener("abort", done);
    for (const failure of failures)
      failure.catch((error) => {
        clear();
        reject(error);
      });
    if (signal.aborted) done();
  });
}
