// One dump at a time, received as fast as the kernel makes it and decoded behind that. Short dumps (up to 1 MiB, some
// 17,000 routes) are received whole, then decoded. For a longer one a second thread (drain.ts) is asked to receive the
// rest; until it comes, and if it never does, this one receives and decodes by turns.
import { SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { Region } from "../mem/region.ts";
import { Chunks, CHUNKS_BYTES, DECODER } from "./chunks.ts";
import { NLMSG_DONE, NLMSG_ERROR } from "./constants.ts";
import type { DrainBoot } from "./drain.ts";
import { messageLength, messageType, Requests } from "./message.ts";
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
/** Chunks of a short dump, and how many this thread receives at a time after those. */
const SHORT = 32;
const TURN = 8;
/** How long to wait for a thread that was started to have come so far that it can be ended. */
const START_MS = 2000;

export class Dumper {
  private readonly socket: NetlinkSocket;
  private readonly region = Region.create("netd-dump", CHUNKS_BYTES);
  private readonly chunks = new Chunks(this.region);
  private readonly requests = new Requests();
  private thread: Worker | undefined;
  private kept = false;

  /** @throws SysError */
  constructor(netns?: Netns) {
    this.socket = new NetlinkSocket({ ...(netns && { netns }), slots: 1, timeoutMs: ANSWER_MS });
  }

  /** Starts the second thread, before long dumps may come; it stays until `rest`. Without, one comes for each. */
  prepare(): void {
    this.kept = true;
    this.start();
  }

  rest(): void {
    this.kept = false;
    this.end();
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
    while (chunks.ready < SHORT && chunks.fill(socket.fd, seq)) sink.pause();
    chunks.yield();
    if (!chunks.ended) {
      this.start();
      this.thread?.postMessage({ seq });
    }
    let messages = 0;
    try {
      while (chunks.ready > 0 || !chunks.ended) {
        if (chunks.ready > 0) messages += this.decode(sink);
        else if (chunks.claim(DECODER)) {
          while (chunks.ready < TURN && chunks.fill(socket.fd, seq));
          chunks.yield();
        } else libc.poll(null, 0, 1);
        sink.pause();
      }
    } finally {
      // The thread lets go of the ring at the dump's end, or when it is told to give up.
      chunks.abort();
      while (chunks.claimed) libc.poll(null, 0, 1);
      if (!this.kept) this.end();
    }
    return { messages, interrupted: chunks.interrupted, error: chunks.error };
  }

  close(): void {
    const gone = this.end();
    this.socket.close();
    // A thread that may yet come opens this memory first: it is left to it.
    if (gone) this.region.close();
  }

  private decode(sink: DumpSink): number {
    const { chunks } = this;
    const { words, bytes } = chunks;
    let messages = 0;
    let off = chunks.offset;
    const end = off + chunks.length;
    for (let len: number; (len = messageLength(words, off, end)) > 0; off += (len + 3) & ~3) {
      const type = messageType(words, off);
      if (type === NLMSG_DONE || type === NLMSG_ERROR) break;
      sink.message(type, words, bytes, off, len);
      messages++;
    }
    chunks.release();
    return messages;
  }

  private start(): void {
    if (this.thread) return;
    this.thread = new Worker(new URL("./drain.ts", import.meta.url).href, { name: "netlink-drain" });
    this.thread.onerror = (event) => event.preventDefault(); // it is done without
    this.thread.postMessage({ fd: this.socket.fd, chunks: this.region.ref } satisfies DrainBoot);
  }

  /** Ends the second thread. False if it has not even come. */
  private end(): boolean {
    if (!this.thread) return true;
    const until = performance.now() + START_MS;
    while (!this.chunks.present && performance.now() < until) libc.poll(null, 0, 1);
    this.thread.postMessage("end");
    this.thread = undefined;
    const { present } = this.chunks;
    this.chunks.forget();
    return present;
  }
}
