// Addresses as objects: struct ifaddrmsg and IFA_* (linux/if_addr.h).
//   ifaddrmsg: u8 family | u8 prefixlen | u8 flags | u8 scope | u32 ifindex
// The kernel gives IFA_ADDRESS (the prefix's, or the far end's) and IFA_LOCAL (ours), in IPv6 the latter only where
// they differ: here `address` is ours, with the prefix's length, and `peer` the far end if there is one.
import { type Attributes, IFA } from "../attribute.ts";
import { AF_INET, RTM_NEWADDR } from "../constants.ts";
import { all, address, as, parsed, record, Schema, said, s32, text, u8, u32, type Unnamed } from "./codec.ts";
import { Bits, type Family, familyName, type HexBit, type Kind, parsePrefix } from "./kind.ts";
import { type Protocol, protocolNumber, type Scope, scopeNumber } from "./numbers.ts";

const FLAGS = [
  "secondary",
  "nodad",
  "optimistic",
  "dadfailed",
  "homeaddress",
  "deprecated",
  "tentative",
  "permanent",
  "managetempaddr",
  "noprefixroute",
  "mcautojoin",
  "stablePrivacy",
] as const;
/** IFA_F_*; in IPv6 "secondary" means temporary. */
export type AddrFlag = (typeof FLAGS)[number];
export const addrBits: Bits<AddrFlag> = new Bits(FLAGS);

/** struct ifa_cacheinfo: lifetimes in seconds (0xffffffff: for ever), times of change in 1/100 s since boot. */
export interface AddrTimes {
  preferred: number;
  valid: number;
  created?: number;
  updated?: number;
}

export interface AddrSpec extends Unnamed {
  /** the link: index or name */
  link: number | string;
  /** "10.0.0.1/24": ours, and how much of it is the prefix (the far end's, if there is one) */
  address: string;
  /** the far end of a point-to-point link */
  peer?: string;
  broadcast?: string;
  label?: string;
  scope?: Scope;
  flags?: readonly (AddrFlag | HexBit)[];
  /** metric of the prefix route */
  priority?: number;
  protocol?: Protocol;
  lifetime?: { preferred: number; valid: number };
}

/** An address, as the kernel tells of it. */
export interface Addr extends Unnamed {
  family: Family;
  /** index of the link */
  link: number;
  address: string;
  peer?: string;
  broadcast?: string;
  anycast?: string;
  multicast?: string;
  label?: string;
  scope: number;
  flags: readonly (AddrFlag | HexBit)[];
  priority?: number;
  protocol?: number;
  times?: AddrTimes;
  targetNetnsid?: number;
}

const times = record(4, "preferred valid created updated");
export const addrSchema: Schema = new Schema(
  IFA as Attributes,
  {
    ADDRESS: as("ifaAddress", address),
    LOCAL: as("ifaLocal", address),
    LABEL: text,
    ...all(address, "BROADCAST ANYCAST MULTICAST"),
    CACHEINFO: said("times", times),
    FLAGS: addrBits.u32,
    RT_PRIORITY: as("priority", u32),
    TARGET_NETNSID: s32,
    PROTO: as("protocol", {
      read: u8.read,
      write: (m, type, value: Protocol) => m.u8(type, protocolNumber(value)),
    }),
  },
  ["family", "link", "address", "peer", "scope", "lifetime"],
);

export const addrs: Kind<Addr> = {
  name: "addr",
  type: RTM_NEWADDR,
  headerBytes: 8,
  schema: addrSchema,
  decode(words, bytes, off, len) {
    if (len < 24) return undefined;
    const told: Record<string, unknown> = {};
    if (!addrSchema.decode(words, bytes, off + 24, off + len, told)) return undefined;
    const { ifaAddress, ifaLocal, ...rest } = told;
    const ours = (ifaLocal ?? ifaAddress ?? rest["multicast"] ?? rest["anycast"]) as string | undefined;
    if (ours === undefined) return undefined;
    return {
      family: familyName(bytes[off + 16]!),
      link: words[(off >> 2) + 5]!,
      address: `${ours}/${bytes[off + 17]}`,
      ...(ifaLocal !== undefined &&
        ifaAddress !== undefined &&
        ifaAddress !== ifaLocal && { peer: ifaAddress }),
      scope: bytes[off + 19]!,
      ...("flags" in rest ? {} : { flags: addrBits.read(bytes[off + 18]!) }),
      ...rest,
    } as Addr;
  },
  encode(m, type, messageFlags, object, to) {
    const spec = object as AddrSpec & Addr;
    const { family, words, length } = parsePrefix(spec.address);
    const count = family === AF_INET ? 1 : 4;
    const off = m.begin(type, messageFlags, 8);
    m.bytes[off] = family;
    m.bytes[off + 1] = length;
    m.bytes[off + 2] = addrBits.write(spec.flags);
    m.bytes[off + 3] = scopeNumber(spec.scope ?? 0);
    m.words[(off >> 2) + 1] = to.ifindex(spec.link);
    const far = spec.peer === undefined ? words : parsed(spec.peer).words;
    // As the kernel writes it: IPv4 always both, IPv6 the local one first and only beside another.
    if (spec.multicast === undefined && spec.anycast === undefined) {
      if (family === AF_INET) m.address(IFA.ADDRESS, far, count);
      if (family === AF_INET || spec.peer !== undefined || to.request) m.address(IFA.LOCAL, words, count);
      if (family !== AF_INET) m.address(IFA.ADDRESS, far, count);
    }
    addrSchema.encode(m, object, to);
    if (spec.lifetime && to.request)
      m.raw(
        IFA.CACHEINFO,
        new Uint8Array(Uint32Array.of(spec.lifetime.preferred, spec.lifetime.valid, 0, 0).buffer),
      );
  },
};
