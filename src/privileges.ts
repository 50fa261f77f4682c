// What the daemon keeps of root: as much as it needs of the network, no more, and nothing that it starts gets more either.
import { readFileSync } from "node:fs";
import { check } from "../ffi/errno.ts";
import { cstring, libc } from "../ffi/libc.ts";
import { ptr } from "../ffi/memory.ts";

// capabilities(7)
const CAP_CHOWN = 0; // the sockets' group
const CAP_DAC_OVERRIDE = 1; // answers to clients' sockets, wherever these are
const CAP_NET_ADMIN = 12; // links, XDP, tc, the tap
const CAP_NET_RAW = 13; // AF_XDP
const CAP_IPC_LOCK = 14; // memory for frames
const CAP_SYS_PTRACE = 19; // a network namespace by a process that has it
const CAP_SYS_ADMIN = 21; // another network namespace
const CAP_SYS_NICE = 23; // the thread that reads the kernel's notifications comes first
const CAP_SYS_RESOURCE = 24; // memory for maps, where the kernel counts it as locked
const CAP_PERFMON = 38; // what the verifier asks of programs that add to pointers
const CAP_BPF = 39;
export const KEPT: readonly number[] = [
  CAP_CHOWN,
  CAP_DAC_OVERRIDE,
  CAP_NET_ADMIN,
  CAP_NET_RAW,
  CAP_IPC_LOCK,
  CAP_SYS_NICE,
  CAP_SYS_RESOURCE,
  CAP_PERFMON,
  CAP_BPF,
];

export const KEPT_TO_ENTER: readonly number[] = [...KEPT, CAP_SYS_PTRACE, CAP_SYS_ADMIN];

const LAST_CAP = 63;
const PR_CAPBSET_READ = 23;
const PR_CAPBSET_DROP = 24;
const PR_SET_NO_NEW_PRIVS = 38;

/**
 * Gives up what is not kept, and begins the program again, as the same process: the runtime's own threads are there before
 * any line of ours, and what a thread has no other one can take. Returns where there is nothing to give up, or where that is
 * not allowed. @param enters whether the card is in another network namespace. @throws SysError
 */
export function shedPrivileges(enters: boolean): void {
  if (process.getuid?.() !== 0) return; // whoever gave it less has thought of it
  const kept = enters ? KEPT_TO_ENTER : KEPT;
  let dropped = 0;
  for (let cap = 0; cap <= LAST_CAP; cap++)
    if (!kept.includes(cap) && libc.prctl(PR_CAPBSET_READ, cap, 0, 0, 0) === 1)
      if (libc.prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) === 0) dropped++;
  if (dropped === 0) return;
  check("prctl PR_SET_NO_NEW_PRIVS", libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  const words = readFileSync("/proc/self/cmdline", "utf8").split("\0").slice(0, -1).map(cstring);
  const argv = BigUint64Array.from([...words.map((word) => BigInt(ptr(word))), 0n]);
  check("execv /proc/self/exe", libc.execv(cstring("/proc/self/exe"), ptr(argv)));
}
