// Sysctls that lookups follow and that no message tells of: how flows are spread over legs. Opened once in the
// namespace (their files show that of whoever opens them), read now and then.
import { closeSync, openSync, readSync } from "node:fs";
import type { NetbaseWriter } from "../netbase/netbase.ts";
import type { Netns } from "./netns.ts";

const NAMES = ["ipv4", "ipv6"].map((family) => `net.${family}.fib_multipath_hash_policy`);
/** Those that lookups follow: by addresses, and with ports. Others look into tunnels, or at fields of choice. */
const FOLLOWED = 1;

export class HashPolicy {
  private readonly fds: number[];
  private readonly text = Buffer.alloc(16);

  constructor(netns: Netns | undefined) {
    const open = () => NAMES.map((name) => this.open(`/proc/sys/${name.replaceAll(".", "/")}`));
    this.fds = netns ? netns.run(open) : open();
  }

  /** Those of them that lookups do not follow, in words. */
  beyond: readonly string[] = [];

  /** Hands what they say now to the netbase. Returns whether `beyond` is another one. */
  follow(writer: NetbaseWriter): boolean {
    const policies = this.fds.map((fd) => this.read(fd));
    writer.setHashPolicy(policies[0]!, policies[1]!);
    const before = this.beyond.join();
    this.beyond = policies.flatMap((policy, i) =>
      policy > FOLLOWED ? [`${NAMES[i]} ${policy} not followed: legs are chosen as by 0`] : [],
    );
    return this.beyond.join() !== before;
  }

  close(): void {
    for (const fd of this.fds) if (fd >= 0) closeSync(fd);
  }

  /** A kernel without IPv6, or without multipath, has no such file: then there is nothing to choose. */
  private open(path: string): number {
    try {
      return openSync(path, "r");
    } catch {
      return -1;
    }
  }

  private read(fd: number): number {
    if (fd < 0) return 0;
    const n = readSync(fd, this.text, 0, this.text.length, 0);
    return Number.parseInt(this.text.toString("latin1", 0, n), 10) || 0;
  }
}
