// libpcap's compiler of filter texts. Only a command's own process calls it, never the daemon: hostile text has crashed
// it before. Source: pcap/pcap.h, pcap/bpf.h (struct bpf_program: u32 length, 4 bytes of padding, pointer).
import { FFIType as T } from "bun:ffi";
import { SysError } from "./errno.ts";
import { library } from "./library.ts";
import { cstring } from "./libc.ts";
import { bufferAt, type Pointer, ptr } from "./memory.ts";

const EINVAL = 22;
const ENOMEM = 12;
/** DLT_EN10MB: frames with an Ethernet header */
const ETHERNET = 1;
/** PCAP_NETMASK_UNKNOWN: `ip broadcast` is refused */
const NETMASK_UNKNOWN = 0xffffffff;

const libpcap = library("libpcap.so.0.8", "libpcap0.8", {
  pcap_open_dead: { args: [T.i32, T.i32], returns: T.ptr },
  pcap_compile: { args: [T.ptr, T.ptr, T.ptr, T.i32, T.u32], returns: T.i32 },
  pcap_geterr: { args: [T.ptr], returns: T.cstring },
  pcap_freecode: { args: [T.ptr], returns: T.void },
  pcap_close: { args: [T.ptr], returns: T.void },
});

/**
 * The bytecode of a filter text such as "udp and dst port 53" over Ethernet frames: struct sock_filter[].
 * @param snapBytes what the program returns for a packet that it takes
 * @throws SysError with libpcap's words
 */
export function pcapCompile(text: string, snapBytes = 262144, optimize = true): Uint8Array<ArrayBuffer> {
  const pcap = libpcap();
  const op = `compile filter "${text}"`;
  const handle = pcap.pcap_open_dead(ETHERNET, snapBytes) as Pointer | null;
  if (!handle) throw new SysError(op, ENOMEM, "pcap_open_dead");
  try {
    const program = new DataView(new ArrayBuffer(16));
    if (pcap.pcap_compile(handle, ptr(program), ptr(cstring(text)), optimize ? 1 : 0, NETMASK_UNKNOWN) < 0)
      throw new SysError(op, EINVAL, String(pcap.pcap_geterr(handle)));
    const bytes = program.getUint32(0, true) * 8;
    const code = new Uint8Array(bufferAt(Number(program.getBigUint64(8, true)), bytes)).slice();
    pcap.pcap_freecode(ptr(program));
    return code;
  } finally {
    pcap.pcap_close(handle);
  }
}
