// A host whose TCP/IP is lwIP (Debian's liblwip) and whose card is a channel of netd: a userspace stack that nobody of
// netd wrote, attached by usnetd's protocol. It obeys lines on stdin and answers each with a line on stdout:
//
//   match tcp|udp|icmp ADDRESS PORT   OK or ER: AddMatch
//   http PORT                         serves GET /N: N bytes of the pattern; PUT: counts how far the body is the pattern
//   echo PORT                         UDP echo
//   get ADDRESS PORT N                fetches /N, answers how many bytes came and how many of them were right
//   ping ADDRESS COUNT                answers how many of them came back
//   ask ADDRESS PORT TEXT             one UDP datagram, answers with what came back, or nothing after 2 s
//
// The pattern: byte k is byte k % 4 of the little-endian word w(k / 4), w(i) = (i * 0x9e3779b1) ^ (i >> 13).
// One thread takes frames and commands, lwIP's own runs the timers; lwIP's core lock is between them.
//   lwip SERVER PATH IFNAME MAC MTU ADDRESS/LEN[,GATEWAY] [ADDRESS6[,GATEWAY6]]
// lwIP learns IPv6 routers from advertisements alone: that of GATEWAY6 (link-local, made of its MAC) is made here.
#include "attach.h"

#include <stdarg.h>
#include <stdint.h>

#include "lwip/etharp.h"
#include "lwip/ethip6.h"
#include "lwip/icmp.h"
#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/nd6.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/raw.h"
#include "lwip/tcp.h"
#include "lwip/tcpip.h"
#include "lwip/udp.h"
#include "netif/ethernet.h"

enum { BATCH = 64, CHUNK = 16384, TEXT = 2048 };

static struct attach attached;
static struct netif card;
static u8_t lladdr[6];
static int mtu;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
  va_list list;
  va_start(list, format);
  vprintf(format, list);
  va_end(list);
  putchar('\n');
  fflush(stdout);
}

static void pattern(uint64_t offset, uint8_t *out, size_t bytes) {
  while (bytes > 0) {
    uint32_t i = offset >> 2;
    uint32_t word = (i * 0x9e3779b1u) ^ (i >> 13);
    size_t skip = offset & 3, n = 4 - skip < bytes ? 4 - skip : bytes;
    word >>= skip * 8;
    memcpy(out, &word, n);
    offset += n, out += n, bytes -= n;
  }
}

// How many of these bytes, from the first on, are the pattern's.
static size_t is_pattern(uint64_t offset, const uint8_t *bytes, size_t n) {
  uint8_t expected[CHUNK];
  for (size_t done = 0; done < n;) {
    size_t part = n - done < CHUNK ? n - done : CHUNK;
    pattern(offset + done, expected, part);
    if (memcmp(expected, bytes + done, part) != 0) {
      size_t same = 0;
      while (expected[same] == bytes[done + same]) same++;
      return done + same;
    }
    done += part;
  }
  return n;
}

// ---- the card

static err_t transmit(struct netif *netif, struct pbuf *p) {
  (void)netif;
  static uint8_t frame[65536]; // the core lock is held; tot_len has 16 bits
  pbuf_copy_partial(p, frame, p->tot_len, 0);
  if (send(attached.channel, frame, p->tot_len, MSG_DONTWAIT) >= 0) return ERR_OK;
  return errno == EAGAIN || errno == ENOBUFS ? ERR_MEM : ERR_IF; // ERR_MEM: lwIP keeps it and tries again
}

static err_t card_init(struct netif *netif) {
  netif->name[0] = 'u', netif->name[1] = 's';
  netif->mtu = mtu;
  netif->mtu6 = mtu;
  netif->hwaddr_len = 6;
  memcpy(netif->hwaddr, lladdr, 6);
  netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP | NETIF_FLAG_MLD6;
  netif->output = etharp_output;
  netif->output_ip6 = ethip6_output;
  netif->linkoutput = transmit;
  return ERR_OK;
}

// Takes what waits in the channel, a batch under one lock. Returns false once the channel is closed.
static bool receive(void) {
  static uint8_t frames[BATCH][2048];
  static struct iovec parts[BATCH];
  static struct mmsghdr messages[BATCH];
  for (int i = 0; i < BATCH; i++) {
    parts[i] = (struct iovec){frames[i], sizeof frames[i]};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  }
  int n = recvmmsg(attached.channel, messages, BATCH, MSG_DONTWAIT, NULL);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n > 0 && messages[0].msg_len == 0) return false;
  LOCK_TCPIP_CORE();
  for (int i = 0; i < n; i++) {
    struct pbuf *p = pbuf_alloc(PBUF_RAW, messages[i].msg_len, PBUF_RAM);
    if (p == NULL) continue;
    memcpy(p->payload, frames[i], messages[i].msg_len);
    if (ethernet_input(p, &card) != ERR_OK) pbuf_free(p);
  }
  UNLOCK_TCPIP_CORE();
  return true;
}

// A router's advertisement, as if it had come from the wire (RFC 4861 section 4.2).
static void advertise(const ip6_addr_t *router) {
  static const u8_t everyone[6] = {0x33, 0x33, 0, 0, 0, 1};
  ip6_addr_t nodes;
  ip6_addr_set_allnodes_linklocal(&nodes);
  enum { BODY = 16 + 8 }; // with its link-layer address: without a link-local one of its own lwIP would not ask for it
  u8_t frame[14 + 40 + BODY] = {0};
  memcpy(frame, everyone, 6);
  frame[6] = 2;
  frame[12] = 0x86, frame[13] = 0xdd;
  u8_t *ip = frame + 14, *icmp = ip + 40;
  ip[0] = 0x60, ip[5] = BODY, ip[6] = IP6_NEXTH_ICMP6, ip[7] = 255;
  memcpy(ip + 8, router->addr, 16);
  memcpy(ip + 24, nodes.addr, 16);
  icmp[0] = ICMP6_TYPE_RA, icmp[4] = 64, icmp[6] = 0x23; // lifetime: 2.5 hours
  const u8_t *id = (const u8_t *)router->addr + 8;
  const u8_t option[8] = {1, 1, id[0] ^ 2, id[1], id[2], id[5], id[6], id[7]};
  memcpy(icmp + 16, option, 8);
  struct pbuf *p = pbuf_alloc(PBUF_RAW, sizeof frame, PBUF_RAM);
  struct pbuf *body = pbuf_alloc(PBUF_RAW, BODY, PBUF_RAM);
  memcpy(body->payload, icmp, BODY);
  u16_t sum = ip6_chksum_pseudo(body, IP6_NEXTH_ICMP6, BODY, router, &nodes);
  memcpy(icmp + 2, &sum, 2);
  pbuf_free(body);
  memcpy(p->payload, frame, sizeof frame);
  if (ethernet_input(p, &card) != ERR_OK) pbuf_free(p);
}

// ---- HTTP, both sides

struct http {
  struct tcp_pcb *pcb;
  char head[TEXT];
  size_t headed;     // bytes in `head`
  bool body;         // the head is over
  bool client;
  uint64_t length;   // of the body
  uint64_t done;     // bytes of the body that were written or read
  uint64_t right;    // bytes that were the pattern's before the first that was not
  bool sending;
};

static void http_end(struct http *h) {
  struct tcp_pcb *pcb = h->pcb;
  tcp_arg(pcb, NULL);
  tcp_recv(pcb, NULL);
  tcp_sent(pcb, NULL);
  tcp_err(pcb, NULL);
  tcp_poll(pcb, NULL, 0);
  if (h->client) say("got %llu right %llu of %llu", (unsigned long long)h->done, (unsigned long long)h->right,
                     (unsigned long long)h->length);
  tcp_close(pcb); // for want of memory, lwIP tries again by itself
  free(h);
}

static void http_error(void *arg, err_t error) {
  struct http *h = arg;
  if (h && h->client) say("error %d after %llu", error, (unsigned long long)h->done);
  free(h);
}

static void http_fill(struct http *h) {
  uint8_t bytes[CHUNK];
  while (h->done < h->length) {
    size_t n = tcp_sndbuf(h->pcb);
    if (n == 0) break;
    if (n > CHUNK) n = CHUNK;
    if (n > h->length - h->done) n = h->length - h->done;
    pattern(h->done, bytes, n);
    if (tcp_write(h->pcb, bytes, n, TCP_WRITE_FLAG_COPY) != ERR_OK) break;
    h->done += n;
  }
  tcp_output(h->pcb);
}

static err_t http_sent(void *arg, struct tcp_pcb *pcb, u16_t n) {
  (void)n;
  struct http *h = arg;
  if (!h->sending) return ERR_OK;
  if (h->done < h->length) http_fill(h);
  else if (pcb->unsent == NULL && pcb->unacked == NULL) http_end(h);
  return ERR_OK;
}

static err_t http_poll(void *arg, struct tcp_pcb *pcb) { return http_sent(arg, pcb, 0); }

static void http_respond(struct http *h, const char *text, int n) {
  tcp_write(h->pcb, text, n, TCP_WRITE_FLAG_COPY);
  h->sending = true;
  http_fill(h);
}

// The head is whole: what to do with the rest.
static void http_begin(struct http *h) {
  char line[128];
  h->body = true;
  const char *length = strcasestr(h->head, "\r\ncontent-length:");
  if (h->client || strncmp(h->head, "PUT ", 4) == 0) {
    h->length = length ? strtoull(length + 17, NULL, 10) : 0;
    if (strcasestr(h->head, "\r\nexpect: 100-continue"))
      tcp_write(h->pcb, "HTTP/1.1 100 Continue\r\n\r\n", 25, TCP_WRITE_FLAG_COPY);
    return;
  }
  h->length = strncmp(h->head, "GET /", 5) == 0 ? strtoull(h->head + 5, NULL, 10) : 0;
  http_respond(h, line, snprintf(line, sizeof line, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %llu\r\n\r\n",
                                 (unsigned long long)h->length));
}

static void http_take(struct http *h, const uint8_t *bytes, size_t n) {
  while (n > 0 && !h->body) {
    if (h->headed + 1 < TEXT) h->head[h->headed++] = *bytes;
    bytes++, n--;
    if (h->headed >= 4 && memcmp(h->head + h->headed - 4, "\r\n\r\n", 4) == 0) http_begin(h);
  }
  if (n == 0 || h->sending) return;
  if (h->right == h->done) h->right += is_pattern(h->done, bytes, n);
  h->done += n;
}

static err_t http_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t error) {
  (void)error;
  struct http *h = arg;
  if (p == NULL) { // the other side closed
    if (!h->sending || h->done < h->length) http_end(h);
    return ERR_OK;
  }
  for (struct pbuf *q = p; q; q = q->next) http_take(h, q->payload, q->len);
  tcp_recved(pcb, p->tot_len);
  pbuf_free(p);
  if (h->body && !h->sending && h->done >= h->length) {
    char line[160], text[64];
    if (h->client) {
      http_end(h);
      return ERR_OK;
    }
    int n = snprintf(text, sizeof text, "right %llu of %llu\n", (unsigned long long)h->right, (unsigned long long)h->length);
    n = snprintf(line, sizeof line, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", n, text);
    h->length = h->done; // nothing more to fill
    http_respond(h, line, n);
  }
  return ERR_OK;
}

static void http_open(struct tcp_pcb *pcb, bool client, uint64_t length) {
  struct http *h = calloc(1, sizeof *h);
  h->pcb = pcb;
  h->client = client;
  h->length = length;
  tcp_arg(pcb, h);
  tcp_recv(pcb, http_recv);
  tcp_sent(pcb, http_sent);
  tcp_err(pcb, http_error);
  tcp_poll(pcb, http_poll, 1);
}

static err_t http_accept(void *arg, struct tcp_pcb *pcb, err_t error) {
  (void)arg;
  if (error != ERR_OK || pcb == NULL) return ERR_VAL;
  http_open(pcb, false, 0);
  return ERR_OK;
}

static err_t http_connected(void *arg, struct tcp_pcb *pcb, err_t error) {
  (void)error;
  struct http *h = arg;
  char line[128];
  int n = snprintf(line, sizeof line, "GET /%llu HTTP/1.1\r\nHost: lwip\r\nConnection: close\r\n\r\n",
                   (unsigned long long)h->length);
  tcp_write(pcb, line, n, TCP_WRITE_FLAG_COPY);
  return tcp_output(pcb);
}

static bool http_serve(int port) {
  struct tcp_pcb *pcb = tcp_new_ip_type(IPADDR_TYPE_ANY);
  if (tcp_bind(pcb, IP_ANY_TYPE, port) != ERR_OK) return false;
  pcb = tcp_listen(pcb);
  tcp_accept(pcb, http_accept);
  return true;
}

// ---- UDP and ping

static void echo(void *arg, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *from, u16_t port) {
  (void)arg;
  struct pbuf *copy = pbuf_clone(PBUF_TRANSPORT, PBUF_RAM, p);
  pbuf_free(p);
  if (copy == NULL) return;
  udp_sendto(pcb, copy, from, port);
  pbuf_free(copy);
}

static bool echo_serve(int port) {
  struct udp_pcb *pcb = udp_new_ip_type(IPADDR_TYPE_ANY);
  udp_recv(pcb, echo, NULL);
  return udp_bind(pcb, IP_ANY_TYPE, port) == ERR_OK;
}

static void ask_over(void *arg) {
  udp_remove(arg);
  say("silence");
}

static void answered(void *arg, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *from, u16_t port) {
  (void)arg, (void)from, (void)port;
  char text[TEXT];
  say("answer %.*s", pbuf_copy_partial(p, text, sizeof text, 0), text);
  pbuf_free(p);
  sys_untimeout(ask_over, pcb);
  udp_remove(pcb);
}

static void ask(const ip_addr_t *to, int port, const char *text) {
  struct udp_pcb *pcb = udp_new_ip_type(IP_GET_TYPE(to));
  udp_recv(pcb, answered, NULL);
  struct pbuf *p = pbuf_alloc(PBUF_TRANSPORT, strlen(text), PBUF_RAM);
  memcpy(p->payload, text, strlen(text));
  udp_sendto(pcb, p, to, port);
  pbuf_free(p);
  sys_timeout(2000, ask_over, pcb);
}

static struct {
  struct raw_pcb *pcb;
  ip_addr_t to;
  int wanted, sent, heard;
  u16_t id;
} ping;

static u8_t ponged(void *arg, struct raw_pcb *pcb, struct pbuf *p, const ip_addr_t *from) {
  (void)arg, (void)pcb, (void)from;
  struct icmp_echo_hdr head;
  int skip = IP_IS_V6(&ping.to) ? 40 : 20;
  if (pbuf_copy_partial(p, &head, sizeof head, skip) != sizeof head || head.id != ping.id) return 0;
  if (head.type != (IP_IS_V6(&ping.to) ? 129 : ICMP_ER)) return 0;
  ping.heard++;
  pbuf_free(p);
  return 1;
}

static void ping_next(void *arg) {
  (void)arg;
  if (ping.sent == ping.wanted) {
    say("pong %d of %d", ping.heard, ping.wanted);
    raw_remove(ping.pcb);
    return;
  }
  struct pbuf *p = pbuf_alloc(PBUF_IP, sizeof(struct icmp_echo_hdr) + 48, PBUF_RAM);
  struct icmp_echo_hdr *head = p->payload;
  memset(p->payload, 0x5a, p->len);
  head->type = IP_IS_V6(&ping.to) ? 128 : ICMP_ECHO;
  head->code = 0;
  head->chksum = 0;
  head->id = ping.id;
  head->seqno = lwip_htons(++ping.sent);
  if (!IP_IS_V6(&ping.to)) head->chksum = inet_chksum(head, p->len);
  raw_sendto(ping.pcb, p, &ping.to);
  pbuf_free(p);
  sys_timeout(ping.sent == ping.wanted ? 500 : 100, ping_next, NULL);
}

static void ping_start(const ip_addr_t *to, int count) {
  ping.pcb = raw_new_ip_type(IP_GET_TYPE(to), IP_IS_V6(to) ? IP6_NEXTH_ICMP6 : IP_PROTO_ICMP);
  if (IP_IS_V6(to)) ping.pcb->chksum_reqd = 1, ping.pcb->chksum_offset = 2;
  raw_recv(ping.pcb, ponged, NULL);
  raw_bind(ping.pcb, IP_ANY_TYPE);
  ping.to = *to;
  ping.wanted = count;
  ping.sent = ping.heard = 0;
  ping.id = getpid();
  ping_next(NULL);
}

// ---- commands

static void obey(char *line) {
  char address[64], word[16], text[512];
  unsigned long long number;
  int port;
  ip_addr_t to;
  if (sscanf(line, "match %15s %63s %d", word, address, &port) == 3) {
    int protocol = strcmp(word, "tcp") == 0 ? 6 : strcmp(word, "udp") == 0 ? 17 : 1;
    say(attach_match(&attached, protocol, address, port) ? "OK" : "ER");
    return;
  }
  LOCK_TCPIP_CORE();
  if (sscanf(line, "http %d", &port) == 1) say(http_serve(port) ? "serving" : "no");
  else if (sscanf(line, "echo %d", &port) == 1) say(echo_serve(port) ? "serving" : "no");
  else if (sscanf(line, "get %63s %d %llu", address, &port, &number) == 3 && ipaddr_aton(address, &to)) {
    struct tcp_pcb *pcb = tcp_new_ip_type(IP_GET_TYPE(&to));
    http_open(pcb, true, number);
    err_t error = tcp_connect(pcb, &to, port, http_connected);
    if (error != ERR_OK) say("error %d", error);
  } else if (sscanf(line, "ping %63s %d", address, &port) == 2 && ipaddr_aton(address, &to)) ping_start(&to, port);
  else if (sscanf(line, "ask %63s %d %511[^\n]", address, &port, text) == 3 && ipaddr_aton(address, &to)) ask(&to, port, text);
  else say("what? %s", line);
  UNLOCK_TCPIP_CORE();
}

// The whole lines of what came on stdin; false at its end.
static bool commands(void) {
  static char lines[4096];
  static size_t held;
  ssize_t n = read(0, lines + held, sizeof lines - 1 - held);
  if (n <= 0) return false;
  held += n;
  lines[held] = 0;
  char *begin = lines, *end;
  for (; (end = strchr(begin, '\n')); begin = end + 1) {
    *end = 0;
    obey(begin);
  }
  held -= begin - lines;
  memmove(lines, begin, held);
  return true;
}

int main(int argc, char **argv) {
  if (argc < 7) {
    fprintf(stderr, "usage: lwip SERVER PATH IFNAME MAC MTU ADDRESS/LEN[,GATEWAY] [ADDRESS6[,GATEWAY6]]\n");
    return 2;
  }
  for (int i = 0; i < 6; i++) lladdr[i] = strtol(argv[4] + i * 3, NULL, 16);
  mtu = atoi(argv[5]);
  attach_open(&attached, argv[1], argv[2], argv[3]);

  char *slash = strchr(argv[6], '/');
  char *comma = strchr(argv[6], ',');
  ip4_addr_t address, mask, gateway = {0};
  mask.addr = lwip_htonl(0xffffffffu << (32 - atoi(slash + 1)));
  if (comma) ip4addr_aton(comma + 1, &gateway);
  *slash = 0;
  ip4addr_aton(argv[6], &address);

  srand(getpid());
  tcpip_init(NULL, NULL);
  LOCK_TCPIP_CORE();
  netif_add(&card, &address, &mask, &gateway, NULL, card_init, tcpip_input);
  netif_set_default(&card);
  netif_set_up(&card);
  if (argc > 7) {
    ip6_addr_t address6, router;
    s8_t slot;
    char *gateway6 = strchr(argv[7], ',');
    if (gateway6) *gateway6++ = 0;
    if (!ip6addr_aton(argv[7], &address6)) return 2;
    netif_add_ip6_address(&card, &address6, &slot);
    netif_ip6_addr_set_state(&card, slot, IP6_ADDR_PREFERRED);
    if (gateway6 && ip6addr_aton(gateway6, &router)) advertise(&router);
  }
  UNLOCK_TCPIP_CORE();

  say("attached");
  struct pollfd wait[2] = {{.fd = attached.channel, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
  for (;;) {
    poll(wait, 2, -1);
    if (wait[0].revents & POLLIN && !receive()) break;
    if (wait[0].revents & (POLLHUP | POLLERR) && !(wait[0].revents & POLLIN)) break;
    if (wait[1].revents && !commands()) break;
  }
  unlink(attached.self.sun_path);
  return 0;
}
