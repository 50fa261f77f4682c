// Memory for programs and texts, in blocks of a power of two of words: a list of spare ones each. Private to the writer;
// what is given back may be taken at once.

const LEAST = 5; // 32 words: two cache lines

export class Arena {
  private readonly spare: number[][] = [];
  private next: number;
  private readonly end: number;

  constructor(begin: number, end: number) {
    this.next = begin;
    this.end = end;
  }

  /** The class of blocks that so many words go into. */
  static classOf(words: number): number {
    return Math.max(LEAST, Math.ceil(Math.log2(words)));
  }

  /** The first word of a block of this class; 0 if there is none left. */
  take(size: number): number {
    const found = this.spare[size]?.pop();
    if (found !== undefined) return found;
    const at = this.next;
    if (at + 2 ** size > this.end) return 0;
    this.next = at + 2 ** size;
    return at;
  }

  give(at: number, size: number): void {
    (this.spare[size] ??= []).push(at);
  }
}
