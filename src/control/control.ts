// The control protocol at work: a request comes in, what it asks for is done or refused as a whole, and an answer goes out.
// Everything a client has is in the roster (its channel), the table (its matches) and the programs' maps (steering), and
// is taken back in the reverse order.
import type { Wanted } from "../grants/scope.ts";
import { AF_INET, formatLladdr, parseLladdr } from "../wire/address.ts";
import type { Applicant, Grants } from "./grants.ts";
import type { ClientFilters } from "./filters.ts";
import type { Guard } from "./guard.ts";
import { list, used, whoIs } from "./inquiry.ts";
import type { Local } from "./local.ts";
import type { Match } from "../switch/table/pattern.ts";
import type { Peer } from "./peer.ts";
import {
  errorAnswer,
  expects,
  readRequest,
  Refusal,
  REQUEST_BYTES,
  type Request,
  USNETD_REQUEST_BYTES,
  type WireMatch,
} from "./protocol.ts";
import { type Client, Roster } from "./roster.ts";
import type { Steering } from "./steering.ts";
import { CONFLICT, EXISTS, type Group, type TableWriter } from "../switch/table/table.ts";
import { groupOf, wantedGroup, wantedOf } from "./wanted.ts";
import { readWant } from "./wants.ts";
import { libc } from "../../ffi/libc.ts";

/** What goes back to the sender: a text, and the client's end of a channel with it. The fd is the receiver's to close. */
export interface Answer {
  readonly text: string;
  readonly fd?: number;
}

/** Who asks, and by which socket. */
export interface Asker extends Applicant {
  /** taken over by RequestUDS and by Present, else closed by the caller: -1 once it is taken */
  pidfd: number;
  /** its program may be one of usnetd's: it reads few bytes */
  readonly usnetd: boolean;
}

export interface ControlParts {
  readonly ifname: string;
  readonly table: TableWriter;
  readonly roster: Roster;
  readonly steering: Steering;
  readonly guard: Guard;
  readonly grants: Grants;
  readonly filters: ClientFilters;
  readonly local: Local;
  /** further MAC addresses that are ours: clients may have them */
  readonly macs: readonly string[];
  /** maps.addMac and the like */
  readonly setMac: (mac: Uint8Array, on: boolean) => void;
  readonly changed: (client: Client, there: boolean) => void;
  /** begins a handshake with a client that asked for memif */
  readonly serve: (client: Client) => void;
}

const OK: Answer = { text: "OK" };
const ER: Answer = { text: "ER" };
/** Refusals that usnetd has too: ER everywhere. */
const USNETD = new Set(["exists", "no_interface", "no_netmap"]);

export class Control {
  readonly counts = { attached: 0, detached: 0, requests: 0, refused: 0 };
  private readonly parts: ControlParts;

  constructor(parts: ControlParts) {
    this.parts = parts;
  }

  /** Does what a request says. Returns what its sender is to hear: undefined for nothing. Never throws a Refusal. */
  answer(bytes: Uint8Array, asker: Asker): Answer | undefined {
    this.counts.requests++;
    try {
      return this.act(readRequest(bytes, asker.usnetd ? USNETD_REQUEST_BYTES : REQUEST_BYTES), asker);
    } catch (error) {
      this.counts.refused++;
      const refusal =
        error instanceof Refusal ? error : new Refusal("failed", (error as Error).message.slice(0, 500));
      const wanted = expects(bytes);
      if (wanted === "nothing") return undefined;
      if (USNETD.has(refusal.code) || (wanted === "usnetd" && asker.usnetd)) return ER;
      return { text: errorAnswer(refusal) };
    }
  }

  /** Takes back everything that a client has. */
  drop(client: Client): void {
    const { table, roster, filters, setMac, changed } = this.parts;
    for (const got of [false, true])
      for (const entry of table.matchesOf(client.slot, got)) this.removeEntry(entry);
    if (client.ownMac) setMac(client.mac, false);
    filters.left(client);
    roster.detach(client);
    this.parts.grants.left(client);
    this.counts.detached++;
    changed(client, false);
  }

  /** Attaches whoever is at the other end of `fd`, which is taken over, as `pidfd` is. @throws Refusal, SysError */
  attach(path: string, peer: Peer, pidfd: number, fd: number, channel: Client["channel"] = "socket"): Client {
    const { roster, local, changed } = this.parts;
    const client = roster.attach(path, peer, pidfd, fd, channel, local.mac, local.mtu);
    this.counts.attached++;
    this.parts.filters.came(client);
    try {
      changed(client, true);
    } catch (error) {
      this.drop(client);
      throw error;
    }
    return client;
  }

  /** Gives a client a match that need not be asked for again. @throws Refusal, SysError; nothing has changed then */
  addMatch(client: Client, match: Match, granted = false): void {
    const { table, roster, guard, grants, steering } = this.parts;
    if (!granted) grants.match(client, match, () => this.matches(client));
    roster.room(client);
    const refusal = table.check(match, client.slot);
    if (refusal === EXISTS) throw new Refusal("exists", "there is exactly that match already");
    if (refusal === CONFLICT)
      throw new Refusal("conflict", "it would take packets of another client's match");
    if (refusal !== 0) throw new Refusal("limit", "the table is full, or has too many kinds of wildcards");
    if (!granted) guard.check(match, client.peer);
    const entry = table.add(match, client.slot, "match");
    try {
      steering.add(match, client.slot);
    } catch (error) {
      table.remove(entry);
      throw error;
    }
    roster.count(client, 1);
  }

  /** Takes back what a client may not have, or not any more. Returns whether there was something. */
  review(client: Client): boolean {
    const { table, roster, grants, local } = this.parts;
    const allowance = grants.of(client);
    if (!allowance) return false;
    if (allowance.scopes.length === 0) {
      this.drop(client);
      return true;
    }
    let taken = false;
    for (const got of [false, true])
      for (const entry of table.matchesOf(client.slot, got)) {
        const wanted = wantedOf(table.get(entry));
        if ((got ? allowance.flow(wanted) : allowance.match(wanted)) === undefined) continue;
        this.removeEntry(entry);
        if (!got) roster.count(client, -1);
        taken = true;
      }
    if (client.ownMac && allowance.mac(formatLladdr(client.mac)) !== undefined) {
      this.giveMac(client, local.mac);
      taken = true;
    }
    client.packetsPerSecond = allowance.packetsPerSecond;
    roster.update(client, local.mtu);
    return taken;
  }

  /** What a client has asked for. */
  private *matches(client: Client): Generator<Wanted> {
    const { table } = this.parts;
    for (const entry of table.matchesOf(client.slot)) yield wantedOf(table.get(entry));
  }

  private act(request: Request, asker: Asker): Answer | undefined {
    switch (request.kind) {
      case "RequestUDS":
        return this.channel(request.ifname, asker, "socket");
      case "RequestMemif":
        return this.channel(request.ifname, asker, "memif");
      case "RequestNetmapPipe":
        throw new Refusal("no_netmap", "there is no netmap here: ask for RequestUDS");
      case "AddMatch":
        this.add(this.client(asker), request.match);
        return OK;
      case "RemoveMatch":
        this.remove(this.client(asker), request.match);
        return undefined;
      case "DeleteClient":
        this.drop(this.client(asker));
        return undefined;
      case "QueryUsedPorts":
        return { text: used(this.parts) };
      case "WhoAmI":
        return { text: JSON.stringify({ Client: whoIs(this.parts, asker) }) };
      case "ListMatches":
        return { text: list(this.parts, this.client(asker)) };
      case "SetMac":
        this.setMac(this.client(asker), request.mac);
        return OK;
      case "Challenge":
      case "ListGrants":
        return { text: this.parts.grants.answer(request, asker) };
      case "Present": {
        const text = this.parts.grants.answer(request, asker);
        const client = this.parts.roster.of(asker.path);
        if (client) this.review(client);
        return { text };
      }
      case "RequestAcks":
        return { text: "$", fd: this.parts.roster.acknowledge(this.client(asker)) };
      case "InstallFilter":
      case "RemoveFilter":
      case "ListFilters": {
        const client = this.client(asker);
        const text = this.parts.filters.act(request, client, (match) => this.find(client, match));
        if (request.kind !== "ListFilters") this.review(client); // a grant may be for those alone who have a filter
        return { text };
      }
    }
  }

  /** @throws Refusal if the sender has no channel, or the client at that path is somebody else */
  private client(asker: Asker): Client {
    const client = this.parts.roster.of(asker.path);
    if (!client) this.parts.grants.attach(asker);
    if (!client) throw new Refusal("no_channel", "ask for a channel first: RequestUDS");
    if (client.peer.uid !== asker.peer.uid)
      throw new Refusal("not_yours", `the client at this path belongs to uid ${client.peer.uid}`);
    return client;
  }

  private channel(ifname: string, asker: Asker, channel: Client["channel"]): Answer {
    const { roster, grants, serve } = this.parts;
    if (ifname !== this.parts.ifname)
      throw new Refusal("no_interface", `this netd serves ${this.parts.ifname}`);
    grants.attach(asker);
    // Who asks again has begun anew, in the same socket or in another at the same path.
    if (roster.of(asker.path)) this.drop(this.client(asker));
    const [ours, theirs] = Roster.channel(channel);
    const { pidfd } = asker;
    asker.pidfd = -1;
    try {
      const client = this.attach(asker.path, asker.peer, pidfd, ours, channel);
      if (channel === "memif") serve(client); // its socket is closed with it from now on
      grants.govern(client, asker);
      this.review(client);
    } catch (error) {
      if (channel === "memif" && roster.of(asker.path) === undefined) libc.close(ours);
      libc.close(theirs);
      throw error;
    }
    return { text: "$", fd: theirs };
  }

  private add(client: Client, wire: WireMatch): void {
    const { table, roster, grants, local, steering } = this.parts;
    local.refresh(performance.now());
    const want = readWant(wire, local);
    if (want.kind === "match") {
      this.addMatch(client, want.match);
      return;
    }
    grants.match(client, wantedGroup(want.group), () => this.matches(client));
    roster.room(client);
    const entry = table.addGroup(want.group, client.slot);
    if (entry === EXISTS) throw new Refusal("exists", "this client is in that group already");
    if (entry < 0) throw new Refusal("limit", "the table is full");
    try {
      steering.addGroup(want.group);
    } catch (error) {
      table.remove(entry);
      throw error;
    }
    roster.count(client, 1);
    this.parts.filters.joined(client.slot, entry, table.get(entry).match);
  }

  private remove(client: Client, wire: WireMatch): void {
    this.removeEntry(this.find(client, wire));
    this.parts.roster.count(client, -1);
  }

  /** The entry of a match that the client asked for. @throws Refusal */
  private find(client: Client, wire: WireMatch): number {
    const { table, local } = this.parts;
    const want = readWant(wire, local);
    let found = 0;
    if (want.kind === "match") found = table.find(want.match);
    else
      for (const entry of table.matchesOf(client.slot)) if (isMember(table, entry, want.group)) found = entry;
    if (found === 0) throw new Refusal("no_match", "there is no such match");
    const { client: owner, kind } = table.get(found);
    if (owner !== client.slot || kind === "claim")
      throw new Refusal("not_yours", "that match is another client's");
    return found;
  }

  /** Out of the program's map first, so that what is still redirected finds its client. */
  private removeEntry(entry: number): void {
    const { table, steering } = this.parts;
    const { kind, match, client } = table.get(entry);
    if (kind === "group") steering.removeGroup(groupOf(match));
    else if (kind === "dhcp") steering.removeDhcp(match.dst[0]!);
    else steering.remove(match, kind === "match" ? client : -1);
    if (kind === "claim" || kind === "dhcp") this.parts.roster.claimed(client, -1);
    table.remove(entry);
    this.parts.filters.forget(client, entry);
  }

  private setMac(client: Client, text: string): void {
    const { local, macs } = this.parts;
    const mac = parseLladdr(text);
    if (mac?.length !== 6) throw new Refusal("bad_mac", `"${text.slice(0, 50)}" is no MAC address`);
    const name = formatLladdr(mac);
    if ((mac[0]! & 1) !== 0 || mac.every((byte) => byte === 0))
      throw new Refusal("bad_mac", "a client's address is that of one host");
    const back = name === formatLladdr(local.mac);
    if (!back && (mac[0]! & 2) === 0 && !macs.includes(name))
      throw new Refusal("not_allowed", "neither locally administered (02:...) nor in switch.macs");
    if (!back) this.parts.grants.mac(client, name);
    this.giveMac(client, mac);
  }

  /** @throws Refusal if another client has it */
  giveMac(client: Client, mac: Uint8Array): void {
    const { roster, local } = this.parts;
    const name = formatLladdr(mac);
    const back = name === formatLladdr(local.mac);
    for (const other of back ? [] : roster.all())
      if (other !== client && other.ownMac && formatLladdr(other.mac) === name)
        throw new Refusal("conflict", "another client has it");
    if (!back) this.parts.setMac(mac, true);
    if (client.ownMac && formatLladdr(client.mac) !== name) this.parts.setMac(client.mac, false);
    client.mac = mac;
    client.ownMac = !back;
    roster.update(client, local.mtu);
  }
}

function isMember(table: TableWriter, entry: number, group: Group): boolean {
  const { kind, match } = table.get(entry);
  if (kind !== "group" || match.family !== group.family || match.protocol !== group.protocol) return false;
  if (match.dport !== group.port) return false;
  const words = match.family === AF_INET ? 1 : 4;
  for (let i = 0; i < words; i++) if (match.dst[i] !== group.address[i]) return false;
  return true;
}
