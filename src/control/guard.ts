// What a client may not take whoever else has it or not: the kernel's own ports, the embedded services', addresses that
// the configuration does not give to clients. The kernel is asked anew each time: it tells nobody what it binds.
import { AF_INET, formatAddress } from "../wire/address.ts";
import { type Prefix, readPrefix, samePrefix, within } from "../wire/prefix.ts";
import { Local } from "./local.ts";
import type { Match } from "../switch/table/pattern.ts";
import type { Peer } from "./peer.ts";
import { Refusal } from "./protocol.ts";
import type { SwitchSettings } from "./settings.ts";
import { type KernelSocket, PROTOCOLS, SockDiag, socketText } from "./sockdiag.ts";
import { type Endpoint, readEndpoint } from "./wants.ts";

const IPPROTO_UDP = 17;

/** An embedded service: UDP, on every own IPv4 address or on one. */
export interface ServiceMatch {
  readonly address?: number | undefined;
  readonly port: number;
}

export class Guard {
  private readonly local: Local;
  private readonly sockets: SockDiag;
  private readonly settings: SwitchSettings;
  private readonly services: readonly ServiceMatch[];
  private readonly addresses: readonly Prefix[];
  private readonly reserved: readonly Endpoint[];

  constructor(local: Local, sockets: SockDiag, settings: SwitchSettings, services: readonly ServiceMatch[]) {
    this.local = local;
    this.sockets = sockets;
    this.settings = settings;
    this.services = services;
    this.addresses = settings.addresses.map((text) => readPrefix(text)!);
    this.reserved = settings.static.map((text) => readEndpoint(text)!);
  }

  /** @throws Refusal if the client may not have this match, SysError if the kernel cannot be asked */
  check(match: Match, peer: Peer): void {
    const { local, addresses } = this;
    const { family, dst, dstPrefix } = match;
    const own = local.covers(family, dst, dstPrefix);
    if (!own && addresses.length > 0 && !within(addresses, family, dst, dstPrefix))
      throw new Refusal(
        "not_allowed",
        `${formatAddress(family, dst)} is neither the card's nor in switch.addresses`,
      );
    const service = this.services.find((taken) => own && this.isService(match, taken));
    if (service) throw new Refusal("service", `a service of netd's own has UDP port ${service.port}`);
    const reserved = this.reserved.some(
      ({ protocols, port }) =>
        own && protocols.includes(match.protocol) && (match.dport < 0 || port < 0 || port === match.dport),
    );
    if (reserved) throw new Refusal("reserved", "a static channel has that port");
    if (!own || this.mayTakeKernels(peer)) return;
    const holder = this.holder(match);
    if (holder)
      throw new Refusal("kernel_port", `the kernel has a ${socketText(holder)}; see switch.kernelUsers`);
  }

  /** Whether the configuration lets a client have what the kernel has. */
  mayTakeKernels({ uid, gid }: Peer): boolean {
    const { kernelUsers, kernelGroups } = this.settings;
    return kernelUsers.includes(uid) || kernelGroups.includes(gid);
  }

  /** Whether the answers of a flow that a client begins may be its: not what the kernel would get. */
  allows({ family, protocol, dst, dport, src, sport }: Match): boolean {
    if (!SockDiag.knows(protocol) || !this.local.has(family, dst)) return true;
    if (protocol === IPPROTO_UDP && this.services.some(({ port }) => port === dport)) return false;
    return this.sockets.receiver(family, protocol, dst, dport, src, sport) === undefined;
  }

  /** A socket of the kernel's that gets packets of the match now. */
  holder(match: Match): KernelSocket | undefined {
    const { family, protocol, dst, dstPrefix, dport, src, srcPrefix, sport } = match;
    if (!SockDiag.knows(protocol)) return undefined;
    const full = family === AF_INET ? 32 : 128;
    if (dstPrefix === full && srcPrefix === full && dport >= 0 && sport >= 0) {
      const socket = this.sockets.receiver(family, protocol, dst, dport, src, sport);
      return socket?.ending ? undefined : socket;
    }
    const held = this.sockets.holders(protocol, Math.max(dport, 0));
    return held.find((socket) => overlaps(socket, match));
  }

  /** The kernel's ports on the card's own addresses, as QueryUsedPorts lists them. */
  *kernelPorts(): Generator<{ socket: KernelSocket; family: 2 | 10; words: Int32Array }> {
    for (const protocol of PROTOCOLS)
      for (const socket of this.sockets.holders(protocol, 0))
        for (const { family, words } of this.local.own) {
          const any = socket.local.every((word) => word === 0);
          const here =
            socket.both || (socket.family === family && (any || samePrefix(socket.local, words, 128)));
          if (here) yield { socket, family, words };
        }
  }

  private isService({ family, protocol, dst, dstPrefix, dport }: Match, taken: ServiceMatch): boolean {
    if (family !== AF_INET || protocol !== IPPROTO_UDP || (dport >= 0 && dport !== taken.port)) return false;
    if (taken.address === undefined) return true;
    return samePrefix(Int32Array.of(taken.address), dst, dstPrefix);
  }
}

/** Whether there can be a packet that is the match's and the socket's. */
function overlaps(socket: KernelSocket, match: Match): boolean {
  const { family, dst, dstPrefix, src, srcPrefix, dport, sport } = match;
  if (dport >= 0 && dport !== socket.localPort) return false;
  if (socket.both) return true;
  if (socket.family !== family || Local.isLoopback(family, socket.local)) return false;
  const any = socket.local.every((word) => word === 0);
  if (!any && !samePrefix(socket.local, dst, dstPrefix)) return false;
  if (socket.anyPeer) return true;
  return samePrefix(socket.remote, src, srcPrefix) && (sport < 0 || sport === socket.remotePort);
}
