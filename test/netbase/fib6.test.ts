// What a reader keeps of its IPv6 lookups (fib6.ts): every lookup here was made before, so that an answer that outlived
// its route would show. Random changes are fib.property.test.ts's matter, concurrent ones torture.test.ts's.
import { expect, test } from "bun:test";
import { Fib6 } from "../../src/netbase/fib6.ts";
import { layout, NH_GATEWAY } from "../../src/netbase/layout.ts";
import { AF_INET6, formatAddress } from "../../src/wire/address.ts";
import { link, lookup, makeNetbase, type Netbase, route, small, words } from "./make.ts";

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

test("turns are counted anew without taking an old answer for a new one", () => {
  using nb = makeNetbase();
  const TURNS = 4;
  const fib = new Fib6(nb.reader.words, layout(small), TURNS);
  const gateway = (text: string): string => {
    const [w0, w1, w2, w3] = words(text);
    const nh = fib.lookup(w0!, w1!, w2!, w3!);
    return formatAddress(AF_INET6, nb.reader.words, nh + NH_GATEWAY);
  };
  for (let n = 1; n < 10 * TURNS; n++) {
    const row = route("2001:db8::/32", [[2, `fe80::${n.toString(16)}`]]);
    nb.writer.routes.upsert(row, n === 1 ? CREATE : REPLACE);
    // Asked for once in as many turns as there are: what was kept then has the number of this one.
    const asked = n % TURNS === 0 ? "2001:db8::1" : "2001:db8:1::1";
    expect(gateway(asked)).toBe(`fe80::${n.toString(16)}`);
  }
});
