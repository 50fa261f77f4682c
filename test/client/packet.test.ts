// UDP packets as src/wire/udp.ts makes them, against RFC 768 and 791 written out plainly: random addresses, ports, sizes and
// contents. That a kernel takes them the other tests here show, which exchange them with one.
import { expect, test } from "bun:test";
import { frameMemory } from "../../src/mem/frames.ts";
import { putUdp4, putUdp6, sumOf } from "../../src/wire/udp.ts";
import { Random } from "../random.ts";

const SEED = Number(process.env["NETD_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
const memory = frameMemory(1 << 16);
const words = new Int32Array(memory.buffer);
const bytes = new Uint8Array(memory.buffer);
const sum = sumOf(memory);

/** The one's complement sum of big-endian halves, an odd last byte padded. */
function plainSum(parts: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < parts.length; i += 2) total += (parts[i]! << 8) | (parts[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

test(`headers, lengths and checksums of both families (seed ${SEED})`, () => {
  const random = new Random(SEED);
  const pick = (n: number) => Array.from({ length: n }, () => (random.chance(20) ? 0xff : random.below(256)));
  for (let i = 0; i < 2000; i++) {
    const six = random.chance(50);
    const size = random.chance(20) ? random.below(5) : random.below(1453);
    const [src, dst, ports] = [pick(six ? 16 : 4), pick(six ? 16 : 4), pick(4)];
    const payload = random.chance(10) ? Array<number>(size).fill(0xff) : pick(size);
    const ip = 64 + random.below(256);
    const head = six ? 40 : 20;
    // What lies around it must not matter, and must stay.
    bytes.fill(0xa5, ip * 4 - 16, ip * 4 + head + 8 + size + 16);
    bytes.set(payload, ip * 4 + head + 8);
    const word = (from: number[], at = 0) => new DataView(Uint8Array.from(from).buffer).getInt32(at, true);
    if (six) {
      bytes.set([...src, ...dst], ip * 4 + 8);
      putUdp6(words, ip, word(ports), size, sum);
    } else putUdp4(words, ip, word(src), word(dst), word(ports), size, sum);
    const made = bytes.slice(ip * 4, ip * 4 + head + 8 + size);
    const length = 8 + size;
    const pair = (n: number) => [n >>> 8, n & 255];
    const field = [made[head + 6]!, made[head + 7]!];
    const expected = six
      ? [0x60, 0, 0, 0, ...pair(length), 17, 64, ...src, ...dst]
      : [0x45, 0, ...pair(20 + length), 0, 0, 0x40, 0, 64, 17, made[10]!, made[11]!, ...src, ...dst];
    expect([...made]).toEqual([...expected, ...ports, ...pair(length), ...field, ...payload]);
    if (!six) expect(plainSum(made.subarray(0, 20))).toBe(0xffff);
    const pseudo = [...src, ...dst, 0, 17, ...pair(length)];
    expect(plainSum([...pseudo, ...made.subarray(head)])).toBe(0xffff);
    expect(field).not.toEqual([0, 0]);
    expect(bytes[ip * 4 - 1]).toBe(0xa5);
    expect(bytes[ip * 4 + head + 8 + size]).toBe(0xa5);
  }
});
