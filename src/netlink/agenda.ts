// What must be dumped, and when: all of a kind after a loss, or routes over one interface where the kernel changes
// them without a word. A dump under which things changed is repeated: at once a few times, then as soon as the kind
// has been quiet, at the latest after a while that doubles. So the mirror converges soon after a storm, and a network
// that never rests does not keep us dumping.

/** In the order in which they are dumped: later ones refer to earlier ones. */
export const KINDS = [
  "rules",
  "links",
  "netconf",
  "addrs",
  "nexthops",
  "routes4",
  "routes6",
  "neighs4",
  "neighs6",
] as const;
export type Kind = (typeof KINDS)[number];

/** With more interfaces than this to look at, all routes are dumped instead. */
const MANY = 16;
const TRIES = 5;
const QUIET_MS = 20;
const LONGEST_MS = 5000;

/** The state of one kind. */
export class Job {
  readonly kind: Kind;
  /** All of it must be dumped. */
  whole = false;
  /** Only what goes over these interfaces; routes alone. */
  readonly oifs = new Set<number>();
  /** Dumps in a row that were not quiet. */
  tries = 0;
  /** When the last event of this kind was seen, and how long the last dump took; ms. */
  lastEvent = 0;
  private duration = 0;
  private notBefore = 0;

  constructor(kind: Kind) {
    this.kind = kind;
  }

  get pending(): boolean {
    return this.whole || this.oifs.size > 0;
  }

  /** When it should run. */
  get due(): number {
    if (!this.pending) return Number.POSITIVE_INFINITY;
    return Math.min(this.notBefore, this.lastEvent + Math.max(QUIET_MS, this.duration / 8));
  }

  addOif(ifindex: number): void {
    if (this.whole) return;
    this.oifs.add(ifindex);
    if (this.oifs.size <= MANY) return;
    this.oifs.clear();
    this.whole = true;
  }

  /** What to dump now; it is off the agenda, what is added meanwhile is not. */
  begin(): { whole: boolean; oifs: number[] } {
    const now = { whole: this.whole, oifs: [...this.oifs] };
    this.whole = false;
    this.oifs.clear();
    return now;
  }

  /** A dump is over. `quiet`: nothing changed under it, so that it is the whole truth. */
  done(quiet: boolean, started: number, now: number): void {
    this.duration = now - started;
    if (quiet) {
      this.tries = 0;
      this.notBefore = now + 2 * this.duration;
      return;
    }
    this.tries++;
    const wait = this.tries < TRIES ? 0 : QUIET_MS * 2 ** Math.min(this.tries - TRIES, 12);
    this.notBefore = now + Math.min(LONGEST_MS, wait + 2 * this.duration);
  }
}

export class Agenda {
  readonly jobs: Record<Kind, Job> = Object.fromEntries(KINDS.map((kind) => [kind, new Job(kind)])) as Record<
    Kind,
    Job
  >;

  /** Everything may be wrong. */
  everything(): void {
    for (const kind of KINDS) this.whole(kind);
  }

  whole(kind: Kind): void {
    this.jobs[kind].whole = true;
    this.jobs[kind].oifs.clear();
  }

  /** Routes over this interface may have changed in silence. */
  routesOver(ifindex: number): void {
    this.routesOver4(ifindex);
    this.routesOver6(ifindex);
  }

  routesOver6(ifindex: number): void {
    this.jobs.routes6.addOif(ifindex);
  }

  routesOver4(ifindex: number): void {
    this.jobs.routes4.addOif(ifindex);
  }

  /** The job to run now, if there is one. */
  next(now: number): Job | undefined {
    for (const kind of KINDS) if (this.jobs[kind].due <= now) return this.jobs[kind];
    return undefined;
  }

  /** When the next job is due: ms since the origin of `now`, Infinity if there is none. */
  get due(): number {
    let due = Number.POSITIVE_INFINITY;
    for (const kind of KINDS) due = Math.min(due, this.jobs[kind].due);
    return due;
  }

  get idle(): boolean {
    return this.due === Number.POSITIVE_INFINITY;
  }
}
