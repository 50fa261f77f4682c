// UDP echo over a lab's wire, the same generator for all: through netd/client over memif (the card's frames go XDP -> netd ->
// shared memory -> client and back), against sockets of the kernel's (a C server with recvmmsg and sendmmsg, Bun.udpSocket,
// node:dgram), and against a C client of netd's Unix socket.
//   lab.peer: bench/peers/udpgen.c, 64 bytes   <-- veth -->   lab.daemon: the server
// The kernel's servers have a lab of their own, without netd: its XDP program would slow them down. All have one
// address.
//
// Loads: so many requests in the air (requests a second), one at a time (the times, no queue in them), and half of what the
// peer can answer (the times).
// Two cores: the generator has one, all else the other. So netd must not spin (poll.mode interrupt): it would keep its
// client from running; and the client goes first (nice), since the kernel would let netd have the core for milliseconds.
//
// The generator decides what is measured, for a veth has the kernel's part of receiving (softirq) done on the sender's core:
// requests are received at the generator's cost, answers at the server's. Kernel sockets at the generator's end (sendmmsg,
// recvmmsg) filled its core at 300,000 requests a second, and a quarter of the server's with receiving: no server could get
// further, however fast. This one sends many requests a system call and takes answers before the kernel's stack, so that its
// core has some time left at any server's rate; the kernel's servers do up to a tenth more by it. Not taken: AF_XDP, with which
// sending costs more, and native XDP at its end costs the server's core 0.9 us an answer; live XDP frames, which are a page
// each, so that 46 fill a socket's default queue; receive steering (RPS), since in a virtual machine an interrupt to the
// other core costs more than what it would do there.
import dgram from "node:dgram";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { buildBpf } from "../bpf/build.ts";
import { Lab, LAB_LLADDR, LAB_PEER_LLADDR } from "../src/lab/lab.ts";
import { udp as sockets } from "../src/client/client.ts";
import { NetdProcess, Scratch } from "../test/net/child.ts";
import { until } from "../test/net/wait.ts";
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

const BUILD = join(import.meta.dir, "../build");
const ADDRESS = "10.77.0.1";
const PEER_ADDRESS = "10.77.0.2";
const WINDOWS = [64, 256];
const WARM_UP = 2; // seconds, until the last compile

const OURS = "netd/client, memif";
/** Every echo server, by its port. */
const servers = {
  [OURS]: 9000,
  "C, recvmmsg": 9001,
  "Bun.udpSocket": 9002,
  "node:dgram": 9003,
  "C, netd's Unix socket": 9004,
} as const;
type Name = keyof typeof servers;
const names = Object.keys(servers) as Name[];
const isNetds = (name: Name): boolean => name === OURS || name === "C, netd's Unix socket";

class Setup implements AsyncDisposable {
  readonly udp = compilePeer("udp", ["-D_GNU_SOURCE"], [join(import.meta.dir, "../test/peers/attach.h")]);
  private readonly generator = compilePeer("udpgen", ["-D_GNU_SOURCE", "-lbpf"]);
  private readonly stack = new AsyncDisposableStack();
  private readonly netds = this.stack.use(new LabOf());
  private readonly kernels = this.stack.use(new LabOf());

  static async start(): Promise<Setup> {
    buildBpf(join(import.meta.dir, "peers"), BUILD);
    const setup = new Setup();
    try {
      await setup.serveAll();
      return setup;
    } catch (error) {
      await setup[Symbol.asyncDispose]();
      throw error;
    }
  }

  private async serveAll(): Promise<void> {
    const { stack, udp, netds, kernels } = this;
    const scratch = stack.use(new Scratch());
    const socket = join(scratch.path, "control.sock");
    const { ifname, daemon } = netds.lab;
    const on = ["--interface", ifname, "--netns", daemon.path, "--set", `switch.sockets=${socket}`];
    stack.use(
      await NetdProcess.running(scratch.socket, [...on, "--poll", "interrupt"], pinned([], cores.measured)),
    );
    await until("the control socket", () => existsSync(socket));
    const port = (name: Name): string => String(servers[name]);
    const beside = (...command: string[]) => this.serve(["nice", "-n", "-10", ...pinned(command)]);
    await beside(...script(import.meta.path, "memif", port(OURS), ifname, socket));
    const path = join(scratch.path, "client");
    await beside(udp, "client", socket, path, ifname, ADDRESS, port("C, netd's Unix socket"));
    const near = (...command: string[]) => this.serve(kernels.lab.daemonHost.command(...pinned(command)));
    await near(udp, "echo", ADDRESS, port("C, recvmmsg"));
    await near(...script(import.meta.path, "bun", port("Bun.udpSocket")));
    await near(...script(import.meta.path, "node", port("node:dgram")));
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

  /** @param rate requests a second; 0: as many as are answered */
  async load(name: Name, window: number, seconds: number, rate = 0): Promise<Sample> {
    const ends = ["peer0", LAB_PEER_LLADDR, LAB_LLADDR, PEER_ADDRESS, ADDRESS, servers[name]];
    const args = [join(BUILD, "udpgen.o"), ...ends, window, Math.round(rate), seconds].map(String);
    const { peerHost } = (isNetds(name) ? this.netds : this.kernels).lab;
    const command = peerHost.command(...pinned([this.generator, ...args], cores.other));
    const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
    const sample = parseSample(await child.stdout.text());
    if ((await child.exited) !== 0) throw new Error("the generator heard something else than what it sent");
    return sample;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stack.disposeAsync();
  }
}

class LabOf implements Disposable {
  readonly lab = Lab.create();

  [Symbol.dispose](): void {
    this.lab.close();
  }
}

async function verify(ctx: Context): Promise<void> {
  await using setup = await Setup.start();
  for (const name of names) {
    await setup.load(name, 1, 0.1); // neighbours
    let { sent, lost } = await setup.load(name, 16, 0.3);
    // What a machine that stood still for 300 ms has cost, it does not cost again.
    for (let tries = 0; lost !== 0 && tries < 3; tries++) ({ sent, lost } = await setup.load(name, 16, 0.3));
    if (!(sent! > 50) || lost !== 0) throw new Error(`${name}: ${lost} of ${sent} did not come back`);
  }
  ctx.note("every request came back to its sender, by all");
}

async function run(ctx: Context): Promise<void> {
  await using setup = await Setup.start();
  const seconds = ctx.seconds ?? 0.5;
  for (const name of names) await setup.load(name, WINDOWS[0]!, WARM_UP);

  /** What a server does under a load, with the load in the names. */
  const sample = async (name: Name, window: number, rate: number, what: string): Promise<Sample> => {
    const { sent, lost, "requests/s": answered, ...times } = await setup.load(name, window, seconds, rate);
    // A socket's queue is shorter than a window at times: that many may be lost, and no more.
    if (lost! > sent! / 1000 + window) throw new Error(`${name}: ${lost} of ${sent} were lost`);
    const measured = window === 1 || rate > 0 ? times : { "requests/s": answered! };
    return Object.fromEntries(Object.entries(measured).map(([unit, value]) => [`${unit}, ${what}`, value]));
  };
  const compare = async (peerName: Name, window: number, rate: number, what: string): Promise<void> => {
    const isRate = window > 1 && rate === 0;
    await ctx.compare({
      unit: isRate ? "1/s" : "us",
      better: isRate ? "higher" : "lower",
      peerName,
      ours: () => sample(OURS, window, rate, what),
      peer: () => sample(peerName, window, rate, what),
    });
  };
  for (const peer of names.slice(1)) {
    for (const window of WINDOWS) await compare(peer, window, 0, `${window} in the air`);
    const rates = ctx.results.filter(({ peerName, unit }) => peerName === peer && unit === "1/s");
    const half = Math.max(...rates.map((result) => result.peer)) / 2;
    await compare(peer, WINDOWS[1]!, half, `at half of the peer's rate`);
    await compare(peer, 1, 0, "1 in the air");
  }
}

export const bench: Bench = {
  name: "udp",
  about: "UDP echo through netd/client over memif, against the kernel's sockets and netd's Unix socket",
  verify,
  run,
};

if (import.meta.main) {
  const [kind, port = "", ifname = "", server] = process.argv.slice(2);
  if (kind === "node") {
    const socket = dgram.createSocket("udp4");
    socket.on("message", (data, { port, address }) => socket.send(data, port, address));
    socket.bind(Number(port), ADDRESS, () => console.log("ready"));
  } else if (kind === "bun") {
    await Bun.udpSocket({
      hostname: ADDRESS,
      port: Number(port),
      socket: { data: (self, data, from, address) => void self.send(data, from, address) },
    });
    console.log("ready");
  } else {
    const socket = await sockets.bind({
      interface: ifname,
      server,
      hostname: ADDRESS,
      port: Number(port),
      pipe: "memif",
      socket: {
        batch(_socket, batch) {
          for (let i = 0; i < batch.n; i++) batch.reply(i);
        },
      },
    });
    console.log("ready");
    socket.run(undefined, 0); // who shares a core does not linger
  }
}
