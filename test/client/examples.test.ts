// The examples of netd/client as they are, each a program of its own beside a netd, against programs of the far side.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { OWN, OWN6, PEER, SwitchRig } from "../net/switch.ts";
import { UdpClient } from "../net/udp.ts";

setDefaultTimeout(60_000);

const ZONE = `$ORIGIN example.org.
$TTL 300
@        IN SOA ns hostmaster 1 7200 900 86400 60
@           NS  ns
@           MX  10 mail
ns          A   10.77.0.1
            AAAA fd77::1
www  60  IN CNAME web   ; an alias
web         A   192.0.2.1
web         A   192.0.2.2
text        TXT "one; two"
`;

let rig: SwitchRig;
beforeAll(async () => {
  rig = await SwitchRig.start();
});
afterAll(() => rig?.[Symbol.asyncDispose]());

/** Starts an example and waits for its first line. */
async function example(name: string, ...args: string[]) {
  const file = join(import.meta.dir, "../../src/client/examples", `${name}.ts`);
  const command = [process.execPath, file, rig.lab.ifname, ...args, rig.control];
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
  const reader = child.stdout.getReader();
  const decoder = new TextDecoder();
  let text = "";
  const more = async (): Promise<boolean> => {
    const { value, done } = await reader.read();
    text += decoder.decode(value);
    return !done;
  };
  while (!text.includes("\n") && (await more()));
  return {
    first: text.split("\n")[0]!,
    /** all that it says, once it has ended */
    async all() {
      while (await more());
      return text.trimEnd().split("\n");
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

test("echo", async () => {
  await using echo = await example("echo", "7000");
  expect(echo.first).toMatch(/^echo on nd0 port 7000, by (memif|unix)$/);
  for (const [from, to] of [
    [PEER, OWN],
    ["fd78::2", OWN6],
  ] as const) {
    using client = await UdpClient.open(rig.lab.peer, from);
    for (const bytes of [4, 1000]) await client.echo(to, 7000, { bytes });
  }
});

test("dns: what the zone has, an alias followed, and what there is not", async () => {
  const zone = join(rig.scratch.path, "zone");
  await Bun.write(zone, ZONE);
  await using dns = await example("dns", zone, "53");
  expect(dns.first).toMatch(/^example\.org\. on nd0 port 53/);
  const ask = async (server: string, ...questions: string[]): Promise<unknown[]> => {
    const command = [process.execPath, join(import.meta.dir, "resolve.ts"), server, ...questions];
    const child = Bun.spawn([...rig.far, ...command], { stdout: "pipe", stderr: "inherit" });
    const lines = (await child.stdout.text()).trim().split("\n");
    return lines.map((line) => JSON.parse(line) as unknown);
  };
  for (const server of [OWN, `[${OWN6}]:53`]) {
    const [a, aaaa, www, mx, txt, ns, soa] = await ask(
      server,
      ...["A", "web.example.org", "AAAA", "ns.example.org", "A", "WWW.example.org"],
      ...["MX", "example.org", "TXT", "text.example.org", "NS", "example.org", "SOA", "example.org"],
    );
    expect(a).toEqual(["192.0.2.1", "192.0.2.2"]);
    expect(aaaa).toEqual(["fd77::1"]);
    expect(www).toEqual(["192.0.2.1", "192.0.2.2"]);
    expect(mx).toEqual([expect.objectContaining({ exchange: "mail.example.org", priority: 10 })]);
    expect(txt).toEqual([["one; two"]]);
    expect(ns).toEqual(["ns.example.org"]);
    expect(soa).toMatchObject({ nsname: "ns.example.org", hostmaster: "hostmaster.example.org", minttl: 60 });
  }
  // What a resolver does not tell: the code of an answer, and what it is made of.
  const raw = async (query: Uint8Array): Promise<string> => {
    const { promise, resolve } = Promise.withResolvers<Buffer>();
    const socket = await rig.lab.peer.run(() =>
      Bun.udpSocket({ hostname: PEER, socket: { data: (_, data) => resolve(data) } }),
    );
    socket.send(query, 53, OWN);
    const heard = await promise;
    socket.close();
    expect(heard.readUInt16BE(0)).toBe(0x1234);
    return heard.toString("hex", 2, 12);
  };
  const question = (name: string, type: number): Uint8Array => {
    const labels = name.split(".").flatMap((label) => [label.length, ...Buffer.from(label)]);
    return Uint8Array.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, type, 0, 1]);
  };
  expect(await raw(question("web.example.org", 1))).toBe("85000001000200000000");
  expect(await raw(question("web.example.org", 28))).toBe("85000001000000010000"); // not of that type: SOA
  expect(await raw(question("nobody.example.org", 1))).toBe("85030001000000010000"); // NXDOMAIN
  expect(await raw(question("example.net", 1))).toBe("81050001000000000000"); // REFUSED
  expect(await raw(question("x.org", 1).subarray(0, 15))).toBe("81010000000000000000"); // FORMERR
  expect(await raw(Uint8Array.from([0x12, 0x34, 0x10, ...new Array<number>(9).fill(0)]))).toBe(
    "90040000000000000000", // NOTIMP
  );
});

test("plot: every packet is counted", async () => {
  const seconds = 1.5;
  await using plot = await example("plot", "9000", String(seconds));
  const socket = await rig.lab.peer.run(() => Bun.udpSocket({ hostname: PEER }));
  const sent = 500;
  for (let i = 0; i < sent; i++) {
    socket.send(new Uint8Array(100), 9000, OWN);
    if (i % 50 === 0) await Bun.sleep(5);
  }
  const lines = await plot.all();
  const rates = lines.map((line) => {
    const [, number, unit] = /^\s*([\d.]+)([kM]?)\/s\s+\S+bit\/s [ ▁▂▃▄▅▆▇█]*$/.exec(line)!;
    return Number(number) * (unit === "k" ? 1000 : 1);
  });
  expect(rates.length).toBeGreaterThan(5);
  expect(rates.reduce((sum, rate) => sum + rate / 10, 0)).toBeCloseTo(sent, -1);
  socket.close();
});
