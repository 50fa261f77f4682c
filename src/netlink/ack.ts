// Extended acks: what the kernel says of a request it refused, told in names.
//   NLMSG_ERROR: nlmsghdr | i32 -errno | nlmsghdr of the request | its payload unless NLM_F_CAPPED | NLMSGERR_ATTR_*
//   NLMSG_DONE:  nlmsghdr | i32 -errno | NLMSGERR_ATTR_*                      (linux/netlink.h; only with ACK_TLVS)
// OFFS and MISS_NEST count bytes from the request's nlmsghdr to an attribute's head.
import { SysError } from "../../ffi/errno.ts";
import {
  type Attributes,
  attributeName,
  FRA,
  IFA,
  IFLA,
  IFLA_INFO,
  NDA,
  NHA,
  NLA_TYPE_MASK,
  NLMSGERR_ATTR,
  nestOf,
  type Readers,
  RTA,
  readAttributes,
  readers,
  text,
  textAt,
  u32,
  VETH_INFO,
} from "./attribute.ts";
import { NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_ERROR } from "./constants.ts";

const EPERM = 1;

/** What a request is called, and where its attributes are. */
export interface Naming {
  name: string;
  headerBytes: number;
  attributes: Attributes;
}

/** Message types come in fours: new, del, get, set. */
const kinds: Record<number, Naming> = {
  16: { name: "LINK", headerBytes: 16, attributes: IFLA },
  20: { name: "ADDR", headerBytes: 8, attributes: IFA },
  24: { name: "ROUTE", headerBytes: 12, attributes: RTA },
  28: { name: "NEIGH", headerBytes: 12, attributes: NDA },
  32: { name: "RULE", headerBytes: 12, attributes: FRA },
  104: { name: "NEXTHOP", headerBytes: 8, attributes: NHA },
};

/** "RTM_NEWROUTE" */
export function messageName(type: number): string {
  const kind = kinds[type & ~3];
  return kind ? `RTM_${["NEW", "DEL", "GET", "SET"][type & 3]}${kind.name}` : `message ${type}`;
}

/** A refused request. `message` has all of it; the parts are for programs. */
export class NetlinkError extends SysError {
  /** The kernel's own words, or "". */
  readonly text: string;
  /** The attribute that it found wrong, by path ("IFLA_LINKINFO.IFLA_INFO_DATA.IFLA_VLAN_ID"), or "". */
  readonly attribute: string;
  /** Its byte offset from the request's nlmsghdr, or 0. */
  readonly offset: number;
  /** An attribute that the kernel misses, by path, or "". */
  readonly missing: string;

  constructor(op: string, errno: number, text: string, attribute: string, offset: number, missing: string) {
    const parts = [
      text || (errno === EPERM && "needs CAP_NET_ADMIN (root)"),
      attribute && `at ${attribute}`,
      missing && `${missing} is missing`,
    ];
    super(op, errno, parts.filter(Boolean).join("; "));
    this.name = "NetlinkError";
    this.text = text;
    this.attribute = attribute;
    this.offset = offset;
    this.missing = missing;
  }
}

class Ack {
  text = "";
  offset = 0;
  missType = -1;
  missNest = 0;
}

const ackReaders: Readers<Ack> = readers<Ack, keyof typeof NLMSGERR_ATTR>(NLMSGERR_ATTR, {
  MSG: text("text"),
  OFFS: u32("offset"),
  MISS_TYPE: u32("missType"),
  MISS_NEST: u32("missNest"),
});

/** -errno of an NLMSG_ERROR or NLMSG_DONE at byte `off`; 0 is success. */
export const ackErrno = (words: Int32Array, off: number, len: number): number =>
  len >= 20 ? words[(off >> 2) + 4]! : 0;

/**
 * The error that the NLMSG_ERROR or NLMSG_DONE of `len` bytes at byte `off` tells of, or undefined for success.
 * `naming`: what the request is, if it is none of rtnetlink's. `request`: the buffer of the request that it answers and the byte offset of its nlmsghdr, for the names.
 */
export function readAck(
  words: Int32Array,
  bytes: Uint8Array,
  off: number,
  len: number,
  request: { words: Int32Array; bytes: Uint8Array },
  requestOff: number,
  naming?: Naming,
): NetlinkError | undefined {
  const errno = -ackErrno(words, off, len);
  if (errno === 0) return undefined;
  const head = words[(off >> 2) + 1]!;
  const flags = head >>> 16;
  const ack = new Ack();
  if (flags & NLM_F_ACK_TLVS) {
    let tlvs = off + 20;
    if ((head & 0xffff) === NLMSG_ERROR)
      tlvs += flags & NLM_F_CAPPED ? 16 : ((words[(off >> 2) + 5] ?? 0) + 3) & ~3;
    // A kernel that writes these wrong still told us the errno: keep what could be read.
    readAttributes(ackReaders, ack, words, bytes, tlvs, off + len);
  }
  const type = request.words[(requestOff >> 2) + 1]! & 0xffff;
  const kind = naming ?? kinds[type & ~3];
  const attribute = ack.offset ? (resolve(request, requestOff, kind, ack.offset)?.path ?? "") : "";
  let missing = "";
  if (ack.missType >= 0) {
    const nest = ack.missNest ? resolve(request, requestOff, kind, ack.missNest) : undefined;
    const set = ack.missNest ? nest?.inside : kind?.attributes;
    const name = set ? attributeName(set, ack.missType) : `attribute ${ack.missType}`;
    missing = nest ? `${nest.path}.${name}` : name;
  }
  return new NetlinkError(naming?.name ?? messageName(type), errno, ack.text, attribute, ack.offset, missing);
}

interface Place {
  path: string;
  /** what the attribute there holds, if it is a nest */
  inside: Attributes | undefined;
}

/** The attribute of the request whose head is `offset` bytes from its nlmsghdr, or the innermost that has it inside. */
function resolve(
  request: { words: Int32Array; bytes: Uint8Array },
  requestOff: number,
  kind: Naming | undefined,
  offset: number,
): Place | undefined {
  const { words, bytes } = request;
  const end = requestOff + words[requestOff >> 2]!;
  if (!kind) return undefined;
  const target = requestOff + offset;

  function search(set: Attributes, from: number, to: number, path: string): Place | undefined {
    let info = "";
    for (let at = from; to - at >= 4; ) {
      const head = words[at >> 2]!;
      const length = head & 0xffff;
      if (length < 4 || length > to - at) return undefined;
      const type = (head >>> 16) & NLA_TYPE_MASK;
      if (set === IFLA_INFO && type === IFLA_INFO.KIND) info = textAt(bytes, at + 4, length - 4);
      if (target >= at && target < at + length) {
        const inside = nestOf(set, type, info);
        const name = path + attributeName(set, type);
        if (target === at || !inside) return { path: name, inside };
        return search(inside, skip(set, type, at + 4), at + length, `${name}.`) ?? { path: name, inside };
      }
      at += (length + 3) & ~3;
    }
    return undefined;
  }

  /** Some nests have a struct before their attributes. */
  function skip(set: Attributes, type: number, at: number): number {
    if (set === VETH_INFO && type === VETH_INFO.PEER) return at + 16;
    if (set !== RTA || type !== RTA.MULTIPATH) return at;
    for (;;) {
      const length = words[at >> 2]! & 0xffff;
      if (length < 8 || target < at + length) return at + 8;
      at += (length + 3) & ~3;
    }
  }

  return search(kind.attributes, requestOff + 16 + kind.headerBytes, end, "");
}
