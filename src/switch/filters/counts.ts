// What each filter and each rule let pass and refused: a row of doubles each, in each net Worker's own region. The Worker
// counts straight into it; control and main add up the Workers' rows.
//
//   of a filter's row   0 the filter's id (layout.ts) | 1 passed | 2 refused      another id: another filter had the row
//   of a rule           0 packets that it decided about
const STRIDE_SHIFT = 2;
const STRIDE = 1 << STRIDE_SHIFT;
const ID = 0;
const PASSED = 1;
const REFUSED = 2;

/** Rules that there may be. */
export const RULES = 256;

export interface Count {
  readonly passed: number;
  readonly refused: number;
}

export class Counts {
  private readonly values: Float64Array;
  private readonly words: Int32Array;
  private readonly rules: Float64Array;

  static bytes(filters: number): number {
    return ((filters + 1) * STRIDE + RULES) * 8;
  }

  /** Hot. @param id of the filter that has the row now */
  readonly add: (row: number, id: number, passes: boolean) => void;

  constructor(buffer: ArrayBuffer, filters: number) {
    const values = new Float64Array(buffer, 0, (filters + 1) * STRIDE);
    this.values = values;
    this.words = new Int32Array(buffer, 0, values.length * 2);
    this.rules = new Float64Array(buffer, values.byteLength, RULES);
    this.add = (row, id, passes) => {
      const at = (row << STRIDE_SHIFT) | 0;
      if (values[at + ID] !== id) {
        values[at + ID] = id;
        values[at + PASSED] = 0;
        values[at + REFUSED] = 0;
      }
      const which = passes ? at + PASSED : at + REFUSED;
      values[which] = values[which]! + 1;
    };
  }

  /** A word of the row's, so that it is loaded. Hot. */
  peek(row: number): number {
    return this.words[row << (STRIDE_SHIFT + 1)]!;
  }

  /** Hot. */
  addRule(rule: number): void {
    this.rules[rule] = this.rules[rule]! + 1;
  }

  /** Of all Workers together. */
  static sum(all: readonly Counts[], row: number, id: number): Count {
    let passed = 0;
    let refused = 0;
    for (const one of all) {
      const count = one.read(row, id);
      passed += count.passed;
      refused += count.refused;
    }
    return { passed, refused };
  }

  private read(row: number, id: number): Count {
    const { values } = this;
    const at = row * STRIDE;
    if (values[at + ID] !== id) return { passed: 0, refused: 0 };
    return { passed: values[at + PASSED]!, refused: values[at + REFUSED]! };
  }

  static sumRule(all: readonly Counts[], rule: number): number {
    return all.reduce((sum, { rules }) => sum + rules[rule]!, 0);
  }
}
