// Static channels (usnetd's STATIC_PIPES): an endpoint of the configuration with a socket of its own, for programs that
// speak no protocol. Who connects to it (SEQPACKET, one frame a message) has the endpoint on all of the card's own
// addresses, until it hangs up; one at a time. Nobody else may take the endpoint meanwhile or before (guard.ts).
import { libc } from "../../ffi/libc.ts";
import { AF_INET } from "../wire/address.ts";
import type { Control } from "./control.ts";
import type { Local } from "./local.ts";
import type { Match } from "../switch/table/pattern.ts";
import { peerOf } from "./peer.ts";
import type { Client, Roster } from "./roster.ts";
import type { TableWriter } from "../switch/table/table.ts";
import { type Endpoint, readEndpoint } from "./wants.ts";

const SOCK_NONBLOCK_CLOEXEC = 0o2004000;

/** As the main thread made it: a listening socket. */
export interface StaticChannel {
  readonly fd: number;
  readonly path: string;
  /** "tcp:8080" */
  readonly endpoint: string;
}

export class StaticChannels {
  private readonly channels: readonly StaticChannel[];
  private readonly endpoints: readonly Endpoint[];
  private readonly control: Control;
  private readonly roster: Roster;
  private readonly table: TableWriter;
  private readonly local: Local;

  constructor(
    channels: readonly StaticChannel[],
    control: Control,
    roster: Roster,
    table: TableWriter,
    local: Local,
  ) {
    this.channels = channels;
    this.endpoints = channels.map(({ endpoint }) => readEndpoint(endpoint)!);
    this.control = control;
    this.roster = roster;
    this.table = table;
    this.local = local;
  }

  /** Somebody connects. */
  accept(which: number): void {
    const { fd: listening, path } = this.channels[which]!;
    const fd = libc.accept4(listening, null, null, SOCK_NONBLOCK_CLOEXEC);
    if (fd < 0) return;
    const { peer, pidfd } = peerOf(fd);
    if (peer === undefined || pidfd < 0 || this.roster.of(path) !== undefined) {
      libc.close(fd);
      if (pidfd >= 0) libc.close(pidfd);
      return;
    }
    let client: Client | undefined;
    try {
      client = this.control.attach(path, peer, pidfd, fd);
      this.take(client, this.endpoints[which]!);
    } catch {
      // Over a limit, or another client has what it is for: it is hung up on.
      if (client !== undefined) this.control.drop(client);
    }
  }

  /** The card's addresses have changed: whoever is connected has the endpoint on the new ones too. */
  follow(): void {
    for (const [which, { path }] of this.channels.entries()) {
      const client = this.roster.of(path);
      if (client === undefined) continue;
      try {
        this.take(client, this.endpoints[which]!);
      } catch {
        this.control.drop(client);
      }
    }
  }

  /** Gives a client an endpoint on all of the card's own addresses. @throws Refusal if another client has it, SysError */
  take(client: Client, { protocols, port, remote }: Endpoint): void {
    for (const { family, words } of this.local.own)
      for (const protocol of protocols) {
        if (protocol === (family === AF_INET ? 58 : 1)) continue; // ICMP of the other family
        if (remote !== undefined && remote.family !== family) continue;
        const match: Match = {
          family,
          protocol,
          dst: words,
          dstPrefix: family === AF_INET ? 32 : 128,
          dport: port,
          src: remote?.words ?? new Int32Array(4),
          srcPrefix: remote?.prefix ?? 0,
          sport: -1,
        };
        const entry = this.table.find(match);
        if (entry === 0 || this.table.get(entry).client !== client.slot)
          this.control.addMatch(client, match, true);
      }
  }
}
