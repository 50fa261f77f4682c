/* The programs at tcx: what the kernel sends to a client turns to the tap, which netd reads; broadcast and multicast goes
 * to both; what netd writes to the tap for the kernel arrives as if the card had received it.
 * Frames that netd itself sends by AF_XDP do not pass here. All do nothing while the switch has no entries.
 */
#ifndef TC_H
#define TC_H

#include "firewall.h"

#define PACKET_HOST 0
#define TCX_NEXT -1
#define TCX_DROP 2
#define STEER_MARK 0x6e657464 /* on frames that netd gave back, from the tap's ingress to the card's */
#define HEADERS 128	      /* bytes that are looked at, if there are as many */

PARSER(__sk_buff)

/* Fills the packet. The kernel keeps the outer VLAN tag beside the frame, and has but the headers in reach. */
INLINE int parse_skb(struct __sk_buff *skb, struct packet *p)
{
	int verdict;

	if (skb->data_end - skb->data < HEADERS && skb->data_end - skb->data < skb->len)
		bpf_skb_pull_data(skb, skb->len < HEADERS ? skb->len : HEADERS);
	verdict = __sk_buff_parse(skb, skb->len, p);
	if (skb->vlan_present && (skb->vlan_tci & 0x0fff))
		p->tags++;
	return verdict;
}

/* Whether a client is to have this packet of the kernel's. A pattern that leaves bits of the destination out means the
 * card's addresses and the clients' own, so that at the card (`lo` = 0) only those of clients hit one: all others are
 * other hosts'. */
INLINE int for_client(struct __sk_buff *skb, struct packet *p, const struct steer_policy *rules, int lo)
{
	int owner, hit;

	if (p->fragment == LATER)
		return fragment_fate(p) == STEER_REDIRECTED;
	if (is_link(p))
		return rules->owned && neighbour_owned(p);
	if (p->l4 >= 0)
		return 0;
	owner = rules->owned && is_owned(p->t.daddr, p->t.family);
	if (p->kind == ERROR)
		hit = __sk_buff_quoted(skb, p) && hits(&p->quoted, rules, owner || lo);
	else
		hit = hits(&p->t, rules, owner || lo);
	if (!hit && owner && is_answered(p, rules))
		hit = 1;
	if (hit && p->fragment == FIRST)
		remember_fragment(p, STEER_REDIRECTED);
	return hit;
}

/* What the kernel sends out of the card. */
SEC("tc")
int card_egress(struct __sk_buff *skb)
{
	const struct steer_policy *rules = get_policy();
	const struct steer_config *own = get_config();
	struct packet p = {};
	int verdict;

	if (!rules || !rules->flags || !own)
		return TCX_NEXT;
	verdict = parse_skb(skb, &p);
	if (!p.tags && (verdict < 0 ? (rules->flags & STEER_SWITCH) && for_client(skb, &p, rules, 0)
				    : p.kind == ARP && rules->owned && neighbour_owned(&p))) {
		count(STEER_TO_TAP);
		return bpf_redirect(own->tap, 0);
	}
	if (verdict >= 0)
		return TCX_NEXT;
	if (rules->flags & STEER_RECORD)
		record_flow(&p);
	if (rules->groups && !p.tags && p.group && group_hit(&p, rules)) {
		count(STEER_CLONED);
		bpf_clone_redirect(skb, own->tap, 0);
	}
	return TCX_NEXT;
}

/* What programs on this host send to its own addresses; 127.0.0.0/8 and ::1 are no client's. */
SEC("tc")
int lo_egress(struct __sk_buff *skb)
{
	const struct steer_policy *rules = get_policy();
	const struct steer_config *own = get_config();
	struct packet p = {};

	if (!rules || !(rules->flags & STEER_SWITCH) || !own)
		return TCX_NEXT;
	if (parse_skb(skb, &p) >= 0 || p.martian || !for_client(skb, &p, rules, 1))
		return TCX_NEXT;
	count(STEER_LOCAL);
	return bpf_redirect(own->tap, 0);
}

/* What the kernel receives from the card: what XDP passed, and what netd gave back. */
SEC("tc")
int card_ingress(struct __sk_buff *skb)
{
	const struct steer_policy *rules = get_policy();
	const struct steer_config *own = get_config();
	struct packet p = {};
	int kernels;

	if (!own || !rules)
		return TCX_NEXT;
	if (skb->mark == STEER_MARK) {
		skb->mark = 0;
		bpf_skb_store_bytes(skb, 0, own->mac, sizeof(own->mac), 0);
		bpf_skb_change_type(skb, PACKET_HOST);
		return TCX_NEXT;
	}
	if (!rules->groups || skb->pkt_type == PACKET_HOST)
		return TCX_NEXT;
	if (parse_skb(skb, &p) >= 0 || !p.group || p.tags || p.martian || !group_hit(&p, rules))
		return TCX_NEXT;
	kernels = !(rules->flags & STEER_DROP) || firewall_passes(&p, rules);
	count(STEER_CLONED);
	bpf_clone_redirect(skb, own->tap, 0);
	return kernels ? TCX_NEXT : TCX_DROP;
}

/* What netd writes to the tap: to the card's address, as if the card had received it; else the tap's own. */
SEC("tc")
int tap_ingress(struct __sk_buff *skb)
{
	const struct steer_config *own = get_config();
	struct ethhdr *eth = (void *)(long)skb->data;
	__u32 back[2] = { BACK_MAC_LOW, BACK_MAC_HIGH };

	if (!own || (void *)(eth + 1) > (void *)(long)skb->data_end || !same_mac(eth->h_dest, own->mac))
		return TCX_NEXT;
	count(STEER_GIVEN_BACK);
	skb->mark = STEER_MARK;
	bpf_skb_store_bytes(skb, 0, back, 6, 0);
	return bpf_redirect(own->card, BPF_F_INGRESS);
}

#endif
