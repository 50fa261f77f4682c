/* What of the switch's maps a packet hits. The functions that are not static are verified once, by themselves: a caller
 * pays for the call alone, whatever the patterns.
 */
#ifndef HIT_H
#define HIT_H

#include "parse.h"

#define FRAGMENT_HELD STEER_COUNTERS /* later fragments were redirected, the first one was not seen yet */
#define FRAGMENT_SECONDS 30 /* as the kernel keeps them: net.ipv4.ipfrag_time */

INLINE void set_address(struct address_key *key, const __u32 *address, __u32 family)
{
	__builtin_memcpy(key->addr, address, sizeof(key->addr));
	key->family = family;
}

INLINE int is_owned(const __u32 *address, __u32 family)
{
	struct address_key key;

	set_address(&key, address, family);
	return bpf_map_lookup_elem(&owned, &key) != 0;
}

/* A listener or a flow. */
__noinline int hits_exactly(struct tuple *t)
{
	struct match_key key = {};
	struct steer_policy *rules = get_policy();

	if (!t || !rules)
		return 0;
	__builtin_memcpy(key.addr, t->daddr, sizeof(key.addr));
	key.port = t->dport;
	key.proto = t->proto;
	key.family = t->family;
	if (bpf_map_lookup_elem(&matches, &key))
		return 1;
	return rules->flows && bpf_map_lookup_elem(&flows, t);
}

/* A pattern with some bits left out. */
__noinline int hits_pattern(struct tuple *t)
{
	struct steer_policy *rules = get_policy();
	struct wild_key key = {};

	if (!t || !rules)
		return 0;
	key.masked.proto = t->proto;
	key.masked.family = t->family;
	for (__u32 i = 0; i < STEER_PATTERNS && i < rules->patterns; i++) {
		__u32 index = i; /* a copy: the loop's own counter must not lie in memory */
		struct pattern *mask = bpf_map_lookup_elem(&patterns, &index);

		if (!mask || mask->family != t->family)
			continue;
#pragma unroll
		for (int w = 0; w < 4; w++) {
			key.masked.daddr[w] = t->daddr[w] & mask->daddr[w];
			key.masked.saddr[w] = t->saddr[w] & mask->saddr[w];
		}
		key.masked.dport = t->dport & mask->dport;
		key.masked.sport = t->sport & mask->sport;
		key.pattern = i;
		if (bpf_map_lookup_elem(&wild, &key))
			return 1;
	}
	return 0;
}

INLINE int hits(struct tuple *t, const struct steer_policy *rules, int patterns_too)
{
	return hits_exactly(t) || (rules->patterns && patterns_too && hits_pattern(t));
}

/* As in src/xdp/maps.ts. What comes behind an IPv6 extension header in a later fragment cannot be known. */
INLINE __u32 protocol_bit(__u8 proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return 1;
	case IPPROTO_UDP:
		return 2;
	case IPPROTO_SCTP:
		return 4;
	case IPPROTO_DCCP:
		return 8;
	case IPPROTO_UDPLITE:
		return 16;
	case IPPROTO_ICMP:
		return 32;
	case IPPROTO_ICMPV6:
		return 64;
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
		return 127;
	default:
		return 0;
	}
}

/* Whether user space answers such a packet to an address in `owned` that is no client's: echo and what is about it, and
 * closed ports, which are silent with the firewall on. */
INLINE int is_answered(const struct packet *p, const struct steer_policy *rules)
{
	if (p->t.proto == IPPROTO_ICMP || p->t.proto == IPPROTO_ICMPV6)
		return 1;
	return protocol_bit(p->t.proto) && !(rules->flags & STEER_DROP);
}

/* ARP and neighbour discovery about or for an address that only clients have. */
INLINE int neighbour_owned(const struct packet *p)
{
	if (p->kind == ARP)
		return is_owned(p->t.daddr, AF_INET) || is_owned(p->t.saddr, AF_INET);
	if (p->kind == SOLICITATION)
		return is_owned(p->extra, AF_INET6);
	return p->kind == ADVERTISEMENT && (is_owned(p->extra, AF_INET6) || is_owned(p->t.daddr, AF_INET6));
}

/* Whether this protocol and destination has any match at all. */
INLINE int destination_hit(const struct packet *p, const struct steer_policy *rules)
{
	__u32 bit = protocol_bit(p->t.proto);
	struct address_key key;
	__u32 *bits;

	if (bit & (p->t.family == AF_INET ? rules->any4 : rules->any6))
		return 1;
	set_address(&key, p->t.daddr, p->t.family);
	bits = bpf_map_lookup_elem(&dsts, &key);
	return bits && (*bits & bit);
}

INLINE void fragment_key(const struct packet *p, struct fragment_key *key)
{
	__builtin_memcpy(key->daddr, p->t.daddr, sizeof(key->daddr));
	__builtin_memcpy(key->saddr, p->t.saddr, sizeof(key->saddr));
	key->id = p->id;
	key->proto = p->t.family == AF_INET ? p->t.proto : IPPROTO_FRAGMENT;
	key->family = p->t.family;
	key->unused = 0;
}

INLINE __u32 seconds(void)
{
	return bpf_ktime_get_ns() / 1000000000;
}

INLINE void remember_fragment(const struct packet *p, __u32 verdict)
{
	struct fragment_fate fate = { .verdict = verdict, .until = seconds() + FRAGMENT_SECONDS };
	struct fragment_key key;

	fragment_key(p, &key);
	bpf_map_update_elem(&fragments, &key, &fate, BPF_ANY);
}

/* What became of the first fragment of this packet, or FRAGMENT_HELD, -1 if it is not known. */
INLINE int fragment_fate(const struct packet *p)
{
	struct fragment_fate *fate;
	struct fragment_key key;

	fragment_key(p, &key);
	fate = bpf_map_lookup_elem(&fragments, &key);
	return fate && fate->until >= seconds() ? (int)fate->verdict : -1;
}

/* A broadcast or multicast packet that a client asked for; of fragments, all that could be. */
INLINE int group_hit(const struct packet *p, const struct steer_policy *rules)
{
	struct group_key key = {};

	if (p->fragment == FIRST || p->fragment == LATER)
		return destination_hit(p, rules);
	__builtin_memcpy(key.addr, p->t.daddr, sizeof(key.addr));
	key.port = p->t.dport;
	key.proto = p->t.proto;
	key.family = p->t.family;
	if (bpf_map_lookup_elem(&groups, &key))
		return 1;
	key.port = 0;
	return bpf_map_lookup_elem(&groups, &key) != 0;
}

#endif
