// UDP echo, from all sides, for bench/udp.ts and tests. Each server prints "ready" once it can be reached.
//   udp echo ADDRESS PORT                        the kernel's socket, recvmmsg and sendmmsg
//   udp client SERVER PATH IFNAME ADDRESS PORT   a client of netd: frames of its channel with their ends swapped
//   udp gen SOURCE ADDRESS PORT BYTES WINDOW RATE SECONDS   by a socket of the kernel (the bench has udpgen.c)
//        keeps WINDOW requests in the air (RATE 0), or sends RATE a second with at most WINDOW in the air; prints how many
//        came back a second, percentiles of the time between, and what was lost: not back after 300 ms
#include "../../test/peers/attach.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <time.h>

enum { BATCH = 64, ROOM = 2048, SILENCE = 300000000 };

static uint8_t bytes[BATCH][ROOM];
static struct iovec parts[BATCH];
static struct sockaddr_in froms[BATCH];
static struct mmsghdr messages[BATCH];

static void prepare(bool named) {
  for (int i = 0; i < BATCH; i++) {
    parts[i] = (struct iovec){bytes[i], ROOM};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    if (named) messages[i].msg_hdr.msg_name = &froms[i], messages[i].msg_hdr.msg_namelen = sizeof froms[i];
  }
}

static struct sockaddr_in name(const char *address, int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, address, &to.sin_addr);
  return to;
}

static int udp_socket(struct sockaddr_in self) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  int room = 8 << 20;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
  if (bind(fd, (struct sockaddr *)&self, sizeof self) < 0) attach_fail("bind");
  return fd;
}

static void ready(void) {
  printf("ready\n");
  fflush(stdout);
}

static void echo(int fd) {
  prepare(true);
  ready();
  for (;;) {
    for (int i = 0; i < BATCH; i++) parts[i].iov_len = ROOM;
    int n = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
    if (n < 0) continue;
    for (int i = 0; i < n; i++) parts[i].iov_len = messages[i].msg_len;
    for (int sent = 0; sent < n;) {
      int m = sendmmsg(fd, messages + sent, n - sent, 0);
      if (m < 0) break;
      sent += m;
    }
  }
}

static void swap(uint8_t *a, uint8_t *b, int n) {
  uint8_t held[16];
  memcpy(held, a, n), memcpy(a, b, n), memcpy(b, held, n);
}

// Answers the UDP datagrams among `n` frames in place; returns how many, at the head of `messages`.
static int turn_round(int n, int port) {
  int kept = 0;
  for (int i = 0; i < n; i++) {
    uint8_t *frame = parts[i].iov_base;
    if (messages[i].msg_len < 42 || frame[12] != 8 || frame[13] != 0 || frame[23] != 17) continue;
    int l4 = 14 + (frame[14] & 15) * 4;
    if ((frame[l4 + 2] << 8 | frame[l4 + 3]) != port) continue;
    swap(frame, frame + 6, 6);
    swap(frame + 26, frame + 30, 4);
    swap(frame + l4, frame + l4 + 2, 2);
    struct iovec mine = {frame, messages[i].msg_len}, other = parts[kept];
    parts[kept] = mine;
    if (i != kept) parts[i] = other;
    kept++;
  }
  return kept;
}

static int client(struct attach *a, int port) {
  prepare(false);
  ready();
  struct pollfd wait = {a->channel, POLLIN, 0};
  for (;;) {
    for (int i = 0; i < BATCH; i++) parts[i].iov_len = ROOM;
    int n = recvmmsg(a->channel, messages, BATCH, MSG_DONTWAIT, NULL);
    if (n < 0 && errno == EAGAIN) {
      poll(&wait, 1, -1);
      continue;
    }
    if (n <= 0 || messages[0].msg_len == 0) return 0;
    int kept = turn_round(n, port);
    for (int sent = 0; sent < kept;) {
      int m = sendmmsg(a->channel, messages + sent, kept - sent, MSG_DONTWAIT);
      if (m < 0 && errno == EAGAIN) {
        wait.events = POLLOUT; // netd takes them fairly: a moment
        poll(&wait, 1, 10);
        wait.events = POLLIN;
        continue;
      }
      if (m < 0) return 1;
      sent += m;
    }
  }
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

// Times in 64 steps to a doubling.
enum { STEPS = 64, BUCKETS = 40 * STEPS };
static uint64_t counts[BUCKETS];

static void note(int64_t ns) {
  if (ns < STEPS) ns = STEPS;
  int octave = 63 - __builtin_clzll(ns);
  int at = (octave - 6) * STEPS + (int)((ns >> (octave - 6)) - STEPS);
  counts[at < BUCKETS ? at : BUCKETS - 1]++;
}

static double percentile(double part, uint64_t all) {
  uint64_t wanted = all * part, sum = 0;
  for (int at = 0; at < BUCKETS; at++)
    if ((sum += counts[at]) > wanted) return (double)((uint64_t)(at % STEPS + STEPS) << (at / STEPS)) / 1000;
  return 0;
}

static void print(const char *name, double value) { printf("{\"case\":\"%s\",\"value\":%.3f}\n", name, value); }

struct request {
  int64_t sent;
  uint64_t number;
};

static int generate(int fd, int size, int window, int rate, double seconds) {
  static uint8_t out[BATCH][ROOM];
  struct iovec outs[BATCH];
  struct mmsghdr sends[BATCH];
  for (int i = 0; i < BATCH; i++) {
    memset(out[i], 0x5a, ROOM);
    outs[i] = (struct iovec){out[i], size};
    sends[i].msg_hdr = (struct msghdr){.msg_iov = &outs[i], .msg_iovlen = 1};
  }
  prepare(false);
  uint64_t sent = 0, back = 0, lost = 0, given = 0;
  int64_t begin = now(), end = begin + seconds * 1e9, heard = begin, last = begin;
  struct pollfd wait = {fd, POLLIN, 0};
  for (;;) {
    int64_t t = now();
    int64_t air = sent - back - given;
    if (t >= end && air == 0) break;
    if (air > 0 && t - heard > SILENCE) { // an answer later than that takes its loss back
      lost += air, given += air, air = 0;
      if (t >= end) break;
    }
    int want = t >= end ? 0 : window - air;
    if (rate > 0 && want > 0) {
      int64_t due = (int64_t)((t - begin) * 1e-9 * rate) - (int64_t)sent;
      if (due < want) want = due;
    }
    if (want > BATCH) want = BATCH;
    if (want > 0) {
      for (int i = 0; i < want; i++) {
        struct request r = {t, sent + i};
        memcpy(out[i], &r, sizeof r);
      }
      int n = sendmmsg(fd, sends, want, MSG_DONTWAIT);
      if (n > 0) {
        if (air == 0) heard = t;
        sent += n;
      }
    }
    int n = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
    if (n <= 0) {
      if (want <= 0 || rate == 0) { // until an answer, or until the next one is due
        int64_t due = rate > 0 && t < end ? begin + (int64_t)((sent + 1) * 1e9 / rate) - now() : 1000000;
        struct timespec rest = {0, due < 1000 ? 1000 : due > 1000000 ? 1000000 : due};
        ppoll(&wait, 1, &rest, NULL);
      }
      continue;
    }
    t = last = heard = now();
    for (int i = 0; i < n; i++) {
      struct request r;
      if ((int)messages[i].msg_len != size) return 1;
      memcpy(&r, bytes[i], sizeof r);
      if (r.number >= sent) return 1;
      note(t - r.sent);
    }
    back += n;
    if (back + given > sent) lost -= back + given - sent, given = sent - back;
  }
  print("requests/s", back / ((last - begin) * 1e-9));
  print("p50", percentile(0.5, back));
  print("p99", percentile(0.99, back));
  print("p99.9", percentile(0.999, back));
  print("sent", sent);
  print("lost", lost);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "echo") == 0) echo(udp_socket(name(argv[2], atoi(argv[3]))));
  if (argc == 7 && strcmp(argv[1], "client") == 0) {
    struct attach a;
    attach_open(&a, argv[2], argv[3], argv[4]);
    if (!attach_match(&a, 17, argv[5], atoi(argv[6]))) return fprintf(stderr, "match refused\n"), 1;
    return client(&a, atoi(argv[6]));
  }
  if (argc == 9 && strcmp(argv[1], "gen") == 0) {
    int fd = udp_socket(name(argv[2], 0));
    struct sockaddr_in to = name(argv[3], atoi(argv[4]));
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) attach_fail("connect");
    int size = atoi(argv[5]);
    if (size < (int)sizeof(struct request) || size > ROOM) return 2;
    return generate(fd, size, atoi(argv[6]), atoi(argv[7]), atof(argv[8]));
  }
  fprintf(stderr, "usage: udp echo|client|gen ...\n");
  return 2;
}
