// Being told when a netlink socket has something to read: one epoll and one thread (wait.ts) for all of them, there only
// while something is waited for. A fd is armed for one notice at a time (EPOLLONESHOT), and armed anew once it was read
// empty, so the thread never spins.
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";

const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
const EPOLLIN = 1;
const EPOLLONESHOT = 1 << 30;
const EPOLL_CLOEXEC = 0o2000000;
const EFD_CLOEXEC = 0o2000000;

/** One fd that is waited for. */
export interface Watch {
  /** Asks for one more notice. */
  arm(): void;
  close(): void;
}

/** The compiled binary has all Workers under the folder of its main file, and itself in place of this one. */
const entry = new URL(
  import.meta.url.includes("/$bunfs/") ? "./netlink/wait.ts" : "./wait.ts",
  import.meta.url,
).href;

class Thread {
  private readonly epoll = check("epoll_create1", libc.epoll_create1(EPOLL_CLOEXEC));
  private readonly wake = check("eventfd", libc.eventfd(0, EFD_CLOEXEC));
  private readonly worker: Worker;
  private readonly ready = new Map<number, () => void>();
  private next = 1;

  constructor() {
    this.control(EPOLL_CTL_ADD, this.wake, EPOLLIN, 0);
    this.worker = new Worker(entry, { name: "netlink-wait" });
    this.worker.onmessage = ({ data }: MessageEvent<number[] | "ended">) => {
      if (data === "ended") {
        libc.close(this.epoll);
        libc.close(this.wake);
      } else for (const token of data) this.ready.get(token)?.();
    };
    this.worker.postMessage({ epoll: this.epoll });
  }

  get idle(): boolean {
    return this.ready.size === 0;
  }

  watch(fd: number, ready: () => void): Watch {
    const token = this.next++;
    this.ready.set(token, ready);
    this.control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT, token);
    return {
      arm: () => this.control(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, token),
      close: () => {
        if (!this.ready.delete(token)) return;
        this.control(EPOLL_CTL_DEL, fd, 0, token);
        release(this);
      },
    };
  }

  /** Its last message closes what it waited on. */
  end(): void {
    libc.write(this.wake, ptr(new BigUint64Array(new ArrayBuffer(8)).fill(1n)), 8);
  }

  private control(op: number, fd: number, events: number, token: number): void {
    const event = new Int32Array(new ArrayBuffer(12));
    event[0] = events;
    event[1] = token;
    check("epoll_ctl", libc.epoll_ctl(this.epoll, op, fd, ptr(event)));
  }
}

let thread: Thread | undefined;

/** Calls `ready` once, soon after `fd` has become readable; then again after each `arm`. Close it before the fd. */
export function watch(fd: number, ready: () => void): Watch {
  thread ??= new Thread();
  return thread.watch(fd, ready);
}

function release(from: Thread): void {
  if (!from.idle) return;
  if (thread === from) thread = undefined;
  from.end();
}
