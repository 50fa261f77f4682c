// The differential test's seed.

/** A seed of this run: NETD_SEED, CI's (.ci/run), or a new one. */
export const seedOf = (): number =>
  Number(process.env["NETD_SEED"] ?? process.env["CI_SEED"] ?? (Math.random() * 2 ** 31) | 0);
