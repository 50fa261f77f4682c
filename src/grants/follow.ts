// Where revocation lists come from, but for files: a permission server, asked again and again for a newer one, or etcd's key,
// watched. Either tells a new list as it comes; when it fails it is tried again, less and less often.
import { setTimeout } from "node:timers/promises";
import { type Server, ServerError, page } from "./client.ts";
import { Etcd } from "./etcd.ts";
import { LIST } from "./etcdstate.ts";

const FIRST_MS = 200;
const MOST_MS = 10_000;
const ROUND_MS = 60_000;

/** Whether a source is a server, and no file. */
export const isServer = (source: string): boolean => /^(https?|etcds?):\/\/|^unix:/.test(source);

export interface Follower {
  /** a list came, which may be any text; returns whether it is newer than what was known */
  readonly heard: (text: string) => boolean;
  /** the version that is known by now */
  readonly version: () => number | undefined;
  /** why nothing comes; "" when something does again */
  readonly fault: (message: string) => void;
}

/**
 * Follows a source until `signal` is aborted; never throws.
 * @param roundMs after so long it begins anew: a connection may be dead without a word
 */
export async function follow(
  source: string,
  follower: Follower,
  signal: AbortSignal,
  roundMs = ROUND_MS,
): Promise<void> {
  let wait = FIRST_MS;
  const heard = (text: string): boolean => {
    follower.fault("");
    const isNew = follower.heard(text);
    if (isNew) wait = FIRST_MS;
    return isNew;
  };
  while (!signal.aborted) {
    const round = AbortSignal.any([signal, AbortSignal.timeout(roundMs)]);
    try {
      if (/^etcds?:/.test(source)) await new Etcd(source).watch(LIST, heard, round);
      else await poll({ url: source }, heard, follower, round);
    } catch (error) {
      if (!round.aborted) follower.fault((error as Error).message);
    }
    if (round.aborted) continue;
    await setTimeout(wait, undefined, { signal }).catch(() => {});
    wait = Math.min(wait * 2, MOST_MS);
  }
}

/** Asks for a newer list than is known, until one comes that is not: who answers so is not asked again at once. */
async function poll(
  server: Server,
  heard: (text: string) => boolean,
  { version }: Follower,
  signal: AbortSignal,
): Promise<void> {
  for (let isNew = true; isNew; ) {
    const known = version();
    const after = known === undefined ? "" : `?after=${known}`;
    const response = await page(server, `/revocations${after}`, { signal });
    if (response.status === 204) continue;
    if (!response.ok) throw new ServerError(`${server.url}: ${response.status} ${await response.text()}`);
    isNew = heard(await response.text());
  }
}
