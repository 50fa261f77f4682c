// An asker as a process of its own, which can be another user's and can be killed: askerchild.ts SERVER PATH. Each line of
// its input is a request; for each it prints a line: what it heard (undefined: null) as JSON, or the errno of sending.
// With a third argument, a request, it sends that as quickly as it can, until it is killed, and reads nothing.
import { Asker } from "./asker.ts";

const [server, path, flood] = process.argv.slice(2);
const asker = new Asker(path!);
while (flood !== undefined) asker.send(server!, flood);
for await (const line of console) {
  const sent = asker.send(server!, line);
  console.log(JSON.stringify(sent < 0 ? { errno: -sent } : (asker.hear(2000) ?? null)));
}
