// Routing tables and traffic for `bench fib`, the same every time: 1M IPv4 and 200k IPv6 prefixes with the lengths of
// the Internet's table (RIPE RIS, 2025, rounded; IPv4 with some longer ones inside, as networks have them), and
// destinations below them.
import { formatIPv4, formatIPv6, swap32 } from "../src/wire/address.ts";

export interface Prefixes {
  readonly family: 4 | 6;
  readonly n: number;
  /** Memory words: one a prefix for IPv4, four for IPv6. */
  readonly words: Int32Array;
  readonly lengths: Uint8Array;
  /** Next hop of each: 1..250. */
  readonly hops: Uint8Array;
}

// Routes of each length, in thousandths of all.
const LENGTHS4: [len: number, permille: number][] = [
  [8, 0.016],
  [9, 0.013],
  [10, 0.04],
  [11, 0.1],
  [12, 0.3],
  [13, 0.58],
  [14, 1.2],
  [15, 2.1],
  [16, 13.6],
  [17, 8.3],
  [18, 13.9],
  [19, 25.2],
  [20, 44.9],
  [21, 53.7],
  [22, 110],
  [23, 99.6],
  [25, 1],
  [26, 1],
  [27, 1],
  [28, 1],
  [29, 1.5],
  [30, 1.5],
  [31, 0.5],
  [32, 2.5],
  [24, 0], // the rest
];
const LENGTHS6: [len: number, permille: number][] = [
  [20, 0.05],
  [24, 0.2],
  [28, 1],
  [29, 22],
  [30, 3],
  [31, 1],
  [32, 115],
  [33, 22],
  [34, 17],
  [35, 8],
  [36, 40],
  [38, 14],
  [40, 75],
  [42, 20],
  [44, 90],
  [45, 15],
  [46, 45],
  [47, 35],
  [56, 4],
  [64, 6],
  [128, 2],
  [48, 0], // the rest
];

/** xorshift32 over its whole range. */
export function generator(seed: number): () => number {
  let x = seed;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x;
  };
}

/** How many prefixes of each length `n` are. */
function counts(table: [number, number][], n: number): [len: number, count: number][] {
  const out = table.map(([len, permille]): [number, number] => [len, Math.round((permille * n) / 1000)]);
  out.at(-1)![1] = n - out.reduce((sum, [, count]) => sum + count, 0);
  return out;
}

export function prefixes4(n: number): Prefixes {
  const next = generator(2463534242);
  const seen = new Set<number>();
  const rows: [number, number][] = [];
  for (const [len, count] of counts(LENGTHS4, n))
    for (let made = 0; made < count; ) {
      const address = (0x01000000 + ((next() >>> 0) % (0xe0000000 - 0x01000000))) & (-1 << (32 - len));
      const id = (address >>> 0) * 64 + len;
      if (seen.has(id)) continue;
      seen.add(id);
      rows.push([address >>> 0, len]);
      made++;
    }
  rows.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  return {
    family: 4,
    n,
    words: Int32Array.from(rows, ([address]) => swap32(address)),
    lengths: Uint8Array.from(rows, ([, len]) => len),
    hops: Uint8Array.from(rows, () => 1 + ((next() >>> 0) % 250)),
  };
}

/** Allocations in the registries' blocks; longer prefixes lie in the /32s (and /29s) that there are. */
export function prefixes6(n: number): Prefixes {
  const next = generator(88172645);
  const blocks = [0x20010000, 0x24000000, 0x26000000, 0x28000000, 0x2a000000, 0x2a000000, 0x2c000000];
  const seen = new Set<string>();
  const parents: number[] = [];
  const rows: { w: Int32Array; len: number }[] = [];
  for (const [len, count] of counts(LENGTHS6, n))
    for (let made = 0; made < count; ) {
      const block = blocks[(next() >>> 0) % blocks.length]!;
      const within = next() & (block === 0x20010000 ? 0xffff : 0xfffff);
      const top =
        len <= 32 ? block | within : parents[(next() >>> 0) % parents.length]! | (next() & 7 ? 0 : 1);
      const host = [top, next(), next(), next()];
      const w = Int32Array.from(host, (word, i) => {
        const bits = Math.min(Math.max(len - i * 32, 0), 32);
        return swap32(bits === 0 ? 0 : word & (-1 << (32 - bits)));
      });
      const id = `${w.join()}/${len}`;
      if (seen.has(id)) continue;
      seen.add(id);
      if (len <= 32) parents.push(swap32(w[0]!));
      rows.push({ w, len });
      made++;
    }
  return {
    family: 6,
    n,
    words: Int32Array.from(rows.flatMap(({ w }) => [...w])),
    lengths: Uint8Array.from(rows, ({ len }) => len),
    hops: Uint8Array.from(rows, () => 1 + ((next() >>> 0) % 250)),
  };
}

/** `n` destinations below random prefixes; `flows` different ones, over and over, if given. Memory words as above. */
export function traffic({ family, n: count, words, lengths }: Prefixes, n: number, flows = n): Int32Array {
  const next = generator(0x1234567 + flows);
  const size = family === 4 ? 1 : 4;
  const pool = new Int32Array(flows * size);
  for (let i = 0; i < flows; i++) {
    const from = (next() >>> 0) % count;
    for (let k = 0; k < size; k++) {
      const bits = Math.min(Math.max(lengths[from]! - k * 32, 0), 32);
      const host = bits === 32 ? 0 : next() & (bits === 0 ? -1 : (1 << (32 - bits)) - 1);
      pool[i * size + k] = words[from * size + k]! | swap32(host);
    }
  }
  if (flows === n) return pool;
  const out = new Int32Array(n * size);
  for (let i = 0; i < n; i++) {
    const flow = ((next() >>> 0) % flows) * size;
    for (let k = 0; k < size; k++) out[i * size + k] = pool[flow + k]!;
  }
  return out;
}

const text = (family: 4 | 6, words: Int32Array, i: number): string =>
  family === 4 ? formatIPv4(words[i]!) : formatIPv6(words, i * 4);

/** "PREFIX/LEN NEXTHOP" lines, as dpdk-test-fib reads them. */
export const routeLines = ({ family, n, words, lengths, hops }: Prefixes): string =>
  Array.from({ length: n }, (_, i) => `${text(family, words, i)}/${lengths[i]} ${hops[i]}\n`).join("");

export const addressLines = (family: 4 | 6, words: Int32Array): string =>
  Array.from({ length: words.length / (family === 4 ? 1 : 4) }, (_, i) => `${text(family, words, i)}\n`).join(
    "",
  );
