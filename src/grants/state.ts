// What a permission server remembers, and where: a SQLite file for one machine, etcd for a fleet; chosen by URL.
//
//   sqlite:/var/lib/netd/grants.db        etcd://10.0.0.1:2379,10.0.0.2:2379/netd        etcds:// for TLS
//
// Several servers may share one: a serial number is given once, and lists follow one another by compare-and-swap.
import { Denied } from "./denied.ts";
import type { Detail } from "./scope.ts";

/** A grant that was issued; its jti is its serial number. */
export interface Issued {
  readonly serial: number;
  readonly subject: string;
  /** thumbprints of the key that it is bound to, and of the key that asked for it */
  readonly holder: string;
  readonly asker: string;
  readonly hosts: readonly string[];
  readonly details: readonly Detail[];
  readonly from: number;
  readonly until: number;
}

export interface Revoked {
  /** jti */
  readonly id: string;
  /** when its grant ends by itself: it need not be on a list after that */
  readonly until: number;
  readonly why: string;
}

export interface State {
  /** A number that nobody was given before. */
  serial(): Promise<number>;
  add(grant: Issued): Promise<void>;
  grant(serial: number): Promise<Issued | undefined>;
  /** By serial number. */
  grants(): Promise<Issued[]>;
  /** What was revoked before stays as it was. */
  revoke(revoked: Revoked): Promise<void>;
  revoked(): Promise<Revoked[]>;
  /** The list as it was signed last. */
  list(): Promise<string | undefined>;
  /** Takes the next list, if `before` is still the last one. Returns whether it was. */
  publish(list: string, before: string | undefined): Promise<boolean>;
  /** Whether this id was never seen before; it is remembered for so many seconds. */
  once(id: string, seconds: number): Promise<boolean>;
  /** Forgets grants and revocations that ended before. */
  prune(now: number): Promise<void>;
  close(): void;
}

/** @throws Denied for a URL of neither kind */
export async function openState(url: string): Promise<State> {
  if (url.startsWith("sqlite:"))
    return new (await import("./sqlite.ts")).SqliteState(url.slice("sqlite:".length));
  if (/^etcds?:\/\//.test(url)) return new (await import("./etcdstate.ts")).EtcdState(url);
  throw new Denied("malformed", `state ${url}: expected sqlite:FILE, or etcd://HOST:PORT/PREFIX`);
}
