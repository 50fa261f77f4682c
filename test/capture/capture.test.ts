// From a net Worker's frames to pcapng: the ring, filters, what is lost, who gets what. Read back by the format's own
// rules and by tcpdump.
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pcapCompile } from "../../ffi/libpcap.ts";
import { Captures, type Session, type Sink } from "../../src/capture/capture.ts";
import { Recorder } from "../../src/capture/recorder.ts";
import { captureBytes, RING_BYTES } from "../../src/capture/region.ts";
import { captureResponse } from "../../src/capture/stream.ts";
import { PcapngText } from "../../src/capture/text.ts";
import { Origin, Verdict } from "../../src/capture/verdict.ts";
import { decode } from "../../src/filter/program.ts";
import { Region } from "../../src/mem/region.ts";
import { Scratch } from "../net/child.ts";
import { frame, pattern } from "../net/packet.ts";
import { until } from "../net/wait.ts";
import { readPcapng, tcpdump } from "./pcapng.ts";

setDefaultTimeout(30_000);

const regions: Region[] = [];
afterEach(() => {
  for (const region of regions.splice(0)) region.close();
});

function make(workers = 1): { captures: Captures; recorders: Recorder[] } {
  const own = Array.from({ length: workers }, (_, i) => Region.create(`test-capture-${i}`, captureBytes));
  regions.push(...own);
  const captures = new Captures(own, {
    ifname: "eth7",
    application: "netd test",
    reasons: ["sent", "runt", "spoofed"],
    client: (slot) => `client=${slot} pid=${slot + 100}`,
  });
  return { captures, recorders: own.map(({ buffer }) => new Recorder(buffer)) };
}

class Collected {
  readonly pieces: Uint8Array[] = [];
  waiting = 0;
  ended = false;
  write(bytes: Uint8Array<ArrayBuffer>): void {
    this.pieces.push(bytes);
  }
  backlog(): number {
    return this.waiting;
  }
  end(): void {
    this.ended = true;
  }
  read() {
    return readPcapng(Buffer.concat(this.pieces));
  }
}

function begin(captures: Captures, recorders: Recorder[], filter?: string): [Collected, Session] {
  const sink = new Collected();
  const session = captures.open(sink, filter === undefined ? undefined : decode(pcapCompile(filter, 65536)));
  if (!session) throw new Error("no session");
  for (const recorder of recorders) recorder.refresh();
  return [sink, session];
}

/** Some frame memory with `bytes` at `off`. */
function memory(bytes: Uint8Array, off: number): Int32Array {
  const words = new Int32Array(((off + bytes.length) >> 2) + 3).fill(-1);
  new Uint8Array(words.buffer).set(bytes, off);
  return words;
}

const datagram = (dport: number, bytes = 20): Uint8Array =>
  frame({
    srcMac: "02:00:00:00:00:01",
    dstMac: "02:00:00:00:00:02",
    src: "10.0.0.1",
    dst: "10.0.0.2",
    sport: 4000,
    dport,
    payload: pattern(bytes, dport),
  });

test("frames of every length and alignment come out as they were, with what became of them", () => {
  const { captures, recorders } = make();
  const [recorder] = recorders as [Recorder];
  const [sink, session] = begin(captures, recorders);
  const before = Date.now() * 1000;
  const given: Uint8Array[] = [];
  for (let length = 0; length < 200; length++)
    for (let off = 0; off < 4; off++) {
      const bytes = pattern(length, length * 4 + off);
      given.push(bytes);
      const words = memory(bytes, off);
      if (length % 2) recorder.frame(words, off, length, Origin.card, Verdict.toClient, 3);
      else {
        recorder.begin(words, off, length, Origin.client);
        words.fill(0); // it is a copy
        recorder.end(2, -1, 5);
      }
    }
  session.close();
  const { application, ifname, packets, lost } = sink.read();
  expect({ application, ifname, lost }).toEqual({ application: "netd test", ifname: "eth7", lost: 0 });
  expect(packets.map(({ data }) => data.toString("hex"))).toEqual(
    given.map((bytes) => Buffer.from(bytes).toString("hex")),
  );
  for (const { length, comment, direction, micros } of packets) {
    const odd = length % 2 === 1;
    expect(comment).toBe(
      odd ? "verdict=to_client client=3 pid=103" : "verdict=dropped reason=spoofed from client=5 pid=105",
    );
    expect(direction).toBe(odd ? 1 : 2);
    expect(micros).toBeGreaterThanOrEqual(before - 1000);
    expect(micros).toBeLessThanOrEqual(Date.now() * 1000 + 1000);
  }
});

test("tcpdump reads it, and prints the same frames", () => {
  using scratch = new Scratch();
  const { captures, recorders } = make();
  const [sink, session] = begin(captures, recorders);
  for (const port of [7, 53, 8080]) {
    const bytes = datagram(port, port % 100);
    recorders[0]!.frame(memory(bytes, 2), 2, bytes.length, Origin.card, Verdict.toKernel);
  }
  session.close();
  const file = join(scratch.path, "a.pcapng");
  writeFileSync(file, Buffer.concat(sink.pieces));
  const lines = tcpdump(file);
  expect(lines.length).toBe(3);
  expect(lines[1]).toContain("10.0.0.1.4000 > 10.0.0.2.53:");
  expect(lines.join("\n")).toContain("02:00:00:00:00:01 > 02:00:00:00:00:02");
  expect(tcpdump(file, "port 8080").length).toBe(1);
});

test("each session has its filter, and gets nothing of before or of another's", () => {
  const { captures, recorders } = make();
  const [recorder] = recorders as [Recorder];
  const put = (port: number) => {
    const bytes = datagram(port);
    recorder.frame(memory(bytes, 2), 2, bytes.length, Origin.card, Verdict.toKernel);
  };
  const ports = (sink: Collected) => sink.read().packets.map(({ data }) => data.readUInt16BE(36));
  const [first, one] = begin(captures, recorders, "udp dst port 7");
  const [second, two] = begin(captures, recorders, "udp dst port 8 or udp dst port 7");
  for (const port of [7, 8, 9]) put(port);
  one.close();
  // The Worker has not heard of the end yet: what it records for the old session is not the new one's, of the same number.
  const third = new Collected();
  const three = captures.open(third, decode(pcapCompile("udp dst port 9")))!;
  put(7);
  recorder.refresh();
  for (const port of [7, 8, 9]) put(port);
  two.close();
  three.close();
  recorder.refresh();
  expect(recorder.on).toBe(0);
  expect(ports(first)).toEqual([7]);
  expect(ports(second)).toEqual([7, 8, 7, 7, 8]);
  expect(ports(third)).toEqual([9]);
});

test("a filter's answer is how much of a frame is kept", () => {
  const { captures, recorders } = make();
  const sink = new Collected();
  const session = captures.open(sink, decode(pcapCompile("udp", 40)))!;
  recorders[0]!.refresh();
  const bytes = datagram(7, 500);
  recorders[0]!.frame(memory(bytes, 2), 2, bytes.length, Origin.card, Verdict.toKernel);
  session.close();
  const [packet] = sink.read().packets;
  expect(packet!.length).toBe(bytes.length);
  expect(packet!.data).toEqual(Buffer.from(bytes.subarray(0, 40)));
});

test("a full ring loses what is newest, says how many, and goes on; around its end nothing is torn", () => {
  const { captures, recorders } = make();
  const [recorder] = recorders as [Recorder];
  for (let round = 0; round < 2; round++) {
    const [sink, session] = begin(captures, recorders);
    const given: Uint8Array[] = [];
    const all = Math.ceil(RING_BYTES / 900);
    for (let i = 0; i < all; i++) {
      const bytes = datagram(1 + (i % 60000), 900 + ((i * 7) % 90) + round);
      recorder.frame(memory(bytes, 2), 2, bytes.length, Origin.card, Verdict.toKernel);
      given.push(bytes);
    }
    session.close();
    const { packets, lost } = sink.read();
    expect(packets.length).toBeGreaterThan(all / 2);
    expect(packets.length + lost).toBe(all);
    expect(packets.every(({ data }, i) => data.equals(given[i]!))).toBe(true);
  }
});

test("a reader that stands still loses frames, and is told how many", async () => {
  const { captures, recorders } = make();
  const [sink, session] = begin(captures, recorders);
  const put = () => {
    const bytes = datagram(7);
    recorders[0]!.frame(memory(bytes, 2), 2, bytes.length, Origin.card, Verdict.toKernel);
  };
  put();
  await until("it to come", () => sink.read().packets.length === 1);
  sink.waiting = 1 << 30;
  put();
  put();
  await until("the loss to be told", () => sink.read().lost === 2);
  sink.waiting = 0;
  put();
  session.close();
  const { packets, lost } = sink.read();
  expect([packets.length, lost]).toEqual([2, 2]);
});

test("two Workers' frames come in the order of time", () => {
  const { captures, recorders } = make(2);
  const [sink, session] = begin(captures, recorders);
  for (let i = 0; i < 200; i++) {
    const bytes = datagram(i + 1);
    recorders[(i * 7) % 3 === 0 ? 0 : 1]!.frame(memory(bytes, 2), 2, bytes.length, Origin.host, Verdict.sent);
  }
  session.close();
  const { packets } = sink.read();
  const times = packets.map(({ micros }) => micros);
  expect(times).toEqual(times.toSorted((a, b) => a - b));
  expect(packets.length).toBe(200);
});

test("four at once and no more; the end of the daemon ends them", () => {
  const { captures, recorders } = make();
  const sinks = [0, 1, 2, 3].map(() => begin(captures, recorders)[0]);
  expect(captures.open(new Collected())).toBeUndefined();
  captures.close();
  expect(sinks.every(({ ended }) => ended)).toBe(true);
});

test("what comes over the admin socket is a program or is refused", async () => {
  const { captures } = make();
  const ask = (body: Uint8Array<ArrayBuffer>) =>
    captureResponse(captures, new Request("http://netd/capture", { method: "POST", body }));
  for (const bytes of [Uint8Array.of(1, 2, 3), new Uint8Array(8).fill(255), new Uint8Array(4097 * 8)]) {
    const response = await ask(bytes);
    expect(response.status).toBe(400);
    expect(((await response.json()) as { error: string }).error).toContain("filter");
  }
  const response = await ask(pcapCompile("tcp"));
  expect(response.status).toBe(200);
  const reader = response.body!.getReader();
  expect(readPcapng(Buffer.from((await reader.read()).value!)).ifname).toBe("eth7");
  await reader.cancel();
  const four = await Promise.all([1, 2, 3, 4].map(() => ask(new Uint8Array(0))));
  expect(four.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  expect((await ask(new Uint8Array(0))).status).toBe(503);
  captures.close();
});

test("a reader that is gone ends its own session, once, and no other", async () => {
  const { captures, recorders } = make();
  const recorder = recorders[0]!;
  let writes = 0;
  const gone: Sink = {
    write: () => {
      if (++writes > 1) throw new TypeError("Invalid state: Controller is already closed");
    },
    backlog: () => 0,
    end: () => {
      throw new Error("it is over already");
    },
  };
  const broken = captures.open(gone)!;
  const [sink, session] = begin(captures, recorders);
  const put = (bytes: Uint8Array) => {
    recorder.refresh();
    recorder.frame(memory(bytes, 2), 2, bytes.length, Origin.card, Verdict.toKernel);
  };
  put(new Uint8Array(60));
  await Bun.sleep(30); // several times what a drain waits
  expect(writes).toBe(2);
  put(new Uint8Array(61));
  broken.close();
  session.close();
  expect(writes).toBe(2);
  expect(readPcapng(Buffer.concat(sink.pieces)).packets.map((packet) => packet.length)).toEqual([60, 61]);
  recorder.refresh();
  expect(recorder.on).toBe(0); // net Workers copy nothing any more
  captures.close();
});

test("lines for people", () => {
  const { captures, recorders } = make();
  const [sink, session] = begin(captures, recorders);
  const put = (bytes: Uint8Array, origin: number) =>
    recorders[0]!.frame(memory(bytes, 2), 2, bytes.length, origin, Verdict.toKernel);
  put(datagram(7), Origin.card);
  put(datagram(8).subarray(0, 36), Origin.client);
  put(datagram(9).subarray(0, 10), Origin.host);
  session.close();
  const text = new PcapngText();
  const all = Buffer.concat(sink.pieces);
  let lines = "";
  for (let at = 0; at < all.length; at += 5) lines += text.push(all.subarray(at, at + 5));
  expect(lines.replace(/^\d\d:\d\d:\d\d\.\d{6}/gm, "TIME").split("\n")).toEqual([
    "TIME in  10.0.0.1:4000 > 10.0.0.2:7 udp 62: verdict=to_kernel",
    "TIME out 10.0.0.1 > 10.0.0.2 udp 36: verdict=to_kernel",
    "TIME     runt 10: verdict=to_kernel",
    "",
  ]);
});
