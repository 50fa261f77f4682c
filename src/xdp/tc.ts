// Attaching the tc programs (bpf/tc.h) by tcx links, which other programs at the same hook do not disturb, and which go with
// the process. In the calling thread's network namespace. Source: linux/bpf.h of Linux 6.6.
import { SysError } from "../../ffi/errno.ts";
import { libbpf } from "../../ffi/libbpf.ts";
import { libc } from "../../ffi/libc.ts";
import { interfaceName } from "./queues.ts";

const BPF_TCX_INGRESS = 46; // enum bpf_attach_type
const BPF_TCX_EGRESS = 47;
const EINVAL = 22;

/** The programs' names in the object, and where each belongs. */
export const tcPrograms = ["card_egress", "card_ingress", "lo_egress", "tap_ingress"] as const;
export type TcProgram = (typeof tcPrograms)[number];

export interface TcDevices {
  readonly cardIfindex: number;
  readonly tapIfindex: number;
  readonly loIfindex: number;
}

/** Attaches all four or none; the links' fds. */
export function attachTc(programs: Record<TcProgram, number>, devices: TcDevices): number[] {
  const { cardIfindex, tapIfindex, loIfindex } = devices;
  const links: number[] = [];
  for (const [name, ifindex, type] of [
    // The way back to the kernel first: nothing is turned to netd that cannot be given back.
    ["tap_ingress", tapIfindex, BPF_TCX_INGRESS],
    ["card_ingress", cardIfindex, BPF_TCX_INGRESS],
    ["card_egress", cardIfindex, BPF_TCX_EGRESS],
    ["lo_egress", loIfindex, BPF_TCX_EGRESS],
  ] as const) {
    const link = libbpf().bpf_link_create(programs[name], ifindex, type, null);
    if (link < 0) {
      for (const fd of links) libc.close(fd);
      const help =
        link === -EINVAL ? "tcx needs Linux 6.6; without it programs on this host reach no client" : "";
      throw new SysError(`attach ${name} to ${interfaceName(ifindex) || `ifindex ${ifindex}`}`, -link, help);
    }
    links.push(link);
  }
  return links;
}
