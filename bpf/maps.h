/* The maps. `config`, `xsks`: written by the main thread (src/xdp/program.ts). `matches`: by it for the embedded services,
 * and with all the others by the switch's control thread (src/xdp/maps.ts). `fragments`, `kernel_flows`: by the programs,
 * least recently used entries make room. Hash maps are not preallocated: an empty switch costs nothing.
 */
#ifndef MAPS_H
#define MAPS_H

#include "steer.h"

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define FRAGMENTS 8192
#define KERNEL_FLOWS 65536

#define INLINE static __always_inline

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steer_config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steer_policy);
} policy SEC(".maps");

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

#define SET(name, key_type, entries)                                                                                   \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_HASH);                                                                       \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                                                  \
		__uint(max_entries, entries);                                                                          \
		__type(key, key_type);                                                                                 \
		__type(value, __u32);                                                                                  \
	} name SEC(".maps")

SET(matches, struct match_key, STEER_MATCHES);
SET(flows, struct tuple, STEER_FLOWS);
SET(wild, struct wild_key, STEER_WILDS);
SET(owned, struct address_key, 16384);
SET(groups, struct group_key, 16384);
SET(dhcp, __u32, 16384); /* key: the transaction id as it is in the packet */
SET(macs, struct mac_key, 16384);
SET(dsts, struct address_key, STEER_FLOWS); /* value: the protocols (protocol_bit) with a match of that destination */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STEER_PATTERNS);
	__type(key, __u32);
	__type(value, struct pattern);
} patterns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct open_key);
	__type(value, __u32);
} open SEC(".maps");

/* What became of the first fragment, for those that follow it. */
struct fragment_fate {
	__u32 verdict;
	__u32 until; /* seconds since boot */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FRAGMENTS);
	__type(key, struct fragment_key);
	__type(value, struct fragment_fate);
} fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, KERNEL_FLOWS);
	__type(key, struct tuple);
	__type(value, __u32); /* seconds since boot: the last packet */
} kernel_flows SEC(".maps");

INLINE void count(__u32 what)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &what);

	if (value)
		++*value;
}

INLINE struct steer_config *get_config(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

INLINE struct steer_policy *get_policy(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&policy, &zero);
}

#endif
