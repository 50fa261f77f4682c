// The thread that receives long dumps while the netlink Worker decodes (dump.ts). Asleep in its event loop between
// dumps. Messages: DrainBoot once, then { seq } for each dump that it may take over, then "end". All else goes through
// the ring.
import { Region, type RegionRef } from "../mem/region.ts";
import { Chunks, CHUNKS_BYTES, moment, THREAD } from "./chunks.ts";

declare const self: Worker;

export interface DrainBoot {
  fd: number;
  chunks: RegionRef;
}

let fd = -1;
let region: Region;
let chunks: Chunks;
let used = false;

/** Receives the rest of a dump, once whoever receives now gives way. */
function drain(seq: number): void {
  // In huge pages: the first touch of a small one costs as much as ten messages.
  if (!used) region.collapse(0, CHUNKS_BYTES);
  used = true;
  while (!chunks.claim(THREAD)) {
    chunks.wanted = chunks.seq === seq && !chunks.over;
    if (!chunks.wanted) return;
    moment();
  }
  chunks.wanted = false;
  // It may be the next dump by now. A full ring is waited for: the decoder is behind then, not the kernel.
  if (chunks.seq === seq)
    while (chunks.fill(fd, seq) || (chunks.full && !chunks.over)) if (chunks.full) moment();
  chunks.yield();
}

self.onmessage = ({ data }: MessageEvent<DrainBoot | { seq: number } | "end">) => {
  if (data === "end") {
    region.unmap();
    process.exit(0); // this thread
  }
  if ("seq" in data) {
    drain(data.seq);
    return;
  }
  fd = data.fd;
  region = Region.open(data.chunks, "read-write");
  chunks = new Chunks(region);
  chunks.arrive();
};
