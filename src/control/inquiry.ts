// What the control protocol is asked without changing anything: used ports, who am I, my matches.
import { formatAddress, formatLladdr } from "../wire/address.ts";
import type { Asker, ControlParts } from "./control.ts";
import { type UsedPort, usedPorts, writeAddress } from "./protocol.ts";
import type { Client } from "./roster.ts";
import { writeMatch } from "./wants.ts";

type Parts = Pick<ControlParts, "table" | "roster" | "guard" | "local" | "ifname">;

/** Everybody's matches, and what the kernel has on the card's addresses. */
export function used({ table, roster, guard, local }: Parts): string {
  local.refresh(performance.now());
  const listening: UsedPort[] = [];
  const connected: UsedPort[] = [];
  for (const { socket, family, words } of guard.kernelPorts())
    (socket.listening ? listening : connected).push([
      socket.protocol,
      writeAddress(family, words),
      socket.localPort,
    ]);
  for (const { slot } of roster.all())
    for (const got of [false, true])
      for (const entry of table.matchesOf(slot, got)) {
        const { kind, match } = table.get(entry);
        if (kind === "dhcp" || match.dport < 0) continue;
        (match.srcPrefix === 0 ? listening : connected).push([
          match.protocol,
          writeAddress(match.family, match.dst),
          match.dport,
        ]);
      }
  return usedPorts(listening, connected);
}

/** Who asks, by the kernel's word, and what is known of him. */
export function whoIs({ roster, table, local, ifname }: Parts, asker: Asker): object {
  const { pid, uid, gid } = asker.peer;
  const client = roster.of(asker.path);
  return {
    pid,
    uid,
    gid,
    interface: ifname,
    mtu: local.mtu,
    addresses: local.own.map(({ family, words }) => formatAddress(family, words)),
    ...(client && {
      client: client.slot,
      mac: formatLladdr(client.mac),
      matches: client.matches,
      claims: table.countOf(client.slot, true),
    }),
  };
}

/** A client's matches. */
export function list({ table }: Parts, client: Client): string {
  const matches = table.matchesOf(client.slot).map((entry) => writeMatch(table.get(entry).match));
  return JSON.stringify({ Matches: [...matches] });
}
