// One end of a stream of numbered frames between two clients by memif, in a thread of its own: sends frames whose every byte
// follows from their number, or looks at every byte of what comes.
//   shared words: 0 sent | 1 received | 2 wrong | 3 stop
import { type ClientOptions, MemifClient } from "../../src/link/memif/client.ts";

declare const self: Worker;

export interface Stream {
  readonly role: "send" | "receive";
  readonly options: ClientOptions;
  /** the head of every frame, up to its UDP payload */
  readonly head: Uint8Array;
  readonly frames: number;
  /** frames under way at most; 0: as many as the ring takes */
  readonly window: number;
  readonly shared: Int32Array;
}

const HEAD = 42;
/** Bytes of frame `n`'s payload: the number, then what follows from it. */
const lengthOf = (n: number): number => 18 + ((n * 37) % 1400) * (n % 8 === 0 ? 1 : 0);
const byteOf = (n: number, i: number): number => (Math.imul(n, 31) + i * 7 + (n >>> 8)) & 0xff;

function send(client: MemifClient, { head, frames, window, shared }: Stream): void {
  const ring = client.toServer[0]!;
  const { bytes } = ring;
  const view = new DataView(bytes.buffer);
  for (let n = 0; n < frames && Atomics.load(shared, 3) === 0; ) {
    let room = ring.room;
    if (window > 0) room = Math.min(room, window - (n - Atomics.load(shared, 1)));
    let k = 0;
    for (; k < room && k < 64 && n < frames; k++, n++) {
      const at = ring.slot(k);
      const length = lengthOf(n);
      bytes.set(head, at);
      view.setUint16(at + 16, 28 + length);
      view.setUint16(at + 38, 8 + length);
      view.setUint16(at + 24, 0);
      let sum = 0;
      for (let i = 14; i < 34; i += 2) sum += view.getUint16(at + i);
      while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
      view.setUint16(at + 24, ~sum & 0xffff);
      view.setUint32(at + HEAD, n);
      for (let i = 4; i < length; i++) bytes[at + HEAD + i] = byteOf(n, i);
      ring.fill(k, HEAD + length);
    }
    if (k > 0) ring.send(k);
    Atomics.store(shared, 0, n);
  }
}

function receive(client: MemifClient, { frames, window, shared }: Stream): void {
  const ring = client.fromServer[0]!;
  const { bytes } = ring;
  const view = new DataView(bytes.buffer);
  let last = -1;
  for (let got = 0; got < frames && Atomics.load(shared, 3) === 0; ) {
    const { ready } = ring;
    for (let k = 0; k < ready; k++) {
      const at = ring.at(k);
      const n = view.getUint32(at + HEAD);
      const length = ring.length(k) - HEAD;
      let wrong = length !== lengthOf(n) || n <= last || (window > 0 && n !== last + 1) ? 1 : 0;
      for (let i = 4; i < length; i++) if (bytes[at + HEAD + i] !== byteOf(n, i)) wrong = 1;
      if (wrong === 1) Atomics.add(shared, 2, 1);
      last = n;
    }
    if (ready > 0) ring.release(ready);
    got += ready;
    Atomics.store(shared, 1, got);
  }
}

self.onmessage = (event: MessageEvent<Stream>) => {
  const stream = event.data;
  try {
    using client = new MemifClient(stream.options);
    for (const ring of client.fromServer) ring.interrupts(false);
    postMessage("ready");
    if (stream.role === "send") send(client, stream);
    else receive(client, stream);
    postMessage("done");
    while (Atomics.load(stream.shared, 3) === 0) Bun.sleepSync(5); // the client goes with its last look
  } catch (error) {
    postMessage(`${(error as Error).message}`);
  }
};
