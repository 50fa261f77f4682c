// The consumer of ring.test.ts: pops `count` messages and says whether each was whole and in order.
import { Region, type RegionRef } from "../../src/mem/region.ts";
import { Ring } from "../../src/mem/ring.ts";

declare const self: Worker;
self.onmessage = (event: MessageEvent<{ ref: RegionRef; slots: number; count: number }>) => {
  const region = Region.open(event.data.ref, "read-write");
  const ring = new Ring(region.buffer, 0, event.data.slots);
  const out = new Int32Array(8);
  let verdict = "ok";
  for (let i = 0; i < event.data.count; ) {
    if (!ring.pop(out)) continue;
    if (out[0] !== i || out[1] !== ~i || out[7] !== Math.imul(i, 31))
      verdict = `message ${i} was ${out.join()}`;
    i++;
  }
  postMessage(verdict);
};
