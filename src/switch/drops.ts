// Why a frame was dropped, or where it went: one number each, one counter each, in the order of REASONS.
// The hot path returns these numbers; everything else knows them by name.

/** [name, description for people]; index 0 is "not dropped". */
const REASONS = [
  ["sent", "transmitted"],
  ["runt", "shorter than its headers say"],
  ["other_host", "addressed to another machine's link-layer address"],
  ["not_ipv4", "neither IPv4 nor anything else a service here takes"],
  ["bad_header", "IPv4 header with a wrong version, length or total length"],
  ["bad_ip_checksum", "IPv4 header checksum wrong"],
  ["fragment", "IPv4 fragment; services take whole datagrams"],
  ["not_udp", "a protocol that no service takes"],
  ["bad_udp_length", "UDP length disagrees with the IPv4 length"],
  ["bad_udp_checksum", "UDP checksum wrong"],
  ["no_match", "no service has this address and port"],
  ["echo_loop", "from the echo port to the echo port: answering could go on for ever"],
  ["bad_source", "the source is an address of many hosts: whoever forged it wants them all answered"],
  ["no_route", "no route to the destination"],
  ["blackhole", "the route says blackhole"],
  ["unreachable", "the route says unreachable"],
  ["prohibit", "the route says prohibit"],
  ["encap", "the route puts a tunnel's head before the packet (RTA_ENCAP), which only the kernel does"],
  ["to_kernel", "the destination is an address of this host; only the kernel can deliver that"],
  ["other_interface", "the route leads out of another interface"],
  ["link_down", "the interface is down or has no carrier"],
  ["no_neighbour", "next hop's link-layer address not known yet; asked for"],
  ["mtu", "longer than the route or the interface takes"],
  ["tx_full", "transmit ring full"],
  // From here on only the switch drops: clients' frames, and frames for clients.
  ["bad_mac", "a client's frame with a link-layer source address that is not its own"],
  ["bad_arp", "a client's ARP or neighbour discovery that tells what is not its own"],
  ["not_owner", "a client's packet from an address and port that are not its own"],
  ["claim_refused", "a client's new flow that is somebody else's, or from an address that it may not use"],
  ["claim_crowded", "a client's new flows, more at once than are looked at"],
  ["ttl", "a client's packet that was to be routed, and had no hop left"],
  ["not_carried", "a client's frame of a kind that no client may send"],
  ["bad_fragment", "a fragment whose first one was refused, or did not come in time"],
  ["channel_full", "the client's channel is full"],
  ["client_gone", "the client has closed its channel"],
  ["kernel_full", "this host's kernel does not take it now"],
  ["rx_filtered_client", "a filter of the client that it was for refused it"],
  ["rx_filtered_user", "a rule for the user of the client that it was for denied it"],
  ["rx_filtered_system", "a rule for packets to clients denied it"],
  ["tx_filtered_client", "the filter for what the client sends refused it"],
  ["tx_filtered_user", "a rule for what the client's user sends denied it"],
  ["tx_filtered_system", "a rule for packets from clients denied it"],
] as const;

/** The first reason that only the switch has. */
export const SWITCH_REASON = "bad_mac";

export type DropReason = Exclude<(typeof REASONS)[number][0], "sent">;

/** The number of a reason. */
export const Drop = Object.fromEntries(REASONS.map(([name], i) => [name, i])) as Record<
  (typeof REASONS)[number][0],
  number
>;

export const dropNames = REASONS.map(([name]) => name);
export const dropDescription = (reason: number): string => REASONS[reason]![1];
