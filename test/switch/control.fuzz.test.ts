// The control protocol under hostile requests: bytes, requests that are nearly right, and sequences of right ones, against
// Control as it is, with a table, and maps that a model watches. It never throws, a refused request changes nothing, table
// and maps are the same set after each step, and all is given back at the end. No kernel in it but for the channels.
// NETD_FUZZ_SECONDS runs longer, NETD_SEED repeats a run.
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { epochBytes } from "../../src/mem/epoch.ts";
import { Control } from "../../src/control/control.ts";
import { Grants } from "../../src/control/grants.ts";
import { grantSettings } from "../../src/grantlists.ts";
import { ClientFilters } from "../../src/control/filters.ts";
import { Guard } from "../../src/control/guard.ts";
import { filterBytes } from "../../src/switch/filters/layout.ts";
import { FilterWriter } from "../../src/switch/filters/writer.ts";
import { tableBytes } from "../../src/switch/table/layout.ts";
import { Local } from "../../src/control/local.ts";
import type { Match } from "../../src/switch/table/pattern.ts";
import { pidfdOpen } from "../../src/control/peer.ts";
import { Roster } from "../../src/control/roster.ts";
import { type KernelSocket, type SockDiag, takes } from "../../src/control/sockdiag.ts";
import { type Maps, Steering } from "../../src/control/steering.ts";
import { TableWriter } from "../../src/switch/table/table.ts";
import { writeMatch } from "../../src/control/wants.ts";
import { defaultConfig } from "../../src/config.ts";
import { parseAddress } from "../../src/wire/address.ts";
import { readPrefix, within } from "../../src/wire/prefix.ts";
import { Scratch } from "../net/child.ts";
import { Random } from "../random.ts";

setDefaultTimeout(120_000);

const SECONDS = Number(process.env["NETD_FUZZ_SECONDS"] ?? 1);
const SEED = Number(process.env["NETD_SEED"] ?? Date.now() & 0x7fffffff);
const CLIENTS = 12;
const MATCHES = 200;

const numbers = new Random(SEED);
const random = (below: number): number => numbers.below(below);
const pick = <T>(list: readonly T[]): T => list[random(list.length)]!;

/** What is in the programs' maps, by name; full now and then. */
class ModelMaps {
  readonly entries = new Map<string, unknown>();
  full = false;

  private put(name: string, value: unknown): boolean {
    if (this.full && random(4) === 0) throw new Error("the map is full");
    expect(this.entries.has(name), `${name} is there already`).toBe(false);
    this.entries.set(name, value);
    return true;
  }
  private take(name: string): boolean {
    expect(this.entries.delete(name), `${name} is not there`).toBe(true);
    return true;
  }
  readonly maps: Maps = {
    add: (match) => this.put(`match ${JSON.stringify(writeMatch(match as Match))}`, match),
    remove: (match) => this.take(`match ${JSON.stringify(writeMatch(match as Match))}`),
    addGroup: ({ protocol, dst, dport }) => this.put(`group ${protocol} ${dst} ${dport}`, true),
    removeGroup: ({ protocol, dst, dport }) => this.take(`group ${protocol} ${dst} ${dport}`),
    addOwned: (family, words) => this.put(`owned ${family} ${words}`, true),
    removeOwned: (family, words) => this.take(`owned ${family} ${words}`),
    addDhcp: (xid) => this.put(`dhcp ${xid}`, true),
    removeDhcp: (xid) => this.take(`dhcp ${xid}`),
  };
  setMac(mac: Uint8Array, on: boolean): void {
    if (on) this.put(`mac ${mac}`, true);
    else this.take(`mac ${mac}`);
  }
}

/** The kernel: two addresses and three sockets. */
const address = (text: string) => ({ local: parseAddress(text)!.words, family: parseAddress(text)!.family });
const addrs = ["10.0.0.1", "fd00::1", "127.0.0.1"].map((text) => ({
  ...address(text),
  ifindex: text.startsWith("127") ? 1 : 3,
  prefixLen: text.includes(":") ? 64 : 24,
}));
const netbase = {
  online() {},
  offline() {},
  addrs: { all: () => addrs },
  links: { get: () => ({ lladdr: Uint8Array.of(2, 0, 0, 0, 0, 1), mtu: 1500 }) },
};
const socket = (text: string, port: number, both = false): KernelSocket => ({
  family: address(text).family,
  protocol: 6,
  local: Int32Array.from(address(text).local),
  localPort: port,
  remote: new Int32Array(4),
  remotePort: 0,
  listening: true,
  anyPeer: true,
  both,
  ending: false,
  uid: 0,
});
const held = [socket("10.0.0.1", 22), socket("::", 80, true), socket("fd00::1", 443)];
const sockets = {
  holders: (protocol: number, port: number) =>
    held.filter((one) => one.protocol === protocol && (port === 0 || one.localPort === port)),
  receiver: (family: number, protocol: number, own: Int32Array, port: number) =>
    held.find((one) => one.protocol === protocol && one.localPort === port && takes(one, family, own)),
};

const settings = {
  ...defaultConfig().switch,
  clientsPerUser: 8,
  matchesPerClient: 40,
  matchesPerUser: 120,
  static: ["udp:99"],
  addresses: [] as string[],
};

const fds = () => readdirSync("/proc/self/fd").length;
const before = fds();
const epoll = check("epoll_create1", libc.epoll_create1(0o2000000));
const table = new TableWriter(
  new ArrayBuffer(tableBytes({ clients: CLIENTS, matches: MATCHES })),
  { clients: CLIENTS, matches: MATCHES },
  SEED,
);
const roster = new Roster({ table, epochs: new Int32Array(epochBytes(1) / 4), epollFds: [epoll], settings });
const local = new Local(netbase as unknown as ConstructorParameters<typeof Local>[0], 3);
const model = new ModelMaps();
const steering = new Steering(model.maps, table, local);
const guard = new Guard(local, sockets as unknown as SockDiag, settings, [{ port: 7 }]);
/** uid 1000 has what a policy gives it, and no more. */
const scratch = new Scratch();
const policy = join(scratch.path, "policy.toml");
const ALLOWED = { ports: [80, 8080, 22], addresses: ["10.0.0.0/30", "fd00::/16", "224.0.0.0/4"] };
writeFileSync(
  policy,
  `[[allow]]\nmatches = 20\n${Object.entries(ALLOWED)
    .map(([k, v]) => `${k} = ${JSON.stringify(v)}\n`)
    .join("")}`,
);
const grants = new Grants({
  settings: grantSettings({ ...defaultConfig().grants, policy, users: [1000] }),
  ifname: "eth0",
  perUser: 8,
  watch: () => {},
  tell: () => {},
  filters: () => [],
});
let there = 0;
const filterCapacity = { clients: CLIENTS, matches: MATCHES, filters: 24 };
const filterWriter = new FilterWriter(
  new ArrayBuffer(filterBytes(filterCapacity)),
  filterCapacity,
  new Int32Array(epochBytes(1) / 4),
  table.words,
);
const filters = new ClientFilters({
  writer: filterWriter,
  limits: { filtersPerClient: 6, instructionsPerClient: 40 },
  rules: [],
  clientAt: (slot) => roster.at(slot),
  describe: (entry) => writeMatch(table.get(entry).match),
  flagged: ({ slot, flags }) => table.clients.setFlags(slot, flags),
});
/** Rows of filters that the table and the clients point to. */
function filtered(): number[] {
  const rows: number[] = [];
  const { words, layout: at } = filterWriter;
  for (const { slot, flags } of roster.all()) {
    const own = [words[at.clients + slot * 2]!, words[at.clients + slot * 2 + 1]!];
    const its = [...table.matchesOf(slot)].map((entry) => words[at.entries + entry]!);
    expect((flags & 1) !== 0).toBe(own[0] !== 0 || its.some((row) => row !== 0));
    expect((flags & 2) !== 0).toBe(own[1] !== 0);
    rows.push(...[...own, ...its].filter((row) => row !== 0));
  }
  return rows;
}
const control = new Control({
  ifname: "eth0",
  table,
  roster,
  steering,
  guard,
  grants,
  filters,
  local,
  macs: [],
  setMac: (mac, on) => model.setMac(mac, on),
  serve: () => {},
  changed: (_, come) => void (there += come ? 1 : -1),
});
afterAll(() => {
  scratch[Symbol.dispose]();
  libc.close(epoll);
});

const addresses = [
  "10.0.0.1",
  "10.0.0.2",
  "10.0.0.0",
  "0.0.0.0",
  "255.255.255.255",
  "224.0.0.1",
  "127.0.0.1",
  "x",
];
const addresses6 = ["fd00::1", "fd00::2", "::", "ff02::1", "::1", "fd00::1%eth0"];
const wire = (six: boolean) => (six ? { Ipv6: pick(addresses6) } : { Ipv4: pick(addresses) });
function match(): object {
  const six = random(4) === 0;
  return {
    dst_addr: wire(six),
    dst_port: pick([null, 22, 80, 443, 8080, 8081, 99, 7]),
    src_addr: random(3) ? null : wire(random(10) === 0 ? !six : six),
    src_port: pick([null, null, null, 1, 2]),
    protocol: pick([6, 6, 6, 17, 17, 1, 58, 132, 47]),
    ...(random(5) === 0 && { dst_prefix: random(140) }),
    ...(random(8) === 0 && { src_prefix: random(40) }),
  };
}
const PROGRAMS = [
  "1,6 0 0 65535",
  "4,40 0 0 12,21 0 1 2048,6 0 0 262144,6 0 0 0",
  "2,48 0 0 23,22 0 0 0",
  [6, 0, 0, 0],
  [32, 0, 0, 26, 21, 0, 1, 167772162, 6, 0, 0, 1, 6, 0, 0, 0],
  [0, 0, 0, 0],
  [6, 0, 0],
  "1,6 0 0",
];
const place = () => ({
  direction: pick(["Receive", "Receive", "Transmit", "Both"]),
  ...(random(2) && { match: random(4) ? match() : null }),
});
function request(): string {
  switch (random(20)) {
    case 16:
    case 17:
    case 18:
      return JSON.stringify({ InstallFilter: { ...place(), program: pick(PROGRAMS) } });
    case 19:
      return JSON.stringify(pick<unknown>([{ RemoveFilter: place() }, "ListFilters", "RequestAcks"]));
    case 0:
    case 1:
      return JSON.stringify({ RequestUDS: [pick(["eth0", "eth0", "eth0", "eth1"]), random(99999)] });
    case 2:
      return pick([
        '"DeleteClient"',
        '"WhoAmI"',
        '"ListMatches"',
        '"QueryUsedPorts"',
        '"Challenge"',
        '"ListGrants"',
        '{"Present":{"grant":["a.b.c"],"proof":"a.b.c"}}',
        '{"RequestNetmapPipe":["eth0",1]}',
      ]);
    case 3:
      return JSON.stringify({
        SetMac: pick([
          "02:00:00:00:00:02",
          "02:00:00:00:00:03",
          "02:00:00:00:00:01",
          "01:",
          "00:11:22:33:44:55",
        ]),
      });
    case 4:
    case 5:
    case 6:
      return JSON.stringify({ RemoveMatch: match() });
    default:
      return JSON.stringify({ AddMatch: match() });
  }
}
/** A request with something wrong in it. */
function broken(): Uint8Array {
  const bytes = Buffer.from(request());
  for (let n = 1 + random(4); n > 0; n--) {
    const at = random(bytes.length);
    if (random(3) === 0) bytes.copyWithin(at, random(bytes.length));
    else bytes[at] = random(2) ? random(256) : pick([...Buffer.from('{}[]",:0-.en\\u')]);
  }
  return random(4) === 0 ? bytes.subarray(0, random(bytes.length)) : bytes;
}

/** The table's view of the set, as the maps name it. */
function expected(): string[] {
  const names = new Set<string>();
  for (const { slot, mac, ownMac } of roster.all()) {
    if (ownMac) names.add(`mac ${mac}`);
    for (const entry of table.matchesOf(slot)) {
      const { kind, match: one } = table.get(entry);
      if (kind === "group") {
        names.add(`group ${one.protocol} ${one.dst} ${one.dport}`);
        continue;
      }
      names.add(`match ${JSON.stringify(writeMatch(one))}`);
      const full = one.dstPrefix === (one.family === 2 ? 32 : 128);
      if (full && !local.has(one.family, one.dst)) names.add(`owned ${one.family} ${one.dst}`);
    }
  }
  return [...names].toSorted();
}

/** Nobody who needs a grant has more than the policy says. */
function expectAllowed(): void {
  const prefixes = ALLOWED.addresses.map((text) => readPrefix(text)!);
  for (const { slot, peer, matches } of roster.all()) {
    if (peer.uid !== 1000) continue;
    expect(matches).toBeLessThanOrEqual(20);
    for (const entry of table.matchesOf(slot)) {
      const { family, dst, dport, dstPrefix } = table.get(entry).match;
      const text = JSON.stringify(writeMatch(table.get(entry).match));
      if (table.get(entry).kind === "match")
        expect(within(prefixes, family, dst, dstPrefix), text).toBe(true);
      expect(ALLOWED.ports, text).toContain(dport);
    }
  }
}

test(`control requests, seed ${SEED}`, () => {
  const end = performance.now() + SECONDS * 1000;
  const peers = [
    { pid: process.pid, uid: 0, gid: 0 },
    { pid: process.pid, uid: 1000, gid: 1000 },
  ];
  let steps = 0;
  let ok = 0;
  let most = 0; // filters at a time
  for (; performance.now() < end || steps < 2000; steps++) {
    model.full = random(50) < 5;
    const bytes = random(4) === 0 ? broken() : Buffer.from(request());
    const asker = {
      path: `/client-${random(16)}`,
      peer: pick(peers),
      usnetd: random(2) === 0,
      door: -1,
      pidfd: pidfdOpen(process.pid),
    };
    const was = [...model.entries.keys()].toSorted().join("\n");
    const entries = table.entries;
    const refused = control.counts.refused;
    const answer = control.answer(bytes, asker);
    if (asker.pidfd >= 0) libc.close(asker.pidfd);
    if (answer?.fd !== undefined) libc.close(answer.fd);
    const now = [...model.entries.keys()].toSorted();
    const text = Buffer.from(bytes).toString("latin1");
    if (control.counts.refused > refused && !text.includes("RequestUDS")) {
      expect(now.join("\n"), `a refused request changed the maps: ${text}`).toBe(was);
      expect(table.entries, `a refused request changed the table: ${text}`).toBe(entries);
    }
    if (steps % 16 === 0 || steps < 500) {
      expect(now, `after ${text}`).toEqual(expected());
      expectAllowed();
      most = Math.max(most, filtered().length);
      filters.settle();
      expect(filterWriter.used, `after ${text}`).toBe(filtered().length);
    }
    if (answer?.text === "OK") ok++;
    if (answer !== undefined && !["OK", "ER", "$"].includes(answer.text)) JSON.parse(answer.text);
    expect(roster.size).toBe(there);
    roster.reclaim();
  }
  expect(ok).toBeGreaterThan(steps / 100);
  expect(there).toBeGreaterThan(0);
  model.full = false;
  for (const client of [...roster.all()]) control.drop(client);
  roster.reclaim();
  expect([...model.entries.keys()]).toEqual([]);
  expect(table.entries).toBe(0);
  expect(most).toBeGreaterThan(4);
  filters.settle();
  expect(filterWriter.used).toBe(0);
  expect(fds()).toBeLessThanOrEqual(before + 1);
});
