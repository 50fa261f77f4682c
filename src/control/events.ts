// What the control Worker tells the main thread while it runs: its counters, and clients that come and go.

/** What the control plane counts. */
export const CONTROL_COUNTERS = [
  "clients",
  "attached",
  "detached",
  "requests",
  "refused",
  "answersLost",
  "unheard",
  "entries",
  "claimsGranted",
  "claimsRefused",
  "claimsEvicted",
  "claimsExpired",
  "grantsTaken",
  "grantsDenied",
  "grantsEnded",
] as const;

/** A client has come; the table has the rest (CLIENT_* of layout.ts). */
export interface ClientCame {
  readonly type: "client";
  readonly slot: number;
  /** where it is bound, or the path of its static channel */
  readonly path: string;
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** what its slot's counters stood at when it came (account.ts) */
  readonly base: Float64Array;
}

/** What of grants an operator should know, in place of what was told before. */
export interface GrantWarnings {
  readonly type: "grants";
  readonly warnings: readonly string[];
}

/** It has gone; its slot may be another's afterwards. */
export interface ClientLeft {
  readonly type: "left";
  readonly slot: number;
}
