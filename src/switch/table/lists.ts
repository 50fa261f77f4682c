// Lists of numbers, each number in one list at most: what belongs to whom, oldest first. Private memory of one thread.

export class Lists {
  private readonly first: Int32Array;
  private readonly last: Int32Array;
  private readonly after: Int32Array;
  private readonly before: Int32Array;
  private readonly lengths: Int32Array;

  /** @param lists how many lists; @param numbers the numbers are 1 to this */
  constructor(lists: number, numbers: number) {
    this.first = new Int32Array(lists);
    this.last = new Int32Array(lists);
    this.lengths = new Int32Array(lists);
    this.after = new Int32Array(numbers + 1);
    this.before = new Int32Array(numbers + 1);
  }

  length(list: number): number {
    return this.lengths[list]!;
  }

  /** The first number of a list; 0 if it is empty. */
  head(list: number): number {
    return this.first[list]!;
  }

  /** The number after this one in its list; 0 if there is none. */
  next(number: number): number {
    return this.after[number]!;
  }

  append(list: number, number: number): void {
    const last = this.last[list]!;
    this.before[number] = last;
    this.after[number] = 0;
    if (last === 0) this.first[list] = number;
    else this.after[last] = number;
    this.last[list] = number;
    this.lengths[list]!++;
  }

  remove(list: number, number: number): void {
    const before = this.before[number]!;
    const after = this.after[number]!;
    if (before === 0) this.first[list] = after;
    else this.after[before] = after;
    if (after === 0) this.last[list] = before;
    else this.before[after] = before;
    this.lengths[list]!--;
  }
}
