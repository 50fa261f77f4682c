// Frames that wait for an answer, in a net Worker: the first ones of a flow that its client began to send. They are kept
// in HELD places, a frame each, which are the caller's; this says which, until when, and for whom. First in, first out. A
// client has HELD_EACH of them at most, and CLAIMS_A_SECOND, so that one that floods waits for itself alone.
import { R_DST, R_FORM, R_PORTS, R_SRC, REQUEST_CLAIM, REQUEST_DHCP, type Requests } from "./request.ts";

export const HELD = 512;
export const HELD_EACH = 64;
export const CLAIMS_A_SECOND = 10_000;

export class Held {
  private readonly requests: Requests;
  private readonly owners = new Int32Array(HELD);
  private readonly numbers = new Int32Array(HELD);
  /** Frames held and claims begun in this second, of each client. */
  private readonly frames: Uint8Array;
  private readonly claims: Uint16Array;
  private first = 0;
  private end = 0;

  constructor(requests: Requests, clients: number) {
    this.requests = requests;
    this.frames = new Uint8Array(clients);
    this.claims = new Uint16Array(clients);
  }

  /** Once a second. */
  tick(): void {
    this.claims.fill(0);
  }

  get length(): number {
    return (this.end - this.first) | 0;
  }

  /**
   * Asks for the answers to an IPv4 packet that a client sends: from `remote` and its port to the client's. Returns the
   * place to keep the frame in, or -1: drop it. @param ports the answers' ports, as they lie in a header
   */
  claim4(client: number, protocol: number, own: number, remote: number, ports: number): number {
    const { next } = this.requests;
    this.requests.begin(REQUEST_CLAIM, client);
    next[R_FORM] = 2 | (protocol << 8);
    next[R_PORTS] = ports;
    next[R_DST] = own;
    next[R_SRC] = remote;
    return this.hold(client);
  }

  /** The same for IPv6: the addresses are four words each of `header`, at `own` and `remote`. */
  claim6(
    client: number,
    protocol: number,
    header: Int32Array,
    own: number,
    remote: number,
    ports: number,
  ): number {
    const { next } = this.requests;
    this.requests.begin(REQUEST_CLAIM, client);
    next[R_FORM] = 10 | (protocol << 8);
    next[R_PORTS] = ports;
    for (let i = 0; i < 4; i++) {
      next[R_DST + i] = header[own + i]!;
      next[R_SRC + i] = header[remote + i]!;
    }
    return this.hold(client);
  }

  /** Asks for the DHCP answers with a transaction id (memory word). */
  claimDhcp(client: number, xid: number): number {
    this.requests.begin(REQUEST_DHCP, client);
    this.requests.next[R_DST] = xid;
    return this.hold(client);
  }

  /** The place of the frame that waited longest, if its answer is there; else -1. What came of it is in the table. */
  ready(): number {
    if (this.first === this.end) return -1;
    const place = this.first & (HELD - 1);
    return this.requests.isAnswered(this.numbers[place]!) ? place : -1;
  }

  /** Whose the frame in a place is. */
  owner(place: number): number {
    return this.owners[place]!;
  }

  /** Lets go of the frame that `ready` named. */
  release(): void {
    const owner = this.owners[this.first & (HELD - 1)]!;
    this.frames[owner]!--;
    this.first = (this.first + 1) | 0;
  }

  private hold(client: number): number {
    const { requests, frames, claims } = this;
    if (this.length === HELD || frames[client] === HELD_EACH) return -1;
    if (!requests.isPending()) {
      if (claims[client]! >= CLAIMS_A_SECOND || !requests.ask()) return -1;
      claims[client]!++;
    }
    const place = this.end & (HELD - 1);
    this.owners[place] = client;
    this.numbers[place] = requests.asked;
    frames[client]!++;
    this.end = (this.end + 1) | 0;
    return place;
  }
}
