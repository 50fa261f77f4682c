// The thread that waits for netlink sockets, which Bun's event loop cannot, and moves what they hold into memory at once
// (inbox.ts), so that the kernel has room however busy everybody else is. Blocked in epoll_wait; what comes with an
// event is the inbox's address, or 0 for the eventfd: closed inboxes are not looked at any more once it is heard. A
// socket is armed for one event at a time, and anew when nothing was in it.
// Messages in: { epoll, wake } once. Out: 0 when it has begun; the tokens of inboxes that have something; how many nudges were read from the
// eventfd; and "ended" once NUDGES_END of them were, after which it touches nothing.
import { errno, SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { arm, NUDGES_END } from "./arm.ts";
import { DATAGRAMS, Inbox } from "./inbox.ts";
import { SLOT_BYTES, Slots } from "./slots.ts";

declare const self: Worker;

const EVENTS = 64;
const EINTR = 4;
/** Receives from one socket before the others have their turn. */
const TURN = 64;
const MOMENT_MS = 1;
const PRIO_PROCESS = 0;
/** It has little to do, and that at once, whoever else wants the processor. */
const HASTE = -10;

self.onmessage = ({ data }: MessageEvent<{ epoll: number; wake: number }>) => {
  const { epoll, wake } = data;
  const slots = new Slots(DATAGRAMS, SLOT_BYTES);
  const inboxes = new Map<number, Inbox>();
  const nudges = new Int32Array(new ArrayBuffer(8));
  // struct epoll_event, packed: u32 events | u64 data
  const events = new Int32Array(new ArrayBuffer(EVENTS * 12));

  /** Those that had something: looked at again in a moment, since a wake-up for each notification would cost more. */
  const busy = new Set<Inbox>();
  /** One of them had more than its turn. */
  let more = false;

  /** Reads one, and tells its owner unless that knows. */
  const serve = (inbox: Inbox, tokens: number[]): void => {
    // While its owner reads, or closes it, the fd is the owner's.
    while (!inbox.claim()) libc.poll(null, 0, 1);
    busy.delete(inbox);
    if (!inbox.closed) {
      const before = inbox.position;
      const filled = inbox.fill(slots, TURN);
      if (filled === "more") more = true;
      if (filled === "more" || inbox.position !== before) busy.add(inbox);
      else if (filled === "empty") arm(epoll, inbox.fd, inbox.address);
      if ((!inbox.empty || inbox.error !== 0) && inbox.tell()) tokens.push(inbox.token);
    }
    inbox.yield();
  };

  libc.setpriority(PRIO_PROCESS, 0, HASTE); // where that is not allowed, it goes without
  postMessage(0);
  for (let ended = false; !ended; ) {
    const moment = busy.size === 0 ? -1 : more ? 0 : MOMENT_MS;
    const n = libc.epoll_wait(epoll, ptr(events), EVENTS, moment);
    const error = n < 0 ? errno() : 0;
    if (error === EINTR) continue;
    if (error) throw new SysError("epoll_wait", error);
    const tokens: number[] = [];
    nudges[0] = 0;
    more = false;
    const due = new Set(busy);
    for (let i = 0; i < n; i++) {
      const address = (events[i * 3 + 1]! >>> 0) + events[i * 3 + 2]! * 2 ** 32;
      if (address === 0) libc.read(wake, ptr(nudges), 8);
      else {
        let inbox = inboxes.get(address);
        if (!inbox) inboxes.set(address, (inbox = new Inbox(address)));
        due.add(inbox);
      }
    }
    for (const inbox of due) serve(inbox, tokens);
    if (tokens.length > 0) postMessage(tokens);
    const heard = nudges[0]!;
    if (heard === 0) continue;
    // The addresses of closed inboxes may come again, as others'.
    inboxes.clear();
    for (const inbox of busy) if (inbox.closed) busy.delete(inbox);
    postMessage(heard % NUDGES_END);
    ended = heard >= NUDGES_END;
  }
  slots.free();
  postMessage("ended");
  process.exit(0);
};
