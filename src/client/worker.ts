// The thread that waits for a program's channels, because Bun's event loop cannot watch a fd of ours: asleep in epoll_wait,
// it posts the ids of those that are readable. Each is told once, until it is armed again (EPOLLONESHOT, by the thread
// that has the channel). Ends when the eventfd among them is readable, whose id is 0.
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";

declare const self: Worker;

const EVENTS = 64;
const EVENT_WORDS = process.arch === "x64" ? 3 : 4; // struct epoll_event is packed on x86-64 alone
const EVENT_DATA = process.arch === "x64" ? 1 : 2;

self.onmessage = ({ data: epoll }: MessageEvent<number>) => {
  const events = new Int32Array(new ArrayBuffer(EVENTS * EVENT_WORDS * 4));
  for (;;) {
    const n = libc.epoll_wait(epoll, ptr(events), EVENTS, -1);
    for (let i = 0; i < n; i++) {
      const id = events[i * EVENT_WORDS + EVENT_DATA]!;
      if (id === 0) return postMessage(0);
      postMessage(id);
    }
  }
};
