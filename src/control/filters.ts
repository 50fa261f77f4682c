// What clients ask for about filters, in the control Worker: programs are verified and counted here, and put where the net
// Workers find them (switch/filters/). A client has one filter for each direction of all its packets, and one for each of
// its matches; a filter that is installed where there is one takes its place between two packets.
import { type Program, programHash } from "../filter/program.ts";
import { verify } from "../filter/verify.ts";
import { type Direction, RECEIVE, TRANSMIT } from "../switch/filters/layout.ts";
import { concerns, type Rule } from "../switch/filters/rule.ts";
import type { FilterWriter } from "../switch/filters/writer.ts";
import type { Match } from "../switch/table/pattern.ts";
import { FILTERS_FROM, FILTERS_TO } from "../switch/table/layout.ts";
import type { FilterRequest, FilterPlace } from "./filterwire.ts";
import { Groups } from "./groups.ts";
import { Refusal, type WireMatch } from "./protocol.ts";
import type { Client } from "./roster.ts";

export interface FilterLimits {
  readonly filtersPerClient: number;
  /** of all filters of a client together */
  readonly instructionsPerClient: number;
}

export interface FilterParts {
  readonly writer: FilterWriter;
  readonly limits: FilterLimits;
  readonly rules: readonly Rule[];
  clientAt(slot: number): Client | undefined;
  /** A match as AddMatch has it, by its entry. */
  describe(entry: number): object;
  /** A client's flags have changed. */
  flagged(client: Client): void;
}

/** What the control Worker knows of a client's filters. */
interface Held {
  /** entries of matches that have one */
  readonly matches: Set<number>;
  count: number;
  instructions: number;
}

export class ClientFilters {
  /**
   * Whether a client may have a verified program. @throws Refusal if not
   * @param entry of a match; 0: it is for all of the client's packets
   */
  mayInstall: (client: Client, program: Program, direction: Direction, entry: number) => void = () => {};
  private readonly parts: FilterParts;
  private readonly isStateful: boolean;
  private readonly held = new Map<number, Held>();
  private readonly groups: Groups;

  constructor(parts: FilterParts) {
    this.parts = parts;
    this.groups = new Groups(parts.writer);
    this.isStateful = parts.rules.some(({ established }) => established);
  }

  /** Does what a request asks for. Returns the answer. @throws Refusal @param find the entry of a match of the client */
  act(request: FilterRequest, client: Client, find: (match: WireMatch) => number): string {
    if (request.kind === "ListFilters") return this.list(client);
    const entry = this.entryOf(request, find);
    if (request.kind === "InstallFilter") this.install(client, entry, request.direction, request.program);
    else this.remove(client, entry, request.direction);
    return "OK";
  }

  /** A client has come: rules may be about its packets. */
  came(client: Client): void {
    this.flag(client);
  }

  /** A client has joined a group, by this entry. */
  joined(client: number, entry: number, group: Match): void {
    this.groups.join(client, entry, group);
  }

  /** The match is gone, and its filter with it. */
  forget(client: number, entry: number): void {
    this.groups.leave(client, entry);
    const held = this.held.get(client);
    if (!held?.matches.delete(entry)) return;
    this.take(client, held, entry, RECEIVE);
    const one = this.parts.clientAt(client);
    if (one !== undefined) this.flag(one);
  }

  /** The client is gone. */
  left({ slot }: Client): void {
    const held = this.held.get(slot);
    if (held === undefined) return;
    for (const entry of held.matches) this.take(slot, held, entry, RECEIVE);
    for (const direction of [RECEIVE, TRANSMIT] as const)
      if (this.parts.writer.find(slot, 0, direction) !== 0) this.take(slot, held, 0, direction);
    this.held.delete(slot);
  }

  /** Names (programHash) of the filters that judge all that a client gets. */
  hashes({ slot }: Client): string[] {
    const { writer } = this.parts;
    const row = writer.find(slot, 0, RECEIVE);
    return row === 0 ? [] : [programHash(writer.program(row))];
  }

  /** Does what is due. Returns whether more will be soon. */
  settle(): boolean {
    this.parts.writer.reclaim();
    return this.groups.settle();
  }

  private entryOf({ match, direction }: FilterPlace, find: (match: WireMatch) => number): number {
    if (match === undefined) return 0;
    if (direction === TRANSMIT)
      throw new Refusal("bad_filter", "a match is about what comes in: a filter for what goes out has none");
    return find(match);
  }

  private install(client: Client, entry: number, direction: Direction, program: Program): void {
    const { writer, limits } = this.parts;
    const fault = verify(program, true);
    if (fault)
      throw new Refusal("bad_filter", `${fault.at < 0 ? "" : `instruction ${fault.at}: `}${fault.message}`);
    this.mayInstall(client, program, direction, entry);
    const held = this.held.get(client.slot) ?? { matches: new Set(), count: 0, instructions: 0 };
    const before = writer.find(client.slot, entry, direction);
    const count = held.count + (before === 0 ? 1 : 0);
    const old = before === 0 ? 0 : writer.lengthOf(before);
    const instructions = held.instructions + program.length - old;
    if (count > limits.filtersPerClient)
      throw new Refusal("limit", `this client has ${held.count} filters: switch.filtersPerClient`);
    if (instructions > limits.instructionsPerClient)
      throw new Refusal(
        "limit",
        `this client's filters would have ${instructions} instructions: switch.instructionsPerClient`,
      );
    if (!writer.put(client.slot, entry, direction, program))
      throw new Refusal("limit", `there are ${writer.used} filters already: switch.filters`);
    held.count = count;
    held.instructions = instructions;
    if (entry !== 0) held.matches.add(entry);
    this.held.set(client.slot, held);
    this.flag(client);
    if (direction === RECEIVE) this.groups.filtered(client.slot, entry);
  }

  private remove(client: Client, entry: number, direction: Direction): void {
    const held = this.held.get(client.slot);
    if (held === undefined || this.parts.writer.find(client.slot, entry, direction) === 0)
      throw new Refusal("no_filter", "there is no filter");
    held.matches.delete(entry);
    this.take(client.slot, held, entry, direction);
    this.flag(client);
    if (direction === RECEIVE) this.groups.filtered(client.slot, entry);
  }

  private take(slot: number, held: Held, entry: number, direction: Direction): void {
    const { writer } = this.parts;
    held.count--;
    held.instructions -= writer.lengthOf(writer.find(slot, entry, direction));
    writer.remove(slot, entry, direction);
  }

  /** Says in the client's row whether filters are about its packets. */
  private flag(client: Client): void {
    const { writer, rules, flagged } = this.parts;
    const { isStateful } = this;
    const { slot, peer } = client;
    const isTo =
      isStateful ||
      concerns(rules, peer.uid, false) ||
      writer.find(slot, 0, RECEIVE) !== 0 ||
      (this.held.get(slot)?.matches.size ?? 0) > 0;
    const isFrom = isStateful || concerns(rules, peer.uid, true) || writer.find(slot, 0, TRANSMIT) !== 0;
    const flags =
      (client.flags & ~(FILTERS_TO | FILTERS_FROM)) | (isTo ? FILTERS_TO : 0) | (isFrom ? FILTERS_FROM : 0);
    if (flags === client.flags) return;
    client.flags = flags;
    flagged(client);
  }

  private list({ slot }: Client): string {
    const { writer, describe } = this.parts;
    const row = (direction: Direction, entry: number): object[] => {
      const found = writer.find(slot, entry, direction);
      if (found === 0) return [];
      return [
        {
          direction: direction === RECEIVE ? "Receive" : "Transmit",
          ...(entry !== 0 && { match: describe(entry) }),
          instructions: writer.lengthOf(found),
          hash: programHash(writer.program(found)),
        },
      ];
    };
    const matches = [...(this.held.get(slot)?.matches ?? [])];
    return JSON.stringify({
      Filters: [...row(RECEIVE, 0), ...row(TRANSMIT, 0), ...matches.flatMap((entry) => row(RECEIVE, entry))],
    });
  }
}
