// AF_XDP on a veth pair, copy mode: our rings (src/xdp/socket.ts, src/link/xdp.ts) against the same in C with libxdp.
//   rxdrop  receive and give the frame back     txonly  send     l2fwd  receive, swap the MAC addresses, send
//
//   lab.daemon: nd0, the program under test, core 1 <-- veth --> lab.peer: peer0, the source (peers/xsk.c txonly), core 0
//
// The kernel's share is the same for both: the same XDP program, ring and frame sizes, batches of 64, need-wakeup.
// Verification sends numbered frames from a packet socket on peer0, few enough at a time that none may be lost, and
// looks at every byte that comes out: of each frame on the wire, and by a hash of what rxdrop and l2fwd received.
import { join } from "node:path";
import { check } from "../ffi/errno.ts";
import { cstring, libc } from "../ffi/libc.ts";
import { ptr } from "../ffi/memory.ts";
import { buildBpf } from "../bpf/build.ts";
import { LAB_LLADDR, Lab } from "../src/lab/lab.ts";
import type { Netns } from "../src/netlink/netns.ts";
import { parseIPv4, parseLladdr } from "../src/wire/address.ts";
import { udpFrame } from "../src/wire/frame.ts";
import {
  type Bench,
  compilePeer,
  cores,
  parseSample,
  pinned,
  runChild,
  type Sample,
  script,
} from "./harness.ts";
import { FNV_BASIS, fnv1a, SEQ_OFF } from "./rings.ts";

const MODES = ["rxdrop", "txonly", "l2fwd"] as const;
type Mode = (typeof MODES)[number];

const VERIFIED = 8192;
const PACE = 16; // verified frames a millisecond: a child that is not run for 100 ms still loses none
const PAYLOAD = 22; // 64 bytes of frame

/** A packet socket on peer0 in its namespace: numbered frames in, every frame that nd0 sends out. */
class Wire {
  private readonly fd: number;
  private readonly buffer = new Uint8Array(new ArrayBuffer(4096));

  constructor(ifname: string) {
    const ifindex = libc.if_nametoindex(ptr(cstring(ifname)));
    const all = 0x0300; // htons(ETH_P_ALL)
    this.fd = check("socket AF_PACKET", libc.socket(17, 3 | 0x800 | 0x80000, all));
    const on = Int32Array.of(64 << 20);
    check("SO_RCVBUFFORCE", libc.setsockopt(this.fd, 1, 33, ptr(on), 4));
    check("PACKET_IGNORE_OUTGOING", libc.setsockopt(this.fd, 263, 23, ptr(Int32Array.of(1)), 4));
    const address = new DataView(new ArrayBuffer(20)); // struct sockaddr_ll
    address.setUint16(0, 17, true);
    address.setUint16(2, all, true);
    address.setInt32(4, ifindex, true);
    check("bind AF_PACKET", libc.bind(this.fd, ptr(address), 20));
  }

  send(frame: Uint8Array): void {
    check("sendto AF_PACKET", libc.sendto(this.fd, ptr(frame), frame.length, 0, null, 0));
  }

  /** The next UDP frame of the length that is waited for, valid until the next call, or undefined. */
  next(length: number): Uint8Array | undefined {
    for (;;) {
      const n = Number(libc.recvfrom(this.fd, ptr(this.buffer), this.buffer.length, 0, null, null));
      if (n < 0) return undefined;
      if (n === length && this.buffer[12] === 8 && this.buffer[23] === 17) return this.buffer.subarray(0, n);
    }
  }

  close(): void {
    libc.close(this.fd);
  }
}

const inside = (netns: Netns, command: readonly string[]): string[] => [
  "nsenter",
  `--net=${netns.path}`,
  "--",
  ...command,
];

class Setup {
  readonly lab = Lab.create();
  readonly peer = compilePeer("xsk", ["-lxdp", "-lbpf"]);
  /** What is sent to nd0, and by nd0: a UDP frame that the XDP program redirects. */
  readonly frame: Uint8Array = udpFrame({
    dstMac: parseLladdr(LAB_LLADDR)!,
    srcMac: Uint8Array.of(2, 0, 0, 0, 0x0b, 1), // nobody's: peer0's kernel drops what comes back to it at once
    src: parseIPv4("10.77.0.2")!,
    dst: parseIPv4("10.77.0.1")!,
    sport: 1000,
    dport: 7,
    payload: new Uint8Array(PAYLOAD),
  });

  /** The command of one side under test, inside the daemon's namespace. */
  command(side: "ours" | "peer", mode: Mode, seconds: number, count = 0): string[] {
    const hex = Buffer.from(this.frame).toString("hex");
    const args = [hex, String(count)];
    const command =
      side === "ours"
        ? script(join(import.meta.dir, "rings.ts"), mode, "nd0", String(seconds), ...args)
        : [this.peer, mode, "nd0", String(seconds), join(import.meta.dir, "..", "build", "steer.o"), ...args];
    return inside(this.lab.daemon, command);
  }

  /** Mpps of one timed run; rxdrop and l2fwd are fed from peer0 meanwhile. */
  async timed(side: "ours" | "peer", mode: Mode, seconds: number): Promise<Sample> {
    const hex = Buffer.from(this.frame).toString("hex");
    const source = [this.peer, "txonly", "peer0", String(seconds + 10), "-", hex];
    const feeder =
      mode === "txonly"
        ? undefined
        : Bun.spawn(pinned(inside(this.lab.peer, source), cores.other), {
            stdout: "ignore",
            stderr: "inherit",
          });
    try {
      return await runChild(this.command(side, mode, seconds));
    } finally {
      feeder?.kill();
      await feeder?.exited;
    }
  }

  /** One verified run. Throws unless every byte of every frame is right, and none is missing. */
  async verified(side: "ours" | "peer", mode: Mode): Promise<void> {
    const what = `${side} ${mode}`;
    const { lab, frame } = this;
    const wire = lab.peer.run(() => new Wire("peer0"));
    const child = Bun.spawn(pinned(this.command(side, mode, 20, VERIFIED)), {
      stdout: "pipe",
      stderr: "inherit",
    });
    let output = "";
    const reading = (async () => {
      for await (const chunk of child.stdout) output += new TextDecoder().decode(chunk);
    })();
    try {
      const given = frame.slice();
      const givenSeq = new DataView(given.buffer);
      const wanted = frame.slice();
      if (mode === "l2fwd") {
        wanted.set(frame.subarray(6, 12), 0);
        wanted.set(frame.subarray(0, 6), 6);
      }
      const wantedSeq = new DataView(wanted.buffer);
      let hash = FNV_BASIS;
      let sent = 0;
      let seen = 0;
      while (child.exitCode === null) {
        await Bun.sleep(1);
        if (mode !== "txonly" && output.includes("ready"))
          for (let i = 0; i < PACE && sent < VERIFIED; i++) {
            givenSeq.setUint32(SEQ_OFF, sent++, true);
            hash = fnv1a(hash, given);
            wire.send(given);
          }
        for (let got: Uint8Array | undefined; (got = wire.next(frame.length)); ) {
          wantedSeq.setUint32(SEQ_OFF, seen, true);
          if (Buffer.compare(got, wanted) !== 0)
            throw new Error(`${what}: frame ${seen} is ${Buffer.from(got).toString("hex")}`);
          seen++;
        }
      }
      await reading;
      if (child.exitCode !== 0) throw new Error(`${what}: exit status ${child.exitCode}`);
      const result = parseSample(output.replace("ready\n", ""));
      const expected = { frames: VERIFIED, hash: mode === "txonly" ? 0 : hash >>> 0 };
      if (!Bun.deepEquals(result, expected))
        throw new Error(`${what}: ${JSON.stringify(result)}, not ${JSON.stringify(expected)}`);
      const onWire = mode === "rxdrop" ? 0 : VERIFIED;
      if (seen !== onWire) throw new Error(`${what}: ${seen} frames came out, not ${onWire}`);
    } finally {
      child.kill();
      wire.close();
    }
  }

  [Symbol.dispose](): void {
    this.lab[Symbol.dispose]();
  }
}

export const bench: Bench = {
  name: "xsk",
  about: "AF_XDP rings on a veth pair, 64-byte frames, copy mode; goal: 0.95 of C with libxdp",
  async verify() {
    await buildBpf();
    using setup = new Setup();
    for (const mode of MODES) for (const side of ["peer", "ours"] as const) await setup.verified(side, mode);
  },
  async run(ctx) {
    using setup = new Setup();
    const seconds = ctx.seconds ?? 1.5;
    for (const mode of MODES)
      await ctx.compare({
        unit: "Mpps",
        better: "higher",
        peerName: "C, libxdp",
        rounds: 5,
        ours: () => setup.timed("ours", mode, seconds),
        peer: () => setup.timed("peer", mode, seconds),
      });
  },
};
