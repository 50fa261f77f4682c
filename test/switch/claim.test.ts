import { expect, test } from "bun:test";
import { Claims, type ClaimRules } from "../../src/control/claim.ts";
import { TableReader } from "../../src/switch/table/find.ts";
import { CLAIMS_A_SECOND, HELD, HELD_EACH, Held } from "../../src/switch/held.ts";
import { tableBytes } from "../../src/switch/table/layout.ts";
import { Own, ownBytes, REQUESTS } from "../../src/switch/own.ts";
import { type Match, portsWord } from "../../src/switch/table/pattern.ts";
import { Asked, Requests } from "../../src/switch/request.ts";
import { TableWriter } from "../../src/switch/table/table.ts";

const TCP = 6;
const UDP = 17;
const HERE = 0x0100000a;
const THERE = 0x0200000a;
const row = {
  fd: 3,
  mac: new Uint8Array(6),
  mtu: 1500,
  flags: 0,
  home: 0,
  ratePps: 0,
  pid: 1,
  uid: 0,
  gid: 0,
};

interface Options {
  workers?: number;
  matches?: number;
  perClient?: number;
  crowded?: (client: number) => number;
  allows?: (match: Match, client: number) => boolean;
  steers?: boolean;
}

/** A table with ten clients, the control side, and the net side of some Workers. */
function setUp({
  workers = 1,
  matches = 1000,
  perClient = 100,
  crowded = () => -1,
  allows = () => true,
  steers = true,
}: Options = {}) {
  const capacity = { clients: 10, matches };
  const buffer = new ArrayBuffer(tableBytes(capacity));
  const table = new TableWriter(buffer, capacity, 42);
  table.setNow(1000);
  for (let i = 0; i < capacity.clients; i++) table.addClient(row);
  const own = Array.from({ length: workers }, () => new Own(new ArrayBuffer(ownBytes(capacity)), capacity));
  const log: string[] = [];
  const rules: ClaimRules = {
    perClient,
    crowded,
    timeout: (protocol) => ({ [-1]: 5, [TCP]: 100, [UDP]: 10 })[protocol] ?? 20,
    allows,
    allowsDhcp: () => true,
    added(entry) {
      log.push(`added ${entry} ${table.get(entry).kind}`);
      return steers;
    },
    removing: (entry) => log.push(`removing ${entry} ${table.get(entry).kind}`),
    gone: (client) => log.push(`gone ${client}`),
  };
  const asked = own.map((one) => new Asked(one));
  const touches = own.map((one) => one.touches);
  const claims = new Claims(table, asked, touches, rules);
  const net = own.map((one, worker) => {
    const reader = new TableReader(buffer, capacity);
    const requests = new Requests(one, reader, worker);
    return { reader, requests, held: new Held(requests, capacity.clients), own: one };
  });
  /** Client's flow number n: the place of its frame. */
  const begin = (client: number, n: number, protocol = TCP, worker = 0) =>
    net[worker]!.held.claim4(client, protocol, HERE, THERE, portsWord(443, n));
  const owner = (n: number, protocol = TCP) => net[0]!.reader.find4(protocol, HERE, THERE, portsWord(443, n));
  const drain = (worker = 0): number[] => {
    const places: number[] = [];
    const { held } = net[worker]!;
    for (let place = held.ready(); place >= 0; place = held.ready()) {
      places.push(place);
      held.release();
    }
    return places;
  };
  return { table, claims, net, begin, owner, drain, log, rules };
}

const listener = (port: number): Match => ({
  family: 2,
  protocol: TCP,
  dst: Int32Array.of(HERE, 0, 0, 0),
  dstPrefix: 32,
  dport: port,
  src: new Int32Array(4),
  srcPrefix: 0,
  sport: -1,
});

test("a flow's first frame waits until its answers are the client's, and only theirs", () => {
  const { claims, begin, owner, drain, net } = setUp();
  const place = begin(3, 5000);
  expect(place).toBe(0);
  expect(drain()).toEqual([]);
  expect(owner(5000)).toBe(-1);
  expect(claims.serve()).toBe(1);
  expect(owner(5000)).toBe(3);
  expect(owner(5001)).toBe(-1);
  expect(owner(5000, UDP)).toBe(-1);
  expect(net[0]!.reader.find4(TCP, HERE, THERE, portsWord(444, 5000))).toBe(-1);
  expect(drain()).toEqual([0]);
  expect(net[0]!.held.length).toBe(0);
});

test("IPv6 likewise", () => {
  const { claims, net, drain } = setUp();
  const { held, reader } = net[0]!;
  const header = Int32Array.of(9, 0xfd, 1, 2, 3, 0xfd, 4, 5, 6);
  held.claim6(2, UDP, header, 1, 5, portsWord(53, 5000));
  claims.serve();
  expect(reader.find6(header, 1, 5, UDP, portsWord(53, 5000))).toBe(2);
  expect(reader.find6(header, 5, 1, UDP, portsWord(53, 5000))).toBe(-1);
  expect(drain()).toEqual([0]);
});

test("what is not free is refused: another's claim, another's listener, the kernel's", () => {
  const { table, claims, begin, owner, drain } = setUp({ allows: ({ dport }) => dport !== 22 });
  expect(table.add(listener(80), 1, "match")).toBeGreaterThan(0);
  for (const port of [80, 22, 7000, 7000]) begin(2, port);
  begin(5, 7000);
  claims.serve();
  expect([80, 22, 7000].map((port) => owner(port))).toEqual([1, -1, 2]);
  expect([claims.granted, claims.refused]).toEqual([1, 3]); // frame 2 of 7000 asked nothing
  expect(drain()).toEqual([0, 1, 2, 3, 4]); // what becomes of each, the table says
});

test("what cannot be steered here is refused, and not in the table", () => {
  const { table, claims, begin, owner, drain, log } = setUp({ steers: false });
  begin(2, 7000);
  claims.serve();
  expect(log).toEqual([expect.stringMatching(/^added \d+ claim$/)]);
  expect([owner(7000), table.countOf(2, true)]).toEqual([-1, 0]);
  expect([claims.granted, claims.refused]).toEqual([0, 1]);
  expect(drain()).toEqual([0]);
});

test("frames of one flow ask once; the second waits for the same answer", () => {
  const { claims, begin, drain } = setUp();
  expect([begin(1, 1), begin(1, 1), begin(1, 2), begin(1, 1)]).toEqual([0, 1, 2, 3]);
  expect(claims.serve()).toBe(2);
  expect(drain()).toEqual([0, 1, 2, 3]);
});

test("a client holds few frames, all clients together not many", () => {
  const { claims, begin, drain, net } = setUp();
  for (let i = 0; i < HELD_EACH; i++) expect(begin(0, i)).toBe(i);
  expect(begin(0, 99)).toBe(-1);
  for (let client = 1; client < 8; client++)
    for (let i = 0; i < HELD_EACH; i++) begin(client, client * 100 + i);
  expect(net[0]!.held.length).toBe(HELD);
  expect(begin(9, 1)).toBe(-1);
  expect(claims.serve()).toBe(HELD);
  expect(drain().length).toBe(HELD);
  expect(begin(9, 1)).toBe(0);
});

test("a client begins so many flows a second and no more; another is not held up", () => {
  const { claims, begin, drain, net } = setUp({ perClient: 1 });
  let begun = 0;
  for (let n = 0; n < CLAIMS_A_SECOND + 100; n++) {
    if (begin(4, n % 60_000) >= 0) begun++;
    claims.serve();
    drain();
  }
  expect(begun).toBe(CLAIMS_A_SECOND);
  expect(begin(5, 1)).toBeGreaterThanOrEqual(0);
  net[0]!.held.tick();
  expect(begin(4, 1)).toBeGreaterThanOrEqual(0);
});

test("over its bound a client loses the claim that was longest without a frame; others lose nothing", () => {
  const { table, claims, begin, owner, net, log } = setUp({ perClient: 3 });
  begin(7, 1000);
  for (let i = 1; i <= 3; i++) {
    table.setNow(1000 + i);
    begin(1, i);
    claims.serve();
  }
  // The first has a frame meanwhile.
  owner(1);
  net[0]!.own.touches[net[0]!.reader.found[0]!] = 1010;
  table.setNow(1020);
  log.length = 0;
  owner(2);
  const second = net[0]!.reader.found[0]!;
  begin(1, 4);
  claims.serve();
  expect([1, 2, 3, 4, 1000].map((n) => owner(n))).toEqual([1, -1, 1, 1, 7]);
  expect(log[0]).toBe(`removing ${second} claim`);
  begin(1, 5);
  begin(1, 6);
  claims.serve();
  expect([1, 3, 4, 5, 6].map((n) => owner(n))).toEqual([-1, -1, 1, 1, 1]);
  expect([claims.evicted, table.countOf(1, true)]).toEqual([3, 3]);
});

test("a refused claim costs the client nothing", () => {
  const { claims, begin, owner, table } = setUp({ perClient: 1, allows: ({ dport }) => dport !== 22 });
  table.add(listener(80), 1, "match");
  begin(2, 5000);
  begin(2, 22);
  begin(2, 80);
  claims.serve();
  expect(owner(5000)).toBe(2);
  expect(claims.evicted).toBe(0);
});

test("a full table: a client's new claim takes its own oldest one's room, and nobody else's", () => {
  const { claims, begin, owner } = setUp({ matches: 3 });
  begin(1, 1);
  begin(1, 2);
  begin(2, 3);
  begin(1, 4);
  begin(3, 5);
  claims.serve();
  expect([1, 2, 3, 4, 5].map((n) => owner(n))).toEqual([-1, 1, 2, 1, -1]);
  expect([claims.granted, claims.refused, claims.evicted]).toEqual([4, 1, 1]);
});

test("claims end so long after their last frame, by protocol, whichever Worker had it; matches do not", () => {
  const { table, claims, begin, owner, net, log } = setUp({ workers: 3 });
  const kept = table.add(listener(80), 1, "match");
  begin(1, 1, TCP);
  begin(1, 2, UDP, 1);
  begin(1, 3, UDP, 2);
  net[0]!.held.claimDhcp(1, 777);
  claims.serve();
  owner(3, UDP);
  const third = net[0]!.reader.found[0]!;
  const left = () => [owner(1), owner(2, UDP), owner(3, UDP), net[0]!.reader.findDhcp(777)];
  table.setNow(1005);
  claims.expire();
  expect(left()).toEqual([1, 1, 1, 1]);
  table.setNow(1006);
  claims.expire();
  expect(left()).toEqual([1, 1, 1, -1]);
  net[2]!.own.touches[third] = 1009;
  table.setNow(1011);
  log.length = 0;
  claims.expire();
  expect(left()).toEqual([1, -1, 1, -1]);
  expect(log).toEqual([expect.stringMatching(/^removing \d+ claim$/)]);
  table.setNow(1020);
  claims.expire();
  expect(left()).toEqual([1, -1, -1, -1]);
  table.setNow(1101);
  claims.expire();
  expect(left()).toEqual([-1, -1, -1, -1]);
  expect(claims.expired).toBe(4);
  expect(table.get(kept).kind).toBe("match");
  expect(table.entries).toBe(1);
});

test("an entry's next owner does not inherit its touches", () => {
  const { table, claims, begin, owner, net } = setUp({ matches: 1 });
  begin(1, 1, UDP);
  claims.serve();
  owner(1, UDP);
  net[0]!.own.touches[net[0]!.reader.found[0]!] = 1005;
  table.removeClient(1);
  table.setNow(2000);
  begin(2, 2, UDP);
  claims.serve();
  table.setNow(2010);
  claims.expire();
  expect(owner(2, UDP)).toBe(2);
  table.setNow(2011);
  claims.expire();
  expect(owner(2, UDP)).toBe(-1);
});

test("many clients' claims are looked at in slices, one after another, and all of them within the second", () => {
  const { table, claims } = setUp({ matches: 50_000 });
  for (let n = 0; n < 50_000; n++) table.add({ ...listener(n), srcPrefix: 32, sport: 1 }, n % 10, "claim");
  table.setNow(1200);
  const seen: number[] = [];
  for (let more = true; more; seen.push(claims.expired)) more = claims.expire();
  expect(seen[0]).toBeGreaterThanOrEqual(16_384);
  expect(seen[0]).toBeLessThan(25_000);
  expect(seen.length).toBeGreaterThan(2);
  expect([claims.expired, table.entries]).toEqual([50_000, 0]);
  expect(claims.expire()).toBe(false);
});

test("what a client asked before it left is not given to the next one in its slot", () => {
  const { table, claims, begin, owner, drain } = setUp();
  begin(4, 1);
  table.removeClient(4);
  table.freeClient(4);
  expect(table.addClient(row)).toBe(4);
  claims.serve();
  expect(owner(1)).toBe(-1);
  expect(table.countOf(4, true)).toBe(0);
  expect(drain()).toEqual([0]);
  begin(4, 1);
  claims.serve();
  expect(owner(1)).toBe(4);
});

test("DHCP: a transaction is one client's", () => {
  const { claims, net, log } = setUp();
  net[0]!.held.claimDhcp(1, 0x11223344);
  net[0]!.held.claimDhcp(2, 0x11223344);
  net[0]!.held.claimDhcp(2, 0x55);
  claims.serve();
  expect([0x11223344, 0x55, 0x66].map((xid) => net[0]!.reader.findDhcp(xid))).toEqual([1, 2, -1]);
  expect(log).toEqual([expect.stringMatching(/^added \d+ dhcp$/), expect.stringMatching(/^added \d+ dhcp$/)]);
});

test("a closed channel is told once while that is not answered", () => {
  const { claims, net, log } = setUp();
  for (let i = 0; i < 5; i++) net[0]!.requests.gone(6);
  net[0]!.requests.gone(8);
  expect(claims.serve()).toBe(2);
  expect(log).toEqual(["gone 6", "gone 8"]);
});

test("a Worker's requests are bounded, and those of others are answered in turns", () => {
  const { claims, net } = setUp({ workers: 2 });
  const { requests } = net[0]!;
  for (let n = 0; n < REQUESTS; n++) {
    requests.begin(99, n % 10);
    requests.next[15] = n;
    expect(requests.ask()).toBe(true);
  }
  requests.begin(99, 1);
  expect(requests.ask()).toBe(false);
  expect(net[1]!.held.claim4(1, TCP, HERE, THERE, portsWord(1, 1))).toBe(0);
  expect(claims.serve()).toBe(REQUESTS + 1);
  expect(requests.ask()).toBe(true);
});

test("numbers of requests may wrap", () => {
  const { table, net, owner } = setUp();
  // As if 2^31 - 3 had been asked and answered.
  const before = 2 ** 31 - 3;
  table.answer(0, before);
  const { own, reader } = net[0]!;
  own.made[0] = before;
  const requests = new Requests(own, reader, 0);
  const held = new Held(requests, 10);
  const asked = new Asked(own);
  asked.taken = before;
  const again = new Claims(table, [asked], [own.touches], {
    perClient: 100,
    crowded: () => -1,
    timeout: () => 1,
    allowsDhcp: () => true,
    allows: () => true,
    added: () => true,
    removing() {},
    gone() {},
  });
  for (let n = 1; n <= 6; n++) {
    expect(held.claim4(1, TCP, HERE, THERE, portsWord(443, n))).toBeGreaterThanOrEqual(0);
    expect(held.claim4(1, TCP, HERE, THERE, portsWord(443, n))).toBeGreaterThanOrEqual(0);
    expect(held.ready()).toBe(-1);
    again.serve();
    expect(owner(n)).toBe(1);
    for (let i = 0; i < 2; i++) {
      expect(held.ready()).toBeGreaterThanOrEqual(0);
      held.release();
    }
  }
  expect(again.granted).toBe(6);
});
