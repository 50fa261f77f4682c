// The firewall, frame by frame (BPF_PROG_TEST_RUN): what the kernel gets while it is on.
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { AF_INET, AF_INET6 } from "../../src/wire/address.ts";
import { MAC } from "./card.ts";
import { concat, ETH_P_8021Q, ethernet, TCP, UDP, u16 } from "./frames.ts";
import {
  errorOf,
  FAMILIES,
  fragment,
  frame,
  Harness,
  ICMP,
  ICMPV6,
  icmp,
  ip,
  key,
  l4,
  listener,
  match,
  own,
  PORTED,
  remote,
  SCTP,
  sent,
} from "./harness.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const BROADCAST = new Uint8Array(6).fill(0xff);
const NEXT = -1;
let bpf: Harness;
beforeAll(() => {
  bpf = new Harness();
});
beforeEach(() => {
  bpf.reset();
  bpf.maps.setFirewall("on");
});
afterAll(() => bpf.close());

/** The kernel sends this. */
function out(
  family: number,
  protocol: number,
  body: Uint8Array,
  dst = remote(family),
  src = own(family),
): void {
  expect(bpf.tc("card_egress", frame(family, protocol, body, { src, dst, mac: MAC }))).toBe(NEXT);
}

test("off, learning, on", () => {
  const bytes = frame(AF_INET, UDP, l4(UDP));
  expect(bpf.verdict(bytes)).toBe("dropped");
  bpf.maps.setFirewall("learn");
  expect(bpf.verdict(bytes)).toBe("noMatch");
  out(AF_INET, UDP, l4(UDP, 5353, 1000));
  bpf.maps.setFirewall("on");
  expect(bpf.verdict(bytes)).toBe("noMatch");
  bpf.maps.setFirewall("off");
  out(AF_INET, UDP, l4(UDP, 5354, 1000));
  bpf.maps.setFirewall("on");
  expect(bpf.verdict(frame(AF_INET, UDP, l4(UDP, 1000, 5354)))).toBe("dropped");
});

for (const family of FAMILIES)
  test(`family ${family}: replies to what the kernel sent, and nothing near them`, () => {
    for (const protocol of PORTED) {
      const reply = frame(family, protocol, l4(protocol));
      expect(bpf.verdict(reply)).toBe("dropped");
      out(family, protocol, l4(protocol, 5353, 1000));
      expect(bpf.verdict(reply)).toBe("noMatch");
      expect(bpf.verdict(frame(family, protocol, l4(protocol, 1001)))).toBe("dropped");
      expect(bpf.verdict(frame(family, protocol, l4(protocol, 1000, 5354)))).toBe("dropped");
      const other = { src: [...remote(family).slice(0, -1), 3] };
      expect(bpf.verdict(frame(family, protocol, l4(protocol), other))).toBe("dropped");
      for (let length = 14; length < reply.length; length++) {
        const got = bpf.verdict(reply.subarray(0, length));
        if (got !== "dropped") throw new Error(`cut at ${length}: ${got}`);
      }
    }
    // A protocol without ports: by its addresses.
    expect(bpf.verdict(frame(family, 47, [1, 2, 3, 4]))).toBe("dropped");
    out(family, 47, Uint8Array.of(1, 2, 3, 4));
    expect(bpf.verdict(frame(family, 47, [1, 2, 3, 4]))).toBe("other");
  });

test("flows that the firewall is told of", () => {
  for (const family of FAMILIES) {
    expect(bpf.maps.seed([match(family, TCP), match(family, UDP)])).toBe(2);
    expect(bpf.verdict(frame(family, TCP, l4(TCP)))).toBe("noMatch");
    expect(bpf.verdict(frame(family, UDP, l4(UDP)))).toBe("noMatch");
    expect(bpf.verdict(frame(family, TCP, l4(TCP, 1001)))).toBe("dropped");
  }
});

test("a flow ends some time after its last packet, of either side, by protocol", () => {
  for (const family of FAMILIES)
    for (const [protocol, seconds] of [
      [TCP, 432_000],
      [UDP, 180],
      [SCTP, 600],
    ] as const) {
      const seen = () => bpf.verdict(frame(family, protocol, l4(protocol)));
      bpf.maps.seed([match(family, protocol)], seconds + 2);
      expect(seen()).toBe("dropped");
      out(family, protocol, l4(protocol, 5353, 1000)); // the kernel begins it anew
      expect(seen()).toBe("noMatch");
      bpf.maps.seed([match(family, protocol)], seconds - 2);
      expect(seen()).toBe("noMatch"); // and that counts
    }
});

test("a client's frames are redirected all the same, and tagged ones are filtered too", () => {
  bpf.maps.add(listener(AF_INET, UDP));
  expect(bpf.verdict(frame(AF_INET, UDP, l4(UDP)))).toBe("redirected");
  const tags: [number, number][] = [[ETH_P_8021Q, 5]];
  expect(bpf.verdict(frame(AF_INET, UDP, l4(UDP), { tags }))).toBe("dropped");
  out(AF_INET, UDP, l4(UDP, 5353, 1000));
  expect(bpf.verdict(frame(AF_INET, UDP, l4(UDP), { tags }))).toBe("noMatch");
});

test("echo: replies to the kernel's requests, not requests by its number; refusals open nothing", () => {
  for (const family of FAMILIES) {
    const protocol = family === AF_INET ? ICMP : ICMPV6;
    const [request, reply] = family === AF_INET ? [8, 0] : [128, 129];
    expect(bpf.verdict(frame(family, protocol, icmp(reply!, 7)))).toBe("dropped");
    out(family, protocol, icmp(request!, 7));
    expect(bpf.verdict(frame(family, protocol, icmp(reply!, 7)))).toBe("noMatch");
    expect(bpf.verdict(frame(family, protocol, icmp(reply!, 8)))).toBe("dropped");
    expect(bpf.verdict(frame(family, protocol, icmp(request!, 7)))).toBe("dropped");
    out(family, protocol, icmp(reply!, 9));
    expect(bpf.verdict(frame(family, protocol, icmp(reply!, 9)))).toBe("dropped");
    const reset = l4(TCP, 5353, 1000);
    reset[13]! |= 4;
    out(family, TCP, reset);
    expect(bpf.verdict(frame(family, TCP, l4(TCP)))).toBe("dropped");
  }
});

test("errors pass if what they quote is a flow of the kernel's, or of an open port", () => {
  for (const family of FAMILIES) {
    const quoted = sent(family, TCP, l4(TCP, 5353, 1000));
    const header = family === AF_INET ? 20 : 40;
    expect(bpf.verdict(errorOf(family, quoted))).toBe("dropped");
    out(family, TCP, l4(TCP, 5353, 1000));
    for (let length = 0; length < quoted.length; length++)
      expect([length, bpf.verdict(errorOf(family, quoted.subarray(0, length)))]).toEqual([
        length,
        length < header + 4 ? "dropped" : "noMatch",
      ]);
    const ssh = sent(family, TCP, l4(TCP, 22, 40000));
    expect(bpf.verdict(errorOf(family, ssh))).toBe("dropped");
    bpf.maps.setOpen([{ family, protocol: TCP, port: 22, remote: key([]), remotePrefix: 0 }]);
    expect(bpf.verdict(errorOf(family, ssh))).toBe("noMatch");
    // An answer of an open port fills no memory.
    out(family, TCP, l4(TCP, 22, 40000));
    bpf.maps.setOpen([]);
    expect(bpf.verdict(errorOf(family, ssh))).toBe("dropped");
  }
});

test("weakness: DEBUG_PORTS with a remote do not work for TCP and UDP: what is open, by protocol, port and longest remote prefix", () => {
  for (const family of FAMILIES) {
    const all = family === AF_INET ? 32 : 128;
    const verdict = (protocol: number, dport: number, last: number): string =>
      bpf.verdict(
        frame(family, protocol, l4(protocol, 1, dport), { src: [...remote(family).slice(0, -1), last] }),
      );
    bpf.maps.setOpen([
      { family, protocol: TCP, port: 22, remote: key([]), remotePrefix: 0 },
      { family, protocol: UDP, port: 53, remote: key(remote(family)), remotePrefix: all },
      { family, protocol: SCTP, port: -1, remote: key(remote(family)), remotePrefix: all - 6 },
      { family, protocol: family === AF_INET ? ICMP : ICMPV6, port: -1, remote: key([]), remotePrefix: 0 },
    ]);
    expect(verdict(TCP, 22, 200)).toBe("noMatch");
    expect(verdict(TCP, 23, 200)).toBe("dropped");
    expect(verdict(UDP, 22, 2)).toBe("dropped");
    expect(verdict(UDP, 53, 2)).toBe("noMatch");
    expect(verdict(UDP, 53, 3)).toBe("dropped");
    for (const port of [0, 1, 65535]) {
      expect(verdict(SCTP, port, 63)).toBe("noMatch");
      expect(verdict(SCTP, port, 64)).toBe("dropped");
    }
    expect(
      bpf.verdict(frame(family, family === AF_INET ? ICMP : ICMPV6, icmp(family === AF_INET ? 8 : 128, 5))),
    ).toBe("noMatch");
    const other = family === AF_INET ? AF_INET6 : AF_INET;
    expect(bpf.verdict(frame(other, TCP, l4(TCP, 1, 22)))).toBe("dropped");
    bpf.maps.setOpen([{ family, protocol: TCP, port: 22, remote: key(remote(family)), remotePrefix: all }]);
    expect(verdict(TCP, 22, 200)).toBe("dropped");
    expect(verdict(TCP, 22, 2)).toBe("noMatch");
    expect(verdict(UDP, 53, 2)).toBe("dropped");
  }
});

test("ARP, neighbour discovery, multicast listeners and what is not IP always pass", () => {
  for (const type of [0x0806, 0x88cc, 0x888e, 0x0026])
    for (const mac of [MAC, BROADCAST])
      expect(bpf.verdict(ethernet(type, new Uint8Array(50), [], mac))).toBe(
        mac === MAC ? "other" : "notMine",
      );
  const group = {
    mac: Uint8Array.of(0x33, 0x33, 0, 0, 0, 1),
    dst: [0xff, 2, ...new Array<number>(13).fill(0), 1],
  };
  const passed: number[] = [];
  for (let type = 0; type < 256; type++)
    for (const options of [{}, group])
      if (bpf.verdict(frame(AF_INET6, ICMPV6, icmp(type, 0, new Uint8Array(16)), options)) !== "dropped")
        if (passed.at(-1) !== type) passed.push(type);
  expect(passed).toEqual([130, 131, 132, 133, 134, 135, 136, 137, 143]);
  const igmp = { mac: Uint8Array.of(1, 0, 0x5e, 0, 0, 1), dst: [224, 0, 0, 1] };
  expect(bpf.verdict(frame(AF_INET, 2, [0x11, 0, 0, 0, 0, 0, 0, 0], igmp))).toBe("notMine");
});

test("broadcast and multicast: what is open, and what a client asked for, which goes on to be cloned", () => {
  const to = (dport: number, dst = [10, 77, 0, 255]): Uint8Array =>
    frame(AF_INET, UDP, l4(UDP, 1, dport), { mac: BROADCAST, dst });
  expect(bpf.verdict(to(137))).toBe("dropped");
  bpf.maps.setOpen([{ family: AF_INET, protocol: UDP, port: 137, remote: key([10, 77]), remotePrefix: 16 }]);
  expect(bpf.verdict(to(137))).toBe("notMine");
  bpf.maps.addGroup({ family: AF_INET, protocol: UDP, dst: key([10, 77, 0, 255]), dport: 138 });
  expect(bpf.verdict(to(138))).toBe("notMine");
  expect(bpf.verdict(to(138, [10, 77, 1, 255]))).toBe("dropped");
  expect(bpf.verdict(to(139))).toBe("dropped");
});

test("the kernel's own DHCP: any server's answer to a question that it asked everybody", () => {
  const offer = frame(AF_INET, UDP, l4(UDP, 67, 68), { mac: BROADCAST, dst: [255, 255, 255, 255] });
  const unicast = frame(AF_INET, UDP, l4(UDP, 67, 68), { dst: [10, 77, 0, 200] });
  expect(bpf.verdict(offer)).toBe("dropped");
  out(AF_INET, UDP, l4(UDP, 68, 67), [255, 255, 255, 255], [0, 0, 0, 0]);
  expect(bpf.verdict(offer)).toBe("notMine");
  expect(bpf.verdict(unicast)).toBe("noMatch");
  const six = frame(AF_INET6, UDP, l4(UDP, 547, 546));
  expect(bpf.verdict(six)).toBe("dropped");
  out(AF_INET6, UDP, l4(UDP, 546, 547), [0xff, 2, ...new Array<number>(12).fill(0), 1, 0, 2].slice(0, 16));
  expect(bpf.verdict(six)).toBe("noMatch");
  // Other questions to a group have no known answerer.
  out(AF_INET, UDP, l4(UDP, 5353, 5353), [224, 0, 0, 251]);
  expect(bpf.verdict(frame(AF_INET, UDP, l4(UDP, 5353, 5353), { src: [224, 0, 0, 251] }))).toBe("dropped");
});

test("fragments follow the first; alone, later ones are of no use to anybody and pass", () => {
  const rest = new Uint8Array(8);
  for (const family of FAMILIES) {
    const first = (id: number, dport: number): string =>
      bpf.verdict(fragment(family, UDP, id, 0, true, concat(u16(1000), u16(dport), u16(32), [0, 0], rest)));
    const later = (id: number): string => bpf.verdict(fragment(family, UDP, id, 16, false, rest));
    expect(later(1)).toBe("fragment");
    expect(first(2, 5354)).toBe("dropped");
    expect(later(2)).toBe("dropped");
    out(family, UDP, l4(UDP, 5353, 1000));
    expect(first(3, 5353)).not.toBe("dropped");
    expect(later(3)).toBe("fragment");
  }
});

test("malformed packets, and those of other hosts, are dropped", () => {
  const bent = frame(AF_INET, UDP, l4(UDP));
  bent[14] = 0x44;
  expect(bpf.verdict(bent)).toBe("dropped");
  expect(bpf.verdict(frame(AF_INET, UDP, l4(UDP), { src: [127, 0, 0, 1] }))).toBe("dropped");
  expect(bpf.verdict(frame(AF_INET6, 59, []))).toBe("dropped");
  expect(bpf.verdict(frame(AF_INET, UDP, l4(UDP), { mac: Uint8Array.of(2, 0, 0, 0, 9, 9) }))).toBe("dropped");
  expect(bpf.verdict(ethernet(0x0800, ip(AF_INET, UDP, l4(UDP)).subarray(0, 19)))).toBe("dropped");
});
