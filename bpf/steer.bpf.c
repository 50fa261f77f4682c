// SPDX-License-Identifier: GPL-2.0
/* steer: the XDP program. Decides which frames go to user space; passes everything else to the kernel, which stays the
 * judge of whatever is odd: what is not recognised, contradicts itself or is not ours is never redirected and never
 * dropped here.
 *
 * A frame is redirected to the AF_XDP socket of its queue if all of this holds:
 *   destination MAC = the card's own; 0..2 VLAN tags (802.1Q, 802.1ad; id 0 is a priority tag and counts as no tag);
 *   IPv4: version 4, IHL >= 5, IHL*4 <= total length <= frame, not a fragment (offset 0 and no MF), options allowed;
 *   IPv6: version 6, payload length <= frame, at most STEER_EXT_HEADERS of hop-by-hop, destination options and routing
 *     (only with no segments left), no fragment header, not even an atomic one;
 *   the source is an address that one host can have: not multicast, broadcast, loopback or unspecified;
 *   UDP: header in bounds, 8 <= length <= what IP carries; TCP: header in bounds with its options;
 *   {family, protocol, destination address, destination port, VLAN ids} is in `matches`; the queue is in `xsks`.
 * Fragments pass, the first one too: only the kernel reassembles, and a first fragment alone is of no use to anyone.
 * Checksums are not looked at: user space does, and a frame from a local veth peer may rightly have none yet.
 *
 * A NIC that strips VLAN tags hides them from XDP, so stripping must be off (src/xdp/queues.ts).
 * Read and written by src/xdp/program.ts. Sources: RFC 791, 8200, 768, 9293; IEEE 802.1Q.
 */
#include "steer.h"

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10
#define IP_MF_AND_OFFSET 0x3fff
#define STEER_EXT_HEADERS 6

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steer_config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, STEER_MATCHES);
	__type(key, struct match_key);
	__type(value, __u32);
} matches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, STEER_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STEER_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

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

/* The L4 header's position, and how many bytes IP says it carries there. */
struct payload {
	void *at;
	__u32 bytes;
};

#define INLINE static __always_inline

/* Sources that no single host has: whoever answers them answers many, or itself (RFC 1122 section 3.2.1.3). */
INLINE int martian4(__u32 source)
{
	__u32 net = source >> 24;

	return net == 0 || net == 127 || (net & 0xf0) == 0xe0 || source == 0xffffffff;
}

INLINE int martian6(const __u8 *source)
{
	const __be32 *w = (const void *)source;

	return source[0] == 0xff || (!w[0] && !w[1] && !w[2] && (w[3] == 0 || w[3] == bpf_htonl(1)));
}

/* The parse_* functions fill the key and the payload, and give -1, or the counter to pass the frame under. */

INLINE int parse_ipv4(void *l3, void *end, struct match_key *key, struct payload *payload)
{
	struct iphdr *ip = l3;
	__u32 header, total;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return STEER_MALFORMED;
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	if (total < header || total > end - l3)
		return STEER_MALFORMED;
	if (ip->frag_off & bpf_htons(IP_MF_AND_OFFSET))
		return STEER_FRAGMENT;
	if (martian4(bpf_ntohl(ip->saddr)))
		return STEER_MARTIAN;
	key->family = AF_INET;
	key->proto = ip->protocol;
	key->addr[0] = ip->daddr;
	payload->at = l3 + header;
	payload->bytes = total - header;
	return -1;
}

INLINE int parse_ipv6(void *l3, void *end, struct match_key *key, struct payload *payload)
{
	struct ipv6hdr *ip = l3;
	void *at = ip + 1;
	__u32 left;
	__u8 next;

	if (at > end || ip->version != 6)
		return STEER_MALFORMED;
	left = bpf_ntohs(ip->payload_len);
	if (left > end - at)
		return STEER_MALFORMED;
	next = ip->nexthdr;
	for (int i = 0; i < STEER_EXT_HEADERS; i++) {
		struct ext_header *ext = at;
		__u32 bytes;

		if (next == IPPROTO_FRAGMENT)
			return STEER_FRAGMENT;
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS && next != IPPROTO_ROUTING)
			break;
		if ((void *)(ext + 1) > end)
			return STEER_MALFORMED;
		if (next == IPPROTO_ROUTING && ext->segments_left)
			return STEER_OTHER;
		bytes = (ext->length + 1) * 8;
		if (bytes > left)
			return STEER_MALFORMED;
		next = ext->next;
		at += bytes;
		left -= bytes;
	}
	if (martian6((const __u8 *)&ip->saddr))
		return STEER_MARTIAN;
	key->family = AF_INET6;
	key->proto = next;
	__builtin_memcpy(key->addr, &ip->daddr, sizeof(key->addr));
	payload->at = at;
	payload->bytes = left;
	return -1;
}

INLINE int parse_l4(void *end, struct match_key *key, const struct payload *payload)
{
	if (key->proto == IPPROTO_UDP) {
		struct udphdr *udp = payload->at;
		__u32 length;

		if ((void *)(udp + 1) > end)
			return STEER_MALFORMED;
		length = bpf_ntohs(udp->len);
		if (length < sizeof(*udp) || length > payload->bytes)
			return STEER_MALFORMED;
		key->port = udp->dest;
		return -1;
	}
	if (key->proto == IPPROTO_TCP) {
		struct tcphdr *tcp = payload->at;

		if ((void *)(tcp + 1) > end)
			return STEER_MALFORMED;
		if (tcp->doff < 5 || tcp->doff * 4 > payload->bytes)
			return STEER_MALFORMED;
		key->port = tcp->dest;
		return -1;
	}
	return STEER_OTHER;
}

INLINE int same_mac(const void *a, const void *b)
{
	const __u16 *x = a, *y = b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

/* What to do with the frame; STEER_REDIRECTED means: look for the socket. */
INLINE int classify(void *data, void *end)
{
	struct match_key key = {};
	struct payload payload = {};
	struct ethhdr *eth = data;
	struct steer_config *own;
	__u32 zero = 0, tags = 0;
	void *l3 = eth + 1;
	__be16 proto;
	int verdict;

	own = bpf_map_lookup_elem(&config, &zero);
	if (!own || l3 > end)
		return STEER_MALFORMED;
	if (!same_mac(eth->h_dest, own->mac) || (eth->h_dest[0] & 1))
		return STEER_NOT_MINE;
	proto = eth->h_proto;
#pragma unroll
	for (int i = 0; i < 2; i++) {
		struct vlan_tag *tag = l3;
		__u16 id;

		if (proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return STEER_MALFORMED;
		id = bpf_ntohs(tag->tci) & 0x0fff;
		if (id) {
			if (proto == bpf_htons(ETH_P_8021AD))
				id |= STEER_VLAN_8021AD;
			if (tags++ == 0)
				key.vlan[0] = id;
			else
				key.vlan[1] = id;
		}
		proto = tag->proto;
		l3 = tag + 1;
	}
	if (proto == bpf_htons(ETH_P_IP))
		verdict = parse_ipv4(l3, end, &key, &payload);
	else if (proto == bpf_htons(ETH_P_IPV6))
		verdict = parse_ipv6(l3, end, &key, &payload);
	else
		return STEER_OTHER;
	if (verdict < 0)
		verdict = parse_l4(end, &key, &payload);
	if (verdict >= 0)
		return verdict;
	return bpf_map_lookup_elem(&matches, &key) ? STEER_REDIRECTED : STEER_NO_MATCH;
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	__u32 verdict = classify((void *)(long)ctx->data, (void *)(long)ctx->data_end);
	int action = XDP_PASS;
	__u64 *count;

	if (verdict == STEER_REDIRECTED) {
		action = bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS);
		if (action != XDP_REDIRECT)
			verdict = STEER_NO_SOCKET;
	}
	count = bpf_map_lookup_elem(&counters, &verdict);
	if (count)
		++*count;
	return action;
}

char _license[] SEC("license") = "GPL";
