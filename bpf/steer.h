/* What steer.bpf.c and its user space (src/xdp/program.ts) share: map keys, values and counter numbers.
 * test/xdp/layout.test.ts compiles this header and holds program.ts to it. */
#ifndef STEER_H
#define STEER_H

#include <linux/types.h>

#define STEER_QUEUES 1024 /* entries of `xsks`: queues from here on have no socket */
#define STEER_MATCHES 65536
#define STEER_VLAN_8021AD 0x1000 /* in match_key.vlan: the tag is 802.1ad (0x88a8), not 802.1Q (0x8100) */

/* Key of `matches`: what a frame must be addressed to. No padding, every byte counts. */
struct match_key {
	__u32 addr[4];	/* destination address, network byte order; IPv4: addr[0], the rest 0 */
	__be16 port;	/* destination port, network byte order */
	__u16 vlan[2];	/* VLAN ids, outer first, host order, 0: no tag; STEER_VLAN_8021AD or-ed in */
	__u8 proto;	/* IPPROTO_UDP or IPPROTO_TCP */
	__u8 family;	/* AF_INET or AF_INET6 */
};

/* The one value of `config`. All zero, as it is at load: no frame is ours. */
struct steer_config {
	__u8 mac[6];	/* the card's own address */
	__u16 unused;
};

/* Index into `counters` (per CPU, __u64): what became of a frame. Each frame counts once. */
enum steer_counter {
	STEER_REDIRECTED,	/* to the queue's AF_XDP socket */
	STEER_NO_SOCKET,	/* passed: matches, but the queue has no socket */
	STEER_NO_MATCH,		/* passed: UDP or TCP that nobody asked for */
	STEER_OTHER,		/* passed: another ethertype, protocol or extension header */
	STEER_NOT_MINE,		/* passed: broadcast, multicast, or another host's MAC */
	STEER_FRAGMENT,		/* passed: any fragment, the first one too */
	STEER_MALFORMED,	/* passed: lengths or versions that contradict each other */
	STEER_MARTIAN,	/* passed: from a multicast, broadcast, loopback or unspecified address */
	STEER_COUNTERS,
};

#endif
