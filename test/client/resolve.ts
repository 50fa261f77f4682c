// Asks a DNS server, as any program does, and prints what it says: resolve.ts SERVER TYPE NAME [TYPE NAME...]
import { Resolver } from "node:dns/promises";

const [server = "", ...questions] = Bun.argv.slice(2);
const resolver = new Resolver({ timeout: 3000, tries: 3 });
resolver.setServers([server]);
for (let i = 0; i < questions.length; i += 2)
  console.log(
    JSON.stringify(
      await resolver.resolve(questions[i + 1]!, questions[i]!).catch((error: { code: string }) => error.code),
    ),
  );
