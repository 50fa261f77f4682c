// Reading a next-hop record (layout.ts): what cold readers and the writer share.
import {
  LINE_WORDS,
  NH_GATEWAY,
  NH_LEG_NHID,
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

/** How many legs the record at word offset `record` has. */
export const legsOf = (words: Int32Array, record: number): number => words[record + NH_TYPE]! >>> 16;

/** Fills in the next-hop part of `row` from a record: type, scope, prefsrc, mtu, nhid, and all legs. */
export function loadRecord(words: Int32Array, record: number, row: RouteRow): void {
  const type = words[record + NH_TYPE]!;
  const { legs } = row;
  row.family = (words[record + NH_LINK]! >>> 16) & 0xff;
  row.type = type & 0xff;
  row.scope = words[record + NH_LINK]! >>> 24;
  row.mtu = words[record + NH_MTU]!;
  row.nhid = words[record + NH_NHID]! >>> 0;
  row.hasPrefsrc = (type & NH_PREFSRC) !== 0 ? 1 : 0;
  for (let i = 0; i < 4; i++) row.prefsrc[i] = row.hasPrefsrc ? words[record + NH_SRC + i]! : 0;
  legs.clear();
  for (let i = 0, at = record; i < type >>> 16; i++, at += LINE_WORDS) {
    const leg = legs.add();
    legs.ifindex[leg] = words[at + NH_OIF]!;
    legs.flags[leg] = ((words[at + NH_LINK]! >>> 8) & 0xff) | (words[at + NH_TYPE]! & LEG_ENCAP);
    legs.weight[leg] = words[at + NH_WEIGHT]!;
    legs.gatewayFamily[leg] = words[at + NH_LINK]! & 0xff;
    legs.nhid[leg] = words[at + NH_LEG_NHID]!;
    for (let k = 0; k < 4; k++) legs.gateway[leg * 4 + k] = words[at + NH_GATEWAY + k]!;
  }
}
