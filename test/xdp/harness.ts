// The programs under BPF_PROG_TEST_RUN: a card, a real AF_XDP socket in its map, and what became of one frame.
import { expect } from "bun:test";
import { AF_INET, AF_INET6 } from "../../src/wire/address.ts";
import { SteerMaps, type WildMatch } from "../../src/xdp/maps.ts";
import { SteerProgram, steerCounters } from "../../src/xdp/program.ts";
import { createSocket, type XdpSocket } from "../../src/xdp/socket.ts";
import type { TcProgram } from "../../src/xdp/tc.ts";
import { Card, MAC } from "./card.ts";
import {
  ADDRESS4,
  ADDRESS6,
  concat,
  ETH_P_IP,
  ETH_P_IPV6,
  ethernet,
  ipv4,
  ipv6,
  TCP,
  tcp,
  UDP,
  u16,
  words,
} from "./frames.ts";

export const SCTP = 132;
export const DCCP = 33;
export const UDPLITE = 136;
export const ICMP = 1;
export const ICMPV6 = 58;
/** The protocols with ports. */
export const PORTED = [TCP, UDP, SCTP, DCCP, UDPLITE];
export const FAMILIES = [AF_INET, AF_INET6] as const;

/** The remote end of all frames of frames.ts. */
export const REMOTE4 = [10, 77, 0, 2];
export const REMOTE6 = [...ADDRESS6.slice(0, 15), 2];
export const own = (family: number): number[] => (family === AF_INET ? ADDRESS4 : ADDRESS6);
export const remote = (family: number): number[] => (family === AF_INET ? REMOTE4 : REMOTE6);
export const key = (bytes: number[]): Int32Array =>
  words([...bytes, ...new Array<number>(16 - bytes.length).fill(0)]);

const ACTIONS: Record<string, number> = { redirected: 4, dropped: 1 };
const XDP_PASS = 2;
/** Counters of the tc programs. */
const TC: readonly string[] = ["toTap", "local", "cloned", "givenBack"];

export class Harness {
  readonly card = new Card(2);
  readonly socket: XdpSocket;
  program!: SteerProgram;
  maps!: SteerMaps;

  constructor() {
    this.socket = this.card.run(() =>
      createSocket({
        ifname: "nd0",
        ifindex: this.card.ifindex,
        queue: 0,
        frames: 64,
        frameBytes: 2048,
        rxSize: 64,
        txSize: 64,
        mode: "copy",
      }),
    );
  }

  /** A fresh program and maps. */
  reset(): void {
    this.program?.close();
    this.program = SteerProgram.load();
    this.program.setAddress(MAC);
    this.program.setSocket(0, this.socket.ref.fd);
    this.maps = new SteerMaps(this.program.fds);
  }

  close(): void {
    this.program?.close();
    this.socket.close();
    this.card.close();
  }

  /** The counter that moved. Fails if it was not one, by one, or if the action contradicts it. */
  verdict(frame: Uint8Array, queue = 0): string {
    const before = this.program.counters();
    const action = this.card.run(() => this.program.testRun(frame, { ifindex: this.card.ifindex, queue }));
    const after = this.program.counters();
    const moved = steerCounters.filter((name) => after[name] !== before[name]);
    expect(moved.length).toBe(1);
    expect(after[moved[0]!] - before[moved[0]!]).toBe(1);
    expect(TC).not.toContain(moved[0]!);
    expect([moved[0], action]).toEqual([moved[0], ACTIONS[moved[0]!] ?? XDP_PASS]);
    return moved[0]!;
  }

  redirected(frame: Uint8Array): boolean {
    return this.verdict(frame) === "redirected";
  }

  /** A tc program's return value. */
  tc(name: TcProgram, frame: Uint8Array): number {
    return this.card.run(() => this.program.testRunTc(name, frame));
  }
}

/** A match of the addresses of frames.ts. */
export function match(family: number, protocol: number, fields: Partial<WildMatch> = {}): WildMatch {
  const all = family === AF_INET ? 32 : 128;
  return {
    family,
    protocol,
    dst: key(own(family)),
    dstPrefix: all,
    dport: 5353,
    src: key(remote(family)),
    srcPrefix: all,
    sport: 1000,
    ...fields,
  };
}

export const listener = (family: number, protocol: number, dport = 5353): WildMatch =>
  match(family, protocol, { dport, src: key([]), srcPrefix: 0, sport: -1 });

/** Header and 4 bytes of data of any protocol with ports. */
export function l4(protocol: number, sport = 1000, dport = 5353): Uint8Array<ArrayBuffer> {
  const ports = [...u16(sport), ...u16(dport)];
  if (protocol === TCP) {
    const segment = tcp(dport, [1, 2, 3, 4]);
    segment.set(ports);
    return segment;
  }
  if (protocol === UDP || protocol === UDPLITE) return concat(ports, u16(12), [0, 0, 1, 2, 3, 4]);
  if (protocol === SCTP) return concat(ports, [0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4]);
  return concat(ports, [3, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]); // DCCP: 3 words
}

export const icmp = (type: number, id = 0, data: ArrayLike<number> = [1, 2, 3, 4]): Uint8Array<ArrayBuffer> =>
  concat([type, 0, 0, 0], u16(id), [0, 1], data);

interface Options {
  tags?: [number, number][];
  mac?: Uint8Array;
  src?: number[];
  dst?: number[];
}

/** An IP packet in either direction; `next` is the protocol. */
export function ip(
  family: number,
  next: number,
  body: ArrayLike<number>,
  { src = remote(family), dst = own(family) }: Options = {},
): Uint8Array<ArrayBuffer> {
  const packet = family === AF_INET ? ipv4(body, { proto: next, dst }) : ipv6(body, { next, dst });
  packet.set(src, family === AF_INET ? 12 : 8);
  return packet;
}

export function frame(
  family: number,
  next: number,
  body: ArrayLike<number>,
  options: Options = {},
): Uint8Array<ArrayBuffer> {
  const type = family === AF_INET ? ETH_P_IP : ETH_P_IPV6;
  return ethernet(type, ip(family, next, body, options), options.tags, options.mac);
}

/** An ICMP error (port unreachable) to us that quotes `packet`. */
export const errorOf = (
  family: number,
  packet: ArrayLike<number>,
  options: Options = {},
): Uint8Array<ArrayBuffer> =>
  frame(family, family === AF_INET ? ICMP : ICMPV6, icmp(family === AF_INET ? 3 : 1, 0, packet), options);

/** What we sent: quoted in errors. */
export const sent = (family: number, protocol: number, body: ArrayLike<number>): Uint8Array<ArrayBuffer> =>
  ip(family, protocol, body, { src: own(family), dst: remote(family) });

/** One fragment of an IP packet with this payload, cut at `offset` bytes (a multiple of 8). */
export function fragment(
  family: number,
  protocol: number,
  id: number,
  offset: number,
  more: boolean,
  part: ArrayLike<number>,
  options: Options = {},
): Uint8Array<ArrayBuffer> {
  if (family === AF_INET) {
    const bytes = frame(family, protocol, part, options);
    const l3 = 14 + 4 * (options.tags?.length ?? 0);
    bytes.set(u16(id), l3 + 4);
    bytes.set(u16((offset >> 3) | (more ? 0x2000 : 0)), l3 + 6);
    return bytes;
  }
  const header = [protocol, 0, ...u16(offset | (more ? 1 : 0)), 0, 0, ...u16(id)];
  return frame(family, 44, concat(header, part), options);
}
