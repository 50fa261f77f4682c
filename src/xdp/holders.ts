// Who holds what we want: a queue, or the card itself. The kernel does not say which socket has a queue, but a process that
// uses AF_XDP has the rings mapped, and those mappings show as socket:[inode] at the rings' page offsets in
// /proc/PID/maps. A program on a card is named by the fds of its bpf_link, in /proc/PID/fdinfo.
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

const FILL_RING = /^\S+ \S+ 100000000 \S+ \S+\s+socket:\[/m; // XDP_UMEM_PGOFF_FILL_RING

/** Processes of which `test` is true, as "PID 12 (netd)"; those that end meanwhile or refuse are left out. */
const processes = (test: (pid: string) => boolean): string[] =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return test(pid) ? [`PID ${pid} (${readFileSync(`/proc/${pid}/comm`, "latin1").trim()})`] : [];
      } catch {
        return [];
      }
    });

/** "another socket holds this queue: PID 12 (netd), ..."; for the detail of an EBUSY. */
export function socketHolders(): string {
  const holders = processes((pid) => FILL_RING.test(readFileSync(`/proc/${pid}/maps`, "latin1")));
  const who = holders.length ? `; AF_XDP sockets are open in ${holders.join(", ")}` : "";
  return `another socket holds this queue${who}; stop it, or choose another queue`;
}

/** The processes that hold a bpf_link of the program `id`: with the last of them it leaves the card. */
export const linkHolders = (id: number): string[] =>
  processes((pid) =>
    readdirSync(`/proc/${pid}/fd`).some(
      (fd) =>
        readlinkSync(`/proc/${pid}/fd/${fd}`) === "anon_inode:bpf_link" &&
        readFileSync(`/proc/${pid}/fdinfo/${fd}`, "latin1").includes(`prog_id:\t${id}\n`),
    ),
  );
