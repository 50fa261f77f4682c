// A UDP socket of a namespace's kernel that asks echo services and waits for their answers.
import type { Netns } from "../../src/netlink/netns.ts";

export class UdpClient {
  #waiting = new Map<number, (payload: Buffer) => void>();
  #number = 0;
  #socket!: Bun.udp.Socket<"buffer">;

  /** Bound to `address`, on a port of the kernel's choice. */
  static async open(netns: Netns, address: string): Promise<UdpClient> {
    const client = new UdpClient();
    client.#socket = await netns.run(() =>
      Bun.udpSocket({
        hostname: address,
        socket: {
          data: (_socket, payload) => {
            const number = payload.length < 4 ? -1 : payload.readUInt32LE(0);
            client.#waiting.get(number)?.(payload);
          },
          error: () => {}, // refused: nobody was there at that moment
        },
      }),
    );
    return client;
  }

  /**
   * Sends `bytes` bytes to an echo service and compares the answer; again and again until it comes or `ms` are over,
   * since the first may find no neighbour. Returns how many it took. @throws Error if no answer came, or a wrong one
   */
  async echo(address: string, port = 7, { bytes = 64, ms = 10_000, every = 50 } = {}): Promise<number> {
    const payload = Buffer.alloc(bytes, "netd");
    const number = ++this.#number;
    payload.writeUInt32LE(number, 0);
    const { promise, resolve } = Promise.withResolvers<Buffer>();
    this.#waiting.set(number, resolve);
    const end = performance.now() + ms;
    try {
      for (let tries = 1; performance.now() < end; tries++) {
        try {
          this.#socket.send(payload, port, address);
        } catch {
          // No way there at the moment, or an earlier one was refused.
        }
        const answer = await Promise.race([promise, Bun.sleep(every)]);
        if (!answer) continue;
        if (!payload.equals(answer)) throw new Error(`wrong answer ${answer.toString("hex")}`);
        return tries;
      }
    } finally {
      this.#waiting.delete(number);
    }
    throw new Error(`no echo from ${address}:${port} within ${ms} ms`);
  }

  /** Whether an answer comes to one datagram within `ms`. */
  async answered(address: string, port = 7, ms = 300, bytes = 64): Promise<boolean> {
    return this.echo(address, port, { bytes, ms, every: ms }).then(
      () => true,
      () => false,
    );
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
