// AF_XDP through libxdp at -O3: what bench/xsk.ts holds our rings against, and the traffic source of that bench.
//   xsk rxdrop|txonly|l2fwd INTERFACE SECONDS STEER_O FRAME_HEX [COUNT]
// Copy mode, need-wakeup, queue 0, batches of 64. libxdp's own program is inhibited: STEER_O is our compiled XDP program,
// attached in native mode to redirect what is addressed as FRAME_HEX is, so that the kernel does the same work for both
// sides; "-" for a socket that only sends, on a card without a program.
// Without COUNT: half a second to warm up, then SECONDS timed in slices; prints the median of their Mpps. With COUNT: stops
// after that many frames (or SECONDS), and prints how many, and the FNV-1a hash of all bytes received, in order (0 for
// txonly).
// FRAME_HEX is what txonly sends; with COUNT, bytes 44..47 are the frame's number, from 0, little-endian.
#include "../../bpf/steer.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <xdp/xsk.h>

enum { FRAMES = 4096, FRAME_SIZE = 4096, RING = 2048, BATCH = 64, POLLS = 500, SEQ_OFF = 44, MAX_SLICES = 10000 };
static const double SLICE = 0.05; // seconds: much longer than a full ring lasts

static struct xsk_ring_prod fill, tx;
static struct xsk_ring_cons comp, rx;
static unsigned char *area;
static int fd;
static uint32_t outstanding, hash = 2166136261u;
static uint64_t count, sent; // count: 0 in a timed run
static unsigned char frame[FRAME_SIZE];
static uint32_t frame_len;

static void die(const char *what, int error) {
  fprintf(stderr, "xsk: %s: %s\n", what, strerror(error));
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void hash_frame(const unsigned char *p, uint32_t len) {
  for (uint32_t i = 0; i < len; i++) hash = (hash ^ p[i]) * 16777619u;
}

static void kick(void) {
  sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0);
}

static void wake_fill(void) {
  if (xsk_ring_prod__needs_wakeup(&fill)) recvfrom(fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

static uint64_t rxdrop(void) {
  uint64_t done = 0;
  for (int k = 0; k < POLLS; k++) {
    uint32_t r, f, n = xsk_ring_cons__peek(&rx, BATCH, &r);
    if (!n) {
      wake_fill();
      continue;
    }
    if (xsk_ring_prod__reserve(&fill, n, &f) != n) { // the kernel moves rx's cursor a moment before fill's
      xsk_ring_cons__cancel(&rx, n);
      continue;
    }
    for (uint32_t i = 0; i < n; i++) {
      const struct xdp_desc *d = xsk_ring_cons__rx_desc(&rx, r + i);
      if (count) hash_frame(area + d->addr, d->len);
      *xsk_ring_prod__fill_addr(&fill, f + i) = d->addr & ~(uint64_t)(FRAME_SIZE - 1);
    }
    xsk_ring_prod__submit(&fill, n);
    xsk_ring_cons__release(&rx, n);
    done += n;
  }
  return done;
}

static uint64_t txonly(void) {
  static uint32_t next;
  uint64_t done = 0;
  for (int k = 0; k < POLLS; k++) {
    uint32_t t, c, want = BATCH;
    if (count && count - sent < want) want = count - sent;
    if (want && outstanding + want <= FRAMES && xsk_ring_prod__reserve(&tx, want, &t) == want) {
      for (uint32_t i = 0; i < want; i++) {
        struct xdp_desc *d = xsk_ring_prod__tx_desc(&tx, t + i);
        d->addr = (uint64_t)(next++ % FRAMES) * FRAME_SIZE;
        if (count) {
          uint32_t seq = sent + i;
          memcpy(area + d->addr + SEQ_OFF, &seq, 4);
        }
        d->len = frame_len;
        d->options = 0;
      }
      xsk_ring_prod__submit(&tx, want);
      outstanding += want;
      sent += want;
    }
    if (!outstanding) continue;
    if (xsk_ring_prod__needs_wakeup(&tx)) kick();
    uint32_t n = xsk_ring_cons__peek(&comp, BATCH, &c);
    if (!n) continue;
    xsk_ring_cons__release(&comp, n);
    outstanding -= n;
    done += n;
  }
  return done;
}

static void swap_macs(unsigned char *p) {
  uint32_t w[3], s[3];
  memcpy(w, p, 12);
  s[0] = w[1] >> 16 | w[2] << 16;
  s[1] = w[2] >> 16 | w[0] << 16;
  s[2] = w[0] >> 16 | w[1] << 16;
  memcpy(p, s, 12);
}

static uint64_t l2fwd(void) {
  uint64_t done = 0;
  for (int k = 0; k < POLLS; k++) {
    uint32_t r, t, c, f, n;
    if (outstanding) {
      if (xsk_ring_prod__needs_wakeup(&tx)) kick();
      n = xsk_ring_cons__peek(&comp, BATCH, &c);
      if (n && xsk_ring_prod__reserve(&fill, n, &f) != n) {
        xsk_ring_cons__cancel(&comp, n);
      } else if (n) {
        for (uint32_t i = 0; i < n; i++)
          *xsk_ring_prod__fill_addr(&fill, f + i) =
              *xsk_ring_cons__comp_addr(&comp, c + i) & ~(uint64_t)(FRAME_SIZE - 1);
        xsk_ring_prod__submit(&fill, n);
        xsk_ring_cons__release(&comp, n);
        outstanding -= n;
        done += n;
      }
    }
    n = xsk_ring_cons__peek(&rx, BATCH, &r);
    if (!n) {
      wake_fill();
      continue;
    }
    if (xsk_ring_prod__reserve(&tx, n, &t) != n) {
      xsk_ring_cons__cancel(&rx, n);
      continue;
    }
    for (uint32_t i = 0; i < n; i++) {
      const struct xdp_desc *d = xsk_ring_cons__rx_desc(&rx, r + i);
      struct xdp_desc *o = xsk_ring_prod__tx_desc(&tx, t + i);
      if (count) hash_frame(area + d->addr, d->len);
      swap_macs(area + d->addr);
      o->addr = d->addr;
      o->len = d->len;
      o->options = 0;
    }
    xsk_ring_prod__submit(&tx, n);
    xsk_ring_cons__release(&rx, n);
    outstanding += n;
  }
  return done;
}

// Loads and attaches the XDP program; the link, and with it the program, goes with this process.
static void attach(const char *interface, const char *path) {
  struct bpf_object *object = bpf_object__open_file(path, NULL);
  if (!object) die(path, errno);
  int r = bpf_object__load(object);
  if (r) die("bpf_object__load", -r);
  struct steer_config own = {};
  struct match_key key = {.family = 2, .proto = frame[23]};
  memcpy(own.mac, frame, 6);
  memcpy(key.addr, frame + 30, 4);
  memcpy(&key.port, frame + 36, 2);
  uint32_t queue = 0, none = 0;
  r = bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, "config"), &queue, &own, 0);
  if (!r) r = bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, "matches"), &key, &none, 0);
  if (!r) r = bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, "xsks"), &queue, &fd, 0);
  if (r) die("bpf_map_update_elem", -r);
  LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = XDP_FLAGS_DRV_MODE);
  int program = bpf_program__fd(bpf_object__find_program_by_name(object, "steer"));
  r = bpf_link_create(program, if_nametoindex(interface), BPF_XDP, &opts);
  if (r < 0) die("bpf_link_create", -r);
}

static int ascending(const void *a, const void *b) {
  return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

int main(int argc, char **argv) {
  if (argc < 6) die("usage: MODE INTERFACE SECONDS STEER_O FRAME_HEX [COUNT]", EINVAL);
  const char *mode = argv[1];
  double seconds = atof(argv[3]);
  uint64_t (*work)(void) = !strcmp(mode, "rxdrop") ? rxdrop : !strcmp(mode, "txonly") ? txonly : l2fwd;
  for (const char *h = argv[5]; h[0] && h[1]; h += 2) sscanf(h, "%2hhx", &frame[frame_len++]);
  count = argc > 6 ? strtoull(argv[6], NULL, 10) : 0;

  area = mmap(NULL, (size_t)FRAMES * FRAME_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
              -1, 0);
  if (area == MAP_FAILED) die("mmap", errno);
  struct xsk_umem_config umem_config = {.fill_size = FRAMES, .comp_size = RING, .frame_size = FRAME_SIZE};
  struct xsk_umem *umem;
  int r = xsk_umem__create(&umem, area, (uint64_t)FRAMES * FRAME_SIZE, &fill, &comp, &umem_config);
  if (r) die("xsk_umem__create", -r);
  struct xsk_socket_config config = {.rx_size = RING,
                                     .tx_size = RING,
                                     .libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
                                     .bind_flags = XDP_COPY | XDP_USE_NEED_WAKEUP};
  struct xsk_socket *socket;
  for (int tries = 0;; tries++) { // EBUSY: the last socket's pool is still being released
    r = xsk_socket__create(&socket, argv[2], 0, umem, &rx, &tx, &config);
    if (r != -EBUSY || tries == 100) break;
    usleep(10000);
  }
  if (r) die("xsk_socket__create", -r);
  fd = xsk_socket__fd(socket);

  if (work == txonly) {
    for (uint32_t i = 0; i < FRAMES; i++) memcpy(area + (size_t)i * FRAME_SIZE, frame, frame_len);
  } else {
    uint32_t f;
    if (xsk_ring_prod__reserve(&fill, FRAMES, &f) != FRAMES) die("fill ring", ENOBUFS);
    for (uint32_t i = 0; i < FRAMES; i++) *xsk_ring_prod__fill_addr(&fill, f + i) = (uint64_t)i * FRAME_SIZE;
    xsk_ring_prod__submit(&fill, FRAMES);
  }
  if (strcmp(argv[4], "-")) attach(argv[2], argv[4]);

  uint64_t done = 0;
  if (count) {
    puts("ready");
    fflush(stdout);
    for (double end = now() + seconds; done < count && now() < end;) done += work();
    printf("{\"case\":\"frames\",\"value\":%lu}\n{\"case\":\"hash\",\"value\":%u}\n", done, work == txonly ? 0 : hash);
  } else {
    for (double end = now() + 0.5; now() < end;) work();
    static double rates[MAX_SLICES];
    int n = 0;
    for (double last = now(), end = last + seconds; last < end && n < MAX_SLICES;) {
      double t;
      for (done = 0; (t = now()) < last + SLICE;) done += work();
      rates[n++] = done / (t - last) / 1e6;
      last = t;
    }
    qsort(rates, n, sizeof *rates, ascending);
    printf("{\"case\":\"%s\",\"value\":%.6f}\n", mode, rates[n / 2]);
  }
  xsk_socket__delete(socket);
  xsk_umem__delete(umem);
  return 0;
}
