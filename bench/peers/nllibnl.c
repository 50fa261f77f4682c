// A peer of bench/dump.ts: libnl (libnl-3, libnl-route-3) parses a dump into its objects, all of which are kept. Not
// through nl_cache: that takes minutes for a million routes.
//   nllibnl route4|neigh4 NETNS CASE [TIMES]   the best of TIMES, in ms
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/object.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/route.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static struct nl_object **objects;
static int count, room;

static void keep(struct nl_object *object, void *arg) {
  (void)arg;
  if (count == room && !(objects = realloc(objects, (room = room ? room * 2 : 4096) * sizeof *objects))) abort();
  nl_object_get(object);
  objects[count++] = object;
}

static int valid(struct nl_msg *msg, void *arg) {
  (void)arg;
  return nl_msg_parse(msg, keep, NULL) < 0 ? NL_STOP : NL_OK;
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  int ns = open(argv[2], O_RDONLY | O_CLOEXEC), neigh = !strcmp(argv[1], "neigh4");
  if (ns < 0 || setns(ns, CLONE_NEWNET) < 0) return perror("setns"), 1;
  double best = 1e9;
  for (int i = 0, times = argc > 4 ? atoi(argv[4]) : 1; i < times; i++) {
    struct nl_sock *sock = nl_socket_alloc();
    nl_socket_modify_cb(sock, NL_CB_VALID, NL_CB_CUSTOM, valid, NULL);
    if (nl_connect(sock, NETLINK_ROUTE) < 0) return 1;
    nl_socket_set_msg_buf_size(sock, 1 << 17);
    double start = now_ms();
    int error = nl_rtgen_request(sock, neigh ? RTM_GETNEIGH : RTM_GETROUTE, AF_INET, NLM_F_DUMP);
    if (error >= 0) error = nl_recvmsgs_default(sock);
    if (error < 0) return fprintf(stderr, "nllibnl: %s\n", nl_geterror(error)), 1;
    double took = now_ms() - start;
    if (took < best) best = took;
    fprintf(stderr, "nllibnl: %d objects\n", count);
    while (count > 0) nl_object_put(objects[--count]);
    nl_socket_free(sock);
  }
  printf("{\"case\":\"%s\",\"value\":%.2f}\n", argv[3], best);
  return 0;
}
