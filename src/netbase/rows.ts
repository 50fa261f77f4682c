// Rows: one link, address, route, next hop or neighbour on its way from a decoder to a table.
// A row is made once and refilled for every message (no allocation a message); tables copy out of it.
// Addresses are words as they lie in memory (network byte order, loaded little-endian): IPv4 uses word 0,
// IPv6 all four. So 10.0.0.1 is 0x0100000a. Numbers that the kernel gives in host order are plain numbers.

/** RTM_NEWLINK / RTM_DELLINK: struct ifinfomsg and IFLA_*. */
export class LinkRow {
  ifindex = 0;
  flags = 0; // IFF_*
  mtu = 0;
  type = 0; // ARPHRD_*
  operstate = 0; // IF_OPER_*
  carrier = 1;
  master = 0; // ifindex, 0 if none
  link = 0; // IFLA_LINK: the lower device's ifindex, 0 if none
  vlan = -1; // IFLA_VLAN_ID where kind is "vlan", else -1
  lladdrLen = 0;
  lladdr: Uint8Array = new Uint8Array(32);
  name = "";
  kind = ""; // IFLA_INFO_KIND, "" for hardware and lo
}

/** RTM_NEWADDR / RTM_DELADDR: struct ifaddrmsg and IFA_*. */
export class AddrRow {
  family = 0;
  ifindex = 0;
  prefixLen = 0;
  scope = 0;
  flags = 0; // IFA_FLAGS, 32 bits
  readonly local: Int32Array = new Int32Array(4); // IFA_LOCAL, or IFA_ADDRESS where that is missing
  readonly peer: Int32Array = new Int32Array(4); // IFA_ADDRESS: the prefix, or the far end
}

/** In a leg's flags, beyond the kernel's RTNH_F_*: it has RTA_ENCAP, a tunnel's head. The same bit as NH_ENCAP (layout.ts). */
export const LEG_ENCAP = 0x1000;

/** One route or next-hop group's legs, in the kernel's order. `n` legs are valid; arrays grow on demand. */
export class Legs {
  n = 0;
  ifindex: Int32Array = new Int32Array(16);
  flags: Int32Array = new Int32Array(16); // RTNH_F_*, LEG_ENCAP
  weight: Int32Array = new Int32Array(16); // 1..65536
  gatewayFamily: Int32Array = new Int32Array(16); // 0 if on link, AF_INET, AF_INET6 (RTA_VIA)
  gateway: Int32Array = new Int32Array(64); // 4 words a leg
  nhid: Int32Array = new Int32Array(16); // the nexthop object that a group's leg is, else 0

  clear(): void {
    this.n = 0;
  }

  /** Adds an empty leg and returns its index. */
  add(): number {
    const i = this.n++;
    if (i === this.ifindex.length) this.grow();
    this.ifindex[i] = this.flags[i] = this.gatewayFamily[i] = this.nhid[i] = 0;
    this.weight[i] = 1;
    this.gateway.fill(0, i * 4, i * 4 + 4);
    return i;
  }

  private grow(): void {
    const wider = (a: Int32Array) => {
      const b = new Int32Array(a.length * 2);
      b.set(a);
      return b;
    };
    this.ifindex = wider(this.ifindex);
    this.flags = wider(this.flags);
    this.weight = wider(this.weight);
    this.gatewayFamily = wider(this.gatewayFamily);
    this.gateway = wider(this.gateway);
    this.nhid = wider(this.nhid);
  }
}

/** RTM_NEWROUTE / RTM_DELROUTE: struct rtmsg and RTA_*. */
export class RouteRow {
  family = 0;
  table = 0; // RTA_TABLE, not rtm_table
  dstLen = 0;
  tos = 0;
  protocol = 0;
  scope = 0;
  type = 0; // RTN_*
  flags = 0; // RTM_F_* and, for a route without RTA_MULTIPATH, its leg's RTNH_F_*
  priority = 0;
  nhid = 0; // RTA_NH_ID: the nexthop object, 0 if none
  mtu = 0; // RTAX_MTU of RTA_METRICS, 0 if none
  pref = 0; // RTA_PREF (IPv6)
  srcLen = 0; // IPv6 routes by source: told, not followed (sourced.ts)
  hasPrefsrc = 0;
  expires = 0; // IPv6, of RTA_CACHEINFO: 10 ms each from now, negative if it is over, 0 never
  readonly dst: Int32Array = new Int32Array(4);
  readonly src: Int32Array = new Int32Array(4);
  readonly prefsrc: Int32Array = new Int32Array(4);
  readonly legs: Legs = new Legs();
}

/** RTM_NEWNEXTHOP / RTM_DELNEXTHOP: struct nhmsg and NHA_*. A group's legs carry only nhid and weight. */
export class NexthopRow {
  id = 0;
  family = 0;
  scope = 0;
  protocol = 0;
  flags = 0; // RTNH_F_*
  blackhole = 0;
  group = 0; // 1 if this is a group
  groupType = 0; // NEXTHOP_GRP_TYPE_*
  readonly legs: Legs = new Legs(); // exactly one where group is 0
}

/** RTM_NEWNEIGH / RTM_DELNEIGH: struct ndmsg and NDA_*. */
export class NeighRow {
  family = 0;
  ifindex = 0;
  state = 0; // NUD_*
  flags = 0; // NTF_*
  type = 0; // RTN_*
  lladdrLen = 0; // 0 if the kernel gave none
  readonly lladdr: Uint8Array = new Uint8Array(32);
  readonly dst: Int32Array = new Int32Array(4);
}

/** RTM_NEWRULE / RTM_DELRULE: struct fib_rule_hdr and FRA_*. A rule without any selector is for all traffic. */
export class RuleRow {
  family = 0;
  priority = 0;
  action = 0; // FR_ACT_*
  table = 0; // FRA_TABLE
  flags = 0; // FIB_RULE_*
  dstLen = 0;
  srcLen = 0;
  tos = 0;
  fwmark = 0;
  fwmask = 0;
  goto = 0; // priority of the rule to go on with
  l3mdev = 0; // 1: the table of the VRF that the interface is in
  protocol = 0; // RTPROT_*
  suppressPrefixLen = -1; // matches of this prefix length or shorter do not count
  others = 0; // selectors beyond these (ports, uid, IP protocol, dscp...)
  iifname = "";
  oifname = "";
  readonly dst: Int32Array = new Int32Array(4);
  readonly src: Int32Array = new Int32Array(4);
}
