// The thread that goes on receiving a long dump while the netlink Worker decodes: started by dump.ts for one dump,
// gone at its end. Its only message: { fd, seq, chunks: RegionRef }. Everything else goes through the ring.
import { libc } from "../../ffi/libc.ts";
import { Region, type RegionRef } from "../mem/region.ts";
import { Chunks, THREAD } from "./chunks.ts";

declare const self: Worker;

export interface DrainBoot {
  fd: number;
  seq: number;
  chunks: RegionRef;
}

self.onmessage = ({ data }: MessageEvent<DrainBoot>) => {
  const region = Region.open(data.chunks, "read-write");
  const chunks = new Chunks(region);
  // A full ring is waited for; the decoder is behind then, not the kernel.
  if (chunks.claim(THREAD)) while (!chunks.ended) if (!chunks.fill(data.fd, data.seq)) libc.poll(null, 0, 1);
  chunks.leave();
  region.unmap();
  process.exit(0);
};
