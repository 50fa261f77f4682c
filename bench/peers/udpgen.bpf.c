// SPDX-License-Identifier: GPL-2.0
// The UDP generator's receiving half (udpgen.c), at its interface's tcx ingress: takes what comes to its port, and checks it.
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include "udpgen.h"

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct generator);
} generator SEC(".maps");

static __always_inline struct generator *state(void) {
  __u32 key = 0;
  return bpf_map_lookup_elem(&generator, &key);
}

static __always_inline __u32 fold(__u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}

static __always_inline void note(struct generator *g, __u64 ns) {
  if (ns < STEPS) ns = STEPS;
  __u64 at = 0;
  for (int i = 0; i < 40 && ns >= 2 * STEPS; i++) ns >>= 1, at += STEPS;
  g->counts[(at + ns - STEPS) % BUCKETS]++;
}

SEC("tc")
int answer(struct __sk_buff *skb) {
  __u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  struct generator *g = state();
  __u32 *words = (__u32 *)(data + 2);
  if (!g || (void *)&words[UDP + 1] > (void *)end) return TC_ACT_UNSPEC;
  if (words[UDP] != g->answer[UDP] || words[IP - 1] != g->answer[IP - 1]) return TC_ACT_UNSPEC;
  if (data + FRAME > end) {
    g->wrong++;
    return TC_ACT_SHOT;
  }
  __u32 unlike = *(__u16 *)data ^ g->first;
  __u64 ip = 0, pseudo, udp = 0;
#pragma unroll
  for (int i = 0; i < WORDS; i++) {
    __u32 word = words[i];
    unlike |= (word ^ g->answer[i]) & g->mask[i];
    if (i >= IP && i < UDP) ip += word;
    if (i >= UDP) udp += word;
  }
  pseudo = (__u64)words[IP + 3] + words[IP + 4] + (17 << 8) + (words[UDP + 1] & 0xffff);
  // A veth leaves checksums to nobody: the kernel's servers send the pseudo header's sum instead.
  __u32 check = words[UDP + 1] >> 16;
  int isRight = fold(ip) == 0xffff && (fold(udp + pseudo) == 0xffff || check == fold(pseudo));
  __u64 sent = words[PAYLOAD] | (__u64)words[PAYLOAD + 1] << 32;
  __u64 *when = &g->when[words[PAYLOAD + 2] % AIR];
  if (skb->len != FRAME || unlike || !isRight || sent == 0 || *when != sent) {
    g->wrong++;
    return TC_ACT_SHOT;
  }
  *when = 0;
  g->last = bpf_ktime_get_ns();
  note(g, g->last - sent);
  g->heard++;
  return TC_ACT_SHOT;
}

char _license[] SEC("license") = "GPL";
