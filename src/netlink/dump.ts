// One dump at a time, received as fast as the kernel makes it and decoded behind that. Short dumps (up to 1 MiB, some
// 17,000 routes) are received whole, then decoded. For a longer one a second thread (drain.ts) receives the rest.
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
/** Chunks of a short dump. */
const SHORT = 32;
/** How long the other thread may take to start. */
const LATE_MS = 500;

export class Dumper {
  private readonly socket: NetlinkSocket;
  private readonly region = Region.create("netd-dump", CHUNKS_BYTES);
  private readonly chunks = new Chunks(this.region);
  private readonly requests = new Requests();
  /** Another thread receives. */
  private thread = false;
  /** A thread did not come in time: none is asked for any more. */
  private late = false;

  /** @throws SysError */
  constructor(netns?: Netns) {
    this.socket = new NetlinkSocket({ ...(netns && { netns }), slots: 1, timeoutMs: ANSWER_MS });
  }

  /** Asks for one dump and gives every message of it to `sink`. Blocks until its end. @throws SysError if lost */
  run(fill: (m: Requests) => void, sink: DumpSink): DumpResult {
    const { chunks, requests, socket } = this;
    requests.reset();
    fill(requests);
    chunks.reset();
    const sent = socket.send(requests.bytes, 0, requests.length);
    if (sent < 0) throw new SysError("send netlink dump request", -sent);
    const seq = requests.firstSeq;
    while (chunks.ready < SHORT && chunks.fill(socket.fd, seq)) sink.pause();
    if (!chunks.ended && !this.late) this.start({ fd: socket.fd, seq, chunks: this.region.ref });
    const patience = performance.now() + LATE_MS;
    let messages = 0;
    try {
      while (chunks.ready > 0 || !chunks.ended) {
        if (!this.thread) while (chunks.ready < SHORT && chunks.fill(socket.fd, seq));
        if (chunks.ready > 0) messages += this.decode(sink);
        else if (performance.now() > patience && chunks.claim(DECODER)) {
          this.late = true;
          this.thread = false;
        } else libc.poll(null, 0, 1);
        sink.pause();
      }
    } finally {
      this.join();
    }
    return { messages, interrupted: chunks.interrupted, error: chunks.error };
  }

  close(): void {
    this.socket.close();
    // A thread that may yet come looks into this memory first.
    if (!this.late) this.region.close();
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

  private start(boot: DrainBoot): void {
    this.thread = true;
    new Worker(new URL("./drain.ts", import.meta.url).href).postMessage(boot);
  }

  /** Waits until the other thread has let go of the memory. */
  private join(): void {
    if (!this.thread) return;
    this.chunks.abort();
    while (!this.chunks.gone) libc.poll(null, 0, 1);
    this.thread = false;
  }
}
