/* What is known of a frame (struct packet), and the headers that parse.h reads and Linux's own headers lack or keep behind
 * libc's.
 */
#ifndef PACKET_H
#define PACKET_H

#include "steer.h"

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

#endif
