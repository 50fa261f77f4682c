// netbase's shared memory: every offset in it. One region, written by the netlink Worker alone, mapped read-only by
// everybody else. All offsets are in 32-bit words from the start of the region; sections start on pages, the first levels
// of the FIBs and large neighbour tables on huge ones.
//
//   header | link index | links | addrs | fib4 first level | fib6 first level | rows4 | rows6 | buckets4 | buckets6
//          | next-hop index | lines (next-hop records and FIB nodes) | neigh4 a, b | neigh6 a, b
//
// The memory is sparse: pages that nobody touches cost nothing, so that capacities may be generous.

export const MAGIC = 0x6e657462;

// Header. Words that readers load per packet share one cache line, those the writer changes per batch another.
export const H_MAGIC = 0;
export const H_CAPACITY = 1; // the numbers of a Capacity, in the order of capacityKeys
export const H_EPOCH = 32; // see mem/epoch.ts
export const H_RIB_SEQ = 33; // odd while a route changes: the slow lookup's seqlock
export const H_NEIGH4 = 50; // word offset of the active neighbour table
export const H_NEIGH6 = 51;
export const H_NEIGH_SEED = 52; // random, never changes
export const H_FLOW_SEED = 53; // random, never changes
export const H_HASH_POLICY4 = 54; // net.ipv4.fib_multipath_hash_policy
export const H_HASH_POLICY6 = 55;
export const H_OWN_LOCAL4 = 56; // 1: IPv4's local is a table of its own, 0: merged with main (see rib.ts)
export const H_LENGTHS4 = 96; // bitmap of the prefix lengths in use, 2 words
export const H_LENGTHS6 = 98; // 5 words
export const H_WIDE4 = 256; // by the first byte of an address, the cell that a 0 in the FIB stands for: 256 words
export const H_WIDE6 = 512;
export const H_CHANGES6 = 1024; // CHANGES6 doubles: changes of IPv6 routes since the start, and 1 (see fib6.ts)
export const CHANGES6 = 256;
export const H_STATS = 64; // 4 words a kind: entries, capacity, refused since start, 1 while something is missing

/** The kinds of rows, in the order of their statistics. */
export const KINDS = [
  "links",
  "addresses",
  "routes4",
  "routes6",
  "nexthops",
  "neighbours4",
  "neighbours6",
  "lines",
] as const;
export type Kind = (typeof KINDS)[number];

/** How many of each there may be. Any positive number works; address space is reserved, memory used as needed. */
export interface Capacity {
  readonly links: number;
  readonly addresses: number;
  readonly routes4: number;
  readonly routes6: number;
  readonly nexthops: number; // distinct next-hop records, at most 4,000,000
  readonly neighbours4: number;
  readonly neighbours6: number;
}

export const defaultCapacity: Capacity = {
  links: 16_384,
  addresses: 65_536,
  routes4: 1_500_000,
  routes6: 500_000,
  nexthops: 65_536,
  neighbours4: 65_536,
  neighbours6: 65_536,
};

export const capacityKeys = Object.keys(defaultCapacity) as (keyof Capacity)[];

/** Interface indexes from here on are refused: a neighbour's key has 24 bits for them. */
export const IFINDEX_LIMIT: number = 1 << 24;

// A link, 32 words. Readers check `LINK_SEQ` (odd while it changes) where they need more than one word of it.
export const LINK_WORDS = 32;
export const LINK_SEQ = 0;
export const LINK_IFINDEX = 1; // 0: the slot is free
export const LINK_FLAGS = 2; // IFF_*
export const LINK_MTU = 3;
export const LINK_STATE = 4; // ARPHRD_* | operstate << 16 | carrier << 24
export const LINK_SRC_HEAD = 5; // lladdr bytes 0, 1 << 16: OR into word 1 of an Ethernet header
export const LINK_SRC_TAIL = 6; // lladdr bytes 2..5: word 2 of an Ethernet header
export const LINK_LLADDR_LEN = 7;
export const LINK_MASTER = 8;
export const LINK_LINK = 9;
export const LINK_VLAN = 10; // -1 if none
export const LINK_STAMP = 11;
export const LINK_IGNORE = 12; // 1: ignore_routes_with_linkdown for IPv4, 2: for IPv6
export const LINK_LLADDR = 13; // 32 bytes
export const LINK_NAME = 21; // 16 bytes, NUL-padded
export const LINK_KIND = 25; // 16 bytes, NUL-padded

// An address, 16 words.
export const ADDR_WORDS = 16;
export const ADDR_SEQ = 0;
export const ADDR_META = 1; // family | prefixLen << 8 | scope << 16; 0: free
export const ADDR_IFINDEX = 2;
export const ADDR_FLAGS = 3; // IFA_F_*
export const ADDR_LOCAL = 4; // 4 words
export const ADDR_PEER = 8; // 4 words
export const ADDR_STAMP = 12;
export const ADDR_ORDER = 13; // rises in the order in which the kernel keeps an interface's addresses

// A route, 8 words (IPv4) or 12 (IPv6). Rows of one prefix form a list in the kernel's order; the first of them
// hangs in a bucket's chain. Row 0 is not used: 0 means none.
export const ROW_SLACK = 4096; // rows beyond the capacity, for those that wait for their epoch
export const ROW4_WORDS = 8;
export const ROW6_WORDS = 12;
export const ROW_DST = 0;
export const ROW_META = 1; // len | table << 8 | tos << 16 | type << 24; 0: free
export const ROW_PRIORITY = 2;
export const ROW_ATTR = 3; // protocol | scope << 8 | pref << 16 | ROW_MULTIPATH
export const ROW_NH = 4; // next-hop id
export const ROW_NEXT = 5; // next row of this prefix
export const ROW_STAMP = 6;
export const ROW_CHAIN = 7; // next prefix of this bucket (first rows only)
export const ROW_DST6 = 8; // words 1..3 of an IPv6 destination

// A next-hop record: one 64-byte line a leg, the legs of a multipath route one after another. Immutable once
// published. What FIB lookups return is the word offset of its first line; 0 means no route.
export const LINE_WORDS = 16;
export const NH_TYPE = 0; // RTN_* | NH_* flags | legs << 16
export const NH_OIF = 1;
export const NH_LINK = 2; // gateway family (0: the destination is on link) | RTNH_F_* << 8 | family << 16 | scope << 24
export const NH_GATEWAY = 3; // 4 words
export const NH_SRC = 7; // 4 words: the source address to use; 0 with IPv6 unless the route has one (see source.ts)
export const NH_MTU = 11; // the route's own MTU, 0 if none: use the link's
export const NH_BOUND = 12; // multipath: this leg takes hashes up to this 31-bit bound; -1 none
export const NH_WEIGHT = 13;
export const NH_NHID = 14; // the nexthop object that the route names, 0 if none
export const NH_LEG_NHID = 15; // the nexthop object that this leg is, 0 if none

export const NH_GROUP = 0x100; // more than one leg: choose by flow hash
export const NH_SLOW = 0x200; // tos, throw: the answer needs the slow lookup
export const NH_PREFSRC = 0x400; // NH_SRC comes from the route
export const NH_DEAD = 0x800; // no leg is usable: as if the route were not there
export const NH_ENCAP = 0x1000; // of this leg: packets need a tunnel's head (RTA_ENCAP), which only the kernel gives them
/** Set in word NH_TYPE where `NetbaseReader.select4` or `select6` must decide. */
export const NH_SPECIAL: number = NH_GROUP | NH_SLOW | NH_DEAD;

// Next-hop ids, as FIB cells hold them: 0 no route, 1 "ask the slow lookup".
export const NHID_SLOW = 1;

// A FIB cell: node pointer (sign bit; the rest is the node's word offset) or leaf: key << 22 | next-hop id.
// The key orders what may cover what: rank of the table << 6 | prefix length for IPv4, rank << 8 | length for IPv6.
// Cell 0: nothing but prefixes of up to 8 bits, H_WIDE4/6; there, no route.
export const CELL_KEY_SHIFT = 22;
export const CELL_NH_MASK = 0x3fffff;

// A FIB node answers one byte of the address: a bitmap of 256 bits (bit set: a new run begins here), the number of
// runs that begin before each of its words (8 bytes), then one cell a run. 10 + runs words.
export const NODE_COUNTS = 8;
export const NODE_CELLS = 10;

// A neighbour: 4 words (IPv4) or 8 (IPv6). `..._KEY`: ifindex | NUD_* << 24; 0 never used, NEIGH_GONE deleted.
// `..._MAC0`: bytes 0..3 of the link-layer address. `..._MAC1`: bytes 4, 5 | sequence << 16 (even; another one after
// every change of the address and every deletion). MAC0 and MAC1 are written by one 64-bit store.
export const NEIGH4_WORDS = 4;
export const NEIGH4_IP = 0;
export const NEIGH4_KEY = 1;
export const NEIGH4_MAC0 = 2;
export const NEIGH4_MAC1 = 3;
export const NEIGH6_WORDS = 8;
export const NEIGH6_KEY = 4;
export const NEIGH6_MAC0 = 6;
export const NEIGH6_MAC1 = 7;
export const NEIGH_GONE = 0xff000000 | 0;
export const NEIGH_IFINDEX_MASK = 0xffffff;
export const NEIGH_WINDOW = 128; // slots that a lookup visits at most

/** Words of a huge page; the first levels of the FIBs begin on one, and neighbour tables that are as large. */
export const HUGE_WORDS: number = 1 << 19;

/** Where everything lies, in words; computed from the capacities alone. */
export interface Layout {
  readonly capacity: Capacity;
  readonly linkIndex: number;
  readonly links: number;
  readonly addrs: number;
  readonly fib4: number;
  readonly fib6: number;
  readonly rows4: number;
  readonly rows6: number;
  readonly buckets4: number;
  readonly bucketMask4: number;
  readonly buckets6: number;
  readonly bucketMask6: number;
  readonly nhIndex: number;
  readonly lines: number;
  readonly lineCount: number;
  readonly neigh4: number;
  readonly neighMask4: number;
  readonly neigh6: number;
  readonly neighMask6: number;
  readonly bytes: number;
}

const powerOfTwo = (n: number): number => 2 ** Math.ceil(Math.log2(Math.max(n, 2)));

export function layout(capacity: Capacity): Layout {
  let next = 0;
  const take = (words: number, align = 1024): number => {
    const at = Math.ceil(next / align) * align;
    next = at + Math.ceil(words / 1024) * 1024;
    return at;
  };
  const area = (words: number): number => take(words, words >= 2 * HUGE_WORDS ? HUGE_WORDS : 1024);
  take(2048);
  const buckets4 = powerOfTwo(capacity.routes4 / 1.5);
  const buckets6 = powerOfTwo(capacity.routes6 / 1.5);
  // A few lines a next hop (legs), one a long IPv4 prefix, up to 13 levels of FIB nodes a long IPv6 one.
  const lineCount = 8192 + capacity.nexthops * 4 + capacity.routes4 + capacity.routes6 * 8;
  const neighs4 = powerOfTwo(capacity.neighbours4 * 3);
  const neighs6 = powerOfTwo(capacity.neighbours6 * 3);
  return {
    capacity,
    linkIndex: take(IFINDEX_LIMIT),
    links: take((capacity.links + 1) * LINK_WORDS),
    addrs: take((capacity.addresses + 1) * ADDR_WORDS),
    fib4: take(1 << 24, HUGE_WORDS),
    fib6: take(1 << 24, HUGE_WORDS),
    rows4: take((capacity.routes4 + ROW_SLACK) * ROW4_WORDS),
    rows6: take((capacity.routes6 + ROW_SLACK) * ROW6_WORDS),
    buckets4: take(buckets4),
    bucketMask4: buckets4 - 1,
    buckets6: take(buckets6),
    bucketMask6: buckets6 - 1,
    nhIndex: take(capacity.nexthops + 2),
    lines: take(lineCount * LINE_WORDS),
    lineCount,
    neigh4: area(2 * neighs4 * NEIGH4_WORDS),
    neighMask4: neighs4 - 1,
    neigh6: area(2 * neighs6 * NEIGH6_WORDS),
    neighMask6: neighs6 - 1,
    bytes: next * 4,
  };
}
