// The switch's side of the BPF maps (bpf/maps.h): which frames the programs turn to user space, and what the firewall lets
// the kernel have. One writer, the control thread; the programs read. Made of map fds of this process, so it needs no
// SteerProgram. Nothing here applies to frames with a VLAN tag, but for id 0.
//
// What is added or removed twice changes nothing and is answered with false. Full maps throw a SysError.
import { SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { AF_INET } from "../wire/address.ts";
import { type CardFilter, groupMac, solicitedMac } from "./filter.ts";
import {
  addressKey,
  dhcpKey,
  type Flow,
  flowKey,
  groupKey,
  type Listener,
  listenerKey,
  macKey,
  maskOf,
  type Open,
  openKey,
  type WildMatch,
  wildKey,
} from "./keys.ts";
import { type SteerMapFds, steerLayout } from "./layout.ts";
import { insert, remove, update, type Words } from "./map.ts";

const ENOSPC = 28;
const CLOCK_MONOTONIC = 1;
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;

export type { Flow, Listener, Open, WildMatch };

export type Firewall = "off" | "learn" | "on";

/** The protocols' bits in `dsts`, `any4` and `any6`: protocol_bit in bpf/hit.h. */
const protocolBits: Record<number, number> = { 6: 1, 17: 2, 132: 4, 33: 8, 136: 16, 1: 32, 58: 64 };

/** As the programs tell the time. */
function secondsSinceBoot(): number {
  const time = new BigInt64Array(new ArrayBuffer(16));
  libc.clock_gettime(CLOCK_MONOTONIC, ptr(time));
  return Number(time[0]);
}

const bitsOf = (family: number): number => (family === AF_INET ? 32 : 128);

export class SteerMaps {
  readonly #fds: SteerMapFds;
  readonly #filter: CardFilter | undefined;
  readonly #policy = new Uint32Array(new ArrayBuffer(steerLayout.steer_policy.sizeof));
  /** By pattern: family and mask as text; how many matches have it. */
  readonly #patterns: ({ name: string; matches: number } | undefined)[] = [];
  /** By destination, as text: how many matches of each protocol. */
  readonly #destinations = new Map<string, Map<number, number>>();
  /** As #destinations, of matches whose destination is not one address. */
  readonly #any = [new Map<number, number>(), new Map<number, number>()] as const;
  #listeners = 0;
  #firewall: Firewall = "off";
  #open = new Map<string, Words>();

  /** @param filter told what the card must take for the maps to see it; a card that takes all needs none */
  constructor(fds: SteerMapFds, filter?: CardFilter) {
    this.#fds = fds;
    this.#filter = filter;
  }

  /** Any match, to the map that is quickest for it. */
  add(match: WildMatch): boolean {
    const kind = kindOf(match);
    return kind === "flow"
      ? this.addFlow(match)
      : kind === "listener"
        ? this.addListener(match)
        : this.addWild(match);
  }

  remove(match: WildMatch): boolean {
    const kind = kindOf(match);
    return kind === "flow"
      ? this.removeFlow(match)
      : kind === "listener"
        ? this.removeListener(match)
        : this.removeWild(match);
  }

  addListener(listener: Listener): boolean {
    if (!insert("matches", this.#fds.matches, listenerKey(listener))) return false;
    this.#listeners++;
    this.#addDestination(listener.family, listener.dst, listener.protocol);
    return true;
  }

  removeListener(listener: Listener): boolean {
    if (!remove("matches", this.#fds.matches, listenerKey(listener))) return false;
    this.#listeners--;
    this.#removeDestination(listener.family, listener.dst, listener.protocol);
    return true;
  }

  addFlow(flow: Flow): boolean {
    if (!insert("flows", this.#fds.flows, flowKey(flow))) return false;
    this.#add("flows", 1);
    this.#addDestination(flow.family, flow.dst, flow.protocol);
    return true;
  }

  removeFlow(flow: Flow): boolean {
    if (!remove("flows", this.#fds.flows, flowKey(flow))) return false;
    this.#add("flows", -1);
    this.#removeDestination(flow.family, flow.dst, flow.protocol);
    return true;
  }

  /** @throws SysError ENOSPC where it would be the 33rd combination of family, prefix lengths and ports given */
  addWild(match: WildMatch): boolean {
    const mask = maskOf(match);
    const name = mask.join();
    let index = this.#patterns.findIndex((pattern) => pattern?.name === name);
    const fresh = index < 0;
    if (fresh) {
      const free = this.#patterns.indexOf(undefined);
      index = free < 0 ? this.#patterns.length : free;
    }
    if (index >= steerLayout.STEER_PATTERNS)
      throw new SysError(
        "add a match with wildcards",
        ENOSPC,
        `there are ${steerLayout.STEER_PATTERNS} combinations of prefix lengths and ports already`,
      );
    if (!insert("wild", this.#fds.wild, wildKey(match, mask, index))) return false;
    if (fresh) {
      update("patterns", this.#fds.patterns, Uint32Array.of(index), mask);
      this.#patterns[index] = { name, matches: 0 };
      this.#set("patterns", this.#patterns.length);
    }
    this.#patterns[index]!.matches++;
    if (match.dstPrefix === bitsOf(match.family))
      this.#addDestination(match.family, match.dst, match.protocol);
    else this.#changeAny(match.family, match.protocol, 1);
    this.#flags();
    return true;
  }

  removeWild(match: WildMatch): boolean {
    const mask = maskOf(match);
    const name = mask.join();
    const index = this.#patterns.findIndex((pattern) => pattern?.name === name);
    if (index < 0 || !remove("wild", this.#fds.wild, wildKey(match, mask, index))) return false;
    if (match.dstPrefix === bitsOf(match.family))
      this.#removeDestination(match.family, match.dst, match.protocol);
    else this.#changeAny(match.family, match.protocol, -1);
    if (--this.#patterns[index]!.matches === 0) {
      update("patterns", this.#fds.patterns, Uint32Array.of(index), new Uint8Array(mask.length));
      this.#patterns[index] = undefined;
      while (this.#patterns.length > 0 && this.#patterns.at(-1) === undefined) this.#patterns.pop();
      this.#set("patterns", this.#patterns.length);
    }
    this.#flags();
    return true;
  }

  /** ARP, neighbour discovery and ICMP for this address, which the kernel does not have, are redirected. */
  addOwned(family: number, address: Int32Array): boolean {
    if (!insert("owned", this.#fds.owned, addressKey(family, address))) return false;
    this.#addDestination(family, address, family === AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
    this.#take(solicitedMac(family, address), true);
    this.#add("owned", 1);
    return true;
  }

  removeOwned(family: number, address: Int32Array): boolean {
    if (!remove("owned", this.#fds.owned, addressKey(family, address))) return false;
    this.#removeDestination(family, address, family === AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
    this.#take(solicitedMac(family, address), false);
    this.#add("owned", -1);
    return true;
  }

  /** Frames to this MAC are ours too, beside those to the card's own. */
  addMac(mac: Uint8Array): boolean {
    if (!insert("macs", this.#fds.macs, macKey(mac))) return false;
    this.#take(mac, true);
    this.#add("macs", 1);
    return true;
  }

  removeMac(mac: Uint8Array): boolean {
    if (!remove("macs", this.#fds.macs, macKey(mac))) return false;
    this.#take(mac, false);
    this.#add("macs", -1);
    return true;
  }

  /** Packets to this broadcast or multicast address and port (0: all, and protocols without ports) go to the tap too. */
  addGroup(group: Listener): boolean {
    if (!insert("groups", this.#fds.groups, groupKey(group))) return false;
    this.#addDestination(group.family, group.dst, group.protocol);
    this.#take(groupMac(group.family, group.dst), true);
    this.#add("groups", 1);
    return true;
  }

  removeGroup(group: Listener): boolean {
    if (!remove("groups", this.#fds.groups, groupKey(group))) return false;
    this.#removeDestination(group.family, group.dst, group.protocol);
    this.#take(groupMac(group.family, group.dst), false);
    this.#add("groups", -1);
    return true;
  }

  /** @param xid the transaction id, as a number: 0x3903f326 for bytes 39 03 f3 26 */
  addDhcp(xid: number): boolean {
    if (!insert("dhcp", this.#fds.dhcp, dhcpKey(xid))) return false;
    this.#add("dhcp", 1);
    return true;
  }

  removeDhcp(xid: number): boolean {
    if (!remove("dhcp", this.#fds.dhcp, dhcpKey(xid))) return false;
    this.#add("dhcp", -1);
    return true;
  }

  /** Makes the list of what the firewall lets in this one. */
  setOpen(list: readonly Open[]): void {
    const wanted = new Map(list.map((open) => [openKey(open).join(), openKey(open)]));
    for (const [name, key] of wanted) if (!this.#open.has(name)) insert("open", this.#fds.open, key);
    for (const [name, key] of this.#open) if (!wanted.has(name)) remove("open", this.#fds.open, key);
    this.#open = wanted;
  }

  /**
   * `learn`: nothing is dropped, the kernel's flows are recorded. To turn it on without cutting a connection: `learn`, then
   * list the sockets there are and `seed` them, then `on`.
   */
  setFirewall(firewall: Firewall): void {
    this.#firewall = firewall;
    this.#flags();
  }

  /**
   * Flows that the kernel has already: dst and dport are its own. Returns how many there were. @param idle seconds since their
   * last packet
   */
  seed(flows: Iterable<Flow>, idle = 0): number {
    let count = 0;
    const last = Uint32Array.of(secondsSinceBoot() - idle);
    for (const flow of flows) {
      update("kernel_flows", this.#fds.kernelFlows, flowKey(flow), last);
      count++;
    }
    return count;
  }

  #take(mac: Uint8Array | undefined, on: boolean): void {
    if (mac === undefined) return;
    if (on) this.#filter?.add(mac);
    else this.#filter?.remove(mac);
  }

  #addDestination(family: number, address: Int32Array, protocol: number): void {
    const key = addressKey(family, address);
    const name = key.join();
    let counts = this.#destinations.get(name);
    if (counts === undefined) this.#destinations.set(name, (counts = new Map()));
    change(counts, protocol, 1);
    if (counts.get(protocol) === 1) update("dsts", this.#fds.dsts, key, Uint32Array.of(bits(counts)));
    this.#flags();
  }

  #removeDestination(family: number, address: Int32Array, protocol: number): void {
    const key = addressKey(family, address);
    const name = key.join();
    const counts = this.#destinations.get(name)!;
    change(counts, protocol, -1);
    if (counts.size === 0) {
      this.#destinations.delete(name);
      remove("dsts", this.#fds.dsts, key);
    } else if (!counts.has(protocol)) update("dsts", this.#fds.dsts, key, Uint32Array.of(bits(counts)));
    this.#flags();
  }

  #changeAny(family: number, protocol: number, by: number): void {
    const counts = this.#any[family === AF_INET ? 0 : 1];
    change(counts, protocol, by);
    this.#set(family === AF_INET ? "any4" : "any6", bits(counts));
  }

  #flags(): void {
    const { STEER_SWITCH, STEER_RECORD, STEER_DROP } = steerLayout;
    const at = steerLayout.steer_policy;
    const counts = [at.flows, at.patterns, at.macs, at.owned, at.groups, at.dhcp];
    const any = this.#listeners > 0 || counts.some((offset) => this.#policy[offset / 4] !== 0);
    const firewall = { off: 0, learn: STEER_RECORD, on: STEER_RECORD | STEER_DROP }[this.#firewall];
    this.#set("flags", (any ? STEER_SWITCH : 0) | firewall);
  }

  #add(field: "flows" | "macs" | "owned" | "groups" | "dhcp", by: number): void {
    this.#set(field, this.#policy[steerLayout.steer_policy[field] / 4]! + by);
    this.#flags();
  }

  #set(field: keyof typeof steerLayout.steer_policy, value: number): void {
    const word = steerLayout.steer_policy[field] / 4;
    if (this.#policy[word] === value) return;
    this.#policy[word] = value;
    update("policy", this.#fds.policy, new Uint32Array(1), this.#policy);
  }
}

function kindOf({ family, dstPrefix, dport, srcPrefix, sport }: WildMatch): "flow" | "listener" | "wild" {
  const all = bitsOf(family);
  if (dstPrefix !== all || dport < 0) return "wild";
  if (srcPrefix === all && sport >= 0) return "flow";
  return srcPrefix === 0 && sport < 0 ? "listener" : "wild";
}

function change(counts: Map<number, number>, protocol: number, by: number): void {
  const count = (counts.get(protocol) ?? 0) + by;
  if (count > 0) counts.set(protocol, count);
  else counts.delete(protocol);
}

const bits = (counts: Map<number, number>): number =>
  [...counts.keys()].reduce((sum, protocol) => sum | (protocolBits[protocol] ?? 0), 0);
