// Servers of the kernel's own stack on the daemon's side of a lab, to tell who answers; and clients on the peer's side.
import type { Lab } from "../../src/lab/lab.ts";
import { until } from "./wait.ts";

/** A UDP socket on the daemon's side that answers "kernel: " and what it was sent. */
export async function kernelUdp(lab: Lab, port: number): Promise<{ close(): void }> {
  const socket = await lab.daemon.run(() =>
    Bun.udpSocket({
      hostname: "10.77.0.1",
      port,
      socket: { data: (self, data, from, address) => void self.send(`kernel: ${data}`, from, address) },
    }),
  );
  return { close: () => socket.close() };
}

/** Who answers a datagram to 10.77.0.1: the text that came back, or "" if none came in time. */
export async function whoAnswers(lab: Lab, port: number, text = "hello", ms = 1000): Promise<string> {
  const answer = Promise.withResolvers<string>();
  const socket = await lab.peer.run(() =>
    Bun.udpSocket({
      hostname: "10.77.0.2",
      socket: { data: (_self, data) => answer.resolve(data.toString()), error: () => answer.resolve("") },
    }),
  );
  socket.send(text, port, "10.77.0.1");
  const got = await Promise.race([answer.promise, Bun.sleep(ms).then(() => "")]);
  socket.close();
  return got;
}

/** One ping from the peer, answered by the kernel on the daemon's side. */
export const pings = (lab: Lab, address = "10.77.0.1"): boolean =>
  Bun.spawnSync(lab.peerHost.command("ping", "-c", "1", "-W", "2", address)).exitCode === 0;

/** An established TCP connection through the card between both kernels, with an echo at the daemon's side. */
export class TcpPair {
  private readonly server: Bun.TCPSocketListener<undefined>;
  private readonly client: Bun.Socket<undefined>;
  private received = "";
  closed = false;
  private sent = 0;

  private constructor(server: Bun.TCPSocketListener<undefined>, client: Bun.Socket<undefined>) {
    this.server = server;
    this.client = client;
  }

  static async open(lab: Lab): Promise<TcpPair> {
    let pair: TcpPair | undefined;
    const server = lab.daemon.run(() =>
      Bun.listen({
        hostname: "10.77.0.1",
        port: 0,
        socket: { data: (socket, data) => void socket.write(data) },
      }),
    );
    const client = await lab.peer.run(() =>
      Bun.connect({
        hostname: "10.77.0.1",
        port: server.port,
        socket: {
          data: (_socket, data) => {
            pair!.received += data.toString();
          },
          close: () => {
            pair!.closed = true;
          },
        },
      }),
    );
    pair = new TcpPair(server, client);
    return pair;
  }

  /** Sends a line and waits until it is back, in order, with nothing else. @throws Error if the connection is gone */
  async works(): Promise<void> {
    const line = `line ${++this.sent}\n`;
    this.client.write(line);
    await until(`${line.trim()} to come back`, () => {
      if (this.closed) throw new Error("the connection was closed");
      return this.received.length >= line.length;
    });
    if (this.received !== line) throw new Error(`wrong echo ${JSON.stringify(this.received)}`);
    this.received = "";
  }

  close(): void {
    this.client.terminate();
    this.server.stop(true);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
