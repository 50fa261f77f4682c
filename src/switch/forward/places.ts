// Where the pass over clients' frames (forward.ts) has what it works with: in the frame memory, where its two loops of
// WebAssembly see it too. All in bytes; `args` is words, written before each batch.
//
//   batch    words, VECTOR of each: offsets | lengths | ways | where the flow of one to be asked about is kept | cells of the FIB
//   least    a word a protocol: bytes of a packet of it at least
import { VECTOR } from "../../link/link.ts";
import { LENS } from "../../link/memif/copies.ts";
import { scratch } from "../../mem/frames.ts";
import { IPPROTO_TCP, IPPROTO_UDP } from "../../wire/packet.ts";
import { and, type Code, type Operand, or, shr } from "../../wire/wasm.ts";

export const WAYS: number = 2 * LENS;
export const ENTRIES: number = 3 * LENS;
export const CELLS: number = 4 * LENS;
/** Words behind a batch's offsets and lengths. */
export const MORE: number = VECTOR * 3;

/** Where a frame goes: to the wire, to client WAY - 1, or not known: to be asked about, or for the general way. */
export const WIRE = 0;
export const ASK = -1;
export const OTHER = -2;

// Words of `args`.
export const ARG_LINK = 0; // words -4 to -1 of a frame that the client sends the card
export const ARG_LONGEST = 4; // frame that the client may send
export const ARG_HOPS = 5; // stamp of what is kept of next hops
export const ARG_CARD = 6; // words -2 and -1 of a frame from the card
export const ARG_LESS = 8; // hops that a packet loses: 1, or 0 if it is this host's own
export const ARG_BYTES = 9; // told: of all frames
export const ARG_MEETS = 10; // not 0: there are matches of one source and one destination
export const ARG_LOOK = 11; // depart.ts's: a neighbour's sequence number, at the first look
export const ARG_KEYS = 16; // KEYS_WORDS
export const ARG_WHOLE = 24; // the same of flows whose addresses a match may be about: the next KEYS_WORDS
export const ARG_WORDS = 32;

// How flows are kept: what of words 2 to 5 of an IPv4 header with ports, which are TTL, protocol and checksum, source,
// destination, ports; and a stamp, which is another one for each client, each version of the table and each second.
export const KEYS_WORDS = 8;
export const KEYS_STAMP = 4;

// A flow: its four words, as they are kept; then
export const FLOW_WORDS = 8;
export const FLOW_STAMP = 4;
export const FLOW_WAY = 5;
export const FLOWS_LOG2 = 12;

// A next hop that a frame can go by, and where its neighbour is.
export const HOP_WORDS = 4;
export const HOP_RECORD = 0; // where it is
export const HOP_STAMP = 1; // ARG_HOPS when it was looked at
export const HOP_NEAR = 2;
export const HOP_NEXT = 3; // the neighbour's address
export const HOPS_LOG2 = 10;

export interface Places {
  readonly batch: number;
  readonly args: number;
  readonly least: number;
  readonly flows: number;
  readonly hops: number;
  /** where netbase and the switch table are mapped */
  readonly netbase: number;
  readonly table: number;
}

/** Bytes of an IPv4 packet, by the first word of its header. */
export const totalOf = (word: Operand): Code => or(and(shr(word, 8), 0xff00), shr(word, 24));

/** @param batch where it is: frameBatch's with MORE */
export function makePlaces(
  memory: WebAssembly.Memory,
  batch: number,
  netbase: number,
  table: number,
): Places {
  const least = scratch(memory, 256 * 4);
  const bytes = new Int32Array(memory.buffer, least, 256).fill(-1);
  bytes[IPPROTO_UDP] = 28;
  bytes[IPPROTO_TCP] = 40;
  return {
    ...{ batch, netbase, table, least },
    args: scratch(memory, ARG_WORDS * 4),
    flows: scratch(memory, (FLOW_WORDS * 4) << FLOWS_LOG2),
    hops: scratch(memory, (HOP_WORDS * 4) << HOPS_LOG2),
  };
}
