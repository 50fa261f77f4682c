// The kernel's own filter machine: a socket pair whose receiving end has the program attached (SO_ATTACH_FILTER).
import { errno } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { encode, type Program } from "../../src/filter/program.ts";

const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;
const SOCK_DGRAM_NONBLOCK_CLOEXEC = 2 | 0x800 | 0x80000;

export class KernelFilter implements Disposable {
  private readonly fds = new Int32Array(new ArrayBuffer(8));
  private readonly buffer = new Uint8Array(new ArrayBuffer(256));

  constructor() {
    if (libc.socketpair(1, SOCK_DGRAM_NONBLOCK_CLOEXEC, 0, ptr(this.fds)) < 0)
      throw new Error(`socketpair: ${errno()}`);
  }

  /** 0, or the errno. */
  attach(program: Program): number {
    const code = encode(program);
    const fprog = new DataView(new ArrayBuffer(16)); // struct sock_fprog
    fprog.setUint16(0, program.length, true);
    if (code.length > 0) fprog.setBigUint64(8, BigInt(Number(ptr(code))), true);
    return libc.setsockopt(this.fds[1]!, SOL_SOCKET, SO_ATTACH_FILTER, ptr(fprog), 16) < 0 ? errno() : 0;
  }

  /** How many bytes of the packet come out: 0 if it is rejected. */
  run(packet: Uint8Array): number {
    const sent = Number(libc.sendto(this.fds[0]!, ptr(packet), packet.length, 0, null, 0));
    if (sent !== packet.length) throw new Error(`send: ${errno()}`);
    return Math.max(
      0,
      Number(libc.recvfrom(this.fds[1]!, ptr(this.buffer), this.buffer.length, 0, null, null)),
    );
  }

  [Symbol.dispose](): void {
    libc.close(this.fds[0]!);
    libc.close(this.fds[1]!);
  }
}
