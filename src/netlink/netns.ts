// Network namespaces: made, opened, and entered for the length of one synchronous call. A namespace lives as long
// as a process, a socket or a fd in it does, so an anonymous one dies with this process at the latest.
// setns(2) moves the calling thread only. Keep what runs inside short: a thread that Bun starts meanwhile
// (a JIT helper) is born in that namespace and holds it until it ends. Nothing asynchronous may run inside.
import { readlinkSync } from "node:fs";
import { check, errno, SysError } from "../../ffi/errno.ts";
import { cstring, libc } from "../../ffi/libc.ts";

const CLONE_NEWNET = 0x40000000;
const NS_GET_NSTYPE = 0xb703;
const O_CLOEXEC = 0o2000000;

/** This thread's namespace: `self` would be the main thread's. */
const OWN = "/proc/thread-self/ns/net";

function openFd(path: string, hint = ""): number {
  return check(`open ${path}`, libc.open(cstring(path), O_CLOEXEC, 0), hint);
}

function enter(fd: number, what: string): void {
  if (libc.setns(fd, CLONE_NEWNET) < 0)
    throw new SysError(`setns ${what}`, errno(), "needs CAP_SYS_ADMIN (root)");
}

export class Netns {
  readonly fd: number;
  readonly name: string;

  private constructor(fd: number, name: string) {
    this.fd = fd;
    this.name = name;
  }

  /** A new anonymous namespace, its lo down. The calling thread is back where it was when this returns. */
  static create(name = "anonymous"): Netns {
    const own = openFd(OWN);
    try {
      if (libc.unshare(CLONE_NEWNET) < 0)
        throw new SysError("unshare network namespace", errno(), "needs CAP_SYS_ADMIN (root)");
      try {
        return new Netns(openFd(OWN), name);
      } finally {
        enter(own, "back");
      }
    } finally {
      libc.close(own);
    }
  }

  /** By path, by the pid of a process in it, or by the name that `ip netns` gave it (no slash in it). */
  static open(where: string | number): Netns {
    const path =
      typeof where === "number"
        ? `/proc/${where}/ns/net`
        : where.includes("/")
          ? where
          : `/run/netns/${where}`;
    const fd = openFd(path, "a network namespace is a path, a pid, or a name that `ip netns` shows");
    if (libc.ioctl(fd, NS_GET_NSTYPE, null) !== CLONE_NEWNET) {
      libc.close(fd);
      throw new SysError(`open ${path}`, 22, "this is not a network namespace");
    }
    return new Netns(fd, String(where));
  }

  /** By a fd that stays its owner's: not to be closed here. */
  static of(fd: number): Netns {
    return new Netns(fd, `fd ${fd}`);
  }

  /** The calling thread's own. */
  static current(): Netns {
    return new Netns(openFd(OWN), "current");
  }

  /**
   * Runs `fn` with the calling thread in this namespace; sockets and files of /proc/sys/net opened there belong to it.
   * Needs CAP_SYS_ADMIN, but not where the thread is there already.
   */
  run<T>(fn: () => T): T {
    if (readlinkSync(OWN) === readlinkSync(`/proc/self/fd/${this.fd}`)) return fn();
    const own = openFd(OWN);
    try {
      enter(this.fd, this.name);
      try {
        return fn();
      } finally {
        enter(own, `back from ${this.name}`);
      }
    } finally {
      libc.close(own);
    }
  }

  /** A path to it that other processes can open (nsenter --net=PATH) while this one has it open. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.fd}`;
  }

  /** Drops this handle; the namespace goes when its last user does. */
  close(): void {
    libc.close(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
