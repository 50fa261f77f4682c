// The switch table in shared memory: where everything lies, in words. Written by the control Worker (table.ts,
// clients.ts), read by the net Workers (find.ts) and whoever shows it. All from the capacity alone.
//
//   header      version, seed, clock, the active pattern lists, how far each net Worker's requests are answered
//   patterns    a family: two lists, of which one is active; a pattern is 12 words, the list ends with a word 0
//   clients     16 words a client: one cache line
//   IPv4, IPv6  a half of the table each, of buckets: as many as hold all matches there may be, and one more a client
//               (addresses that clients alone have), one in a bucket on average
//     tags      one word a bucket: how many entries are behind this bucket because it was full, then a tag of each of its
//               places 1, 2 and 3: 0 for none, else 0x80 and seven bits of the hash
//     entries   IPv4: three in a cache line of its own; IPv6: a cache line each
//   more        two words an entry, that no search for a frame needs
//   destinations  a bit for each that the hash of a match's destination says
//
// So a search that finds nothing costs a word of tags, which are small enough to stay in the second-level cache, and one
// that finds something one line more. An entry never moves. Its number says where it is: its bucket, and in the
// low two bits its place; IPv6's come after IPv4's.
import type { SwitchCapacity } from "../boot.ts";

// Header words.
export const H_VERSION = 0; // another one after each change that a search could see
export const H_SEED = 1;
export const H_NOW = 2; // seconds, turned by the control Worker: what touches are measured in
export const H_PATTERNS = 3; // word offset of the active list, IPv4; IPv6 in the next word
export const H_EPOCH = 5; // for mem/epoch.ts
export const H_ENTRIES = 6; // how many are taken
export const H_OPEN = 7; // IPv4 matches whose destination is several addresses; IPv6 in the next word
export const H_WILD = 9; // those of any destination, which are this host's; IPv6 in the next word
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

// Buckets.
export const PLACES = 3; // 1 to 3
/** Where the tag of place `n` is in the word of tags. */
export const tagShift = (n: number): number => (PLACES - n) << 3;
export const NUMBER_SHIFT = 2; // from an entry's number to its bucket
export const NUMBER_PLACE = 3; // and the bits that are its place
export const BEHIND_SHIFT = 24; // in the word of tags
export const BEHIND_MOST = 255;
export const BUCKET4_SHIFT = 4; // words
export const BUCKET6_WORDS = 48;

// Words of an entry. Values are masked by the pattern. Addresses have one word each, or four.
export const ENTRY_META = 0; // pattern | protocol (pattern.ts); 0: no entry
export const ENTRY_PORTS = 1; // source port in the low half, destination port in the high one, as in a header
export const ENTRY_OWNER = 2; // client's slot | kind << 24
export const ENTRY_DST = 3;
export const ENTRY4_SRC = 4;
export const ENTRY4_WORDS = 5;
export const ENTRY6_SRC = 7;
export const ENTRY6_WORDS = 16;
// A key is written as an IPv6 entry, whatever its family: an IPv4 address has three words 0.
export const KEY_SRC = ENTRY6_SRC;
export const KEY_WORDS = 11;
// Words of `more`.
export const MORE_SHIFT = 1;
export const MORE_SINCE = 0; // seconds
export const MORE_NEXT = 1; // a group's next member: the number of its entry
export const OWNER_KIND_SHIFT = 24;
export const OWNER_CLIENT = 0xffffff;

// What an entry is.
export const KIND_MATCH = 0;
export const KIND_CLAIM = 1;
export const KIND_DHCP = 2;
export const KIND_GROUP = 3;
export const KIND_OWNED = 4;
/** Where a group's members begin: nobody's. */
export const KIND_HEAD = 5;

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

/** How many entries may be taken. */
export const entryCount = ({ clients, matches }: SwitchCapacity): number => matches + clients;

const MOST = 2 ** 24;
const DESTINATION_BITS = 8; // a match
const FULL_BUCKET = 1.125; // entries in it, on average, when all are taken: few buckets overflow, which guesses (ahead.ts) end at

const bucketCount = (capacity: SwitchCapacity): number =>
  2 ** Math.max(Math.ceil(Math.log2(entryCount(capacity) / FULL_BUCKET)), 2);

/** What is as long as entries' numbers go. */
export const numberCount = (capacity: SwitchCapacity): number => bucketCount(capacity) << (NUMBER_SHIFT + 1);

/** The half of the table that is one family's. */
export interface Half {
  readonly tags: number;
  /** where place 0 of the first bucket would be */
  readonly entries: number;
  /** buckets - 1 */
  readonly mask: number;
  readonly bucketWords: number;
  readonly entryWords: number;
  /** words of an address */
  readonly addressWords: number;
  /** number of the first bucket, as an entry's */
  readonly first: number;
}

export interface Layout {
  readonly capacity: SwitchCapacity;
  /** the two pattern lists of IPv4, then those of IPv6 */
  readonly patterns: readonly [number, number, number, number];
  readonly clients: number;
  readonly four: Half;
  readonly six: Half;
  readonly more: number;
  readonly destinations: number;
  /** how far down a hash's high bits are a destination's bit */
  readonly destinationShift: number;
  readonly bytes: number;
}

export function layout(capacity: SwitchCapacity): Layout {
  const { clients, matches } = capacity;
  if (clients < 1 || clients > OWNER_CLIENT || matches < 1 || matches > MOST)
    throw new RangeError(`switch table for ${clients} clients and ${matches} matches: 1 to 2^24 of each`);
  let next = H_ANSWERED + WORKERS;
  const take = (words: number): number => {
    const at = next;
    next += Math.ceil(words / 16) * 16;
    return at;
  };
  const buckets = bucketCount(capacity);
  const destinationBits = Math.min(
    Math.max(Math.ceil(Math.log2(entryCount(capacity) * DESTINATION_BITS)), 9),
    27,
  );
  const half = (bucketWords: number, entryWords: number, addressWords: number, first: number): Half => ({
    tags: take(buckets),
    entries: take(buckets * bucketWords) - entryWords,
    mask: buckets - 1,
    bucketWords,
    entryWords,
    addressWords,
    first,
  });
  return {
    capacity,
    patterns: [take(LIST_WORDS), take(LIST_WORDS), take(LIST_WORDS), take(LIST_WORDS)],
    clients: take(clients * CLIENT_WORDS),
    four: half(1 << BUCKET4_SHIFT, ENTRY4_WORDS, 1, 0),
    six: half(BUCKET6_WORDS, ENTRY6_WORDS, 4, buckets << NUMBER_SHIFT),
    more: take(numberCount(capacity) << MORE_SHIFT),
    destinations: take(1 << (destinationBits - 5)),
    destinationShift: 32 - destinationBits,
    bytes: next * 4,
  };
}

/** The half that an entry is in, by its number. */
export const halfOf = (at: Layout, entry: number): Half => (entry < at.six.first ? at.four : at.six);

/** Where an entry's words are. */
export function placeOf(at: Layout, entry: number): number {
  const half = halfOf(at, entry);
  const bucket = (entry - half.first) >>> NUMBER_SHIFT;
  return half.entries + bucket * half.bucketWords + (entry & NUMBER_PLACE) * half.entryWords;
}

/** Bytes of the table's region. */
export const tableBytes = (capacity: SwitchCapacity): number => layout(capacity).bytes;
