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

/** A grant that was presented and has not ended. */
export interface PresentedGrant {
  readonly grant: string;
  readonly issuer: string;
  readonly subject: string;
  readonly ids: readonly string[];
  /** seconds since 1970 */
  readonly until: number;
  /** as detailOf (grants/scope.ts) has them */
  readonly details: readonly object[];
  readonly pid: number;
  readonly uid: number;
  readonly path: string;
}

/** What of grants an operator may want to know, in place of what was told before. */
export interface GrantNews {
  readonly type: "grants";
  readonly warnings: readonly string[];
  readonly grants: readonly PresentedGrant[];
}

/** Which programs of this host get nothing of a port that they bound, in place of what was told before (shadow.ts). */
export interface Shadowed {
  readonly type: "shadows";
  readonly warnings: readonly string[];
}

/** It has gone; its slot may be another's afterwards. */
export interface ClientLeft {
  readonly type: "left";
  readonly slot: number;
}
