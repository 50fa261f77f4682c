// Attaching to netd as a program with the crate usnet_sockets does, in C: a bound datagram socket, a request, an
// answer from exactly the server's address, the channel's fd in it. Source: /run/usnetd.socket's protocol (docs/protocol.md).
#pragma once
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct attach {
  int control;
  int channel; // a raw Ethernet frame a datagram
  struct sockaddr_un server;
  struct sockaddr_un self;
};

static void attach_fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

// Sends a request; the answer's bytes, and its fd if it carries one. -1 where no answer comes within `ms`.
static int attach_ask(struct attach *a, const char *request, char *answer, int capacity, int *fd, int ms) {
  if (sendto(a->control, request, strlen(request), 0, (struct sockaddr *)&a->server, sizeof a->server) < 0)
    return -1;
  struct pollfd wait = {.fd = a->control, .events = POLLIN};
  if (poll(&wait, 1, ms) != 1) return -1;
  char control[CMSG_SPACE(sizeof(int))];
  struct sockaddr_un from = {0};
  struct iovec part = {answer, capacity};
  struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1};
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  int n = recvmsg(a->control, &message, MSG_CMSG_CLOEXEC);
  if (n < 0) attach_fail("recvmsg");
  if (strcmp(from.sun_path, a->server.sun_path) != 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    fprintf(stderr, "answer from %s, flags %x\n", from.sun_path, message.msg_flags);
    exit(1);
  }
  struct cmsghdr *c = CMSG_FIRSTHDR(&message);
  if (fd) *fd = -1;
  if (fd && c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) memcpy(fd, CMSG_DATA(c), sizeof(int));
  return n;
}

// Binds `path`, asks for a channel on `ifname`; exits where that is refused.
static void attach_open(struct attach *a, const char *server, const char *path, const char *ifname) {
  memset(a, 0, sizeof *a);
  a->server.sun_family = a->self.sun_family = AF_UNIX;
  snprintf(a->server.sun_path, sizeof a->server.sun_path, "%s", server);
  snprintf(a->self.sun_path, sizeof a->self.sun_path, "%s", path);
  a->control = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (bind(a->control, (struct sockaddr *)&a->self, sizeof a->self) < 0) attach_fail(path);
  char request[128], answer[1];
  snprintf(request, sizeof request, "{\"RequestUDS\":[\"%s\",%d]}", ifname, (int)getpid());
  if (attach_ask(a, request, answer, 1, &a->channel, 5000) != 1) attach_fail(server);
  if (answer[0] != '$' || a->channel < 0) {
    fprintf(stderr, "no channel: %c\n", answer[0]);
    exit(1);
  }
}

// "AddMatch" for (protocol, address, port): whether the answer is OK.
static bool attach_match(struct attach *a, int protocol, const char *address, int port) {
  char request[256], answer[2];
  snprintf(request, sizeof request,
           "{\"AddMatch\":{\"dst_addr\":{\"%s\":\"%s\"},\"dst_port\":%d,\"src_addr\":null,\"src_port\":null,"
           "\"protocol\":%d}}",
           strchr(address, ':') ? "Ipv6" : "Ipv4", address, port, protocol);
  return attach_ask(a, request, answer, 2, NULL, 5000) == 2 && memcmp(answer, "OK", 2) == 0;
}
