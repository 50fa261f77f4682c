// What the kernel refuses, it refuses with a reason: text, the attribute by name and path, its offset, what is missing.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { SysError } from "../../ffi/errno.ts";
import { Host } from "../../src/lab/host.ts";
import { NetlinkError, readAck } from "../../src/netlink/ack.ts";
import { newAddr } from "../../src/netlink/addr.ts";
import { FRA, IFA, IFLA, IFLA_INFO, IFLA_MACVLAN, NDA, NHA, RTA } from "../../src/netlink/attribute.ts";
import * as nl from "../../src/netlink/constants.ts";
import { delLink, newLink, setLink } from "../../src/netlink/link.ts";
import { Requests } from "../../src/netlink/message.ts";
import { delNeigh, newNeigh } from "../../src/netlink/neigh.ts";
import { delNexthop, newNexthop } from "../../src/netlink/nexthop.ts";
import { delRoute, dumpRoutes, getRoute, newRoute } from "../../src/netlink/routeset.ts";
import { delRule } from "../../src/netlink/rule.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

let host: Host;
let far: Host;
let nd0: number;
beforeAll(() => {
  host = new Host("here");
  far = new Host("there");
  [nd0] = host.veth("nd0", far, "peer0");
  host.addr("nd0", "10.0.0.1/24");
});
afterAll(() => {
  host.close();
  far.close();
});

function refusal(fill: (m: Requests) => void): NetlinkError {
  try {
    host.nl.call(fill);
  } catch (error) {
    if (error instanceof NetlinkError) return error;
    throw error;
  }
  throw new Error("the kernel took it");
}

type Want = Partial<Pick<NetlinkError, "code" | "text" | "attribute" | "offset" | "missing">>;
const refused: [string, (m: Requests) => void, Want][] = [
  [
    "bits beyond the prefix",
    (m) => newRoute(m, { dst: "10.1.2.3/16", via: "10.0.0.2" }),
    { code: "EINVAL", text: "Invalid prefix for given prefix length" },
  ],
  [
    "a gateway that is nowhere",
    (m) => newRoute(m, { dst: "10.1.0.0/16", via: "9.9.9.9" }),
    { code: "ENETUNREACH", text: "Nexthop has invalid gateway" },
  ],
  [
    "a next hop that does not exist",
    (m) => newRoute(m, { dst: "10.1.0.0/16", nhid: 77 }),
    { code: "EINVAL", text: "Nexthop id does not exist" },
  ],
  [
    "a route that is there",
    (m) => newRoute(m, { dst: "10.0.0.0/24", oif: nd0, protocol: 2, prefsrc: "10.0.0.1" }),
    { code: "EEXIST" },
  ],
  ["a route that is not", (m) => delRoute(m, { dst: "10.250.0.0/16" }), { code: "ESRCH" }],
  ["a device that does not exist", (m) => newRoute(m, { dst: "10.1.0.0/16", oif: 9999 }), { code: "ENODEV" }],
  [
    "a source address that is not ours",
    (m) => newRoute(m, { dst: "10.1.0.0/16", oif: nd0, prefsrc: "9.9.9.9" }),
    { code: "EINVAL", text: "Invalid prefsrc address" },
  ],
  [
    "an attribute that is too short",
    (m) => {
      newRoute(m, { dst: "10.1.0.0/16" });
      m.u8(RTA.OIF, 1);
    },
    { code: "ERANGE", attribute: "RTA_OIF", offset: 36 },
  ],
  [
    "an IPv6 attribute that is too short",
    (m) => {
      newRoute(m, { dst: "fd00:1::/64" });
      m.u8(RTA.OIF, 1);
    },
    { code: "ERANGE", attribute: "RTA_OIF", offset: 48 },
  ],
  [
    "a metric that does not exist",
    (m) => {
      newRoute(m, { dst: "10.1.0.0/16", oif: nd0 });
      const mark = m.nest(RTA.METRICS);
      m.u32(99, 1);
      m.end(mark);
    },
    { code: "EINVAL", text: "Invalid metric type" },
  ],
  [
    "a name too long, three nests down and behind a struct",
    (m) => newLink(m, { name: "v", kind: "veth", peer: { name: "sixteen-letters!" } }),
    { code: "ERANGE", attribute: "IFLA_LINKINFO.IFLA_INFO_DATA.VETH_INFO_PEER.IFLA_IFNAME", offset: 80 },
  ],
  [
    "a kind that does not exist",
    (m) => newLink(m, { name: "x", kind: "nothing" }),
    { code: "EOPNOTSUPP", text: "Unknown device type" },
  ],
  ["a name that is taken", (m) => newLink(m, { name: "nd0", kind: "bridge" }), { code: "EEXIST" }],
  [
    "an MTU below the least",
    (m) => setLink(m, { ifindex: nd0, mtu: 10 }),
    { code: "EINVAL", text: "mtu less than device minimum" },
  ],
  ["a master that is no master", (m) => setLink(m, { ifindex: nd0, master: 1 }), { code: "EOPNOTSUPP" }],
  [
    "a macvlan mode that does not exist",
    (m) => newLink(m, { name: "x", kind: "macvlan", link: nd0, macvlanMode: 77 }),
    { code: "EINVAL" },
  ],
  [
    "a macvlan mode too short, two nests down",
    (m) => {
      newLink(m, { name: "x", kind: "macvlan", link: nd0 });
      const info = m.nest(IFLA.LINKINFO);
      m.text(IFLA_INFO.KIND, "macvlan");
      const data = m.nest(IFLA_INFO.DATA);
      m.u8(IFLA_MACVLAN.MODE, 1);
      m.end(data);
      m.end(info);
    },
    { code: "ERANGE", attribute: "IFLA_LINKINFO.IFLA_INFO_DATA.IFLA_MACVLAN_MODE" },
  ],
  ["a link that is not there", (m) => delLink(m, { name: "gone" }), { code: "ENODEV" }],
  [
    "an address twice",
    (m) => newAddr(m, { ifindex: nd0, local: "10.0.0.1/24" }),
    { code: "EEXIST", text: "ipv4: Address already assigned" },
  ],
  [
    "an address with too long a prefix",
    (m) => newAddr(m, { ifindex: nd0, local: { family: 2, words: [1], prefixLen: 33 } }),
    { code: "EINVAL", text: "ipv4: Invalid prefix length" },
  ],
  [
    "a neighbour with half a MAC address",
    (m) => newNeigh(m, { ifindex: nd0, dst: "10.0.0.9", lladdr: [1, 2, 3] }),
    { code: "EINVAL", text: "Invalid link address" },
  ],
  [
    "a neighbour without address",
    (m) => {
      m.begin(nl.RTM_NEWNEIGH, nl.NLM_F_CREATE, 12);
      m.bytes[16] = nl.AF_INET;
      m.words[5] = nd0;
    },
    { code: "EINVAL", text: "Network address not specified" },
  ],
  [
    "a neighbour that is not there",
    (m) => delNeigh(m, { ifindex: nd0, dst: "10.0.0.9" }),
    { code: "ENOENT" },
  ],
  [
    "a next hop without device",
    (m) => newNexthop(m, { id: 5, via: "10.0.0.2" }),
    { code: "EINVAL", text: "Device attribute required for non-blackhole and non-fdb nexthops" },
  ],
  [
    "a group of nothing that exists",
    (m) => newNexthop(m, { id: 5, group: [{ id: 66 }] }),
    { code: "EINVAL", text: "Invalid nexthop id" },
  ],
  ["a next hop that is not there", (m) => delNexthop(m, 66), { code: "ENOENT" }],
  ["a rule that is not there", (m) => delRule(m, { family: 2, priority: 9 }), { code: "ENOENT" }],
];

test.each(refused)("%s", (_name, fill, want) => {
  const error = refusal(fill);
  expect(error).toBeInstanceOf(SysError);
  expect(error).toMatchObject(want);
  expect(error.message).toContain(want.code!);
  if (want.text) expect(error.message).toContain(want.text);
  if (want.attribute) expect(error.message).toContain(want.attribute);
});

/** One attribute of the wrong length behind another, in a request of each kind: named, and where it is. */
const policies: [string, number, number, number, number, string][] = [
  ["RTM_NEWLINK", nl.RTM_NEWLINK, 16, IFLA.MTU, 1, "IFLA_MTU"],
  ["RTM_NEWLINK", nl.RTM_NEWLINK, 16, IFLA.TXQLEN, 2, "IFLA_TXQLEN"],
  ["RTM_NEWLINK", nl.RTM_NEWLINK, 16, IFLA.NET_NS_FD, 3, "IFLA_NET_NS_FD"],
  ["RTM_NEWADDR", nl.RTM_NEWADDR, 8, IFA.FLAGS, 1, "IFA_FLAGS"],
  ["RTM_NEWADDR", nl.RTM_NEWADDR, 8, IFA.RT_PRIORITY, 2, "IFA_RT_PRIORITY"],
  ["RTM_NEWROUTE", nl.RTM_NEWROUTE, 12, RTA.PRIORITY, 1, "RTA_PRIORITY"],
  ["RTM_NEWROUTE", nl.RTM_NEWROUTE, 12, RTA.TABLE, 2, "RTA_TABLE"],
  ["RTM_DELROUTE", nl.RTM_DELROUTE, 12, RTA.PREFSRC, 1, "RTA_PREFSRC"],
  ["RTM_NEWNEIGH", nl.RTM_NEWNEIGH, 12, NDA.FLAGS_EXT, 1, "NDA_FLAGS_EXT"],
  ["RTM_NEWNEIGH", nl.RTM_NEWNEIGH, 12, NDA.LLADDR, 33, "NDA_LLADDR"],
  ["RTM_NEWNEXTHOP", nl.RTM_NEWNEXTHOP, 8, NHA.ID, 1, "NHA_ID"],
  ["RTM_NEWNEXTHOP", nl.RTM_NEWNEXTHOP, 8, NHA.OIF, 2, "NHA_OIF"],
  ["RTM_NEWRULE", nl.RTM_NEWRULE, 12, FRA.FWMARK, 1, "FRA_FWMARK"],
  ["RTM_NEWRULE", nl.RTM_NEWRULE, 12, FRA.TABLE, 3, "FRA_TABLE"],
];
/** What strictly parsed kinds, and rules, say instead. */
const TEXTS: Record<string, string> = {
  NDA_FLAGS_EXT: "invalid attribute length",
  NHA_ID: "invalid attribute length",
  NHA_OIF: "invalid attribute length",
  FRA_FWMARK: "Error parsing msg",
  FRA_TABLE: "Error parsing msg",
};
test.each(policies)("%s: the length of an attribute", (op, type, header, attribute, length, name) => {
  const error = refusal((m) => {
    m.begin(type, 0, header);
    m.bytes[16] = nl.AF_INET;
    m.raw(attribute, new Uint8Array(4)); // well-formed
    m.raw(attribute, new Uint8Array(length));
  });
  expect(error).toMatchObject({ op, attribute: name, offset: 16 + header + 8 });
  expect(["ERANGE", "EINVAL"]).toContain(error.code);
  expect(error.text).toBe(TEXTS[name] ?? "Attribute failed policy validation");
});

test("a whole message, as people read it", () => {
  const short = (m: Requests) => {
    newNeigh(m, { ifindex: nd0, dst: "10.0.0.9" });
    m.raw(NDA.LLADDR, new Uint8Array(40));
  };
  const error = refusal(short);
  expect(error.message).toBe("RTM_NEWNEIGH: ERANGE (Attribute failed policy validation; at NDA_LLADDR)");
});

test("a dump's refusal comes in DONE, or in ERROR", () => {
  const dump = (fill: (m: Requests) => void) => () => host.nl.dump(fill, () => {});
  expect(dump((m) => dumpRoutes(m, { family: 2, table: 777 }))).toThrow("FIB table does not exist");
  expect(
    dump((m) => {
      dumpRoutes(m, { family: 2 });
      m.u32(99, 4);
    }),
  ).toThrow("RTM_GETROUTE: EINVAL (Unknown attribute type; at RTA_99)");
  expect(() =>
    host.nl.get(
      (m) => getRoute(m, { dst: "99.9.9.9" }),
      () => {},
    ),
  ).toThrow("ENETUNREACH");
});

test("a batch goes on past errors and says which failed", () => {
  const failures = host.nl.batch((m) => {
    for (let i = 0; i < 20_000; i++) {
      const bad = i % 3 === 1;
      newRoute(m, { dst: { family: 2, words: [20 | (i << 8)], prefixLen: 32 }, oif: bad ? 9999 : nd0 });
    }
  });
  expect(failures.map(({ index }) => index)).toEqual(
    Array.from({ length: 20_000 }, (_, i) => i).filter((i) => i % 3 === 1),
  );
  expect(failures.every(({ error }) => error.code === "ENODEV" && error.op === "RTM_NEWROUTE")).toBe(true);
  let routes = 0;
  host.nl.dump(
    (m) => dumpRoutes(m, { family: 2, table: 254, oif: nd0 }),
    () => void routes++,
  );
  expect(routes).toBe(20_000 - failures.length + 1);
  expect(host.nl.batch(() => {})).toEqual([]);
});

test("a visitor that throws does not spoil the next dump", () => {
  const all = (visit: () => void) => host.nl.dump((m) => dumpRoutes(m, { family: 2 }), visit);
  let seen = 0;
  expect(() =>
    all(() => {
      throw new Error(`stop at ${++seen}`);
    }),
  ).toThrow("stop at 1");
  expect(seen).toBe(1);
  let routes = 0;
  expect(all(() => void routes++)).toBe(true);
  expect(routes).toBeGreaterThan(10_000);
});

test("an attribute that the kernel misses is named, with the nest that it should be in", () => {
  // Written by hand: an NLMSG_ERROR of a kernel that wants IFLA_INFO_KIND in the LINKINFO at offset 32.
  const request = new Requests();
  request.begin(nl.RTM_NEWLINK, 0, 16);
  const info = request.nest(IFLA.LINKINFO);
  request.u32(IFLA_INFO.XSTATS, 0);
  request.end(info);
  const answer = (flags: number, echo: number, nest: boolean) => {
    const m = new Requests();
    const off = m.begin(nl.NLMSG_ERROR, flags, 20 + echo);
    m.words[off >> 2] = -22;
    m.words[(off >> 2) + 1] = 16 + echo;
    m.text(1, "no kind");
    m.u32(5, IFLA_INFO.KIND);
    if (nest) m.u32(6, 32);
    return readAck(m.words, m.bytes, 0, m.length, request, 0)!;
  };
  const want = "RTM_NEWLINK: EINVAL (no kind; IFLA_LINKINFO.IFLA_INFO_KIND is missing)";
  expect(answer(nl.NLM_F_ACK_TLVS | nl.NLM_F_CAPPED, 0, true).message).toBe(want);
  expect(answer(nl.NLM_F_ACK_TLVS, 24, true).message).toBe(want);
  expect(answer(nl.NLM_F_ACK_TLVS | nl.NLM_F_CAPPED, 0, false).missing).toBe("IFLA_ADDRESS");
  expect(answer(0, 0, true).message).toBe("RTM_NEWLINK: EINVAL");
});
