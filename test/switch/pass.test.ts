import { afterAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { CARD_LLADDR, PEER_LLADDR, SimLoop } from "../../src/lab/simloop.ts";
import { formatLladdr, parseIPv4, parseLladdr } from "../../src/wire/address.ts";
import { checksum, pseudo, type UdpFrame, udpFrame } from "../../src/wire/frame.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const us = parseIPv4("10.77.0.1")!;
const them = parseIPv4("10.77.0.2")!;
const ourMac = parseLladdr(CARD_LLADDR)!;
const theirMac = parseLladdr(PEER_LLADDR)!;

const sim = new SimLoop({ frames: 64 });
const veth = new SimLoop({ frames: 64, partialChecksums: true });
for (const it of [sim, veth]) {
  it.serve("10.77.0.1", 7);
  it.route("10.77.0.0/24");
  it.neigh("10.77.0.2");
}
sim.route("10.78.0.0/16", "10.77.0.2");
sim.route("10.79.0.0/16", undefined, { type: 6 });
sim.route("10.80.0.0/16", undefined, { type: 7 });
sim.route("10.81.0.0/16", undefined, { type: 8 });
sim.route("10.82.0.0/16", undefined, { type: 2 });
sim.setLink({ ifindex: 9, lladdr: "02:00:00:00:00:09" });
sim.route("10.83.0.0/16", "10.77.0.2", { oif: 9 });
sim.route("10.84.0.0/16", "10.77.0.2", { mtu: 600 });
sim.route("10.85.0.0/16", undefined, { type: 3 });
sim.route("224.0.0.0/4", undefined, { type: 5 });
afterAll(() => {
  sim.close();
  veth.close();
});
beforeEach(() => sim.setLink({}));

/** Runs one frame through; gives the drop's name, or the frame sent. */
function answer(frame: Uint8Array, at = 2, it = sim): string | Uint8Array {
  const before = it.counts();
  expect(it.link.inject(frame, at)).toBe(true);
  expect(it.loop.turn()).toBe(1);
  const [sent] = it.link.sent();
  expect(it.link.freeFrames).toBe(64); // every frame is given back, sent or not
  if (sent) return sent;
  const after = it.counts();
  return (
    Object.keys(after).find((name) => !name.startsWith("rx") && after[name]! > before[name]!) ?? "nothing"
  );
}

const question: UdpFrame = {
  dstMac: ourMac,
  srcMac: theirMac,
  src: them,
  dst: us,
  sport: 4000,
  dport: 7,
  payload: new TextEncoder().encode("hello, netd"),
};
const from = (address: string, fields: Partial<UdpFrame> = {}) =>
  udpFrame({ ...question, src: parseIPv4(address)!, ...fields });
const changed = (at: number, value: number, spec = question) => {
  const frame = udpFrame(spec);
  frame[at] = value;
  return frame;
};
/** As `changed`, with the IPv4 checksum made right again. */
const rechecked = (at: number, value: number) => {
  const frame = changed(at, value);
  frame[24] = frame[25] = 0;
  new DataView(frame.buffer).setUint16(24, checksum(frame, 14, (frame[14]! & 15) * 4));
  return frame;
};
/** What a right answer is, from RFC 862 and the headers' definitions. */
const wanted = (spec: UdpFrame, mac = theirMac) =>
  udpFrame({
    ...spec,
    dstMac: mac,
    srcMac: ourMac,
    src: spec.dst,
    dst: spec.src,
    sport: spec.dport,
    dport: spec.sport,
    options: new Uint8Array(0),
    ttl: 64,
    tos: 0,
    id: 0,
    fragment: 0x4000,
  });
const tagged = (frame: Uint8Array, ...tags: number[]) => {
  const bytes = tags.flatMap((tag) => [(tag >> 24) & 255, (tag >> 16) & 255, (tag >> 8) & 255, tag & 255]);
  return Uint8Array.from([...frame.slice(0, 12), ...bytes, ...frame.slice(12)]);
};

describe("in", () => {
  test("answers any datagram with exactly its payload and right headers, byte for byte", () => {
    fc.assert(
      fc.property(
        fc.record({
          payload: fc.uint8Array({ maxLength: 1472 }),
          src: fc.integer({ min: 0, max: 255 }).map((low) => (parseIPv4("10.78.0.0")! | (low << 24)) >> 0),
          sport: fc.integer({ min: 0, max: 65535 }).filter((port) => port !== 7),
          ttl: fc.integer({ min: 0, max: 255 }),
          tos: fc.integer({ min: 0, max: 255 }),
          id: fc.integer({ min: 0, max: 65535 }),
          fragment: fc.constantFrom(0, 0x4000),
          options: fc.integer({ min: 0, max: 10 }).map((n) => new Uint8Array(n * 4).fill(1)),
          at: fc.oneof(fc.constant(2), fc.nat(64)),
          padding: fc.integer({ min: 0, max: 20 }),
        }),
        ({ at, padding, ...fields }) => {
          const spec = { ...question, ...fields };
          const frame = udpFrame(spec);
          const padded = new Uint8Array(frame.length + padding).fill(0xaa);
          padded.set(frame);
          expect(answer(padded, at)).toEqual(wanted(spec));
        },
      ),
      { numRuns: 1000 },
    );
  });

  test("priority tags are looked through, other tags are not ours", () => {
    expect(answer(tagged(udpFrame(question), 0x8100e000))).toEqual(wanted(question));
    expect(answer(tagged(udpFrame(question), 0x88a80000, 0x8100f000))).toEqual(wanted(question));
    expect(answer(tagged(udpFrame(question), 0x81000005))).toBe("not_ipv4");
    expect(answer(tagged(udpFrame(question), 0x81000100))).toBe("not_ipv4");
  });

  test("an answer to a datagram without checksum has one", () => {
    const frame = changed(40, 0);
    frame[41] = 0;
    expect(answer(frame)).toEqual(wanted(question));
  });

  test("completes a checksum that the local kernel left partial, if told to", () => {
    const frame = udpFrame(question);
    const view = new DataView(frame.buffer);
    let sum = pseudo(frame, view.getUint16(38));
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    view.setUint16(40, sum, true);
    expect(answer(frame)).toBe("bad_udp_checksum");
    expect(answer(frame, 2, veth)).toEqual(wanted(question));
  });

  test.each([
    ["runt", udpFrame(question).slice(0, 41)],
    ["other_host", changed(5, 9)],
    ["other_host", changed(0, 3)],
    ["not_ipv4", changed(12, 0x86)],
    ["bad_header", rechecked(14, 0x65)],
    ["bad_header", changed(14, 0x44)],
    ["bad_header", rechecked(17, 27)],
    ["bad_header", rechecked(16, 1)],
    ["bad_ip_checksum", changed(24, 0x77)],
    ["bad_ip_checksum", changed(24, 0x77, { ...question, options: new Uint8Array(8) })],
    ["fragment", rechecked(20, 0x20)],
    ["fragment", rechecked(21, 1)],
    ["not_udp", rechecked(23, 6)],
    ["bad_udp_length", changed(39, 7)],
    ["bad_udp_length", changed(38, 1)],
    ["bad_udp_checksum", changed(41, 0x77)],
    ["bad_udp_checksum", changed(52, 0x77)],
    ["no_match", udpFrame({ ...question, dport: 8 })],
    ["no_match", udpFrame({ ...question, dst: them })],
    ["echo_loop", udpFrame({ ...question, sport: 7 })],
  ])("drops as %s", (reason, frame) => {
    expect(answer(frame)).toBe(reason);
  });
});

describe("out", () => {
  test.each([
    ["no_route", "192.0.2.1"],
    ["blackhole", "10.79.0.1"],
    ["unreachable", "10.80.0.1"],
    ["prohibit", "10.81.0.1"],
    ["to_kernel", "10.82.0.1"],
    ["other_interface", "10.83.0.1"],
    ["no_neighbour", "10.77.0.9"],
  ])("drops as %s", (reason, address) => {
    expect(answer(from(address))).toBe(reason);
  });

  test("a route's and the card's MTU hold", () => {
    const full = { payload: new Uint8Array(600 - 28) };
    expect(answer(from("10.84.0.1", full))).toEqual(
      wanted({ ...question, ...full, src: parseIPv4("10.84.0.1")! }),
    );
    expect(answer(from("10.84.0.1", { payload: new Uint8Array(600 - 27) }))).toBe("mtu");
    sim.setLink({ mtu: 580 });
    expect(answer(from("10.78.0.1", full))).toBe("mtu");
  });

  test("a card that goes down sends nothing; one that gets another address sends from that", () => {
    sim.setLink({ flags: 0x1003 });
    expect(answer(udpFrame(question))).toBe("link_down");
    const lladdr = "02:00:00:00:00:11";
    sim.setLink({ lladdr });
    expect(answer(udpFrame(question))).toBe("other_host");
    const mac = parseLladdr(lladdr)!;
    const sent = answer(udpFrame({ ...question, dstMac: mac })) as Uint8Array;
    expect([...sent.slice(6, 12)]).toEqual([...mac]);
  });

  test("groups and broadcast have their address by definition", () => {
    const { link, netbase, transmit } = sim;
    const ip = (link.framesOff + 2 + 14) >> 2;
    const to = (address: string) => {
      const dst = parseIPv4(address)!;
      expect(transmit.resolve(ip, dst, netbase.fib4.lookup(dst))).toBe(0);
      return formatLladdr(link.bytes.slice(link.framesOff + 2, link.framesOff + 8));
    };
    expect(to("10.85.0.255")).toBe("ff:ff:ff:ff:ff:ff");
    expect(to("239.129.2.3")).toBe("01:00:5e:01:02:03");
  });

  test("what claims to come from many hosts is not answered", () => {
    for (const address of ["10.85.0.255", "239.129.2.3"]) expect(answer(from(address))).toBe("bad_source");
  });

  test("asks for a missing neighbour once a second, for one in doubt as in use, for a gateway in its place", () => {
    const out = new Int32Array(8);
    const asked = () => {
      const messages: number[][] = [];
      while (sim.solicits.pop(out)) messages.push([...out]);
      return messages;
    };
    asked();
    for (let i = 0; i < 5; i++) answer(from("10.77.0.20"));
    expect(asked()).toEqual([[2, 2, parseIPv4("10.77.0.20")!, 0, 0, 0, 0, 0]]);
    sim.route("10.86.0.0/16", "10.77.0.21");
    answer(from("10.86.0.1"));
    expect(asked()).toEqual([[2, 2, parseIPv4("10.77.0.21")!, 0, 0, 0, 0, 0]]);
    sim.neigh("10.77.0.21", PEER_LLADDR, 4);
    answer(from("10.86.0.2"));
    answer(from("10.86.0.3"));
    expect(asked()).toEqual([[2, 2, parseIPv4("10.77.0.21")!, 0, 0, 0, 1, 0]]);
  });

  test("a full transmit ring drops, counts, and gives every frame back", () => {
    using stack = new DisposableStack();
    const small = new SimLoop({ frames: 64 });
    stack.defer(() => small.close());
    small.serve("10.77.0.1", 7);
    small.route("10.77.0.0/24");
    small.neigh("10.77.0.2");
    const off = new Int32Array(60);
    const len = new Int32Array(60);
    expect(small.link.tx.put(off, len, 60)).toBe(60);
    for (let i = 0; i < 10; i++) small.link.inject(udpFrame(question));
    expect(small.loop.turn()).toBe(10);
    expect(small.counts()).toMatchObject({ rxPackets: 10, txPackets: 4, tx_full: 6 });
    expect(small.link.freeFrames).toBe(60);
  });
});

test("bytes of any kind never throw, and no frame is lost", () => {
  const seed = Number(process.env["NETD_SEED"] ?? Math.trunc(Math.random() * 2 ** 31));
  console.log(`pass fuzz: NETD_SEED=${seed}`);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 128 }), fc.nat(127), fc.nat(255), (noise, at, value) => {
      expect(typeof answer(noise)).toBe("string");
      const frame = udpFrame(question);
      if (at < frame.length) frame[at] = value;
      const got = answer(frame);
      if (typeof got !== "string") expect(got.length).toBeLessThanOrEqual(frame.length);
    }),
    { seed, numRuns: 5000 },
  );
});
