// Whose XDP program is on a card that refuses ours.
import { abi } from "../../ffi/abi.ts";
import { libbpf } from "../../ffi/libbpf.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { linkHolders } from "./holders.ts";

const NAME_BYTES = 16;

/** Describes the XDP program on `ifindex` and what to do about it; "" if there is none. Never throws. */
export function foreignProgram(ifindex: number, ifname: string): string {
  const at = abi.bpf_xdp_query_opts;
  const opts = new DataView(new ArrayBuffer(at.sizeof));
  opts.setBigUint64(0, BigInt(at.sizeof), true);
  if (libbpf().bpf_xdp_query(ifindex, 0, ptr(opts)) < 0) return "";
  const modes = { xdpdrv: at.drv_prog_id, xdpgeneric: at.skb_prog_id, xdpoffload: at.hw_prog_id };
  const [mode, id = 0] =
    Object.entries(modes)
      .map(([name, offset]) => [name, opts.getUint32(offset, true)] as const)
      .find(([, found]) => found !== 0) ?? [];
  if (id === 0) return "";
  const name = programName(id);
  const what = `XDP program ${id}${name && ` "${name}"`} is on this card`;
  const holders = linkHolders(id).join(", ");
  if (name === "steer" && holders) return `${what}: another netd runs there, ${holders}; stop it first`;
  if (holders) return `${what}, held by ${holders}; stop that first`;
  return `${what}; take it off: ip link set dev ${ifname} ${mode} off, or bpftool link show if it is a pinned link`;
}

function programName(id: number): string {
  const fd = libbpf().bpf_prog_get_fd_by_id(id);
  if (fd < 0) return "";
  const info = new Uint8Array(new ArrayBuffer(abi.bpf_prog_info.sizeof));
  const length = new Uint32Array([info.length]);
  const result = libbpf().bpf_obj_get_info_by_fd(fd, ptr(info), ptr(length));
  libc.close(fd);
  if (result < 0) return "";
  const name = Buffer.from(info).toString(
    "latin1",
    abi.bpf_prog_info.name,
    abi.bpf_prog_info.name + NAME_BYTES,
  );
  return name.replace(/\0.*$/s, "");
}
