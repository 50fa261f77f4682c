// Our side of bench/xsk.ts, run as a child inside the daemon's namespace: the same turns as peers/xsk.c, over the product's
// own socket, program and link. The same output, too.
//   bun bench/rings.ts rxdrop|txonly|l2fwd INTERFACE SECONDS FRAME_HEX [COUNT]
import { cstring, libc } from "../ffi/libc.ts";
import { ptr } from "../ffi/memory.ts";
import { BATCH, Batch } from "../src/link/link.ts";
import { XdpLink } from "../src/link/xdp.ts";
import { SteerProgram } from "../src/xdp/program.ts";
import { createSocket } from "../src/xdp/socket.ts";
import { median } from "./harness.ts";

export const SEQ_OFF = 44;
const FRAMES = 4096;
const FRAME_BYTES = 4096;
const RING = 2048;
const POLLS = 500; // turns between two readings of the clock
const SLICE_MS = 50; // much longer than a full ring lasts

/** FNV-1a over `bytes`, on top of `hash`. */
export const fnv1a = (hash: number, bytes: Uint8Array): number => {
  let h = hash;
  for (let i = 0; i < bytes.length; i++) h = Math.imul(h ^ bytes[i]!, 16777619);
  return h;
};
export const FNV_BASIS = 0x811c9dc5;

/** Each mode is POLLS turns, and returns how many frames were received, or sent. */
class Ours {
  private readonly link: XdpLink;
  private readonly bytes: Uint8Array;
  private readonly batch = new Batch();
  private readonly frameBytes: number;
  /** Frames to send or hash in a verified run, 0 in a timed one. */
  private readonly count: number;
  sent = 0;
  hash = FNV_BASIS;

  constructor(link: XdpLink, frameBytes: number, count: number) {
    this.link = link;
    this.bytes = new Uint8Array(link.words.buffer);
    this.frameBytes = frameBytes;
    this.count = count;
  }

  private receive(): number {
    const { link, batch } = this;
    link.receive(batch, BATCH);
    if (this.count > 0)
      for (let i = 0; i < batch.n; i++) {
        const off = batch.off[i]!;
        this.hash = fnv1a(this.hash, this.bytes.subarray(off, off + batch.len[i]!));
      }
    return batch.n;
  }

  rxdrop(): number {
    const { link, batch } = this;
    let done = 0;
    for (let k = 0; k < POLLS; k++) {
      const n = this.receive();
      if (n > 0) {
        batch.dropped.set(batch.off);
        batch.drops = n;
        link.release(batch);
        done += n;
      }
      link.maintain();
    }
    return done;
  }

  txonly(): number {
    const { link, batch, count } = this;
    const before = this.sent;
    for (let k = 0; k < POLLS; k++) {
      const want = count > 0 ? Math.min(BATCH, count - this.sent) : BATCH;
      let n = 0;
      for (; n < want; n++) {
        const off = link.take();
        if (off < 0) break;
        batch.off[n] = off;
        batch.len[n] = this.frameBytes;
        if (count > 0) link.words[(off + SEQ_OFF) >> 2] = this.sent + n;
      }
      batch.n = n;
      this.send();
      link.maintain();
    }
    return this.sent - before;
  }

  l2fwd(): number {
    const { link, batch } = this;
    const { words } = link;
    const before = this.sent;
    for (let k = 0; k < POLLS; k++) {
      const n = this.receive();
      for (let i = 0; i < n; i++) {
        const p = batch.off[i]! >>> 2;
        const w0 = words[p]!;
        const w1 = words[p + 1]!;
        const w2 = words[p + 2]!;
        const w3 = words[p + 3]!;
        // Frames begin in the middle of a word (src/xdp/umem.ts): dst is w0's upper half and w1, src is w2 and w3's lower.
        words[p] = (w0 & 0xffff) | (w2 << 16);
        words[p + 1] = (w2 >>> 16) | (w3 << 16);
        words[p + 2] = (w0 >>> 16) | (w1 << 16);
        words[p + 3] = (w1 >>> 16) | (w3 & ~0xffff);
      }
      if (n > 0) this.send();
      link.maintain();
    }
    return this.sent - before;
  }

  /** Sends the batch; what the ring does not take is given back. */
  private send(): void {
    const { link, batch } = this;
    const sent = batch.n > 0 ? link.transmit(batch) : 0;
    this.sent += sent;
    batch.drops = 0;
    for (let i = sent; i < batch.n; i++) batch.dropped[batch.drops++] = batch.off[i]!;
    if (batch.drops > 0) link.release(batch);
  }

  /** Until what was sent is out. */
  drain(end: number): void {
    while (this.link.maintain() && performance.now() < end);
  }
}

function main(mode: string, ifname: string, seconds: number, frameHex: string, count: number): void {
  const frame = Uint8Array.from(Buffer.from(frameHex, "hex"));
  const ifindex = libc.if_nametoindex(ptr(cstring(ifname)));
  const sizes = { frames: FRAMES, frameBytes: FRAME_BYTES, rxSize: RING, txSize: RING };
  // txonly keeps half of the frames to send; the kernel never has more than a ring of them.
  const fillSize = mode === "txonly" ? RING : FRAMES;
  const socket = createSocket({ ifname, ifindex, queue: 0, ...sizes, fillSize, mode: "copy" });
  const program = SteerProgram.load();
  const words = new Int32Array(frame.slice(28, 36).buffer); // bytes 30..33 straddle two words
  const address = Int32Array.of((words[0]! >>> 16) | (words[1]! << 16), 0, 0, 0);
  program.setAddress(frame);
  program.addMatch({ family: 2, proto: 17, address, port: (frame[36]! << 8) | frame[37]! });
  program.setSocket(0, socket.ref.fd);
  program.attach(ifindex, "native");
  const link = new XdpLink(socket.ref);
  if (mode === "txonly") {
    const bytes = new Uint8Array(link.words.buffer);
    for (let i = 0; i < FRAMES; i++) bytes.set(frame, i * FRAME_BYTES);
  }
  const ours = new Ours(link, frame.length, count);
  const work = () => (mode === "rxdrop" ? ours.rxdrop() : mode === "txonly" ? ours.txonly() : ours.l2fwd());
  let done = 0;
  if (count > 0) {
    console.log("ready");
    const end = performance.now() + seconds * 1000;
    while (done < count && performance.now() < end) done += work();
    ours.drain(end);
    console.log(JSON.stringify({ case: "frames", value: done }));
    console.log(JSON.stringify({ case: "hash", value: mode === "txonly" ? 0 : ours.hash >>> 0 }));
  } else {
    for (const end = performance.now() + 500; performance.now() < end; ) work();
    const rates: number[] = [];
    for (let last = performance.now(), end = last + seconds * 1000; last < end; ) {
      let now = last;
      for (done = 0; (now = performance.now()) < last + SLICE_MS; ) done += work();
      rates.push(done / (now - last) / 1000);
      last = now;
    }
    console.log(JSON.stringify({ case: mode, value: median(rates) }));
  }
  program.close();
  socket.close();
}

if (import.meta.main) {
  const [mode = "", ifname = "", seconds, frameHex = "", count = 0] = Bun.argv.slice(2);
  main(mode, ifname, Number(seconds), frameHex, Number(count));
}
