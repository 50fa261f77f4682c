// What a net Worker asks of the control Worker: a ring of requests in its own region (own.ts), answered in order. The
// control Worker acts on a request, then says so by its number in the table (`TableWriter.answer`): whoever sees that finds
// in the table what came of it. A request's words stay until then, so what is asked already is not asked again.
//
//   0 kind | 1 client | 2 its generation | 3 family, protocol << 8 | 4 ports | 5..8 destination | 9..12 source
//
// A claim is the tuple of the answers: the destination is the client's own address and port. DHCP: word 5 is the
// transaction id.
import { fence } from "../netbase/fence.ts";
import type { TableReader } from "./table/find.ts";
import { CLIENT_GEN } from "./table/layout.ts";
import { type Own, REQUEST_WORDS, REQUESTS, requestAt } from "./own.ts";

export const REQUEST_CLAIM = 1;
export const REQUEST_DHCP = 2;
/** The client's channel is gone: nobody reads at its end. */
export const REQUEST_GONE = 3;

export const R_KIND = 0;
export const R_CLIENT = 1;
export const R_GEN = 2;
export const R_FORM = 3;
export const R_PORTS = 4;
export const R_DST = 5;
export const R_SRC = 9;

/** The asking side, in a net Worker. */
export class Requests {
  /** The request in the making. */
  readonly next: Int32Array = new Int32Array(REQUEST_WORDS);
  /** The number of the one asked last: free running. */
  asked = 0;
  private readonly own: Own;
  private readonly table: TableReader;
  private readonly worker: number;
  private made: number;

  constructor(own: Own, table: TableReader, worker: number) {
    this.own = own;
    this.table = table;
    this.worker = worker;
    this.made = own.made[0]!;
  }

  /** Says that a client's channel is closed at its end; once is enough. */
  gone(client: number): void {
    this.begin(REQUEST_GONE, client);
    if (!this.isPending()) this.ask();
  }

  /** Begins a request; what it says more is written to `next`. */
  begin(kind: number, client: number): void {
    const { next, table } = this;
    next.fill(0);
    next[R_KIND] = kind;
    next[R_CLIENT] = client;
    next[R_GEN] = table.words[table.client(client) + CLIENT_GEN]!;
  }

  /** Whether the same is asked and not answered yet; that is then `asked`. */
  isPending(): boolean {
    for (let number = this.made; !this.isAnswered(number); number = (number - 1) | 0)
      if (this.isNext(requestAt(number))) {
        this.asked = number;
        return true;
      }
    return false;
  }

  /** Asks; false if too much is unanswered. The control Worker is to be woken afterwards. */
  ask(): boolean {
    const { own, made } = this;
    if (this.isAnswered((made - REQUESTS + 1) | 0)) {
      this.made = (made + 1) | 0;
      this.asked = this.made;
      own.requests.set(this.next, requestAt(this.made));
      Atomics.store(own.made, 0, this.made);
      return true;
    }
    return false;
  }

  isAnswered(number: number): boolean {
    return ((this.table.answered(this.worker) - number) | 0) >= 0;
  }

  private isNext(at: number): boolean {
    for (let i = 0; i < REQUEST_WORDS; i++) if (this.own.requests[at + i] !== this.next[i]) return false;
    return true;
  }
}

/** The answering side, in the control Worker: one a net Worker. It only reads the Worker's region. */
export class Asked {
  private readonly own: Own;
  /** How many were taken: the number of the last one. */
  taken = 0;

  constructor(own: Own) {
    this.own = own;
  }

  /** Copies the next request to `out`; false if there is none. */
  take(out: Int32Array): boolean {
    const { own } = this;
    if (!fence() || own.made[0] === this.taken) return false;
    this.taken = (this.taken + 1) | 0;
    const at = requestAt(this.taken);
    for (let i = 0; i < REQUEST_WORDS; i++) out[i] = own.requests[at + i]!;
    return true;
  }
}
