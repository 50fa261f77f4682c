// BPF_PROG_TEST_RUN: one frame through an XDP program, as if it had come in on a queue of a real interface, or through a
// tc program. For tests.
import { abi } from "../../ffi/abi.ts";
import { SysError } from "../../ffi/errno.ts";
import { libbpf } from "../../ffi/libbpf.ts";
import { bufferAt, mapPrivate, type Pointer, unmap } from "../../ffi/memory.ts";

// One mapping:  0 bpf_test_run_opts | 128 xdp_md | 256 the frame, at most 3840 bytes
const CTX = 128;
const FRAME = 256;
const BYTES = 4096;

export class TestRun {
  readonly #program: number;
  readonly #memory: number;
  readonly #words: Int32Array;
  readonly #frame: Uint8Array;
  readonly #opts: DataView;

  constructor(program: number) {
    this.#program = program;
    this.#memory = mapPrivate(BYTES);
    const buffer = bufferAt(this.#memory, BYTES);
    this.#words = new Int32Array(buffer);
    this.#frame = new Uint8Array(buffer, FRAME);
    const opts = new DataView(buffer);
    this.#opts = opts;
    const at = abi.bpf_test_run_opts;
    opts.setBigUint64(0, BigInt(at.sizeof), true);
    opts.setBigUint64(at.data_in, BigInt(this.#memory + FRAME), true);
    opts.setInt32(at.repeat, 1, true);
  }

  /** The program's return value. With `ifindex` and `queue` for an XDP program, without for a tc program. */
  run(frame: Uint8Array, ifindex = 0, queue = 0): number {
    const words = this.#words;
    const at = abi.bpf_test_run_opts;
    this.#frame.set(frame);
    words[at.data_size_in / 4] = frame.length;
    words[at.data_size_out / 4] = 0; // the last run left its length there, as a limit
    if (ifindex > 0) {
      this.#opts.setBigUint64(at.ctx_in, BigInt(this.#memory + CTX), true);
      words[at.ctx_size_in / 4] = abi.xdp_md.sizeof;
      words[(CTX + abi.xdp_md.data_end) / 4] = frame.length;
      words[(CTX + abi.xdp_md.ingress_ifindex) / 4] = ifindex;
      words[(CTX + abi.xdp_md.rx_queue_index) / 4] = queue;
    }
    const result = libbpf().bpf_prog_test_run_opts(this.#program, this.#memory as Pointer);
    if (result < 0) throw new SysError(`BPF_PROG_TEST_RUN, ${frame.length} bytes`, -result);
    return words[at.retval / 4]!;
  }

  close(): void {
    unmap(this.#memory, BYTES);
  }
}
