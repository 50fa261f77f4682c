// Sockets of netd/client beside the kernel's on one card: datagrams both ways, near and far, both families, every size;
// what is refused, and what netd's end looks like from there.
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  attach,
  Refused,
  type UdpHandlers,
  type UdpOptions,
  type UdpSocket,
  udp,
} from "../../src/client/client.ts";
import { OWN, OWN6, PEER, SwitchRig } from "../net/switch.ts";
import { UdpClient } from "../net/udp.ts";
import { until } from "../net/wait.ts";

setDefaultTimeout(60_000);

/** Destinations in the lab: the neighbour, and what is behind it. */
const PLACES = [PEER, "10.78.0.2", "fd77::2", "fd78::2"];

let rig: SwitchRig;
const sockets: UdpSocket[] = [];

beforeAll(async () => {
  rig = await SwitchRig.start();
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.close();
});
afterAll(() => rig?.[Symbol.asyncDispose]());

async function bind(options: Omit<UdpOptions, "interface">): Promise<UdpSocket> {
  const { control: server, scratch, lab } = rig;
  const place = { interface: lab.ifname, server, directory: scratch.path };
  const socket = await udp.bind({ ...place, ...options });
  sockets.push(socket);
  return socket;
}

/** A socket of the far side's kernel, and what it has heard. */
async function kernel(hostname: string): Promise<{ socket: Bun.udp.Socket<"buffer">; heard: string[] }> {
  const heard: string[] = [];
  const socket = await rig.lab.peer.run(() =>
    Bun.udpSocket({
      hostname,
      socket: { data: (_, data, port, address) => void heard.push(`${address} ${port} ${data}`) },
    }),
  );
  return { socket, heard };
}

describe.each(["memif", "unix"] as const)("over %s", (pipe) => {
  for (const way of ["data", "batch"] as const)
    test(`an echo by ${way}: every size of both families, from the neighbour and from behind it`, async () => {
      const handlers: UdpHandlers =
        way === "data"
          ? { data: (socket, data, to, address) => void socket.send(data, to, address) }
          : { batch: (_, batch) => Array.from({ length: batch.n }, (__, i) => batch.reply(i)) };
      const echo = await bind({ pipe, socket: handlers });
      for (const from of PLACES) {
        using client = await UdpClient.open(rig.lab.peer, from);
        const to = from.includes(":") ? OWN6 : OWN;
        const most = from.includes(":") ? 1452 : 1472;
        for (const bytes of [4, 5, 6, 7, 63, 64, 65, 511, 1000, most - 1, most])
          await client.echo(to, echo.port, { bytes });
      }
      expect(echo.dropped).toBe(0);
    });

  test("what it sends first: the neighbour is asked for, the gateway for what is behind it", async () => {
    const socket = await bind({ pipe, socket: {} });
    for (const to of PLACES) {
      const { socket: far, heard } = await kernel(to);
      expect(socket.send("hello", far.port, to)).toBe(true);
      await until(`${to} to hear`, () => heard.length > 0);
      expect(heard).toEqual([`${to.includes(":") ? OWN6 : OWN} ${socket.port} hello`]);
      far.close();
    }
  });

  test("a port that nobody has is refused by its kernel, and a neighbour that there is not is no neighbour", async () => {
    const errors: string[] = [];
    const idle = await bind({ pipe, socket: { error: (_, error) => void errors.push(error.message) } });
    const socket = await bind({ pipe, socket: { error: (_, error) => void errors.push(error.message) } });
    for (const to of [PEER, "fd77::2"]) {
      socket.send("x", 9, to);
      await until("an error", () => errors.length > 0);
      expect(errors.splice(0)).toEqual([`send to ${to} port 9: ECONNREFUSED (nobody listens there)`]);
    }
    socket.send("x", 9, "10.77.0.99");
    await until("an error", () => errors.length > 0);
    expect(errors[0]).toMatch(/^send to 10\.77\.0\.99(?: port 9)?: EHOSTUNREACH \(no neighbour answers\)$/);
    // One that has been idle all the while asks as ever.
    errors.length = 0;
    const { socket: far, heard } = await kernel("10.77.0.3");
    idle.send("late", far.port, "10.77.0.3");
    await until("10.77.0.3 to hear", () => heard.length > 0);
    expect(errors).toEqual([]);
    far.close();
  });
});

describe.each(["memif", "unix"] as const)("closed, over %s", (pipe) => {
  test("twice, and what is asked for afterwards is refused, or nothing", async () => {
    let closes = 0;
    const socket = await bind({ pipe, socket: { close: () => closes++ } });
    socket.close();
    socket.close();
    expect(closes).toBe(1);
    expect(() => socket.send("x", 7, PEER)).toThrow(/^send to 10\.77\.0\.2: EBADF \(the socket is closed\)$/);
    expect(() => socket.sendMany(["x", 7, PEER, "y", 7, PEER])).toThrow("EBADF");
    expect(socket.sendMany([])).toBe(0);
    const { channel } = socket;
    expect(() => channel.send(new Uint8Array(60))).toThrow("EBADF");
    expect([channel.poll(() => {}), channel.wait(0), await channel.ready()]).toEqual([0, false, false]);
    expect(channel.pipe.take()).toBe(-1);
    socket.run();
  });

  test("in a callback: what was answered before goes, nothing afterwards, and no more comes", async () => {
    let heard = 0;
    // What comes too late is refused, which is no news here.
    const socketHandlers = { data: () => void heard++, error: () => {} };
    const far = await rig.lab.peer.run(() => Bun.udpSocket({ hostname: PEER, socket: socketHandlers }));
    let calls = 0;
    const socket = await bind({
      pipe,
      socket: {
        data(self, data, port, address) {
          self.send(data, port, address);
          if (++calls > 1) self.close();
        },
      },
    });
    far.send("x", socket.port, OWN);
    await until("an answer, and so the neighbour", () => heard > 0);
    far.sendMany(Array.from({ length: 8 }, () => ["x", socket.port, OWN]).flat());
    await until("another answer", () => heard > 1);
    await Bun.sleep(20);
    expect([calls, heard]).toEqual([2, 2]);
    far.close();
    const { control: server, scratch, lab } = rig;
    const options = { interface: lab.ifname, server, directory: scratch.path, pipe };
    const channel = await attach({ ...options, listen: [{ proto: "udp", port: 7003 }] });
    const asker = await rig.lab.peer.run(() => Bun.udpSocket({ hostname: PEER }));
    asker.send("x", 7003, OWN);
    expect(await channel.ready()).toBe(true);
    const answered: boolean[] = [];
    channel.poll((frames) => {
      answered.push(frames.reply(0)); // staged, and lost
      channel.close();
      answered.push(frames.reply(0));
    });
    expect(answered).toEqual([true, false]);
    asker.close();
  });
});

test("ports, data and prefixes that are none are no wildcards", async () => {
  for (const port of [Number.NaN, -1, 65536, 1.5])
    await expect(bind({ port, socket: {} })).rejects.toThrow(`port ${port}: expected a whole number`);
  const socket = await bind({ socket: {} });
  for (const port of [0, -1, 65536, 1.5, Number.NaN])
    expect(() => socket.send("x", port, PEER)).toThrow(
      `port ${port}: expected a whole number from 1 to 65535`,
    );
  for (const data of [undefined, null, 5, {}])
    expect(() => socket.send(data as unknown as string, 7, PEER)).toThrow("expected a string, or bytes");
  expect(() => socket.sendMany(["x", 7])).toThrow("expected [data, port, address, ...]");
  const { channel } = socket;
  for (const port of [Number.NaN, Number.POSITIVE_INFINITY])
    for (const listen of [{ port }, { port: 7004, fromPort: port }])
      await expect(channel.listen({ proto: "udp", ...listen })).rejects.toThrow("expected a whole number");
  for (const address of ["10.77.0.1/", "10.77.0.1/x", "10.77.0.1/24/8"])
    await expect(channel.listen({ proto: "udp", port: 7004, address })).rejects.toThrow("no prefix");
});

test("more than a ring holds: send says false, drain says when to go on, and all arrive in order", async () => {
  const { socket: far, heard } = await kernel(PEER);
  const count = 100;
  let sent = 0;
  let refusals = 0;
  const more = (socket: UdpSocket): void => {
    while (sent < count && socket.send(String(sent), far.port, PEER)) sent++;
    if (sent < count) refusals++;
  };
  const socket = await bind({ pipe: "memif", slots: 8, socket: { drain: more } });
  socket.send("first", far.port, PEER); // netd keeps few that wait for a neighbour
  await until("the first to be heard", () => heard.length === 1);
  more(socket);
  await until("all to be heard", () => heard.length === count + 1);
  expect(refusals).toBeGreaterThan(5);
  const from = `${OWN} ${socket.port}`;
  expect(heard.slice(1)).toEqual(Array.from({ length: count }, (_, i) => `${from} ${i}`));
  expect(socket.sendMany(["a", far.port, PEER, "b", far.port, PEER])).toBe(2);
  await until("both to be heard", () => heard.length === count + 3);
  far.close();
});

test("too long, no address, a port that is taken: told so", async () => {
  const socket = await bind({ socket: {} });
  expect(() => socket.send(new Uint8Array(1473), 7, PEER)).toThrow(
    /1473 bytes to 10.77.0.2: EMSGSIZE \(at most 1472\)/,
  );
  expect(() => socket.send(new Uint8Array(1453), 7, "fd77::2")).toThrow(/EMSGSIZE \(at most 1452\)/);
  expect(() => socket.send("x", 7, "example.org")).toThrow('"example.org" is no IPv4 or IPv6 address');
  await expect(bind({ port: socket.port, socket: {} })).rejects.toThrow(
    /listen to udp port \d+ on nd0: exists/,
  );
  const held = await rig.lab.daemon.run(() => Bun.udpSocket({ hostname: OWN, port: 5353 }));
  const refused = await bind({ port: 5353, socket: {} }).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(Refused);
  expect(refused).toMatchObject({ code: "kernel_port" });
  held.close();
  await bind({ port: 5353, socket: {} });
});

test("no daemon, no such card: told what to do", async () => {
  await expect(attach({ interface: "nd0", server: `${rig.scratch.path}/none.sock` })).rejects.toThrow(
    /attach to nd0: connect .*none.sock: ENOENT \(no netd serves it: netd --interface NAME\)/,
  );
  await expect(
    attach({ interface: "eth7", server: rig.control, directory: rig.scratch.path }),
  ).rejects.toThrow("attach to eth7: no_interface (netd serves another card)");
});
