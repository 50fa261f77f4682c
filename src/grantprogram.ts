// `netd grants ...`: its part of the command line. What the commands do is in grantcommands.ts, loaded when one is called.
import type { Command } from "commander";
import type * as Commands from "./grantcommands.ts";

const collect = (value: string, before: string[] = []): string[] => [...before, value];

/** Adds `grants` and what is below it. `finish` is told the exit code of a command that ran. */
export function grantProgram(root: Command, finish: (code: number) => void): void {
  const grants = root.command("grants").description("signed grants: who may have what of a card");
  const run = async (what: (commands: typeof Commands) => Promise<number | undefined>): Promise<void> => {
    const commands = await import("./grantcommands.ts");
    finish((await commands.explained(() => what(commands))) ?? 0);
  };
  const asking = (command: Command): Command =>
    command
      .requiredOption("--server <url>", "permission server: https://HOST:PORT or unix:PATH")
      .requiredOption("--key <file>", "the asker's key")
      .option("--ca <file>", "PEM of who signed the server's certificate");

  grants
    .command("keygen")
    .description(
      "make an Ed25519 key; prints its thumbprint, or with --issuer its public half as a daemon reads it",
    )
    .argument("<file>", "where the key goes, mode 0600")
    .option("--issuer <name>", "the name that it signs by")
    .action((file: string, given) => run(({ keygen }) => keygen(file, given)));

  grants
    .command("serve")
    .description("serve as permission server until SIGINT or SIGTERM")
    .requiredOption("--policy <file>", "TOML: the issuer's name, and who may ask for what")
    .requiredOption("--key <file>", "what it signs with")
    .requiredOption("--listen <url>", "https://HOST:PORT, unix:PATH, or http:// on loopback")
    .requiredOption("--state <url>", "sqlite:FILE, or etcd://HOST:PORT/PREFIX for a fleet")
    .option("--previous <file>", "a key that it signed with before (repeatable)", collect)
    .option("--cert <file>", "certificate, PEM")
    .option("--cert-key <file>", "its key, PEM")
    .option("--audit <file>", "log of decisions, a JSON object a line; stdout if missing")
    .option("--list-seconds <seconds>", "most age of its revocation list", "60")
    .action((given) => run(({ serve }) => serve(given)));

  asking(grants.command("issue"))
    .description("ask for a grant")
    .requiredOption("--host <name>", "for which daemon (repeatable)", collect)
    .requiredOption(
      "--allow <json>",
      'a detail, such as {"protocols":["tcp"],"ports":[8080]} (repeatable)',
      collect,
    )
    .option("--seconds <seconds>", "how long", "3600")
    .option("--for <file>", "public key whose it will be; the asker's if missing")
    .option("--subject <name>", "whose it is, for people")
    .action((given) => run(({ issue }) => issue(given)));

  asking(grants.command("renew"))
    .description("ask for the same grant again, from now on")
    .argument("<file>", "the grant")
    .action((file: string, given) => run(({ renew }) => renew(file, given)));

  asking(grants.command("revoke"))
    .description("end grants before their time")
    .argument("[ids...]", "serial numbers (jti)")
    .option("--grant <file>", "a chain whose last link ends")
    .option("--why <text>", "for the log")
    .action((ids: string[], given) => run(({ revoke }) => revoke(ids, given)));

  asking(grants.command("list"))
    .description("grants that have not ended: one's own, or for an admin all")
    .action((given) => run(({ list }) => list(given)));

  grants
    .command("inspect")
    .description(
      "what a grant, a revocation list or a key file says; with --issuer and --host whether it is good",
    )
    .argument("<file>", "one link a line; - for stdin")
    .option("--issuer <file>", "keys of who is believed, as a daemon reads them")
    .option("--host <name>", "a daemon's name")
    .action((file: string, given) => run(({ inspect }) => inspect(file, given)));

  grants
    .command("prove")
    .description(
      "for a program that has no library for it: a Challenge's answer in, the request that presents the grant out",
    )
    .argument("<file>", "the grant, one link a line")
    .requiredOption("--key <file>", "the holder's key")
    .action((file: string, given) => run(({ prove }) => prove(file, given)));

  grants
    .command("attenuate")
    .description("narrow a grant and hand it on: prints the chain with another link")
    .argument("<file>", "the grant, one link a line")
    .requiredOption("--key <file>", "the holder's key")
    .requiredOption("--for <file>", "public key of who gets it")
    .requiredOption("--allow <json>", "a detail (repeatable)", collect)
    .option("--seconds <seconds>", "how long; until its parent's end if missing")
    .option("--subject <name>", "whose it is, for people")
    .action((file: string, given) => run(({ attenuate }) => attenuate(file, given)));
}
