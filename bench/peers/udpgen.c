// UDP requests to an echo server over a veth, and its answers, for bench/udp.ts; 64 bytes each.
//   udpgen OBJECT INTERFACE OWN_MAC ITS_MAC OWN_ADDRESS ITS_ADDRESS ITS_PORT WINDOW RATE SECONDS
// It keeps WINDOW requests in the air (RATE 0), or sends RATE a second with at most WINDOW in the air; prints how many came
// back a second, percentiles of the time between, and what was lost: not back after 300 ms.
// A generator that costs little: requests go out many a system call (UDP_SEGMENT), and answers are taken and checked by a
// BPF program (udpgen.bpf.c) before the kernel's stack, since a veth has the receiver's work done on the sender's core, here
// the server's. It never sleeps: it has a core to itself.
#include "udpgen.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

enum { OWN_PORT = 40000, BYTES = 64, BATCH = 64, SILENCE = 300000000, TAIL = 0x5a };
static const enum bpf_attach_type TCX_INGRESS = 46; // Linux 6.6

static void die(const char *what, int error) {
  fprintf(stderr, "udpgen: %s: %s\n", what, strerror(error));
  exit(1);
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/** What an answer looks like. */
static void expect(struct generator *g, char **macs, const char *own, const char *its, uint16_t port) {
  uint8_t frame[FRAME + 2] = {[12] = 8, [14] = 0x45, [17] = FRAME - 14, [23] = IPPROTO_UDP, [39] = FRAME - 34};
  for (int i = 0; i < 12; i++) frame[i] = strtoul(macs[i / 6] + 3 * (i % 6), NULL, 16);
  inet_pton(AF_INET, its, frame + 26), inet_pton(AF_INET, own, frame + 30);
  memcpy(frame + 34, (uint16_t[]){htons(port), htons(OWN_PORT)}, 4);
  memset(frame + FRAME - 48, TAIL, 48);
  memcpy(&g->first, frame, 2), memcpy(g->answer, frame + 2, sizeof g->answer);
  memset(g->mask, 0xff, sizeof g->mask);
  g->mask[IP] = 0xffff00ff;     // not the type of service
  g->mask[IP + 1] = 0xffbf0000; // the identification, and whether it may be fragmented
  g->mask[IP + 2] = 0xff00;     // the time to live, the checksum
  g->mask[UDP + 1] = 0xffff;    // the checksum
  memset(g->mask + PAYLOAD, 0, 16);
}

/** Takes what comes back to the socket's port. */
static struct generator *receive(const char *path, const char *interface) {
  struct bpf_object *object = bpf_object__open_file(path, NULL);
  if (!object) die(path, errno);
  int r = bpf_object__load(object);
  if (r) die("bpf_object__load", -r);
  int map = bpf_object__find_map_fd_by_name(object, "generator");
  struct generator *g = mmap(NULL, sizeof *g, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
  if (g == MAP_FAILED) die("mmap", errno);
  int program = bpf_program__fd(bpf_object__find_program_by_name(object, "answer"));
  r = bpf_link_create(program, if_nametoindex(interface), TCX_INGRESS, NULL);
  if (r < 0) die("bpf_link_create", -r);
  return g;
}

static int udp_socket(const char *own, const char *its, uint16_t port) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), room = 8 << 20, bytes = BYTES;
  struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(OWN_PORT)};
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, own, &from.sin_addr), inet_pton(AF_INET, its, &to.sin_addr);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
  if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &bytes, sizeof bytes)) die("UDP_SEGMENT", errno);
  if (bind(fd, (struct sockaddr *)&from, sizeof from)) die("bind", errno);
  if (connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect", errno);
  return fd;
}

static double percentile(const struct generator *g, double part) {
  uint64_t wanted = g->heard * part, passed = 0;
  for (int at = 0; at < BUCKETS; at++)
    if ((passed += g->counts[at]) > wanted) return (double)((uint64_t)(at % STEPS + STEPS) << (at / STEPS)) / 1000;
  return 0;
}

static void print(const char *name, double value) { printf("{\"case\":\"%s\",\"value\":%.3f}\n", name, value); }

int main(int argc, char **argv) {
  if (argc != 11) die("OBJECT INTERFACE OWN_MAC ITS_MAC OWN_ADDRESS ITS_ADDRESS ITS_PORT WINDOW RATE SECONDS", EINVAL);
  int port = atoi(argv[7]), window = atoi(argv[8]), rate = atoi(argv[9]);
  if (window < 1 || window > AIR) die("WINDOW", ERANGE);
  struct generator *g = receive(argv[1], argv[2]);
  expect(g, argv + 3, argv[5], argv[6], port);
  int fd = udp_socket(argv[5], argv[6], port);

  static uint64_t out[BATCH][BYTES / 8];
  memset(out, TAIL, sizeof out);
  int64_t sent = 0, lost = 0, begin = now(), end = begin + atof(argv[10]) * 1e9, latest = begin;
  for (;;) {
    int64_t t = now();
    int64_t air = sent - lost - __atomic_load_n(&g->heard, __ATOMIC_ACQUIRE);
    if (air < 0) lost += air, air = 0; // later than that: it takes its loss back
    if (air > 0 && t - latest > SILENCE && t - (int64_t)g->last > SILENCE) lost += air, air = 0;
    if (t >= end && air == 0) break;
    int64_t want = t >= end ? 0 : window - air;
    if (rate > 0 && want > 0) {
      int64_t due = (int64_t)((t - begin) * 1e-9 * rate) - sent;
      if (due < want) want = due;
    }
    if (want > BATCH) want = BATCH;
    if (want <= 0) continue;
    for (int i = 0; i < want; i++) {
      out[i][0] = t, out[i][1] = sent + i;
      g->when[(sent + i) % AIR] = t;
    }
    if (send(fd, out, want * BYTES, MSG_DONTWAIT) < 0) continue;
    sent += want, latest = t;
  }
  print("requests/s", g->heard / ((g->last - begin) * 1e-9));
  print("p50", percentile(g, 0.5));
  print("p99", percentile(g, 0.99));
  print("p99.9", percentile(g, 0.999));
  print("sent", sent);
  print("lost", lost);
  return g->wrong != 0;
}
