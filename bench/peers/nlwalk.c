// The peer of bench/sync.ts: asks the kernel for a dump and only walks the messages, or listens to events and only
// counts them. The least that any mirror can do.
//   nlwalk route4|neigh4 NETNS CASE [TIMES]   the best of TIMES dumps (routes: tables local and main), in ms
//   nlwalk listen route4|neigh4 NETNS CASE    says "ready", counts events until none comes for 300 ms, and prints
//                                             events a second
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buf[1 << 18] __attribute__((aligned(64)));

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

static int opened(unsigned groups) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), one = 1, size = 32 << 20;
  struct sockaddr_nl self = {.nl_family = AF_NETLINK, .nl_groups = groups};
  if (fd < 0) die("socket");
  setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof one);
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0) die("SO_RCVBUFFORCE");
  if (bind(fd, (struct sockaddr *)&self, sizeof self) < 0) die("bind");
  return fd;
}

static unsigned long attributes; // what walking finds, so that it is not optimised away

static int walk(int len, unsigned *rows) {
  for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, (unsigned)len); h = NLMSG_NEXT(h, len)) {
    if (h->nlmsg_type == NLMSG_DONE) return 1;
    if (h->nlmsg_type == NLMSG_ERROR) die("dump");
    int left = NLMSG_PAYLOAD(h, sizeof(struct rtmsg)); // struct ndmsg is as long
    for (struct rtattr *a = (void *)((char *)NLMSG_DATA(h) + sizeof(struct rtmsg)); RTA_OK(a, left); a = RTA_NEXT(a, left))
      attributes += a->rta_type;
    ++*rows;
  }
  return 0;
}

static void dump(int fd, int neigh, unsigned table, unsigned *rows) {
  struct {
    struct nlmsghdr h;
    struct rtmsg r;
    struct rtattr a;
    unsigned table;
  } q = {.h = {.nlmsg_type = neigh ? RTM_GETNEIGH : RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = 1},
         .r = {.rtm_family = AF_INET},
         .a = {.rta_len = 8, .rta_type = RTA_TABLE},
         .table = table};
  q.h.nlmsg_len = neigh ? NLMSG_LENGTH(sizeof q.r) : sizeof q;
  if (send(fd, &q, q.h.nlmsg_len, 0) < 0) die("send");
  for (;;) {
    int n = recv(fd, buf, sizeof buf, 0);
    if (n < 0) die("recv");
    if (walk(n, rows)) break;
  }
}

static double dumps(int neigh, unsigned *rows) {
  int fd = opened(0);
  double start = now_ms();
  *rows = 0;
  if (!neigh) dump(fd, 0, RT_TABLE_LOCAL, rows);
  dump(fd, neigh, RT_TABLE_MAIN, rows);
  double took = now_ms() - start;
  close(fd);
  return took;
}

static void listen_events(int neigh, const char *name) {
  int fd = opened(neigh ? RTMGRP_NEIGH : RTMGRP_IPV4_ROUTE);
  struct pollfd wait = {.fd = fd, .events = POLLIN};
  unsigned rows = 0, lost = 0;
  double first = 0, last = 0;
  puts("ready");
  fflush(stdout);
  for (;;) {
    int n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
    if (n < 0 && errno == ENOBUFS) {
      lost++;
      continue;
    }
    if (n < 0 && errno == EAGAIN) {
      if (poll(&wait, 1, first ? 300 : 60000) == 0) break;
      continue;
    }
    if (n < 0) die("recv");
    last = now_ms();
    if (!first) first = last;
    walk(n, &rows);
  }
  fprintf(stderr, "nlwalk: %u events, %u overruns\n", rows, lost);
  printf("{\"case\":\"%s\",\"value\":%.0f}\n", name, last > first ? rows / (last - first) * 1e3 : 0);
}

int main(int argc, char **argv) {
  int listening = argc > 1 && !strcmp(argv[1], "listen");
  if (argc < 4 + listening) {
    fprintf(stderr, "usage: nlwalk [listen] route4|neigh4 NETNS CASE [TIMES]\n");
    return 2;
  }
  int neigh = !strcmp(argv[1 + listening], "neigh4"), ns = open(argv[2 + listening], O_RDONLY | O_CLOEXEC);
  if (ns < 0 || setns(ns, CLONE_NEWNET) < 0) die("setns");
  if (listening) {
    listen_events(neigh, argv[4]);
    return 0;
  }
  double best = 1e9;
  unsigned rows = 0;
  for (int i = 0, times = argc > 4 ? atoi(argv[4]) : 1; i < times; i++) {
    double took = dumps(neigh, &rows);
    if (took < best) best = took;
  }
  fprintf(stderr, "nlwalk: %u messages, %lu\n", rows, attributes);
  printf("{\"case\":\"%s\",\"value\":%.2f}\n", argv[3], best);
  return 0;
}
