// The rules as a net Worker runs them: a list for everybody and one a user, each for one direction, in the order of the
// configuration.
import { compile } from "../../filter/compile.ts";
import type { Filter } from "../../filter/interpret.ts";
import type { Meta } from "../../filter/packet.ts";
import type { Counts } from "./counts.ts";
import type { Rule } from "./rule.ts";
import { FRAME_ALIGN } from "./writer.ts";

export class Layer {
  private readonly rules: readonly Rule[];
  private readonly numbers: readonly number[];
  private readonly filters: readonly (Filter | undefined)[];
  private readonly counts: Counts;

  /** @param numbers of `rules` in the configuration */
  constructor(
    rules: readonly Rule[],
    numbers: readonly number[],
    bytes: Uint8Array,
    meta: Meta,
    counts: Counts,
  ) {
    this.rules = rules;
    this.numbers = numbers;
    this.filters = rules.map(({ program }) => program && compile(program, bytes, meta, FRAME_ALIGN));
    this.counts = counts;
  }

  /** Whether the frame passes. Hot. @param established asked once at most */
  allows(off: number, len: number, established: () => boolean): boolean {
    const { rules, filters } = this;
    for (let i = 0; i < rules.length; i++) {
      const rule = rules[i]!;
      if (rule.established && !established()) continue;
      const filter = filters[i];
      if (filter !== undefined && filter(off, len) === 0) continue;
      this.counts.addRule(this.numbers[i]!);
      return !rule.deny;
    }
    return true;
  }
}

/** Those of one direction: by uid, -1 everybody's. */
export function layersOf(
  rules: readonly Rule[],
  isOut: boolean,
  bytes: Uint8Array,
  meta: Meta,
  counts: Counts,
): Map<number, Layer> {
  const layers = new Map<number, Layer>();
  for (const uid of new Set(rules.map((rule) => rule.uid))) {
    const numbers = rules.flatMap((rule, i) => (rule.uid === uid && rule.isOut === isOut ? [i] : []));
    if (numbers.length > 0)
      layers.set(
        uid,
        new Layer(
          numbers.map((i) => rules[i]!),
          numbers,
          bytes,
          meta,
          counts,
        ),
      );
  }
  return layers;
}
