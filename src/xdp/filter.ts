// Which link-layer addresses a card takes beside its own: those of clients, of groups that they asked for, and of the
// multicast groups that neighbours ask for an IPv6 address in. By memberships of a packet socket that receives nothing, so
// that the card forgets them with the socket. Source: packet(7).
import { errno, SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { AF_INET } from "../wire/address.ts";

const AF_PACKET = 17;
const SOCK_RAW_CLOEXEC = 0x80003;
const SOL_PACKET = 263;
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_DROP_MEMBERSHIP = 2;
const PACKET_MR_MULTICAST = 0;
const PACKET_MR_UNICAST = 3;

export class CardFilter {
  readonly #fd: number;
  readonly #ifindex: number;

  /** In the card's namespace. */
  constructor(ifindex: number) {
    this.#ifindex = ifindex;
    this.#fd = libc.socket(AF_PACKET, SOCK_RAW_CLOEXEC, 0);
    if (this.#fd < 0) throw new SysError("open a packet socket", errno(), "needs root, or CAP_NET_RAW");
  }

  /** As often as it is added, it has to be removed. */
  add(mac: Uint8Array): void {
    if (this.#change(PACKET_ADD_MEMBERSHIP, mac) < 0)
      throw new SysError(`let the card take ${Buffer.from(mac).toString("hex")}`, errno());
  }

  /** Nothing if the card is gone. */
  remove(mac: Uint8Array): void {
    this.#change(PACKET_DROP_MEMBERSHIP, mac);
  }

  #change(option: number, mac: Uint8Array): number {
    const request = new DataView(new ArrayBuffer(16)); // struct packet_mreq
    request.setInt32(0, this.#ifindex, true);
    request.setUint16(4, mac[0]! & 1 ? PACKET_MR_MULTICAST : PACKET_MR_UNICAST, true);
    request.setUint16(6, 6, true);
    new Uint8Array(request.buffer).set(mac.subarray(0, 6), 8);
    return libc.setsockopt(this.#fd, SOL_PACKET, option, ptr(request), 16);
  }

  close(): void {
    libc.close(this.#fd);
  }
}

/** The MAC of a multicast group (RFC 1112 section 6.4, RFC 2464 section 7); undefined of another address. */
export function groupMac(family: number, address: Int32Array): Uint8Array | undefined {
  const bytes = new Uint8Array(address.slice(0, 4).buffer);
  if (family === AF_INET)
    return (bytes[0]! & 0xf0) === 0xe0
      ? Uint8Array.of(1, 0, 0x5e, bytes[1]! & 0x7f, bytes[2]!, bytes[3]!)
      : undefined;
  return bytes[0] === 0xff ? Uint8Array.of(0x33, 0x33, ...bytes.subarray(12)) : undefined;
}

/** The MAC of an IPv6 address's solicited-node group (RFC 4291 section 2.7.1); undefined of IPv4. */
export const solicitedMac = (family: number, address: Int32Array): Uint8Array | undefined =>
  family === AF_INET
    ? undefined
    : Uint8Array.of(0x33, 0x33, 0xff, ...new Uint8Array(address.slice(3, 4).buffer, 1));
