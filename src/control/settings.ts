// What the configuration says about the switch (its section [switch], src/config.ts), as the control Worker reads it.
// Texts have been checked there; addresses stay text until they are used.

const IPPROTO_ICMP = 1;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
const IPPROTO_ICMPV6 = 58;
const DHCP_SECONDS = 60;

export interface SwitchSettings {
  readonly clientsPerUser: number;
  readonly matchesPerClient: number;
  readonly matchesPerUser: number;
  readonly claimsPerClient: number;
  readonly claimsPerUser: number;
  readonly filtersPerClient: number;
  readonly instructionsPerClient: number;
  /** seconds without a frame after which a claim ends, by protocol */
  readonly tcpSeconds: number;
  readonly udpSeconds: number;
  readonly icmpSeconds: number;
  readonly otherSeconds: number;
  /** frames a second that one client may send; 0: any number */
  readonly packetsPerSecond: number;
  /** the same of all clients of one uid, of which each has an equal part */
  readonly packetsPerSecondPerUser: number;
  /** "tcp:8080": channels that exist from the start, each with a socket to connect to */
  readonly static: readonly string[];
  /** further MAC addresses that are ours */
  readonly macs: readonly string[];
  /** prefixes of the addresses that clients may have beside the card's own; none: any */
  readonly addresses: readonly string[];
  /** uids and gids of who may take ports that the kernel has */
  readonly kernelUsers: readonly number[];
  readonly kernelGroups: readonly number[];
  /** the kernel gets only what `open` lists ("tcp:22", "udp:53:10.0.0.0/8", "icmp") and replies to what it sent */
  readonly firewall: boolean;
  readonly open: readonly string[];
}

/** Seconds that a claim lives without a frame, by the number of its protocol; -1 is a DHCP transaction. */
export function timeoutOf(settings: SwitchSettings, protocol: number): number {
  if (protocol === -1) return DHCP_SECONDS;
  if (protocol === IPPROTO_TCP) return settings.tcpSeconds;
  if (protocol === IPPROTO_UDP) return settings.udpSeconds;
  return protocol === IPPROTO_ICMP || protocol === IPPROTO_ICMPV6
    ? settings.icmpSeconds
    : settings.otherSeconds;
}
