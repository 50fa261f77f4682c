// epoll, as the thread that reads netlink sockets (wait.ts) and their owners (waiter.ts) use it: an event carries the
// address of the socket's inbox, or 0 for the eventfd; struct epoll_event is packed: u32 events | u64 data.
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";

const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
const EPOLLIN = 1;
const EPOLLONESHOT = 1 << 30;

/** As many nudges of the eventfd at once mean the end. */
export const NUDGES_END: number = 1 << 20;

const event = new Int32Array(new ArrayBuffer(12));

function control(epoll: number, op: number, fd: number, events: number, address: number): void {
  event[0] = events;
  event[1] = address | 0;
  event[2] = address / 2 ** 32;
  check("epoll_ctl", libc.epoll_ctl(epoll, op, fd, ptr(event)));
}

/** From now on `fd` is waited for, each time; or, if there is an address, once. */
export const add = (epoll: number, fd: number, address: number): void =>
  control(epoll, EPOLL_CTL_ADD, fd, address === 0 ? EPOLLIN : EPOLLIN | EPOLLONESHOT, address);

/** Once more. */
export const arm = (epoll: number, fd: number, address: number): void =>
  control(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, address);

export const remove = (epoll: number, fd: number): void => control(epoll, EPOLL_CTL_DEL, fd, 0, 0);
