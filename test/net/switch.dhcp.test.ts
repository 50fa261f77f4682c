// DHCP for a client, which has no address yet: its DISCOVER goes out to a server of the peer's kernel, and the OFFER comes to
// it and to nobody else, broadcast or not; the kernel's own DHCP is not touched.
import { expect, setDefaultTimeout, test } from "bun:test";
import { LAB_LLADDR } from "../../src/lab/lab.ts";
import { frame } from "./packet.ts";
import { SwitchRig } from "./switch.ts";
import { until } from "./wait.ts";

setDefaultTimeout(60_000);

/** BOOTP's fixed part and the cookie: RFC 2131 section 2. */
function bootp(op: 1 | 2, xid: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(244));
  const view = new DataView(bytes.buffer);
  bytes.set([op, 1, 6]);
  view.setUint32(4, xid);
  view.setUint16(10, 0x8000); // broadcast
  bytes.set(
    LAB_LLADDR.split(":").map((part) => Number.parseInt(part, 16)),
    28,
  );
  bytes.set([99, 130, 83, 99, 53, 1, op, 255], 236);
  return bytes;
}

test("the server's answer comes to the client that asked, by its transaction", async () => {
  await using rig = await SwitchRig.start();
  const { lab } = rig;
  const route = ["ip", "route", "add", "255.255.255.255", "dev", lab.peerIfname];
  expect(Bun.spawnSync(lab.peerHost.command(...route)).exitCode).toBe(0);
  const asked: number[] = [];
  const server = await lab.peer.run(() =>
    Bun.udpSocket({
      hostname: "0.0.0.0",
      port: 67,
      socket: {
        data(self, data) {
          const xid = data.readUInt32BE(4);
          asked.push(xid);
          // One that nobody asked for, then the answer.
          self.send(bootp(2, xid ^ 1), 68, "255.255.255.255");
          self.send(bootp(2, xid), 68, "255.255.255.255");
        },
      },
    }),
  );
  server.setBroadcast(true);
  // The kernel's own DHCP client would listen so.
  const kernels: number[] = [];
  const kernel = await lab.daemon.run(() =>
    Bun.udpSocket({
      hostname: "0.0.0.0",
      port: 68,
      socket: { data: (_self, data) => void kernels.push(data.readUInt32BE(4)) },
    }),
  );
  using one = rig.raw();
  using two = rig.raw();
  const discover = (xid: number) =>
    frame({
      srcMac: LAB_LLADDR,
      dstMac: "ff:ff:ff:ff:ff:ff",
      src: "0.0.0.0",
      dst: "255.255.255.255",
      sport: 68,
      dport: 67,
      payload: bootp(1, xid),
    });
  const heard = (client: typeof one): number[] =>
    client.drain().flatMap((bytes) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      return bytes[23] === 17 && view.getUint16(36) === 68 ? [view.getUint32(42 + 4)] : [];
    });
  for (const [client, other, xid] of [
    [one, two, 0x1234_0010],
    [two, one, 0x1234_0020],
  ] as const) {
    client.send(discover(xid));
    const got: number[] = [];
    await until(`the answer to ${xid.toString(16)}`, () => {
      got.push(...heard(client));
      return got.length > 0;
    });
    expect(got).toEqual([xid]);
    expect(heard(other)).toEqual([]);
    expect(asked.at(-1)).toBe(xid);
  }
  await until("the kernel to have what is not theirs", () => kernels.length === 2);
  expect(kernels).toEqual([0x1234_0011, 0x1234_0021]);
  server.close();
  kernel.close();
});
