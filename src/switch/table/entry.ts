// An entry of the table as an object: for lists, not for frames.
import { ENTRY_META, ENTRY_OWNER, ENTRY_SINCE, OWNER_CLIENT, OWNER_KIND_SHIFT } from "./layout.ts";
import { type Match, readKey } from "./pattern.ts";

/** In the order of KIND_MATCH... */
const KINDS = ["match", "claim", "dhcp", "group", "owned"] as const;

export interface Entry {
  readonly entry: number;
  readonly client: number;
  readonly kind: (typeof KINDS)[number];
  /** a group: its address and port are `dst` and `dport`; an owned address: `dst`; DHCP: the id is word 0 of `dst` */
  readonly match: Match;
  /** when it began, by the table's clock */
  readonly since: number;
}

/** @param at its place; there must be one: words[at + ENTRY_META] is not 0 */
export function readEntry(words: Int32Array, at: number, entry: number): Entry {
  const owner = words[at + ENTRY_OWNER]!;
  return {
    entry,
    client: owner & OWNER_CLIENT,
    kind: KINDS[owner >>> OWNER_KIND_SHIFT]!,
    match: readKey(words, at),
    since: words[at + ENTRY_SINCE]!,
  };
}

export const isEntry = (words: Int32Array, at: number): boolean => words[at + ENTRY_META] !== 0;
