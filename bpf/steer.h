/* What the BPF programs (steer.bpf.c) and their user space (src/xdp/program.ts, src/xdp/maps.ts) share: map keys, values and
 * counter numbers. test/xdp/layout.test.ts compiles this header and holds src/xdp/layout.ts to it.
 * Keys have no padding: every byte counts. Addresses are in network byte order, IPv4 in word 0 and the rest 0.
 */
#ifndef STEER_H
#define STEER_H

#include <linux/types.h>

#define STEER_QUEUES 1024 /* entries of `xsks`: queues from here on have no socket */
#define STEER_MATCHES 65536
#define STEER_FLOWS 262144
#define STEER_WILDS 131072
#define STEER_PATTERNS 32
#define STEER_VLAN_8021AD 0x1000 /* in match_key.vlan: the tag is 802.1ad (0x88a8), not 802.1Q (0x8100) */

/* Key of `matches`: what a frame must be addressed to. */
struct match_key {
	__u32 addr[4];	/* destination address */
	__be16 port;	/* destination port, network byte order */
	__u16 vlan[2];	/* VLAN ids, outer first, host order, 0: no tag; STEER_VLAN_8021AD or-ed in */
	__u8 proto;	/* IPPROTO_UDP, IPPROTO_TCP... */
	__u8 family;	/* AF_INET or AF_INET6 */
};

/* Key of `flows` and `kernel_flows`: a flow as its incoming packets have it. ICMP and ICMPv6 echo, requests and replies:
 * dport is the identifier, sport 0. Protocols without ports: both 0. */
struct tuple {
	__u32 daddr[4];
	__u32 saddr[4];
	__be16 dport;
	__be16 sport;
	__u8 proto;
	__u8 family;
	__u16 unused;
};

/* Key of `wild`: a tuple of which a pattern leaves some bits, and which pattern. */
struct wild_key {
	struct tuple masked;
	__u32 pattern; /* index into `patterns` */
};

/* Value of `patterns`: the bits that count, as a mask over struct tuple; family exact, 0: no such pattern. */
struct pattern {
	__u32 daddr[4];
	__u32 saddr[4];
	__be16 dport;
	__be16 sport;
	__u8 partial; /* not all bits of daddr count */
	__u8 family;
	__u16 unused;
};

/* Key of `owned` and `dsts`. */
struct address_key {
	__u32 addr[4];
	__u32 family;
};

/* Key of `macs`. */
struct mac_key {
	__u8 mac[6];
	__u16 unused;
};

/* Key of `groups`: a broadcast or multicast destination. */
struct group_key {
	__u32 addr[4];
	__be16 port;
	__u8 proto;
	__u8 family;
};

/* Key of `open` (longest prefix match): what the firewall lets in for the kernel. prefixlen = 32 + that of `remote`. */
struct open_key {
	__u32 prefixlen;
	__u8 family;
	__u8 proto;
	__be16 port; /* local port, network byte order; 0: any, and protocols without ports */
	__u32 remote[4];
};

/* Key of `fragments`: what the fragments of one packet have in common. IPv6: proto is IPPROTO_FRAGMENT. */
struct fragment_key {
	__u32 daddr[4];
	__u32 saddr[4];
	__u32 id; /* as in the header */
	__u8 proto;
	__u8 family;
	__u16 unused;
};

/* The one value of `config`, by the main thread. All zero, as it is at load: no frame is ours. */
struct steer_config {
	__u8 mac[6];	/* the card's own address */
	__u16 unused;
	__u32 card;	/* ifindex */
	__u32 tap;	/* ifindex */
};

/* The one value of `policy`, by the switch's control thread. All zero: no switch. How many entries the maps have, so that
 * maps without any are not probed. */
struct steer_policy {
	__u32 flags;	/* enum steer_flag */
	__u32 listeners;
	__u32 flows;
	__u32 patterns;	/* below this index */
	__u32 macs;
	__u32 owned;
	__u32 groups;
	__u32 dhcp;
	__u32 any4;	/* protocols (protocol_bit) with an IPv4 match whose destination is not one address */
	__u32 any6;
};

enum steer_flag {
	STEER_SWITCH = 1,	/* there is at least one entry of the switch in any map */
	STEER_RECORD = 2,	/* keep `kernel_flows` */
	STEER_DROP = 4,		/* the firewall is on */
};

/* Index into `counters` (per CPU, __u64): what became of a frame. At the card each frame counts once, up to STEER_DROPPED;
 * the others count in the programs of tc.h. */
enum steer_counter {
	STEER_REDIRECTED,	/* to the queue's AF_XDP socket */
	STEER_NO_SOCKET,	/* passed: matches, but the queue has no socket */
	STEER_NO_MATCH,		/* passed: a protocol with ports, or ICMP, that nobody asked for */
	STEER_OTHER,		/* passed: another ethertype, protocol or extension header */
	STEER_NOT_MINE,		/* passed: broadcast, multicast, or another host's MAC */
	STEER_FRAGMENT,		/* passed: a fragment that no match was found for */
	STEER_MALFORMED,	/* passed: lengths or versions that contradict each other */
	STEER_MARTIAN,		/* passed: from a multicast, broadcast, loopback or unspecified address */
	STEER_DROPPED,		/* by the firewall */
	STEER_TO_TAP,		/* the kernel's, for a client: on the way out of the card */
	STEER_LOCAL,		/* the kernel's, for a client: on the way through lo */
	STEER_CLONED,		/* broadcast or multicast for a client too */
	STEER_GIVEN_BACK,	/* from netd through the tap to the card's ingress */
	STEER_COUNTERS,
};

#endif
