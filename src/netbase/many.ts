// Many neighbours at a time, for who has many packets at a time: `find` of find.ts for all of them in one call. Where the tables
// are larger than a core's caches, a lookup waits for memory, and for the branch that was guessed wrong meanwhile; so the first
// loop only asks memory for the entries, all of them at once, and the second one reads them (bench neigh: a hit among 64k
// IPv6 neighbours takes two thirds of the time).
//
// The code is WebAssembly's, which compares an address at once and checks no bounds; so questions and answers are in memory
// of its own, with netbase mapped behind them (mem/views.ts).
import { mapRegions, placeFrames } from "../mem/views.ts";
import type { RegionRef } from "../mem/region.ts";
import {
  add,
  all,
  and,
  type Code,
  Func,
  isFrom,
  isUnlike,
  isZero,
  load,
  repeat,
  shl,
  shr,
  store,
  when,
  wide,
} from "../wire/wasm.ts";
import { TRIES } from "./find.ts";
import type { Layout } from "./layout.ts";
import { entryCode, hash4Code, hash6Code, isOther4, isOther6, probed, walkCode } from "./probe.ts";

// Words of an answer.
export const FOUND_WORDS = 4;
export const FOUND_STATE = 0; // NUD_*, 0 if it is not in the table: then the rest is anything
export const FOUND_MAC0 = 2; // as NeighReader4.mac0 and mac1
export const FOUND_MAC1 = 3;

/** See `Many.find4`; of the code itself, all in bytes of the memory. */
type FindAll = (asked: number, n: number, found: number, ifindex: number) => number;

/** @param base where netbase begins in the memory; @param seed H_NEIGH_SEED */
function makeFindAll(
  memory: WebAssembly.Memory,
  at: Layout,
  base: number,
  seed: number,
  six: boolean,
): FindAll {
  const f = new Func("asked", "n", "found", "ifindex");
  const { asked, n, found, ifindex } = f.parameters;
  const { question, answer, end, begin, slot, entry, key } = f.locals(
    ...(["question", "answer", "end", "begin", "slot", "entry", "key"] as const),
  );
  const { state, isMissing, walked, tries, w2, last, count } = f.locals(
    ...(["state", "isMissing", "walked", "tries", "w2", "last", "count"] as const),
  );
  const mac = f.wide();
  const table = probed(at, base, six);
  const bytes = six ? 16 : 4;

  const hash = six
    ? hash6Code(slot, seed, question, w2, last, ifindex)
    : all(last.set(load(question)), hash4Code(slot, seed, last, ifindex));
  const isOther = six
    ? isOther6(table, entry, question, ifindex)
    : isOther4(table, entry, load(question), ifindex);
  const first = all(
    hash,
    store(answer, slot),
    store(answer, load(entryCode(table, begin, slot), bytes - 4), 4), // has it come from memory
  );

  // Takes what is at `entry` over, if that did not change: `state`, or 0 if nobody is there, or -1. The stores keep the compiler
  // from moving the first look at the sequence number behind the comparisons, which it did, and from taking the second for it.
  const read = all(
    mac.set(wide.load(entry, table.mac)),
    wide.store(answer, mac, FOUND_MAC0 * 4),
    key.set(load(entry, table.key)),
    store(answer, key, 4),
    state.set(-1),
    when(
      isOther,
      when(isZero(key), state.set(0)),
      when(wide.isSame(wide.load(entry, table.mac), mac), state.set(shr(key, 24))),
    ),
  );
  const isOpen = isFrom(state, 0x80000000);
  const again = all(
    hash,
    walkCode(table, slot, entry, isOther, isMissing, walked),
    when(isMissing, state.set(0), read),
    tries.by(1),
  );
  // Most are in one of two slots: which, is worked out without a branch that could be guessed wrong.
  const second = all(
    slot.set(add(load(answer), isUnlike(load(answer, 4), load(question, bytes - 4)))),
    entry.set(entryCode(table, begin, slot)),
    read,
    when(isOpen, all(tries.set(0), repeat(again, and(isOpen, isUnlike(tries, TRIES))))),
    when(isOpen, state.set(0)),
    store(answer, state, FOUND_STATE * 4),
    count.by(isUnlike(state, 0)),
  );
  const each = (body: Code): Code =>
    all(
      question.set(asked),
      answer.set(found),
      end.set(add(found, shl(n, 4))),
      repeat(all(body, question.by(bytes), answer.by(FOUND_WORDS * 4)), isUnlike(answer, end)),
    );
  return f.over(memory, all(begin.set(table.begin), when(n, all(each(first), each(second)))), count);
}

/** Questions and answers, in memory that is the reader's alone. */
export class Many {
  /** For both: who asks says where in it they are. */
  readonly words: Int32Array;
  /**
   * Looks up `n` neighbours on one interface, whose addresses (memory words, 1 each) begin at word `asked`. Answers of
   * FOUND_WORDS each begin at word `found`, a multiple of 4. Returns how many are in the table.
   */
  readonly find4: FindAll;
  /** The same for IPv6: 4 words an address. */
  readonly find6: FindAll;

  /** @param words how many; @throws RangeError where netbase is too large to be mapped beside them */
  constructor(netbase: RegionRef, at: Layout, seed: number, words: number) {
    const { memory, isMapped } = placeFrames(words * 4, 0, [netbase.bytes]);
    if (!isMapped) throw new RangeError(`netbase of ${netbase.bytes} bytes: 4 GiB are what can be mapped`);
    const [base] = mapRegions(memory, netbase) as [number];
    const of = (six: boolean): FindAll => {
      const all = makeFindAll(memory, at, base, seed, six);
      return (asked, n, found, ifindex) => all(asked << 2, n, found << 2, ifindex);
    };
    this.words = new Int32Array(memory.buffer, 0, words);
    this.find4 = of(false);
    this.find6 = of(true);
  }
}
