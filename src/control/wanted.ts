// What is in the table as grants say it: the words of a match.
import type { Wanted } from "../grants/scope.ts";
import type { Entry } from "../switch/table/entry.ts";
import type { Match } from "../switch/table/pattern.ts";
import type { Group } from "../switch/table/table.ts";
import { AF_INET } from "../wire/address.ts";
import { addressBits } from "../wire/prefix.ts";

/** The answers to what a client without an address asks of DHCP. */
export const DHCP: Wanted = {
  family: AF_INET,
  protocol: 17,
  dst: new Int32Array(4),
  dstPrefix: 32,
  dport: 68,
  src: new Int32Array(4),
  srcPrefix: 0,
};

/** A group's address and port, as its entry has them. */
export const groupOf = ({ family, protocol, dst, dport }: Match): Group => ({
  family,
  protocol,
  address: dst,
  port: dport,
});

/** A group is a match on its address, and on its port if it has one. */
export const wantedGroup = ({ family, protocol, address, port }: Group): Wanted => ({
  family,
  protocol,
  dst: address,
  dstPrefix: addressBits(family),
  dport: port === 0 ? -1 : port,
  src: address,
  srcPrefix: 0,
});

/** What an entry lets its client have. */
export function wantedOf({ kind, match }: Entry): Wanted {
  if (kind === "dhcp") return DHCP;
  return kind === "group" ? wantedGroup(groupOf(match)) : match;
}
