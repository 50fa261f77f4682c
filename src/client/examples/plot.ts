// How many packets a second come for a UDP port, as a plot that goes on in the terminal; the packets end here.
//   bun src/client/examples/plot.ts eth0 9000 [SECONDS] [CONTROL SOCKET]
import { attach } from "netd/client";

const [ifname = "eth0", port = "9000", seconds = "Infinity", server] = Bun.argv.slice(2);
const STEP_MS = 100;
const BARS = " ▁▂▃▄▅▆▇█";
const width = process.stdout.columns ?? 60;

using channel = await attach({ interface: ifname, listen: [{ proto: "udp", port: Number(port) }], server });
let packets = 0;
let bytes = 0;
const rates: number[] = [];

const scaled = (value: number): string => {
  const power = value < 1e3 ? 0 : value < 1e6 ? 1 : 2;
  return `${(value / 1000 ** power).toFixed(power)}${["", "k", "M"][power]}`;
};

function draw(): void {
  rates.push((packets * 1000) / STEP_MS);
  const shown = rates.slice(-(width - 24));
  const top = Math.max(...shown, 1);
  const bars = shown.map((rate) => BARS[Math.ceil((rate / top) * (BARS.length - 1))]).join("");
  const bits = scaled((bytes * 8000) / STEP_MS);
  const text = `${scaled(rates.at(-1)!).padStart(6)}/s ${bits.padStart(6)}bit/s ${bars}`;
  process.stdout.write(process.stdout.isTTY ? `\r\x1b[K${text}` : `${text}\n`);
  packets = bytes = 0;
}

const timer = setInterval(draw, STEP_MS);
setTimeout(() => channel.close(), Math.min(Number(seconds) * 1000, 2 ** 31 - 1)).unref();
while (await channel.ready())
  while (
    channel.poll(({ n, len }) => {
      packets += n;
      for (let i = 0; i < n; i++) bytes += len[i]!;
    }) > 0
  );
clearInterval(timer);
