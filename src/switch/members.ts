// A packet to a group, to all the clients that asked for it. Its later fragments go to those who got the first one.
import { AF_INET } from "../wire/address.ts";
import { FIRST, P_DST, P_FAMILY, P_FRAGMENT, P_PORTS, P_PROTOCOL } from "../wire/packet.ts";
import type { Core } from "./core.ts";
import { Drop } from "./drops.ts";
import type { Followers } from "./followers.ts";
import { FROM_CLIENT, type Host } from "./host.ts";
import { FOUND_ENTRY, FOUND_TOUCH } from "./table/search.ts";

const MEMBERS = 4096;

export class Members {
  private readonly core: Core;
  private readonly host: Host;
  private readonly tally: Int32Array;
  private readonly firewall: boolean;
  private readonly members = new Int32Array(MEMBERS);
  private readonly entries = new Int32Array(MEMBERS);

  /** @param tally counts of drops by reason; @param firewall the kernel gets nothing of what clients send to many */
  constructor(core: Core, host: Host, tally: Int32Array, firewall: boolean) {
    this.firewall = firewall;
    this.core = core;
    this.host = host;
    this.tally = tally;
  }

  /**
   * Delivers packet `p` to its group, but for the client that sent it (-1: none). Returns how many are in the group.
   * @param got where a first fragment's list is begun: who gets it is added
   */
  deliver(sender: number, p: Int32Array, off: number, len: number, origin: number, got: Followers): number {
    const { core, members, entries, tally } = this;
    const { table, judge } = core;
    const isFirst = p[P_FRAGMENT] === FIRST;
    let n = judge === undefined ? -1 : judge.plans.find(p, off, len, members, entries);
    const ruledOut = n < 0 ? 0 : judge!.plans.ruledOut;
    tally[Drop.rx_filtered_client] = tally[Drop.rx_filtered_client]! + ruledOut;
    if (n < 0) n = this.find(p);
    for (let i = 0; i < n; i++) {
      const slot = members[i]!;
      if (slot === sender) continue;
      table.found[FOUND_ENTRY] = entries[i]!;
      table.found[FOUND_TOUCH] = 0;
      if (this.one(slot, p, off, len, origin) && isFirst) got.add(slot, core.generation(slot));
    }
    return n + ruledOut;
  }

  /** Delivers a later fragment to those in a list. Returns how many they were; -1 if that is not known any more. */
  follow(p: Int32Array, off: number, len: number, origin: number, got: Followers, list: number): number {
    const n = got.count(list);
    for (let i = 0; i < n; i++) {
      const slot = got.slot(list, i);
      if (this.core.isLive(slot, got.generation(list, i))) this.one(slot, p, off, len, origin);
    }
    return n;
  }

  /** A client's packet to many hosts, to those of this host: other clients of the group, and the kernel. @param got as above */
  send(slot: number, p: Int32Array, off: number, len: number, got: Followers): void {
    this.deliver(slot, p, off, len, FROM_CLIENT, got);
    this.share(slot, p, off);
  }

  /** The same for a later fragment, with the list of who got the first one. */
  sendLater(slot: number, p: Int32Array, off: number, len: number, got: Followers, list: number): void {
    if (this.follow(p, off, len, FROM_CLIENT, got, list) < 0) this.drop(slot, Drop.bad_fragment);
    this.share(slot, p, off);
  }

  private share(slot: number, p: Int32Array, off: number): void {
    if (this.firewall || !this.core.isToMany(p)) return;
    const result = this.host.share(p, off);
    if (result > 0) this.drop(slot, result);
  }

  private find(p: Int32Array): number {
    const { members, entries } = this;
    const { table, words } = this.core;
    const dst = p[P_DST]!;
    if (p[P_FAMILY] === AF_INET)
      return table.groups4(p[P_PROTOCOL]!, words[dst]!, p[P_PORTS]!, members, entries);
    return table.groups6(words, dst, p[P_PROTOCOL]!, p[P_PORTS]!, members, entries);
  }

  /** Whether the client gets it. */
  private one(slot: number, p: Int32Array, off: number, len: number, origin: number): boolean {
    const result = this.host.deliver(slot, p, off, len, origin);
    if (result <= 0) return true;
    this.drop(slot, result);
    return false;
  }

  private drop(slot: number, reason: number): void {
    this.core.accounts.drop(slot, reason);
    this.tally[reason] = this.tally[reason]! + 1;
  }
}
