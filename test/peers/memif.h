// A client of memif 2.0 in C, which shares nothing with ours: the handshake, and one ring each way in memory of its own. Whatever
// goes wrong ends the program, with a reason on stderr. Source: libmemif's memif.h.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { ACK = 1, HELLO, INIT, ADD_REGION, ADD_RING, CONNECT, CONNECTED, DISCONNECT };
enum { VERSION = 0x0200, COOKIE = 0x3E31F20, S2M = 1, NEXT = 1, MASK = 1 };
enum { ROOM = 65536 /* of a packet */, PATIENCE_S = 30 /* for all of a run */ };

struct message {
  uint16_t type;
  union {
    struct { char name[32]; uint16_t least, most, region, m2s, s2m; uint8_t log2; } __attribute__((packed)) hello;
    struct { uint16_t version; uint32_t id; uint8_t mode; char secret[24], name[32]; } __attribute__((packed)) init;
    struct { uint16_t index; uint64_t bytes; } __attribute__((packed)) region;
    struct { uint16_t flags, index, region; uint32_t offset; uint8_t log2; uint16_t private; } __attribute__((packed)) ring;
    struct { char name[32]; } connect;
    struct { uint32_t code; char reason[96]; } __attribute__((packed)) end;
    uint8_t room[126];
  };
} __attribute__((packed));
_Static_assert(sizeof(struct message) == 128, "a message");

struct desc {
  uint16_t flags, region;
  uint32_t length, offset, metadata;
};
struct ring {
  uint32_t cookie;
  uint16_t flags, head;
  uint8_t line[56];
  uint16_t tail;
  uint8_t line2[62];
  struct desc desc[];
};
_Static_assert(offsetof(struct ring, desc) == 128, "a ring");

static int control, events[2]; // of s2m, m2s
static uint8_t *regions[2];
static struct ring *s2m, *m2s;
static uint16_t cursor; // of m2s: the next descriptor that the server fills
static bool sleeps;
static unsigned buffer = 2048, slots, longest, rung, woken;
static time_t deadline;

static void fail(const char *what, const char *why) {
  fprintf(stderr, "memif: %s: %s\n", what, why);
  exit(1);
}

static int check(const char *what, long result) {
  if (result < 0) fail(what, strerror(errno));
  return result;
}

// The handshake

static void say(struct message message, int fd) {
  union { struct cmsghdr head; char bytes[CMSG_SPACE(sizeof fd)]; } passed = {0};
  struct iovec part = {&message, sizeof message};
  struct msghdr out = {.msg_iov = &part, .msg_iovlen = 1};
  if (fd >= 0) {
    out.msg_control = &passed, out.msg_controllen = sizeof passed;
    passed.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&passed.head), &fd, sizeof fd);
  }
  check("sendmsg", sendmsg(control, &out, MSG_NOSIGNAL));
}

static struct message hear(unsigned type) {
  struct message message = {0};
  struct pollfd wait = {control, POLLIN, 0};
  if (check("poll", poll(&wait, 1, PATIENCE_S * 1000)) == 0) fail("the server", "does not answer");
  int n = check("recv", recv(control, &message, sizeof message, 0));
  if (n != sizeof message) fail("the server", n == 0 ? "closed" : "said something short");
  if (message.type == DISCONNECT) fail("disconnected", message.end.reason);
  if (message.type != type) fail("the server", "said something else");
  return message;
}

static void add_region(int index, size_t bytes) {
  int fd = check("memfd_create", memfd_create("memif", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  check("ftruncate", ftruncate(fd, bytes));
  check("F_ADD_SEALS", fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
  regions[index] = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (regions[index] == MAP_FAILED) fail("mmap", strerror(errno));
  say((struct message){.type = ADD_REGION, .region = {index, bytes}}, fd);
  hear(ACK);
  close(fd);
}

// Region 0: s2m | m2s | buffers, one a slot, unless those are region 1.
static void connect_memif(const char *path, uint32_t id, int mode, const char *secret, int log2, bool isApart) {
  struct sockaddr_un server = {.sun_family = AF_UNIX};
  snprintf(server.sun_path, sizeof server.sun_path, "%s", path);
  control = check("socket", socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  check(path, connect(control, (struct sockaddr *)&server, sizeof server));
  struct message hello = hear(HELLO);
  if (hello.hello.least > VERSION || hello.hello.most < VERSION) fail("the server", "speaks another version");
  if (log2 > hello.hello.log2) fail("the server", "has no such long rings");

  struct message init = {.type = INIT, .init = {VERSION, id, mode, "", "c client"}};
  memcpy(init.init.secret, secret, strnlen(secret, sizeof init.init.secret));
  say(init, -1);
  hear(ACK);

  slots = 1u << log2;
  size_t one = sizeof(struct ring) + slots * sizeof(struct desc), all = 2 * slots * (size_t)buffer;
  add_region(0, 2 * one + (isApart ? 0 : all));
  if (isApart) add_region(1, all);
  s2m = (struct ring *)regions[0], m2s = (struct ring *)(regions[0] + one);
  for (int i = 0; i < 2; i++) {
    struct ring *ring = i == 0 ? s2m : m2s;
    ring->cookie = COOKIE;
    ring->flags = i == 1 && !sleeps ? MASK : 0;
    for (unsigned slot = 0; slot < slots; slot++) {
      uint32_t offset = (isApart ? 0 : 2 * one) + (i * slots + slot) * buffer;
      ring->desc[slot] = (struct desc){.region = isApart, .length = buffer, .offset = offset};
    }
    events[i] = check("eventfd", eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    say((struct message){.type = ADD_RING, .ring = {i == 0 ? S2M : 0, 0, 0, i * one, log2, 0}}, events[i]);
    hear(ACK);
  }
  say((struct message){.type = CONNECT, .connect = {"c client"}}, -1);
  hear(CONNECTED);
  __atomic_store_n(&m2s->head, slots, __ATOMIC_RELEASE); // all buffers are the server's to fill
  deadline = time(NULL) + PATIENCE_S;
}

// Packets

static uint8_t *place(struct desc *d) { return regions[d->region] + d->offset; }

// Until something comes, or at once if `ms` is 0 or we poll; the end where the server ends, or takes too long.
static void pause_for(int ms) {
  struct pollfd wait[2] = {{control, POLLIN, 0}, {events[1], POLLIN, 0}};
  check("poll", poll(wait, 2, sleeps ? ms : 0));
  if (wait[0].revents) hear(0);
  eventfd_t value;
  if (wait[1].revents && eventfd_read(events[1], &value) == 0) woken++;
  if (time(NULL) > deadline) fail("not done", "nothing comes, or too slowly");
}

// A packet that is longer than a buffer goes over several; waits for room.
static void give(const uint8_t *packet, unsigned n) {
  uint16_t head = s2m->head;
  unsigned parts = (n + buffer - 1) / buffer;
  while (slots - (uint16_t)(head - __atomic_load_n(&s2m->tail, __ATOMIC_ACQUIRE)) < parts) pause_for(0);
  for (unsigned done = 0, part; done < n; done += part) {
    struct desc *d = &s2m->desc[head++ & (slots - 1)];
    part = n - done < buffer ? n - done : buffer;
    memcpy(place(d), packet + done, part);
    d->length = part;
    d->flags = done + part < n ? NEXT : 0;
  }
  __atomic_store_n(&s2m->head, head, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&s2m->flags, __ATOMIC_SEQ_CST) & MASK) return;
  check("eventfd", eventfd_write(events[0], 1));
  rung++;
}

// The next packet's bytes; 0: there is none.
static unsigned take(uint8_t *packet) {
  uint16_t tail = __atomic_load_n(&m2s->tail, __ATOMIC_ACQUIRE);
  if (cursor == tail) return 0;
  unsigned n = 0, parts = 0;
  for (bool more = true; more; parts++) {
    if (cursor == tail) fail("the server", "gave half a packet");
    struct desc *d = &m2s->desc[cursor++ & (slots - 1)];
    if (d->length == 0 || d->length > buffer || n + d->length > ROOM) fail("the server", "gave a wrong length");
    memcpy(packet + n, place(d), d->length);
    n += d->length;
    more = d->flags & NEXT;
    d->flags = 0, d->length = buffer;
  }
  if (parts > longest) longest = parts;
  __atomic_store_n(&m2s->head, cursor + slots, __ATOMIC_RELEASE);
  return n;
}
