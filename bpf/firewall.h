/* What the kernel gets while the firewall is on: what `open` lists, and the replies to what it sent itself. The tc program
 * at the card's egress keeps the kernel's flows.
 */
#ifndef FIREWALL_H
#define FIREWALL_H

#include "hit.h"

/* A DHCP client asks everybody, or from no address: any server's answer is its reply. */
INLINE void forget_dhcp_addresses(struct tuple *t)
{
	if (t->proto != IPPROTO_UDP)
		return;
	if ((t->dport == bpf_htons(68) && t->sport == bpf_htons(67)) ||
	    (t->dport == bpf_htons(546) && t->sport == bpf_htons(547))) {
		__builtin_memset(t->daddr, 0, sizeof(t->daddr));
		__builtin_memset(t->saddr, 0, sizeof(t->saddr));
	}
}

__noinline int is_open(struct tuple *t)
{
	struct open_key key = { .prefixlen = 32 + 128 };

	if (!t)
		return 0;
	__builtin_memcpy(key.remote, t->saddr, sizeof(key.remote));
	key.family = t->family;
	key.proto = t->proto;
	/* An echo identifier is no port. */
	key.port = t->proto == IPPROTO_ICMP || t->proto == IPPROTO_ICMPV6 ? 0 : t->dport;
	if (bpf_map_lookup_elem(&open, &key))
		return 1;
	if (!key.port)
		return 0;
	key.port = 0;
	return bpf_map_lookup_elem(&open, &key) != 0;
}

/* Seconds without a packet after which a flow of the kernel's is over: as its own connection tracking has them, which
 * keeps a silent TCP connection for five days. */
INLINE __u32 flow_seconds(__u8 proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return 432000;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return 180;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return 30;
	default:
		return 600;
	}
}

/* Whether there is such a flow, which then has a packet. */
INLINE int touch_flow(const struct tuple *key)
{
	__u32 *last = bpf_map_lookup_elem(&kernel_flows, key), now = seconds();

	if (!last || now - *last > flow_seconds(key->proto))
		return 0;
	if (*last != now)
		*last = now;
	return 1;
}

__noinline int is_kernel_flow(struct tuple *t)
{
	struct tuple key;

	if (!t)
		return 0;
	key = *t;
	forget_dhcp_addresses(&key);
	return touch_flow(&key);
}

INLINE int is_link(const struct packet *p)
{
	return p->kind == LINK || p->kind == SOLICITATION || p->kind == ADVERTISEMENT;
}

/* Whether the kernel may have this packet. Later fragments follow the first one, or are of no use without it. */
INLINE int firewall_passes(struct packet *p, const struct steer_policy *rules)
{
	if (p->fragment == LATER || is_link(p))
		return 1;
	if (p->t.family == AF_INET && p->t.proto == IPPROTO_IGMP)
		return 1;
	if (p->martian || p->l4 == STEER_MALFORMED)
		return 0;
	if (p->kind == ERROR)
		return p->quoted.family && (is_kernel_flow(&p->quoted) || is_open(&p->quoted));
	return (p->kind != ECHO_REQUEST && is_kernel_flow(&p->t)) || is_open(&p->t);
}

/* The replies to this packet of the kernel's will be let in. */
INLINE void record_flow(const struct packet *p)
{
	struct tuple reply = p->t;
	__u32 now = seconds();

	/* A refusal is no flow: who scans us must not fill the map. */
	if (p->fragment == LATER || p->l4 == STEER_MALFORMED || p->kind == REFUSAL)
		return;
	if (p->kind != ECHO_REQUEST) {
		if (p->t.proto == IPPROTO_ICMP || p->t.proto == IPPROTO_ICMPV6)
			return;
		reply.dport = p->t.sport;
		reply.sport = p->t.dport;
	}
	__builtin_memcpy(reply.daddr, p->t.saddr, sizeof(reply.daddr));
	__builtin_memcpy(reply.saddr, p->t.daddr, sizeof(reply.saddr));
	forget_dhcp_addresses(&reply);
	if (touch_flow(&reply))
		return;
	/* Nobody answers from a group's address. */
	if ((reply.saddr[0] & 0xff) >= (p->t.family == AF_INET ? 224 : 255))
		return;
	if (!is_open(&reply))
		bpf_map_update_elem(&kernel_flows, &reply, &now, BPF_ANY);
}

#endif
