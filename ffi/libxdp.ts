// libxdp's socket half (Debian 12: 1.3.1), opened on the first `libxdp()`; its program half, the dispatcher, is not used.
// Only functions that every libxdp since 1.2.0 exports under the same symbol version (LIBXDP_1.2.0): 1.5 added *_opts
// variants beside them and kept these, with the same structs. All return 0 or a negative errno.
// libxdp keeps the pointers to the four ring structs until the socket is deleted: they must lie in mmapped memory.
// Source: xdp/xsk.h, xdp-tools lib/libxdp/xsk.c.
import { FFIType as T } from "bun:ffi";
import { library } from "./library.ts";

const P = T.ptr;

export const libxdp = library("libxdp.so.1", "libxdp1", {
  libxdp_set_print: { args: [P], returns: P },
  xsk_umem__create: { args: [P, P, T.u64_fast, P, P, P], returns: T.i32 },
  xsk_umem__delete: { args: [P], returns: T.i32 },
  xsk_socket__create: { args: [P, P, T.u32, P, P, P, P], returns: T.i32 },
  xsk_socket__delete: { args: [P], returns: T.void },
  xsk_socket__fd: { args: [P], returns: T.i32 },
});
