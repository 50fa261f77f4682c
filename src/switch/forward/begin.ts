// What the two loops are told before each batch of a client's: the card, the client, and with what flows and next hops are kept.
// Whatever is kept goes with its stamp: flows have another one for each client, each version of the switch table and each second,
// so that the first frame of a flow in each is looked for and keeps a claim from expiring; and while there are matches of any
// address, which are of this host's, for each change of a route. Next hops have another one for each epoch of netbase, and
// whenever its neighbours move to another table.
import { H_EPOCH, H_NEIGH4, H_RIB_SEQ } from "../../netbase/layout.ts";
import { ETHERNET } from "../../wire/ether.ts";
import { swapPorts } from "../../wire/packet.ts";
import type { Core } from "../core.ts";
import {
  CLIENT_MTU,
  H_PATTERNS,
  H_VERSION,
  H_WILD,
  PATTERN_DST,
  PATTERN_META,
  PATTERN_PORTS,
  PATTERN_SRC,
  PATTERN_WORDS,
} from "../table/layout.ts";
import { isMeeting } from "../table/pattern.ts";
import { PORT_LONGEST, PORT_SRC_HEAD, PORT_SRC_TAIL } from "../transmit.ts";
import {
  ARG_CARD,
  ARG_HOPS,
  ARG_KEYS,
  ARG_LESS,
  ARG_LINK,
  ARG_LONGEST,
  ARG_MEETS,
  ARG_WHOLE,
  FLOW_WORDS,
  FLOWS_LOG2,
  HOP_WORDS,
  HOPS_LOG2,
  KEYS_STAMP,
  type Places,
} from "./places.ts";

const PROTOCOL = 0xff00; // in word 2 of IPv4's header
/** Then flows begin anew. */
const LAST_STAMP = 2 ** 31 - 2;

/** Writes `args` for client `slot`. */
export type Begin = (slot: number) => void;

export function makeBegin(core: Core, at: Places, args: Int32Array): Begin {
  const { words, netbase, transmit, table, deliver } = core;
  const { port } = transmit;
  const shared = table.words;
  const base = netbase.words;
  args.set([PROTOCOL, -1, -1, -1], ARG_WHOLE);
  const { clients } = table.layout.capacity;
  const stamps = new Int32Array(clients);
  /** Versions of the table that they are for, and seconds; changes of routes. */
  const versions = new Int32Array(clients);
  const seconds = new Int32Array(clients);
  const changes = new Int32Array(clients);
  /** netbase's epoch, and which of its tables of neighbours it was, for what is kept of next hops. */
  const epochs = new Int32Array(2);
  let stamp = 0;
  let version = shared[H_VERSION]! - 1;
  const clear = (at: number, bytes: number): void => void words.fill(0, at >>> 2, (at + bytes) >>> 2);

  /**
   * Another version: what all patterns together look at of a flow, but those that are about two addresses; searches are for whose
   * the answers are.
   */
  const follow = (): void => {
    version = shared[H_VERSION]!;
    let [src, dst, ports, meets] = [0, 0, 0, 0];
    for (let p = shared[H_PATTERNS]!; shared[p + PATTERN_META] !== 0; p += PATTERN_WORDS) {
      if (isMeeting(shared[p + PATTERN_META]!)) {
        meets = 1;
        continue;
      }
      src |= shared[p + PATTERN_DST]!;
      dst |= shared[p + PATTERN_SRC]!;
      ports |= swapPorts(shared[p + PATTERN_PORTS]!);
    }
    if (shared[H_WILD] !== 0) src = -1;
    args.set([PROTOCOL, src, dst, ports], ARG_KEYS);
    args[ARG_MEETS] = meets;
  };

  return (slot) => {
    if (shared[H_VERSION] !== version) follow();
    const change = shared[H_WILD] === 0 ? 0 : base[H_RIB_SEQ]!;
    if (
      versions[slot] !== version ||
      seconds[slot] !== core.now ||
      changes[slot] !== change ||
      stamps[slot] === 0
    ) {
      if (stamp === LAST_STAMP) {
        stamp = 0;
        stamps.fill(0);
        clear(at.flows, (FLOW_WORDS * 4) << FLOWS_LOG2);
      }
      stamp += 2;
      stamps[slot] = stamp;
      versions[slot] = version;
      seconds[slot] = core.now;
      changes[slot] = change;
    }
    args[ARG_KEYS + KEYS_STAMP] = stamps[slot]!;
    args[ARG_WHOLE + KEYS_STAMP] = stamps[slot]! + 1;
    const card0 = port[PORT_SRC_HEAD]!;
    const tail = port[PORT_SRC_TAIL]!;
    args[ARG_LINK] = card0 << 16;
    args[ARG_LINK + 1] = (card0 >>> 16) | (tail << 16);
    args[ARG_LINK + 2] = core.mac0(slot);
    args[ARG_LINK + 3] = (core.mac1(slot) & 0xffff) | (tail & ~0xffff);
    const longest = shared[table.client(slot) + CLIENT_MTU]! + ETHERNET;
    args[ARG_LONGEST] = Math.min(port[PORT_LONGEST]!, longest);
    args[ARG_CARD] = card0;
    args[ARG_CARD + 1] = tail;
    args[ARG_LESS] = deliver.ports.of(slot)?.isIp === true ? 0 : 1;
    const epoch = base[H_EPOCH]!;
    const neighbours = base[H_NEIGH4]!;
    if (epoch === epochs[0] && neighbours === epochs[1]) return;
    epochs[0] = epoch;
    epochs[1] = neighbours;
    args[ARG_HOPS] = (args[ARG_HOPS]! + 1) | 0;
    if (args[ARG_HOPS] === 0) clear(at.hops, (HOP_WORDS * 4) << HOPS_LOG2);
  };
}
