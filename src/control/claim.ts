// Claims: a client that begins a flow has its answers, without asking for them. The first frame of the flow waits in the
// net Worker (held.ts), the control Worker gives the client the exact tuple of the answers if it is free, and the frame
// goes out. This is the giving, and the taking back: claims end some time after their last frame, by protocol, and a
// client that wants more than it may have loses the one that was longest without a frame.
import { AF_INET, AF_INET6 } from "../wire/address.ts";
import { numberCount } from "../switch/table/layout.ts";
import { REQUEST_WORDS } from "../switch/own.ts";
import { type Match, swap16 } from "../switch/table/pattern.ts";
import {
  type Asked,
  R_CLIENT,
  R_DST,
  R_FORM,
  R_GEN,
  R_KIND,
  R_PORTS,
  R_SRC,
  REQUEST_DHCP,
  REQUEST_GONE,
} from "../switch/request.ts";
import { CONFLICT, EXISTS, FULL, type TableWriter } from "../switch/table/table.ts";

export interface ClaimRules {
  /** claims that a client may have at a time */
  readonly perClient: number;
  /**
   * The client whose oldest claim ends before `client` gets another, because their user has as many as it may have: itself, or
   * another of the user's; -1: there is room.
   */
  crowded(client: number): number;
  /** seconds that a claim lives without a frame; `protocol` -1: a DHCP transaction */
  timeout(protocol: number): number;
  /** Whether the client may have it, beside what the table says: not if it is the kernel's. */
  allows(match: Match, client: number): boolean;
  /** Whether the client may ask for an address by DHCP. */
  allowsDhcp(client: number): boolean;
  /** It is in the table; false if that is to be undone, because what steers its packets here has no room for it. */
  added(entry: number): boolean;
  /** It is about to be taken out of the table. */
  removing(entry: number): void;
  /** A net Worker found a client's channel closed. */
  gone(client: number): void;
}

/** Touches of an entry are put in order at most so often to find the oldest: the rest are as old as they were. */
const RENEWALS = 64;
const SLICE = 16_384;

export class Claims {
  granted = 0;
  refused = 0;
  evicted = 0;
  expired = 0;
  private readonly table: TableWriter;
  private readonly asked: readonly Asked[];
  private readonly touches: readonly Int32Array[];
  private readonly rules: ClaimRules;
  private readonly request = new Int32Array(REQUEST_WORDS);
  /** The client whose claims were looked at last. */
  private client = 0;
  /** How many clients' are to be looked at until all were. */
  private left = 0;
  /** When each had its last frame, as far as its place in its client's list says. */
  private readonly placed: Int32Array;

  /** @param asked, touches one a net Worker */
  constructor(
    table: TableWriter,
    asked: readonly Asked[],
    touches: readonly Int32Array[],
    rules: ClaimRules,
  ) {
    this.table = table;
    this.asked = asked;
    this.touches = touches;
    this.rules = rules;
    this.placed = new Int32Array(numberCount(table.layout.capacity));
  }

  /** Answers all that is asked, in turns, so that no Worker waits for another's queue. Returns how many requests. */
  serve(): number {
    const { table, asked, request } = this;
    let served = 0;
    for (let some = true; some; ) {
      some = false;
      for (let worker = 0; worker < asked.length; worker++) {
        if (!asked[worker]!.take(request)) continue;
        this.answer();
        table.answer(worker, asked[worker]!.taken);
        some = true;
        served++;
      }
    }
    return served;
  }

  /**
   * Once a second: ends the claims that had no frame for long enough. Looks at SLICE claims or a few more, so that no request
   * waits for long; true if there are more, which want to be looked at soon.
   */
  expire(): boolean {
    const { table, rules } = this;
    const { clients } = table.layout.capacity;
    if (this.left === 0) this.left = clients;
    for (let seen = 0; seen < SLICE && this.left > 0; this.left--) {
      this.client = (this.client + 1) % clients;
      seen += table.countOf(this.client, true);
      for (const entry of table.matchesOf(this.client, true)) {
        if (table.now - this.lastFrame(entry) <= rules.timeout(table.protocolOf(entry))) continue;
        this.remove(entry);
        this.expired++;
      }
    }
    return this.left > 0;
  }

  /** When an entry had its last frame, or began: seconds by the table's clock. */
  lastFrame(entry: number): number {
    let last = this.table.sinceOf(entry);
    for (const touches of this.touches) last = Math.max(last, touches[entry]!);
    return last;
  }

  private answer(): void {
    const { table, request, rules } = this;
    const client = request[R_CLIENT]!;
    const kind = request[R_KIND]!;
    if (!table.clients.isLive(client) || table.clients.generation(client) !== request[R_GEN]) return;
    if (kind === REQUEST_GONE) {
      rules.gone(client);
      return;
    }
    const entry = kind === REQUEST_DHCP ? this.claimDhcp(client, request[R_DST]!) : this.claim(client);
    if (entry < 0 || !rules.added(entry)) {
      if (entry >= 0) table.remove(entry);
      this.refused++;
      return;
    }
    this.granted++;
    this.placed[entry] = table.now;
  }

  private claim(client: number): number {
    const { table, request, rules } = this;
    const match = exactMatch(request);
    const refusal = table.check(match, client);
    if (refusal !== 0 && refusal !== FULL) return refusal;
    if (!rules.allows(match, client)) return CONFLICT;
    this.makeRoom(client, refusal);
    return table.add(match, client, "claim");
  }

  private claimDhcp(client: number, xid: number): number {
    const refusal = this.table.checkDhcp(xid);
    if (refusal === EXISTS) return refusal;
    if (!this.rules.allowsDhcp(client)) return CONFLICT;
    this.makeRoom(client, refusal);
    return this.table.addDhcp(xid, client);
  }

  /** Takes the oldest of a client's claims if it, or its user, has as many as it may have, or if the table is full. */
  private makeRoom(client: number, refusal: number): void {
    const { table, rules } = this;
    const isFull = refusal === FULL || table.countOf(client, true) >= rules.perClient;
    const from = isFull ? client : rules.crowded(client);
    const oldest = from < 0 ? 0 : this.oldest(from);
    if (oldest === 0) return;
    this.remove(oldest);
    this.evicted++;
  }

  /** The claim that was longest without a frame: one that had some since it was put in its place is newer than that. */
  private oldest(client: number): number {
    const { table, placed } = this;
    for (let n = 0; n < RENEWALS; n++) {
      const entry = table.oldestOf(client);
      if (entry === 0) return 0;
      const last = this.lastFrame(entry);
      if (last <= placed[entry]!) return entry;
      placed[entry] = last;
      table.renew(entry);
    }
    return table.oldestOf(client);
  }

  private remove(entry: number): void {
    this.rules.removing(entry);
    this.table.remove(entry);
  }
}

/** The exact tuple that a request asks for. */
function exactMatch(request: Int32Array): Match {
  const form = request[R_FORM]!;
  const family = (form & 0xff) === AF_INET6 ? AF_INET6 : AF_INET;
  const bits = family === AF_INET6 ? 128 : 32;
  const ports = request[R_PORTS]!;
  return {
    family,
    protocol: (form >>> 8) & 0xff,
    dst: request.slice(R_DST, R_DST + 4),
    dstPrefix: bits,
    dport: swap16(ports >>> 16),
    src: request.slice(R_SRC, R_SRC + 4),
    srcPrefix: bits,
    sport: swap16(ports & 0xffff),
  };
}
