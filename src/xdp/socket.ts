// AF_XDP sockets through libxdp: UMEM, the four rings, bind. Made and closed on the main thread, inside the card's network
// namespace; a net Worker gets the SocketRef, plain numbers, and works on the rings through views of their memory.
//
// The order that is safe under traffic: stop the Worker, detach the program, close the socket. close() gives the UMEM's pages back last.
// Sources: xdp/xsk.h, linux/if_xdp.h, Documentation/networking/af_xdp.rst.
import { abi } from "../../ffi/abi.ts";
import { check, SysError } from "../../ffi/errno.ts";
import { cstring, libc } from "../../ffi/libc.ts";
import { libxdp } from "../../ffi/libxdp.ts";
import { bufferAt, mapPrivate, type Pointer, ptr, unmap } from "../../ffi/memory.ts";
import type { RingRef, SocketRef } from "../link/xdp.ts";
import { frameAddress, frameMemory, releaseFrames } from "../mem/frames.ts";
import { socketHolders } from "./holders.ts";
import { FRAME_HEADROOM, RX_HEADROOM } from "./umem.ts";

const XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD = 1;
const XDP_COPY = 1 << 1;
const XDP_ZEROCOPY = 1 << 2;
const XDP_USE_NEED_WAKEUP = 1 << 3;
const SOL_XDP = 283;
const XDP_STATISTICS = 7;
const XDP_OPTIONS = 8;
const XDP_OPTIONS_ZEROCOPY = 1;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const RLIMIT_MEMLOCK = 8;
const RLIM_INFINITY = 2n ** 64n - 1n;
const EPERM = 1;
const ENOMEM = 12;
const EBUSY = 16;
const ENODEV = 19;
const EINVAL = 22;
const EPROTO = 71;
const EOPNOTSUPP = 95;
const EAFNOSUPPORT = 97;
const ENOBUFS = 105;

export interface SocketOptions {
  readonly ifname: string;
  readonly ifindex: number;
  readonly queue: number;
  /** UMEM: `frames` frames of `frameBytes` (2048 or 4096: see `frameBytesFor`). */
  readonly frames: number;
  readonly frameBytes: number;
  /** What they lie at the beginning of; missing: made here. Its pages are given back with the socket. */
  readonly memory?: WebAssembly.Memory;
  /** Ring sizes, powers of two. */
  readonly rxSize: number;
  readonly txSize: number;
  /** Default 2 * rxSize. */
  readonly fillSize?: number;
  /** Default txSize. */
  readonly completionSize?: number;
  /** `auto`: zero copy, then copy. Where the program is attached in SKB mode: `copy` (see SteerProgram.attach). */
  readonly mode: "auto" | "zerocopy" | "copy";
  /** Default true: kick the kernel only where a ring's flag word asks for it. */
  readonly needWakeup?: boolean;
}

// libxdp's structs, in one page that lives as long as the socket: it keeps pointers to the rings.
const RING_BYTES = 64;
const [FILL, COMPLETION, RX, TX] = [0, RING_BYTES, 2 * RING_BYTES, 3 * RING_BYTES] as const;
const UMEM_CONFIG = 256;
const SOCKET_CONFIG = 320;
const IFNAME = 384;
const UMEM_HANDLE = 448;
const SOCKET_HANDLE = 456;
const PAGE = 4096;

export class XdpSocket {
  readonly ref: SocketRef;
  readonly #umem: Pointer;
  readonly #socket: Pointer;
  readonly #page: number;
  #closed = false;

  /** @internal by createSocket */
  constructor(ref: SocketRef, umem: Pointer, socket: Pointer, page: number) {
    this.ref = ref;
    this.#umem = umem;
    this.#socket = socket;
    this.#page = page;
  }

  /** Closes the socket, then frees its rings and UMEM: the program is off the card by then, and no Worker uses them. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    libxdp().xsk_socket__delete(this.#socket);
    libxdp().xsk_umem__delete(this.#umem);
    releaseFrames(this.ref.umem.memory);
    unmap(this.#page, PAGE);
  }
}

/** Makes and binds a socket on one queue. Throws a SysError, and leaves nothing behind. */
export function createSocket(options: SocketOptions): XdpSocket {
  libxdp().libxdp_set_print(null); // its warnings say nothing that our errors do not
  // UMEM counts against RLIMIT_MEMLOCK. May be refused: the limit may do, or CAP_IPC_LOCK lift it.
  libc.setrlimit(RLIMIT_MEMLOCK, ptr(new BigUint64Array(new ArrayBuffer(16)).fill(RLIM_INFINITY)));
  const modes = options.mode === "auto" ? (["zerocopy", "copy"] as const) : [options.mode];
  for (const mode of modes.slice(0, -1))
    try {
      return retryBusy(options, mode);
    } catch (error) {
      // Refused for want of zero copy, as most drivers do; what else is wrong, the next attempt meets too.
      if (!(error instanceof SysError) || error.errno === EBUSY) throw error;
    }
  return retryBusy(options, modes.at(-1)!);
}

/** A queue that was closed a moment ago is released by a work item: EBUSY until then, for about a millisecond. */
function retryBusy(options: SocketOptions, mode: "zerocopy" | "copy"): XdpSocket {
  for (let waitMs = 1; ; waitMs *= 2)
    try {
      return bind(options, mode);
    } catch (error) {
      if (!(error instanceof SysError) || error.errno !== EBUSY) throw error;
      if (waitMs > 256) throw new SysError(error.op, EBUSY, socketHolders());
      Bun.sleepSync(waitMs);
    }
}

function bind(options: SocketOptions, mode: "zerocopy" | "copy"): XdpSocket {
  const { ifname, queue, frames, frameBytes, rxSize, txSize, needWakeup = true } = options;
  const op = `bind AF_XDP ${ifname} queue ${queue}`;
  const bytes = frames * frameBytes;
  const page = mapPrivate(PAGE);
  let frameArea: WebAssembly.Memory | undefined;
  let umem: Pointer | null = null;
  try {
    frameArea = options.memory ?? frameMemory(bytes);
    const memory = new DataView(bufferAt(page, PAGE));
    fillIn(memory, abi.xsk_umem_config, UMEM_CONFIG, {
      fill_size: options.fillSize ?? 2 * rxSize,
      comp_size: options.completionSize ?? txSize,
      frame_size: frameBytes,
      frame_headroom: FRAME_HEADROOM,
    });
    fillIn(memory, abi.xsk_socket_config, SOCKET_CONFIG, {
      rx_size: rxSize,
      tx_size: txSize,
      libxdp_flags: XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
      bind_flags: (mode === "zerocopy" ? XDP_ZEROCOPY : XDP_COPY) | (needWakeup ? XDP_USE_NEED_WAKEUP : 0),
    });
    new Uint8Array(memory.buffer).set(cstring(ifname).subarray(0, 63), IFNAME);
    const at = (offset: number): Pointer => (page + offset) as Pointer;
    const handle = (offset: number): Pointer => Number(memory.getBigUint64(offset, true)) as Pointer;

    const xdp = libxdp();
    let result = xdp.xsk_umem__create(
      at(UMEM_HANDLE),
      frameAddress(frameArea) as Pointer,
      bytes,
      at(FILL),
      at(COMPLETION),
      at(UMEM_CONFIG),
    );
    if (result < 0) throw new SysError(`register UMEM of ${bytes} bytes`, -result, umemHelp(-result));
    umem = handle(UMEM_HANDLE);
    result = xdp.xsk_socket__create(
      at(SOCKET_HANDLE),
      at(IFNAME),
      queue,
      umem,
      at(RX),
      at(TX),
      at(SOCKET_CONFIG),
    );
    if (result < 0) throw new SysError(op, -result, bindHelp(-result));
    const socket = handle(SOCKET_HANDLE);
    const fd = xdp.xsk_socket__fd(socket);
    libc.fcntl(fd, F_SETFD, FD_CLOEXEC); // libxdp leaves it out
    const ref: SocketRef = {
      fd,
      ifindex: options.ifindex,
      queue,
      umem: { memory: frameArea, frameBytes, frames },
      rx: ring(memory, RX),
      tx: ring(memory, TX),
      fill: ring(memory, FILL),
      completion: ring(memory, COMPLETION),
      zerocopy: isZerocopy(fd),
      needWakeup,
    };
    if (ref.rx.size !== rxSize || ref.tx.size !== txSize)
      throw new SysError(op, EPROTO, "this libxdp's xsk_ring_prod is not the one in ffi/abi.ts");
    return new XdpSocket(ref, umem, socket, page);
  } catch (error) {
    if (umem) libxdp().xsk_umem__delete(umem);
    if (frameArea) releaseFrames(frameArea);
    unmap(page, PAGE);
    throw error;
  }
}

function fillIn<T extends { readonly [field: string]: number }>(
  memory: DataView,
  layout: T,
  offset: number,
  values: Partial<Record<keyof T & string, number>>,
): void {
  for (const [field, value] of Object.entries(values))
    memory.setUint32(offset + layout[field]!, value as number, true);
}

function ring(memory: DataView, offset: number): RingRef {
  const at = abi.xsk_ring_prod;
  const address = (field: number): number => Number(memory.getBigUint64(offset + field, true));
  return {
    producer: address(at.producer),
    consumer: address(at.consumer),
    flags: address(at.flags),
    ring: address(at.ring),
    size: memory.getUint32(offset + at.size, true),
  };
}

function option(fd: number, name: number, bytes: number): DataView {
  const value = new DataView(new ArrayBuffer(bytes));
  const length = new Uint32Array([bytes]);
  check(`getsockopt SOL_XDP ${name}`, libc.getsockopt(fd, SOL_XDP, name, ptr(value), ptr(length)));
  return value;
}

const isZerocopy = (fd: number): boolean =>
  (option(fd, XDP_OPTIONS, abi.xdp_options.sizeof).getUint32(0, true) & XDP_OPTIONS_ZEROCOPY) !== 0;

/** Frames that the kernel dropped, and descriptors that it refused, since the socket was made. */
export interface SocketStatistics {
  readonly rxDropped: number;
  readonly rxInvalidDescs: number;
  readonly txInvalidDescs: number;
  readonly rxRingFull: number;
  readonly rxFillRingEmptyDescs: number;
  readonly txRingEmptyDescs: number;
}

/** XDP_STATISTICS of a socket; any thread. */
export function statistics(fd: number): SocketStatistics {
  const at = abi.xdp_statistics;
  const value = option(fd, XDP_STATISTICS, at.sizeof);
  const count = (offset: number): number => Number(value.getBigUint64(offset, true));
  return {
    rxDropped: count(at.rx_dropped),
    rxInvalidDescs: count(at.rx_invalid_descs),
    txInvalidDescs: count(at.tx_invalid_descs),
    rxRingFull: count(at.rx_ring_full),
    rxFillRingEmptyDescs: count(at.rx_fill_ring_empty_descs),
    txRingEmptyDescs: count(at.tx_ring_empty_descs),
  };
}

const LINK_HEADERS = 14 + 2 * 4; // Ethernet and two VLAN tags
const SKB_SHARED_INFO = 320; // what native XDP keeps free at the end of a page

/** The longest packet that whole frames of this size hold beside their headroom. */
export const longestFor = (frameBytes: number): number =>
  frameBytes - RX_HEADROOM - LINK_HEADERS - (frameBytes > 2048 ? SKB_SHARED_INFO : 0);

/** The frame size that holds whole frames of this MTU. Throws if no single frame does, naming the largest MTU. */
export function frameBytesFor(mtu: number): 2048 | 4096 {
  if (mtu <= longestFor(2048)) return 2048;
  if (mtu <= longestFor(4096)) return 4096;
  throw new SysError(
    `choose a frame size for MTU ${mtu}`,
    EINVAL,
    `a frame must fit one page beside its headroom: lower the card's MTU to at most ${longestFor(4096)}`,
  );
}

function umemHelp(number: number): string {
  if (number === ENOBUFS || number === ENOMEM)
    return "over RLIMIT_MEMLOCK: raise `ulimit -l`, or give netd CAP_IPC_LOCK";
  if (number === EPERM) return "needs root, or CAP_NET_RAW";
  if (number === EAFNOSUPPORT) return "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)";
  return "";
}

function bindHelp(number: number): string {
  if (number === ENODEV) return "no such interface in this network namespace";
  if (number === EOPNOTSUPP) return "the driver has no zero copy: choose copy or auto";
  if (number === EINVAL) return "the queue does not exist, or its frame or ring sizes are refused";
  if (number === EPERM) return "needs root, or CAP_NET_RAW";
  return "";
}
