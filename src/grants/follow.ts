// Where revocation lists come from, but for files: a permission server, asked again and again for a newer one, or etcd's key,
// watched. Either tells a new list as it comes; when it fails it is tried again, less and less often.
import { setTimeout } from "node:timers/promises";
import { type Server, ServerError, page } from "./client.ts";
import { Etcd } from "./etcd.ts";
import { LIST } from "./etcdstate.ts";

const FIRST_MS = 200;
const MOST_MS = 10_000;

/** Whether a source is a server, and no file. */
export const isServer = (source: string): boolean => /^(https?|etcds?):\/\/|^unix:/.test(source);

export interface Follower {
  /** a list came, which may be any text */
  readonly heard: (text: string) => void;
  /** the version that is known by now */
  readonly version: () => number | undefined;
  /** why nothing comes; "" when something does again */
  readonly fault: (message: string) => void;
}

/** Follows a source until `signal` is aborted; never throws. */
export async function follow(source: string, follower: Follower, signal: AbortSignal): Promise<void> {
  for (let wait = FIRST_MS; !signal.aborted; wait = Math.min(wait * 2, MOST_MS)) {
    const heard = (text: string) => {
      wait = FIRST_MS;
      follower.fault("");
      follower.heard(text);
    };
    try {
      if (/^etcds?:/.test(source)) await new Etcd(source).watch(LIST, heard, signal);
      else await poll({ url: source }, heard, follower, signal);
    } catch (error) {
      if (signal.aborted) return;
      follower.fault((error as Error).message);
    }
    await setTimeout(wait, undefined, { signal }).catch(() => {});
  }
}

async function poll(
  server: Server,
  heard: (text: string) => void,
  { version }: Follower,
  signal: AbortSignal,
): Promise<void> {
  for (let before: number | undefined; !signal.aborted; ) {
    const known = version();
    // A list that was not taken is not asked for at once again.
    if (before !== undefined && known === before) return;
    const after = known === undefined ? "" : `?after=${known}`;
    const response = await page(server, `/revocations${after}`, { signal });
    if (response.status === 204) continue;
    if (!response.ok) throw new ServerError(`${server.url}: ${response.status} ${await response.text()}`);
    before = known ?? -1;
    heard(await response.text());
  }
}
