// What belongs to the card's own kernel, as the mirror has it: addresses, link-layer address, MTU. Looked at now and then;
// between two looks the netbase is let go of (src/mem/epoch.ts), since its reader sleeps for long.
import type { NetbaseReader } from "../netbase/netbase.ts";
import { AF_INET, AF_INET6, formatAddress, formatLladdr, isGroup, swap32 } from "../wire/address.ts";
import { samePrefix } from "../wire/prefix.ts";

/** Between two looks that anybody asks for. */
const FRESH_MS = 50;

export interface OwnAddress {
  readonly family: 2 | 10;
  /** memory words; an IPv4 address in word 0 */
  readonly words: Int32Array;
}

export class Local {
  readonly ifindex: number;
  mac: Uint8Array = new Uint8Array(6);
  mtu = 0;
  /** addresses of the card */
  own: readonly OwnAddress[] = [];
  private readonly netbase: NetbaseReader;
  /** texts of all addresses in the namespace, and of the card's subnets' broadcast addresses */
  private all: ReadonlySet<string> = new Set();
  private every: readonly OwnAddress[] = [];
  private broadcasts: ReadonlySet<number> = new Set();
  private looked = Number.NEGATIVE_INFINITY;
  private text = "";

  constructor(netbase: NetbaseReader, ifindex: number) {
    this.netbase = netbase;
    this.ifindex = ifindex;
    netbase.offline();
    this.refresh(0);
  }

  /** Looks again if it was long ago. Returns whether anything is different. @param now milliseconds */
  refresh(now: number): boolean {
    if (now - this.looked < FRESH_MS) return false;
    this.looked = now;
    const { netbase, ifindex } = this;
    netbase.online();
    const addrs = netbase.addrs.all();
    const link = netbase.links.get(ifindex);
    netbase.offline();
    const every = addrs.map(({ family, local }) => ({ family: family as 2 | 10, words: local }));
    const names = every.map(({ family, words }) => formatAddress(family, words));
    const mac = link?.lladdr.slice(0, 6) ?? this.mac;
    const text = `${names.join()} ${formatLladdr(mac)} ${link?.mtu}`;
    if (text === this.text) return false;
    this.text = text;
    this.all = new Set(names);
    this.every = every;
    this.own = every.filter((_, i) => addrs[i]!.ifindex === ifindex);
    this.mac = mac;
    this.mtu = link?.mtu ?? this.mtu;
    const hosts = (prefix: number): number => (prefix === 0 ? -1 : swap32((1 << (32 - prefix)) - 1));
    this.broadcasts = new Set(
      addrs
        .filter((a) => a.family === AF_INET && a.ifindex === ifindex && a.prefixLen < 31)
        .map((a) => a.local[0]! | hosts(a.prefixLen)),
    );
    return true;
  }

  /** The kernel has this address, on whatever interface. */
  has(family: number, words: Int32Array): boolean {
    return this.all.has(formatAddress(family, words));
  }

  /** The kernel has an address under this prefix. */
  covers(family: number, words: Int32Array, prefix: number): boolean {
    return this.every.some((own) => own.family === family && samePrefix(own.words, words, prefix));
  }

  /** An address of many hosts: multicast or broadcast. */
  isGroup(family: number, words: Int32Array): boolean {
    const six = family === AF_INET6;
    return isGroup(words, 0, six) || (!six && this.broadcasts.has(words[0]!));
  }

  /** An address that never leaves a host. */
  static isLoopback(family: number, words: Int32Array): boolean {
    if (family === AF_INET) return (words[0]! & 0xff) === 127;
    return words[0] === 0 && words[1] === 0 && words[2] === 0 && words[3] === 1 << 24;
  }
}
