// A client's regions as the kernel has them: what memory is taken, what is held of it, and what a mapping that fails leaves.
import { expect, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { check } from "../../ffi/errno.ts";
import { cstring, libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { Connection } from "../../src/link/memif/connection.ts";
import { Mailbox } from "../../src/link/memif/mailbox.ts";
import { Windows } from "../../src/link/memif/window.ts";
import { frameAddress, frameMemory } from "../../src/mem/frames.ts";

const MFD_ALLOW_SEALING = 2;
const MFD_HUGETLB = 4;
const F_ADD_SEALS = 1033;
const F_SEAL_SHRINK = 2;
const HUGE = 2 << 20;

function sealed(bytes: number, flags = 0): number {
  const fd = check("memfd_create", libc.memfd_create(cstring("region"), MFD_ALLOW_SEALING | flags));
  check("ftruncate", libc.ftruncate(fd, bytes));
  check("fcntl", libc.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
  return fd;
}

/** A connection to which `fds` are announced as regions, and all that it says. */
function announce(fds: readonly number[], bytes: number): { connection: Connection; said: string[] } {
  const pair = new Int32Array(2);
  check("socketpair", libc.socketpair(1, 5 | 0o2004000, 0, ptr(pair)));
  const limits = { rings: 1, bytes: 1 << 30, secret: new Uint8Array(), modes: [0] };
  const connection = new Connection(pair[0]!, "netd", limits);
  const mailbox = new Mailbox(pair[1]!);
  mailbox.send({ type: "init", version: 0x200, id: 0, mode: 0, secret: new Uint8Array(24), name: "x" }, 0);
  connection.read();
  for (const [index, fd] of fds.entries()) {
    mailbox.send({ type: "addRegion", index, bytes }, 0, fd);
    connection.read();
    libc.close(fd);
  }
  const said: string[] = [];
  for (let got = mailbox.receive(0x40); got && got.bytes.length > 0; got = mailbox.receive(0x40))
    said.push(new TextDecoder().decode(got.bytes.subarray(6, 102)).replaceAll("\0", ""));
  mailbox.close();
  libc.close(pair[1]!);
  return { connection, said };
}

const regionsHeld = (): number =>
  readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith("/memfd:region");
    } catch {
      return false; // the directory's own
    }
  }).length;

test("huge pages are refused: a hole in them is a SIGBUS for who looks", () => {
  const { connection, said } = announce([sealed(HUGE, MFD_HUGETLB)], HUGE);
  expect(said.at(-1)).toContain("not in ordinary pages");
  expect(connection.ended).toContain("not in ordinary pages");
  connection.close();
});

test("a region that is mapped holds no fd", () => {
  const { connection } = announce([sealed(65536), sealed(65536)], 65536);
  expect(connection.ended).toBe("");
  expect(regionsHeld()).toBe(2);
  connection.mapped();
  expect(regionsHeld()).toBe(0);
  connection.close();
});

test("a mapping that fails leaves no hole in the memory", () => {
  const memory = frameMemory(4 * HUGE);
  const address = frameAddress(memory);
  const from = Math.ceil(address / HUGE) * HUGE - address; // where huge pages could be
  const windows = new Windows(memory, from, from + HUGE);
  const fd = sealed(HUGE, MFD_HUGETLB);
  // Without huge pages to spare the kernel takes the place first, and says ENOMEM then.
  try {
    windows.unmap(windows.map(fd, HUGE), HUGE);
  } catch (error) {
    expect((error as Error).message).toContain("into a window: ENOMEM");
  }
  libc.close(fd);
  let end = address;
  for (const line of readFileSync("/proc/self/maps", "utf8").split("\n")) {
    const [first, last] = line
      .split(" ")[0]!
      .split("-")
      .map((text) => Number.parseInt(text, 16));
    if (first! <= end && last! > end) end = last!;
  }
  expect(end).toBeGreaterThanOrEqual(address + memory.buffer.byteLength);
});
