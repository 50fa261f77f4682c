// Clients are woken without waiting for them, whatever they have done to their eventfds.
import { expect, test } from "bun:test";
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { Bell } from "../../src/link/memif/bell.ts";

const counted = (fd: number): bigint => {
  const count = new BigUint64Array(1);
  check("read", libc.read(fd, ptr(count), 8));
  return count[0]!;
};

test("each ring counts, more than there is a record for; a full eventfd that blocks, and what is none, take no time", () => {
  const bell = new Bell();
  const fd = check("eventfd", libc.eventfd(0, 0));
  for (let i = 0; i < 1000; i++) bell.ring(fd);
  expect(counted(fd)).toBe(1000n);
  check("write", libc.write(fd, ptr(new BigUint64Array([0xffff_ffff_ffff_fffen])), 8));
  for (let i = 0; i < 200; i++) bell.ring(fd);
  for (let i = 0; i < 200; i++) bell.ring(-1);
  bell.ring(fd);
  expect(counted(fd)).toBe(0xffff_ffff_ffff_ffffn);
  bell.ring(fd);
  expect(counted(fd)).toBe(1n);
  libc.close(fd);
  bell.close();
});
