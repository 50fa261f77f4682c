// What a reader keeps of its IPv6 lookups (fib6.ts): every lookup here was made before, so that an answer that outlived
// its route would show. Random changes are fib.property.test.ts's matter, concurrent ones torture.test.ts's.
import { expect, test } from "bun:test";
import { changesOf } from "../../src/netbase/fib6.ts";
import { CHANGES6, H_CHANGES6, NH_GATEWAY } from "../../src/netbase/layout.ts";
import { AF_INET6, formatAddress } from "../../src/wire/address.ts";
import { Random } from "../random.ts";
import { link, lookup, makeNetbase, type Netbase, route, words } from "./make.ts";

const CREATE = 0x600;
const REPLACE = 0x100;

/** The gateway of one address by itself, and of two that share its /64 in a batch. */
function gateways({ reader }: Netbase, text: string): string[] {
  const w = words(text);
  const out = new Int32Array(2);
  const one = lookup(reader, text);
  reader.fib6.lookupAll(Int32Array.of(...w, w[0]!, w[1]!, ~w[2]!, w[3]!), 0, out);
  return [one, ...out].map((nh) => (nh === 0 ? "" : formatAddress(AF_INET6, reader.words, nh + NH_GATEWAY)));
}

test("an answer is good until the next change, and no longer", () => {
  using nb = makeNetbase();
  const { routes } = nb.writer;
  const asked = "2001:db8:1:2:3::4";
  const all = (text: string) => [text, text, text];
  const steps: [change: () => void, answers: string[]][] = [
    [() => {}, all("")],
    [() => routes.upsert(route("2001:db8::/32", [[2, "fe80::1"]]), CREATE), all("fe80::1")],
    [() => routes.upsert(route("::/0", [[2, "fe80::2"]]), CREATE), all("fe80::1")],
    [() => routes.upsert(route("2001:db8:1:2::/64", [[2, "fe80::3"]]), CREATE), all("fe80::3")],
    [() => routes.upsert(route("2001:db8:1:2::/64", [[2, "fe80::4"]]), REPLACE), all("fe80::4")],
    [
      () => routes.upsert(route("2001:db8:1:2:3::/80", [[2, "fe80::5"]]), CREATE),
      ["fe80::5", "fe80::5", "fe80::4"],
    ],
    [() => routes.remove(route("2001:db8:1:2:3::/80", [[2, "fe80::5"]])), all("fe80::4")],
    [() => routes.remove(route("2001:db8:1:2::/64", [[2, "fe80::4"]])), all("fe80::1")],
    [() => routes.remove(route("2001:db8::/32", [[2, "fe80::1"]])), all("fe80::2")],
    [() => routes.upsert(route("::/0", [[2, "fe80::6"]]), REPLACE), all("fe80::6")],
    [() => nb.writer.links.upsert(link(2, { flags: 0x11002 })), all("")],
    [() => nb.writer.links.upsert(link(2)), all("fe80::6")],
    [() => routes.remove(route("::/0", [[2, "fe80::6"]])), all("")],
  ];
  for (const [change, answers] of steps) {
    change();
    nb.writer.commit();
    for (let again = 0; again < 3; again++) expect(gateways(nb, asked)).toEqual(answers);
    nb.reader.quiesce();
  }
});

test("a change ends what it covers, and leaves the rest", () => {
  using nb = makeNetbase();
  const { reader, writer } = nb;
  const counts = new Float64Array(reader.words.buffer, reader.words.byteOffset + H_CHANGES6 * 4, CHANGES6);
  const random = new Random(6);
  for (let len = 0; len <= 128; len++) {
    const inside = Array.from({ length: 64 }, () => {
      const host = Int32Array.from({ length: 4 }, () => random.word());
      for (let bit = 0; bit < len; bit++) {
        const mask = 1 << ((bit & 24) + 7 - (bit & 7));
        const word = words("2a01:4f8:12:345:6789:abcd:ef01:2345")[bit >> 5]!;
        host[bit >> 5] = (host[bit >> 5]! & ~mask) | (word & mask);
      }
      return host;
    });
    const before = counts.slice();
    writer.routes.upsert(route(`2a01:4f8:12:345:6789:abcd:ef01:2345/${len}`, [[2, "fe80::1"]]), CREATE);
    for (const [w0] of inside) expect(counts[changesOf(w0!)]).toBe(before[changesOf(w0!)]! + 1);
    const changed = counts.filter((count, i) => count !== before[i]).length;
    expect(changed).toBe(len >= 32 ? 1 : len <= 24 ? CHANGES6 : 2 ** (32 - len));
  }
});

test("whatever changes, what was asked before gets the answer of now", () => {
  using nb = makeNetbase();
  const { reader, writer } = nb;
  const random = new Random(7);
  // Few addresses, that counts are shared by, and prefixes of all lengths.
  const near = () => `2a01:${random.below(4)}0${random.below(4)}:${random.below(2)}::`;
  const asked = Array.from({ length: 200 }, () => words(near()));
  for (let n = 1; n < 5000; n++) {
    const row = route(`${near()}/${random.below(66)}`, [[2, `fe80::${random.below(9) + 1}`]]);
    if (random.chance(50)) writer.routes.upsert(row, CREATE);
    else writer.routes.remove(row);
    writer.commit();
    for (let k = 0; k < 8; k++) {
      const [w0, w1, w2, w3] = random.pick(asked);
      const row = reader.rib6.match(w0!, w1!, w2!, w3!, 0);
      expect(reader.fib6.lookup(w0!, w1!, w2!, w3!)).toBe(row === 0 ? 0 : reader.rib6.record(row));
    }
    reader.quiesce();
  }
});
