// A client by memif that is a C program and shares nothing with our library (test/peers/memif.c): IP mode and Ethernet mode, both
// families, polling and sleeping, frames in one buffer and over several; kernel sockets beyond the wire are at the other end.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { LAB_LLADDR } from "../../src/lab/lab.ts";
import { peer } from "../peers/build.ts";
import { OWN, OWN6, PEER, SwitchRig } from "./switch.ts";
import { until } from "./wait.ts";

setDefaultTimeout(120_000);

const PORT = 5001;
const COUNT = 1000;
/** What a veth, and a kernel's receive buffer, hold without a loss. */
const WINDOW = 16;

interface Said {
  readonly sent: number;
  readonly received: number;
  readonly wrong: number;
  /** most buffers that a packet came in */
  readonly parts: number;
  /** times that it woke the daemon, and was woken */
  readonly rung: number;
  readonly woken: number;
}

/** What the far side's kernel sends has whole checksums, as on a real wire: the client looks at them. */
const start = (...more: string[]): Promise<SwitchRig> =>
  SwitchRig.start({ peerOffloads: { tx: false } }, ...more);

class Peer implements AsyncDisposable {
  private readonly child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  private readonly error: Promise<string>;
  private said = "";

  constructor(rig: SwitchRig, options: readonly string[], ...role: (string | number)[]) {
    const words = [...options, join(rig.scratch.path, "memif.sock"), ...role.map(String)];
    const child = Bun.spawn([peer("memif"), ...words], { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    this.child = child;
    this.error = child.stderr.text();
    void (async () => {
      for await (const part of child.stdout) this.said += Buffer.from(part);
    })();
  }

  /** Once it is connected. */
  async ready(): Promise<void> {
    await until("a C client", () => this.said === "ready\n" || this.child.exitCode !== null);
    if (this.child.exitCode !== null) throw new Error(await this.error);
  }

  /** How it ended, by itself. */
  async ended(): Promise<{ error: string; code: number }> {
    return { error: await this.error, code: await this.child.exited };
  }

  /** The counts of one that has done its work. */
  async counts(): Promise<Said> {
    this.child.stdin.end();
    expect(await this.ended()).toEqual({ error: "", code: 0 });
    const line = await until("its counts", () => /^{.*}$/m.exec(this.said)?.[0]);
    return JSON.parse(line) as Said;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGKILL");
    await this.child.exited;
  }
}

/** A kernel's socket on the far side, which answers all that it gets. */
async function farEcho(rig: SwitchRig, hostname: string) {
  const data = (socket: Bun.udp.Socket<"buffer">, bytes: Buffer, port: number, address: string) =>
    void socket.send(bytes, port, address);
  const socket = await rig.lab.peer.run(() => Bun.udpSocket({ hostname, socket: { data } }));
  return { port: socket.port, [Symbol.dispose]: () => socket.close() };
}

/** Nothing of those who were there is left in the daemon: no client, no fd. */
async function alone(rig: SwitchRig, visit: () => Promise<void>): Promise<void> {
  const fds = () => readdirSync(`/proc/${rig.netd.child.pid}/fd`).length;
  const before = fds();
  await visit();
  await until("the client to be gone", async () => (await rig.clients()).length === 0);
  await until("its fds to be given back", () => fds() === before);
}

interface Case {
  readonly what: string;
  readonly options?: readonly string[];
  readonly own?: string;
  /** a neighbour, or one behind the gateway */
  readonly far?: string;
  readonly bytes?: number;
  readonly count?: number;
  /** buffers that a packet needs */
  readonly parts?: number;
}

const IPV6 = { own: OWN6, far: "fd77::2" };
const CHAINED = { bytes: 1400, parts: 6 };

const cases: readonly Case[] = [
  { what: "IP mode" },
  { what: "IP mode, short", bytes: 4 },
  {
    what: "IP mode, long, buffers in a region of their own, gateway",
    options: ["-r"],
    far: "10.78.0.2",
    bytes: 1400,
  },
  { what: "IP mode, chained, gateway", options: ["-b", "256"], far: "10.78.0.2", ...CHAINED },
  // Cursors are 16 bits, and pass their end here.
  { what: "IP mode, chained, odd buffers", options: ["-r", "-b", "99"], bytes: 1400, parts: 15, count: 5000 },
  { what: "IP mode, IPv6", ...IPV6 },
  { what: "IP mode, IPv6, chained, gateway", options: ["-b", "256"], ...IPV6, far: "fd78::2", ...CHAINED },
  { what: "Ethernet mode", options: ["-e", LAB_LLADDR] },
  { what: "Ethernet mode, IPv6, chained", options: ["-e", LAB_LLADDR, "-b", "256"], ...IPV6, ...CHAINED },
];

/** The far side's kernel asks, and holds every byte of the answers to what it sent; at most WINDOW are on their way. */
async function farAsk(
  rig: SwitchRig,
  hostname: string,
  to: string,
  bytes: number,
  count: number,
): Promise<void> {
  const of = (n: number) =>
    Buffer.from(Uint8Array.from({ length: bytes }, (_, i) => (n * 31 + i * 7 + (i >> 8)) & 0xff));
  const questions = Array.from({ length: count }, (_, n) => {
    const question = of(n);
    question.writeUInt32LE(n);
    return question;
  });
  const open = new Set(questions.keys());
  const wrong: string[] = [];
  let sent = 0;
  const more = (socket: Bun.udp.Socket<"buffer">) => {
    while (sent < count && sent - (count - open.size) < WINDOW) socket.send(questions[sent++]!, PORT, to);
  };
  const data = (socket: Bun.udp.Socket<"buffer">, answer: Buffer, port: number, address: string) => {
    const n = answer.readUInt32LE();
    if (port !== PORT || address !== to || !open.delete(n) || !answer.equals(questions[n]!))
      wrong.push(`${address} ${port}: ${answer.toString("hex")}`);
    more(socket);
  };
  const socket = await rig.lab.peer.run(() => Bun.udpSocket({ hostname, socket: { data } }));
  try {
    socket.send(questions[sent++]!, PORT, to); // alone: the kernel asks for a neighbour
    await until("the first answer", () => open.size < count);
    await until("all answers", () => open.size === 0);
    expect(wrong).toEqual([]);
  } finally {
    socket.close();
  }
}

for (const sleeps of [false, true]) {
  const how = sleeps ? "each sleeps until the other wakes it" : "both poll";
  const mode = ["--set", `poll.mode=${sleeps ? "interrupt" : "busy"}`];
  const wait = sleeps ? ["-w"] : [];

  /**
   * A daemon that polls is rung for once, at most: before it has seen the ring, which it does before anything comes back. One that
   * sleeps and is not rung for lets nothing come back at all.
   */
  const judge = ({ rung, woken, ...said }: Said, what: string, count: number, parts: number) => {
    expect({ what, ...said }).toEqual({ what, sent: count, received: count, wrong: 0, parts });
    expect(woken > 0).toBe(sleeps);
    if (!sleeps) expect(rung).toBeLessThanOrEqual(1);
  };

  test(`a C client asks a kernel beyond the wire; ${how}`, async () => {
    await using rig = await start(...mode);
    for (const { what, options = [], own = OWN, far = PEER, bytes = 64, count = COUNT, parts = 1 } of cases)
      await alone(rig, async () => {
        using echo = await farEcho(rig, far);
        const role = ["ask", own, PORT, far, echo.port, bytes, count, sleeps ? 1 : WINDOW];
        await using client = new Peer(rig, [...options, ...wait], ...role);
        judge(await client.counts(), what, count, parts);
      });
  });

  test(`a kernel beyond the wire asks a C client; ${how}`, async () => {
    await using rig = await start("--set", `memif.clients=1 udp:${PORT}`, ...mode);
    for (const { what, options = [], own = OWN, far = PEER, bytes = 64, count = COUNT, parts = 1 } of cases)
      await alone(rig, async () => {
        await using client = new Peer(rig, [...options, ...wait, "-i", "1"], "echo", own, PORT, count);
        await client.ready();
        await farAsk(rig, far, own, bytes, count);
        judge(await client.counts(), what, count, parts);
      });
  });
}

test("a C client without the secret is told so, and one with it is let in", async () => {
  await using rig = await start("--set", "memif.secret=open sesame");
  using echo = await farEcho(rig, PEER);
  await alone(rig, async () => {
    const ask = ["ask", OWN, PORT, PEER, echo.port, 64, 10, 1];
    for (const options of [[], ["-s", "open sesam"], ["-s", "open sesame!"]]) {
      await using stranger = new Peer(rig, options, ...ask);
      expect(await stranger.ended()).toEqual({ error: "memif: disconnected: wrong secret\n", code: 1 });
    }
    await using friend = new Peer(rig, ["-s", "open sesame"], ...ask);
    expect(await friend.counts()).toMatchObject({ sent: 10, received: 10, wrong: 0 });
  });
});
