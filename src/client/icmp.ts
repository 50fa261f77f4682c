// What ICMP says of a datagram that was sent: an error as the kernel gives it to its own sockets.
// Sources: RFC 792, 1191, 4443; icmp(7).
import { SysError } from "../../ffi/errno.ts";
import { AF_INET, formatAddress, swap32 } from "../wire/address.ts";
import {
  IPPROTO_UDP,
  P_DST,
  P_FAMILY,
  P_L4,
  P_L4_BYTES,
  P_PORTS,
  P_PROTOCOL,
  parseIp,
  swap16,
} from "../wire/packet.ts";

const EMSGSIZE = 90;
const ECONNREFUSED = 111;
const EHOSTUNREACH = 113;

/** The error that ICMP packet `p` is; undefined if it is not about UDP, or none. */
export function errorIn(words: Int32Array, p: Int32Array, quoted: Int32Array): SysError | undefined {
  const at = p[P_L4]!;
  const four = p[P_FAMILY] === AF_INET;
  if (!parseIp(words, quoted, !four, at + 2, p[P_L4_BYTES]! - 8, true)) return undefined;
  if (quoted[P_PROTOCOL] !== IPPROTO_UDP) return undefined;
  const type = words[at]! & 0xff;
  const code = (words[at]! >>> 8) & 0xff;
  const to = `${formatAddress(quoted[P_FAMILY]!, words, quoted[P_DST]!)} port ${swap16(quoted[P_PORTS]! >>> 16)}`;
  const op = `send to ${to}`;
  if (four ? type === 3 && code === 3 : type === 1 && code === 4)
    return new SysError(op, ECONNREFUSED, "nobody listens there");
  if (four ? type === 3 && code === 4 : type === 2) {
    const mtu = four ? swap16(words[at + 1]! >>> 16) : swap32(words[at + 1]!);
    return new SysError(op, EMSGSIZE, `packets on the way have at most ${mtu} bytes`);
  }
  if (four ? type === 3 && code === 1 : type === 1 && code === 3)
    return new SysError(op, EHOSTUNREACH, "no neighbour answers");
  return new SysError(op, EHOSTUNREACH, `ICMP type ${type}, code ${code}`);
}
