// The revocation lists on the main thread: those that come from servers are fetched, checked and kept in a file each, which
// the control Worker reads; so a start without a server begins with what was known last.
import { hostname } from "node:os";
import { check } from "../ffi/errno.ts";
import { libc } from "../ffi/libc.ts";
import type { Config } from "./config.ts";
import type { GrantSettings } from "./control/grants.ts";

const EFD_CLOEXEC_NONBLOCK = 0o2004000;

type GrantConfig = Config["grants"];

/** As the control Worker takes it. */
export const grantSettings = (config: GrantConfig): GrantSettings => ({
  host: config.host ?? hostname(),
  interfaces: config.interfaces,
  users: config.users,
  exempt: config.exempt,
  issuers: config.issuers,
  policy: config.policy,
  lists: config.revocations,
  listSeconds: config.listSeconds,
  skewSeconds: config.skewSeconds,
});

export class GrantLists {
  /** Readable when one of the files has changed. */
  readonly heardFd: number;
  readonly warnings: readonly string[] = [];

  constructor(_config: GrantConfig) {
    this.heardFd = check("eventfd for grants", libc.eventfd(0, EFD_CLOEXEC_NONBLOCK));
  }

  close(): void {
    libc.close(this.heardFd);
  }
}
