// A host behind a channel of netd, as a child process: lwip.c or tap.c, told what to do by lines.
import { join } from "node:path";
import type { Subprocess } from "bun";
import { until } from "../net/wait.ts";
import { peer } from "./build.ts";

export interface HostOptions {
  /** the control socket */
  server: string;
  /** where the client binds its own */
  directory: string;
  ifname: string;
  lladdr: string;
  mtu?: number;
  /** lwip: "10.77.0.1/24", or with ",GATEWAY" behind it */
  address?: string;
  address6?: string;
  /** namespace and such, before the command: tap */
  before?: readonly string[];
}

let number = 0;

export class PeerHost implements AsyncDisposable {
  readonly child: Subprocess<"pipe", "pipe", "pipe">;
  readonly lines: string[] = [];
  /** its own socket's path */
  readonly path: string;
  private errors = "";
  private over = false;
  private readonly ended: Promise<unknown>;

  private constructor(kind: "lwip" | "tap", options: HostOptions) {
    const { server, directory, ifname, lladdr, mtu = 1500, address, address6, before = [] } = options;
    this.path = join(directory, `usnet-client-${process.pid}-${++number}`);
    const args = [server, this.path, ifname, lladdr, String(mtu)];
    if (kind === "lwip") args.push(address!, ...(address6 === undefined ? [] : [address6]));
    this.child = Bun.spawn([...before, peer(kind), ...args], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
    });
    this.ended = Promise.all([this.read(), this.child.stderr.text(), this.child.exited]).then(([, text]) => {
      this.errors = text;
      this.over = true;
    });
  }

  /** Starts it and waits until it has its channel. @throws Error with what it said instead */
  static async attach(kind: "lwip" | "tap", options: HostOptions): Promise<PeerHost> {
    const host = new PeerHost(kind, options);
    try {
      await host.line(0);
    } catch (error) {
      await host[Symbol.asyncDispose]();
      throw error;
    }
    return host;
  }

  private async read(): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const bytes of this.child.stdout) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop()!;
      this.lines.push(...lines);
    }
  }

  /** The line number `index` that it says. */
  private async line(index: number, ms = 10_000): Promise<string> {
    await until(
      `line ${index} of a peer host`,
      () => {
        if (this.over && this.lines.length <= index) throw new Error(`the host ended: ${this.errors}`);
        return this.lines.length > index;
      },
      ms,
    );
    return this.lines[index]!;
  }

  /** Gives a command and returns its answer. One at a time. */
  async tell(command: string, ms?: number): Promise<string> {
    const index = this.lines.length;
    this.child.stdin.write(`${command}\n`);
    this.child.stdin.flush();
    return this.line(index, ms);
  }

  /** A listening match. @throws Error if it is refused */
  async match(protocol: "tcp" | "udp" | "icmp", address: string, port: number): Promise<void> {
    const answer = await this.tell(`match ${protocol} ${address} ${port}`);
    if (answer !== "OK") throw new Error(`match ${protocol} ${address} ${port}: ${answer}`);
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    this.child.kill(signal);
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
