// The XDP program steer (bpf/steer.bpf.c): load it, attach it to a card, fill its maps, read its counters.
// Main thread only, and inside the card's network namespace for attach and testRun. What is attached is held by a bpf_link
// fd and goes when the process goes, however it goes.
import { readFileSync } from "node:fs";
import steerObject from "../../build/steer.o" with { type: "file" };
import { abi, assertAbi } from "../../ffi/abi.ts";
import { errno, SysError } from "../../ffi/errno.ts";
import { libbpf } from "../../ffi/libbpf.ts";
import { cstring, libc } from "../../ffi/libc.ts";
import { bufferAt, mapPrivate, type Pointer, ptr, unmap } from "../../ffi/memory.ts";
import { foreignProgram } from "./foreign.ts";
import {
  type Match,
  mapNames,
  type SteerCounters,
  type SteerMapFds,
  steerCounters,
  steerLayout,
} from "./layout.ts";
import { matchKey, remove, update } from "./map.ts";
import { interfaceName } from "./queues.ts";
import { attachTc, type TcDevices, type TcProgram, tcPrograms } from "./tc.ts";
import { TestRun } from "./testrun.ts";

const BPF_XDP = 37; // enum bpf_attach_type
const XDP_FLAGS_SKB_MODE = 2;
const XDP_FLAGS_DRV_MODE = 4;
const EPERM = 1;
const ENOENT = 2;
const EBUSY = 16;
const EEXIST = 17;
const ENODEV = 19;
const EINVAL = 22;
const ENOSPC = 28;
const ERANGE = 34;
const EOPNOTSUPP = 95;
const LOG_BYTES = 256 * 1024;

export { steerLayout, steerCounters };
export type { Match, SteerCounters };

export type AttachMode = "auto" | "native" | "skb";

export interface Attached {
  readonly mode: "native" | "skb";
  /** Why native mode was refused, where `auto` fell back to SKB mode. */
  readonly fallback?: SysError;
}

export class SteerProgram {
  readonly #object: Pointer;
  readonly #program: number;
  readonly #tc: Record<TcProgram, number>;
  readonly #config: number;
  readonly #xsks: number;
  readonly #counters: number;
  readonly #cpus: number;
  /** As `config` has it. */
  readonly #configValue = new DataView(new ArrayBuffer(steerLayout.steer_config.sizeof));
  /** For SteerMaps, here or in another Worker; of this object, until it is closed. */
  readonly fds: SteerMapFds;
  #link = -1;
  #tcLinks: number[] = [];
  #closed = false;
  readonly #tests = new Map<string, TestRun>();

  private constructor(object: Pointer) {
    const bpf = libbpf();
    const map = (name: string): number => {
      const found = bpf.bpf_object__find_map_by_name(object, ptr(cstring(name)));
      if (!found) throw new SysError(`find map ${name} in steer.o`, ENOENT, "rebuild it: bun run bpf");
      return bpf.bpf_map__fd(found);
    };
    const program = (name: string): number => {
      const found = bpf.bpf_object__find_program_by_name(object, ptr(cstring(name)));
      if (!found) throw new SysError(`find program ${name} in steer.o`, ENOENT, "rebuild it: bun run bpf");
      return bpf.bpf_program__fd(found);
    };
    this.#object = object;
    this.#program = program("steer");
    this.#tc = Object.fromEntries(tcPrograms.map((name) => [name, program(name)])) as Record<
      TcProgram,
      number
    >;
    this.#config = map("config");
    this.#xsks = map("xsks");
    this.#counters = map("counters");
    this.fds = Object.fromEntries(
      Object.entries(mapNames).map(([field, name]) => [field, map(name)]),
    ) as unknown as SteerMapFds;
    this.#cpus = bpf.libbpf_num_possible_cpus();
  }

  /** Loads the object into the kernel. Throws a SysError with the verifier's last words. */
  static load(): SteerProgram {
    assertAbi();
    return SteerProgram.fromObject(readFileSync(steerObject));
  }

  /** As `load`, from the bytes of an object that has steer's program and maps. */
  static fromObject(bytes: Uint8Array): SteerProgram {
    const bpf = libbpf();
    bpf.libbpf_set_print(null); // its warnings are in the error's detail
    // libbpf keeps a pointer to the bytes and to the log until the object is loaded.
    const size = bytes.length + LOG_BYTES;
    const memory = mapPrivate(size, true);
    const copy = new Uint8Array(bufferAt(memory, size));
    copy.set(bytes);
    const log = memory + bytes.length;
    const { bpf_object_open_opts: at } = abi;
    const opts = new DataView(new ArrayBuffer(at.sizeof));
    opts.setBigUint64(0, BigInt(at.sizeof), true);
    opts.setBigUint64(at.kernel_log_buf, BigInt(log), true);
    opts.setBigUint64(at.kernel_log_size, BigInt(LOG_BYTES), true);
    try {
      const object = bpf.bpf_object__open_mem(memory as Pointer, bytes.length, ptr(opts)) as Pointer | null;
      if (!object) throw new SysError("open BPF object steer.o", errno(), "rebuild it: bun run bpf");
      const result = bpf.bpf_object__load(object);
      if (result < 0) {
        const text = Buffer.from(copy.subarray(bytes.length));
        const words = text.toString("latin1", 0, Math.max(0, text.indexOf(0))).trim();
        bpf.bpf_object__close(object);
        // Pointer arithmetic is for the privileged; the verifier's word for their lack.
        const help = /pointer .*prohibited/.test(words) ? helpFor(EPERM) : words.slice(-2000);
        throw new SysError("load XDP program steer", -result, help || helpFor(-result));
      }
      try {
        return new SteerProgram(object);
      } catch (error) {
        bpf.bpf_object__close(object);
        throw error;
      }
    } finally {
      unmap(memory, size);
    }
  }

  /**
   * Attaches to the card; `auto` tries native mode, then SKB mode. In SKB mode sockets must be made in copy mode: a zero
   * copy ring would take its frames before the program sees them. Throws if another program is there, and names it.
   */
  attach(ifindex: number, mode: AttachMode = "auto"): Attached {
    const ifname = interfaceName(ifindex);
    if (!ifname)
      throw new SysError(`attach XDP to ifindex ${ifindex}`, ENODEV, "not in this network namespace");
    const op = `attach XDP to ${ifname} (${mode} mode)`;
    if (this.#link >= 0) throw new SysError(op, EBUSY, "this program is attached already");
    let native = 0;
    if (mode !== "skb") {
      native = this.#createLink(ifindex, XDP_FLAGS_DRV_MODE);
      if (native === 0) return { mode: "native" };
    }
    const occupied = native === EBUSY || native === EEXIST;
    const skb = mode === "native" || occupied ? native : this.#createLink(ifindex, XDP_FLAGS_SKB_MODE);
    if (skb === 0)
      return native === 0
        ? { mode: "skb" }
        : { mode: "skb", fallback: new SysError(op, native, helpFor(native)) };
    const foreign = skb === EBUSY || skb === EEXIST ? foreignProgram(ifindex, ifname) : "";
    throw new SysError(op, foreign ? EBUSY : skb, foreign || helpFor(skb));
  }

  /** 0, or an errno. */
  #createLink(ifindex: number, flags: number): number {
    const opts = new DataView(new ArrayBuffer(16)); // as far as `flags`
    opts.setBigUint64(0, 16n, true);
    opts.setUint32(abi.bpf_link_create_opts.flags, flags, true);
    const result = libbpf().bpf_link_create(this.#program, ifindex, BPF_XDP, ptr(opts));
    if (result < 0) return -result;
    this.#link = result;
    return 0;
  }

  /**
   * Attaches the programs that join the switch with this host's kernel. Throws, and attaches none, where the kernel has no tcx:
   * the XDP program does its part without them.
   */
  attachTc(devices: TcDevices): void {
    if (this.#tcLinks.length > 0)
      throw new SysError("attach tc programs", EBUSY, "they are attached already");
    const { card, tap } = steerLayout.steer_config;
    this.#configValue.setUint32(card, devices.cardIfindex, true);
    this.#configValue.setUint32(tap, devices.tapIfindex, true);
    this.#writeConfig();
    this.#tcLinks = attachTc(this.#tc, devices);
  }

  /** Takes all programs off; from the next frame on the kernel has them all. */
  detach(): void {
    for (const link of [this.#link, ...this.#tcLinks]) if (link >= 0) libc.close(link);
    this.#link = -1;
    this.#tcLinks = [];
  }

  /** @param mac the card's own address, 6 bytes: frames to any other go to the kernel */
  setAddress(mac: Uint8Array): void {
    new Uint8Array(this.#configValue.buffer).set(mac.subarray(0, 6), steerLayout.steer_config.mac);
    this.#writeConfig();
  }

  #writeConfig(): void {
    update("config", this.#config, new Uint32Array(1), new Uint8Array(this.#configValue.buffer));
  }

  /** Frames to this destination are redirected from now on; adding it again changes nothing. */
  addMatch(match: Match): void {
    update("matches", this.fds.matches, matchKey(match), new Uint32Array(1));
  }

  /** False if it was not there. */
  removeMatch(match: Match): boolean {
    return remove("matches", this.fds.matches, matchKey(match));
  }

  /** Redirects queue `queue`'s matching frames to the AF_XDP socket `fd`; it leaves the map when it is closed. */
  setSocket(queue: number, fd: number): void {
    update(`xsks queue ${queue}`, this.#xsks, new Uint32Array([queue]), new Int32Array([fd]));
  }

  /** From now on the queue's frames all go to the kernel. */
  removeSocket(queue: number): void {
    remove("xsks", this.#xsks, new Uint32Array([queue]));
  }

  /** Frames by what became of them, since load; sums over all CPUs. */
  counters(): SteerCounters {
    const counters = {} as SteerCounters;
    const perCpu = new BigUint64Array(new ArrayBuffer(8 * this.#cpus));
    const key = new Uint32Array(1);
    steerCounters.forEach((name, index) => {
      key[0] = index;
      const result = libbpf().bpf_map_lookup_elem(this.#counters, ptr(key), ptr(perCpu));
      if (result < 0) throw new SysError("read map counters", -result);
      counters[name] = Number(perCpu.reduce((sum, count) => sum + count, 0n));
    });
    return counters;
  }

  /**
   * Runs the program on one frame (BPF_PROG_TEST_RUN, at least 14 bytes) as if it had come in there, and gives what it
   * returned: 2 XDP_PASS, 4 XDP_REDIRECT. Nothing is redirected. For tests.
   */
  testRun(frame: Uint8Array, { ifindex, queue }: { ifindex: number; queue: number }): number {
    return this.#testOf("steer", this.#program).run(frame, ifindex, queue);
  }

  /** As testRun, of a tc program: -1 for the kernel, 2 dropped, 7 redirected. A clone does go out of the tap. */
  testRunTc(name: TcProgram, frame: Uint8Array): number {
    return this.#testOf(name, this.#tc[name]).run(frame);
  }

  #testOf(name: string, program: number): TestRun {
    let test = this.#tests.get(name);
    if (!test) this.#tests.set(name, (test = new TestRun(program)));
    return test;
  }

  /** Detaches, and frees program and maps. Once closed, it stays closed. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.detach();
    libbpf().bpf_object__close(this.#object);
    for (const test of this.#tests.values()) test.close();
  }
}

/** What a refusal most often means. */
function helpFor(number: number): string {
  if (number === EPERM) return "needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN";
  if (number === EOPNOTSUPP) return "the driver has no native XDP";
  if (number === EINVAL || number === ERANGE || number === ENOSPC)
    return "the driver refuses: most often the MTU is too large for XDP, or there are too few queues";
  return "";
}
