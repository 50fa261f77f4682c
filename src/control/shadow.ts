// Programs of this host that bind a port which a client has had before them, or connect from it, as the kernel may choose one:
// it asks nobody, and they would wait for packets in silence. Looked for now and then, and told as warnings for as long
// as it is so.
import type { SysError } from "../../ffi/errno.ts";
import type { TableReader } from "../switch/table/find.ts";
import { portsWord } from "../switch/table/pattern.ts";
import { AF_INET, formatAddress } from "../wire/address.ts";
import type { Guard } from "./guard.ts";
import type { Local } from "./local.ts";
import type { Roster } from "./roster.ts";
import { type KernelSocket, PROTOCOLS, type SockDiag, socketText, takes } from "./sockdiag.ts";

const EVERY_MS = 2000;
const TOLD = 16;

export class Shadows {
  /** A sentence a socket, TOLD of them at most. */
  warnings: readonly string[] = [];
  private readonly table: TableReader;
  private readonly sockets: SockDiag;
  private readonly local: Local;
  private readonly roster: Roster;
  private readonly guard: Guard;
  private due = 0;

  constructor(table: TableReader, sockets: SockDiag, local: Local, roster: Roster, guard: Guard) {
    this.table = table;
    this.sockets = sockets;
    this.local = local;
    this.roster = roster;
    this.guard = guard;
  }

  /** Looks, if it was long ago. @param now milliseconds */
  tick(now: number): void {
    if (now < this.due) return;
    this.due = now + EVERY_MS;
    try {
      this.warnings = this.roster.size === 0 ? [] : this.look();
    } catch (error) {
      this.warnings = [
        `ports that clients have may be bound by programs of this host: ${(error as SysError).message}`,
      ];
    }
  }

  private look(): string[] {
    const found = new Set<string>();
    for (const protocol of PROTOCOLS)
      for (const socket of [...this.sockets.listeners(protocol), ...this.sockets.connections(protocol)])
        for (const { family, words } of this.local.own) {
          if (!takes(socket, family, words)) continue;
          const client = this.owner(family, words, socket);
          if (!client || this.guard.mayTakeKernels(client.peer)) continue;
          const { pid, uid } = client.peer;
          const address = formatAddress(family, words);
          found.add(
            `the ${socketText(socket)} gets nothing to ${address}: client ${client.slot} (pid ${pid}, uid ${uid}) has that port`,
          );
        }
    return [...found].slice(0, TOLD);
  }

  /** The client that has what should come to a socket at an address. */
  private owner(family: number, words: Int32Array, socket: KernelSocket) {
    const { table, roster } = this;
    const { protocol, remote, remotePort, localPort } = socket;
    const ports = portsWord(remotePort, localPort);
    if (family === AF_INET) return roster.at(table.find4(protocol, words[0]!, remote[0]!, ports));
    const header = new Int32Array(8);
    header.set(words);
    header.set(remote, 4);
    return roster.at(table.find6(header, 0, 4, protocol, ports));
  }
}
