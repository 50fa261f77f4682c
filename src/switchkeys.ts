// The configuration's sections [switch] and [memif]: clients, what they may have, and what the kernel gets beside them.
// src/switch/settings.ts is what the control Worker reads of it.
import * as v from "valibot";
import { key, maybe, section, SocketPath, unique, whole } from "./schema.ts";
import { readMemifClient } from "./control/memifclient.ts";
import { readEndpoint } from "./control/wants.ts";
import { readRule } from "./switch/filters/rule.ts";
import { parseIPv4, parseIPv6, parseLladdr } from "./wire/address.ts";
import { readPrefix } from "./wire/prefix.ts";

const endpoint = 'endpoints such as "tcp:22", "udp:53:10.0.0.0/8" or "icmp"';
const rules = '[uid NUMBER] allow|deny in|out [established] [EXPRESSION], such as "allow in established"';
const macs = "MAC addresses such as 02:00:00:00:00:01";
const prefixes = "prefixes such as 10.0.0.0/8";
const paths = "a list of different paths of Unix sockets";
const ids = "a list of numbers";
const mode = 'four octal digits, such as "0770"';

const list = (item: v.GenericSchema<string>, expected: string) =>
  v.pipe(v.array(item, expected), v.check(unique<string>, expected));
const texts = (expected: string, isOne: (text: string) => boolean) =>
  list(v.pipe(v.string(expected), v.check(isOne, expected)), expected);
const id = whole(0, 0xffff_fffe);
const seconds = (what: string, fallback: number) =>
  key(whole(1, 31_536_000, "seconds"), `Seconds without a frame after which a claim ends: ${what}`, fallback);

export const SwitchKeys = section(
  {
    sockets: key(
      list(SocketPath, paths),
      "Control sockets for clients; usnetd's own are answered as briefly as they expect. None: no switch",
      ["/run/usnetd.socket", "/run/netd/control.sock"],
    ),
    group: maybe(id, "gid of those who may use the control sockets beside root"),
    mode: key(
      v.pipe(v.string(mode), v.regex(/^0[0-7]{3}$/, mode)),
      "Mode of the control sockets: 0777 where grants say who may have what",
      "0770",
    ),
    clients: key(whole(1, 1 << 20), "Clients at a time", 4096),
    matches: key(whole(1, 1 << 24), "Matches, claims and group members at a time, of all clients", 1 << 17),
    clientsPerUser: key(whole(1, 1 << 20), "Clients of one uid at a time", 2048),
    matchesPerClient: key(whole(1, 1 << 24), "Matches of one client", 1 << 15),
    matchesPerUser: key(whole(1, 1 << 24), "Matches of all clients of one uid", 1 << 16),
    claimsPerClient: key(
      whole(1, 1 << 24),
      "Flows that one client may have begun; with one more the oldest ends",
      4096,
    ),
    claimsPerUser: key(whole(1, 1 << 24), "Flows that all clients of one uid may have begun", 1 << 15),
    tcpSeconds: seconds("TCP", 7200),
    udpSeconds: seconds("UDP", 180),
    icmpSeconds: seconds("ICMP and ICMPv6", 30),
    otherSeconds: seconds("any other protocol", 600),
    filters: key(whole(1, 1 << 20), "Filters at a time, of all clients", 16384),
    filtersPerClient: key(whole(0, 1 << 20), "Filters of one client", 1024),
    instructionsPerClient: key(
      whole(0, 1 << 24),
      "Instructions of all filters of one client together",
      1 << 16,
    ),
    rules: key(
      texts(rules, (text) => typeof readRule(text) !== "string"),
      "What may pass between clients and the rest of the world, in order: docs/filters.md",
      [],
    ),
    packetsPerSecond: key(
      whole(0, 1_000_000_000),
      "Frames a second that one client may send; 0: any number",
      0,
    ),
    packetsPerSecondPerUser: key(
      whole(0, 1_000_000_000),
      "Frames a second that all clients of one uid may send, each an equal part; 0: any number",
      0,
    ),
    addresses: key(
      texts(prefixes, (text) => readPrefix(text) !== undefined),
      "Prefixes of addresses that clients may have beside the card's own; none: any",
      [],
    ),
    macs: key(
      texts(macs, (text) => parseLladdr(text)?.length === 6),
      "Further MAC addresses that are the card's",
      [],
    ),
    kernelUsers: key(v.array(id, ids), "uids whose clients may take ports that the kernel has", []),
    kernelGroups: key(v.array(id, ids), "gids whose clients may take ports that the kernel has", []),
    static: key(
      texts(endpoint, (text) => readEndpoint(text) !== undefined),
      "Endpoints with a socket to connect to instead of the protocol, beside the last control socket",
      [],
    ),
    firewall: key(
      v.boolean("true or false"),
      "The kernel gets only what switch.open lists, and replies to what it sent itself",
      false,
    ),
    open: key(
      texts(endpoint, (text) => readEndpoint(text) !== undefined),
      "Ports of the kernel's that the firewall leaves open, with or without the other side's address",
      [],
    ),
    alias4: key(
      v.pipe(
        v.string("an IPv4 address"),
        v.check((text) => parseIPv4(text) !== undefined, "an IPv4 address"),
      ),
      "Under which the kernel and a client of this host see each other where both have the same address",
      "192.0.0.8",
    ),
    alias6: key(
      v.pipe(
        v.string("an IPv6 address"),
        v.check((text) => parseIPv6(text) !== undefined, "an IPv6 address"),
      ),
      "The same for IPv6",
      "fd6e:6574:64::8",
    ),
  },
  "Clients: other network stacks on the same card",
);

const maybePath = "a path of at most 107 bytes (the limit of a Unix socket's address), or nothing";
const socketOrNone = v.pipe(v.string(maybePath), v.maxBytes(107, maybePath), v.regex(/^[^\0]*$/, maybePath));
const secret = "1 to 24 bytes";
const memifs = 'lines such as "0 udp:53" or "1 10.9.0.0/16 mac=02:00:00:00:00:01"';

export const MemifKeys = section(
  {
    socket: maybe(
      socketOrNone,
      "Listening socket for memif's own programs (testpmd, VPP); else memif.sock beside the last control socket. Empty: none",
    ),
    secret: maybe(
      v.pipe(v.string(secret), v.minLength(1, secret), v.maxBytes(24, secret)),
      "What they have to say to be let in",
    ),
    clients: key(
      list(
        v.pipe(
          v.string(memifs),
          v.check((text) => readMemifClient(text) !== undefined, memifs),
        ),
        memifs,
      ),
      "What they get, by their id: endpoints of the card's own addresses, prefixes of others, a MAC of their own",
      [],
    ),
    megabytes: key(
      whole(0, 2047, "MiB"),
      "Address space for the memory of all clients of a queue; that and the UMEM have 2 GiB, and with netbase's tables 4, or routing for memif is slower",
      1024,
    ),
    clientMegabytes: key(whole(1, 2047, "MiB"), "Memory of one client", 256),
  },
  "Clients by memif 2.0: rings in shared memory",
);
