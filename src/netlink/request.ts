// Requests to the kernel, answered before the call returns: changes (one, or a batch in few system calls), gets, dumps.
// The kernel does rtnetlink requests inside sendto, so all acks lie ready when it returns. A batch goes on past
// errors, errors come unasked, and so only its last message asks for an ack.
import { SysError } from "../../ffi/errno.ts";
import { type Naming, type NetlinkError, readAck } from "./ack.ts";
import {
  EAGAIN,
  ENOBUFS,
  NETLINK_ROUTE,
  NLM_F_ACK,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_OVERRUN,
} from "./constants.ts";
import { getLink } from "./link.ts";
import { messageAt, messageFlags, messageLength, messageSeq, messageType, Requests } from "./message.ts";
import type { Netns } from "./netns.ts";
import { NetlinkSocket } from "./socket.ts";

/** One sendto's worth: the kernel takes just under the send buffer, and acks of as many errors must fit the other. */
const CHUNK_BYTES = 128 * 1024;
const ETIMEDOUT = 110;

export interface Failure {
  /** which message of the batch, from 0 */
  index: number;
  error: NetlinkError;
}

type Fill = (m: Requests) => void;
type Visit = (words: Int32Array, bytes: Uint8Array, off: number, len: number, type: number) => void;

export class Rtnetlink {
  private readonly socket: NetlinkSocket;
  private readonly requests = new Requests();
  /** What requests are, where the protocol is not rtnetlink. */
  naming: Naming | undefined;

  /** @throws SysError */
  constructor(netns?: Netns, protocol: number = NETLINK_ROUTE) {
    this.socket = new NetlinkSocket({
      ...(netns && { netns }),
      protocol,
      slots: 8,
      receiveBuffer: 16 << 20,
      timeoutMs: 10_000,
    });
  }

  /** Sends what `fill` writes (one change, or several). @throws NetlinkError, the first of them; the rest was done */
  call(fill: Fill): void {
    const [failure] = this.batch(fill);
    if (failure) throw failure.error;
  }

  /** Sends many changes and returns those that failed, in order. @throws SysError if acks were lost */
  batch(fill: Fill): Failure[] {
    return this.submit(this.write(fill));
  }

  /** As `batch`, of messages that were written elsewhere; their sequence numbers must be of no other request. */
  submit(m: Requests): Failure[] {
    const failures: Failure[] = [];
    let off = 0;
    // The message that failed last: acks come in order.
    let failed = 0;
    let failedOff = 0;
    for (let done = 0; done < m.count; ) {
      const from = off;
      let last = off;
      for (; done < m.count; done++) {
        const next = off + ((m.words[off >> 2]! + 3) & ~3);
        if (next - from > CHUNK_BYTES && off > from) break;
        last = off;
        off = next;
      }
      m.words[(last >> 2) + 1]! |= NLM_F_ACK << 16;
      this.send(m, from, off - from);
      this.answers(m, messageSeq(m.words, last), (words, bytes, at, len, type) => {
        if (type !== NLMSG_ERROR) return;
        const index = (messageSeq(words, at) - m.firstSeq) >>> 0;
        failedOff = messageAt(m.words, index - failed, failedOff);
        failed = index;
        const error = readAck(words, bytes, at, len, m, failedOff, this.naming);
        if (error) failures.push({ index, error });
      });
    }
    return failures;
  }

  /** One GET: `visit` sees what comes back. @throws NetlinkError */
  get(fill: Fill, visit: Visit): void {
    const m = this.write(fill);
    m.words[1]! |= NLM_F_ACK << 16;
    this.exchange(visit);
  }

  /**
   * One dump: `visit` sees each message before DONE. Returns false if the kernel says that it was interrupted:
   * entries may be missing or twice. @throws NetlinkError
   */
  dump(fill: Fill, visit: Visit): boolean {
    this.write(fill);
    let whole = true;
    this.exchange((words, bytes, off, len, type) => {
      if (messageFlags(words, off) & NLM_F_DUMP_INTR) whole = false;
      visit(words, bytes, off, len, type);
    });
    return whole;
  }

  /** The index of the link of that name. @throws NetlinkError (ENODEV) if there is none */
  ifindex(name: string): number {
    let ifindex = 0;
    this.get(
      (m) => getLink(m, { name }),
      (words, _bytes, off) => {
        ifindex = words[(off >> 2) + 5]!;
      },
    );
    return ifindex;
  }

  close(): void {
    this.socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private write(fill: Fill): Requests {
    this.requests.reset();
    fill(this.requests);
    return this.requests;
  }

  private send(m: Requests, off: number, length: number): void {
    const error = this.socket.send(m.bytes, off, length);
    if (error < 0) throw new SysError("send netlink request", -error);
  }

  /** Sends the one request there is; its last answer may be an error. */
  private exchange(visit: Visit): void {
    const m = this.requests;
    this.send(m, 0, m.length);
    let error: unknown;
    this.answers(m, m.firstSeq, (words, bytes, off, len, type) => {
      if (type === NLMSG_ERROR || type === NLMSG_DONE)
        error ??= readAck(words, bytes, off, len, m, 0, this.naming);
      else if (error === undefined) {
        // A dump that is not read to its end would make the next one EBUSY.
        try {
          visit(words, bytes, off, len, type);
        } catch (thrown) {
          error = thrown;
        }
      }
    });
    if (error !== undefined) throw error;
  }

  /** Shows every answer up to the ERROR or DONE of `lastSeq`, that included. */
  private answers(m: Requests, lastSeq: number, visit: Visit): void {
    const { socket } = this;
    const first = m.firstSeq;
    for (;;) {
      const n = socket.receive(4, true);
      if (n === -EAGAIN) throw new SysError("netlink answer", ETIMEDOUT, "the kernel did not answer");
      if (n < 0)
        throw new SysError(
          "netlink answer",
          -n,
          n === -ENOBUFS ? "answers were lost: unknown what was done" : "",
        );
      if (socket.truncated > 0)
        throw new SysError("netlink answer", 90, "a message was longer than the buffer");
      let last = false;
      for (let i = 0; i < n; i++) {
        const { words, bytes } = socket;
        let off = socket.offset(i);
        const end = off + socket.length(i);
        for (let len: number; (len = messageLength(words, off, end)) > 0; off += (len + 3) & ~3) {
          const seq = messageSeq(words, off);
          const type = messageType(words, off);
          // Answers to an earlier request that timed out.
          if ((seq - first) >>> 0 > (lastSeq - first) >>> 0 || type === NLMSG_OVERRUN) continue;
          if (type === NLMSG_ERROR || type === NLMSG_DONE) last ||= seq === lastSeq;
          visit(words, bytes, off, len, type);
        }
      }
      if (last) return;
    }
  }
}
