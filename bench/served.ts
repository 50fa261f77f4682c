// The memif server of bench/forwarding.ts: the daemon's parts (src/link/memif), taking clients before the loop begins. Clients
// come in the order of their slots.
import { check } from "../ffi/errno.ts";
import { libc } from "../ffi/libc.ts";
import { ptr } from "../ffi/memory.ts";
import { Connection } from "../src/link/memif/connection.ts";
import { PortWriter } from "../src/link/memif/port.ts";
import { beginRing } from "../src/link/memif/ring.ts";
import type { FramePlace } from "../src/mem/views.ts";
import { Windows } from "../src/link/memif/window.ts";

const AF_UNIX = 1;
const SEQPACKET_NONBLOCK_CLOEXEC = 5 | 0o2004000;
const NONBLOCK_CLOEXEC = 0o2004000;
const PATIENCE_MS = 10_000;

/** Waits for `clients` of them at `socket`, maps their memory, and makes them ports. */
export function serveMemif(
  socket: string,
  clients: number,
  { memory, from, to }: FramePlace,
  ports: ArrayBuffer,
): Connection[] {
  const name = new Uint8Array(new ArrayBuffer(110));
  name[0] = AF_UNIX;
  name.set(Buffer.from(socket), 2);
  const listening = check("socket", libc.socket(AF_UNIX, SEQPACKET_NONBLOCK_CLOEXEC, 0));
  check(`bind ${socket}`, libc.bind(listening, ptr(name), name.length));
  check("listen", libc.listen(listening, 8));
  const limits = { rings: 1, bytes: 512 << 20, secret: new Uint8Array(), modes: [0] };
  const windows = new Windows(memory, from, to);
  const writer = new PortWriter(ports);
  const words = new Int32Array(memory.buffer);
  const connections: Connection[] = [];
  let connected = 0;
  for (const end = Date.now() + PATIENCE_MS; connected < clients; ) {
    if (Date.now() > end) throw new Error(`${connected} of ${clients} clients came to ${socket}`);
    const fd = libc.accept4(listening, null, null, NONBLOCK_CLOEXEC);
    if (fd >= 0) connections.push(new Connection(fd, "bench", limits));
    for (const connection of connections) {
      if (!connection.read()) continue;
      const { session } = connection;
      const offs = new Int32Array(256).fill(-1);
      const bytes = new Int32Array(256);
      for (const region of session.regions) {
        offs[region.index] = windows.map(region.fd, region.bytes);
        bytes[region.index] = region.bytes;
      }
      for (const ring of [...session.s2m, ...session.m2s]) beginRing(words, { offs, bytes }, ring);
      const { s2m: to, m2s } = session;
      writer.add({ client: session.id, mode: session.mode, from: to, to: m2s, sharedRing: -1, offs, bytes });
      connection.connected("bench");
      connected++;
    }
    Bun.sleepSync(1);
  }
  return connections;
}
