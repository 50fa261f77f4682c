// Many changes in few system calls. The kernel goes on past those that it refuses; each of them is told with its reason.
import {
  Changeable,
  Changes,
  LinkChanges,
  type Options,
  type Refusal,
  RouteChanges,
  type Sink,
} from "./collection.ts";
import * as kinds from "./kinds.ts";
import { Requests } from "./message.ts";
import type { AddrSpec } from "./object/addr.ts";
import type { LinkSpec } from "./object/link.ts";
import type { NeighKey, NeighSpec } from "./object/neigh.ts";
import type { Nexthop, NexthopSpec } from "./object/nexthop.ts";
import type { Route, RouteKey, RouteSpec } from "./object/routespec.ts";
import type { RuleKey, RuleSpec } from "./object/rule.ts";
import type { Fill } from "./pull.ts";

/** A link to make: `info` says of which kind. */
export type NewLink = LinkSpec & { name: string; info: NonNullable<LinkSpec["info"]> };

/** Changes, collected in order until `send`. Every method returns the change's number, counted from 0. */
export class Batch {
  readonly links: LinkChanges<NewLink, LinkSpec, kinds.LinkKey, number>;
  readonly addrs: Changeable<AddrSpec, kinds.AddrKey, number>;
  readonly routes: RouteChanges<RouteSpec | Route, RouteKey | Route, number>;
  readonly nexthops: Changeable<NexthopSpec | Nexthop, number, number>;
  readonly neighs: Changeable<NeighSpec, NeighKey, number>;
  readonly rules: Changes<RuleSpec, RuleKey, number>;
  private readonly requests = new Requests();
  private readonly submit: (m: Requests) => Refusal[];

  /** @param firstSeq sequence numbers from here on are of nobody else */
  constructor(
    ifindex: (link: number | string) => number,
    firstSeq: number,
    submit: (m: Requests) => Refusal[],
  ) {
    const { requests } = this;
    requests.firstSeq = firstSeq;
    this.submit = submit;
    const sink: Sink<number> = {
      ifindex,
      request: true,
      family: 0,
      change(fill: Fill) {
        const { length, count } = requests;
        try {
          fill(requests);
        } catch (error) {
          requests.truncate(length, count);
          throw error;
        }
        return count;
      },
    };
    this.links = new LinkChanges(kinds.links, sink);
    this.addrs = new Changeable(kinds.addrs, sink);
    this.routes = new RouteChanges(kinds.routes, sink);
    this.nexthops = new Changeable(kinds.nexthops, sink);
    this.neighs = new Changeable(kinds.neighs, sink);
    this.rules = new Changes(kinds.rules, sink);
  }

  /** How many changes there are to send. */
  get size(): number {
    return this.requests.count;
  }

  /**
   * Sends all of it, and forgets it. Returns the changes that were refused, in order; all others are done.
   * @throws SysError if the kernel's answers were lost
   */
  async send(options: Options = {}): Promise<Refusal[]> {
    options.signal?.throwIfAborted();
    try {
      return this.submit(this.requests);
    } finally {
      this.requests.reset();
    }
  }
}
