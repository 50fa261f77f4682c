// One message of the kernel into the tables, and what follows from it: which routes the kernel may have changed
// without telling (reference: net/ipv4/fib_frontend.c fib_netdev_event, fib_inetaddr_event; nexthop.c).
//
//   link up, down, carrier, gone, other master   routes over it, nexthop objects
//   link's MTU                                   IPv6 routes over it: their own MTU follows (rt6_mtu_change)
//   IPv4 address gone or come                    routes over its interface: the last one takes them along, and a
//                                                first one brings dead legs back
//   address gone that is a route's source        IPv4: older kernels drop those routes in silence; IPv6: it is
//                                                taken out of them
//   nexthop object gone                          all groups; routes that use it, which is certain and needs no dump
//   a route that others look like                doubts.ts
// The rest is not guessed: it goes on the agenda as a dump.
import { LINK_FLAGS, LINK_MASTER, LINK_MTU, type Kind as TableKind } from "../netbase/layout.ts";
import type { NetbaseWriter } from "../netbase/netbase.ts";
import { AddrRow, LinkRow, NeighRow, NexthopRow, RouteRow, RuleRow } from "../netbase/rows.ts";
import { ADDED, CHANGED, SAME } from "../netbase/stats.ts";
import { decodeAddr } from "./addr.ts";
import type { Agenda, Kind } from "./agenda.ts";
import { Doubts } from "./doubts.ts";
import * as nl from "./constants.ts";
import { Expiry } from "./expiry.ts";
import { Ghosts } from "./ghosts.ts";
import { decodeLink } from "./link.ts";
import { messageFlags, messagePort } from "./message.ts";
import { decodeNeigh } from "./neigh.ts";
import { Netconf } from "./netconf.ts";
import { decodeNexthop } from "./nexthop.ts";
import { decodeRoute } from "./route.ts";
import { decodeRule } from "./rule.ts";
import { Rules } from "./rules.ts";
import { Sourced } from "./sourced.ts";

/** The tables that are large. */
const TABLES: { readonly [K in Kind]?: TableKind } = {
  routes4: "routes4",
  routes6: "routes6",
  neighs4: "neighbours4",
  neighs6: "neighbours6",
};

/** For endSweep: no row is new enough to be spared. */
const ALL = Number.POSITIVE_INFINITY;
const NO_NEIGHBOURS = nl.IFF_NOARP | nl.IFF_LOOPBACK | nl.IFF_POINTOPOINT;
/** The flags whose change the FIB follows. */
const STATE = nl.IFF_UP | nl.IFF_RUNNING | nl.IFF_LOWER_UP;

export class Apply {
  readonly rules: Rules = new Rules();
  readonly sourced: Sourced = new Sourced();
  readonly expiry: Expiry;
  /** What the mirror does not follow is no longer what it was: rules, or routes by source. */
  beyondChanged = true;
  /** Messages whose lengths did not fit. */
  malformed = 0;
  /** While the routes over one interface are dumped: what it told of that the tables do not have. */
  partial = false;
  strangers = 0;
  /** Whether the last message about a neighbour told of one that came or went, and not of another state. */
  structural = false;
  /** The last route that was decoded. */
  readonly route: RouteRow = new RouteRow();
  readonly neigh: NeighRow = new NeighRow();
  private readonly link = new LinkRow();
  private readonly addr = new AddrRow();
  private readonly nexthop = new NexthopRow();
  private readonly rule = new RuleRow();
  private readonly netconf: Netconf;
  private readonly ghosts = new Ghosts();
  private readonly writer: NetbaseWriter;
  private readonly agenda: Agenda;
  private readonly wanted: ReadonlySet<number> | undefined;
  /** Nexthop objects there are, and those whose routes are still to be removed. */
  private nexthops = 0;
  private readonly gone = new Set<number>();
  /** Times that some may have gone without a word; how many of these the present dump is after, and the last quiet one. */
  private suspicions = 0;
  private clearing = 0;
  private cleared = 0;
  /** Preferred sources that routes have, or had, as text. */
  private readonly sources = new Set<string>();
  readonly doubts: Doubts;

  /** @param wanted interfaces whose neighbours are mirrored; all that have any if missing */
  constructor(writer: NetbaseWriter, agenda: Agenda, wanted?: ReadonlySet<number>) {
    this.netconf = new Netconf(writer);
    this.expiry = new Expiry(agenda);
    this.writer = writer;
    this.agenda = agenda;
    this.wanted = wanted;
    this.doubts = new Doubts(writer.routes, agenda);
  }

  /** `kind` is what kindOf says. Returns false if the message was malformed. */
  message(kind: Kind, type: number, words: Int32Array, bytes: Uint8Array, off: number, len: number): boolean {
    const whole = this.dispatch(kind, type, words, bytes, off, len);
    if (!whole) this.malformed++;
    return whole;
  }

  private dispatch(
    kind: Kind,
    type: number,
    words: Int32Array,
    bytes: Uint8Array,
    off: number,
    len: number,
  ): boolean {
    switch (kind) {
      case "routes4":
      case "routes6":
        if (!decodeRoute(words, bytes, off, len, this.route)) return false;
        this.routeMessage(type, messageFlags(words, off));
        return true;
      case "neighs4":
      case "neighs6":
        if (!decodeNeigh(words, bytes, off, len, this.neigh)) return false;
        this.neighMessage(type, messagePort(words, off));
        return true;
      case "links":
        if (!decodeLink(words, bytes, off, len, this.link)) return false;
        this.linkMessage(type);
        return true;
      case "netconf":
        return this.netconf.message(words, bytes, off, len);
      case "addrs":
        if (!decodeAddr(words, bytes, off, len, this.addr)) return false;
        this.addrMessage(type, messageFlags(words, off));
        return true;
      case "nexthops":
        if (!decodeNexthop(words, bytes, off, len, this.nexthop)) return false;
        this.nexthopMessage(type, messageFlags(words, off));
        return true;
      case "rules":
        if (!decodeRule(words, bytes, off, len, this.rule)) return false;
        if (type === nl.RTM_NEWRULE) this.rules.add(this.rule);
        else this.rules.remove(this.rule);
        this.beyondChanged = true;
        return true;
    }
  }

  private routeMessage(type: number, flags: number): void {
    const { route, writer, doubts } = this;
    if ((route.flags & nl.RTM_F_CLONED) !== 0) return;
    if (route.srcLen !== 0) {
      // One that goes may be a leg, or one of two: a dump tells.
      if (writer.routes.six.rankOf(route.table) < 0) return;
      if (type === nl.RTM_NEWROUTE) this.beyondChanged = this.sourced.add(route) || this.beyondChanged;
      else if (this.sourced.has(route)) this.agenda.whole("routes6");
      return;
    }
    if (type === nl.RTM_DELROUTE) {
      doubts.goes(route);
      if (writer.routes.remove(route) === CHANGED) doubts.loses();
    } else {
      if (route.expires !== 0 && !this.expiry.lives(route)) return;
      if ((flags & nl.NLM_F_REPLACE) !== 0) doubts.replaces(route);
      if (route.family === nl.AF_INET6 && route.legs.n > 1 && (flags & nl.NLM_F_MULTI) === 0)
        doubts.joins(route);
      // Where it stands among others of its prefix, only events and dumps of all routes tell.
      const dumped = (flags & nl.NLM_F_MULTI) !== 0;
      if (!this.partial || !dumped) {
        const result = writer.routes.upsert(route, flags);
        if (dumped && result !== SAME && route.family === nl.AF_INET6 && route.legs.n > 1) doubts.legs = true;
        if (route.family === nl.AF_INET && writer.routes.four.twin) doubts.twin(route, dumped);
      } else if (!writer.routes.touch(route)) this.strangers++;
      if (route.hasPrefsrc && route.protocol !== nl.RTPROT_KERNEL) this.sources.add(route.prefsrc.join());
    }
  }

  private neighMessage(type: number, port: number): void {
    const { neigh, writer, wanted } = this;
    this.structural = false;
    if ((neigh.flags & nl.NTF_PROXY) !== 0) return;
    this.structural = true;
    if (type === nl.RTM_DELNEIGH) {
      this.ghosts.went(neigh);
      writer.neighs.remove(neigh);
    } else if (wanted !== undefined && !wanted.has(neigh.ifindex)) return;
    // The kernel makes such entries without telling, for group addresses and for interfaces that need no neighbours.
    else if (neigh.state === nl.NUD_NOARP && (neigh.type !== nl.RTN_UNICAST || this.needsNone(neigh.ifindex)))
      return;
    else {
      const result = writer.neighs.upsert(neigh);
      this.structural = result !== SAME && result !== CHANGED;
      if (result === ADDED && port === 0 && this.ghosts.returned(neigh))
        this.agenda.whole(neigh.family === nl.AF_INET ? "neighs4" : "neighs6");
    }
  }

  private needsNone(ifindex: number): boolean {
    const slot = this.writer.links.find(ifindex);
    return slot !== 0 && (this.writer.words[slot + LINK_FLAGS]! & NO_NEIGHBOURS) !== 0;
  }

  private linkMessage(type: number): void {
    const { link, writer, agenda } = this;
    const { words, links } = writer;
    const { ifindex } = link;
    const slot = links.find(ifindex);
    if (type === nl.RTM_DELLINK) {
      if (slot === 0) return;
      links.remove(ifindex);
      this.netconf.removed(ifindex);
      writer.addrs.removeLink(ifindex);
      for (const family of [nl.AF_INET, nl.AF_INET6]) writer.neighs.endSweep(family, ALL, ifindex);
      this.changed(ifindex);
      return;
    }
    const known = slot !== 0;
    const flags = known ? words[slot + LINK_FLAGS]! : 0;
    const master = known ? words[slot + LINK_MASTER]! : 0;
    if (known && words[slot + LINK_MTU] !== link.mtu) {
      this.doubts.legs = true;
      agenda.routesOver6(ifindex);
    }
    links.upsert(link);
    if (!known) this.netconf.added(ifindex);
    if (((flags ^ link.flags) & STATE) !== 0 || master !== link.master) {
      if (known) this.changed(ifindex);
      else agenda.routesOver(ifindex);
    }
  }

  private changed(ifindex: number): void {
    this.agenda.routesOver(ifindex);
    if (this.nexthops === 0) return;
    this.agenda.whole("nexthops");
    this.suspicions++;
  }

  /** Whether nexthop objects may have gone that no quiet dump was made of since. */
  private get suspected(): boolean {
    return this.suspicions !== this.cleared;
  }

  private addrMessage(type: number, flags: number): void {
    const { addr, writer, agenda } = this;
    const four = addr.family === nl.AF_INET;
    const before = four ? writer.addrs.countOf(nl.AF_INET, addr.ifindex) : 1;
    if (type === nl.RTM_NEWADDR) {
      writer.addrs.upsert(addr, (flags & nl.NLM_F_MULTI) !== 0);
      if (before === 0) agenda.routesOver4(addr.ifindex);
      return;
    }
    const known = writer.addrs.remove(addr);
    if (known && four && before === 1) agenda.routesOver4(addr.ifindex);
    // The dump tells if a route has it still, because another interface has the address too. IPv6 tells of an address
    // some time after it was made (addrconf_dad_work), which may be never; a route can have it all the same.
    if (this.sources.delete(addr.local.join())) agenda.whole(four ? "routes4" : "routes6");
  }

  private nexthopMessage(type: number, flags: number): void {
    const { nexthop, writer, gone, agenda } = this;
    if (type === nl.RTM_NEWNEXTHOP) {
      // Routes of an earlier one of this id must not come to life again, even if that one went without a word.
      if (
        (flags & (nl.NLM_F_MULTI | nl.NLM_F_EXCL)) === nl.NLM_F_EXCL &&
        writer.nexthops.objects.has(nexthop.id)
      )
        gone.add(nexthop.id);
      if (gone.has(nexthop.id)) this.purge();
      else if (this.suspected && (flags & nl.NLM_F_MULTI) === 0 && writer.nexthops.objects.has(nexthop.id)) {
        agenda.whole("routes4");
        agenda.whole("routes6");
      }
      if (writer.nexthops.objects.upsert(nexthop) === ADDED) this.nexthops++;
    } else if (writer.nexthops.objects.remove(nexthop.id)) this.nexthopGone(nexthop.id);
  }

  /** A nexthop object is no more; neither are, without a word, the routes that used it, and groups have shrunk. */
  private nexthopGone(id: number): void {
    this.nexthops--;
    this.gone.add(id);
    this.agenda.whole("nexthops");
  }

  /** Removes the routes whose nexthop object is gone: the kernel did so in the same breath (__remove_nexthop_fib). */
  purge(): void {
    if (this.gone.size === 0) return;
    for (const family of [nl.AF_INET, nl.AF_INET6])
      this.writer.routes.endSweep(family, ALL, { nhids: this.gone });
    this.writer.nexthops.objects.forget(this.gone);
    this.gone.clear();
  }

  /** Whether a table has nothing that a sweep could find; of the small ones that is not asked. */
  empty(kind: Kind): boolean {
    const table = TABLES[kind];
    return table !== undefined && this.writer.stats[table].entries === 0;
  }

  /** All of a kind, or the routes over `oif`, is about to be dumped. Returns what endSweep wants. */
  beginSweep(kind: Kind, oif: number): number {
    const { writer } = this;
    this.partial = oif !== 0;
    this.strangers = 0;
    switch (kind) {
      case "rules":
        this.rules.beginSweep();
        return 0;
      case "netconf":
        return 0;
      case "links":
        return writer.links.beginSweep();
      case "addrs":
        return writer.addrs.beginSweep();
      case "nexthops":
        this.clearing = this.suspicions;
        return writer.nexthops.objects.beginSweep();
      case "routes4":
        if (oif === 0) this.doubts.clearTwins();
        return writer.routes.beginSweep(nl.AF_INET, !this.partial);
      case "routes6":
        if (oif === 0) this.sourced.beginSweep();
        return writer.routes.beginSweep(nl.AF_INET6, !this.partial);
      case "neighs4":
        return writer.neighs.beginSweep(nl.AF_INET);
      case "neighs6":
        return writer.neighs.beginSweep(nl.AF_INET6);
    }
  }

  /** Removes what the dump did not have, but for IPv4 routes to `spare`. Returns how many rows. */
  endSweep(kind: Kind, sweep: number, oif: number, spare?: ReadonlySet<number>): number {
    const { writer } = this;
    const only = { ...(oif !== 0 && { oif }), ...(spare && { spare }) };
    switch (kind) {
      case "rules":
        this.beyondChanged = true;
        return this.rules.endSweep();
      case "netconf":
        return 0; // goes with its interface
      case "links": {
        const gone = writer.links.endSweep(sweep);
        for (const ifindex of gone) this.changed(ifindex);
        return gone.length;
      }
      case "addrs":
        return writer.addrs.endSweep(sweep);
      case "nexthops": {
        this.cleared = this.clearing;
        const gone = writer.nexthops.objects.endSweep(sweep);
        for (const id of gone) this.nexthopGone(id);
        return gone.length;
      }
      case "routes4":
        return writer.routes.endSweep(nl.AF_INET, sweep, only);
      case "routes6": {
        const gone = writer.routes.endSweep(nl.AF_INET6, sweep, only);
        if (oif === 0) {
          this.beyondChanged = this.sourced.endSweep() > 0 || this.beyondChanged;
          this.doubts.swept6();
        }
        return gone;
      }
      case "neighs4":
        return writer.neighs.endSweep(nl.AF_INET, sweep);
      case "neighs6":
        return writer.neighs.endSweep(nl.AF_INET6, sweep);
    }
  }
}
