// Sizes and offsets, in bytes, of the C structs that netd fills or reads by hand, on 64-bit little-endian Linux.
// test/ffi/abi.test.ts compiles the headers and compares every line with sizeof and offsetof; `assertAbi` checks at start
// what can be checked without a compiler, and src/xdp/socket.ts checks what libxdp fills in.
// Structs that begin with `sz` (libbpf's *_opts) are passed as long as the last field used here: libbpf takes what is
// missing for zero, so one layout does for every 1.x.
// Sources: bpf/bpf.h, bpf/libbpf.h, xdp/xsk.h, linux/bpf.h, linux/if_xdp.h, linux/ethtool.h, net/if.h.
import { endianness } from "node:os";
import { SysError } from "./errno.ts";
import { libbpf } from "./libbpf.ts";

const ENOTSUP = 95;

export const abi = {
  bpf_object_open_opts: { sizeof: 80, kernel_log_buf: 56, kernel_log_size: 64 },
  bpf_link_create_opts: { flags: 8 },
  bpf_xdp_query_opts: { sizeof: 32, prog_id: 8, drv_prog_id: 12, hw_prog_id: 16, skb_prog_id: 20 },
  bpf_prog_info: { sizeof: 232, name: 64 },
  bpf_test_run_opts: {
    sizeof: 80,
    data_in: 8,
    data_out: 16,
    data_size_in: 24,
    data_size_out: 28,
    ctx_in: 32,
    ctx_size_in: 48,
    retval: 56,
    repeat: 60,
  },
  xdp_md: { sizeof: 24, data: 0, data_end: 4, data_meta: 8, ingress_ifindex: 12, rx_queue_index: 16 },

  xsk_umem_config: {
    sizeof: 20,
    fill_size: 0,
    comp_size: 4,
    frame_size: 8,
    frame_headroom: 12,
    flags: 16,
  },
  xsk_socket_config: {
    sizeof: 20,
    rx_size: 0,
    tx_size: 4,
    libxdp_flags: 8,
    xdp_flags: 12,
    bind_flags: 16,
  },
  /** xsk_ring_prod and xsk_ring_cons: the same fields at the same places. */
  xsk_ring_prod: { sizeof: 48, mask: 8, size: 12, producer: 16, consumer: 24, ring: 32, flags: 40 },
  xsk_ring_cons: { sizeof: 48, mask: 8, size: 12, producer: 16, consumer: 24, ring: 32, flags: 40 },
  xdp_desc: { sizeof: 16, addr: 0, len: 8, options: 12 },
  xdp_options: { sizeof: 4, flags: 0 },
  xdp_statistics: {
    sizeof: 48,
    rx_dropped: 0,
    rx_invalid_descs: 8,
    tx_invalid_descs: 16,
    rx_ring_full: 24,
    rx_fill_ring_empty_descs: 32,
    tx_ring_empty_descs: 40,
  },

  ifreq: { sizeof: 40, ifr_name: 0, ifr_data: 16 },
  ethtool_channels: { sizeof: 36, cmd: 0, rx_count: 20, tx_count: 24, combined_count: 32 },
  ethtool_value: { sizeof: 8, cmd: 0, data: 4 },
} as const;

/** Throws a SysError unless this machine and its libbpf are of the kind that `abi` describes. */
export function assertAbi(): void {
  if (endianness() !== "LE" || (process.arch !== "x64" && process.arch !== "arm64"))
    throw new SysError(
      "start on this machine",
      ENOTSUP,
      `${process.arch} ${endianness()}: needs x64 or arm64, LE`,
    );
  const major = libbpf().libbpf_major_version();
  if (major !== 1) throw new SysError("use libbpf", ENOTSUP, `version ${major}, netd knows 1: libbpf.so.1`);
}
