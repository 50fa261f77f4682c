// The mirror: the kernel's links, addresses, routes, nexthop objects, neighbours and rules in the netbase, from the
// first dump on. One thread owns it, sleeps in epoll on `fd` and calls `turn`.
//
//   events (subscribed first) --> applied at once; those of the kind that is being dumped wait until the dump is in
//   agenda -> dump of a kind  --> rows stamped; if nothing of the kind changed under it (a quiet dump), rows that
//                                 it did not have are swept. Never flush and refill.
// A dump that was not quiet only adds; it stays on the agenda, and is repeated. ENOBUFS, a message cut short, or the
// socket's drop counter put everything on the agenda, once the socket has been read empty.
import { SysError } from "../../ffi/errno.ts";
import type { Kind as TableKind } from "../netbase/layout.ts";
import type { NetbaseWriter } from "../netbase/netbase.ts";
import { Agenda, type Job, KINDS, type Kind } from "./agenda.ts";
import { Apply } from "./apply.ts";
import * as nl from "./constants.ts";
import { Dumper, type DumpSink } from "./dump.ts";
import { dumpsOf, kindOf } from "./wholes.ts";
import { Events, type EventSink } from "./events.ts";
import { getLink } from "./link.ts";
import { messageType, type Requests } from "./message.ts";
import type { Netns } from "./netns.ts";
import { MirrorCounts } from "./counts.ts";
import { HashPolicy } from "./policy.ts";
import type { NetlinkSocket } from "./socket.ts";

export interface MirrorOptions {
  netns?: Netns;
  writer: NetbaseWriter;
  /** bytes of the event socket's buffer; an event takes 832 */
  receiveBytes: number;
  /** interfaces whose neighbours are mirrored; all if missing */
  neighbours?: ReadonlySet<number>;
  /** called in the middle of long work: look after what must not wait */
  pause?: () => void;
  /** every event about a neighbour, after it was applied (apply.neigh) */
  onNeighbour?: (type: number) => void;
  /** the policy rules, routes and hash policies that the mirror does not follow, in words, whenever they change */
  onBeyond?: (beyond: string[]) => void;
}

const ENOENT = 2;
const ENODEV = 19;
const EOPNOTSUPP = 95;
const EAFNOSUPPORT = 97;
/** A dump's end with these means that there is nothing: no such table, interface or protocol. */
const EMPTY: ReadonlySet<number> = new Set([-ENOENT, -ENODEV, -EOPNOTSUPP, -EAFNOSUPPORT]);

const MANY_CONTESTED = 100_000;
const BATCHES = 16;
const MESSAGES = 1024;
const PATIENCE_MS = 500; // how long dumps wait for a quiet moment of the event queue
const SHORTEST_REST_MS = 5; // how long they wait after a loss: longer each time, if one follows the other
const LONGEST_REST_MS = 200;
const AGAIN_MS = 1000; // losses so close to each other follow each other
/** How often a full table is looked at, and how full it may be for another try at once. With less room a try may be in vain. */
const RECOVER_MS = 1000;
const ROOM = 0.95;
const LONGEST_RECOVER_MS = 60_000; // between tries in vain: each a dump, and after each twice as long
/** How often sysctls are read that nobody tells of. */
const POLICY_MS = 5000;

/** What becomes of routes when an object or an address goes depends on what came first: events of all these wait for one. */
const ORDERED: ReadonlySet<Kind> = new Set(["addrs", "nexthops", "routes4", "routes6"]);

/** What must be dumped again once a table that refused rows has room, and so has all else that its rows take room in. */
const RECOVERED: readonly (readonly [table: TableKind, kind: Kind, ...others: TableKind[]])[] = [
  ["links", "links"],
  ["addresses", "addrs"],
  ["routes4", "routes4", "nexthops", "lines"],
  ["routes6", "routes6", "nexthops", "lines"],
  ["neighbours4", "neighs4"],
  ["neighbours6", "neighs6"],
];

export class Mirror implements EventSink, DumpSink {
  readonly counts: MirrorCounts = new MirrorCounts();
  readonly apply: Apply;
  private readonly agenda = new Agenda();
  private readonly events: Events;
  private readonly opened: DisposableStack;
  private readonly policy: HashPolicy;
  private readonly netns: Netns | undefined;
  private dumper: Dumper;
  private readonly writer: NetbaseWriter;
  private readonly pauseHook: () => void;
  private readonly onNeighbour: (type: number) => void;
  private readonly onBeyond: (beyond: string[]) => void;
  private now = performance.now();
  /** The kind that is being dumped; its events are held. */
  private dumping: Kind | undefined;
  /** Something changed under the dump that would have to be in it. */
  private disturbed = false;
  /** IPv4 destinations whose routes changed under the dump. */
  private readonly contested = new Set<number>();
  private lostAt = -1;
  private busySince = -1;
  /** After a loss no dump begins before then. */
  private restUntil = Number.NEGATIVE_INFINITY;
  private rest = 0;
  /** Rows were refused for want of room; when that was looked at last. */
  private missing = false;
  private looked = 0;
  /** Of full tables that had some room: when they may be tried again, and how long to wait after that. */
  private readonly tries = new Map<TableKind, { at: number; ms: number }>();

  /** Subscribes; nothing is in the tables before `sync`. @throws SysError */
  constructor(options: MirrorOptions) {
    this.writer = options.writer;
    this.pauseHook = options.pause ?? (() => {});
    this.onNeighbour = options.onNeighbour ?? (() => {});
    this.onBeyond = options.onBeyond ?? (() => {});
    this.netns = options.netns;
    this.apply = new Apply(options.writer, this.agenda, options.neighbours);
    using stack = new DisposableStack();
    const policy = new HashPolicy(options.netns);
    stack.defer(() => policy.close());
    const events = new Events(options.netns, options.receiveBytes);
    stack.defer(() => events.close());
    this.dumper = new Dumper(options.netns);
    this.policy = policy;
    this.events = events;
    this.opened = stack.move();
  }

  /** Readable when there are events. */
  get fd(): number {
    return this.events.socket.fd;
  }

  /** The event socket: for requests whose answers nobody waits for. */
  get socket(): NetlinkSocket {
    return this.events.socket;
  }

  /** Whether nothing is known to be missing, and no dump is due. */
  get settled(): boolean {
    return this.agenda.idle && this.events.empty;
  }

  /** The first synchronisation: every kind dumped once and its events replayed. Blocks. @throws SysError */
  sync(): void {
    this.agenda.everything();
    this.now = performance.now();
    for (const kind of KINDS) this.run(this.agenda.jobs[kind]);
    this.followPolicy();
    this.turn();
  }

  /** Puts everything on the agenda, as after a loss. */
  resync(): void {
    this.counts.resyncs++;
    this.apply.doubts.legs = true;
    // Losses that follow each other: dumps that are cut short by the next are of no use, and slow the kernel down.
    const since = this.now - this.restUntil;
    if (since >= 0) {
      this.rest = since < AGAIN_MS ? Math.min(this.rest * 2, LONGEST_REST_MS) : SHORTEST_REST_MS;
      this.restUntil = this.now + this.rest;
    }
    if (this.lostAt < 0) this.lostAt = this.now;
    this.agenda.everything();
  }

  /** Applies what has come and dumps what is due. Returns ms until it must be called again. @throws SysError */
  turn(): number {
    this.now = performance.now();
    const calm = this.drain(BATCHES);
    if (calm) this.busySince = -1;
    else if (this.busySince < 0) this.busySince = this.now;
    const expiry = this.apply.expiry.turn(this.now);
    // A dump under a flood of events is hardly ever quiet: wait a while, but not for ever.
    if (this.now >= this.restUntil && (calm || this.now - this.busySince > PATIENCE_MS)) {
      const job = this.agenda.next(this.now);
      if (job) this.attempt(job);
    }
    this.apply.purge();
    this.writer.commit();
    this.housekeep();
    if (this.lostAt >= 0 && this.settled) {
      this.counts.convergedMs = performance.now() - this.lostAt;
      this.counts.slowestMs = Math.max(this.counts.slowestMs, this.counts.convergedMs);
      this.lostAt = -1;
    }
    if (!calm) return 0;
    const look = this.looked + (this.missing ? RECOVER_MS : POLICY_MS);
    const due = Math.min(Math.max(this.agenda.due, this.restUntil), look, expiry);
    return Math.max(0, Math.ceil(due - performance.now()));
  }

  close(): void {
    this.dumper.close();
    this.opened.dispose();
  }

  /** Takes and applies. Returns whether nothing is left. */
  private drain(batches: number): boolean {
    const { events, counts } = this;
    const empty = events.take(batches);
    events.apply(this, MESSAGES);
    if (empty && events.lost()) {
      counts.overruns = events.overruns;
      this.resync();
    }
    return empty && events.empty;
  }

  /** An event, in order. */
  event(words: Int32Array, bytes: Uint8Array, off: number, len: number): void {
    if (len < 20) return;
    const type = messageType(words, off);
    const kind = kindOf(type, bytes[off + 16]!);
    if (kind === undefined) {
      if (type === nl.NLMSG_ERROR) this.counts.refused++;
      return;
    }
    this.agenda.jobs[kind].lastEvent = this.now;
    if (kind === this.dumping || (this.dumping && ORDERED.has(this.dumping) && ORDERED.has(kind))) {
      if (this.events.hold(off, len)) return;
      this.disturbed = true;
      this.agenda.whole(kind);
    }
    this.counts.events++;
    this.apply.message(kind, type, words, bytes, off, len);
    if (kind === "neighs4" || kind === "neighs6") this.onNeighbour(type);
  }

  /** A message of the dump. */
  message(type: number, words: Int32Array, bytes: Uint8Array, off: number, len: number): void {
    const kind = len < 20 ? undefined : kindOf(type, bytes[off + 16]!);
    if (kind !== undefined && kind === this.dumping) this.apply.message(kind, type, words, bytes, off, len);
  }

  /** Between the chunks of a dump. */
  pause(): void {
    this.now = performance.now();
    this.drain(2);
    this.writer.commit();
    this.pauseHook();
  }

  /** Runs a job, and leaves it on the agenda if that fails: what was true a moment ago is better than nothing. */
  private attempt(job: Job): void {
    try {
      this.run(job);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.counts.failed++;
      this.dumping = undefined;
      this.apply.partial = false;
      this.replay(undefined);
      job.whole = true;
      job.done(false, this.now, performance.now());
      // Whatever is left of that dump goes with its socket.
      this.dumper.close();
      this.dumper = new Dumper(this.netns);
    }
  }

  /** Dumps what the job asks for. @throws SysError */
  private run(job: Job): void {
    const started = performance.now();
    const { whole, oifs } = job.begin();
    this.fence();
    let quiet = true;
    if (whole) {
      quiet = this.dump(job.kind, 0);
      if (!quiet) job.whole = true;
    } else
      for (const oif of oifs) {
        if (this.dump(job.kind, oif)) continue;
        quiet = false;
        job.addOif(oif);
      }
    job.done(quiet, started, performance.now());
  }

  /** One dump of a kind, or of the routes over `oif`. Returns whether it was quiet; rows that it lacked are gone then. */
  private dump(kind: Kind, oif: number): boolean {
    const { counts, events, apply } = this;
    this.catchUp();
    const overruns = events.overruns;
    this.disturbed = false;
    this.dumping = kind;
    const clean = apply.empty(kind);
    const sweep = apply.beginSweep(kind, oif);
    let interrupted = false;
    for (const request of dumpsOf(kind, oif)) {
      const { error, interrupted: flagged } = this.dumper.run(request, this);
      if (error !== 0 && !EMPTY.has(error)) throw new SysError(`dump ${kind}`, -error);
      interrupted ||= flagged;
      counts.dumps++;
    }
    if (oif !== 0) counts.targeted++;
    const caught = this.catchUp();
    this.dumping = undefined;
    apply.partial = false;
    this.contested.clear();
    this.replay(kind);
    let quiet = caught && !interrupted && !this.disturbed && events.overruns === overruns;
    if (quiet) {
      // Routes that no event told of.
      if (apply.strangers > 0) this.agenda.whole(kind);
      if (!clean) {
        counts.sweeps++;
        counts.swept += apply.endSweep(kind, sweep, oif, this.contested);
        if (kind === "routes4") quiet = this.writer.routes.four.spared === 0;
      }
    }
    if (!quiet) counts.interrupted++;
    this.writer.commit();
    return quiet;
  }

  /** What happened before DONE is in the socket by now: takes all of it. False if there is no end to it. */
  private catchUp(): boolean {
    for (let i = 0; i < 64; i++) if (this.drain(BATCHES)) return true;
    return false;
  }

  /**
   * Applies the held events, and judges what they mean for the dump that they came under. The kernel walks on where it
   * was by the next key in the IPv4 trie: only routes to the same destination can have been missed. In its neighbour
   * table by the place in a bucket: entries that come or go move others. IPv6's walk begins anew with every change of
   * the tree, and skips as many as it had seen.
   */
  private replay(dumped: Kind | undefined): void {
    const { apply, counts, contested } = this;
    this.events.replay({
      event: (words, bytes, off, len) => {
        const type = messageType(words, off);
        const kind = kindOf(type, bytes[off + 16]!)!;
        counts.events++;
        const whole = apply.message(kind, type, words, bytes, off, len);
        const neighbour = kind === "neighs4" || kind === "neighs6";
        if (neighbour) this.onNeighbour(type);
        if (kind !== dumped) return;
        if (neighbour) this.disturbed ||= apply.structural || !whole;
        else if (dumped === "routes4" && whole && contested.size < MANY_CONTESTED)
          contested.add(apply.route.dst[0]!);
        else this.disturbed = true;
      },
    });
  }

  /**
   * Waits for whatever holds the kernel's RTNL: events about links and addresses are sent before the routes are changed
   * that depend on them, and a dump of routes would not wait (RTM_GETLINK does).
   */
  private fence(): void {
    this.dumper.run((m: Requests) => {
      getLink(m, { ifindex: 1 });
      m.words[1]! |= nl.NLM_F_ACK << 16;
    }, this);
  }

  private followPolicy(): void {
    if (this.policy.follow(this.writer)) this.apply.beyondChanged = true;
  }

  /** What rules were seen, and what was refused for want of room but may have room by now. */
  private housekeep(): void {
    const { apply, counts, writer } = this;
    counts.malformed = apply.malformed;
    if (apply.beyondChanged) {
      apply.beyondChanged = false;
      const { beyond, custom4 } = apply.rules;
      const { texts } = apply.sourced;
      counts.rulesBeyond = beyond.length;
      counts.routesBeyond = texts.length;
      if (custom4) writer.routes.splitLocal();
      this.onBeyond([
        ...beyond.map((text) => `policy rule not followed: ${text}`),
        ...texts.map((text) => `IPv6 route by source not followed: ${text}`),
        ...this.policy.beyond,
      ]);
    }
    if (this.now < this.looked + RECOVER_MS) return;
    this.looked = this.now;
    this.followPolicy();
    this.recover();
  }

  private recover(): void {
    const { writer, agenda } = this;
    this.missing = false;
    const { stats } = writer;
    const fill = (table: TableKind) => stats[table].entries / stats[table].capacity;
    for (const [table, kind, ...others] of RECOVERED) {
      if (!stats[table].missing) {
        this.tries.delete(table);
        continue;
      }
      this.missing = true;
      const fullest = Math.max(...[table, ...others].map(fill));
      const { at, ms } = this.tries.get(table) ?? { at: this.now, ms: RECOVER_MS };
      if (fullest >= 1 || (fullest >= ROOM && this.now < at)) continue;
      this.tries.set(table, { at: this.now + ms, ms: Math.min(ms * 2, LONGEST_RECOVER_MS) });
      agenda.whole(kind);
    }
  }
}
