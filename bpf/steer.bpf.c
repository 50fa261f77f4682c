// SPDX-License-Identifier: GPL-2.0
/* steer: the XDP program. Decides which frames go to user space; passes everything else to the kernel, which stays the
 * judge of whatever is odd: what is not recognised, contradicts itself or is not ours is never redirected, and dropped
 * only while the firewall is on. Who gets a redirected frame is decided in user space.
 *
 * Without a switch (`policy` all zero) a frame is redirected to the AF_XDP socket of its queue if all of this holds:
 *   destination MAC = the card's own; 0..2 VLAN tags (802.1Q, 802.1ad; id 0 is a priority tag and counts as no tag);
 *   IPv4: version 4, IHL >= 5, IHL*4 <= total length <= frame, not a fragment (offset 0 and no MF), options allowed;
 *   IPv6: version 6, payload length <= frame, at most STEER_EXT_HEADERS of hop-by-hop, destination options and routing
 *     (only with no segments left), no fragment header, not even an atomic one;
 *   the source is an address that one host can have: not multicast, broadcast, loopback or unspecified;
 *   UDP: header in bounds, 8 <= length <= what IP carries; TCP: header in bounds with its options;
 *   {family, protocol, destination address, destination port, VLAN ids} is in `matches`; the queue is in `xsks`.
 * Checksums are not looked at: user space does, and a frame from a local veth peer may rightly have none yet.
 *
 * With a switch or a firewall also, untagged frames only:
 *   destination MAC in `macs`; SCTP, DCCP, UDP-Lite, ICMP, ICMPv6; hits in `flows` and `wild`;
 *   ICMP errors if the packet that they quote is of such a flow;
 *   ARP, neighbour discovery and ICMP for addresses in `owned`, and with the firewall off TCP and UDP; DHCP answers with a transaction id in `dhcp`;
 *   fragments: the first by its ports, later ones as the first; later ones that come first, if any match has their
 *     protocol and destination: user space holds them until the first one comes, which is redirected then in any case,
 *     and gives all of them back if they turn out to be the kernel's.
 * Reassembly is never done here.
 *
 * A NIC that strips VLAN tags hides them from XDP, so stripping must be off (src/xdp/queues.ts).
 * Read and written by src/xdp/program.ts and src/xdp/maps.ts; the tc programs are in tc.h.
 */
#include "tc.h"

PARSER(xdp_md)

INLINE int match_hit(const struct packet *p)
{
	struct match_key key = {};

	__builtin_memcpy(key.addr, p->t.daddr, sizeof(key.addr));
	key.port = p->t.dport;
	key.vlan[0] = p->vlan[0];
	key.vlan[1] = p->vlan[1];
	key.proto = p->t.proto;
	key.family = p->t.family;
	return bpf_map_lookup_elem(&matches, &key) ? STEER_REDIRECTED : STEER_NO_MATCH;
}

/* All there is to do without a switch: in one piece, since most of the packet then need not be kept. */
INLINE int classify_plain(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct steer_config *own = get_config();
	struct packet p = {};
	int verdict;

	if (!own)
		return STEER_MALFORMED;
	verdict = parse_link(data, end, own, 0, &p);
	if (!p.mine)
		return data + sizeof(struct ethhdr) > end ? STEER_MALFORMED : STEER_NOT_MINE;
	if (verdict < 0)
		verdict = parse_network(data, end, end - data, &p);
	if (verdict >= 0)
		return verdict;
	if (p.fragment)
		return STEER_FRAGMENT;
	if (p.martian)
		return STEER_MARTIAN;
	if (p.t.proto != IPPROTO_UDP && p.t.proto != IPPROTO_TCP)
		return STEER_OTHER;
	verdict = parse_transport(data, end, &p);
	return verdict >= 0 ? verdict : match_hit(&p);
}

/* What to do with an IP packet, the firewall aside; STEER_REDIRECTED means: look for the socket. */
INLINE int decide(struct packet *p, const struct steer_policy *rules)
{
	if (!p->mine && (!p->group || p->tags || p->fragment))
		return STEER_NOT_MINE;
	if (p->fragment && p->tags)
		return STEER_FRAGMENT;
	if (p->fragment == LATER) {
		int fate = fragment_fate(p);

		if (fate >= 0)
			return fate == FRAGMENT_HELD ? STEER_REDIRECTED : fate;
		if (!destination_hit(p, rules))
			return STEER_FRAGMENT;
		remember_fragment(p, FRAGMENT_HELD);
		return STEER_REDIRECTED;
	}
	if (is_link(p) && !p->tags)
		return rules->owned && neighbour_owned(p) ? STEER_REDIRECTED : STEER_OTHER;
	if (p->martian)
		return STEER_MARTIAN;
	if (p->l4 >= 0)
		return p->l4;
	if (rules->dhcp && !p->tags && p->kind == DHCP && bpf_map_lookup_elem(&dhcp, &p->extra[0]))
		return STEER_REDIRECTED;
	if (!p->mine)
		return STEER_NOT_MINE;
	if (p->tags)
		return match_hit(p);
	if (p->kind == ERROR ? p->quoted.family && hits(&p->quoted, rules, 1) : hits(&p->t, rules, 1))
		return STEER_REDIRECTED;
	if (rules->owned && is_answered(p, rules) && is_owned(p->t.daddr, p->t.family))
		return STEER_REDIRECTED;
	return STEER_NO_MATCH;
}

INLINE int classify(struct xdp_md *ctx)
{
	const struct steer_policy *rules = get_policy();
	struct packet p = {};
	int verdict;

	if (!rules)
		return STEER_MALFORMED;
	if (!rules->flags)
		return classify_plain(ctx);
	verdict = xdp_md_parse(ctx, ctx->data_end - ctx->data, &p);
	if (verdict >= 0) {
		if (p.kind == ARP && !p.tags && rules->owned && (p.mine || p.group) && neighbour_owned(&p))
			return STEER_REDIRECTED;
		if (p.t.family && (rules->flags & STEER_DROP))
			return STEER_DROPPED;
		return p.mine ? verdict : STEER_NOT_MINE;
	}
	if (p.kind == ERROR)
		xdp_md_quoted(ctx, &p);
	verdict = decide(&p, rules);
	if (!p.mine && verdict != STEER_REDIRECTED)
		verdict = STEER_NOT_MINE;
	if (verdict != STEER_REDIRECTED && (rules->flags & STEER_DROP) && !firewall_passes(&p, rules) &&
	    !(p.group && rules->groups && group_hit(&p, rules))) /* the program at the card's ingress clones and drops it */
		verdict = STEER_DROPPED;
	if (p.fragment == FIRST && p.mine && !p.tags) {
		/* User space has others of this packet already, and must know that they are the kernel's. */
		if (verdict != STEER_DROPPED && fragment_fate(&p) == FRAGMENT_HELD)
			verdict = STEER_REDIRECTED;
		remember_fragment(&p, verdict == STEER_REDIRECTED || verdict == STEER_DROPPED ? verdict : STEER_FRAGMENT);
	}
	return verdict;
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	__u32 verdict = classify(ctx);
	int action = XDP_PASS;

	if (verdict == STEER_REDIRECTED) {
		action = bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS);
		if (action != XDP_REDIRECT)
			verdict = STEER_NO_SOCKET;
	} else if (verdict == STEER_DROPPED) {
		action = XDP_DROP;
	}
	count(verdict);
	return action;
}

char _license[] SEC("license") = "GPL";
