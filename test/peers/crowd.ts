// A crowd of clients, as a process of its own: `crowd.ts SERVER DIRECTORY IFNAME CLIENTS MATCHES ADDRESS`. It attaches CLIENTS
// of them with MATCHES matches each, says "ready", and then obeys lines: "churn RATE SECONDS" lets one leave and another come
// in its place RATE times a second, and says how many did and how far behind it was at the end, as JSON. Ends with stdin.
import { RawClient } from "./client.ts";

const [server, directory, ifname, clients, matches, address] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
  string,
];
const count = Number(clients);
const each = Number(matches);
const FIRST_PORT = 10_000;

/** Client `i`'s matches: its own ports, of TCP or UDP. */
function attach(i: number): RawClient {
  const client = RawClient.attach(server, directory, ifname);
  try {
    for (let k = 0; k < each; k++) {
      const n = i * each + k;
      client.match({ protocol: n % 2 ? 6 : 17, dst: address, dport: FIRST_PORT + (n >> 1) });
    }
    return client;
  } catch (error) {
    client.close();
    throw error;
  }
}

const crowd = Array.from({ length: count }, (_, i) => attach(i));
console.log("ready");

async function churn(rate: number, seconds: number): Promise<object> {
  const start = performance.now();
  let done = 0;
  for (;;) {
    const now = performance.now() - start;
    if (now >= seconds * 1000) break;
    for (const due = (now * rate) / 1000; done < due; done++) {
      const i = (done * 7919) % count;
      // Half of them say goodbye, the others just go.
      if (done % 2) crowd[i]!.tell('"DeleteClient"');
      crowd[i]!.close();
      for (;;)
        try {
          crowd[i] = attach(i);
          break;
        } catch (error) {
          // The one that just went is noticed a moment later, and its ports are still its own.
          if (!/ER/.test(String(error))) throw error;
          await Bun.sleep(1);
        }
    }
    await Bun.sleep(1);
  }
  return { done, wanted: Math.floor(rate * seconds), seconds: (performance.now() - start) / 1000 };
}

for await (const line of console) {
  const [word, rate, seconds] = line.split(" ");
  if (word === "churn") console.log(JSON.stringify(await churn(Number(rate), Number(seconds))));
}
for (const client of crowd) client.close();
process.exit(0);
