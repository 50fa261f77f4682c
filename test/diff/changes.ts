// Random changes of a namespace: links, addresses, routes, nexthop objects, neighbours, of both families, from small
// pools of names, prefixes and addresses, so that changes meet each other. Many are refused by the kernel, as they
// should be. What no command can express goes as raw netlink, as all of it does.
import { Host } from "../../src/lab/host.ts";
import { type AddrSpec, delAddr, newAddr } from "../../src/netlink/addr.ts";
import * as nl from "../../src/netlink/constants.ts";
import { delLink, newLink, setLink } from "../../src/netlink/link.ts";
import type { Requests } from "../../src/netlink/message.ts";
import { delNeigh, type NeighSpec, newNeigh, useNeigh } from "../../src/netlink/neigh.ts";
import { delNexthop, newNexthop } from "../../src/netlink/nexthop.ts";
import { toAddress } from "../../src/netlink/prefix.ts";
import { delRoute, type LegSpec, newRoute, type RouteSpec } from "../../src/netlink/routeset.ts";
import type { Random } from "../random.ts";

export const LINKS = ["a0", "a1", "a2", "a3", "a4"];
const IDS = Array.from({ length: 10 }, (_, i) => i + 1);
const ADD = nl.NLM_F_CREATE | nl.NLM_F_EXCL;
const CHANGES = [
  [6, ADD],
  [3, nl.NLM_F_CREATE | nl.NLM_F_REPLACE],
  [1, nl.NLM_F_REPLACE],
  [3, nl.NLM_F_CREATE | nl.NLM_F_APPEND],
  [2, nl.NLM_F_CREATE],
] as const;

type Change = (m: Requests) => void;
/** What a change is called in a failure, and the change. */
export interface Step {
  text: string;
  change: Change;
  /** in the other namespace */
  far?: boolean;
}

export class World {
  /** The namespace that is mirrored, and the one that links move to. */
  readonly near: Host;
  readonly far: Host;
  private readonly random: Random;
  private readonly indexes = new Map<string, number>();

  constructor(random: Random) {
    this.random = random;
    this.near = new Host("diff");
    this.far = new Host("diff far");
    // A host that does not forward goes by what it knows of gateways as well: routes to dead ones lose to shorter ones.
    this.near.sysctl("net/ipv6/conf/all/forwarding", 1);
    for (const name of LINKS) this.do({ text: "", change: (m) => this.makeLink(m, name) });
    for (const [i, name] of LINKS.entries()) {
      this.do({ text: "", change: (m) => setLink(m, { name, up: true }) });
      this.near.addr(name, `10.0.${i}.1/24`);
      this.near.addr(name, `fd00:0:0:${i}::1/64`);
    }
  }

  close(): void {
    this.near.close();
    this.far.close();
  }

  /** Does it; whether the kernel took it. */
  do(step: Step): boolean {
    const { nl: socket } = step.far ? this.far : this.near;
    try {
      if (socket.batch(step.change).length > 0) return false;
    } catch {
      return false; // the change names what is not there
    }
    return true;
  }

  /** A random change. Interfaces go by what they are called now; one that is away has index 9999. */
  step(): Step {
    const { random } = this;
    this.indexes.clear();
    return random.weighted<() => Step>([
      [10, () => this.link()],
      [16, () => this.address()],
      [34, () => this.route(nl.AF_INET)],
      [28, () => this.route(nl.AF_INET6)],
      [14, () => this.nexthop()],
      [16, () => this.neighbour()],
    ])();
  }

  private index(name: string): number {
    let index = this.indexes.get(name);
    if (index === undefined) {
      try {
        index = this.near.ifindex(name);
      } catch {
        index = 9999;
      }
      this.indexes.set(name, index);
    }
    return index;
  }

  private oif(): number {
    return this.index(this.random.pick(LINKS));
  }

  /** The other end's index may be taken by a link that has moved in: a new one, as the kernel numbers them, never is. */
  private makeLink(m: Requests, name: string): void {
    newLink(m, { name, kind: "veth", peer: { name: `p${name}`, netnsFd: this.far.netns.fd } });
    setLink(m, { name, up: true });
  }

  private link(): Step {
    const { random } = this;
    const name = random.pick(LINKS);
    const ifindex = this.index(name);
    const named = (text: string, change: Change, far = false): Step => ({
      text: `${text} ${name}`,
      change,
      far,
    });
    return random.weighted<() => Step>([
      [6, () => named("up", (m) => setLink(m, { ifindex, up: true }))],
      [4, () => named("down", (m) => setLink(m, { ifindex, up: false }))],
      [3, () => named("delete", (m) => delLink(m, { ifindex }))],
      [9, () => named("make", (m) => this.makeLink(m, name))],
      [5, () => named("carrier", (m) => setLink(m, { name: `p${name}`, up: random.chance(75) }), true)],
      [2, () => named("mtu", (m) => setLink(m, { ifindex, mtu: 1280 + random.below(300) }))],
      [
        2,
        () => named("lladdr", (m) => setLink(m, { ifindex, lladdr: `02:00:00:00:01:0${random.below(10)}` })),
      ],
      [2, () => named("away", (m) => setLink(m, { ifindex, netnsFd: this.far.netns.fd }))],
      [4, () => named("back", (m) => setLink(m, { name, netnsFd: this.near.netns.fd }), true)],
      [
        2,
        () =>
          named("rename", (m) => {
            setLink(m, { ifindex, up: false });
            setLink(m, { ifindex, rename: random.pick(LINKS) });
            setLink(m, { ifindex, up: true });
          }),
      ],
      [2, () => named("bridge", (m) => newLink(m, { name: "br", kind: "bridge", up: true }))],
      [1, () => named("unbridge", (m) => delLink(m, { name: "br" }))],
      [2, () => named("enslave", (m) => setLink(m, { ifindex, master: this.index("br") }))],
      [2, () => named("free", (m) => setLink(m, { ifindex, master: 0 }))],
    ])();
  }

  private address(): Step {
    const { random } = this;
    const six = random.chance(45);
    const i = random.chance(70) ? random.below(LINKS.length) : random.below(3);
    const host = 1 + random.below(5);
    const length = six ? random.pick([64, 64, 128]) : random.pick([24, 24, 16, 32]);
    const spec: AddrSpec = {
      ifindex: random.chance(80) ? this.index(LINKS[i]!) : this.oif(),
      local: six ? `fd00:0:0:${i}::${host}/${length}` : `10.0.${i}.${host}/${length}`,
      flags: (six ? nl.IFA_F_NODAD : 0) | (random.chance(15) ? nl.IFA_F_NOPREFIXROUTE : 0),
    };
    if (!six && random.chance(70)) spec.broadcast = `10.0.${i}.255`;
    if (!six && random.chance(10)) spec.peer = `10.9.${i}.${host}`;
    const adding = random.chance(62);
    return {
      text: `${adding ? "add" : "delete"} address ${JSON.stringify(spec)}`,
      change: (m) => (adding ? newAddr(m, spec) : delAddr(m, spec)),
    };
  }

  private gateway(six: boolean): string {
    const { random } = this;
    const i = random.below(LINKS.length);
    return six ? `fd00:0:0:${i}::${10 + random.below(6)}` : `10.0.${i}.${10 + random.below(6)}`;
  }

  private leg(six: boolean, weighted: boolean): LegSpec {
    const { random } = this;
    const i = random.below(LINKS.length);
    const leg: LegSpec = {};
    if (random.chance(80)) leg.via = this.gateway(!six && random.chance(6) ? true : six);
    if (leg.via === undefined || random.chance(60)) leg.oif = this.index(LINKS[i]!);
    if (leg.oif !== undefined && leg.via !== undefined && random.chance(15)) leg.onlink = true;
    if (weighted && random.chance(40)) leg.weight = 1 + random.below(10);
    return leg;
  }

  private dst(six: boolean): RouteSpec["dst"] {
    const { random } = this;
    if (random.chance(8))
      return { family: six ? nl.AF_INET6 : nl.AF_INET, words: new Int32Array(4), prefixLen: 0 };
    const a = random.below(4);
    const b = random.below(3);
    if (six)
      return random.pick([
        `fd${10 + a}::/16`,
        `fd${10 + a}:${b}::/32`,
        `fd${10 + a}:${b}::${b}`,
        `fd00:0:0:${a}::${b}`,
      ]);
    return random.pick([
      `10.${64 * a}.0.0/10`,
      `10.${64 + a}.0.0/16`,
      `10.${64 + a}.${b}.0/24`,
      `10.${64 + a}.${b}.${8 * b}/29`,
      `10.${64 + a}.0.${b}`,
      `10.0.${a}.${b}`,
      `10.0.${a}.0/24`,
    ]);
  }

  private route(family: number): Step {
    const { random } = this;
    const six = family === nl.AF_INET6;
    const spec: RouteSpec = { dst: this.dst(six) };
    if (random.chance(50)) spec.priority = random.pick([0, 1, 10, 256, 1024, 0xffffffff]);
    if (!six && random.chance(15)) spec.tos = random.pick([0x10, 0x08, 0x04, 0x20, 0xb8]); // those above 0x1c no packet matches
    if (random.chance(20)) spec.table = random.pick([nl.RT_TABLE_LOCAL, nl.RT_TABLE_DEFAULT, 100]);
    if (random.chance(20)) spec.mtu = 1280 + random.below(100);
    if (random.chance(20)) spec.protocol = random.pick([4, 16, 186]);
    // Told, but not followed: to where no lookup goes.
    if (six && random.chance(4)) {
      spec.dst = `fd9${random.below(3)}::/32`;
      spec.src = random.pick(["fd00:0:0:1::/64", "fd12::/16", "fd00::1/128"]);
    }
    if (six && random.chance(15)) spec.pref = random.pick([0, 1, 3]);
    random.weighted<() => void>([
      [10, () => Object.assign(spec, this.leg(six, false))],
      [
        5,
        () => {
          spec.nexthops = Array.from({ length: 1 + random.below(4) }, () => this.leg(six, true));
        },
      ],
      [
        4,
        () => {
          spec.nhid = random.pick(IDS);
        },
      ],
      [
        4,
        () => {
          spec.type = random.pick([
            nl.RTN_BLACKHOLE,
            nl.RTN_UNREACHABLE,
            nl.RTN_PROHIBIT,
            nl.RTN_THROW,
            ...(six ? [nl.RTN_ANYCAST] : [nl.RTN_LOCAL, nl.RTN_BROADCAST, nl.RTN_MULTICAST]),
          ]);
          if (spec.type < nl.RTN_BLACKHOLE) spec.oif = this.oif();
          // The kernel takes a gateway that is an address of its own to mean "on link", and remembers that.
          if (spec.type === nl.RTN_LOCAL) spec.dst = `10.${64 + random.below(4)}.0.${random.below(3)}`;
        },
      ],
    ])();
    if (random.chance(15))
      spec.prefsrc = six ? `fd00:0:0:${random.below(3)}::1` : `10.0.${random.below(3)}.1`;
    if (random.chance(30)) {
      // Deletes name little, so that they find something.
      const { dst, src, table, priority, nhid, nexthops, via } = spec;
      const less: RouteSpec = { dst };
      if (src !== undefined) less.src = src;
      if (table !== undefined) less.table = table;
      if (priority !== undefined && random.chance(30)) less.priority = priority;
      if (via !== undefined && random.chance(30)) less.via = via;
      if (nexthops !== undefined && random.chance(30)) less.nexthops = nexthops;
      if (nhid !== undefined && random.chance(30)) less.nhid = nhid;
      return { text: `delete route ${JSON.stringify(less)}`, change: (m) => delRoute(m, less) };
    }
    const flags = random.weighted(CHANGES);
    return {
      text: `route ${flags.toString(16)} ${JSON.stringify(spec)}`,
      change: (m) => newRoute(m, spec, flags),
    };
  }

  private nexthop(): Step {
    const { random } = this;
    const id = random.pick(IDS);
    if (random.chance(28)) return { text: `delete nexthop ${id}`, change: (m) => delNexthop(m, id) };
    const replace = random.chance(40) ? nl.NLM_F_CREATE | nl.NLM_F_REPLACE : ADD;
    const six = random.chance(40);
    const spec = random.weighted<() => Parameters<typeof newNexthop>[1]>([
      [6, () => ({ id, ...this.leg(six, false), oif: this.oif(), family: six ? nl.AF_INET6 : nl.AF_INET })],
      [1, () => ({ id, blackhole: true, family: six ? nl.AF_INET6 : nl.AF_INET })],
      [
        4,
        () => ({
          id,
          group: Array.from({ length: 1 + random.below(3) }, () => ({
            id: random.pick(IDS),
            weight: 1 + random.below(5),
          })),
        }),
      ],
    ])();
    return {
      text: `nexthop ${replace.toString(16)} ${JSON.stringify(spec)}`,
      change: (m) => newNexthop(m, spec, replace),
    };
  }

  private neighbour(): Step {
    const { random } = this;
    const six = random.chance(45);
    const ifindex = this.oif();
    const dst = this.gateway(six);
    if (random.chance(10)) {
      // An entry that is PERMANENT forgets that in silence: one that nothing else is done to.
      const { family, words } = toAddress(`${dst}9`);
      return { text: `use ${dst}9 on ${ifindex}`, change: (m) => useNeigh(m, ifindex, family, words) };
    }
    const spec: NeighSpec = { ifindex, dst };
    if (random.chance(30))
      return { text: `delete neighbour ${dst} on ${ifindex}`, change: (m) => delNeigh(m, spec) };
    spec.lladdr = `02:00:00:00:00:0${random.below(10)}`;
    spec.state = random.pick([
      nl.NUD_PERMANENT,
      nl.NUD_REACHABLE,
      nl.NUD_STALE,
      nl.NUD_DELAY,
      nl.NUD_PROBE,
      nl.NUD_FAILED,
    ]);
    if (random.chance(5)) spec.flags = nl.NTF_EXT_LEARNED;
    if (random.chance(5)) spec.flags = nl.NTF_PROXY;
    return { text: `neighbour ${JSON.stringify(spec)}`, change: (m) => newNeigh(m, spec) };
  }
}
