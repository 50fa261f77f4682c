// What routes say of their next hops, and whether two of them say the same: then they share a record (nexthop.ts).
//
// Beside it a route's message tells what became of its legs: one may be dead though its interface is up, because that lost its
// last IPv4 address, or came up without carrier (IPv6, where a leg stays dead when the others are gone). That is the route's
// own history, which no other with the same legs need have. Only the kernel's dumps tell; what one told stands until the next.
import { AF_INET6 } from "../wire/address.ts";
import {
  LINE_WORDS,
  NH_DEAD,
  NH_GATEWAY,
  NH_GROUP,
  NH_LINK,
  NH_MTU,
  NH_NHID,
  NH_OIF,
  NH_PREFSRC,
  NH_SRC,
  NH_TYPE,
  NH_WEIGHT,
} from "./layout.ts";
import { LEG_ENCAP, type RouteRow } from "./rows.ts";

export const RTNH_F_DEAD = 1;
export const RTNH_F_PERVASIVE = 2;
export const RTNH_F_ONLINK = 4;
export const RTNH_F_LINKDOWN = 16;
/** The flags that are the route's own; the others tell of the moment. */
export const OWN_FLAGS: number = RTNH_F_PERVASIVE | RTNH_F_ONLINK;
/** Among a leg's flags: the kernel said DEAD though the interface is up. */
export const TOLD_DEAD = 0x80;
const RTN_UNICAST = 1;
export const RTN_BLACKHOLE = 6;

/** The type of a route beside its nexthop object, which makes a blackhole of it when it is one. */
export const ownType = (type: number): number => (type === RTN_BLACKHOLE ? RTN_UNICAST : type);

/** Whether a leg of a route may be dead by what the kernel tells alone. */
export const isTold = (family: number, nhid: number, legs: number): boolean =>
  nhid === 0 && (legs > 1 || family === AF_INET6);

/**
 * Whether a record stands for exactly what `row` says. Of a nexthop object's record the id says it all: the legs, and whether
 * it is a blackhole, are the object's, which may have changed since the record was written.
 */
export function says(words: Int32Array, record: number, row: RouteRow): boolean {
  const { legs } = row;
  const type = words[record + NH_TYPE]!;
  const named = row.nhid !== 0;
  if (named ? ownType(type & 0xff) !== ownType(row.type) : (type & 0xff) !== row.type) return false;
  if ((type & NH_PREFSRC) !== (row.hasPrefsrc ? NH_PREFSRC : 0)) return false;
  const link = words[record + NH_LINK]!;
  if (((link >>> 16) & 0xff) !== row.family || link >>> 24 !== row.scope) return false;
  if (words[record + NH_MTU] !== (row.mtu | 0) || words[record + NH_NHID] !== (row.nhid | 0)) return false;
  if (row.hasPrefsrc)
    for (let i = 0; i < 4; i++) if (words[record + NH_SRC + i] !== row.prefsrc[i]) return false;
  if (named) return true;
  if (type >>> 16 !== legs.n) return false;
  for (let i = 0, leg = record; i < legs.n; i++, leg += LINE_WORDS) {
    const own = words[leg + NH_LINK]!;
    if (words[leg + NH_OIF] !== legs.ifindex[i] || (own & 0xff) !== legs.gatewayFamily[i]) return false;
    if (((own >>> 8) & OWN_FLAGS) !== (legs.flags[i]! & OWN_FLAGS)) return false;
    if (words[leg + NH_WEIGHT] !== legs.weight[i]) return false;
    if (((words[leg + NH_TYPE]! ^ legs.flags[i]!) & LEG_ENCAP) !== 0) return false;
    for (let k = 0; k < 4; k++) if (words[leg + NH_GATEWAY + k] !== legs.gateway[i * 4 + k]) return false;
  }
  return true;
}

/** Whether two records stand for the same, whatever was told of their legs. */
export function alike(words: Int32Array, a: number, b: number): boolean {
  const same = (word: number, mask: number) => ((words[a + word]! ^ words[b + word]!) & mask) === 0;
  const prefsrc = (words[a + NH_TYPE]! & NH_PREFSRC) !== 0;
  for (let leg = 0; leg < Math.max(words[a + NH_TYPE]! >>> 16, 1) * LINE_WORDS; leg += LINE_WORDS) {
    if (!same(leg + NH_TYPE, ~(NH_GROUP | NH_DEAD)) || !same(leg + NH_LINK, ~((0xff & ~OWN_FLAGS) << 8)))
      return false;
    for (const word of [NH_OIF, NH_MTU, NH_NHID, NH_WEIGHT]) if (!same(leg + word, -1)) return false;
    for (let k = 0; k < 4; k++)
      if (!same(leg + NH_GATEWAY + k, -1) || (prefsrc && !same(leg + NH_SRC + k, -1))) return false;
  }
  return true;
}

const mix = (h: number, w: number): number => {
  const x = Math.imul(h ^ w, 0x85ebca6b);
  return x ^ (x >>> 15);
};

/** A hash of what `says` compares. */
export function hashOf(row: RouteRow): number {
  const { legs } = row;
  const type = row.nhid !== 0 ? ownType(row.type) : row.type;
  let h = mix(Math.imul(type | (row.scope << 8) | (row.family << 16), 0x9e3779b1) ^ row.mtu, row.nhid);
  if (row.hasPrefsrc) for (let i = 0; i < 4; i++) h = mix(h, row.prefsrc[i]!);
  if (row.nhid !== 0) return h;
  for (let i = 0; i < legs.n; i++) {
    h = mix(h, legs.ifindex[i]! ^ (legs.weight[i]! << 20));
    for (let k = i * 4; k < i * 4 + 4; k++) h = mix(h, legs.gateway[k]!);
  }
  return h;
}
