// nl.monitor(): notifications of chosen kinds, in the kernel's order.
import * as nl from "./constants.ts";
import { addrs, links, neighs, nexthops, routes, rules } from "./kinds.ts";
import { type ChangeFlags, changeFlags, Feed, Stream } from "./monitor.ts";
import type { Netns } from "./netns.ts";
import type { Addr } from "./object/addr.ts";
import type { Kind } from "./object/kind.ts";
import type { Link } from "./object/link.ts";
import type { Neigh } from "./object/neigh.ts";
import type { Nexthop } from "./object/nexthop.ts";
import type { Route } from "./object/routespec.ts";
import type { Rule } from "./object/rule.ts";

export interface Objects {
  links: Link;
  addrs: Addr;
  routes: Route;
  nexthops: Nexthop;
  neighs: Neigh;
  rules: Rule;
}
export type KindName = keyof Objects;

/** The library's kinds by the name that they have in Netlink. */
export const definitions = { links, addrs, routes, nexthops, neighs, rules };

const GROUPS = {
  links: links.groups,
  addrs: addrs.groups,
  addrs4: [nl.RTNLGRP_IPV4_IFADDR],
  addrs6: [nl.RTNLGRP_IPV6_IFADDR],
  routes: routes.groups,
  routes4: [nl.RTNLGRP_IPV4_ROUTE],
  routes6: [nl.RTNLGRP_IPV6_ROUTE],
  nexthops: nexthops.groups,
  neighs: neighs.groups,
  rules: rules.groups,
  rules4: [nl.RTNLGRP_IPV4_RULE],
  rules6: [nl.RTNLGRP_IPV6_RULE],
} as const satisfies Record<string, readonly number[]>;
/** What can be subscribed to: a kind, or one family of it. */
export type MonitorGroup = keyof typeof GROUPS;

/** Something was made or changed ("new"), or is gone ("delete"). */
export type ObjectNotice = {
  [K in KindName]: { kind: K; event: "new" | "delete"; object: Objects[K]; flags: ChangeFlags };
}[KindName];

/** The kernel dropped notifications here: nobody knows which. A live view (`live()`) repairs itself. */
export interface OverrunNotice {
  kind: "overrun";
  event: "overrun";
  object?: undefined;
}
export type Notice = ObjectNotice | OverrunNotice;

export interface MonitorOptions {
  signal?: AbortSignal;
  /** of the socket's buffer; a notification takes about 832. 32 MiB if missing */
  receiveBytes?: number;
}

const byType = new Map<number, [KindName, Kind]>();
for (const [name, { kind }] of Object.entries(definitions))
  byType.set(kind.type, [name as KindName, kind as Kind]);

/** A message as a notice; undefined if it is of another kind. */
export function noticeOf(
  type: number,
  words: Int32Array,
  bytes: Uint8Array,
  off: number,
  len: number,
): ObjectNotice | undefined {
  const known = byType.get(type & ~3);
  if (!known || (type & 3) > 1) return undefined;
  const object = known[1].decode(words, bytes, off, len);
  if (object === undefined) return undefined;
  const event = type & 1 ? "delete" : "new";
  return { kind: known[0], event, object, flags: changeFlags(words, off) } as ObjectNotice;
}

/** Subscribed when this returns. @throws SysError, TypeError */
export function monitor(
  netns: Netns,
  groups: readonly MonitorGroup[],
  { signal, receiveBytes }: MonitorOptions,
  closed: (stream: Stream<Notice>) => void,
): Stream<Notice> {
  const numbers = groups.flatMap((name): readonly number[] => {
    const group = GROUPS[name];
    if (!group) throw new TypeError(`no group "${name}": ${Object.keys(GROUPS).join(", ")}`);
    return group;
  });
  const feed = new Feed({ netns, groups: numbers, ...(receiveBytes !== undefined && { receiveBytes }) });
  const stream: Stream<Notice> = new Stream<Notice>(
    () => {
      const found: Notice[] = [];
      let taken: ReturnType<Feed["take"]>;
      do {
        taken = feed.take((type, words, bytes, off, len) => {
          const notice = noticeOf(type, words, bytes, off, len);
          if (notice) found.push(notice);
        });
        if (taken === "overrun") found.push({ kind: "overrun", event: "overrun" });
      } while (taken !== "nothing" && found.length === 0);
      return found;
    },
    () => {
      feed.close();
      closed(stream);
    },
    signal,
  );
  feed.onData = () => stream.wake();
  feed.onError = (error) => stream.fail(error);
  return stream;
}
