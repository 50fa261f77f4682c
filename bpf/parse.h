/* From bytes to a struct packet: Ethernet with VLAN tags, IPv4, IPv6 with extension headers, the ports of six protocols,
 * and the packet that an ICMP error quotes. Used on frames of a card (XDP) and on those of the kernel (tc), where only the
 * headers are in reach and `limit` says how long the packet is.
 * Functions give -1, or the counter under which the frame is passed. Sources: RFC 791, 792, 768, 3828, 4340, 4443, 4861,
 * 8200, 9260, 9293; IEEE 802.1Q.
 */
#ifndef PARSE_H
#define PARSE_H

#include "maps.h"

#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>

#define AF_INET 2
#define AF_INET6 10
#define IP_MF 0x2000
#define IP_OFFSET 0x1fff
#define STEER_EXT_HEADERS 6
#define MAX_OFFSET 0x3fff /* of an L4 header */

struct vlan_tag {
	__be16 tci;
	__be16 proto; /* of what follows */
};

struct ext_header {
	__u8 next;
	__u8 length; /* in units of 8 bytes, the first not counted */
	__u8 type;
	__u8 segments_left;
};

struct fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 offset; /* in units of 8 bytes, 2 reserved bits, M */
	__be32 id;
};

struct ports {
	__be16 source;
	__be16 dest;
};

/* ICMP and ICMPv6; <linux/icmp.h> needs libc's headers. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 id; /* of echo */
	__be16 sequence;
};

#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_REDIRECT 5
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12

struct dccp_header {
	struct ports ports;
	__u8 words;
	__u8 rest[7];
};

enum fragment { WHOLE, ATOMIC, FIRST, LATER };

enum kind {
	DATA,
	ARP,	/* t.daddr: the target's address, t.saddr: the sender's */
	ECHO_REQUEST,
	ECHO_REPLY,
	ERROR,	/* an ICMP error that quotes a packet */
	LINK,	/* ICMPv6 that keeps the link going: neighbours, routers, multicast listeners */
	SOLICITATION,
	ADVERTISEMENT,
	REFUSAL, /* a TCP segment with RST */
	DHCP,	/* a server's answer */
};

/* All that is known of a frame: no pointer into it, so that what decides is verified once for all shapes of frames. */
struct packet {
	struct tuple t;
	struct tuple quoted; /* family 0: nothing quoted */
	__u32 extra[4];	/* SOLICITATION, ADVERTISEMENT: the target; DHCP: the transaction id */
	__u32 at;	/* offset of the header to look at next; at last L4's */
	__u32 bytes;	/* how many IP says it carries there */
	__u32 id;	/* of a fragment */
	__u16 vlan[2];	/* as match_key.vlan */
	__s32 l4;	/* -1, or why there are no ports */
	__u8 tags;	/* those with an id */
	__u8 fragment;	/* enum fragment */
	__u8 martian;
	__u8 kind;	/* enum kind */
	__u8 mine;	/* sent to the card's own MAC, or a client's */
	__u8 group;	/* sent to a broadcast or multicast MAC */
	__be16 proto;	/* what Ethernet carries, behind the tags */
};

/* Where the parser is. */
struct cursor {
	void *at;
	void *end;
	__u32 limit; /* how long the frame is from `at` on, in reach or not */
};

/* Sources that no single host has: whoever answers them answers many, or itself (RFC 1122 section 3.2.1.3). */
INLINE int martian4(__u32 source)
{
	__u32 net = source >> 24;

	return net == 0 || net == 127 || (net & 0xf0) == 0xe0 || source == 0xffffffff;
}

INLINE int martian6(const __u32 *w)
{
	return (w[0] & 0xff) == 0xff || (!w[0] && !w[1] && !w[2] && (w[3] == 0 || w[3] == bpf_htonl(1)));
}

INLINE int same_mac(const void *a, const void *b)
{
	const __u16 *x = a, *y = b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

/* The destination of a frame between the tap's ingress and the card's (tc.h): where XDP is generic it sees the frame once
 * more, and must leave it alone. From the wire it means nothing to anybody. */
#define BACK_MAC_LOW 0x74656e02 /* 02:6e:65:74:64:00 */
#define BACK_MAC_HIGH 0x0064

INLINE int is_back(const __u8 *mac)
{
	const __u16 *x = (const void *)mac;

	return x[0] == (BACK_MAC_LOW & 0xffff) && x[1] == BACK_MAC_LOW >> 16 && x[2] == BACK_MAC_HIGH;
}

/* Up to two VLAN tags; id 0 is a priority tag and counts as none. */
INLINE int parse_tags(struct cursor *c, __be16 proto, struct packet *p)
{
#pragma unroll
	for (int i = 0; i < 2; i++) {
		struct vlan_tag *tag = c->at;
		__u16 id;

		if (proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > c->end)
			return STEER_MALFORMED;
		id = bpf_ntohs(tag->tci) & 0x0fff;
		if (id) {
			if (proto == bpf_htons(ETH_P_8021AD))
				id |= STEER_VLAN_8021AD;
			if (p->tags++ == 0)
				p->vlan[0] = id;
			else
				p->vlan[1] = id;
		}
		proto = tag->proto;
		c->at = tag + 1;
	}
	p->proto = proto;
	return -1;
}

INLINE void parse_arp(struct cursor *c, struct packet *p)
{
	struct {
		__be16 hardware, protocol;
		__u8 hardware_bytes, protocol_bytes;
		__be16 operation;
		__u8 sender_mac[6], sender[4], target_mac[6], target[4];
	} __attribute__((packed)) *arp = c->at;

	if ((void *)(arp + 1) > c->end || arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETH_P_IP) ||
	    arp->hardware_bytes != 6 || arp->protocol_bytes != 4)
		return;
	p->kind = ARP;
	__builtin_memcpy(p->t.daddr, arp->target, 4);
	__builtin_memcpy(p->t.saddr, arp->sender, 4);
}

INLINE int parse_ipv4(struct cursor *c, struct packet *p)
{
	struct iphdr *ip = c->at;
	__u32 header, total;
	__u16 word;

	if ((void *)(ip + 1) > c->end || ip->version != 4 || ip->ihl < 5)
		return STEER_MALFORMED;
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	if (total < header || total > c->limit)
		return STEER_MALFORMED;
	word = bpf_ntohs(ip->frag_off);
	p->fragment = word & IP_OFFSET ? LATER : word & IP_MF ? FIRST : WHOLE;
	p->id = ip->id;
	p->martian = martian4(bpf_ntohl(ip->saddr));
	p->t.proto = ip->protocol;
	p->t.daddr[0] = ip->daddr;
	p->t.saddr[0] = ip->saddr;
	c->at += header;
	p->bytes = total - header;
	return -1;
}

/* What IPv6's extension headers lead to. */
struct chain {
	__u8 next;
	__u8 fragment;
	__u32 id;
	__u32 bytes;
};

INLINE int skip_extensions(struct cursor *c, struct chain *chain)
{
	for (int i = 0; i < STEER_EXT_HEADERS; i++) {
		struct ext_header *ext = c->at;
		__u32 bytes;

		if (chain->next == IPPROTO_FRAGMENT) {
			struct fragment_header *fragment = c->at;
			__u16 word;

			if (chain->fragment)
				return STEER_OTHER;
			if ((void *)(fragment + 1) > c->end || chain->bytes < sizeof(*fragment))
				return STEER_MALFORMED;
			word = bpf_ntohs(fragment->offset);
			chain->fragment = word & 0xfff8 ? LATER : word & 1 ? FIRST : ATOMIC;
			chain->id = fragment->id;
			chain->next = fragment->next;
			chain->bytes -= sizeof(*fragment);
			c->at = fragment + 1;
			if (chain->fragment == LATER)
				break;
			continue;
		}
		if (chain->next != IPPROTO_HOPOPTS && chain->next != IPPROTO_DSTOPTS && chain->next != IPPROTO_ROUTING)
			break;
		if ((void *)(ext + 1) > c->end)
			return STEER_MALFORMED;
		if (chain->next == IPPROTO_ROUTING && ext->segments_left)
			return STEER_OTHER;
		bytes = (ext->length + 1) * 8;
		if (bytes > chain->bytes)
			return STEER_MALFORMED;
		chain->next = ext->next;
		chain->bytes -= bytes;
		c->at += bytes;
	}
	return -1;
}

INLINE int parse_ipv6(struct cursor *c, struct packet *p)
{
	struct ipv6hdr *ip = c->at;
	struct chain chain = {};
	int verdict;

	if ((void *)(ip + 1) > c->end || ip->version != 6)
		return STEER_MALFORMED;
	chain.bytes = bpf_ntohs(ip->payload_len);
	if (chain.bytes + sizeof(*ip) > c->limit)
		return STEER_MALFORMED;
	p->martian = martian6(ip->saddr.in6_u.u6_addr32);
	__builtin_memcpy(p->t.daddr, &ip->daddr, sizeof(p->t.daddr));
	__builtin_memcpy(p->t.saddr, &ip->saddr, sizeof(p->t.saddr));
	chain.next = ip->nexthdr;
	c->at = ip + 1;
	verdict = skip_extensions(c, &chain);
	p->t.proto = chain.next;
	p->fragment = chain.fragment;
	p->id = chain.id;
	p->bytes = chain.bytes;
	return verdict;
}

INLINE int parse_udp(struct cursor *c, struct packet *p)
{
	struct {
		struct udphdr udp;
		__u8 operation, hardware, hardware_bytes, hops;
		__u32 transaction;
	} *message = c->at;
	struct udphdr *udp = c->at;
	__u32 length;

	if ((void *)(udp + 1) > c->end || p->bytes < sizeof(*udp))
		return STEER_MALFORMED;
	length = bpf_ntohs(udp->len);
	/* UDP-Lite has its checksum's coverage here; 0 is all. A first fragment has the whole packet's length. */
	if (length < sizeof(*udp) && (length || p->t.proto == IPPROTO_UDP))
		return STEER_MALFORMED;
	if (length > p->bytes && p->fragment != FIRST)
		return STEER_MALFORMED;
	p->t.dport = udp->dest;
	p->t.sport = udp->source;
	if (p->t.proto == IPPROTO_UDP && udp->dest == bpf_htons(68) && udp->source == bpf_htons(67) &&
	    (void *)(message + 1) <= c->end && p->bytes >= sizeof(*message) && message->operation == 2) {
		p->kind = DHCP;
		p->extra[0] = message->transaction;
	}
	return -1;
}

INLINE int parse_icmp(struct cursor *c, struct packet *p)
{
	struct {
		struct icmp_header head;
		__u32 target[4];
	} *neighbour = c->at;
	struct icmp_header *icmp = c->at;
	__u8 type;

	if ((void *)(icmp + 1) > c->end || p->bytes < sizeof(*icmp))
		return STEER_MALFORMED;
	type = icmp->type;
	if (p->t.proto == IPPROTO_ICMP) {
		if (type == ICMP_ECHO)
			p->kind = ECHO_REQUEST;
		else if (type == ICMP_ECHOREPLY)
			p->kind = ECHO_REPLY;
		else if (type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH || type == ICMP_REDIRECT ||
			 type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB)
			p->kind = ERROR;
	} else if (type == ICMPV6_ECHO_REQUEST) {
		p->kind = ECHO_REQUEST;
	} else if (type == ICMPV6_ECHO_REPLY) {
		p->kind = ECHO_REPLY;
	} else if (type < 128) {
		p->kind = ERROR;
	} else if ((type >= 130 && type <= 137) || type == 143) {
		p->kind = LINK;
		if ((type == 135 || type == 136) && (void *)(neighbour + 1) <= c->end && p->bytes >= sizeof(*neighbour)) {
			p->kind = type == 135 ? SOLICITATION : ADVERTISEMENT;
			__builtin_memcpy(p->extra, neighbour->target, sizeof(p->extra));
		}
	}
	if (p->kind == ECHO_REQUEST || p->kind == ECHO_REPLY)
		p->t.dport = icmp->id;
	return -1;
}

/* Ports. A first fragment has its whole L4 header. */
INLINE int parse_l4(struct cursor *c, struct packet *p)
{
	__u8 proto = p->t.proto;

	if (proto == IPPROTO_UDP || proto == IPPROTO_UDPLITE)
		return parse_udp(c, p);
	if (proto == IPPROTO_TCP) {
		struct tcphdr *tcp = c->at;

		if ((void *)(tcp + 1) > c->end || tcp->doff < 5 || tcp->doff * 4 > p->bytes)
			return STEER_MALFORMED;
		p->t.dport = tcp->dest;
		p->t.sport = tcp->source;
		if (tcp->rst)
			p->kind = REFUSAL;
		return -1;
	}
	if (proto == IPPROTO_SCTP || proto == IPPROTO_DCCP) {
		struct dccp_header *header = c->at; /* SCTP's common header is as long */

		if ((void *)(header + 1) > c->end || p->bytes < sizeof(*header))
			return STEER_MALFORMED;
		if (proto == IPPROTO_DCCP && (header->words < 3 || header->words * 4 > p->bytes))
			return STEER_MALFORMED;
		p->t.dport = header->ports.dest;
		p->t.sport = header->ports.source;
		return -1;
	}
	if (proto == (p->t.family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		return parse_icmp(c, p);
	return STEER_OTHER;
}

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
