// Whatever comes to a socket: frames with bits turned over, cut off, or made of nothing are dropped, nothing is thrown, what it
// answers has right checksums, and the next whole datagram is answered as ever. netd's end of the channel is here.
import { expect, setDefaultTimeout, test } from "bun:test";
import { check } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { Channel } from "../../src/client/channel.ts";
import { UdpSocket } from "../../src/client/client.ts";
import { Requests } from "../../src/client/request.ts";
import { UnixPipe } from "../../src/client/unixpipe.ts";
import { Random } from "../random.ts";
import * as f from "../switch/packets.ts";
import { until } from "../net/wait.ts";

setDefaultTimeout(60_000);

const SEED = Number(process.env["NETD_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
const ROUNDS = Number(process.env["NETD_ROUNDS"] ?? 3000);
const PORT = 5000;
const SELF = { mtu: 1500, mac: "02:00:00:00:77:01", addresses: ["10.77.0.1", "fd77::1"] };
const MSG_DONTWAIT = 0x40;

/** The one's complement sum of a part of a frame, with the words of a pseudo header before it: 0xffff if it is right. */
function sum(bytes: Uint8Array, ...before: number[]): number {
  let total = before.reduce((a, b) => a + b, 0);
  for (let i = 0; i < bytes.length; i += 2) total += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

/** Whether an answer is whole: lengths and checksums. */
function isWhole(frame: Uint8Array): boolean {
  const six = frame[14]! >> 4 === 6;
  const udp = 14 + (six ? 40 : 20);
  const addresses = frame.subarray(six ? 22 : 26, udp);
  const length = (frame[udp + 4]! << 8) | frame[udp + 5]!;
  const right = sum(frame.subarray(udp), sum(addresses), 17, length) === 0xffff;
  return right && udp + length === frame.length && (six || sum(frame.subarray(14, 34)) === 0xffff);
}

test(`${ROUNDS} damaged frames (seed ${SEED})`, async () => {
  const random = new Random(SEED);
  const fds = new Int32Array(new ArrayBuffer(8));
  check("socketpair", libc.socketpair(1, 2 | 0o2004000, 0, ptr(fds)));
  const [near, far] = [fds[0]!, fds[1]!];
  const errors: Error[] = [];
  const channel = new Channel("nd0", new Requests("none"), new UnixPipe(far, 1514), SELF);
  using socket = new UdpSocket(channel, PORT, undefined, {
    data: (self, data, port, address) => void self.send(data, port, address),
    error: (_, error) => void errors.push(error),
  });
  const room = new Uint8Array(new ArrayBuffer(2048));
  const heard = (): Uint8Array[] => {
    const frames: Uint8Array[] = [];
    for (;;) {
      const n = Number(libc.recvfrom(near, ptr(room), room.length, MSG_DONTWAIT, null, null));
      if (n < 0) return frames;
      frames.push(room.slice(0, n));
    }
  };
  const send = (frame: Uint8Array): void => {
    const copy = new Uint8Array(new ArrayBuffer(Math.max(frame.length, 1)));
    copy.set(frame);
    libc.sendto(near, ptr(copy), frame.length, MSG_DONTWAIT, null, 0);
  };
  const whole = [
    f.udpPacket({ dport: PORT }),
    f.udpPacket({ src: f.THEM6, dst: f.US6, dport: PORT }),
    f.arp(),
    new Uint8Array(60),
  ];
  const ask = async (): Promise<void> => {
    // Over the Unix socket the neighbour must be known: netd's answer to the socket's question.
    let answers: Uint8Array[] = [];
    await until("an answer", async () => {
      for (const frame of heard()) {
        if (frame[12] === 8 && frame[13] === 6) send(arpAnswer(frame));
        else answers.push(frame);
      }
      answers = answers.filter((frame) => frame[12] === 8 && frame[23] === 17);
      if (answers.length > 0) return true;
      send(whole[0]!);
      await Bun.sleep(1);
      return false;
    });
    for (const answer of answers) expect(isWhole(answer)).toBe(true);
  };
  await ask();
  for (let i = 0; i < ROUNDS; i++) {
    const frame = random.pick(whole).slice();
    for (let n = random.below(4) + 1; n > 0; n--) {
      const at = random.chance(70) ? random.below(Math.min(60, frame.length)) : random.below(frame.length);
      frame[at] = random.chance(50) ? frame[at]! ^ (1 << random.below(8)) : random.below(256);
    }
    send(random.chance(30) ? frame.subarray(0, random.below(frame.length)) : frame);
    if (i % 32 === 31) await new Promise((resolve) => setImmediate(resolve));
    if (i % 500 === 499) await ask();
  }
  await ask();
  expect(socket.closed).toBe(false);
  expect(socket.dropped).toBeGreaterThan(0);
  libc.close(near);
});

/** The answer to an ARP request. */
function arpAnswer(request: Uint8Array): Uint8Array {
  const answer = request.slice();
  answer.set(request.subarray(6, 12), 0);
  answer.set([2, 0, 0, 0, 0x77, 2], 6);
  answer[21] = 2;
  answer.set([2, 0, 0, 0, 0x77, 2], 22);
  answer.set(request.subarray(38, 42), 28);
  answer.set(request.subarray(22, 28), 32);
  answer.set(request.subarray(28, 32), 38);
  return answer;
}
