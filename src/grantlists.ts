// The revocation lists on the main thread: those that come from servers are followed, checked and kept in a file each, which
// the control Worker reads as it reads any other; so a start without the server begins with what was known last. A list that
// is forged, or older than the one that is kept, never gets there.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { check } from "../ffi/errno.ts";
import { libc } from "../ffi/libc.ts";
import { ptr } from "../ffi/memory.ts";
import type { Config } from "./config.ts";
import type { GrantSettings } from "./control/grants.ts";
import { follow, isServer } from "./grants/follow.ts";
import { parseIssuer, sha256 } from "./grants/keys.ts";
import { type ListClaims, readList } from "./grants/revocation.ts";

const EFD_CLOEXEC_NONBLOCK = 0o2004000;

type GrantConfig = Config["grants"];

/** Where a source's list is read from: the file that it is, or that its last list is kept in. */
const fileOf = ({ directory }: GrantConfig, source: string): string =>
  isServer(source) ? join(directory, `revocations-${sha256(source).slice(0, 12)}.jws`) : source;

/** As the control Worker takes it. */
export const grantSettings = (config: GrantConfig): GrantSettings => ({
  host: config.host ?? hostname(),
  interfaces: config.interfaces,
  users: config.users,
  exempt: config.exempt,
  issuers: config.issuers,
  policy: config.policy,
  lists: config.revocations.map((source) => fileOf(config, source)),
  listSeconds: config.listSeconds,
  skewSeconds: config.skewSeconds,
});

export class GrantLists {
  /** Readable when one of the files is another. */
  readonly heardFd: number;
  private readonly config: GrantConfig;
  private readonly faults = new Map<string, string>();
  private readonly stop = new AbortController();
  private readonly running: Promise<void>[];

  /** Begins to follow. @throws Error if there is no place to keep lists */
  constructor(config: GrantConfig) {
    this.config = config;
    const servers = config.revocations.filter(isServer);
    if (servers.length > 0) mkdirSync(config.directory, { recursive: true, mode: 0o755 });
    this.heardFd = check("eventfd for grants", libc.eventfd(0, EFD_CLOEXEC_NONBLOCK));
    this.running = servers.map((source) => this.follow(source, fileOf(config, source)));
  }

  /** What an operator should know. */
  get warnings(): string[] {
    return [...this.faults].map(([source, fault]) => `grants: ${source}: ${fault}`);
  }

  async close(): Promise<void> {
    this.stop.abort();
    await Promise.all(this.running);
    libc.close(this.heardFd);
  }

  private follow(source: string, path: string): Promise<void> {
    let kept: ListClaims | undefined;
    try {
      kept = this.read(readFileSync(path, "utf8"));
    } catch {
      // None yet, or one that is not to be believed: any that comes is newer.
    }
    const fault = (message: string): void => {
      if (message === "") this.faults.delete(source);
      else this.faults.set(source, message);
    };
    const heard = (text: string): boolean => {
      try {
        const list = this.read(text);
        if (kept && list.version < kept.version)
          fault(`its revocation list has version ${list.version}, after ${kept.version}`);
        if (kept && list.version <= kept.version) return false;
        const made = `${path}.${process.pid}`;
        writeFileSync(made, text, { mode: 0o644 });
        renameSync(made, path);
        kept = list;
        libc.write(this.heardFd, ptr(new BigUint64Array(new ArrayBuffer(8)).fill(1n)), 8);
        return true;
      } catch (error) {
        fault((error as Error).message);
        return false;
      }
    };
    return follow(source, { heard, version: () => kept?.version, fault }, this.stop.signal);
  }

  /** @throws Denied, or what reading the issuers' files throws */
  private read(text: string): ListClaims {
    const issuers = this.config.issuers.map((path) => parseIssuer(readFileSync(path, "utf8"), path));
    return readList(text, issuers);
  }
}
