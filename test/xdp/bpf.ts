// The bpf(2) system call, for what tests need beyond libbpf: a program that is not ours, and whether an object still exists.
import { readdirSync, readFileSync } from "node:fs";
import { check, errno } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";

const SYS_BPF = process.arch === "arm64" ? 280 : 321;
const BPF_PROG_LOAD = 5;
const BPF_PROG_GET_FD_BY_ID = 13;
const BPF_PROG_QUERY = 16;
const BPF_MAP_GET_FD_BY_ID = 14;
const BPF_LINK_CREATE = 28;
const BPF_LINK_GET_FD_BY_ID = 30;
const BPF_PROG_TYPE_XDP = 6;
const ENOENT = 2;
export const BPF_XDP = 37;
export const BPF_TCX_INGRESS = 46;
export const BPF_TCX_EGRESS = 47;
const ATTR_BYTES = 128;

function bpf(command: number, fill: (attr: DataView) => void): number {
  const attr = new DataView(new ArrayBuffer(ATTR_BYTES));
  fill(attr);
  return Number(libc.syscall(SYS_BPF, command, ptr(attr), ATTR_BYTES, 0, 0, 0));
}

/** Attaches `return XDP_PASS;`, named "stranger", by a bpf_link in the given mode; the fds to close. */
export function attachStranger(ifindex: number, mode: "native" | "skb"): { close(): void } {
  const code = Uint8Array.of(0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0); // r0 = 2; exit
  const license = Buffer.alloc(2048, 0);
  license.write("GPL");
  const program = bpf(BPF_PROG_LOAD, (attr) => {
    attr.setUint32(0, BPF_PROG_TYPE_XDP, true);
    attr.setUint32(4, code.length / 8, true);
    attr.setBigUint64(8, BigInt(ptr(code)), true);
    attr.setBigUint64(16, BigInt(ptr(license)), true);
    new Uint8Array(attr.buffer).set(Buffer.from("stranger"), 48);
  });
  check("load stranger", program);
  const link = bpf(BPF_LINK_CREATE, (attr) => {
    attr.setUint32(0, program, true);
    attr.setUint32(4, ifindex, true);
    attr.setUint32(8, BPF_XDP, true);
    attr.setUint32(12, mode === "native" ? 4 : 2, true);
  });
  libc.close(program);
  check("attach stranger", link);
  return { close: () => void libc.close(link) };
}

/** How many programs are attached by tcx to an interface of the calling thread's namespace. */
export function attachedPrograms(ifindex: number, type: number): number {
  let query!: DataView;
  const result = bpf(BPF_PROG_QUERY, (attr) => {
    attr.setUint32(0, ifindex, true);
    attr.setUint32(4, type, true);
    query = attr;
  });
  if (result < 0 && errno() === ENOENT) return 0; // there never was one
  check("query programs", result);
  return query.getUint32(24, true);
}

export interface BpfIds {
  map: number[];
  prog: number[];
  link: number[];
}

/** Ids of the BPF maps, programs and links that a process has fds of, this one if no other is given. */
export function bpfIds(pid: number | "self" = "self"): BpfIds {
  const ids: BpfIds = { map: [], prog: [], link: [] };
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`))
    try {
      const info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, "latin1");
      // A link's fdinfo names its program too: the link is what the fd is.
      const kind = (["link", "map", "prog"] as const).find((name) => info.includes(`${name}_id:`));
      if (kind) ids[kind].push(Number(info.match(`${kind}_id:\\s*(\\d+)`)![1]));
    } catch {
      // The fd that the directory was read by.
    }
  return ids;
}

/** How many of these objects the kernel still has. */
export function alive(ids: BpfIds): number {
  const commands = { map: BPF_MAP_GET_FD_BY_ID, prog: BPF_PROG_GET_FD_BY_ID, link: BPF_LINK_GET_FD_BY_ID };
  let count = 0;
  for (const kind of ["map", "prog", "link"] as const)
    for (const id of ids[kind]) {
      const fd = bpf(commands[kind], (attr) => attr.setUint32(0, id, true));
      if (fd < 0) continue;
      libc.close(fd);
      count++;
    }
  return count;
}
