// An AF_PACKET socket on one interface: sends frames as they are, and takes what the interface receives.
// Source: packet(7).
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import type { Netns } from "../../src/netlink/netns.ts";

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0x800 | 0x80000;
const ETH_P_ALL = 0x0300; // network byte order
const ETH_P_IP = 0x0008;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SOL_PACKET = 263;
const PACKET_QDISC_BYPASS = 20;
const PACKET_IGNORE_OUTGOING = 23;
const MSG_DONTWAIT = 0x40;

export class RawSocket {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(new ArrayBuffer(65536));

  /** @param which all: takes every ethertype, not IPv4 alone; sent: also what the interface sends */
  constructor(netns: Netns, ifindex: number, which: { all?: boolean; sent?: boolean } = {}) {
    const protocol = which.all ? ETH_P_ALL : ETH_P_IP;
    this.#fd = netns.run(() =>
      check("socket AF_PACKET", libc.socket(AF_PACKET, SOCK_RAW_NONBLOCK_CLOEXEC, protocol)),
    );
    const address = new DataView(new ArrayBuffer(20));
    address.setUint16(0, AF_PACKET, true);
    address.setUint16(2, protocol, true);
    address.setInt32(4, ifindex, true);
    const ignored = new Int32Array([which.sent ? 0 : 1]);
    libc.setsockopt(this.#fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, ptr(ignored), 4);
    libc.setsockopt(this.#fd, SOL_SOCKET, SO_RCVBUFFORCE, ptr(new Int32Array([16 << 20])), 4);
    check("bind AF_PACKET", libc.bind(this.#fd, ptr(address), 20));
  }

  send(frame: Uint8Array<ArrayBuffer>): void {
    check("send AF_PACKET", libc.sendto(this.#fd, ptr(frame), frame.length, MSG_DONTWAIT, null, 0));
  }

  /** Sends into the transmit queue that the running CPU's number says, from now on. */
  byCpu(): void {
    const one = new Int32Array([1]);
    check("PACKET_QDISC_BYPASS", libc.setsockopt(this.#fd, SOL_PACKET, PACKET_QDISC_BYPASS, ptr(one), 4));
  }

  /** The next frame, or undefined. VLAN tags are as the card gives them: maybe stripped. */
  receive(): Uint8Array<ArrayBuffer> | undefined {
    const length = Number(
      libc.recvfrom(this.#fd, ptr(this.#buffer), this.#buffer.length, MSG_DONTWAIT, null, null),
    );
    return length < 0 ? undefined : this.#buffer.slice(0, length);
  }

  /** All that was not taken yet. */
  drain(): Uint8Array<ArrayBuffer>[] {
    const frames: Uint8Array<ArrayBuffer>[] = [];
    for (let next: Uint8Array<ArrayBuffer> | undefined; (next = this.receive()); ) frames.push(next);
    return frames;
  }

  close(): void {
    libc.close(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
