// The embedded services' matches, held to the card's own addresses: a service without an address of its own is on
// every IPv4 address that the card has, also on those that come later. One list, two views of it: the table that the
// net loops read, and the map of the XDP program. A match enters the table first and leaves it last, so that a frame
// which the program redirects always finds its endpoint.
import type { ServiceConfig } from "./config.ts";
import type { Match, MatchTable } from "./switch/match.ts";
import { AF_INET, formatIPv4, parseIPv4 } from "./wire/address.ts";
import type { SteerProgram } from "./xdp/program.ts";

const IPPROTO_UDP = 17;

export class Services {
  private readonly configured: readonly ServiceConfig[];
  private readonly table: MatchTable;
  private readonly program: SteerProgram;
  private readonly active = new Map<string, Match>();
  /** Matches that found no room. */
  private refused = 0;

  constructor(configured: readonly ServiceConfig[], table: MatchTable, program: SteerProgram) {
    this.configured = configured;
    this.table = table;
    this.program = program;
  }

  /** Makes the matches those of the given own addresses (memory words). Cheap if nothing changed. */
  sync(addresses: readonly number[]): void {
    const wanted = new Map<string, Match>();
    for (const { address, port } of this.configured)
      for (const own of address === undefined ? addresses : [parseIPv4(address)!])
        wanted.set(`echo ${formatIPv4(own)}:${port}`, { protocol: IPPROTO_UDP, address: own, port });
    for (const [name, match] of this.active)
      if (!wanted.has(name)) {
        this.program.removeMatch(steer(match));
        this.table.remove(match);
        this.active.delete(name);
      }
    this.refused = 0;
    for (const [name, match] of wanted)
      if (!this.active.has(name)) {
        if (!this.table.set(match, 0)) {
          this.refused++;
          continue;
        }
        this.program.addMatch(steer(match));
        this.active.set(name, match);
      }
  }

  /** What an operator should know. */
  get warnings(): string[] {
    const { active, refused } = this;
    return refused === 0
      ? []
      : [`services: ${refused} matches found no room beside ${active.size}: fewer addresses or services`];
  }

  /** "echo 10.77.0.1:7"... */
  get names(): string[] {
    return [...this.active.keys()];
  }
}

const steer = ({ protocol, address, port }: Match) => ({
  family: AF_INET,
  proto: protocol,
  address: Int32Array.of(address, 0, 0, 0),
  port,
});
