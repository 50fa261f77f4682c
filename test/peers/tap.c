// A host that is a kernel's own stack behind a channel of netd: a tap device in the network namespace that this runs in,
// whose frames go to and come from the channel. What lwIP lacks (path MTU discovery, DHCP, ping with everything) the
// kernel has. Commands as lwip.c's: `match tcp|udp|icmp ADDRESS PORT`; addresses and routes are the caller's to set.
//   tap SERVER PATH IFNAME MAC MTU
#include "attach.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

static struct attach attached;

static int make_tap(const char *mac, int mtu) {
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  struct ifreq request = {.ifr_name = "tap0", .ifr_flags = IFF_TAP | IFF_NO_PI};
  if (ioctl(fd, TUNSETIFF, &request) < 0) attach_fail("TUNSETIFF");
  int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  request.ifr_hwaddr.sa_family = 1; // ARPHRD_ETHER
  for (int i = 0; i < 6; i++) request.ifr_hwaddr.sa_data[i] = strtol(mac + i * 3, NULL, 16);
  if (ioctl(s, SIOCSIFHWADDR, &request) < 0) attach_fail("SIOCSIFHWADDR");
  request.ifr_mtu = mtu;
  if (ioctl(s, SIOCSIFMTU, &request) < 0) attach_fail("SIOCSIFMTU");
  request.ifr_flags = IFF_UP;
  if (ioctl(s, SIOCSIFFLAGS, &request) < 0) attach_fail("SIOCSIFFLAGS");
  close(s);
  return fd;
}

static void command(const char *line) {
  char address[64], word[16];
  int port;
  bool ok = false;
  if (sscanf(line, "match %15s %63s %d", word, address, &port) == 3)
    ok = attach_match(&attached, strcmp(word, "tcp") == 0 ? 6 : strcmp(word, "udp") == 0 ? 17 : 1, address, port);
  printf("%s\n", ok ? "OK" : "ER");
  fflush(stdout);
}

// All that waits in `from`, at most 64 frames, to `to`; a full `to` loses them, as a card does. False once `from` is closed.
static bool pump(int from, int to) {
  static char frame[65536];
  for (int i = 0; i < 64; i++) {
    ssize_t n = read(from, frame, sizeof frame);
    if (n <= 0) return n < 0 && errno == EAGAIN;
    if (write(to, frame, n) < 0 && errno != EAGAIN && errno != ENOBUFS && errno != EINVAL) return false;
  }
  return true;
}

int main(int argc, char **argv) {
  if (argc != 6) return 2;
  attach_open(&attached, argv[1], argv[2], argv[3]);
  int tap = make_tap(argv[4], atoi(argv[5]));
  printf("attached\n");
  fflush(stdout);
  struct pollfd wait[3] = {{attached.channel, POLLIN, 0}, {tap, POLLIN, 0}, {0, POLLIN, 0}};
  char line[256];
  for (;;) {
    poll(wait, 3, -1);
    if (wait[0].revents && !pump(attached.channel, tap)) break;
    if (wait[1].revents && !pump(tap, attached.channel)) break;
    if (wait[2].revents) {
      if (!fgets(line, sizeof line, stdin)) break;
      command(line);
    }
  }
  unlink(attached.self.sun_path);
  return 0;
}
