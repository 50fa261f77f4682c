// The pass over what a client sends by memif. Most of it is sent to the card's own link-layer address, for somebody else on the
// network or for another client: what outbound.ts and route.ts do for any packet is done here for the usual one, a batch at a
// time: IPv4 with 20 bytes of header and no fragment, TCP or UDP, from an address of a match of the client's. Whatever is
// anything else leaves it by `other`, which works out on its own what is the matter. Frames of a flow keep their order.
//
//   begin.ts    the card, the client, what is kept
//   accept.ts   is it the usual one, and where does its flow go?        loops of WebAssembly, since in JavaScript a frame
//   (ask)       searches of the switch table, where that is not known   is 300 instructions, most of them checks of bounds
//   depart.ts   route, next hop, neighbour, rewrite
//
// What the table said of flows is kept as long as its version is the same, and for a second: then it is asked anew.
// forward.test.ts holds this to the general way, byte by byte.
import { Batch } from "../../link/link.ts";
import { mapRegions } from "../../mem/views.ts";
import type { RegionRef } from "../../mem/region.ts";
import { H_NEIGH_SEED } from "../../netbase/layout.ts";
import type { Core } from "../core.ts";
import { CLIENT_FLAGS, CLIENT_MTU, FILTERS_TO, H_SEED } from "../table/layout.ts";
import { ETHERNET } from "../../wire/ether.ts";
import { swapPorts } from "../../wire/packet.ts";
import { PORT_LONGEST } from "../transmit.ts";
import type { Wire } from "../wire.ts";
import { makeAccept } from "./accept.ts";
import { makeBegin } from "./begin.ts";
import { makeDepart } from "./depart.ts";
import {
  ARG_BYTES,
  ARG_KEYS,
  ARG_MEETS,
  ARG_WHOLE,
  ARG_WORDS,
  ASK,
  ENTRIES,
  FLOW_STAMP,
  FLOW_WAY,
  KEYS_STAMP,
  makePlaces,
  OTHER,
  WAYS,
  WIRE,
} from "./places.ts";

/** Where netbase and the switch table are shared. */
export interface Views {
  readonly netbase: RegionRef;
  readonly table: RegionRef;
}

/**
 * Takes the frames `0..n)` of a batch, which client `slot` has sent. Returns how many, from the front, are not the caller's any
 * more: all or none; or SOME, and the places of those have -1.
 */
export type Forward = (slot: number, n: number) => number;
const SOME = -1;

/**
 * @param frames the batch, in the frame memory
 * @param count told of all frames of a call and their bytes; @param other takes frame `i` instead
 */
export function makeForward(
  core: Core,
  wire: Wire,
  memory: WebAssembly.Memory,
  views: Views,
  frames: Batch,
  alias4: number,
  count: (slot: number, frames: number, bytes: number) => void,
  other: (slot: number, i: number) => void,
): Forward {
  const { words, netbase, transmit, table, deliver } = core;
  const { port } = transmit;
  const shared = table.words;
  const { off: offs, len: lens } = frames;
  const base = netbase.words;
  const [netbaseAt, tableAt] = mapRegions(memory, views.netbase, views.table) as [number, number];
  const at = makePlaces(memory, offs.byteOffset, netbaseAt, tableAt);
  const seed = base[H_NEIGH_SEED]!;
  const accept = makeAccept(memory, at, table.layout, shared[H_SEED]!, netbase.layout, alias4);
  const depart = makeDepart(memory, at, netbase.layout, seed, transmit.ifindex);
  const ways = new Int32Array(memory.buffer, at.batch + WAYS, offs.length);
  const entries = new Int32Array(memory.buffer, at.batch + ENTRIES, offs.length);
  const args = new Int32Array(memory.buffer, at.args, ARG_WORDS);
  const begin = makeBegin(core, at, args);
  const out = new Batch(offs.length);

  /** Where a flow of the client's goes. */
  const wayOf = (slot: number, i: number): number => {
    const ip = (offs[i]! + ETHERNET) >>> 2;
    const flow = entries[i]! >>> 2;
    const protocol = (words[ip + 2]! >>> 8) & 0xff;
    const src = words[ip + 3]!;
    const dst = words[ip + 4]!;
    const ports = words[ip + 5]!;
    core.hand = i;
    if (dst === src || core.find4(protocol, src, dst, swapPorts(ports)) !== slot) return OTHER;
    if (!core.isFoundOurs(true, words, ip + 3)) return OTHER;
    core.touch();
    const may = table.mayName4(dst);
    const target = may ? table.find4(protocol, dst, src, ports) : -1;
    if (target >= 0 && core.foundPrefix() === 0) return OTHER; // if the destination is this host's
    if (target >= 0) core.touch();
    else if (may && table.owner4(dst) >= 0) return OTHER; // refused in that client's place
    const keys = may || (args[ARG_MEETS] !== 0 && table.mayMeet4(src, dst)) ? ARG_WHOLE : ARG_KEYS;
    for (let i = 0; i < 4; i++) words[flow + i] = words[ip + 2 + i]! & args[keys + i]!;
    words[flow + FLOW_STAMP] = args[keys + KEYS_STAMP]!;
    words[flow + FLOW_WAY] = target + 1;
    return target + 1;
  };

  const ask = (slot: number, n: number): void => {
    core.ahead(words, offs, n, true);
    for (let i = 0; i < n; i++) if (ways[i] === ASK) ways[i] = wayOf(slot, i);
  };

  /** Whether a client takes frames of up to `longest` bytes without a longer look. */
  const takes = (target: number, longest: number): boolean => {
    const row = table.client(target);
    const isFree = (shared[row + CLIENT_FLAGS]! & FILTERS_TO) === 0;
    return isFree && longest - ETHERNET <= shared[row + CLIENT_MTU]!;
  };

  /** Gives a client all of them; false if they are not all for one, or not all of them are taken. */
  const toOne = (way: number, n: number): boolean => {
    for (let i = 1; i < n; i = (i + 1) | 0) if (ways[i] !== way) return false;
    return way > WIRE && takes(way - 1, port[PORT_LONGEST]!) && deliver.batch(way - 1, frames);
  };

  /** Each its own way. */
  const split = (slot: number, n: number): void => {
    let bytes = 0;
    out.n = 0;
    for (let i = 0; i < n; i++) {
      const way = ways[i]!;
      if (way === WIRE) {
        out.off[out.n] = offs[i]!;
        out.len[out.n++] = lens[i]!;
        bytes += lens[i]!;
        offs[i] = -1;
      } else if (way > WIRE && takes(way - 1, lens[i]!)) deliver.queue(way - 1, offs[i]!, lens[i]!);
      else {
        wire.transmit(slot, out, bytes); // whoever sees it now sees what came before it gone
        out.n = bytes = 0;
        other(slot, i);
      }
    }
    wire.transmit(slot, out, bytes);
  };

  return (slot, n) => {
    begin(slot);
    if (accept(n) > 0) ask(slot, n);
    const left = depart(n);
    const bytes = args[ARG_BYTES]!;
    count(slot, n, bytes);
    if (left === 0) {
      wire.transmit(slot, frames, bytes);
      return n;
    }
    if (left === n && toOne(ways[0]!, n)) return 0;
    split(slot, n);
    return SOME;
  };
}
