// What the clients of one user may have together: rates and claims, as clients come and go.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { defaultConfig } from "../../src/config.ts";
import { Claims } from "../../src/control/claim.ts";
import { type Client, Roster } from "../../src/control/roster.ts";
import { epochBytes } from "../../src/mem/epoch.ts";
import { Held } from "../../src/switch/held.ts";
import { Own, ownBytes } from "../../src/switch/own.ts";
import { Asked, Requests } from "../../src/switch/request.ts";
import { TableReader } from "../../src/switch/table/find.ts";
import { CLIENT_RATE_PPS, tableBytes } from "../../src/switch/table/layout.ts";
import { portsWord } from "../../src/switch/table/pattern.ts";
import { TableWriter } from "../../src/switch/table/table.ts";

const CAPACITY = { clients: 16, matches: 1000 };
const UDP = 17;
const HERE = 0x0100000a;
const THERE = 0x0200000a;

let epoll: number;
let table: TableWriter;
let reader: TableReader;
let roster: Roster;
let claims: Claims;
let held: Held;
let number = 0;
const theirs: number[] = [];

function start(more: object): void {
  epoll = check("epoll_create1", libc.epoll_create1(0));
  const buffer = new ArrayBuffer(tableBytes(CAPACITY));
  table = new TableWriter(buffer, CAPACITY, 42);
  table.setNow(1);
  reader = new TableReader(buffer, CAPACITY);
  const epochs = new Int32Array(epochBytes(1) / 4);
  const settings = { ...defaultConfig().switch, ...more };
  roster = new Roster({ table, epochs, epollFds: [epoll], settings });
  const own = new Own(new ArrayBuffer(ownBytes(CAPACITY)), CAPACITY);
  held = new Held(new Requests(own, reader, 0), CAPACITY.clients);
  claims = new Claims(table, [new Asked(own)], [own.touches], {
    perClient: settings.claimsPerClient,
    crowded: (client) => roster.crowded(client),
    timeout: () => 60,
    allows: () => true,
    allowsDhcp: () => true,
    added(entry) {
      roster.claimed(table.get(entry).client, 1);
      return true;
    },
    removing: (entry) => roster.claimed(table.get(entry).client, -1),
    gone: () => {},
  });
}

function attach(uid: number): Client {
  const [ours, other] = Roster.channel("socket");
  theirs.push(other);
  const pidfd = check("epoll_create1", libc.epoll_create1(0)); // any fd
  const mac = new Uint8Array(6);
  return roster.attach(`client ${++number}`, { pid: 1, uid, gid: uid }, pidfd, ours, "socket", mac, 1500);
}

const rates = (...clients: Client[]) =>
  clients.map(({ slot }) => table.words[reader.client(slot) + CLIENT_RATE_PPS]!);

/** Client's flow number n; whose it is then. */
function begin({ slot }: Client, n: number): void {
  held.claim4(slot, UDP, HERE, THERE, portsWord(9, n));
  claims.serve();
  while (held.ready() >= 0) held.release();
  table.setNow(table.now + 1);
}
const owner = (n: number) => reader.find4(UDP, HERE, THERE, portsWord(9, n));

beforeEach(() => start({}));
afterEach(() => {
  roster.close();
  for (const fd of [epoll, ...theirs.splice(0)]) libc.close(fd);
});

test("a user's rate is its clients' in equal parts, and no client's is over its own", () => {
  roster.close();
  libc.close(epoll);
  start({ packetsPerSecond: 600, packetsPerSecondPerUser: 1000 });
  const [a, other] = [attach(1), attach(2)];
  expect(rates(a, other)).toEqual([600, 600]);
  const b = attach(1);
  expect(rates(a, b, other)).toEqual([500, 500, 600]);
  a.packetsPerSecond = 100; // by a grant
  roster.update(a, 1500);
  const c = attach(1);
  expect(rates(a, b, c, other)).toEqual([100, 334, 334, 600]);
  roster.detach(b);
  roster.detach(c);
  expect(rates(a, other)).toEqual([100, 600]);
});

test("a client with rings in several net Workers may send no more than another: each has a part of its rate", () => {
  roster.close();
  libc.close(epoll);
  start({ packetsPerSecond: 600, packetsPerSecondPerUser: 1000 });
  const a = attach(1);
  roster.spread(a, 4);
  expect(rates(a)).toEqual([150]);
  const b = attach(1);
  expect(rates(a, b)).toEqual([125, 500]);
  roster.update(a, 1500);
  expect(rates(a)).toEqual([125]);
});

test("a user's claims: with one more the oldest ends, of the client itself, or of the greediest of the user's", () => {
  roster.close();
  libc.close(epoll);
  start({ claimsPerClient: 3, claimsPerUser: 4 });
  const [a, b, c, other] = [attach(1), attach(1), attach(1), attach(2)];
  begin(other, 1);
  for (const n of [11, 12, 13]) begin(a, n);
  begin(b, 21);
  expect([11, 12, 13, 21].map(owner)).toEqual([a.slot, a.slot, a.slot, b.slot]);
  begin(b, 22); // over the user's: of its own
  expect([11, 12, 13, 21, 22].map(owner)).toEqual([a.slot, a.slot, a.slot, -1, b.slot]);
  begin(c, 31); // has none: of who has most
  expect([11, 12, 13, 22, 31].map(owner)).toEqual([-1, a.slot, a.slot, b.slot, c.slot]);
  expect(owner(1)).toBe(other.slot);
  table.setNow(table.now + 100);
  claims.expire();
  for (const n of [41, 42, 43]) begin(a, n);
  begin(c, 51);
  expect([41, 42, 43, 51].map(owner)).toEqual([a.slot, a.slot, a.slot, c.slot]);
});
