// Filters in clients' paths against a model: clients with matches and group memberships come and go, filters are installed,
// replaced and removed between packets, functions get made meanwhile; each packet reaches exactly those whose filters the
// kernel's own meaning (the interpreter, over the frame) lets it pass. NETD_SEED repeats a run, NETD_FUZZ_SECONDS makes it
// longer.
import { expect, setDefaultTimeout, test } from "bun:test";
import { interpreter } from "../../src/filter/interpret.ts";
import { plainMeta } from "../../src/filter/packet.ts";
import type { Program } from "../../src/filter/program.ts";
import { compiledText, datagram, PORTS } from "../filter/texts.ts";
import { Random } from "../random.ts";
import * as f from "./packets.ts";
import { type TestClient, World } from "./world.ts";

setDefaultTimeout(120_000);

const SECONDS = Number(process.env["NETD_FUZZ_SECONDS"] ?? 1);
const SEED = Number(process.env["NETD_SEED"] ?? (Math.random() * 0x7fffffff) | 0);
const GROUPS = ["224.0.0.9", "224.0.0.10"];
const OWNERS = 6;

interface Filtered {
  readonly client: TestClient;
  all: Program | undefined;
  out: Program | undefined;
  /** by entry: the address, port and filter of a match or a membership */
  readonly entries: Map<number, { dst: string; dport: number; program: Program | undefined }>;
}

const memory = new Uint8Array(2048);
function takes(program: Program | undefined, frame: Uint8Array): boolean {
  if (program === undefined) return true;
  memory.set(frame);
  return interpreter(program, memory, plainMeta())(0, frame.length) !== 0;
}

test(`clients' filters and a model, seed ${SEED}`, () => {
  const r = new Random(SEED);
  const world = new World({ matches: 512 });
  const clients: Filtered[] = [];
  for (let i = 0; i < 20; i++)
    clients.push({ client: world.attach(), all: undefined, out: undefined, entries: new Map() });
  for (const [i, one] of clients.slice(0, OWNERS).entries())
    for (const dport of PORTS) {
      const dst = `10.77.0.${100 + i}`;
      one.entries.set(world.match(one.client, f.UDP, dst, dport), { dst, dport, program: undefined });
    }

  const change = (): void => {
    const one = r.pick(clients);
    const { client, entries } = one;
    const entry = entries.size > 0 && r.below(2) ? r.pick([...entries.keys()]) : 0;
    const its = entries.get(entry);
    switch (r.below(8)) {
      case 0:
      case 1: {
        // Joins a group, or leaves one.
        const dst = r.pick(GROUPS);
        const dport = r.pick(PORTS);
        const there = [...entries].find(([, other]) => other.dst === dst && other.dport === dport);
        if (there === undefined) {
          entries.set(world.group(client, f.UDP, dst, dport), { dst, dport, program: undefined });
        } else {
          world.leave(client, there[0]);
          entries.delete(there[0]);
        }
        return;
      }
      case 2:
        if (its ? its.program : one.all) world.unfilter(client, "receive", entry);
        if (its) its.program = undefined;
        else one.all = undefined;
        return;
      case 3: {
        const { text, program } = compiledText(r);
        world.filter(client, "transmit", text);
        one.out = program;
        return;
      }
      default: {
        const { text, program } = compiledText(r);
        world.filter(client, "receive", text, entry);
        if (its) its.program = program;
        else one.all = program;
      }
    }
  };

  const receive = (): number => {
    const isGroup = r.below(2) === 0;
    const dst = isGroup ? r.pick(GROUPS) : `10.77.0.${100 + r.below(OWNERS)}`;
    const frame = datagram(r, { dst, ...(isGroup && { dstMac: "01:00:5e:00:00:09" }) });
    const dport = (frame[36]! << 8) | frame[37]!;
    world.wire(frame);
    world.run();
    let got = 0;
    for (const [i, { client, all, entries }] of clients.entries()) {
      const its = [...entries.values()].find((one) => one.dst === dst && one.dport === dport);
      const wanted = its !== undefined && takes(all, frame) && takes(its.program, frame);
      const frames = client.receive();
      if (frames.length !== (wanted ? 1 : 0))
        throw new Error(`seed ${SEED}: client ${i} got ${frames.length}`);
      got += frames.length;
    }
    return got;
  };

  const send = (): number => {
    const one = r.pick(clients.slice(0, OWNERS));
    const { dst, dport } = r.pick([...one.entries.values()].filter((its) => !GROUPS.includes(its.dst)));
    const plain = datagram(r);
    const frame = f.udpPacket({
      ...{ srcMac: f.CARD, dstMac: f.PEER, src: dst, sport: dport },
      ...{ dst: `10.0.0.${plain[33]}`, dport: (plain[36]! << 8) | plain[37]!, ttl: plain[22]! },
      payload: plain.slice(42),
    });
    one.client.send(frame);
    const out = world.run().length;
    if (out !== (takes(one.out, frame) ? 1 : 0)) throw new Error(`seed ${SEED}: ${out} frames went out`);
    return out;
  };

  let steps = 0;
  let got = 0;
  let sent = 0;
  for (const end = performance.now() + SECONDS * 1000; performance.now() < end || steps < 1500; steps++) {
    if (r.below(3) === 0) change();
    got += receive();
    world.tick(2); // a function more, if there is one to be made
    sent += send();
    world.tick(2);
    if (steps % 50 === 0) world.filters.reclaim();
  }
  console.log(`${steps} steps: ${got} received, ${sent} sent`);
  expect(got).toBeGreaterThan(steps / 4);
  expect(sent).toBeGreaterThan(steps / 10);
  expect(world.close()).toBe(0);
});
