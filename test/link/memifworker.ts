// A client in a thread of its own: sends numbered frames on every queue, and looks at every byte that comes back.
import { type ClientOptions, MemifClient } from "../../src/link/memif/client.ts";

declare const self: Worker;

/** Byte `i` of frame `n`. */
const byte = (n: number, i: number): number => (n * 31 + i * 7 + (n >>> 8)) & 0xff;

interface Task {
  options: ClientOptions;
  frames: number;
  long?: boolean;
}

function run({ options, frames, long }: Task) {
  using client = new MemifClient(options);
  const lengthOf = (n: number): number => (long ? 60 + ((n * 37) % 1400) : 60 + (n % 100));
  let got = 0;
  let wrong = 0;
  for (const [q, to] of client.toServer.entries()) {
    const from = client.fromServer[q]!;
    let sent = 0;
    let back = 0;
    const whole = new Uint8Array(2048);
    let at = 0;
    for (const end = Date.now() + 30_000; back < frames && Date.now() < end; ) {
      let slots = 0;
      // Never more on the way than come back into: nothing may be lost.
      const room = to.room;
      while (sent < frames && sent - back < from.size >> (long ? 3 : 0) && slots < room) {
        const length = lengthOf(sent);
        const parts = Math.ceil(length / to.bufferBytes);
        if (slots + parts > room) break;
        for (let part = 0, i = 0; part < parts; part++) {
          const n = Math.min(to.bufferBytes, length - i);
          const off = to.slot(slots);
          for (let k = 0; k < n; k++) to.bytes[off + k] = byte(sent, i + k);
          to.fill(slots, n, part < parts - 1);
          i += n;
          slots++;
        }
        sent++;
      }
      if (slots > 0) to.send(slots);
      const ready = from.ready;
      for (let i = 0; i < ready; i++) {
        const off = from.at(i);
        const n = from.length(i);
        whole.set(from.bytes.subarray(off, off + n), at);
        at += n;
        if (from.more(i)) continue;
        if (at !== lengthOf(back)) wrong++;
        for (let k = 0; k < at; k++) if (whole[k] !== byte(back, k)) wrong++;
        back++;
        at = 0;
      }
      if (ready > 0) from.release(ready);
    }
    got += back;
  }
  return { got, wrong, peer: client.peerName };
}

self.onmessage = (event: MessageEvent<Task>) => {
  try {
    postMessage(run(event.data));
  } catch (error) {
    postMessage({ error: (error as Error).message });
  }
};
