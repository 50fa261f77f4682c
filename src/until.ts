// Waiting for the end: of the time that was asked for, or SIGINT or SIGTERM, with a tick every second meanwhile.

/** A signal came before everything ran: no failure. */
export class Interrupted extends Error {
  constructor() {
    super("interrupted while starting");
  }
}

/** Takes the first SIGINT or SIGTERM from when it is made until `dispose`; a second one ends the process as ever. */
export class EndSignals {
  private readonly controller = new AbortController();
  private readonly end = () => {
    this[Symbol.dispose]();
    this.controller.abort(new Interrupted());
  };

  constructor() {
    process.on("SIGINT", this.end);
    process.on("SIGTERM", this.end);
  }

  /** Aborted by the signal, its reason an Interrupted. */
  get signal(): AbortSignal {
    return this.controller.signal;
  }

  [Symbol.dispose](): void {
    process.off("SIGINT", this.end);
    process.off("SIGTERM", this.end);
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
