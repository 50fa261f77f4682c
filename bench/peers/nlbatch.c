// A peer of bench/batch.ts: adds and deletes routes in batches, as fast as C can: messages are written one after the
// other, sent by 128 KiB, the last of each asking for an ack.
//   nlbatch NETNS ROUTES   ms of each
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct request {
  struct nlmsghdr h;
  struct rtmsg r;
  struct { struct rtattr a; unsigned v; } dst, via;
};
static struct request buf[128 * 1024 / sizeof(struct request)];
static char answer[1 << 16];

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static double change(int fd, int type, int routes) {
  unsigned per = sizeof buf / sizeof *buf;
  double start = now_ms();
  for (int i = 0; i < routes;) {
    unsigned n = 0;
    for (; n < per && i < routes; n++, i++) {
      struct request *q = buf + n;
      memset(q, 0, sizeof *q);
      q->h.nlmsg_len = sizeof *q;
      q->h.nlmsg_type = type;
      q->h.nlmsg_flags = NLM_F_REQUEST | (type == RTM_NEWROUTE ? NLM_F_CREATE | NLM_F_EXCL : 0);
      q->h.nlmsg_seq = i;
      q->r.rtm_family = AF_INET;
      q->r.rtm_dst_len = 24;
      q->r.rtm_table = RT_TABLE_MAIN;
      q->r.rtm_protocol = RTPROT_STATIC;
      q->r.rtm_type = RTN_UNICAST;
      q->dst.a.rta_len = q->via.a.rta_len = 8;
      q->dst.a.rta_type = RTA_DST;
      q->dst.v = htonl(0x20000000 + i * 256u);
      q->via.a.rta_type = RTA_GATEWAY;
      q->via.v = htonl(0x0a000002 + i % 256);
    }
    buf[n - 1].h.nlmsg_flags |= NLM_F_ACK;
    if (send(fd, buf, n * sizeof *buf, 0) < 0) { perror("send"); exit(1); }
    if (recv(fd, answer, sizeof answer, 0) < 0) { perror("recv"); exit(1); }
    struct nlmsghdr *h = (void *)answer;
    int error = ((struct nlmsgerr *)NLMSG_DATA(h))->error;
    if (h->nlmsg_type != NLMSG_ERROR || error) { fprintf(stderr, "nlbatch: %s\n", strerror(-error)); exit(1); }
  }
  return now_ms() - start;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  int ns = open(argv[1], O_RDONLY | O_CLOEXEC), routes = atoi(argv[2]);
  if (ns < 0 || setns(ns, CLONE_NEWNET) < 0) return perror("setns"), 1;
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), size = 1 << 20;
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
  double add = 1e9, del = 1e9;
  for (int i = 0; i < 3; i++) {
    double took = change(fd, RTM_NEWROUTE, routes);
    if (took < add) add = took;
    took = change(fd, RTM_DELROUTE, routes);
    if (took < del) del = took;
  }
  printf("{\"case\":\"add 100k routes\",\"value\":%.1f}\n{\"case\":\"delete 100k routes\",\"value\":%.1f}\n", add, del);
  return 0;
}
