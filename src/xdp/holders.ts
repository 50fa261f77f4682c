// Who may hold a queue that is busy. The kernel does not say which socket has a queue, but a process that uses AF_XDP has
// the rings mapped, and those mappings show as socket:[inode] at the rings' page offsets in /proc/PID/maps.
import { readdirSync, readFileSync } from "node:fs";

const FILL_RING = /^\S+ \S+ 100000000 \S+ \S+\s+socket:\[/m; // XDP_UMEM_PGOFF_FILL_RING

/** "another socket holds this queue: PID 12 (netd), ..."; for the detail of an EBUSY. */
export function socketHolders(): string {
  const holders: string[] = [];
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)))
    try {
      if (FILL_RING.test(readFileSync(`/proc/${pid}/maps`, "latin1")))
        holders.push(`PID ${pid} (${readFileSync(`/proc/${pid}/comm`, "latin1").trim()})`);
    } catch {
      // It ended meanwhile.
    }
  const who = holders.length ? `; AF_XDP sockets are open in ${holders.join(", ")}` : "";
  return `another socket holds this queue${who}; stop it, or choose another queue`;
}
