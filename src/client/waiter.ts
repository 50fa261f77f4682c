// Waiting for channels from an event loop: one Worker (worker.ts) for all channels of this thread, there as long as one of
// them is. It costs two wake-ups a wait, so who expects more frames soon looks again by itself for a while (udp.ts).
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";

const EPOLL_CLOEXEC = 0o2000000;
const EFD_CLOEXEC_NONBLOCK = 0o2004000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
const EPOLLIN = 1;
const EPOLLONESHOT = 1 << 30;
const EVENT_WORDS = process.arch === "x64" ? 3 : 4;
const EVENT_DATA = process.arch === "x64" ? 1 : 2;

/** Where its Worker is: the compiled binary has one folder for all modules, and resolves against that. */
const WORKER = import.meta.path.startsWith("/$bunfs/") ? "./client/worker.ts" : "./worker.ts";

class Waiter {
  private readonly epoll = check("epoll_create1", libc.epoll_create1(EPOLL_CLOEXEC));
  private readonly stop = check("eventfd", libc.eventfd(0, EFD_CLOEXEC_NONBLOCK));
  private readonly worker = new Worker(new URL(WORKER, import.meta.url).href, { name: "netd-client" });
  private readonly watched = new Map<number, () => void>();
  private readonly event = new Int32Array(new ArrayBuffer(EVENT_WORDS * 4));
  private last = 0;

  constructor() {
    this.control(EPOLL_CTL_ADD, this.stop, EPOLLIN, 0);
    this.worker.onmessage = ({ data: id }: MessageEvent<number>) => {
      if (id === 0) this.close();
      else this.watched.get(id)?.();
    };
    this.worker.postMessage(this.epoll);
  }

  add(fd: number, ready: () => void): number {
    this.watched.set(++this.last, ready);
    this.control(EPOLL_CTL_ADD, fd, EPOLLONESHOT, this.last);
    return this.last;
  }

  arm(fd: number, id: number): void {
    this.control(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, id);
  }

  /** Returns whether it was the last one: then this waiter ends. */
  remove(fd: number, id: number): boolean {
    this.watched.delete(id);
    this.control(EPOLL_CTL_DEL, fd, 0, 0);
    if (this.watched.size > 0) return false;
    libc.write(this.stop, ptr(new BigUint64Array(new ArrayBuffer(8)).fill(1n)), 8);
    return true;
  }

  /** Whether a wait keeps the program alive. */
  hold(on: boolean): void {
    if (on) this.worker.ref();
    else this.worker.unref();
  }

  private control(op: number, fd: number, events: number, id: number): void {
    this.event[0] = events;
    this.event[EVENT_DATA] = id;
    check("epoll_ctl", libc.epoll_ctl(this.epoll, op, fd, ptr(this.event)));
  }

  private close(): void {
    this.worker.terminate();
    libc.close(this.epoll);
    libc.close(this.stop);
  }
}

let waiter: Waiter | undefined;

/** One fd that is waited for. */
export class Watch {
  private readonly fd: number;
  private readonly id: number;
  private readonly waiter: Waiter;

  /** @param ready called in this thread, once an `arm` */
  constructor(fd: number, ready: () => void) {
    waiter ??= new Waiter();
    this.waiter = waiter;
    this.fd = fd;
    this.id = waiter.add(fd, ready);
  }

  arm(): void {
    this.waiter.arm(this.fd, this.id);
  }

  /** Before its fd is closed. */
  close(): void {
    if (this.waiter.remove(this.fd, this.id)) waiter = undefined;
  }
}
