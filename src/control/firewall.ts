// The kernel's firewall as the configuration has it: what is open, and turning it on without cutting a connection that is
// there already. From the moment it learns, the programs record what the kernel sends; what it has from before, its sockets
// say.
import { AF_INET, AF_INET6 } from "../wire/address.ts";
import type { Flow, Open, SteerMaps } from "../xdp/maps.ts";
import type { Local } from "./local.ts";
import type { SwitchSettings } from "./settings.ts";
import { PROTOCOLS, type SockDiag } from "./sockdiag.ts";
import { readEndpoint } from "./wants.ts";

const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;

/** "udp:53:10.0.0.0/8" as the maps take it: of each family that it can be, and each protocol. */
export function openOf(text: string): Open[] {
  const { protocols, port, remote } = readEndpoint(text)!;
  const found: Open[] = [];
  for (const family of [AF_INET, AF_INET6])
    for (const protocol of protocols) {
      if (protocol === (family === AF_INET ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) continue;
      if (remote !== undefined && remote.family !== family) continue;
      found.push({
        family,
        protocol,
        port,
        remote: remote?.words ?? new Int32Array(4),
        remotePrefix: remote?.prefix ?? 0,
      });
    }
  return found;
}

/** Turns it on if the configuration says so. @throws SysError */
export function setFirewall(
  maps: SteerMaps,
  settings: SwitchSettings,
  sockets: SockDiag,
  local: Local,
): void {
  if (!settings.firewall) return;
  maps.setOpen(settings.open.flatMap(openOf));
  maps.setFirewall("learn");
  const flows: Flow[] = [];
  for (const protocol of PROTOCOLS)
    for (const { family, local: dst, localPort, remote, remotePort, listening } of sockets.holders(
      protocol,
      0,
    ))
      if (!listening && local.has(family, dst))
        flows.push({ family, protocol, dst, dport: localPort, src: remote, sport: remotePort });
  maps.seed(flows);
  maps.setFirewall("on");
}
