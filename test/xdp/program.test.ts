// Attaching steer to a card and taking it off again: modes, refusals, and that nothing stays behind.
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { SysError } from "../../ffi/errno.ts";
import { foreignProgram } from "../../src/xdp/foreign.ts";
import { SteerProgram } from "../../src/xdp/program.ts";
import { createSocket, type SocketOptions } from "../../src/xdp/socket.ts";
import { alive, attachStranger, bpfIds } from "./bpf.ts";
import { Card, MAC } from "./card.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const LO = 1;
let card: Card;
let small: SocketOptions;

beforeAll(() => {
  card = new Card(2);
  small = {
    ifname: "nd0",
    ifindex: card.ifindex,
    queue: 0,
    frames: 256,
    frameBytes: 2048,
    rxSize: 64,
    txSize: 64,
    mode: "auto",
  };
});
afterAll(() => card.close());
afterEach(() => {
  expect(attached()).toBe("");
});

const attached = (): string => card.run(() => foreignProgram(card.ifindex, "nd0"));

/** Runs in the card's namespace with a program that is closed afterwards. */
function withProgram(fn: (program: SteerProgram) => void): void {
  const program = SteerProgram.load();
  try {
    card.run(() => fn(program));
  } finally {
    program.close();
  }
}

function refusal(fn: () => unknown): SysError {
  try {
    fn();
  } catch (error) {
    if (error instanceof SysError) return error;
    throw error;
  }
  throw new Error("not refused");
}

test("veth: native mode; detach gives the card back, and it can be attached again", () => {
  withProgram((program) => {
    for (const mode of ["auto", "native", "auto"] as const) {
      expect(program.attach(card.ifindex, mode)).toEqual({ mode: "native" });
      expect(attached()).toContain("another netd runs there");
      program.detach();
      expect(attached()).toBe("");
    }
    expect(program.attach(card.ifindex, "skb")).toEqual({ mode: "skb" });
  });
});

test("a driver without native XDP: auto falls back to SKB mode and says why, native is refused", () => {
  withProgram((program) => {
    expect(refusal(() => program.attach(LO, "native")).message).toBe(
      "attach XDP to lo (native mode): EOPNOTSUPP (the driver has no native XDP)",
    );
    const { mode, fallback } = program.attach(LO);
    expect(mode).toBe("skb");
    expect(fallback?.code).toBe("EOPNOTSUPP");
  });
});

test("attaching twice, or to no interface", () => {
  withProgram((program) => {
    expect(refusal(() => program.attach(9999)).message).toBe(
      "attach XDP to ifindex 9999: ENODEV (not in this network namespace)",
    );
    program.attach(card.ifindex);
    expect(refusal(() => program.attach(card.ifindex)).message).toContain(
      "EBUSY (this program is attached already)",
    );
  });
});

test.each(["native", "skb"] as const)("a foreign program in %s mode: one error that names it", (mode) => {
  const stranger = card.run(() => attachStranger(card.ifindex, mode));
  withProgram((program) => {
    for (const ours of ["auto", "native", "skb"] as const)
      expect(refusal(() => program.attach(card.ifindex, ours)).message).toMatch(
        /^attach XDP to nd0 \(\w+ mode\): EBUSY \(XDP program \d+ "stranger" is on this card, held by PID \d+ \(bun.*\); stop that first\)$/,
      );
    stranger.close();
    expect(program.attach(card.ifindex)).toEqual({ mode: "native" });
  });
});

test("an object that the verifier refuses: its words are in the error", () => {
  const bytes = Uint8Array.from(readFileSync(join(import.meta.dir, "../../build/steer.o")));
  const section = textOffset(bytes);
  bytes.set([0xbf, 0x90, 0, 0, 0, 0, 0, 0], section); // r0 = r9, which nothing has set
  const error = refusal(() => SteerProgram.fromObject(bytes));
  expect(error.op).toBe("load XDP program steer");
  expect(error.detail).toMatch(/R9 !read_ok/);
  expect(refusal(() => SteerProgram.fromObject(new Uint8Array(4096))).op).toBe("open BPF object steer.o");
});

/** The file offset of the ELF section "xdp". */
function textOffset(elf: Uint8Array): number {
  const view = new DataView(elf.buffer);
  const headers = Number(view.getBigUint64(0x28, true));
  const entry = (index: number): number => headers + index * view.getUint16(0x3a, true);
  const offset = (index: number): number => Number(view.getBigUint64(entry(index) + 0x18, true));
  const names = offset(view.getUint16(0x3e, true));
  for (let i = 0; i < view.getUint16(0x3c, true); i++) {
    const at = names + view.getUint32(entry(i), true);
    if (Buffer.from(elf.subarray(at, at + 4)).toString() === "xdp\0") return offset(i);
  }
  throw new Error("no section xdp");
}

test("kill -9 of the process that attached takes the program off", async () => {
  const path = `/proc/${process.pid}/fd/${card.netns.fd}`;
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "holder.ts"), path, `${card.ifindex}`], {
    stdout: "pipe",
    stderr: "inherit",
  });
  const { value } = await child.stdout.getReader().read();
  expect(Buffer.from(value!).toString()).toBe("attached\n");
  expect(attached()).toContain("another netd runs there");
  withProgram((program) => expect(refusal(() => program.attach(card.ifindex)).code).toBe("EBUSY"));
  const busy = card.run(() => refusal(() => createSocket(small)));
  expect(busy.message).toContain(`PID ${child.pid} (bun`);
  child.kill("SIGKILL");
  await child.exited;
  expect(attached()).toBe("");
  withProgram((program) => expect(program.attach(card.ifindex).mode).toBe("native"));
});

test("fifty starts and stops leave no fd, map, program, link, mapping or memory", async () => {
  const count = (path: string): number => readdirSync(path).length;
  const mappings = (): number => readFileSync("/proc/self/maps", "latin1").split("socket:").length;
  const round = (): void => {
    const program = SteerProgram.load();
    card.run(() => {
      program.attach(card.ifindex);
      program.setAddress(MAC);
      const sockets = [0, 1].map((queue) => createSocket({ ...small, queue, frames: 4096 }));
      for (const { ref } of sockets) program.setSocket(ref.queue, ref.fd);
      program.testRun(new Uint8Array(64), { ifindex: card.ifindex, queue: 0 });
      const ids = bpfIds();
      expect([ids.prog.length, ids.map.length, ids.link.length]).toEqual([5, 16, 1]);
      seen.push(ids);
      program.detach();
      for (const socket of sockets) socket.close();
    });
    program.close();
    program.close(); // a second time does no harm
  };
  const seen: ReturnType<typeof bpfIds>[] = [];
  round();
  Bun.gc(true);
  const before = { fds: count("/proc/self/fd"), mappings: mappings(), rss: process.memoryUsage.rss() };
  for (let i = 0; i < 50; i++) round();
  Bun.gc(true);
  expect(count("/proc/self/fd")).toBe(before.fds);
  expect(mappings()).toBe(before.mappings);
  // 50 rounds of two UMEMs are 800 MiB.
  expect(process.memoryUsage.rss() - before.rss).toBeLessThan(100 << 20);
  // The kernel frees BPF objects after a grace period.
  for (let wait = 0; wait < 100 && seen.some((ids) => alive(ids) > 0); wait++) await Bun.sleep(50);
  expect(seen.filter((ids) => alive(ids) > 0)).toEqual([]);
});
