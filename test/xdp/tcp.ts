// An established TCP connection of two kernels: a server in one namespace that echoes, a client in the other.
import type { Lab } from "../../src/lab/lab.ts";
import { until } from "../net/wait.ts";

export class TcpPair {
  readonly port: number;
  peerPort = 0;
  /** What came back since the last `write`. */
  echoed = "";
  private readonly server: Bun.TCPSocketListener<undefined>;
  private client: Bun.Socket<undefined> | undefined;
  private lines = 0;

  private constructor(lab: Lab, from: "daemon" | "peer") {
    this.server = lab[from === "peer" ? "daemon" : "peer"].run(() =>
      Bun.listen({
        hostname: from === "peer" ? "10.77.0.1" : "10.77.0.2",
        port: 0,
        socket: { data: (socket, data) => void socket.write(data) },
      }),
    );
    this.port = this.server.port;
  }

  /** @param from whose kernel connects */
  static async open(lab: Lab, from: "daemon" | "peer" = "peer"): Promise<TcpPair> {
    const pair = new TcpPair(lab, from);
    pair.client = await lab[from].run(() =>
      Bun.connect({
        hostname: from === "peer" ? "10.77.0.1" : "10.77.0.2",
        port: pair.port,
        socket: { data: (_socket, data) => void (pair.echoed += data.toString()) },
      }),
    );
    pair.peerPort = pair.client.localPort;
    return pair;
  }

  write(text: string): void {
    this.echoed = "";
    this.client!.write(text);
  }

  async works(): Promise<void> {
    const line = `line ${++this.lines}\n`;
    this.write(line);
    await until(line.trim(), () => this.echoed === line);
  }

  [Symbol.dispose](): void {
    this.client?.terminate();
    this.server.stop(true);
  }
}
