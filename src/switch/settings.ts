// What the configuration says about the switch (its section [switch], src/config.ts), as the control Worker reads it.
// Texts have been checked there; addresses stay text until they are used.

/** Seconds without a frame after which a claim ends, by protocol. */
export interface ClaimTimeouts {
  readonly tcp: number;
  readonly udp: number;
  readonly icmp: number;
  readonly other: number;
}

export interface SwitchSettings {
  /** paths of control sockets; none: no switch */
  readonly sockets: readonly string[];
  /** gid of who may use them beside root */
  readonly group?: number | undefined;
  /** at once, over all users */
  readonly clients: number;
  readonly matches: number;
  readonly perClient: { readonly matches: number; readonly claims: number };
  readonly perUser: { readonly clients: number; readonly matches: number; readonly claims: number };
  readonly claims: ClaimTimeouts;
  /** frames a second that one client may send; 0: any number */
  readonly packetsPerSecond: number;
  /** the kernel gets only what `open` lists and replies to what it sent itself */
  readonly firewall: boolean;
  /** "tcp:22", "udp:53:10.0.0.0/8", "icmp" */
  readonly open: readonly string[];
  /** the same form: channels that exist from the start, each with a socket to connect to */
  readonly static: readonly string[];
  /** further MAC addresses that are ours */
  readonly macs: readonly string[];
  /** prefixes of the addresses that clients may have beside the card's own */
  readonly addresses: readonly string[];
  /** who may take ports that the kernel has: uids and gids */
  readonly kernelPorts: { readonly users: readonly number[]; readonly groups: readonly number[] };
  /** under which a client and this host's kernel see each other where both have the same address */
  readonly alias4: string;
  readonly alias6: string;
}
