// Which requests for neighbours go on to the kernel, and when: with a made-up network and a made-up clock.
import { expect, setDefaultTimeout, test } from "bun:test";
import { type Neighbourhood, Solicitor, Verdict } from "../../src/netlink/solicit.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const FAILED = 0x20;
const REACHABLE = 2;
const STALE = 4;

/** A network in which 10/8 is on link 3, 192.168/16 are gateways, and which answers as told. */
class Network implements Neighbourhood {
  readonly states = new Map<string, number>();
  used: string[] = [];
  forgotten: string[] = [];

  verdict(ifindex: number, family: number, words: Int32Array, at: number): number {
    if (ifindex !== 3) return Verdict.interface;
    if (family === 10) return Verdict.ok;
    const first = words[at]! & 255;
    if (first === 224) return Verdict.address;
    return first === 10 ? Verdict.ok : first === 192 ? Verdict.gateway : Verdict.offlink;
  }
  state(_ifindex: number, _family: number, words: Int32Array, at: number): number {
    return this.states.get(text(words, at)) ?? 0;
  }
  use(_ifindex: number, _family: number, words: Int32Array, at: number): void {
    this.used.push(text(words, at));
  }
  forget(_ifindex: number, _family: number, words: Int32Array, at: number): void {
    this.forgotten.push(text(words, at));
  }
}

const text = (words: Int32Array, at: number): string => {
  const w = words[at]!;
  return `${w & 255}.${(w >>> 8) & 255}.${(w >>> 16) & 255}.${w >>> 24}`;
};
const word = (a: number, b: number, c: number, d: number): number => a | (b << 8) | (c << 16) | (d << 24);
const asks = (address: number, kind = 0, ifindex = 3, family = 2): Int32Array =>
  Int32Array.of(ifindex, family, address, 0, 0, 0, kind, 0);

function made(limits = {}) {
  const network = new Network();
  const solicitor = new Solicitor({ perHostSeconds: 1, perSecond: 10, burst: 4, ...limits }, network, 1);
  /** The kernel's event about an address. */
  const event = (address: number, state: number, now: number) => {
    const words = Int32Array.of(address);
    network.states.set(text(words, 0), state);
    solicitor.event(3, 2, words, 0, state, now);
  };
  return { network, solicitor, counts: solicitor.counts, event };
}

test("one request for an address, however often it is asked for", () => {
  const { network, solicitor, counts } = made();
  for (let i = 0; i < 100; i++) solicitor.message(asks(word(10, 0, 0, 2)), 0);
  solicitor.turn(0);
  for (let i = 0; i < 100; i++) solicitor.message(asks(word(10, 0, 0, 2)), 100);
  solicitor.turn(100);
  expect(network.used).toEqual(["10.0.0.2"]);
  expect(counts).toMatchObject({ received: 200, sent: 1, deduped: 199 });
});

test("a limited request is tried again by itself, and blocks neither itself nor others (fault 1)", () => {
  const { network, solicitor, counts } = made();
  for (let i = 0; i < 20; i++) solicitor.message(asks(word(10, 0, 1, i)), 0);
  solicitor.turn(0);
  expect(network.used).toHaveLength(4); // the burst
  expect(counts.limited).toBe(0);
  solicitor.message(asks(word(10, 0, 2, 1)), 1);
  expect(counts.limited).toBe(1);
  // Nobody asks again; time alone lets them through, ten a second.
  for (let now = 0; now <= 2000; now += 10) solicitor.turn(now);
  expect(new Set(network.used).size).toBe(21);
  expect(network.used).toContain("10.0.2.1");
  expect(solicitor.turn(2000)).toBeGreaterThan(0);
});

test("a host that does not answer is asked for less and less often, one that does is asked for at once again", () => {
  const { network, solicitor, event } = made();
  const host = word(10, 0, 0, 9);
  const at: number[] = [];
  for (let now = 0; now < 60_000; now += 50) {
    solicitor.message(asks(host), now);
    const before = network.used.length;
    solicitor.turn(now);
    if (network.used.length > before) {
      at.push(now);
      event(host, FAILED, now);
    }
  }
  const gaps = at.slice(1).map((now, i) => now - at[i]!);
  expect(gaps.slice(0, 5)).toEqual([1000, 2000, 4000, 8000, 16_000]);
  event(host, REACHABLE, 60_000);
  event(host, 0, 60_000);
  solicitor.message(asks(host), 80_000);
  solicitor.turn(80_000);
  event(host, REACHABLE, 80_001);
  event(host, 0, 80_002); // the kernel forgot it
  solicitor.message(asks(host), 81_010);
  solicitor.turn(81_010);
  expect(network.used.length).toBe(at.length + 2);
});

test("a kernel that never answers is given up on", () => {
  const { solicitor, counts } = made();
  solicitor.message(asks(word(10, 0, 0, 2)), 0);
  solicitor.turn(0);
  expect(solicitor.unresolved).toBe(1);
  solicitor.turn(10_000);
  expect(solicitor.unresolved).toBe(0);
  expect(counts.failed).toBe(1);
});

test("what nobody should be asked for is dropped and counted", () => {
  const { network, solicitor, counts } = made();
  solicitor.message(asks(word(10, 0, 0, 2), 0, 4), 0);
  solicitor.message(asks(word(10, 0, 0, 2), 0, -1), 0); // an index that cannot be (fault 9)
  solicitor.message(asks(word(224, 0, 0, 1)), 0);
  solicitor.message(asks(word(8, 8, 8, 8)), 0);
  solicitor.message(asks(word(10, 0, 0, 2), 0, 3, 77), 0);
  expect(solicitor.turn(0)).toBe(-1);
  expect(network.used).toEqual([]);
  expect(counts).toMatchObject({ badInterface: 2, badAddress: 2, offLink: 1, sent: 0 });
});

test("100,000 made-up sources: bounded requests, entries and memory; a true one gets through (fault 2)", () => {
  const { network, solicitor, counts, event } = made({ perSecond: 1000, burst: 256 });
  const legitimate = word(10, 9, 9, 9);
  const open = new Map<string, [number, number]>(); // asked for: word, when
  let answered = -1;
  let most = 0;
  for (let i = 0, now = 0; i < 100_000; i++) {
    solicitor.message(asks(word(10, 1 + (i >>> 16), (i >>> 8) & 255, i & 255)), now);
    if (i % 20 === 0) {
      if (i >= 20_000 && answered < 0) solicitor.message(asks(legitimate), now); // its packets come again and again
      solicitor.turn(now);
      now += 1;
      most = Math.max(most, solicitor.unresolved);
      for (const name of network.used.splice(0)) {
        const [a, b, c, d] = name.split(".").map(Number) as [number, number, number, number];
        if (name === "10.9.9.9") {
          event(legitimate, REACHABLE, now);
          answered = now;
        } else open.set(name, [word(a, b, c, d), now]);
      }
      for (const [name, [address, when]] of open)
        if (now - when > 3000) {
          open.delete(name);
          event(address, FAILED, now);
        }
    }
  }
  expect(most).toBeLessThanOrEqual(96);
  expect(counts.sent).toBeLessThan(400); // five seconds of flood, three for each of them to fail
  expect(counts.crowded).toBeGreaterThan(80_000);
  expect(network.forgotten.length).toBe(counts.failed); // and none of them stays in the kernel's table
  expect(answered).toBeGreaterThan(1000);
  expect(answered).toBeLessThan(1100); // it began to ask at 1000, when all places for first-timers had long been taken
});

test("a gateway waits for nobody, though the limits are used up", () => {
  const { network, solicitor } = made({ perSecond: 1, burst: 1 });
  for (let i = 0; i < 500; i++) solicitor.message(asks(word(10, 0, i >>> 8, i & 255)), 0);
  solicitor.turn(0);
  solicitor.message(asks(word(192, 168, 0, 1)), 1);
  solicitor.turn(1);
  expect(network.used.at(-1)).toBe("192.168.0.1");
});

test("IPv6 hosts that share their first words are told apart", () => {
  const { network, solicitor } = made();
  for (const last of [1, 2, 3]) solicitor.message(Int32Array.of(3, 10, 0xfd, 0, 0, last, 0, 0), 0);
  solicitor.turn(0);
  expect(network.used).toHaveLength(3);
});

test("stale neighbours in use are confirmed, others are left alone, and all within the limit (fault 10)", () => {
  const { network, solicitor, counts } = made({ burst: 2 });
  const at = (i: number) => word(10, 0, 0, i);
  for (const [i, state] of [STALE, REACHABLE, 0, STALE, STALE].entries())
    network.states.set(`10.0.0.${i}`, state);
  for (let round = 0; round < 3; round++) for (let i = 0; i < 5; i++) solicitor.message(asks(at(i), 1), 0);
  expect(network.used).toEqual(["10.0.0.0", "10.0.0.3"]);
  expect(counts.refreshed).toBe(2);
  solicitor.message(asks(at(4), 1), 500); // limited a moment ago
  expect(network.used).toEqual(["10.0.0.0", "10.0.0.3", "10.0.0.4"]);
  // Still stale after a while: the kernel is asked again.
  for (let now = 600; now < 20_000; now += 100) solicitor.message(asks(at(0), 1), now);
  expect(network.used.length).toBeGreaterThan(4);
  expect(network.used.length).toBeLessThan(10);
});
