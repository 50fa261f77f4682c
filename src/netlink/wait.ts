// The thread that waits for netlink sockets, which Bun's event loop cannot: blocked in epoll_wait, it posts the tokens of
// what became readable. It touches nothing else; who armed a fd disarms and reads it (waiter.ts). Its only message in is
// { epoll, wake }: the eventfd's token is 0, and means the end.
import { errno, SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";

declare const self: Worker;

const EVENTS = 64;
const EINTR = 4;

self.onmessage = ({ data }: MessageEvent<{ epoll: number }>) => {
  // struct epoll_event, packed: u32 events | u64 data
  const events = new Int32Array(new ArrayBuffer(EVENTS * 12));
  for (;;) {
    const n = libc.epoll_wait(data.epoll, ptr(events), EVENTS, -1);
    const error = n < 0 ? errno() : 0;
    if (error === EINTR) continue;
    if (error) throw new SysError("epoll_wait", error);
    const tokens = Array.from({ length: n }, (_, i) => events[i * 3 + 1]!);
    if (tokens.includes(0)) break;
    postMessage(tokens);
  }
  postMessage("ended");
  process.exit(0);
};
