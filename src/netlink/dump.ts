// One dump at a time, received as fast as the kernel makes it and decoded behind that. A second thread (drain.ts), there
// from the beginning and asleep between dumps, is asked to receive the rest of one that is not short; until it comes, this
// one receives, and if it never does, receives and decodes by turns once the ring is full.
import { SysError } from "../../ffi/errno.ts";
import { Region } from "../mem/region.ts";
import { Chunks, CHUNKS_BYTES, DECODER, moment } from "./chunks.ts";
import { NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR } from "./constants.ts";
import type { DrainBoot } from "./drain.ts";
import { messageFlags, messageLength, messageType, Requests } from "./message.ts";
import type { Netns } from "./netns.ts";
import { NetlinkSocket } from "./socket.ts";

/** Where a dump's messages go. */
export interface DumpSink {
  message(type: number, words: Int32Array, bytes: Uint8Array, off: number, len: number): void;
  /** Called every few hundred messages and at least every few milliseconds: look after everything else. */
  pause(): void;
}

export interface DumpResult {
  messages: number;
  /** NLM_F_DUMP_INTR was seen. */
  interrupted: boolean;
  /** 0, or the -errno with which the kernel refused or ended it. */
  error: number;
}

const ANSWER_MS = 30_000;
/** Chunks of a dump that is worth a second thread. */
const LONG = 4;
/** Chunks that this thread receives at a time where it must decode too. */
const TURN = 8;
const EBADMSG = 74;
/** How long to wait for the thread to have come so far that it can be ended. */
const START_MS = 2000;

export class Dumper {
  private readonly socket: NetlinkSocket;
  private readonly region = Region.create("netd-dump", CHUNKS_BYTES);
  private readonly chunks = new Chunks(this.region);
  private readonly requests = new Requests();
  private readonly thread: Worker;
  // What the dump's end said.
  private ended = false;
  private interrupted = false;
  private error = 0;

  /** @throws SysError */
  constructor(netns?: Netns) {
    this.socket = new NetlinkSocket({ ...(netns && { netns }), slots: 1, timeoutMs: ANSWER_MS });
    this.thread = new Worker(new URL("./drain.ts", import.meta.url).href, { name: "netlink-drain" });
    this.thread.onerror = (event) => event.preventDefault(); // it is done without
    this.thread.postMessage({ fd: this.socket.fd, chunks: this.region.ref } satisfies DrainBoot);
  }

  /** Asks for one dump and gives every message of it to `sink`. Blocks until its end. @throws SysError if lost */
  run(fill: (m: Requests) => void, sink: DumpSink): DumpResult {
    const { chunks, requests, socket } = this;
    requests.reset();
    fill(requests);
    const seq = requests.firstSeq;
    chunks.reset(seq);
    const sent = socket.send(requests.bytes, 0, requests.length);
    if (sent < 0) {
      chunks.yield();
      throw new SysError("send netlink dump request", -sent);
    }
    let messages = 0;
    this.ended = this.interrupted = false;
    this.error = 0;
    try {
      this.receive(seq, sink);
      while (!this.ended && (chunks.ready > 0 || !chunks.over)) {
        if (chunks.ready > 0) messages += this.decode(sink);
        else if (!chunks.wanted && chunks.claim(DECODER)) {
          while (chunks.ready < TURN && chunks.fill(socket.fd, seq));
          if (chunks.ready === 0) chunks.fill(socket.fd, seq, true);
          chunks.yield();
        } else moment();
        sink.pause();
      }
    } finally {
      // The thread lets go of the ring at the dump's end, or when it is told to give up.
      chunks.abort();
      while (chunks.claimed) moment();
    }
    return { messages, interrupted: this.interrupted, error: this.ended ? this.error : chunks.error };
  }

  /** Receives all there is, or until the second thread does. */
  private receive(seq: number, sink: DumpSink): void {
    const { chunks, socket } = this;
    try {
      for (let n = 1; !chunks.wanted && chunks.fill(socket.fd, seq); n++) {
        if (n === LONG) this.ask(seq);
        sink.pause();
      }
    } finally {
      chunks.yield();
    }
  }

  private ask(seq: number): void {
    this.thread.postMessage({ seq });
  }

  close(): void {
    const until = performance.now() + START_MS;
    while (!this.chunks.present && performance.now() < until) moment();
    this.thread.postMessage("end");
    this.socket.close();
    // A thread that may yet come opens this memory first: it is left to it.
    if (this.chunks.present) this.region.close();
  }

  private decode(sink: DumpSink): number {
    const { chunks } = this;
    const { words, bytes } = chunks;
    let messages = 0;
    let off = chunks.offset;
    const end = off + chunks.length;
    for (let len: number; (len = messageLength(words, off, end)) > 0; off += (len + 3) & ~3) {
      const type = messageType(words, off);
      if ((messageFlags(words, off) & NLM_F_DUMP_INTR) !== 0) this.interrupted = true;
      if (type === NLMSG_DONE || type === NLMSG_ERROR) {
        this.finish(len >= 20 ? Math.min(words[(off >> 2) + 4]!, 0) : -EBADMSG);
        break;
      }
      sink.message(type, words, bytes, off, len);
      messages++;
    }
    if (off < end && !this.ended) this.finish(-EBADMSG);
    chunks.release();
    return messages;
  }

  private finish(error: number): void {
    this.ended = true;
    this.error = error;
  }
}
