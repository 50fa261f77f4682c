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

  private constructor(lab: Lab) {
    this.server = lab.daemon.run(() =>
      Bun.listen({
        hostname: "10.77.0.1",
        port: 0,
        socket: { data: (socket, data) => void socket.write(data) },
      }),
    );
    this.port = this.server.port;
  }

  static async open(lab: Lab): Promise<TcpPair> {
    const pair = new TcpPair(lab);
    pair.client = await lab.peer.run(() =>
      Bun.connect({
        hostname: "10.77.0.1",
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
