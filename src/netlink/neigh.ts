// Neighbours, received: struct ndmsg and NDA_* (linux/neighbour.h). Requests are in neighset.ts.
//   ndmsg: u8 family | u8 | u16 | i32 ifindex | u16 state (NUD_*) | u8 flags (NTF_*) | u8 type (RTN_*)
// Dumps and storms bring hundreds of thousands, so this decoder is written out, as route.ts is.
import type { NeighRow } from "../netbase/rows.ts";
import { copyAddress, copyLladdr, NLA_TYPE_MASK } from "./attribute.ts";
import { NTF_EXT_SHIFT } from "./constants.ts";

/**
 * Reads the RTM_NEWNEIGH or RTM_DELNEIGH of `len` bytes at byte `off` into `row`; false if a length in it is wrong.
 * `row.flags` has NDA_FLAGS_EXT shifted left by NTF_EXT_SHIFT above NTF_*. Bridge forwarding entries come in the
 * same messages with family AF_BRIDGE; their `dst` may be missing (zero).
 */
export function decodeNeigh(
  words: Int32Array,
  bytes: Uint8Array,
  off: number,
  len: number,
  row: NeighRow,
): boolean {
  if (len < 28) return false;
  let w = off >> 2;
  const third = words[w + 6]!;
  row.family = words[w + 4]! & 0xff;
  row.ifindex = words[w + 5]!;
  row.state = third & 0xffff;
  row.flags = (third >>> 16) & 0xff;
  row.type = third >>> 24;
  row.lladdrLen = 0;
  const { dst } = row;
  dst[0] = dst[1] = dst[2] = dst[3] = 0;
  const end = off + len;
  w += 7;
  for (let rest = end - w * 4; rest >= 4; rest = end - w * 4) {
    const head = words[w]!;
    const length = head & 0xffff;
    if (length < 4 || length > rest) return false;
    switch ((head >>> 16) & NLA_TYPE_MASK) {
      case 1: // NDA_DST
        if (length === 8) dst[0] = words[w + 1]!;
        else if (!copyAddress(dst, 0, words, (w + 1) * 4, length - 4)) return false;
        break;
      case 2: // NDA_LLADDR
        if (!copyLladdr(row, bytes, (w + 1) * 4, length - 4)) return false;
        break;
      case 15: // NDA_FLAGS_EXT
        if (length < 8) return false;
        row.flags |= words[w + 1]! << NTF_EXT_SHIFT;
        break;
    }
    w += (length + 3) >> 2;
  }
  return true;
}
