// What a capture says of clients' frames: where they came from, who got them, what was dropped and why; and log.capture
// (usnetd's PCAP_LOG), which has them all.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { LAB_LLADDR, LAB_PEER_LLADDR } from "../../src/lab/lab.ts";
import { type Packet, readPcapng, tcpdump } from "../capture/pcapng.ts";
import { curl, patternHash } from "../peers/pattern.ts";
import { command, Scratch } from "./child.ts";
import { frame, pattern } from "./packet.ts";
import { OWN, PEER, SwitchRig } from "./switch.ts";
import { until } from "./wait.ts";

setDefaultTimeout(60_000);

const size = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0;

test("clients' frames, by verdict and client; the log of everything", async () => {
  using files = new Scratch();
  const log = join(files.path, "log.pcapng");
  const file = join(files.path, "some.pcapng");
  let pid = 0;
  let wire: Packet[] = [];
  {
    await using rig = await SwitchRig.start({}, "--set", `log.capture=${log}`);
    const capture = Bun.spawn(
      command(["capture", "--admin", rig.scratch.socket, "-w", file, "tcp port 8080 or udp port 5555"]),
      { stdin: "ignore", stderr: "inherit" },
    );
    await until("the capture to begin", () => size(file) > 0);
    const lwip = await rig.lwip();
    pid = lwip.child.pid;
    await lwip.match("tcp", OWN, 8080);
    await lwip.tell("http 8080");
    for (const before of [rig.far, rig.near]) {
      const got = await curl(`http://${OWN}:8080/5000`, before);
      expect(got).toMatchObject({ code: 0, hash: patternHash(5000) });
    }
    // Another client, that sends from an address which is nobody's.
    using raw = rig.raw();
    raw.send(
      frame({
        srcMac: LAB_LLADDR,
        dstMac: LAB_PEER_LLADDR,
        src: "10.77.0.66",
        dst: PEER,
        sport: 5555,
        dport: 5555,
        payload: pattern(10, 1),
      }),
    );
    const written = () => {
      try {
        return readPcapng(readFileSync(file)).packets;
      } catch {
        return []; // the last block is not whole yet
      }
    };
    await until("the forged one", () => written().some(({ comment }) => comment.includes("dropped")));
    capture.kill("SIGINT");
    expect(await capture.exited).toBe(0);
    wire = written();
  }

  const client = new RegExp(`client=\\d+ pid=${pid} uid=0`);
  const port = (packet: Packet, at: number) => packet.data.readUInt16BE(34 + at);
  const of = (verdict: string) => wire.filter(({ comment }) => comment.startsWith(`verdict=${verdict} `));
  const to = of("to_client");
  expect(to.length).toBeGreaterThan(8);
  for (const packet of to) {
    expect(packet.comment).toMatch(client);
    expect(port(packet, 2)).toBe(8080);
    // From the wire, or from this host.
    expect(packet.direction).toBe(packet.data.readUInt32BE(26) === 0x0a4d0002 ? 1 : 0);
  }
  expect(new Set(to.map(({ direction }) => direction))).toEqual(new Set([0, 1]));
  for (const verdict of ["sent", "to_kernel"]) {
    const from = of(verdict);
    expect(from.length).toBeGreaterThan(4);
    for (const packet of from) {
      expect(packet.comment).toMatch(new RegExp(`^verdict=${verdict} from ${client.source}`));
      expect([packet.direction, port(packet, 0)]).toEqual([2, 8080]);
    }
  }
  const [dropped, ...others] = of("dropped");
  expect(others).toEqual([]);
  expect(dropped!.comment).toMatch(/^verdict=dropped reason=\w+ from client=\d+ pid=\d+ uid=0/);
  expect(dropped!.data.readUInt32BE(26)).toBe(0x0a4d0042);

  // The log has that, and the rest: ARP, too. tcpdump's own filter finds the same frames in it.
  const all = readPcapng(readFileSync(log)).packets;
  expect(all.some(({ data }) => data.readUInt16BE(12) === 0x0806)).toBe(true);
  expect(statSync(log).mode & 0o777).toBe(0o600);
  expect(tcpdump(log, "tcp port 8080 or udp port 5555").length).toBe(wire.length);
});
