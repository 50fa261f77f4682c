// dpdk-testpmd as Debian packages it: a memif client, which generates and counts.
import type { Subprocess } from "bun";

export interface TestpmdOptions {
  /** memif's socket, once a port: [path, id, MAC] */
  readonly ports: readonly { readonly path: string; readonly id: number; readonly mac?: string }[];
  /** txonly, rxonly, flowgen, macswap... */
  readonly mode: string;
  readonly log2?: number;
  readonly queues?: number;
  /** memif's role: "server" is what netd is elsewhere */
  readonly role?: "client" | "server";
  /** core to stay on; any if missing */
  readonly core?: number;
  /** of testpmd itself: --txpkts=64 and the like */
  readonly more?: readonly string[];
  /** of memif: secret=... */
  readonly devargs?: string;
}

let made = 0;

export function testpmdCommand(options: TestpmdOptions): string[] {
  const { ports, mode, log2 = 10, queues = 1, role = "client", core, more = [], devargs = "" } = options;
  const vdevs = ports.map(
    ({ path, id, mac }, i) =>
      `--vdev=net_memif${i},role=${role},id=${id},socket=${path},socket-abstract=no,rsize=${log2}${mac ? `,mac=${mac}` : ""}${devargs}`,
  );
  const lcores = core === undefined ? "0@0-1,1@0-1" : `0@${core},1@${core}`;
  return [
    ...[
      "dpdk-testpmd",
      `--lcores=${lcores}`,
      "--no-huge",
      "-m",
      "512",
      "--no-pci",
      "--no-shconf",
      "--no-telemetry",
    ],
    ...[`--file-prefix=netd${process.pid}-${made++}`, ...vdevs, "--log-level=4", "--"],
    ...[
      `--forward-mode=${mode}`,
      "--no-mlockall",
      `--total-num-mbufs=${queues > 1 || log2 > 11 ? 81920 : 16384}`,
    ],
    ...[`--rxq=${queues}`, `--txq=${queues}`, "--stats-period=1", "--auto-start", ...more],
  ];
}

export class Testpmd implements AsyncDisposable {
  /** All it has printed. */
  output = "";
  private readonly child: Subprocess<"pipe", "pipe", "pipe">;

  constructor(options: TestpmdOptions) {
    this.child = Bun.spawn(testpmdCommand(options), { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    for (const stream of [this.child.stdout, this.child.stderr])
      (async () => {
        for await (const chunk of stream) this.output += new TextDecoder().decode(chunk);
      })();
  }

  /** A port's totals as they were printed last: RX-packets, TX-packets and so on; undefined if they were not yet. */
  count(name: string, port = 0): number | undefined {
    const parts = this.output.split(`NIC statistics for port ${port}`);
    const found = new RegExp(`${name}: +(\\d+)`).exec(parts.at(-1) ?? "");
    return parts.length > 1 && found ? Number(found[1]) : undefined;
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGKILL");
    await this.child.exited;
  }
}
