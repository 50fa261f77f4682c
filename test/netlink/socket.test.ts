// The socket: what overruns, what is cut, who may speak to it, what it costs to be left open; and namespaces.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, readlinkSync, statSync } from "node:fs";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { Host } from "../../src/lab/host.ts";
import * as nl from "../../src/netlink/constants.ts";
import { dumpLinks, setLink } from "../../src/netlink/link.ts";
import { messageLength, messageSeq, messageType, Requests } from "../../src/netlink/message.ts";
import { Netns } from "../../src/netlink/netns.ts";
import { Rtnetlink } from "../../src/netlink/request.ts";
import { defaultRoute } from "../../src/netlink/prefix.ts";
import { delRoute, dumpRoutes, newRoute } from "../../src/netlink/routeset.ts";
import { NetlinkSocket } from "../../src/netlink/socket.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const blackhole = (i: number) => ({
  dst: { family: 2, words: [20 | (i << 8)], prefixLen: 32 },
  type: nl.RTN_BLACKHOLE,
});

function addBlackholes(host: Host, from: number, to: number): void {
  host.nl.call((m) => {
    for (let i = from; i < to; i++) newRoute(m, blackhole(i));
  });
}

/** Reads until EAGAIN; returns messages and the errors met. */
function drain(socket: NetlinkSocket): { messages: number; errors: number[] } {
  let messages = 0;
  const errors: number[] = [];
  for (;;) {
    const n = socket.receive();
    if (n === -nl.EAGAIN) return { messages, errors };
    if (n < 0) errors.push(n);
    for (let i = 0; i < n; i++) {
      let off = socket.offset(i);
      const end = off + socket.length(i);
      for (let len: number; (len = messageLength(socket.words, off, end)) > 0; off += (len + 3) & ~3)
        messages++;
      expect(off).toBe(end);
    }
  }
}

test("events come to who joined, and to nobody after leave", () => {
  using host = new Host("h");
  using socket = new NetlinkSocket({ netns: host.netns });
  addBlackholes(host, 0, 1);
  expect(drain(socket)).toEqual({ messages: 0, errors: [] });
  socket.join(nl.RTNLGRP_IPV4_ROUTE, nl.RTNLGRP_LINK);
  addBlackholes(host, 1, 3001);
  expect(drain(socket)).toEqual({ messages: 3000, errors: [] });
  socket.leave(nl.RTNLGRP_IPV4_ROUTE);
  addBlackholes(host, 3001, 3100);
  expect(drain(socket)).toEqual({ messages: 0, errors: [] });
  expect(socket.drops()).toBe(0);
});

test("an overrun is told once, before what is queued, and the drop counter knows it", () => {
  using host = new Host("h");
  using socket = new NetlinkSocket({ netns: host.netns, receiveBuffer: 64 * 1024 });
  socket.join(nl.RTNLGRP_IPV4_ROUTE);
  addBlackholes(host, 0, 5000);
  expect(socket.receive()).toBe(-nl.ENOBUFS);
  const first = drain(socket);
  expect(first.errors).toEqual([]);
  expect(first.messages).toBeGreaterThan(50);
  const dropped = socket.drops();
  expect(dropped).toBeGreaterThan(0);
  // The kernel does not count what it drops while the socket is congested: the counter is a witness, not a sum.
  expect(dropped + first.messages).toBeLessThanOrEqual(5000);
  addBlackholes(host, 5000, 5010);
  expect(drain(socket)).toEqual({ messages: 10, errors: [] });
  expect(socket.drops()).toBe(dropped);
});

test("a datagram longer than a slot is counted and not delivered", () => {
  using host = new Host("h");
  addBlackholes(host, 0, 2000);
  using socket = new NetlinkSocket({ netns: host.netns, slotBytes: 2048, slots: 4 });
  const m = new Requests();
  dumpLinks(m);
  expect(socket.send(m.bytes, 0, m.length)).toBe(0);
  expect(socket.receive(4, true)).toBeGreaterThan(0);
  expect(socket.truncated).toBe(0);
  drain(socket);
  socket.join(nl.RTNLGRP_IPV4_ROUTE);
  host.nl.call((r) => {
    const nexthops = Array.from({ length: 300 }, () => ({ oif: 1 }));
    newRoute(r, blackhole(5000));
    newRoute(r, { dst: "10.9.0.0/16", scope: nl.RT_SCOPE_LINK, nexthops });
  });
  expect(socket.receive()).toBe(2);
  expect([socket.length(0) > 0, socket.length(1)]).toEqual([true, 0]);
  expect(socket.truncated).toBe(1);
});

test("a dump of any length comes whole, in datagrams of many messages", () => {
  using host = new Host("h");
  addBlackholes(host, 0, 20_000);
  using socket = new NetlinkSocket({ netns: host.netns });
  const m = new Requests();
  m.firstSeq = 0xfffffff0;
  dumpRoutes(m, { family: 2, table: 254 });
  expect(socket.send(m.bytes, 0, m.length)).toBe(0);
  let routes = 0;
  let datagrams = 0;
  for (let done = false; !done; ) {
    const n = socket.receive(2, true);
    expect(n).toBeGreaterThan(0);
    for (let i = 0; i < n; i++, datagrams++) {
      let off = socket.offset(i);
      const end = off + socket.length(i);
      for (let len: number; (len = messageLength(socket.words, off, end)) > 0; off += (len + 3) & ~3) {
        expect(messageSeq(socket.words, off)).toBe(0xfffffff0);
        if (messageType(socket.words, off) === nl.NLMSG_DONE) done = true;
        else routes++;
      }
    }
  }
  expect(routes).toBe(20_000);
  expect(datagrams).toBeLessThan(100);
});

test("what another process sends is not delivered", () => {
  using host = new Host("h");
  using socket = new NetlinkSocket({ netns: host.netns });
  using other = new NetlinkSocket({ netns: host.netns });
  expect(other.portid).not.toBe(socket.portid);
  const m = new Requests();
  newRoute(m, blackhole(1));
  const to = new Uint32Array(new ArrayBuffer(12));
  to.set([nl.AF_NETLINK, socket.portid, 0]);
  expect(Number(libc.sendto(other.fd, ptr(m.bytes), m.length, 0, ptr(to), 12))).toBe(m.length);
  expect(socket.receive()).toBe(1);
  expect(socket.length(0)).toBe(0);
  expect(socket.foreign).toBe(1);
});

test("waiting ends with the timeout; a request too long for the kernel is an errno", () => {
  using socket = new NetlinkSocket({ timeoutMs: 20, sendBuffer: 4096 });
  expect(socket.receive(1, true)).toBe(-nl.EAGAIN);
  expect(socket.send(new Uint8Array(100_000), 0, 100_000)).toBe(-90);
});

test("fds are closed on exec, and closed by close", () => {
  const socket = new NetlinkSocket();
  expect(readFileSync(`/proc/self/fdinfo/${socket.fd}`, "utf8")).toMatch(/flags:\s+0?2[0-7]*2/);
  const link = readlinkSync(`/proc/self/fd/${socket.fd}`);
  socket.close();
  expect(() => {
    if (readlinkSync(`/proc/self/fd/${socket.fd}`) === link) throw new Error("open");
    throw new Error("closed");
  }).toThrow(/closed|ENOENT/);
  expect(socket.words.length).toBe(0);
});

test("namespaces: made, opened by path, pid and name; the caller's thread stays where it was", () => {
  const own = () => readlinkSync("/proc/thread-self/ns/net");
  const before = own();
  using a = Netns.create();
  using b = Netns.create();
  const of = (ns: Netns) => readlinkSync(ns.path);
  expect(new Set([before, of(a), of(b)]).size).toBe(3);
  expect(a.run(own)).toBe(of(a));
  expect(a.run(() => b.run(own))).toBe(of(b));
  expect(a.run(() => [b.run(own), own()])).toEqual([of(b), of(a)]);
  expect(() =>
    a.run(() => {
      throw new Error("inside");
    }),
  ).toThrow("inside");
  expect(own()).toBe(before);

  using again = Netns.open(a.path);
  expect(of(again)).toBe(of(a));
  using mine = Netns.open(process.pid);
  using current = Netns.current();
  expect([of(mine), of(current)]).toEqual([before, before]);
  expect(() => Netns.open("no-such-name")).toThrow("open /run/netns/no-such-name: ENOENT");
  expect(() => Netns.open("/proc/self/ns/uts")).toThrow("this is not a network namespace");
  expect(() => Netns.open("/dev/null")).toThrow("this is not a network namespace");
  expect(own()).toBe(before);
});

test("a named namespace, and one of a process in it", async () => {
  const name = `netd-test-${process.pid}`;
  expect(Bun.spawnSync(["ip", "netns", "add", name]).exitCode).toBe(0);
  try {
    using ns = Netns.open(name);
    const child = Bun.spawn(["nsenter", `--net=${ns.path}`, "sleep", "30"]);
    try {
      const inode = (path: string) => statSync(path).ino;
      while (inode(`/proc/${child.pid}/ns/net`) !== inode(ns.path)) await Bun.sleep(1);
      using byPid = Netns.open(child.pid);
      expect(inode(byPid.path)).toBe(inode(ns.path));
      expect(inode(byPid.path)).not.toBe(inode("/proc/thread-self/ns/net"));
    } finally {
      child.kill();
      await child.exited;
    }
  } finally {
    Bun.spawnSync(["ip", "netns", "del", name]);
  }
});

test("sockets of two namespaces work side by side, and outlive the handle", () => {
  const a = Netns.create();
  const b = Netns.create();
  using ra = new Rtnetlink(a);
  using rb = new Rtnetlink(b);
  a.close();
  b.close();
  for (const r of [ra, rb]) r.call((m) => setLink(m, { name: "lo", up: true }));
  ra.call((m) => newRoute(m, { dst: "10.0.0.0/8", type: nl.RTN_BLACKHOLE }));
  expect(() => rb.call((m) => delRoute(m, { dst: "10.0.0.0/8" }))).toThrow("ESRCH");
  ra.call((m) => delRoute(m, { dst: "10.0.0.0/8" }));
  expect(() => ra.call((m) => newRoute(m, { dst: defaultRoute(2), via: "10.0.0.1" }))).toThrow("ENETUNREACH");
});
