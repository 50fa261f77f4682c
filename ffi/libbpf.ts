// libbpf 1.x (Debian 12: 1.1.2), as much of it as netd calls. Opened on the first `libbpf()`.
// Every function here returns a negative errno on failure, and NULL where it returns a pointer: errno itself is never
// needed. Structs that go in start with their own size (`sz`), so older and newer libraries take what they know of them.
// Source: bpf/bpf.h, bpf/libbpf.h.
import { FFIType as T } from "bun:ffi";
import { library } from "./library.ts";

const P = T.ptr;
const I = T.i32;
const U = T.u32;
const UL = T.u64_fast;

export const libbpf = library("libbpf.so.1", "libbpf1", {
  libbpf_major_version: { args: [], returns: U },
  libbpf_num_possible_cpus: { args: [], returns: I },
  libbpf_set_print: { args: [P], returns: P },

  bpf_object__open_mem: { args: [P, UL, P], returns: P }, // NULL and errno
  bpf_object__load: { args: [P], returns: I },
  bpf_object__close: { args: [P], returns: T.void },
  bpf_object__find_map_by_name: { args: [P, P], returns: P },
  bpf_object__find_program_by_name: { args: [P, P], returns: P },
  bpf_map__fd: { args: [P], returns: I },
  bpf_program__fd: { args: [P], returns: I },

  bpf_map_update_elem: { args: [I, P, P, UL], returns: I },
  bpf_map_lookup_elem: { args: [I, P, P], returns: I },
  bpf_map_delete_elem: { args: [I, P], returns: I },

  bpf_link_create: { args: [I, I, I, P], returns: I }, // a fd
  bpf_xdp_query: { args: [I, I, P], returns: I },
  bpf_prog_get_fd_by_id: { args: [U], returns: I }, // a fd
  bpf_obj_get_info_by_fd: { args: [I, P, P], returns: I },
  bpf_prog_test_run_opts: { args: [I, P], returns: I },
});
