// Guards: what is found for libpcap's texts, and that no program takes a packet that its guard rules out, for random
// programs and packets. NETD_SEED repeats a run.
import { expect, setDefaultTimeout, test } from "bun:test";
import { pcapCompile } from "../../ffi/libpcap.ts";
import { type Field, fieldName, guardOf } from "../../src/filter/guard.ts";
import { interpreter } from "../../src/filter/interpret.ts";
import { plainMeta } from "../../src/filter/packet.ts";
import { decode, format } from "../../src/filter/program.ts";
import { verify } from "../../src/filter/verify.ts";
import { Random } from "../random.ts";
import { packet, program } from "./programs.ts";
import { compiledText, datagram } from "./texts.ts";

setDefaultTimeout(60_000);

const PROGRAMS = Number(process.env["NETD_PROGRAMS"] ?? 10_000);
const seed = Number(process.env["NETD_SEED"] ?? (Math.random() * 0x7fffffff) | 0);

const at = (
  off: number,
  size: 1 | 2 | 4,
  isAfterIp = false,
  mask = size === 4 ? 0xffffffff : 2 ** (8 * size) - 1,
) => ({
  ...{ off, size, isAfterIp, mask },
});
const V4 = { field: at(12, 2), value: 0x800 };
const UDP = { field: at(23, 1), value: 17 };

test.each<[string, Field, number[]]>([
  ["udp src port 53", at(14, 2, true), [53]],
  ["udp port 53", at(14, 2, true), [53]], // the destination port is known to be another
  ["src host 10.1.2.3", at(26, 4), [0x0a010203]],
  ["src host 10.1.2.3 or src host 10.1.2.4", at(26, 4), [0x0a010203, 0x0a010204]],
  ["src net 10.1.0.0/16", at(26, 4, false, 0xffff0000), [0x0a010000]],
  ["udp and src host 10.1.2.3 and src port 9", at(26, 4), [0x0a010203]],
])("%s", (text, field, values) => {
  const known = [V4, UDP, { field: at(16, 2, true), value: 5353 }];
  const guard = guardOf(decode(pcapCompile(text)), known)!;
  expect(fieldName(guard.field)).toBe(fieldName(field));
  expect(guard.values).toEqual(values);
});

test("what takes nothing of them, and what has no guard", () => {
  const of = (text: string) => guardOf(decode(pcapCompile(text)), [V4, UDP]);
  expect(of("tcp")!.values).toEqual([]);
  expect(of("ip6")!.values).toEqual([]);
  expect(of("udp")).toBeUndefined();
  expect(of("src port 9 or src host 10.1.2.3")).toBeUndefined();
  expect(of("len > 100")).toBeUndefined();
});

/** A field of a packet, masked; -1 if it is not there. */
function load({ off, size, mask, isAfterIp }: Field, bytes: Uint8Array): number {
  const from = off + (isAfterIp ? (bytes[14]! & 15) * 4 : 0);
  if ((isAfterIp && bytes.length < 15) || from + size > bytes.length) return -1;
  let value = 0;
  for (let i = 0; i < size; i++) value = value * 256 + bytes[from + i]!;
  return (value & mask) >>> 0;
}

test(`${PROGRAMS} random programs: nothing is taken that the guard rules out`, () => {
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const memory = new Uint8Array(128);
  let guards = 0;
  let taken = 0;
  for (let i = 0; i < PROGRAMS; i++) {
    const isText = random.below(4) === 0;
    const made = isText ? compiledText(random).program : program(random);
    if (verify(made, true)) continue;
    const first = isText ? datagram(random) : packet(random);
    const known = [at(23, 1), at(12, 2), at(30, 4), at(random.below(20), 1), at(16, 2, true)]
      .filter(() => random.below(3) === 0)
      .map((field) => ({ field, value: load(field, first) }))
      .filter(({ value }) => value >= 0);
    const guard = guardOf(made, known);
    if (!guard) continue;
    guards++;
    const run = interpreter(made, memory, plainMeta());
    for (let j = 0; j < 40; j++) {
      const one = isText ? datagram(random) : packet(random);
      if (known.some(({ field, value }) => load(field, one) !== value)) continue;
      memory.set(one);
      if (run(0, one.length) === 0) continue;
      taken++;
      const value = load(guard.field, one);
      if (!guard.values.includes(value))
        throw new Error(
          `seed ${seed}: ${fieldName(guard.field)} is ${value}, none of ${guard.values}: ${one}\n${format(made)}`,
        );
    }
  }
  console.log(`${guards} guards, ${taken} packets taken`);
  expect(guards).toBeGreaterThan(PROGRAMS / 200);
  expect(taken).toBeGreaterThan(PROGRAMS / 20);
});
