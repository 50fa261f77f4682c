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

/** Gives client `i` its matches: ports of its own, of TCP or UDP. */
function match(client: RawClient, i: number): RawClient {
  for (let k = 0; k < each; k++) {
    const n = i * each + k;
    client.match({ protocol: n % 2 ? 6 : 17, dst: address, dport: FIRST_PORT + (n >> 1) });
  }
  return client;
}

const attach = (i: number): RawClient => match(RawClient.attach(server, directory, ifname), i);

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
      // Half of them say goodbye, and others come. The other half begin anew at the same path, without a word.
      if (done % 2) {
        crowd[i]!.tell('"DeleteClient"');
        crowd[i]!.close();
        crowd[i] = attach(i);
      } else {
        crowd[i]!.open(ifname);
        match(crowd[i]!, i);
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
