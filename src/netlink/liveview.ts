// nl.routes.live() and its like: all objects of a kind, kept as the kernel has them. As the daemon's mirror does
// (mirror.ts), with objects in place of the netbase:
//   subscribe, dump, replay what came meanwhile; a dump under which something of the kind changed only adds, and is
//   repeated; a loss (ENOBUFS) is followed by a dump once the socket has been read empty; what the kernel changes
//   without a word is dumped when its cause is told: IPv4 routes and nexthops when a link goes down, routes when an
//   address or a nexthop object goes (reference: net/ipv4/fib_frontend.c fib_netdev_event, fib_inetaddr_event).
import * as nl from "./constants.ts";
import type { Definition } from "./collection.ts";
import { type Rows, type RowEvent, rowsOf } from "./liverows.ts";
import { Feed, Stream } from "./monitor.ts";
import type { Netns } from "./netns.ts";
import { definitions, type KindName, noticeOf, type ObjectNotice, type Objects } from "./notice.ts";
import type { Writing } from "./object/codec.ts";
import type { Visit } from "./inbox.ts";
import { getLink } from "./link.ts";
import { messageLength, type Requests } from "./message.ts";
import { pass, Puller } from "./pull.ts";

/** `synced` comes whenever nothing is known to be missing: after the first dump, and after every repair. */
export type LiveEvent<T> = RowEvent<T> | { event: "synced"; object?: undefined };

export interface LiveOptions {
  signal?: AbortSignal;
  /** of the socket's buffer; a notification takes about 832. 32 MiB if missing */
  receiveBytes?: number;
}

/** Groups that tell of causes, beside the kind's own. */
const CAUSES: { readonly [K in KindName]?: readonly number[] } = {
  routes: [nl.RTNLGRP_LINK, nl.RTNLGRP_IPV4_IFADDR, nl.RTNLGRP_IPV6_IFADDR, nl.RTNLGRP_NEXTHOP],
  nexthops: [nl.RTNLGRP_LINK],
};
/** How long causes are collected before the dump; disturbed dumps wait longer each time, to the second. */
const SETTLE_MS = 5;
const LONGEST_MS = 1000;
/** Times that the feed is asked before others have their turn: some 50,000 notifications. */
const TURN = 64;
/** A row that so many disturbed dumps in a row lacked is gone. */
const MISSES = 4;

export class Live<K extends KindName> implements AsyncIterable<LiveEvent<Objects[K]>>, AsyncDisposable {
  /** Times that the view was made right from a dump after a loss. */
  resyncs = 0;
  private readonly kind: K;
  // biome-ignore lint/suspicious/noExplicitAny: which filter it is, its kind knows
  private readonly definition: Definition<Objects[K], any, any>;
  private readonly filter: object;
  private readonly to: Writing;
  private readonly rows: Rows<Objects[K]>;
  private readonly matches: (object: Objects[K]) => boolean;
  private readonly concerns: (object: Objects[K]) => boolean;
  private readonly feed: Feed;
  private readonly puller: Puller;
  private readonly signal: AbortSignal | undefined;
  private readonly stop: () => void;
  private readonly closing: () => void;
  private stream: Stream<LiveEvent<Objects[K]>> | undefined;
  private events: LiveEvent<Objects[K]>[] = [];
  private settled = false;
  private dumping = false;
  private due = false;
  private timer: Timer | undefined;
  private closed = false;
  private overruns = 0;
  private readonly linkStates = new Map<number, string>();
  private waiters: { resolve: () => void; reject: (error: unknown) => void }[] = [];
  private failure: unknown;

  /** Subscribed when this returns; the first dump follows. @throws SysError */
  constructor(
    kind: K,
    filter: object,
    netns: Netns,
    to: Writing,
    { signal, receiveBytes }: LiveOptions,
    closing: () => void,
  ) {
    signal?.throwIfAborted();
    this.kind = kind;
    this.definition = definitions[kind] as never;
    this.filter = filter;
    this.to = to;
    this.rows = rowsOf[kind]() as Rows<Objects[K]>;
    this.matches = this.definition.matches(filter, to) ?? (() => true);
    this.concerns = (CONCERNS[kind] as ((object: Objects[K]) => boolean) | undefined) ?? (() => true);
    const groups = [...new Set([...this.definition.groups, ...(CAUSES[kind] ?? [])])];
    this.feed = new Feed({ netns, groups, ...(receiveBytes !== undefined && { receiveBytes }) });
    this.puller = new Puller(netns, nl.NETLINK_ROUTE);
    this.closing = closing;
    this.feed.onData = () => this.turn();
    this.feed.onError = (error) => this.fail(error);
    this.signal = signal;
    this.stop = () => this.close();
    signal?.addEventListener("abort", this.stop, { once: true });
    void this.dump();
  }

  /** Whether nothing is known to be missing. */
  get synced(): boolean {
    return this.settled;
  }

  get size(): number {
    return this.rows.size;
  }

  /** The objects as they are now. */
  values(): IterableIterator<Objects[K]> {
    return this.rows.values();
  }

  /** Resolves once the view is synced. */
  ready(): Promise<void> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    if (this.settled || this.closed) return Promise.resolve();
    return new Promise((resolve, reject) => void this.waiters.push({ resolve, reject }));
  }

  /** First all that there is, as added; then what changes. One reader at a time. */
  [Symbol.asyncIterator](): AsyncIterator<LiveEvent<Objects[K]>> {
    this.stream?.close();
    this.events = Array.from(this.rows.values(), (object) => ({ event: "added", object }));
    if (this.settled) this.events.push({ event: "synced" });
    const stream = new Stream<LiveEvent<Objects[K]>>(
      () => {
        const { events } = this;
        this.events = [];
        return events;
      },
      () => {
        if (this.stream === stream) this.stream = undefined;
      },
      undefined,
    );
    this.stream = stream;
    if (this.failure !== undefined) stream.fail(this.failure);
    else if (this.closed) stream.close();
    return stream[Symbol.asyncIterator]();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.signal?.removeEventListener("abort", this.stop);
    clearTimeout(this.timer);
    this.feed.close();
    this.puller.close();
    this.stream?.close();
    for (const { resolve } of this.waiters.splice(0)) resolve();
    this.closing();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  private fail(error: unknown): void {
    if (this.closed) return;
    this.failure = error;
    this.stream?.fail(error);
    for (const { reject } of this.waiters.splice(0)) reject(error);
    this.close();
  }

  private readonly emit = (event: LiveEvent<Objects[K]>): void => {
    if (this.stream) this.events.push(event);
  };

  /** What the feed has, as far as nobody else sees to it. */
  private turn(): void {
    if (this.dumping || this.closed) return;
    if (this.follow()) setImmediate(() => this.turn());
  }

  /** Applies what the feed has, and lets others have their turn meanwhile. */
  private async catchUp(): Promise<void> {
    while (!this.closed && this.follow()) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Applies what the feed has, some of it. Returns whether there may be more. */
  private follow(): boolean {
    const visit: Visit = (type, words, bytes, off, len) => {
      const notice = noticeOf(type, words, bytes, off, len);
      if (notice) this.notice(notice);
    };
    let left = TURN;
    while (left > 0 && this.feed.take(visit) !== "nothing") left--;
    if (this.feed.overruns !== this.overruns) {
      this.overruns = this.feed.overruns;
      this.resyncs++;
      this.linkStates.clear();
      this.unsettle();
    }
    this.stream?.wake();
    return left === 0;
  }

  private notice(notice: ObjectNotice): void {
    if (notice.kind !== this.kind) {
      if (isCause(notice, this.linkStates)) this.unsettle();
      return;
    }
    const object = notice.object as Objects[K];
    if (!this.concerns(object)) return;
    if (notice.kind === "links" && this.kind === "links") this.linkStates.clear();
    if (!this.matches(object)) {
      // It may have been one of ours until now.
      if (notice.event === "new") this.rows.remove(this.rows.id(object), this.emit);
      return;
    }
    if (!this.rows.apply(notice.event, object, notice.flags, this.emit)) this.unsettle();
  }

  /** A dump is due. */
  private unsettle(): void {
    this.settled = false;
    this.due = true;
    if (this.dumping || this.timer !== undefined) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      void this.dump();
    }, SETTLE_MS);
  }

  /** Dumps until a dump was quiet, or so many were not that what they all lacked must be gone. */
  private async dump(): Promise<void> {
    if (this.dumping || this.closed) return;
    this.dumping = true;
    let suspects: Set<string> | undefined;
    try {
      for (let tries = 1; !this.closed; tries++) {
        await this.fence();
        while (!this.feed.drain()) await this.catchUp();
        await this.catchUp();
        this.due = false;
        const objects: Objects[K][] = [];
        const before = this.feed.overruns;
        let whole = true;
        for (const fill of this.definition.dumps(this.filter, this.to))
          if ((await this.read(fill, objects)) !== "whole") whole = false;
        if (this.closed) return;
        if (!this.feed.drain()) {
          // So many that nobody knows what this dump is worth.
          await this.catchUp();
          continue;
        }
        const quiet = whole && this.feed.overruns === before && !this.heard();
        if (quiet) this.rows.replace(objects, this.emit);
        else suspects = this.merge(objects, suspects, tries >= MISSES);
        await this.catchUp();
        if (!this.due && (quiet || tries >= MISSES)) break;
        await Bun.sleep(Math.min(2 ** tries, LONGEST_MS));
      }
      this.settled = true;
      this.emit({ event: "synced" });
      this.stream?.wake();
      for (const { resolve } of this.waiters.splice(0)) resolve();
    } catch (error) {
      this.fail(error);
    } finally {
      this.dumping = false;
      this.turn();
      if (this.due && !this.closed) this.unsettle();
    }
  }

  /**
   * Waits for whatever holds the kernel's RTNL: events about links and addresses are sent before the routes are changed
   * that depend on them, and a dump of routes would not wait (RTM_GETLINK does).
   */
  private async fence(): Promise<void> {
    const ask = (m: Requests): void => {
      getLink(m, { ifindex: 1 });
      m.words[1]! |= nl.NLM_F_ACK << 16;
    };
    await this.puller.once(ask, {}, { heads: 0, chunk: (_words, _bytes, _off, end) => end });
  }

  private read(fill: Parameters<Puller["once"]>[0], objects: Objects[K][]): ReturnType<Puller["once"]> {
    const { definition, matches, concerns } = this;
    return this.puller.once(
      fill,
      {},
      {
        heads: 0,
        chunk(words, bytes, from, end) {
          const to = pass(words, from, end, this);
          let off = from;
          for (let len: number; off < to; off += (len + 3) & ~3) {
            len = messageLength(words, off, end);
            const object = definition.kind.decode(words, bytes, off, len);
            if (object && concerns(object) && matches(object)) objects.push(object);
          }
          return to;
        },
      },
    );
  }

  /** Whether what the feed holds has something of the kind in it. */
  private heard(): boolean {
    return this.feed.holds((type) => (type & ~3) === this.definition.kind.type);
  }

  /** Adds what a disturbed dump had; returns what this one and those before lacked, and removes that if `last`. */
  private merge(objects: Objects[K][], suspects: Set<string> | undefined, last: boolean): Set<string> {
    const had = new Set(objects.map((object) => this.rows.id(object)));
    const lacking = new Set<string>();
    for (const object of this.rows.values()) {
      const id = this.rows.id(object);
      if (!had.has(id) && (suspects === undefined || suspects.has(id))) lacking.add(id);
    }
    for (const object of objects) this.rows.upsert(object, this.emit);
    if (last) for (const id of lacking) this.rows.remove(id, this.emit);
    return lacking;
  }
}

/**
 * Not everything of a kind's type: a bridge's ports are no links, the kernel's cached lookups no routes, and the
 * neighbours that it makes of group addresses come and go without a word.
 */
const CONCERNS: { readonly [K in KindName]?: (object: Objects[K]) => boolean } = {
  links: (link) => link.family !== "bridge",
  routes: (route) => !route.flags.includes("cloned"),
  neighs: ({ family, flags, state, type }) =>
    family !== "bridge" && !flags.includes("proxy") && (state !== "noarp" || type === 1),
};

const STATE = ["up", "running", "lowerUp"] as const;

/** Whether the kernel may have changed routes or nexthops because of it, without a word. */
function isCause(notice: ObjectNotice, states: Map<number, string>): boolean {
  if (notice.kind === "links") {
    const { index, flags, master = 0, family } = notice.object;
    if (family === "bridge") return false;
    const state = `${STATE.filter((flag) => flags.includes(flag)).join()} ${master}`;
    const before = states.get(index);
    if (notice.event === "delete") states.delete(index);
    else states.set(index, state);
    return notice.event === "delete" || before !== state;
  }
  // The last address takes routes with it, a first one brings dead legs back.
  if (notice.kind === "addrs") return true;
  return notice.kind === "nexthops" && (notice.event === "delete" || notice.flags.replace === true);
}
