/* One header each: VLAN tags, ARP, IPv4, IPv6 with its extension headers, UDP and UDP-Lite, TCP, SCTP and DCCP, ICMP and
 * ICMPv6. From a cursor into the frame to struct packet. Functions give -1, or the counter under which the frame is passed.
 * Sources: RFC 791, 792, 768, 826, 2131, 3828, 4340, 4443, 4861, 8200, 9260, 9293; IEEE 802.1Q.
 */
#ifndef HEADERS_H
#define HEADERS_H

#include "maps.h"
#include "packet.h"

#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>

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

#endif
