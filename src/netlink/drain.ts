// The thread that receives a long dump while the netlink Worker decodes (dump.ts). Asleep in its event loop between
// dumps. Messages: DrainBoot once, then { seq } for each dump that it may take over, then "end". All else goes through
// the ring.
import { libc } from "../../ffi/libc.ts";
import { Region, type RegionRef } from "../mem/region.ts";
import { Chunks, THREAD } from "./chunks.ts";

declare const self: Worker;

export interface DrainBoot {
  fd: number;
  chunks: RegionRef;
}

let fd = -1;
let region: Region;
let chunks: Chunks;

/** Receives the rest of a dump. Whoever receives now gives way when the ring is filled so far. */
function drain(seq: number): void {
  while (chunks.seq === seq && !chunks.ended) {
    if (!chunks.claim(THREAD)) {
      libc.poll(null, 0, 1);
      continue;
    }
    // It may be the next dump by now. A full ring is waited for: the decoder is behind then, not the kernel.
    while (chunks.seq === seq && !chunks.ended) if (!chunks.fill(fd, seq)) libc.poll(null, 0, 1);
    chunks.yield();
  }
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
