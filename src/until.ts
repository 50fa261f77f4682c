// Waiting for the end: of the time that was asked for, or SIGINT or SIGTERM, with a tick every second meanwhile.

/** Calls `tick` every second. Resolves after `seconds` (never, if undefined) or at a signal, which then does nothing else. */
export function untilStopped(seconds: number | undefined, tick: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const clear = () => {
      clearInterval(ticker);
      clearTimeout(timer);
      process.off("SIGINT", done);
      process.off("SIGTERM", done);
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
    process.on("SIGINT", done);
    process.on("SIGTERM", done);
  });
}
