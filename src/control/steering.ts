// The table's matches as the XDP and tc programs see them: two views of one set. A match enters the table first and the
// program's map second, and leaves in the reverse order, so that every frame which is redirected finds its client.
//
//   exact 5-tuple       -> flows       (destination, port) -> matches        anything else -> wild
//   group               -> groups      DHCP transaction    -> dhcp
//   an address that a match gives in full and the kernel does not have -> owned, as long as both is so: frames that ask
//   for it (ARP, neighbour solicitations, echo) are redirected, and answered for the first client that has it
import { AF_INET, formatAddress, swap32 } from "../wire/address.ts";
import type { SteerMaps } from "../xdp/maps.ts";
import type { Local } from "./local.ts";
import type { Match } from "../switch/table/pattern.ts";
import { Refusal } from "./protocol.ts";
import type { Group } from "../switch/table/table.ts";

/** Of src/xdp/maps.ts, what is called here. They throw SysError if a map is full. */
export type Maps = Pick<
  SteerMaps,
  "add" | "remove" | "addGroup" | "removeGroup" | "addOwned" | "removeOwned" | "addDhcp" | "removeDhcp"
>;

/** Of the table, what says whose an address is. */
export interface Owners {
  /** false: there is no room */
  addOwned(family: 2 | 10, address: Int32Array, client: number): boolean;
  removeOwned(family: 2 | 10, address: Int32Array): void;
}

interface Owned {
  readonly family: 2 | 10;
  readonly words: Int32Array;
  /** matches that give it, by client */
  readonly counts: Map<number, number>;
  /** whose it is in table and map; -1: nobody's, it is in neither */
  owner: number;
}

export class Steering {
  private readonly maps: Maps;
  private readonly owners: Owners;
  private readonly local: Local;
  private readonly owned = new Map<string, Owned>();
  private readonly groups = new Map<string, number>();

  constructor(maps: Maps, owners: Owners, local: Local) {
    this.maps = maps;
    this.owners = owners;
    this.local = local;
  }

  /**
   * @param client who asked for it; -1 for a claim, whose address is had already
   * @throws SysError if a map is full; nothing has changed then
   */
  add(match: Match, client: number): void {
    const held = client >= 0 && match.dstPrefix === bitsOf(match);
    if (held) this.hold(match.family, match.dst, client);
    try {
      this.maps.add(match);
    } catch (error) {
      if (held) this.release(match.family, match.dst, client);
      throw error;
    }
  }

  remove(match: Match, client: number): void {
    this.maps.remove(match);
    if (client >= 0 && match.dstPrefix === bitsOf(match)) this.release(match.family, match.dst, client);
  }

  /** Many clients may be in a group: the map has it while one is. */
  addGroup(group: Group): void {
    const key = keyOf(group);
    const members = this.groups.get(key) ?? 0;
    if (members === 0) this.maps.addGroup(listenerOf(group));
    this.groups.set(key, members + 1);
  }

  removeGroup(group: Group): void {
    const key = keyOf(group);
    const members = this.groups.get(key)! - 1;
    if (members > 0) this.groups.set(key, members);
    else {
      this.groups.delete(key);
      this.maps.removeGroup(listenerOf(group));
    }
  }

  /** @param xid a memory word */
  addDhcp(xid: number): void {
    this.maps.addDhcp(swap32(xid) >>> 0);
  }

  removeDhcp(xid: number): void {
    this.maps.removeDhcp(swap32(xid) >>> 0);
  }

  /** Whether a client has an address by a match of its own. */
  has(family: number, words: Int32Array, client: number): boolean {
    return this.owned.get(formatAddress(family, words))?.counts.has(client) ?? false;
  }

  /** The kernel's addresses have changed: what it has is not a client's alone any more, what it lost may be. */
  follow(): void {
    for (const owned of this.owned.values())
      try {
        this.decide(owned);
      } catch {
        // No room for it: nobody is answered for it, as if the kernel still had it.
      }
  }

  private hold(family: 2 | 10, words: Int32Array, client: number): void {
    const key = formatAddress(family, words);
    const owned = this.owned.get(key) ?? { family, words: words.slice(), counts: new Map(), owner: -1 };
    owned.counts.set(client, (owned.counts.get(client) ?? 0) + 1);
    this.owned.set(key, owned);
    try {
      this.decide(owned);
    } catch (error) {
      this.release(family, words, client);
      throw error;
    }
  }

  private release(family: 2 | 10, words: Int32Array, client: number): void {
    const key = formatAddress(family, words);
    const owned = this.owned.get(key)!;
    const left = owned.counts.get(client)! - 1;
    if (left > 0) owned.counts.set(client, left);
    else owned.counts.delete(client);
    this.decide(owned);
    if (owned.counts.size === 0) this.owned.delete(key);
  }

  private decide(owned: Owned): void {
    const { family, words, counts, owner } = owned;
    const [first = -1] = this.local.has(family, words) ? [] : counts.keys();
    const next = counts.has(owner) && first >= 0 ? owner : first;
    if (next === owner) return;
    if (owner >= 0) {
      if (next < 0) this.maps.removeOwned(family, words);
      this.owners.removeOwned(family, words);
      owned.owner = -1;
    }
    if (next < 0) return;
    if (!this.owners.addOwned(family, words, next))
      throw new Refusal("limit", "the table has no room for another address");
    try {
      if (owner < 0) this.maps.addOwned(family, words);
    } catch (error) {
      this.owners.removeOwned(family, words);
      throw error;
    }
    owned.owner = next;
  }
}

const bitsOf = ({ family }: Match): number => (family === AF_INET ? 32 : 128);

const listenerOf = ({ family, protocol, address, port }: Group) => ({
  family,
  protocol,
  dst: address,
  dport: port,
});

const keyOf = ({ family, protocol, address, port }: Group): string =>
  `${family} ${protocol} ${formatAddress(family, address)} ${port}`;
