// The switch table in shared memory: where everything lies, in words. Written by the control Worker (table.ts,
// clients.ts), read by the net Workers (find.ts) and whoever shows it. All from the capacity alone.
//
//   header      version, seed, clock, the active pattern lists, how far each net Worker's requests are answered
//   patterns    a family: two lists, of which one is active; a pattern is 12 words, the list ends with a word 0
//   clients     16 words a client: one cache line
//   slots       open addressing, linear probing, one word a slot: tag (the hash's high bits) | number of an entry
//   entries     16 words an entry, numbered from 1: one cache line. As many as matches, and one more a client: addresses
//               that clients alone have
//
// A search that finds nothing costs one cache line of slots, sixteen a line and a third of them taken at most; one that finds
// something costs that and the entry.
import type { SwitchCapacity } from "../boot.ts";

// Header words.
export const H_VERSION = 0; // another one after each change that a search could see
export const H_SEED = 1;
export const H_NOW = 2; // seconds, turned by the control Worker: what touches are measured in
export const H_PATTERNS = 3; // word offset of the active list, IPv4; IPv6 in the next word
export const H_EPOCH = 5; // for mem/epoch.ts
export const H_ENTRIES = 6; // how many are taken
export const H_ANSWERED = 16; // requests answered so far, a word a net Worker
export const WORKERS = 64;

// Words of a pattern: META with protocol 0, and what it leaves of a header's words.
export const PATTERN_WORDS = 12;
export const PATTERN_META = 0;
export const PATTERN_PORTS = 1;
export const PATTERN_DST = 2;
export const PATTERN_SRC = 6;
/** Patterns beside the exact and the listening one of each family: as many as the XDP program goes through. */
export const WILD_PATTERNS = 32;
const LIST_WORDS = (WILD_PATTERNS + 3) * PATTERN_WORDS;

// Words of an entry. Values are masked by the pattern; IPv4 addresses have three words 0.
export const ENTRY_SHIFT = 4;
export const ENTRY_WORDS: number = 1 << ENTRY_SHIFT;
export const ENTRY_DST = 0;
export const ENTRY_SRC = 4;
export const ENTRY_PORTS = 8; // source port in the low half, destination port in the high one, as in a header
export const ENTRY_META = 9; // pattern | protocol (pattern.ts); 0: no entry
export const ENTRY_OWNER = 10; // client's slot | kind << 24
export const ENTRY_NEXT = 11; // a group's next member
export const ENTRY_SINCE = 12; // seconds
export const OWNER_KIND_SHIFT = 24;
export const OWNER_CLIENT = 0xffffff;

// What an entry is.
export const KIND_MATCH = 0;
export const KIND_CLAIM = 1;
export const KIND_DHCP = 2;
export const KIND_GROUP = 3;
export const KIND_OWNED = 4;

// Words of a client.
export const CLIENT_WORDS = 16;
export const CLIENT_GEN = 0; // odd: there is one; another one with each
export const CLIENT_FD = 1; // the daemon's end of its channel
export const CLIENT_MAC0 = 2; // bytes 0..3
export const CLIENT_MAC1 = 3; // bytes 4 and 5
export const CLIENT_MTU = 4;
export const CLIENT_FLAGS = 5; // bits, below
export const CLIENT_HOME = 6; // the net Worker that receives from it
export const CLIENT_RATE_PPS = 7; // frames a second that it may send; 0: any number
export const CLIENT_PID = 8;
export const CLIENT_UID = 9;
export const CLIENT_GID = 10;
export const CLIENT_SINCE = 11; // seconds
export const CLIENT_ACK_FD = 12; // where it hears what became of its frames (acks.ts)

// CLIENT_FLAGS: packets to the client, or from it, are judged by filters (filters/); it hears what became of its frames.
export const FILTERS_TO = 1;
export const FILTERS_FROM = 2;
export const ACKNOWLEDGED = 4;

/** Entries that there are; their numbers are 1 to this. */
export const entryCount = ({ clients, matches }: SwitchCapacity): number => matches + clients;

export interface Layout {
  readonly capacity: SwitchCapacity;
  /** the two pattern lists of IPv4, then those of IPv6 */
  readonly patterns: readonly [number, number, number, number];
  readonly clients: number;
  readonly slots: number;
  readonly slotMask: number;
  /** the bits of a slot's word that are an entry's number; the others are its tag */
  readonly numberMask: number;
  readonly entries: number;
  readonly bytes: number;
}

export function layout(capacity: SwitchCapacity): Layout {
  const { clients, matches } = capacity;
  if (clients < 1 || clients > OWNER_CLIENT || matches < 1 || matches > 0x1000000)
    throw new RangeError(`switch table for ${clients} clients and ${matches} matches: 1 to 2^24 of each`);
  let next = H_ANSWERED + WORKERS;
  const take = (words: number): number => {
    const at = next;
    next += Math.ceil(words / 16) * 16;
    return at;
  };
  const count = entryCount(capacity);
  const bits = Math.ceil(Math.log2(count + 1));
  const slots = 2 ** Math.max(Math.ceil(Math.log2(count * 3)), 4);
  return {
    capacity,
    patterns: [take(LIST_WORDS), take(LIST_WORDS), take(LIST_WORDS), take(LIST_WORDS)],
    clients: take(clients * CLIENT_WORDS),
    slots: take(slots),
    slotMask: slots - 1,
    numberMask: 2 ** bits - 1,
    entries: take((count + 1) * ENTRY_WORDS),
    bytes: next * 4,
  };
}

/** Bytes of the table's region. */
export const tableBytes = (capacity: SwitchCapacity): number => layout(capacity).bytes;
