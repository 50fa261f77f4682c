// What the configuration gives to who connects by memif with a certain id (memif.clients): a line of words.
//
//   "0 udp:53 tcp:8080:10.0.0.0/8"               endpoints on the card's own addresses, as switch.static has them
//   "1 10.9.0.0/16 mac=02:00:00:00:00:01"        all packets to addresses that are not the card's, and a MAC of its own
//
// Pure.
import { parseLladdr } from "../wire/address.ts";
import type { Match } from "../switch/table/pattern.ts";
import { readPrefix } from "../wire/prefix.ts";
import { type Endpoint, everythingTo, readEndpoint } from "./wants.ts";

export interface MemifClient {
  readonly id: number;
  /** 6 bytes */
  readonly mac: Uint8Array | undefined;
  readonly endpoints: readonly Endpoint[];
  readonly matches: readonly Match[];
}

/** Undefined if it is none. */
export function readMemifClient(text: string): MemifClient | undefined {
  const [number = "", ...words] = text.trim().split(/\s+/);
  const id = Number(number);
  if (!/^[0-9]{1,10}$/.test(number) || id > 0xffff_ffff) return undefined;
  let mac: Uint8Array | undefined;
  const endpoints: Endpoint[] = [];
  const matches: Match[] = [];
  for (const word of words) {
    const endpoint = readEndpoint(word);
    const prefix = readPrefix(word);
    if (word.startsWith("mac=")) {
      mac = parseLladdr(word.slice(4));
      if (mac?.length !== 6 || (mac[0]! & 1) !== 0) return undefined;
    } else if (endpoint !== undefined) endpoints.push(endpoint);
    else if (prefix !== undefined) matches.push(...everythingTo(prefix));
    else return undefined;
  }
  return { id, mac, endpoints, matches };
}
