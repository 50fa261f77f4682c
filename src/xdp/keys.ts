// What the switch's maps are asked for, and the keys that this makes (bpf/steer.h).
import { steerLayout } from "./layout.ts";
import { matchKey, setAddress, type Words } from "./map.ts";

/** Addresses are memory words in network byte order, IPv4 in word 0; ports are numbers. */
export interface Listener {
  readonly family: number; // AF_INET, AF_INET6
  /** TCP, UDP, SCTP, DCCP, UDP-Lite, ICMP or ICMPv6; others are never redirected. */
  readonly protocol: number;
  readonly dst: Int32Array;
  readonly dport: number;
}

/** A flow as its incoming packets have it. ICMP echo, requests and replies: dport is the identifier, sport 0. */
export interface Flow extends Listener {
  readonly src: Int32Array;
  readonly sport: number;
}

/** Prefixes of 0..32 or 0..128 bits; a port of -1 is any. */
export interface WildMatch extends Flow {
  readonly dstPrefix: number;
  readonly srcPrefix: number;
}

/** What the firewall lets in for the kernel, from these remote addresses to this local port; -1: any, or no ports. */
export interface Open {
  readonly family: number;
  readonly protocol: number;
  readonly port: number;
  readonly remote: Int32Array;
  readonly remotePrefix: number;
}

/** Key of `matches`. */
export const listenerKey = ({ family, protocol, dst, dport }: Listener): Words =>
  matchKey({ family, proto: protocol, address: dst, port: dport });

export function flowKey(flow: Flow): Uint8Array<ArrayBuffer> {
  const at = steerLayout.tuple;
  const key = new DataView(new ArrayBuffer(at.sizeof));
  setAddress(key, at.daddr, flow.family, flow.dst);
  setAddress(key, at.saddr, flow.family, flow.src);
  key.setUint16(at.dport, flow.dport);
  key.setUint16(at.sport, flow.sport);
  key.setUint8(at.proto, flow.protocol);
  key.setUint8(at.family, flow.family);
  return new Uint8Array(key.buffer);
}

/** Value of `patterns`; a mask over struct tuple, but for the family. */
export function maskOf({ family, dstPrefix, dport, srcPrefix, sport }: WildMatch): Uint8Array<ArrayBuffer> {
  const at = steerLayout.pattern;
  const mask = new Uint8Array(new ArrayBuffer(at.sizeof));
  const prefix = (offset: number, length: number): void => {
    for (let bit = 0; bit < length; bit++) mask[offset + (bit >> 3)]! |= 0x80 >> (bit & 7);
  };
  prefix(at.daddr, dstPrefix);
  prefix(at.saddr, srcPrefix);
  if (dport >= 0) mask.fill(0xff, at.dport, at.dport + 2);
  if (sport >= 0) mask.fill(0xff, at.sport, at.sport + 2);
  mask[at.family] = family;
  return mask;
}

export function wildKey(match: WildMatch, mask: Uint8Array, pattern: number): Words {
  const at = steerLayout.wild_key;
  const key = new Uint8Array(new ArrayBuffer(at.sizeof));
  const tuple = flowKey(match);
  for (let i = 0; i < steerLayout.tuple.proto; i++) key[i] = tuple[i]! & mask[i]!;
  key[steerLayout.tuple.proto] = match.protocol;
  key[steerLayout.tuple.family] = match.family;
  new DataView(key.buffer).setUint32(at.pattern, pattern, true);
  return key;
}

/** Key of `owned` and `dsts`. */
export function addressKey(family: number, address: Int32Array): Uint8Array<ArrayBuffer> {
  const at = steerLayout.address_key;
  const key = new DataView(new ArrayBuffer(at.sizeof));
  setAddress(key, at.addr, family, address);
  key.setUint32(at.family, family, true);
  return new Uint8Array(key.buffer);
}

export function macKey(mac: Uint8Array): Words {
  const key = new Uint8Array(new ArrayBuffer(steerLayout.mac_key.sizeof));
  key.set(mac.subarray(0, 6));
  return key;
}

export function groupKey({ family, protocol, dst, dport }: Listener): Words {
  const at = steerLayout.group_key;
  const key = new DataView(new ArrayBuffer(at.sizeof));
  setAddress(key, at.addr, family, dst);
  key.setUint16(at.port, dport);
  key.setUint8(at.proto, protocol);
  key.setUint8(at.family, family);
  return new Uint8Array(key.buffer);
}

export function dhcpKey(xid: number): Words {
  const key = new DataView(new ArrayBuffer(4));
  key.setUint32(0, xid);
  return new Uint8Array(key.buffer);
}

export function openKey({ family, protocol, port, remote, remotePrefix }: Open): Uint8Array<ArrayBuffer> {
  const at = steerLayout.open_key;
  const key = new DataView(new ArrayBuffer(at.sizeof));
  key.setUint32(at.prefixlen, 32 + remotePrefix, true);
  key.setUint8(at.family, family);
  key.setUint8(at.proto, protocol);
  key.setUint16(at.port, Math.max(0, port));
  setAddress(key, at.remote, family, remote);
  return new Uint8Array(key.buffer);
}
