// libc, as much of it as netd calls. 64-bit arguments go as numbers below 2^53 (`u64_fast`, `i64_fast`).
// A call that C keeps a pointer of (mmap, io vectors that live on) must be given mmapped memory: see memory.ts.
import { dlopen, FFIType as T } from "bun:ffi";

const P = T.ptr;
const I = T.i32;
const U = T.u32;
const L = T.i64_fast;
const UL = T.u64_fast;

/** errno convention: -1 and errno, unless a line says otherwise. `mmap` gives BigInt 2^64-1 on failure. */
export const libc = dlopen("libc.so.6", {
  mmap: { args: [P, UL, I, I, I, L], returns: P },
  munmap: { args: [P, UL], returns: I },
  memfd_create: { args: [P, U], returns: I },
  ftruncate: { args: [I, L], returns: I },
  madvise: { args: [P, UL, I], returns: I },
  open: { args: [P, I, I], returns: I },
  close: { args: [I], returns: I },
  read: { args: [I, P, UL], returns: L },
  write: { args: [I, P, UL], returns: L },
  fcntl: { args: [I, I, L], returns: I },
  dup: { args: [I], returns: I },
  ioctl: { args: [I, UL, P], returns: I },
  syscall: { args: [L, L, L, L, L, L, L], returns: L },

  socket: { args: [I, I, I], returns: I },
  socketpair: { args: [I, I, I, P], returns: I },
  bind: { args: [I, P, U], returns: I },
  connect: { args: [I, P, U], returns: I },
  listen: { args: [I, I], returns: I },
  accept4: { args: [I, P, P, I], returns: I },
  getsockname: { args: [I, P, P], returns: I },
  setsockopt: { args: [I, I, I, P, U], returns: I },
  getsockopt: { args: [I, I, I, P, P], returns: I },
  sendto: { args: [I, P, UL, I, P, U], returns: L },
  recvfrom: { args: [I, P, UL, I, P, P], returns: L },
  sendmsg: { args: [I, P, I], returns: L },
  recvmsg: { args: [I, P, I], returns: L },
  sendmmsg: { args: [I, P, U, I], returns: I },
  recvmmsg: { args: [I, P, U, I, P], returns: I },

  poll: { args: [P, UL, I], returns: I },
  usleep: { args: [U], returns: I },
  epoll_create1: { args: [I], returns: I },
  epoll_ctl: { args: [I, I, I, P], returns: I },
  epoll_wait: { args: [I, P, I, I], returns: I },
  eventfd: { args: [U, I], returns: I },

  clock_gettime: { args: [I, P], returns: I },

  setns: { args: [I, I], returns: I },
  unshare: { args: [I], returns: I },
  setpriority: { args: [I, U, I], returns: I },
  gettid: { args: [], returns: I },
  sched_setaffinity: { args: [I, UL, P], returns: I },
  sched_getaffinity: { args: [I, UL, P], returns: I },
  prctl: { args: [I, UL, UL, UL, UL], returns: I },
  execv: { args: [P, P], returns: I },
  setrlimit: { args: [I, P], returns: I },
  if_nametoindex: { args: [P], returns: U }, // 0 on failure
  if_indextoname: { args: [U, P], returns: P }, // NULL on failure; 16 bytes
}).symbols;

/** A NUL-terminated copy of `text`, to pass as `const char *` for the length of one call. */
export const cstring = (text: string): Uint8Array<ArrayBuffer> => {
  const bytes = new Uint8Array(new ArrayBuffer(Buffer.byteLength(text) + 1));
  Buffer.from(bytes.buffer).write(text);
  return bytes;
};
