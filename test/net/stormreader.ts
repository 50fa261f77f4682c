// A Worker of storm.test.ts: looks up routes and neighbours that never change, all the time, and counts wrong answers.
import type { RegionRef } from "../../src/mem/region.ts";
import { NH_GATEWAY } from "../../src/netbase/layout.ts";
import { NetbaseReader } from "../../src/netbase/netbase.ts";
import { swap32 } from "../../src/wire/address.ts";

declare const self: Worker;

export interface StormBoot {
  netbase: RegionRef;
  epochs: RegionRef;
  slot: number;
  ifindex: number;
  /** word 0: stop; words 2, 3: lookups (low, high); word 4: wrong ones */
  shared: SharedArrayBuffer;
  routes: number;
  neighbours: number;
}

self.onmessage = ({ data }: MessageEvent<StormBoot>) => {
  const reader = NetbaseReader.open(data.netbase, data.epochs, data.slot);
  const shared = new Int32Array(data.shared);
  const { words, fib4, fib6, neigh4 } = reader;
  const { ifindex, routes, neighbours } = data;
  const six = 0x000000fd; // fd00:0:: is on link, fd0f::/16 goes by a gateway
  let wrong = 0;
  let lookups = 0;
  for (let i = 0; Atomics.load(shared, 0) === 0; ) {
    for (let k = 0; k < 1000; k++, i++) {
      const n = i % routes;
      const nh = fib4.lookup(swap32((0x0a800000 | (n << 8) | 5) >>> 0));
      if (nh === 0 || words[nh + NH_GATEWAY] !== swap32(0x0a000002 + (n & 7))) wrong++;
      const far = fib6.lookup(six | (0x0f << 8), 0, 0, i);
      if (far === 0 || words[far + NH_GATEWAY + 3] !== 0x09000000) wrong++;
      const host = i % neighbours;
      const state = neigh4.find(swap32(0x0a000100 * 1 + 0x10000 + host), ifindex);
      if (state !== 0x80 || (neigh4.mac1 & 0xffff) !== (0x70 | ((host & 255) << 8))) wrong++;
    }
    lookups += 3000;
    reader.quiesce();
    shared[2] = lookups % 0x40000000;
    shared[3] = Math.floor(lookups / 0x40000000);
    shared[4] = wrong;
  }
  reader.close();
  postMessage("done");
};
