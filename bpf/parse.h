/* From a frame to a struct packet, in steps: link, network, transport, and the packet that an ICMP error quotes. Used on
 * frames of a card (XDP) and on those of the kernel (tc), where only the headers are in reach and `length` says how long
 * the frame is. Source: RFC 792, 4443.
 */
#ifndef PARSE_H
#define PARSE_H

#include "headers.h"

/* The parser's steps. Each begins at an offset that the one before left in the packet, and is verified once by itself, so
 * that their shapes do not multiply. */

INLINE int parse_link(void *data, void *end, const struct steer_config *own, int macs_used, struct packet *p)
{
	struct ethhdr *eth = data;
	struct cursor c = { .at = eth + 1, .end = end };

	if (c.at > end)
		return STEER_MALFORMED;
	p->group = eth->h_dest[0] & 1;
	p->mine = !p->group && same_mac(eth->h_dest, own->mac);
	if (!p->mine && !p->group && macs_used) {
		struct mac_key key = {};

		__builtin_memcpy(key.mac, eth->h_dest, sizeof(key.mac));
		p->mine = bpf_map_lookup_elem(&macs, &key) != 0;
	}
	if (is_back(eth->h_dest))
		return STEER_NOT_MINE;
	if (parse_tags(&c, eth->h_proto, p) >= 0)
		return STEER_MALFORMED;
	p->at = c.at - data;
	if (p->proto == bpf_htons(ETH_P_IP) || p->proto == bpf_htons(ETH_P_IPV6))
		return -1;
	if (p->proto == bpf_htons(ETH_P_ARP))
		parse_arp(&c, p);
	return STEER_OTHER;
}

INLINE int parse_network(void *data, void *end, __u32 length, struct packet *p)
{
	struct cursor c = { .end = end };
	__u32 offset = p->at;
	int verdict;

	if (offset > sizeof(struct ethhdr) + 2 * sizeof(struct vlan_tag))
		return STEER_MALFORMED;
	c.at = data + offset;
	c.limit = length - offset;
	if (p->proto == bpf_htons(ETH_P_IP)) {
		p->t.family = AF_INET;
		verdict = parse_ipv4(&c, p);
	} else {
		p->t.family = AF_INET6;
		verdict = parse_ipv6(&c, p);
	}
	p->at = c.at - data;
	return verdict;
}

INLINE int parse_transport(void *data, void *end, struct packet *p)
{
	struct cursor c = { .end = end };
	__u32 offset = p->at;

	if (p->fragment == LATER)
		return STEER_FRAGMENT;
	if (offset > MAX_OFFSET)
		return STEER_MALFORMED;
	c.at = data + offset;
	return parse_l4(&c, p);
}

/* The packet that the ICMP error `p` quotes, as the incoming packets of its flow have it; a header and the four bytes of
 * the ports (six for echo) are enough. Nothing if there is no such flow, or if the error came to somebody else than the
 * quoted packet's sender. */
INLINE void parse_quoted(void *data, void *end, struct packet *p)
{
	struct chain chain = { .bytes = p->bytes - sizeof(struct icmp_header) };
	struct cursor c = { .end = end };
	struct tuple *flow = &p->quoted;
	__u32 offset = p->at;

	if (offset > MAX_OFFSET || p->bytes < sizeof(struct icmp_header))
		return;
	c.at = data + offset + sizeof(struct icmp_header);
	if (p->t.family == AF_INET) {
		struct iphdr *ip = c.at;

		if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5 || ip->ihl * 4 > chain.bytes)
			return;
		if (ip->frag_off & bpf_htons(IP_OFFSET))
			return;
		chain.next = ip->protocol;
		flow->daddr[0] = ip->saddr;
		flow->saddr[0] = ip->daddr;
		chain.bytes -= ip->ihl * 4;
		c.at += ip->ihl * 4;
	} else {
		struct ipv6hdr *ip = c.at;

		if ((void *)(ip + 1) > end || ip->version != 6 || chain.bytes < sizeof(*ip))
			return;
		chain.next = ip->nexthdr;
		__builtin_memcpy(flow->daddr, &ip->saddr, sizeof(flow->daddr));
		__builtin_memcpy(flow->saddr, &ip->daddr, sizeof(flow->saddr));
		chain.bytes -= sizeof(*ip);
		c.at = ip + 1;
		if (skip_extensions(&c, &chain) >= 0 || chain.fragment == LATER)
			return;
	}
	if (flow->daddr[0] != p->t.daddr[0] || flow->daddr[1] != p->t.daddr[1] || flow->daddr[2] != p->t.daddr[2] ||
	    flow->daddr[3] != p->t.daddr[3])
		return;
	flow->proto = chain.next;
	switch (chain.next) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP: {
		struct ports *ports = c.at;

		if ((void *)(ports + 1) > end || chain.bytes < sizeof(*ports))
			return;
		flow->dport = ports->source;
		flow->sport = ports->dest;
		break;
	}
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6: {
		__be16 *words = c.at; /* type and code, checksum, identifier */
		__u8 type;

		if ((void *)(words + 3) > end || chain.bytes < 6)
			return;
		type = *(__u8 *)words;
		if (chain.next == IPPROTO_ICMP ? type != ICMP_ECHO && type != ICMP_ECHOREPLY
					       : type != ICMPV6_ECHO_REQUEST && type != ICMPV6_ECHO_REPLY)
			return;
		flow->dport = words[2];
		break;
	}
	}
	flow->family = p->t.family;
}

#define PARSER(context)                                                                                                \
	__noinline int context##_link(struct context *ctx, struct packet *p)                                           \
	{                                                                                                              \
		const struct steer_config *own = get_config();                                                         \
		const struct steer_policy *rules = get_policy();                                                       \
                                                                                                                       \
		if (!p || !own || !rules)                                                                              \
			return STEER_MALFORMED;                                                                        \
		return parse_link((void *)(long)ctx->data, (void *)(long)ctx->data_end, own, rules->macs != 0, p);     \
	}                                                                                                              \
	__noinline int context##_network(struct context *ctx, __u32 length, struct packet *p)                          \
	{                                                                                                              \
		if (!p)                                                                                                \
			return STEER_MALFORMED;                                                                        \
		return parse_network((void *)(long)ctx->data, (void *)(long)ctx->data_end, length, p);                 \
	}                                                                                                              \
	__noinline int context##_transport(struct context *ctx, struct packet *p)                                      \
	{                                                                                                              \
		if (!p)                                                                                                \
			return STEER_MALFORMED;                                                                        \
		return parse_transport((void *)(long)ctx->data, (void *)(long)ctx->data_end, p);                       \
	}                                                                                                              \
	__noinline int context##_quoted(struct context *ctx, struct packet *p)                                         \
	{                                                                                                              \
		if (!p)                                                                                                \
			return 0;                                                                                      \
		parse_quoted((void *)(long)ctx->data, (void *)(long)ctx->data_end, p);                                 \
		return p->quoted.family;                                                                               \
	}                                                                                                              \
	/* A whole frame. Gives -1, or the counter to pass it under: then it is ARP, not IP, or the IP header is wrong. */ \
	INLINE int context##_parse(struct context *ctx, __u32 length, struct packet *p)                                \
	{                                                                                                              \
		int verdict = context##_link(ctx, p);                                                                  \
                                                                                                                       \
		if (verdict < 0)                                                                                       \
			verdict = context##_network(ctx, length, p);                                                   \
		if (verdict < 0)                                                                                       \
			p->l4 = context##_transport(ctx, p);                                                           \
		return verdict;                                                                                        \
	}

#endif
