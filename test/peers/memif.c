// UDP datagrams over memif 2.0, as bare IP packets or in frames.
//   memif [OPTION]... SOCKET ask ADDRESS PORT TO PORT BYTES COUNT WINDOW
//        COUNT datagrams of BYTES, at most WINDOW of them unanswered; every byte of an answer is held to what was sent
//   memif [OPTION]... SOCKET echo ADDRESS PORT COUNT
//        prints "ready", answers COUNT datagrams, and stays until its stdin ends
//   -i ID | -s SECRET | -e MAC: Ethernet mode, frames to and from it | -w: sleeps until its eventfd wakes it, else it polls
//   -l LOG2 of a ring's slots | -b BYTES of a buffer | -r: buffers in a region of their own
// At the end a line of JSON; a reason on stderr and status 1 where it cannot go on.
#include "memif.h"

#include <arpa/inet.h>

enum { ETHERNET = 14, UDP = 8 };

struct end {
  uint8_t address[16];
  uint16_t port; // as on the wire
};

static struct end self, other;
static unsigned bytes, count;
static uint8_t *answered, mac[6];
// Bytes before an IP header, in one, where its addresses are, in each of them, and where its protocol is.
static unsigned lead, header, addresses, address, protocol;
static bool isV6;

static uint16_t sum(const uint8_t *data, unsigned n, uint32_t start) {
  for (unsigned i = 0; i < n; i++) start += i & 1 ? data[i] : data[i] << 8;
  while (start >> 16) start = (start & 0xffff) + (start >> 16);
  return start;
}

// Of the pseudo header and the `n` bytes behind the IP header: 0xffff where the checksum is right.
static uint16_t udp_sum(const uint8_t *ip, unsigned n) {
  return sum(ip + header, n, sum(ip + addresses, 2 * address, 17 + n));
}

static void put16(uint8_t *at, uint16_t value) { at[0] = value >> 8, at[1] = value; }

// Datagram `number` between two ends: its number, then bytes that follow from it and their place.
static unsigned make(uint8_t *packet, const struct end *from, const struct end *to, uint32_t number) {
  uint8_t *ip = packet + lead, *udp = ip + header;
  memset(packet, 0, lead + header + UDP);
  if (lead) memcpy(packet, mac, 6), memcpy(packet + 6, mac, 6), put16(packet + 12, isV6 ? 0x86dd : 0x0800);
  ip[0] = isV6 ? 0x60 : 0x45;
  put16(ip + (isV6 ? 4 : 2), (isV6 ? 0 : header) + UDP + bytes);
  ip[protocol] = 17, ip[isV6 ? 7 : 8] = 64;
  memcpy(ip + addresses, from->address, address), memcpy(ip + addresses + address, to->address, address);
  if (!isV6) put16(ip + 10, ~sum(ip, header, 0));
  memcpy(udp, &from->port, 2), memcpy(udp + 2, &to->port, 2), put16(udp + 4, UDP + bytes);
  for (unsigned i = 0; i < bytes; i++) udp[UDP + i] = i < 4 ? number >> (i * 8) : number * 31 + i * 7 + (i >> 8);
  uint16_t check = ~udp_sum(ip, UDP + bytes);
  put16(udp + 6, check ? check : 0xffff);
  return lead + header + UDP + bytes;
}

// Whether it is the answer to a datagram that had none yet: all its bytes, but those that the other side is free to choose.
static bool is_answer(const uint8_t *got, unsigned n) {
  static uint8_t wanted[ROOM];
  const uint8_t *ip = got + lead;
  uint32_t number;
  if (n != lead + header + UDP + bytes) return false;
  memcpy(&number, ip + header + UDP, sizeof number);
  if (number >= count || answered[number]++ > 0) return false;
  make(wanted, &other, &self, number);
  if (lead) memcpy(wanted + 6, got + 6, 6);
  uint8_t *free = wanted + lead;
  if (isV6) free[1] |= ip[1] & 15, memcpy(free + 2, ip + 2, 2), free[7] = ip[7]; // flow label, hop limit
  else { // identification, don't fragment, time to live, and the checksum of that
    if (sum(ip, header, 0) != 0xffff) return false;
    memcpy(free + 4, ip + 4, 2), free[6] = ip[6] & 0x40, free[8] = ip[8], memcpy(free + 10, ip + 10, 2);
  }
  return memcmp(got, wanted, n) == 0;
}

static void swap(uint8_t *a, unsigned n) {
  uint8_t held[16];
  memcpy(held, a, n), memcpy(a, a + n, n), memcpy(a + n, held, n);
}

// Makes a datagram to us its own answer. False if it is none.
static bool turn_round(uint8_t *packet, unsigned n) {
  uint8_t *ip = packet + lead, *udp = ip + header;
  if (n < lead + header + UDP || ip[0] >> 4 != (isV6 ? 6 : 4) || ip[protocol] != 17) return false;
  if (memcmp(ip + addresses + address, self.address, address) != 0 || memcmp(udp + 2, &self.port, 2) != 0) return false;
  if ((lead && memcmp(packet, mac, 6) != 0) || (!isV6 && sum(ip, header, 0) != 0xffff)) return false;
  if (udp_sum(ip, n - lead - header) != 0xffff) return false;
  if (lead) swap(packet, 6);
  swap(ip + addresses, address);
  swap(udp, 2);
  return true;
}

static struct end end_of(const char *text, const char *port) {
  struct end end = {.port = htons(atoi(port))};
  isV6 = strchr(text, ':') != NULL;
  header = isV6 ? 40 : 20, addresses = isV6 ? 8 : 12, address = isV6 ? 16 : 4, protocol = isV6 ? 6 : 9;
  if (inet_pton(isV6 ? AF_INET6 : AF_INET, text, end.address) != 1) fail(text, "no address");
  return end;
}

int main(int argc, char **argv) {
  unsigned id = 0, log2 = 8, window = 0, sent = 0, received = 0, wrong = 0, n;
  const char *secret = "";
  bool isApart = false;
  for (int option; (option = getopt(argc, argv, "+i:s:e:wl:b:r")) != -1;)
    if (option == 'i') id = atoi(optarg);
    else if (option == 's') secret = optarg;
    else if (option == 'e') for (lead = 0; lead < 6; lead++) mac[lead] = strtol(optarg + lead * 3, NULL, 16);
    else if (option == 'w') sleeps = true;
    else if (option == 'l') log2 = atoi(optarg);
    else if (option == 'b') buffer = atoi(optarg);
    else if (option == 'r') isApart = true;
    else return 2;
  if (lead) lead = ETHERNET;
  char **args = argv + optind;
  bool asks = argc - optind == 9 && strcmp(args[1], "ask") == 0;
  if (!asks && !(argc - optind == 5 && strcmp(args[1], "echo") == 0)) return 2;
  connect_memif(args[0], id, lead ? 0 : 1, secret, log2, isApart);

  static uint8_t packet[ROOM];
  self = end_of(args[2], args[3]);
  if (asks) other = end_of(args[4], args[5]), bytes = atoi(args[6]), window = atoi(args[8]);
  count = atoi(args[asks ? 7 : 4]);
  answered = calloc(count, 1);
  if (!asks) printf("ready\n"), fflush(stdout);
  while (received + wrong < count) {
    // The first one goes alone: the server may have to ask for a neighbour, and keeps few packets meanwhile.
    while (asks && sent < count && sent - received - wrong < (received > 0 ? window : 1))
      give(packet, make(packet, &self, &other, sent)), sent++;
    if ((n = take(packet)) == 0) pause_for(1000);
    else if (!(asks ? is_answer(packet, n) : turn_round(packet, n))) wrong++;
    else if (received++, !asks) give(packet, n), sent++;
  }
  // A server drops what a client that leaves has given it and it has not yet sent: whoever asked says when all is there.
  while (!asks && read(0, packet, sizeof packet) > 0) continue;
  say((struct message){.type = DISCONNECT, .end = {0, "done"}}, -1);
  printf("{\"sent\":%u,\"received\":%u,\"wrong\":%u,", sent, received, wrong);
  printf("\"parts\":%u,\"rung\":%u,\"woken\":%u}\n", longest, rung, woken);
  return 0;
}
