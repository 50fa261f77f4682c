// Flows that a net Worker saw packets of, for rules that say `established`: which tuples, and when the last packet of each
// direction was. In its own region: it alone writes, and the others look there too, since a client's packets come by any
// queue and leave by its home's. Only kept while a rule asks for it.
//
// Sets of WAYS records, 16 words each, of which the one that was longest without a packet makes room:
//   0 sequence: odd while it is written | 1 when the client sent | 2 when the other side did (seconds; 0 never)
//   3 client | 4 its generation | 5 protocol, family << 8 | 6 ports, as those of the answers | 7.. own | 11.. other address
import { fence } from "../../netbase/fence.ts";

const SETS = 4096;
const WAYS = 4;
const RECORD = 16;
const SEQUENCE = 0;
/** The client, or the other side, has sent in this flow. */
export const SENT = 1;
export const HEARD = 2;
const KEY = 3;
const KEY_WORDS = 12;

export const flowBytes: number = SETS * WAYS * RECORD * 4;

export class Flows {
  /** The flow in question: KEY_WORDS words. */
  readonly key: Int32Array = new Int32Array(KEY_WORDS);
  private readonly own: Int32Array;
  private readonly all: readonly Int32Array[];
  private readonly seed: number;

  /** @param regions of all net Workers; @param worker which is ours to write; @param seed the same for all */
  constructor(regions: readonly Int32Array[], worker: number, seed: number) {
    this.all = regions;
    this.seed = seed;
    this.own = regions[worker]!;
  }

  /** The flow of `key` has a packet now. @param which SENT or HEARD; @param now seconds, over 0 */
  add(which: number, now: number): void {
    const { own, key } = this;
    const set = this.set();
    let at = set;
    for (let way = 0; way < WAYS; way++) {
      const one = set + way * RECORD;
      if (this.isKey(own, one)) {
        own[one + which] = now;
        return;
      }
      if (lastOf(own, one) < lastOf(own, at)) at = one;
    }
    const sequence = own[at + SEQUENCE]!;
    Atomics.store(own, at + SEQUENCE, sequence | 1);
    own[at + SENT] = own[at + HEARD] = 0;
    for (let i = 0; i < KEY_WORDS; i++) own[at + KEY + i] = key[i]!;
    own[at + which] = now;
    Atomics.store(own, at + SEQUENCE, ((sequence | 1) + 1) | 0);
  }

  /** When `which` side had its last packet in the flow of `key`, as far as any Worker knows: seconds; 0 never. */
  last(which: number): number {
    const set = this.set();
    let last = 0;
    for (let i = 0; i < this.all.length; i++) {
      const words = this.all[i]!;
      for (let at = set; at < set + WAYS * RECORD; at += RECORD) {
        if (!this.isKey(words, at)) continue;
        // Another Worker may be writing another flow here.
        const sequence = words[at + SEQUENCE]!;
        fence();
        const when = words[at + which]!;
        const isIt = this.isKey(words, at);
        fence();
        if (isIt && (sequence & 1) === 0 && words[at + SEQUENCE] === sequence && when > last) last = when;
      }
    }
    return last;
  }

  private isKey(words: Int32Array, at: number): boolean {
    for (let i = 0; i < KEY_WORDS; i++) if (words[at + KEY + i] !== this.key[i]) return false;
    return true;
  }

  private set(): number {
    let h = this.seed;
    for (let i = 0; i < KEY_WORDS; i++) {
      h = Math.imul(h ^ this.key[i]!, 0x85ebca6b);
      h ^= h >>> 15;
    }
    return (h & (SETS - 1)) * WAYS * RECORD;
  }
}

const lastOf = (words: Int32Array, at: number): number =>
  words[at + SENT]! > words[at + HEARD]! ? words[at + SENT]! : words[at + HEARD]!;
