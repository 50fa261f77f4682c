// What a net Worker and the main thread share while somebody captures: which filters there are, and a ring of records.
// One region a net Worker. All words are little-endian i32; `u` marks unsigned ones.
//
//   word 0   version of the sessions, odd while main writes them
//   word 1   lost: records that found no room (u)         written by the Worker
//   word 16  producer cursor, bytes, free running (u)     written by the Worker
//   word 32  consumer cursor, the same (u)                written by main
//   word 64  SESSIONS sessions of SESSION_WORDS words each: length of the filter in bytes (0: no session), then the
//            filter as struct sock_filter[]
//   DATA     the ring, RING_BYTES: records, each a multiple of 4 bytes long, none across the ring's end
//
// A record: RECORD_WORDS words, then the frame's bytes, padded to a whole word:
//   0 bytes of the record (u)   1 sessions that want it (0: padding up to the ring's end) | origin << 8 | version << 16
//   2 captured bytes            3 bytes of the frame            4, 5 time: seconds (u) and nanoseconds since 1970
//   6 verdict                   7 client it went to, -1 none    8 client it came from, -1 none

export const SESSIONS = 4;
/** BPF_MAXINSNS instructions of 8 bytes */
export const FILTER_BYTES = 4096 * 8;

export const VERSION = 0;
export const LOST = 1;
export const PRODUCER = 16;
export const CONSUMER = 32;
const SESSION = 64;
const SESSION_WORDS = 1 + FILTER_BYTES / 4;

export const RING_BYTES = 4 << 20;
export const RECORD_WORDS = 9;
/** Bytes of a frame that are looked at, at most: what a filter sees, too. */
export const FRAME_BYTES = 65536;

/** Word of session `i`. */
export const sessionAt = (i: number): number => SESSION + i * SESSION_WORDS;
/** First word of the ring: on a page of its own. */
export const DATA: number = (Math.ceil((sessionAt(SESSIONS) * 4) / 4096) * 4096) / 4;

/** Bytes of the region; memory is used as records come. */
export const captureBytes: number = DATA * 4 + RING_BYTES;
