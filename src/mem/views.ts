// Regions where WebAssembly can reach them: mapped once more, to be read alone, into the end of a link's frame memory, since a
// function of WebAssembly sees one memory. They begin on huge pages, as the regions do themselves.
import { HUGE_PAGE, mapOver } from "../../ffi/memory.ts";
import { frameAddress, frameMemory, scratchOf } from "./frames.ts";
import type { RegionRef } from "./region.ts";

/** All that there can be of frame memory; 4 GiB are what WebAssembly addresses. */
const MOST = 2 ** 32 - 2 ** 24;

const huge = (bytes: number): number => Math.ceil(bytes / HUGE_PAGE) * HUGE_PAGE;
/** Bytes for regions of so many; one huge page more, for where the memory itself begins is anywhere. */
const bytesOf = (regions: readonly number[]): number =>
  regions.reduce((sum, bytes) => sum + huge(bytes), HUGE_PAGE);

/** Frame memory, and what of it is for what. */
export interface FramePlace {
  readonly memory: WebAssembly.Memory;
  /** bytes: clients' memory is mapped from here... */
  readonly from: number;
  /** ...to here */
  readonly to: number;
  /** whether there is room for the regions behind that: too much of them cannot be addressed */
  readonly isMapped: boolean;
}

/**
 * New frame memory.
 * @param frames, clients bytes for frames, present at once, and for clients' memory
 * @param regions bytes of those that `mapRegions` is to map
 */
export function placeFrames(frames: number, clients = 0, regions: readonly number[] = []): FramePlace {
  const from = Math.ceil(frames / 4096) * 4096;
  const to = from + Math.ceil(clients / 4096) * 4096;
  const views = bytesOf(regions);
  const isMapped = regions.length > 0 && to + views <= MOST;
  return { memory: frameMemory(frames, isMapped ? to + views : to), from, to, isMapped };
}

/** Maps regions, in the order of their bytes at `placeFrames`; returns where each begins. They go with the memory. @throws SysError */
export function mapRegions(memory: WebAssembly.Memory, ...refs: readonly RegionRef[]): number[] {
  const base = frameAddress(memory);
  let at = huge(base + scratchOf(memory) - bytesOf(refs.map(({ bytes }) => bytes)));
  return refs.map(({ fd, bytes }) => {
    const offset = at - base;
    mapOver(at, bytes, fd);
    at += huge(bytes);
    return offset;
  });
}
