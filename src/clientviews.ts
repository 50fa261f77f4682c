// Clients, matches and claims as `netd show` has them: the switch table and the net Workers' counts as plain objects
// (view.ts). The main thread reads both where they lie, as any reader does; names and rates are the switchboard's.
import type { Parts } from "./daemon.ts";
import { CLIENT_COUNTERS, FROM_BYTES, FROM_PACKETS, TO_BYTES, TO_PACKETS } from "./switch/account.ts";
import type { Entry } from "./switch/table/entry.ts";
import { CLIENT_HOME, CLIENT_MAC0, CLIENT_MAC1, CLIENT_SINCE } from "./switch/table/layout.ts";
import { timeoutOf } from "./control/settings.ts";
import { protocolName } from "./wire/protocol.ts";
import type { ClientView, MatchView, TrafficView } from "./view.ts";
import { AF_INET, formatAddress, formatLladdr, swap32 } from "./wire/address.ts";

const DROPS = FROM_BYTES + 1; // places of a row after the traffic

const traffic = (row: Float64Array): TrafficView => ({
  toPackets: row[TO_PACKETS]!,
  toBytes: row[TO_BYTES]!,
  fromPackets: row[FROM_PACKETS]!,
  fromBytes: row[FROM_BYTES]!,
  dropped: row.subarray(DROPS).reduce((sum, n) => sum + n, 0),
});

export class ClientViews {
  private readonly parts: Pick<Parts, "switchboard" | "queues" | "config">;

  constructor(parts: Pick<Parts, "switchboard" | "queues" | "config">) {
    this.parts = parts;
  }

  *clients(): Generator<ClientView> {
    const { switchboard, queues } = this.parts;
    if (!switchboard) return;
    const counts = new Map<number, { matches: number; claims: number }>();
    for (const { client, kind } of switchboard.entries()) {
      const count = counts.get(client) ?? { matches: 0, claims: 0 };
      if (kind === "claim" || kind === "dhcp") count.claims++;
      else count.matches++;
      counts.set(client, count);
    }
    const { table } = switchboard;
    for (const state of switchboard.clients()) {
      const { slot, pid, uid, gid, command, path, totals, rates } = state;
      const at = table.client(slot);
      const mac = new Uint8Array(
        Int32Array.of(table.words[at + CLIENT_MAC0]!, table.words[at + CLIENT_MAC1]!).buffer,
      );
      const drops = CLIENT_COUNTERS.slice(DROPS).map((reason, i) => [reason, totals[DROPS + i]!] as const);
      yield {
        client: slot,
        pid,
        uid,
        gid,
        command,
        path,
        mac: formatLladdr(mac.subarray(0, 6)),
        queue: queues[table.words[at + CLIENT_HOME]!]!.queue,
        seconds: table.now - table.words[at + CLIENT_SINCE]!,
        ...(counts.get(slot) ?? { matches: 0, claims: 0 }),
        ...traffic(totals),
        perSecond: traffic(rates),
        drops: Object.fromEntries(drops.filter(([, n]) => n > 0)),
      };
    }
  }

  /** What clients asked for, or what they got by sending. */
  *entries(got: boolean): Generator<MatchView> {
    const { switchboard } = this.parts;
    if (!switchboard) return;
    for (const entry of switchboard.entries())
      if (
        entry.kind !== "owned" &&
        entry.kind !== "head" &&
        (entry.kind === "claim" || entry.kind === "dhcp") === got
      )
        yield this.entry(entry, entry.kind, got);
  }

  /** One that a client asked for. */
  match(entry: Entry): MatchView {
    return this.entry(entry, entry.kind === "group" ? "group" : "match", false);
  }

  private entry(entry: Entry, kind: MatchView["kind"], got: boolean): MatchView {
    const { config } = this.parts;
    const switchboard = this.parts.switchboard!;
    const { match, client, since } = entry;
    const { family, protocol, dst, dstPrefix, dport, src, srcPrefix, sport } = match;
    const { pid = 0, command = "" } = switchboard.client(client) ?? {};
    const { now } = switchboard.table;
    const idle = now - switchboard.lastFrame(entry);
    const full = family === AF_INET ? 32 : 128;
    const address = (words: Int32Array, prefix: number): string =>
      `${formatAddress(family, words)}${prefix < full ? `/${prefix}` : ""}`;
    const lifetime = timeoutOf(config.switch, kind === "dhcp" ? -1 : protocol);
    const common = {
      client,
      pid,
      command,
      seconds: now - since,
      idle,
      ...(got && { expires: lifetime - idle }),
    };
    if (kind === "dhcp")
      return { kind, protocol: "udp", xid: (swap32(dst[0]!) >>> 0).toString(16).padStart(8, "0"), ...common };
    return {
      kind,
      protocol: protocolName(protocol),
      ...((dstPrefix > 0 || kind === "group") && { dst: address(dst, kind === "group" ? full : dstPrefix) }),
      ...(dport >= 0 && { dport }),
      ...(srcPrefix > 0 && { src: address(src, srcPrefix) }),
      ...(sport >= 0 && { sport }),
      ...common,
    };
  }
}
