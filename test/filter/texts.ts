// Random filters in libpcap's language about few addresses and ports, and packets that have them.
import { pcapCompile } from "../../ffi/libpcap.ts";
import { decode, type Program } from "../../src/filter/program.ts";
import type { Random } from "../random.ts";
import { udpPacket } from "../switch/packets.ts";

const HOSTS = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.1.0.1"];
export const PORTS = [7, 9, 53, 5353];

function term(r: Random): string {
  const side = r.pick(["src", "dst", ""]);
  return r.pick([
    () => `${side} host ${r.pick(HOSTS)}`,
    () => `${side} net ${r.pick(["10.0.0.0/24", "10.0.0.0/16", "10.1.0.0/16"])}`,
    () => `udp ${side} port ${r.pick(PORTS)}`,
    () => `${side} portrange ${r.pick(["1-8", "8-60"])}`,
    () => r.pick(["udp", "tcp", "ip", "ip6"]),
    () => `ip[8] ${r.pick(["=", "!=", ">"])} ${r.pick([1, 64])}`,
    () => `udp[8] & 3 = ${r.below(4)}`,
    () => `len > ${r.pick([20, 44])}`,
  ])();
}

function text(r: Random, depth: number = r.below(3)): string {
  if (depth === 0) return r.below(6) === 0 ? `not (${term(r)})` : term(r);
  return `(${text(r, depth - 1)}) ${r.pick(["and", "or"])} (${text(r, depth - 1)})`;
}

/** So long that it is compiled in several parts; what a packet may have is somewhere in it. */
function list(r: Random): string {
  const others = Array.from({ length: 120 }, () => `src host 172.16.${r.below(256)}.${r.below(256)}`);
  return `(${others.toSpliced(r.below(120), 0, text(r)).join(" or ")}) and (${text(r)})`;
}

/** A program of such a text; libpcap refuses those that take nothing. */
export function compiledText(r: Random): { text: string; program: Program } {
  for (;;) {
    const made = r.below(30) === 0 ? list(r) : text(r);
    try {
      return { text: made, program: decode(pcapCompile(made)) };
    } catch {
      // it says "rejects all packets"
    }
  }
}

/** A datagram to `dst`, or to one of the hosts. */
export const datagram = (r: Random, to: { dst?: string; dport?: number; dstMac?: string } = {}): Uint8Array =>
  udpPacket({
    src: r.pick(HOSTS),
    dst: r.pick(HOSTS),
    sport: r.pick(PORTS),
    dport: r.pick(PORTS),
    ttl: r.pick([1, 64]),
    payload: Array.from({ length: 1 + r.below(4) }, () => r.below(4)),
    ...to,
  });
