// Waiting for a condition instead of for a time.

type Falsy = false | 0 | "" | null | undefined;

/** Returns what `look` gives once that is truthy. @throws Error naming `what`, as it is by then, after `ms` */
export async function until<T>(
  what: string | (() => string | Promise<string>),
  look: () => T | Promise<T>,
  ms = 15_000,
): Promise<Exclude<T, Falsy>> {
  const end = performance.now() + ms;
  for (let pause = 0; ; pause = Math.min(pause + 1, 10)) {
    const seen = await look();
    if (seen) return seen as Exclude<T, Falsy>;
    if (performance.now() > end)
      throw new Error(`waited ${ms} ms for ${typeof what === "string" ? what : await what()}`);
    await Bun.sleep(pause);
  }
}
