// The UDP generator of `bun bench udp` counts what comes back right, and only that: each way to be wrong is one answer of ten.
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { buildBpf } from "../../bpf/build.ts";
import { compilePeer, parseSample } from "../../bench/harness.ts";
import { LAB_LLADDR, LAB_PEER_LLADDR, Lab } from "../../src/lab/lab.ts";

setDefaultTimeout(30_000);

const ADDRESS = "10.77.0.1";
const PORT = "9000";
const EVERY = 10;

const build = join(import.meta.dir, "../../build");

/** An echo server that does something else with every tenth datagram. */
const server = `
  const [wrong] = process.argv.slice(-1);
  let n = 0;
  await Bun.udpSocket({
    hostname: "${ADDRESS}",
    port: ${PORT},
    socket: {
      data(socket, data, port, address) {
        const send = () => socket.send(data, port, address);
        if (++n % ${EVERY} !== 0) return void send();
        if (wrong === "lost") return;
        if (wrong === "damaged") data[data.length - 1] ^= 1;
        if (wrong === "another number") data[8] ^= 1;
        if (wrong === "short") data = data.subarray(0, -1);
        if (wrong === "twice") send();
        send();
      },
    },
  });
  console.log("ready");`;

async function generate(wrong: string): Promise<{ sent: number; lost: number; status: number }> {
  buildBpf(join(import.meta.dir, "../../bench/peers"), build);
  const program = compilePeer("udpgen", ["-D_GNU_SOURCE", "-lbpf"]);
  using lab = Lab.create();
  const command = lab.daemonHost.command(process.execPath, "-e", server, wrong);
  const echo = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
  try {
    await echo.stdout.getReader().read();
    const ends = [lab.peerIfname, LAB_PEER_LLADDR, LAB_LLADDR, "10.77.0.2", ADDRESS, PORT];
    const args = [join(build, "udpgen.o"), ...ends, "8", "2000", "0.2"];
    const child = Bun.spawn(lab.peerHost.command(program, ...args), { stdout: "pipe", stderr: "inherit" });
    const { sent, lost } = parseSample(await child.stdout.text());
    return { sent: sent!, lost: lost!, status: await child.exited };
  } finally {
    echo.kill("SIGKILL");
    await echo.exited;
  }
}

test("all come back", async () => {
  const { sent, lost, status } = await generate("nothing");
  expect(sent).toBeGreaterThan(100);
  expect(lost).toBe(0);
  expect(status).toBe(0);
});

test("a lost answer is lost, and nothing is wrong", async () => {
  const { lost, status } = await generate("lost");
  expect(lost).toBeGreaterThan(0);
  expect(status).toBe(0);
});

test.each(["damaged", "another number", "short", "twice"])("an answer that is %s is wrong", async (wrong) => {
  const { status } = await generate(wrong);
  expect(status).toBe(1);
});
