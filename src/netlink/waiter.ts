// The owners' side of the thread that reads netlink sockets (wait.ts): one epoll and one thread for all of them, there
// only while something is waited for.
//
// Who closes an inbox closes its socket at once. Its memory stays until the thread says that it was nudged: an event that
// it had got before may still name it.
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { add, arm, NUDGES_END, remove } from "./arm.ts";
import { DATAGRAMS, type Filled, Inbox, type Visit } from "./inbox.ts";
import { SLOT_BYTES, Slots } from "./slots.ts";

const EPOLL_CLOEXEC = 0o2000000;
const EFD_CLOEXEC = 0o2000000;

const BEGINNING_MS = 4;
/** Of 32 notifications: what is read at once, here. */
const MOST_RECEIVES = 4096;
const FEW_RECEIVES = 64;

/** One socket that is read. */
export interface Watch {
  readonly inbox: Inbox;
  /** Reads what the socket holds, now. False if it could not be read empty. */
  drain(): boolean;
  /** As the inbox's; what the reader may have no room for, it reads when there is some again. */
  take(visit: Visit): ReturnType<Inbox["take"]>;
  /** Before the fd is closed; nothing of this is used any more. */
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
  /** Closed, but the thread may not know. */
  private readonly closed: Inbox[] = [];
  private slots: Slots | undefined;
  private next = 1;
  private readonly watches = new Set<Watch>();
  /** Until the thread has begun, its work is done here: now and then, and before anything is taken. */
  private readonly beginning = setInterval(() => this.begin(), BEGINNING_MS);

  constructor() {
    add(this.epoll, this.wake, 0);
    this.worker = new Worker(entry, { name: "netlink-wait" });
    this.worker.onmessage = ({ data }: MessageEvent<number[] | number | "ended">) => {
      clearInterval(this.beginning);
      if (typeof data === "number") for (const inbox of this.closed.splice(0, data)) inbox.free();
      else if (data === "ended") this.end();
      else for (const token of data) this.ready.get(token)?.();
    };
    this.worker.postMessage({ epoll: this.epoll, wake: this.wake });
  }

  get idle(): boolean {
    return this.ready.size === 0;
  }

  watch(fd: number, ready: () => void): Watch {
    const token = this.next++;
    const inbox = Inbox.create(fd, token);
    const { address } = inbox;
    try {
      add(this.epoll, fd, address);
    } catch (error) {
      inbox.free();
      throw error;
    }
    this.ready.set(token, () => {
      inbox.heard();
      ready();
    });
    const watch: Watch = {
      inbox,
      drain: () => this.read(inbox, MOST_RECEIVES) === "empty",
      take: (visit) => {
        try {
          if (!inbox.served) this.read(inbox, FEW_RECEIVES);
          return inbox.take(visit);
        } finally {
          if (inbox.resume()) arm(this.epoll, fd, address);
        }
      },
      close: () => {
        this.ready.delete(token);
        this.watches.delete(watch);
        inbox.seize();
        inbox.close();
        remove(this.epoll, fd);
        inbox.yield();
        this.closed.push(inbox);
        this.nudge(this.idle ? NUDGES_END + 1 : 1);
        if (this.idle && thread === this) thread = undefined;
      },
    };
    this.watches.add(watch);
    return watch;
  }

  private begin(): void {
    for (const { inbox } of this.watches) {
      this.read(inbox, MOST_RECEIVES);
      if (!inbox.empty || inbox.error !== 0) this.ready.get(inbox.token)?.();
    }
  }

  private read(inbox: Inbox, receives: number): Filled {
    this.slots ??= new Slots(DATAGRAMS, SLOT_BYTES);
    inbox.seize();
    try {
      return inbox.fill(this.slots, receives);
    } finally {
      inbox.yield();
    }
  }

  private nudge(times: number): void {
    libc.write(this.wake, ptr(new BigUint64Array(new ArrayBuffer(8)).fill(BigInt(times))), 8);
  }

  private end(): void {
    this.slots?.free();
    libc.close(this.epoll);
    libc.close(this.wake);
  }
}

let thread: Thread | undefined;

/** Reads `fd` from now on; calls `ready` when there is something to take, or an error. */
export function watch(fd: number, ready: () => void): Watch {
  thread ??= new Thread();
  return thread.watch(fd, ready);
}
