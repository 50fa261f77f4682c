// Solicitation: which of the neighbours that traffic asks for are asked of the kernel, and when. Owned by the netlink
// Worker. What comes in was caused by packets, so anybody may have caused it: memory, netlink requests and entries
// in the kernel's table are all bounded, and a flood of made-up addresses must not keep a true one waiting.
//
//   ring message -> checks -> a remembered host: IDLE -> WAITING -> ASKED -> IDLE (answered, or failed: wait longer)
//
// - A host is asked for once in `perHostSeconds`, twice as seldom after each failure (gateways are not).
// - All together: a token bucket, and at most UNRESOLVED requests that the kernel has no answer to yet.
// - What must wait is remembered and asked for later by itself; it holds up nobody else. Gateways of our own routes do
//   not wait for others; of those, the ones asked for most often go first, so that the addresses of a scan come last.
// - Hosts are remembered in sets of WAYS; a new one takes the place of the least deserving of its set.
// - An address that did not answer is taken out of the kernel's table again, or a flood would make its garbage collection
//   throw out neighbours that are of use (net/core/neighbour.c, neigh_forced_gc).
// Neighbours that traffic uses and that are STALE are confirmed (`use`), each once in REFRESH_MS: AF_XDP's transmit
// tells the kernel nothing.

export interface SolicitLimits {
  /** least time between two requests for one host */
  perHostSeconds: number;
  /** most requests a second over all hosts, and how many at once after a quiet time */
  perSecond: number;
  burst: number;
}

/** What became of a message; Verdict.ok and .gateway are worth asking for. */
export const Verdict = { ok: 0, gateway: 1, interface: 2, address: 3, offlink: 4 } as const;

/** What the solicitor must know, from the tables; and how it asks. Addresses: `words` from `at`, 1 or 4. */
export interface Neighbourhood {
  verdict(ifindex: number, family: number, words: Int32Array, at: number): number;
  /** NUD_*, 0 if there is no entry */
  state(ifindex: number, family: number, words: Int32Array, at: number): number;
  /** Asks the kernel to resolve or confirm. */
  use(ifindex: number, family: number, words: Int32Array, at: number): void;
  /** Takes an entry that failed out of the kernel's table. */
  forget(ifindex: number, family: number, words: Int32Array, at: number): void;
}

/** Totals, by the names that metrics have. */
export class SolicitCounts {
  received = 0;
  sent = 0;
  resolved = 0;
  failed = 0;
  /** asked for already, or known by now */
  deduped = 0;
  /** told to wait */
  limited = 0;
  badInterface = 0;
  badAddress = 0;
  offLink = 0;
  /** forgotten, or not remembered at all, for want of room */
  crowded = 0;
  refreshed = 0;
  /** times that requests could not be sent */
  unsent = 0;
}

const NUD_STALE = 4;
const NUD_FAILED = 0x20;
const NUD_USABLE = 0xde; // REACHABLE STALE DELAY PROBE NOARP PERMANENT

const HOSTS = 4096;
const WAYS = 8;
/** Requests without an answer, at most: the kernel's table has room for 1024 by default and collects above 128. */
const UNRESOLVED = 96;
/** Of these, places that only hosts get that were asked for more than once. */
const RESERVED = 32;
/** The kernel gives up after three probes a second apart; if it never says so, this is when we stop waiting. */
const ANSWER_MS = 4500;
const LONGEST_MS = 16_000;
const REFRESH_MS = 4000;
/** How often those that wait are looked at. */
const SOON_MS = 50;

const FREE = 0;
const IDLE = 1;
const WAITING = 2;
const ASKED = 3;

// A host, 8 words: ifindex | family | address (4) | state, gateway << 8, good << 9 | failures << 16 | times asked for.
const WORDS = 8;
const GATEWAY = 0x100;
const GOOD = 0x200;

const hash = (seed: number, a: number, b: number, c: number, d: number, e: number): number => {
  let h = Math.imul(seed ^ a, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15) ^ b, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13) ^ c, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 16) ^ d, 0x27d4eb2f);
  h = Math.imul(h ^ (h >>> 15) ^ e, 0x165667b1);
  return (h ^ (h >>> 16)) >>> 0;
};

export class Solicitor {
  readonly counts: SolicitCounts = new SolicitCounts();
  private readonly limits: SolicitLimits;
  private readonly around: Neighbourhood;
  private readonly hosts = new Int32Array(HOSTS * WORDS);
  /** When it was asked for last (ASKED), or may be again (IDLE, WAITING); ms. */
  private readonly when = new Float64Array(HOSTS);
  private readonly hits = new Int32Array(HOSTS);
  /** Hosts that are WAITING (gateways apart) or ASKED, in no order. */
  private readonly waiting = new HostList();
  private readonly urgent = new HostList();
  private readonly asked = new HostList();
  private readonly refreshed = [new Int32Array(2048), new Int32Array(2048)];
  private refreshedSince = 0;
  private readonly seed: number;
  private tokens: number;
  private refilled = 0;

  constructor(limits: SolicitLimits, around: Neighbourhood, seed: number = (Math.random() * 2 ** 32) | 0) {
    this.limits = limits;
    this.around = around;
    this.seed = seed;
    this.tokens = limits.burst;
  }

  /** One ring message: ifindex | family | address (4) | 0 resolve, 1 in use. `now` in ms, never going back. */
  message(m: Int32Array, now: number): void {
    const ifindex = m[0]!;
    const family = m[1]!;
    const { counts, around } = this;
    counts.received++;
    if (family !== 2 && family !== 10) {
      counts.badAddress++;
      return;
    }
    if (m[6] === 1) {
      this.refresh(m, now);
      return;
    }
    let host = this.find(ifindex, family, m, 2);
    if (host >= 0) {
      this.hits[host] = this.hits[host]! + 1;
      if ((this.hosts[host * WORDS + 6]! & 0xff) !== IDLE) {
        counts.deduped++;
        return;
      }
    }
    const verdict = around.verdict(ifindex, family, m, 2);
    if (verdict === Verdict.interface) counts.badInterface++;
    else if (verdict === Verdict.address) counts.badAddress++;
    else if (verdict === Verdict.offlink) counts.offLink++;
    else if ((around.state(ifindex, family, m, 2) & NUD_USABLE) !== 0) counts.deduped++;
    else {
      if (host < 0) host = this.place(ifindex, family, m, 2, now);
      if (host < 0) {
        counts.crowded++;
        return;
      }
      const base = host * WORDS;
      this.hosts[base + 6] = (this.hosts[base + 6]! & ~GATEWAY) | (verdict === Verdict.gateway ? GATEWAY : 0);
      this.wait(host, now);
    }
  }

  /** Every event about a neighbour: answers what was asked. `state` 0: it is gone. */
  event(ifindex: number, family: number, words: Int32Array, at: number, state: number, now: number): void {
    if (this.asked.n === 0) return;
    const host = this.find(ifindex, family, words, at);
    if (host < 0 || (this.hosts[host * WORDS + 6]! & 0xff) !== ASKED) return;
    if ((state & NUD_USABLE) !== 0) this.succeed(host);
    else if (state === NUD_FAILED) this.fail(host, now);
  }

  /** Asks for what may be asked for now. Returns ms until there is something to do again, -1 if nothing waits. */
  turn(now: number): number {
    this.refill(now);
    const { asked, urgent, waiting, when } = this;
    for (let i = asked.n - 1; i >= 0; i--)
      if (now - when[asked.items[i]!]! > ANSWER_MS) this.fail(asked.items[i]!, now);
    for (let i = urgent.n - 1; i >= 0; i--)
      if (when[urgent.items[i]!]! <= now) this.ask(urgent.items[i]!, now);
    while (this.tokens >= 1 && waiting.n > 0) {
      const host = this.choose(now);
      if (host < 0) break;
      this.tokens--;
      this.ask(host, now);
    }
    if (waiting.n + urgent.n === 0) return asked.n > 0 ? SOON_MS * 10 : -1;
    return this.tokens < 1 ? Math.ceil(1000 / this.limits.perSecond) : SOON_MS;
  }

  /** Requests that the kernel has not answered. */
  get unresolved(): number {
    return this.asked.n;
  }

  private ask(host: number, now: number): void {
    const { hosts } = this;
    const base = host * WORDS;
    this.listOf(host).remove(host);
    if ((this.around.state(hosts[base]!, hosts[base + 1]!, hosts, base + 2) & NUD_USABLE) !== 0) {
      this.become(host, IDLE); // somebody else's doing, meanwhile
      this.counts.deduped++;
      return;
    }
    this.become(host, ASKED);
    this.asked.add(host);
    this.when[host] = now;
    this.counts.sent++;
    this.around.use(hosts[base]!, hosts[base + 1]!, hosts, base + 2);
  }

  private listOf(host: number): HostList {
    return (this.hosts[host * WORDS + 6]! & GATEWAY) !== 0 ? this.urgent : this.waiting;
  }

  private wait(host: number, now: number): void {
    this.become(host, WAITING);
    this.listOf(host).add(host);
    if (this.when[host]! > now || this.tokens < 1 || this.asked.n >= UNRESOLVED - RESERVED)
      this.counts.limited++;
  }

  private succeed(host: number): void {
    this.asked.remove(host);
    this.become(host, IDLE);
    this.hosts[host * WORDS + 6] = (this.hosts[host * WORDS + 6]! & 0xffff) | GOOD;
    this.when[host] = this.when[host]! + this.limits.perHostSeconds * 1000;
    this.counts.resolved++;
  }

  private fail(host: number, now: number): void {
    const { hosts } = this;
    const base = host * WORDS;
    this.asked.remove(host);
    this.become(host, IDLE);
    const gateway = (hosts[base + 6]! & GATEWAY) !== 0;
    const failures = gateway ? 1 : Math.min((hosts[base + 6]! >>> 16) + 1, 16);
    hosts[base + 6] = (hosts[base + 6]! & 0xffff) | (failures << 16);
    const wait = Math.min(this.limits.perHostSeconds * 1000 * 2 ** (failures - 1), LONGEST_MS);
    this.when[host] = now + wait;
    this.hits[host] = 0;
    this.counts.failed++;
    if ((hosts[base + 6]! & (GATEWAY | GOOD)) === 0)
      this.around.forget(hosts[base]!, hosts[base + 1]!, hosts, base + 2);
  }

  private become(host: number, state: number): void {
    this.hosts[host * WORDS + 6] = (this.hosts[host * WORDS + 6]! & ~0xff) | state;
  }

  /** The most deserving of those whose time has come, if there is a place for it; -1: none. */
  private choose(now: number): number {
    const { waiting, hosts, hits, when } = this;
    let best = -1;
    let most = 0;
    for (let i = 0; i < waiting.n; i++) {
      const host = waiting.items[i]!;
      if (when[host]! > now) continue;
      const worth = hits[host]! + ((hosts[host * WORDS + 6]! & GOOD) !== 0 ? 1e6 : 0);
      if (worth > most) {
        best = host;
        most = worth;
      }
    }
    return this.asked.n < (most > 1 ? UNRESOLVED : UNRESOLVED - RESERVED) ? best : -1;
  }

  private find(ifindex: number, family: number, words: Int32Array, at: number): number {
    const { hosts } = this;
    const [b, c, d] = family === 2 ? [0, 0, 0] : [words[at + 1]!, words[at + 2]!, words[at + 3]!];
    const set = hash(this.seed, ifindex, words[at]!, b, c, d) % (HOSTS / WAYS);
    for (let host = set * WAYS; host < set * WAYS + WAYS; host++) {
      const base = host * WORDS;
      if (
        hosts[base] === ifindex &&
        hosts[base + 1] === family &&
        hosts[base + 2] === words[at] &&
        hosts[base + 3] === b &&
        hosts[base + 4] === c &&
        hosts[base + 5] === d &&
        (hosts[base + 6]! & 0xff) !== FREE
      )
        return host;
    }
    return -1;
  }

  /** Room for a new host in its set: a free place, else of the least deserving that the kernel is not busy with. */
  private place(ifindex: number, family: number, words: Int32Array, at: number, now: number): number {
    const { hosts, hits, when } = this;
    const [b, c, d] = family === 2 ? [0, 0, 0] : [words[at + 1]!, words[at + 2]!, words[at + 3]!];
    const set = hash(this.seed, ifindex, words[at]!, b, c, d) % (HOSTS / WAYS);
    let host = -1;
    let least = Number.POSITIVE_INFINITY;
    for (let i = set * WAYS; i < set * WAYS + WAYS; i++) {
      const flags = hosts[i * WORDS + 6]!;
      const state = flags & 0xff;
      if (state === ASKED) continue;
      // Free, then idle (those first that may be asked for again anyway), then the least often asked for.
      let worth = hits[i]! + 10 + ((flags & GATEWAY) !== 0 ? 1e9 : (flags & GOOD) !== 0 ? 1e3 : 0);
      if (state === FREE) worth = -1;
      else if (state === IDLE) worth = when[i]! <= now ? 0 : 1;
      if (worth < least) {
        least = worth;
        host = i;
      }
    }
    if (host < 0) return -1;
    const base = host * WORDS;
    if ((hosts[base + 6]! & 0xff) === WAITING) {
      this.listOf(host).remove(host);
      this.counts.crowded++;
    }
    hosts[base] = ifindex;
    hosts[base + 1] = family;
    hosts[base + 2] = words[at]!;
    hosts[base + 3] = b;
    hosts[base + 4] = c;
    hosts[base + 5] = d;
    hosts[base + 6] = IDLE;
    hits[host] = 1;
    when[host] = 0;
    return host;
  }

  /** Traffic uses it: if it is STALE, has the kernel confirm it, once in REFRESH_MS (or in a few of them: bits collide). */
  private refresh(m: Int32Array, now: number): void {
    const { counts, around } = this;
    if (now - this.refreshedSince > REFRESH_MS) {
      this.refreshed.reverse();
      this.refreshed[0]!.fill(0);
      this.refreshedSince = now;
    }
    if (around.state(m[0]!, m[1]!, m, 2) !== NUD_STALE) return;
    const bit = hash(this.seed, m[0]!, m[2]!, m[3]!, m[4]!, m[5]!) & 0xffff;
    const mask = 1 << (bit & 31);
    if (((this.refreshed[0]![bit >>> 5]! | this.refreshed[1]![bit >>> 5]!) & mask) !== 0) {
      counts.deduped++;
      return;
    }
    this.refill(now);
    if (this.tokens < 1) {
      counts.limited++; // the next packet asks again
      return;
    }
    this.tokens--;
    this.refreshed[0]![bit >>> 5]! |= mask;
    counts.refreshed++;
    around.use(m[0]!, m[1]!, m, 2);
  }

  private refill(now: number): void {
    const { perSecond, burst } = this.limits;
    this.tokens = Math.min(burst, this.tokens + ((now - this.refilled) * perSecond) / 1000);
    this.refilled = now;
  }
}

/** Some of the hosts, in no order; adding, removing and picking are O(1). */
class HostList {
  n = 0;
  readonly items = new Int32Array(HOSTS);
  private readonly where = new Int32Array(HOSTS).fill(-1);

  add(host: number): void {
    this.where[host] = this.n;
    this.items[this.n++] = host;
  }

  remove(host: number): void {
    const at = this.where[host]!;
    const last = this.items[--this.n]!;
    this.items[at] = last;
    this.where[last] = at;
    this.where[host] = -1;
  }
}
