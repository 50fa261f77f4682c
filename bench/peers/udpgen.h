// What the UDP generator (udpgen.c) and its receiving half in the kernel (udpgen.bpf.c) share: one element of a map.
// An answer is 106 bytes: Ethernet, IPv4, UDP, then {u64 when the request was sent, ns; u64 its number} and 48 bytes more.
// Word `i` of a frame is the one at byte 2 + 4 * i, so that headers begin at whole words: IPv4 at 3, UDP at 8, the payload at 10.
#pragma once
#include <linux/types.h>

enum {
  FRAME = 106,
  WORDS = 26,
  IP = 3,
  UDP = 8,
  PAYLOAD = 10,
  AIR = 4096, // requests in the air at most, a power of two
  STEPS = 64, // of time, to a doubling
  BUCKETS = 64 * STEPS,
};

struct generator {
  __u32 answer[WORDS]; // without bytes 0 and 1, which are `first`
  __u32 mask[WORDS];   // bits of it that have to be so
  __u16 first;
  // By number: when the request was sent, ns; 0 once it is answered.
  __u64 when[AIR];
  // Written where answers arrive.
  __u64 heard __attribute__((aligned(64)));
  __u64 last;  // when
  __u64 wrong; // frames for the generator's port that are no answer, or one a second time
  __u64 counts[BUCKETS];
};
