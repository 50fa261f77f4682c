// Real traffic for bench/filter.ts: what a server's card in the lab has in both directions while another host's kernel asks
// for pages (IPv4 and IPv6, in connections of their own), for names, sends zeroes to port 5555, pings, and looks for a
// neighbour that there is not. Captured anew with each run, from a packet socket; frames as on a wire: no offloads.
//   bun bench/captured.ts serve       the server, until it is killed
//   bun bench/captured.ts ask         its clients, until they are killed
import { Resolver } from "node:dns/promises";
import { Lab } from "../src/lab/lab.ts";
import { RawSocket } from "../test/net/raw.ts";
import { script } from "./harness.ts";
import { generator } from "./prefixes.ts";

const SERVER4 = "10.77.0.1";
const SERVER6 = "fd77::1";
const NOBODY = "10.77.0.77";
const SINK = 5555;
const SINK_BYTES = 30_000;
const PAGE_BYTES = 20_000;
const PATIENCE_MS = 20_000;
const OFF = { tso: false, gso: false, gro: false };

/** The next `count` frames of such a server's card, of IP and ARP. */
export async function capture(count: number): Promise<Uint8Array[]> {
  using lab = Lab.create({ offloads: OFF, peerOffloads: OFF });
  using socket = new RawSocket(lab.daemon, lab.ifindex, { all: true, sent: true });
  await using stack = new AsyncDisposableStack();
  const start = (command: string[]) => {
    const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
    stack.defer(async () => {
      child.kill("SIGKILL");
      await child.exited;
    });
    return child;
  };
  const { daemonHost, peerHost } = lab;
  const server = start(daemonHost.command(...script(import.meta.path, "serve")));
  await server.stdout.getReader().read();
  start(peerHost.command(...script(import.meta.path, "ask")));
  start(peerHost.command("ping", "-q", "-i", "0.004", SERVER4));
  start(peerHost.command("ping", "-q", "-i", "0.006", SERVER6));
  const frames: Uint8Array[] = [];
  for (const end = performance.now() + PATIENCE_MS; frames.length < count; await Bun.sleep(1)) {
    if (performance.now() > end) throw new Error(`${frames.length} of ${count} frames were captured`);
    frames.push(...socket.drain());
  }
  return frames.slice(0, count);
}

/** Pages of as many bytes as their path says; a name server that knows no name; a sink. */
function serve(): void {
  Bun.serve({
    hostname: "::",
    port: 80,
    fetch: ({ url }) => new Response("x".repeat(Number(new URL(url).pathname.slice(1)))),
  });
  Bun.listen({ hostname: "0.0.0.0", port: SINK, socket: { data: () => {} } });
  void Bun.udpSocket({
    hostname: "0.0.0.0",
    port: 53,
    socket: {
      data(socket, query, port, address) {
        query[2]! |= 0x80; // an answer,
        query[3] = 0x83; // NXDOMAIN (RFC 1035 section 4.1.1)
        socket.send(query, port, address);
      },
    },
  });
  console.log("ready");
}

async function ask(): Promise<void> {
  const random = generator(11);
  const resolver = new Resolver();
  resolver.setServers([SERVER4]);
  const name = (n: number) => resolver.resolve4(`host${n}.example`).catch(() => {});
  const page = async (host: string) =>
    (await fetch(`http://${host}/${(random() >>> 0) % PAGE_BYTES}`, { keepalive: false })).arrayBuffer();
  const nobody = await Bun.udpSocket({});
  for (let n = 0; ; n++) {
    const sink = await Bun.connect({ hostname: SERVER4, port: SINK, socket: { data: () => {} } });
    sink.write(new Uint8Array(SINK_BYTES));
    nobody.send("", 9, NOBODY);
    await Promise.all([
      page(SERVER4),
      page(SERVER4),
      page(`[${SERVER6}]`),
      ...[0, 1, 2, 3].map((i) => name(n * 4 + i)),
    ]);
    sink.end();
    await Bun.sleep(10);
  }
}

if (import.meta.main) await { serve, ask }[Bun.argv[2] as "serve" | "ask"]();
