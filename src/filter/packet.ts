// What a filter sees beside the packet's bytes. One object a net Worker, whose fields are set before a filter runs.

/** Numbers in host byte order. */
export interface Meta {
  /** Ethertype of the frame */
  protocol: number;
  ifindex: number;
  queue: number;
  /** VLAN tag that the card took off: control information, tag protocol, and whether there was one (0 or 1) */
  vlanTci: number;
  vlanTpid: number;
  vlanPresent: number;
  /** Where the network header begins, in bytes from the packet's start (SKF_NET_OFF); the link header begins at 0. */
  netOff: number;
}

export const plainMeta = (): Meta => ({
  protocol: 0,
  ifindex: 0,
  queue: 0,
  vlanTci: 0,
  vlanTpid: 0,
  vlanPresent: 0,
  netOff: 14,
});
