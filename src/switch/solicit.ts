// Asks the netlink Worker for neighbours, from the net loop: fixed messages on a bounded ring, the only way from
// traffic to netlink. The same address is asked for once a second at most from here (a small direct-mapped memory of
// who was asked); everything that decides who deserves it is on the far side. A full ring drops and counts.
//
//   message: ifindex | family | address (4 words) | kind | 0        see src/mem/ring.ts
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import type { Ring } from "../mem/ring.ts";
import { AF_INET, AF_INET6 } from "../wire/address.ts";

export const SOLICIT = 0; // resolve it
export const IN_USE = 1; // traffic uses it: keep it fresh

const SLOTS = 1024;

export class Solicitor {
  private readonly ring: Ring;
  private readonly wakeFd: number;
  private readonly one = new BigUint64Array(new ArrayBuffer(8)).fill(1n);
  /** Two words a slot: address, the second in which it was asked for | kind << 31. */
  private readonly asked = new Int32Array(SLOTS * 2);
  private second = 1;
  private waiting = false;
  /** Messages that the ring had no room for. */
  refused = 0;

  /** @param wakeFd the netlink Worker's eventfd */
  constructor(ring: Ring, wakeFd: number) {
    this.ring = ring;
    this.wakeFd = wakeFd;
  }

  /** Whether this was asked for in this second; remembers it. For IPv6, of a hash of the address. */
  private askedBefore(address: number, ifindex: number, kind: number): boolean {
    const slot = ((Math.imul(address ^ ifindex, 0x9e3779b1) >>> 22) & (SLOTS - 1)) * 2;
    const stamp = this.second | (kind << 31);
    if (this.asked[slot] === address && this.asked[slot + 1] === stamp) return true;
    this.asked[slot] = address;
    this.asked[slot + 1] = stamp;
    return false;
  }

  private queue(
    ifindex: number,
    family: number,
    a: number,
    b: number,
    c: number,
    d: number,
    kind: number,
  ): void {
    if (this.ring.push(ifindex, family, a, b, c, d, kind, 0)) this.waiting = true;
    else this.refused++;
  }

  /** Queues a request for an IPv4 address (memory word) on an interface. Hot under a flood: no system call. */
  ask4(ifindex: number, address: number, kind: number): void {
    if (!this.askedBefore(address, ifindex, kind)) this.queue(ifindex, AF_INET, address, 0, 0, 0, kind);
  }

  /** The same for the IPv6 address in four words of `words` from `at` on. */
  ask6(ifindex: number, words: Int32Array, at: number, kind: number): void {
    const a = words[at]!;
    const b = words[at + 1]!;
    const c = words[at + 2]!;
    const d = words[at + 3]!;
    if (this.askedBefore(a ^ Math.imul(b, 31) ^ Math.imul(c, 961) ^ Math.imul(d, 29791), ifindex, kind))
      return;
    this.queue(ifindex, AF_INET6, a, b, c, d, kind);
  }

  /** Between batches: keeps time, and wakes the netlink Worker if anything was queued. */
  tick(nanoseconds: number): void {
    this.second = Math.trunc(nanoseconds / 1e9) & 0x3fffffff;
    if (!this.waiting) return;
    this.waiting = false;
    libc.write(this.wakeFd, ptr(this.one), 8);
  }
}
