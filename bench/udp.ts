// UDP echo over the lab's wire, the same generator for all: through a client of netd's, over its Unix socket (the card's frames
// go XDP -> netd -> datagram channel -> client and back), against sockets of the kernel's: a C server with recvmmsg and
// sendmmsg, Bun.udpSocket, node:dgram.
//   lab.peer: bench/peers/udp.c gen, 64 bytes   <-- veth -->   lab.daemon: the server, or netd and udp.c client
// Two loads: 64 requests in the air (requests a second), and one at a time (the times, no queue in them).
// Two cores: the generator has one, all else the other. So netd must not spin (poll.mode interrupt): it would keep its
// client from running.
import dgram from "node:dgram";
import { join } from "node:path";
import { Lab } from "../src/lab/lab.ts";
import { NetdProcess, Scratch } from "../test/net/child.ts";
import {
  type Bench,
  type Context,
  compilePeer,
  cores,
  parseSample,
  pinned,
  type Sample,
  script,
} from "./harness.ts";

const ADDRESS = "10.77.0.1";
const PORT = 9000;
const BYTES = 64;
const WINDOWS = [64, 1];
const BUN = 9001;
const NODE = 9002;
const C = 9003;

/** The echo servers of the kernel's sockets, each a process of its own. */
const servers = { "C, recvmmsg": C, "Bun.udpSocket": BUN, "node:dgram": NODE } as const;
type Name = keyof typeof servers;

class Setup implements AsyncDisposable {
  readonly lab = Lab.create();
  readonly udp = compilePeer("udp", ["-D_GNU_SOURCE"], [join(import.meta.dir, "../test/peers/attach.h")]);
  private readonly stack = new AsyncDisposableStack();

  static async start(): Promise<Setup> {
    const setup = new Setup();
    try {
      const { lab, stack, udp } = setup;
      const scratch = stack.use(new Scratch());
      const socket = join(scratch.path, "usnetd.socket");
      const sockets = `switch.sockets=${socket}`;
      stack.use(
        await NetdProcess.running(
          scratch.socket,
          ["--interface", lab.ifname, "--netns", lab.daemon.path, "--set", sockets, "--poll", "interrupt"],
          pinned([], cores.measured),
        ),
      );
      const near = (...command: string[]) =>
        setup.serve(lab.daemonHost.command(...pinned(command, cores.measured)));
      await near(udp, "client", socket, join(scratch.path, "client"), lab.ifname, ADDRESS, String(PORT));
      await near(udp, "echo", ADDRESS, String(C));
      for (const port of [BUN, NODE]) await near(...script(import.meta.path, String(port)));
      return setup;
    } catch (error) {
      await setup[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Starts a server and waits until it says that it is ready. */
  private async serve(command: string[]): Promise<void> {
    const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
    this.stack.defer(async () => {
      child.kill("SIGKILL");
      await child.exited;
    });
    const { value } = await child.stdout.getReader().read();
    if (!value) throw new Error(`${command.join(" ")} ended with ${await child.exited}`);
  }

  async load(port: number, window: number, seconds: number): Promise<Sample> {
    const args = ["10.77.0.2", ADDRESS, port, BYTES, window, 0, seconds].map(String);
    const command = this.lab.peerHost.command(...pinned([this.udp, "gen", ...args], cores.other));
    const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
    const sample = parseSample(await child.stdout.text());
    if ((await child.exited) !== 0) throw new Error("the generator heard something else than what it sent");
    return sample;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stack.disposeAsync();
    this.lab.close();
  }
}

async function verify(ctx: Context): Promise<void> {
  await using setup = await Setup.start();
  for (const [name, port] of [["netd's client", PORT], ...Object.entries(servers)] as [string, number][]) {
    await setup.load(port, 1, 0.1); // neighbours
    const { sent, lost } = await setup.load(port, 16, 0.3);
    if (!(sent! > 50) || lost !== 0) throw new Error(`${name}: ${lost} of ${sent} did not come back`);
  }
  ctx.note("every request came back to its sender, by all four");
}

async function run(ctx: Context): Promise<void> {
  await using setup = await Setup.start();
  const seconds = ctx.seconds ?? 1;
  const sample = async (port: number, window: number): Promise<Sample> => {
    await setup.load(port, window, 0.3);
    const { sent, lost, "requests/s": rate, ...times } = await setup.load(port, window, seconds);
    if (lost! > sent! / 1000) throw new Error(`${lost} of ${sent} were lost`);
    return window === 1 ? times : { "requests/s": rate! };
  };
  for (const window of WINDOWS)
    for (const name of Object.keys(servers) as Name[]) {
      const named = async (port: number): Promise<Sample> =>
        Object.fromEntries(
          Object.entries(await sample(port, window)).map(([what, value]) => [
            `${what}, ${window} in the air`,
            value,
          ]),
        );
      await ctx.compare({
        unit: window === 1 ? "us" : "1/s",
        better: window === 1 ? "lower" : "higher",
        peerName: name,
        ours: () => named(PORT),
        peer: () => named(servers[name]),
      });
    }
}

export const bench: Bench = {
  name: "udp",
  about: "UDP echo through a client of netd's, over its Unix socket, against the kernel's sockets",
  verify,
  run,
};

if (import.meta.main) {
  const port = Number(process.argv[2]);
  if (port === NODE) {
    const socket = dgram.createSocket("udp4");
    socket.on("message", (data, { port, address }) => socket.send(data, port, address));
    socket.bind(port, ADDRESS, () => console.log("ready"));
  } else {
    await Bun.udpSocket({
      hostname: ADDRESS,
      port,
      socket: { data: (self, data, from, address) => void self.send(data, from, address) },
    });
    console.log("ready");
  }
}
