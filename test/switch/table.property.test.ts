// Random clients, matches, groups and DHCP transactions come and go: the table answers as a list does that is gone
// through by the rules (tablemodel.ts), and no packet ever goes to a client that does not own it.
import { expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { AHEAD, type Ahead, makeAhead, UNKNOWN } from "../../src/switch/table/ahead.ts";
import { TableReader } from "../../src/switch/table/find.ts";
import { tableBytes, WILD_PATTERNS } from "../../src/switch/table/layout.ts";
import { portsWord } from "../../src/switch/table/pattern.ts";
import { CONFLICT, EXISTS, FULL, TableWriter } from "../../src/switch/table/table.ts";
import {
  type Answer,
  type Draft,
  describeDraft,
  describeMatch,
  Model,
  type Packet,
  toMatch,
  toWords,
} from "./tablemodel.ts";

setDefaultTimeout(180_000);

const runs = Number(process.env.ROUNDS ?? 200);
const seed = Number(process.env.SEED ?? (Math.random() * 2 ** 31) | 0);

const CLIENTS = 4;
const PROTOCOLS = [6, 17];
const PORTS = [0, 80, 65535];
// Few addresses, that differ early and late, so that prefixes meet.
const ADDRESSES = {
  2: [0x0a000001n, 0x0a000002n, 0x0a010001n, 0xc0a80001n],
  10: [
    0xfd000000000000000000000000000001n,
    0xfd000000000000000000000000000002n,
    0xfd000000000000010000000000000001n,
    0x20010db8000000000000000000000001n,
  ],
};
const PREFIXES = { 2: [0, 8, 16, 30, 32, 32, 32], 10: [0, 16, 64, 126, 128, 128, 128] };

const packets: Packet[] = [];
for (const family of [2, 10] as const)
  for (const protocol of PROTOCOLS)
    for (const dst of ADDRESSES[family])
      for (const src of ADDRESSES[family])
        for (const dport of PORTS)
          for (const sport of [0, 80]) packets.push({ family, protocol, dst, src, dport, sport });

const draftOf = (family: 2 | 10): fc.Arbitrary<Draft> =>
  fc.record({
    family: fc.constant(family),
    protocol: fc.constantFrom(...PROTOCOLS),
    dst: fc.constantFrom(...ADDRESSES[family]),
    dstPrefix: fc.constantFrom(...PREFIXES[family]),
    dport: fc.constantFrom(-1, ...PORTS),
    src: fc.constantFrom(...ADDRESSES[family]),
    srcPrefix: fc.constantFrom(...PREFIXES[family], 0),
    sport: fc.constantFrom(-1, -1, 0, 80),
  });
const draft = fc.oneof(draftOf(2), draftOf(10));
const client = fc.nat(CLIENTS - 1);

type Step =
  | { do: "add"; draft: Draft; client: number; kind: "match" | "claim" }
  | { do: "remove"; which: number }
  | { do: "leave"; client: number }
  | { do: "dhcp"; xid: number; client: number }
  | { do: "join"; group: number; client: number }
  | { do: "part"; group: number; client: number }
  | { do: "own"; address: number; client: number }
  | { do: "disown"; address: number; client: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant("add" as const),
      draft,
      client,
      kind: fc.constantFrom("match" as const, "claim" as const),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("remove" as const), which: fc.nat(1000) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("leave" as const), client }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("dhcp" as const), xid: fc.nat(3), client }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("join" as const), group: fc.nat(3), client }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("part" as const), group: fc.nat(3), client }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom("own" as const, "disown" as const),
      address: fc.nat(3),
      client,
    }),
  },
);

const ANSWERS: Record<number, Answer> = { [EXISTS]: "exists", [CONFLICT]: "conflict", [FULL]: "full" };
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

/** The packets as frames, as the wire has them; from clients, what they are answers to. */
const FRAME_WORDS = 16;
function framesOf(sent: boolean): Int32Array {
  const frames = new Int32Array(packets.length * FRAME_WORDS);
  for (const [i, { family, protocol, dst, src, dport, sport }] of packets.entries()) {
    const ip = i * FRAME_WORDS + 4;
    const four = family === 2;
    const [from, to] = sent ? [dst, src] : [src, dst];
    frames[ip - 1] = (four ? 0x0008 : 0xdd86) << 16;
    frames[ip + (four ? 2 : 1)] = protocol << (four ? 8 : 16);
    frames.set(toWords(family, from).subarray(0, four ? 1 : 4), ip + (four ? 3 : 2));
    frames.set(toWords(family, to).subarray(0, four ? 1 : 4), ip + (four ? 4 : 6));
    frames[ip + (four ? 5 : 10)] = sent ? portsWord(dport, sport) : portsWord(sport, dport);
  }
  return frames;
}
const frames = [framesOf(false), framesOf(true)];
const offs = Int32Array.from(packets, (_, i) => i * FRAME_WORDS * 4 + 2);
const guesses = { right: 0, none: 0 };

/** Groups 0 and 1 are IPv4, 2 and 3 IPv6; the odd ones have another port. */
const groupOf = (n: number) => {
  const family = n < 2 ? (2 as const) : (10 as const);
  const address = toWords(family, n < 2 ? 0xe00000fbn : 0xff0200000000000000000000000000fbn);
  return { family, protocol: 17, address, port: 5353 + (n & 1) };
};

/** Addresses 0 and 1 are IPv4, 2 and 3 IPv6. */
const ownedOf = (n: number) => {
  const family = n < 2 ? (2 as const) : (10 as const);
  return { family, words: toWords(family, ADDRESSES[family][n & 1]!) };
};

class Pair {
  readonly writer: TableWriter;
  readonly reader: TableReader;
  readonly ahead: Ahead;
  readonly model: Model;
  readonly slots: number[];
  private readonly entries: number[] = []; // of the model's matches, in its order
  private readonly dhcp = new Map<number, number>();
  private readonly groups = new Map<number, Set<number>>();
  private readonly owned = new Map<number, number>();
  private readonly header = new Int32Array(11);
  private readonly out = new Int32Array(CLIENTS);
  /** The packets that were looked ahead for: the first, and how many. */
  private first = 0;
  private looked = 0;

  constructor(matches: number, seed: number) {
    const capacity = { clients: CLIENTS + 1, matches };
    const buffer = new ArrayBuffer(tableBytes(capacity));
    this.writer = new TableWriter(buffer, capacity, seed);
    this.reader = new TableReader(buffer, capacity);
    this.ahead = makeAhead(this.reader, 0);
    this.model = new Model(matches, WILD_PATTERNS);
    this.slots = Array.from({ length: CLIENTS }, () => this.writer.addClient(row));
  }

  find(packet: Packet): number {
    const { family, protocol, dst, src, sport, dport } = packet;
    const { header, reader } = this;
    const ports = portsWord(sport, dport);
    header.set(toWords(family, dst), 1);
    header.set(toWords(family, src), 6);
    const slot =
      family === 2
        ? reader.find4(protocol, header[1]!, header[6]!, ports)
        : reader.find6(header, 1, 6, protocol, ports);
    expect(reader.found[0] !== 0).toBe(slot >= 0);
    if (slot >= 0) expect(this.mayHave(family, dst)).toBe(true);
    if (slot >= 0) expect(this.writer.get(reader.found[0]!).client).toBe(slot);
    return this.slots.indexOf(slot);
  }

  mayHave(family: 2 | 10, dst: bigint): boolean {
    const words = toWords(family, dst);
    return family === 2 ? this.reader.mayHave4(words[0]!) : this.reader.mayHave6(words, 0);
  }

  apply(one: Step): void {
    const { writer, model, slots } = this;
    if (one.do === "add") {
      const before = packets.map((packet) => model.find(packet));
      const wanted = model.add(one.draft, one.client);
      const match = toMatch(one.draft);
      const check = writer.check(match, slots[one.client]!);
      const entry = writer.add(match, slots[one.client]!, one.kind);
      const got = entry > 0 ? "added" : ANSWERS[entry];
      expect({ draft: describeDraft(one.draft), got }).toEqual({
        draft: describeDraft(one.draft),
        got: wanted,
      });
      expect(check).toBe(entry > 0 ? 0 : (entry as typeof check));
      if (entry <= 0) return;
      this.entries.push(entry);
      expect(writer.find(match)).toBe(entry);
      expect(describeMatch(writer.get(entry).match)).toBe(describeDraft(one.draft));
      expect(writer.get(entry).kind).toBe(one.kind);
      // Nobody else lost a packet by it.
      packets.forEach((packet, i) => {
        if (before[i]! >= 0 && before[i] !== one.client) expect(model.find(packet)).toBe(before[i]!);
      });
    } else if (one.do === "remove") {
      if (this.entries.length === 0) return;
      const which = one.which % this.entries.length;
      writer.remove(this.entries[which]!);
      this.entries.splice(which, 1);
      model.matches.splice(which, 1);
    } else if (one.do === "leave") this.leave(one.client);
    else if (one.do === "own") {
      const { family, words } = ownedOf(one.address);
      expect(writer.addOwned(family, words, slots[one.client]!)).toBe(!this.owned.has(one.address));
      if (!this.owned.has(one.address)) this.owned.set(one.address, one.client);
    } else if (one.do === "disown") {
      const { family, words } = ownedOf(one.address);
      writer.removeOwned(family, words);
      this.owned.delete(one.address);
    } else if (one.do === "dhcp") {
      const wanted = this.dhcp.has(one.xid) ? EXISTS : model.full ? FULL : 1;
      const got = writer.addDhcp(one.xid, slots[one.client]!);
      expect(Math.min(got, 1)).toBe(wanted);
      if (got < 0) return;
      this.dhcp.set(one.xid, one.client);
      model.others++;
    } else {
      const members = this.groups.getOrInsertComputed(one.group, () => new Set());
      const group = groupOf(one.group);
      const slot = slots[one.client]!;
      if (one.do === "part") {
        expect(writer.removeGroup(group, slot)).toBe(members.has(one.client));
        if (members.delete(one.client)) this.left(members);
        return;
      }
      const wanted = members.has(one.client) ? EXISTS : model.room < (members.size === 0 ? 2 : 1) ? FULL : 1;
      const got = writer.addGroup(group, slot);
      expect(Math.min(got, 1)).toBe(wanted);
      if (got < 0) return;
      if (members.size === 0) model.groups++;
      members.add(one.client);
      model.others++;
    }
  }

  /** One of a group's is gone. */
  private left(members: Set<number>): void {
    this.model.others--;
    if (members.size === 0) this.model.groups--;
  }

  private leave(client: number): void {
    const { writer, model, slots } = this;
    writer.removeClient(slots[client]!);
    const stays = model.matches.map((one) => one.client !== client);
    model.removeClient(client);
    this.entries.splice(0, Infinity, ...this.entries.filter((_, i) => stays[i]));
    for (const members of this.groups.values()) if (members.delete(client)) this.left(members);
    for (const [xid, owner] of this.dhcp)
      if (owner === client) {
        this.dhcp.delete(xid);
        model.others--;
      }
    for (const [address, owner] of this.owned) if (owner === client) this.owned.delete(address);
    // The next one takes its place, in another slot: this one is free only when it is said to be.
    const old = slots[client]!;
    slots[client] = writer.addClient(row);
    expect(slots[client]).not.toBe(old);
    expect(writer.clients.isLive(old)).toBe(false);
    writer.freeClient(old);
  }

  /** What is guessed for packets is what is found for them. */
  private guesses(): void {
    const { ahead, reader, slots, header } = this;
    for (const [i, packet] of packets.slice(this.first, this.first + this.looked).entries()) {
      const { family, protocol, sport, dport } = packet;
      const ports = portsWord(sport, dport);
      header.set(toWords(family, packet.dst), 0);
      header.set(toWords(family, packet.src), 4);
      const guess =
        family === 2
          ? ahead.find4(i, protocol, header[0]!, header[4]!, ports)
          : ahead.find6(i, header, 0, 4, protocol, ports);
      if (guess === UNKNOWN) {
        guesses.none++;
        continue;
      }
      const guessed = [...reader.found];
      const found = this.find(packet);
      if (slots.indexOf(guess) !== found || reader.found.some((word, n) => word !== guessed[n]))
        expect({ packet, guess, guessed }).toEqual({
          packet,
          guess: slots[found]!,
          guessed: [...reader.found],
        });
      guesses.right++;
    }
  }

  compare(): void {
    const { model, reader, writer, slots, header, out } = this;
    for (const packet of packets) {
      const got = this.find(packet);
      if (got !== model.find(packet)) expect({ packet, got }).toEqual({ packet, got: model.find(packet) });
    }
    this.guesses(); // of before the last changes
    for (const [sent, words] of frames.entries())
      for (this.first = 0; this.first < packets.length; this.first += AHEAD) {
        const batch = offs.subarray(this.first);
        this.looked = this.ahead.look(words, batch, batch.length, sent === 1);
        expect(this.looked).toBe(Math.min(batch.length, AHEAD));
        this.guesses();
      }
    for (let xid = 0; xid < 4; xid++)
      expect(slots.indexOf(reader.findDhcp(xid))).toBe(this.dhcp.get(xid) ?? -1);
    for (let n = 0; n < 4; n++) {
      const { address, protocol, port } = groupOf(n);
      header.set(address, 3);
      const ports = portsWord(12345, port);
      const count =
        n < 2
          ? reader.groups4(protocol, address[0]!, ports, out)
          : reader.groups6(header, 3, protocol, ports, out);
      const members = [...out.subarray(0, count)].map((slot) => slots.indexOf(slot));
      expect(members.sort()).toEqual([...(this.groups.get(n) ?? [])].sort());
    }
    for (let n = 0; n < 4; n++) {
      const { family, words } = ownedOf(n);
      header.set(words, 5);
      const owner = family === 2 ? reader.owner4(words[0]!) : reader.owner6(header, 5);
      expect(slots.indexOf(owner)).toBe(this.owned.get(n) ?? -1);
    }
    expect(writer.entries).toBe(model.matches.length + model.others);
    expect([...reader.entries()].length).toBe(writer.entries);
    expect([...reader.clients()].sort()).toEqual([...slots].sort());
    for (let client = 0; client < CLIENTS; client++) {
      const own = [false, true].flatMap((got) => [...writer.matchesOf(slots[client]!, got)]);
      expect(own.every((entry) => writer.get(entry).client === slots[client])).toBe(true);
    }
  }
}

test("random changes give what the rules give, and nobody gets what is another's", () => {
  console.log(`seed ${seed}`);
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 80 }),
      fc.constantFrom(1, 5, 17, 40, 100),
      fc.integer(),
      (steps, matches, seed) => {
        const pair = new Pair(matches, seed);
        for (const one of steps) {
          pair.apply(one);
          if (one.do !== "add") pair.compare();
        }
        pair.compare();
        for (let i = 0; i < CLIENTS; i++) pair.apply({ do: "leave", client: i });
        expect(pair.writer.entries).toBe(0);
        for (const { family, dst } of packets) expect(pair.mayHave(family, dst)).toBe(false);
        pair.compare();
      },
    ),
    { numRuns: runs, seed },
  );
  expect(guesses.right).toBeGreaterThan(0);
});
