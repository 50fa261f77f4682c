// A steady flow of echoes from the peer's kernel while a test does something else: src/lab/flow.ts, driven by the
// event loop of the test.
import { Flow } from "../../src/lab/flow.ts";
import type { Lab } from "../../src/lab/lab.ts";
import { parseIPv4 } from "../../src/wire/address.ts";
import { until } from "./wait.ts";

export class Traffic {
  readonly flow: Flow;
  private stopping = false;
  private readonly done: Promise<void>;

  constructor(lab: Lab, source = "10.77.0.2", destination = "10.77.0.1", window = 64) {
    const spec = { name: source, port: 7, payloadBytes: 64, window };
    this.flow = lab.peer.run(
      () => new Flow({ ...spec, source: parseIPv4(source)!, destination: parseIPv4(destination)! }),
    );
    this.done = this.run();
  }

  private async run(): Promise<void> {
    const { flow } = this;
    while (!this.stopping || !flow.idle) {
      const now = performance.now();
      flow.receive(now);
      if (!this.stopping)
        try {
          flow.send(now);
        } catch {
          // No way there at the moment.
        }
      await new Promise(setImmediate);
    }
  }

  /** Waits until so many more echoes have come. */
  async more(echoes: number): Promise<void> {
    const wanted = this.flow.received + echoes;
    await until(`${echoes} echoes from ${this.flow.received} on`, () => this.flow.received >= wanted);
  }

  /** Sends no more, and waits for what is in the air. */
  async stop(): Promise<void> {
    this.stopping = true;
    await this.done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.flow.close();
  }
}
