// The command line, and the entry of the compiled binary. It reads arguments, makes the configuration, and hands over:
// to the lab or the daemon (loaded only then: they open libbpf and libxdp), to `show` and `lookup`, to `config`.
// Expected failures end with one message on stderr: exit code 2 for a wrong call, 1 for anything else.
import { existsSync } from "node:fs";
import { Command, CommanderError, Option } from "commander";
import { version } from "../package.json";
import { SysError } from "../ffi/errno.ts";
import { type ListName, lists } from "./admin.ts";
import { Refusal } from "./ask.ts";
import type { Config, RunOptions } from "./config.ts";
import { FORMS, type Form } from "./filter/program.ts";
import { grantProgram } from "./grantprogram.ts";
import { nearest } from "./nearest.ts";
import { coloured, drained, print, style } from "./out.ts";
import { parseLookup, QueryError } from "./query.ts";
import { usnetdSettings } from "./usnetd.ts";
import { ConfigError, fromEnvironment, type Loaded, loadConfig, type Setting } from "./sources.ts";

/** A wrong call: exit code 2. */
class UsageError extends Error {}

/** Flags that set a configuration key: [flag, what it is for, key]. */
const configFlags: readonly [string, string, string][] = [
  ["--interface <name>", "the network interface to share; without it, the lab", "interface.name"],
  ["--netns <name|path>", "network namespace of the interface", "interface.netns"],
  ["--queues <all|list>", 'receive queues to serve, such as "0,1"', "interface.queues"],
  ["--mode <mode>", "attach the XDP program: auto, native or skb", "interface.mode"],
  ["--copy <mode>", "how frames reach userspace: auto, zerocopy or copy", "interface.copy"],
  ["--poll <mode>", "how net Workers wait: busy, adaptive or interrupt", "poll.mode"],
  ["--cores <list>", "CPUs to pin net Workers to, in the order of the queues", "poll.cores"],
  ["--admin <path>", "the admin socket", "admin.socket"],
  ["--log <level>", "error, warn or info", "log.level"],
];

const collect = (value: string, before: string[] = []): string[] => [...before, value];

/** The option's name as commander keeps it: "--interface <name>" -> "interface". */
const optionName = (flag: string): string => flag.slice(2).split(" ")[0]!;

/** Adds the flags that make a configuration; every command has them. */
function withConfig(command: Command): Command {
  for (const [flag, description] of configFlags) command.option(flag, description);
  return command
    .option("--echo <[address:]port>", "serve UDP echo here (repeatable)", collect)
    .option("--set <key=value>", "set any key of the configuration (repeatable)", collect)
    .option("--config <file>", "configuration file, TOML or JSON (also NETD_CONFIG)");
}

/** The flags of a call, as settings. */
function fromFlags(given: Record<string, unknown>): Setting[] {
  const settings: Setting[] = [];
  for (const [flag, , key] of configFlags) {
    const value = given[optionName(flag)];
    if (value !== undefined) settings.push({ key, value, from: flag.split(" ")[0]! });
  }
  const echo = given["echo"] as string[] | undefined;
  if (echo) {
    const value = echo.map((text) => `echo:${text}`).join(",");
    settings.push({ key: "services", value, from: "--echo" });
  }
  for (const text of (given["set"] as string[] | undefined) ?? []) {
    const at = text.indexOf("=");
    if (at < 1) throw new UsageError(`--set ${text}: expected KEY=VALUE, such as poll.mode=busy`);
    settings.push({ key: text.slice(0, at), value: text.slice(at + 1), from: "--set" });
  }
  return settings;
}

function configure(given: Record<string, unknown>): Loaded {
  const file = (given["config"] as string | undefined) ?? process.env["NETD_CONFIG"];
  const usnetd = usnetdSettings(file || undefined, process.env);
  return loadConfig(usnetd.isFile ? undefined : file || undefined, [
    ...usnetd.settings,
    ...fromEnvironment(process.env),
    ...fromFlags(given),
  ]);
}

/** How this program was called, for hints that can be copied. */
function self({ admin }: Config, from: Loaded["from"]): string {
  const compiled = import.meta.path.startsWith("/$bunfs/");
  const name = compiled ? process.execPath : "./run netd";
  return from.has("admin.socket") ? `${name} --admin ${admin.socket}` : name;
}

const seconds = (text: string): number => {
  const value = Number(text);
  if (value > 0 && value <= 2_000_000) return value;
  throw new UsageError(`--duration is "${text}": expected a number of seconds`);
};

/** The daemon on the interface of the configuration, or the lab if that names none. */
async function runNetd(given: Record<string, unknown>): Promise<number> {
  const { config, from } = configure(given);
  const options: RunOptions = {
    json: given["json"] === true,
    self: self(config, from),
    ...(given["duration"] !== undefined && { duration: seconds(given["duration"] as string) }),
  };
  if (given["demo"] !== undefined && config.interface.name !== undefined)
    throw new UsageError("--demo is about the lab, and --interface about a card");
  if (config.interface.name !== undefined) return (await import("./card.ts")).runCard(config, options);
  if (config.interface.netns !== undefined)
    throw new UsageError("--netns needs --interface: the lab makes its own namespaces");
  if (given["demo"] === "grants") return (await import("./lab/grants.ts")).runGrants(config, options);
  return (await import("./lab/demo.ts")).runLab(config, options);
}

const examples = `
Examples:
  netd                                    the lab: two namespaces, real frames, a live table; Ctrl-C ends it
  netd --duration 10 --json               the same for ten seconds, for a program to read
  netd --interface eth0 --echo 7          share eth0, answer UDP port 7 from userspace
  netd --interface eth0 --queues 0,1 --poll busy --cores 2,3
  netd --config /etc/netd.toml            all of it from a file; NETD_POLL_MODE=busy and --set poll.mode=busy win over it
  netd show routes                        what the running daemon knows of the kernel's routes
  netd lookup 10.0.0.1                    where a packet to there would go, and why
  netd capture -w - tcp port 80 | wireshark -k -i -
  netd config --schema                    JSON Schema of the configuration file`;

/** The command line. `finish` is told the exit code of a command that ran. */
function program(finish: (code: number) => void): Command {
  const root = withConfig(new Command("netd"))
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, "netd: ")) })
    .description(
      "Shares one network card, and one IP address, between the kernel and userspace network stacks.",
    )
    .version(version, "-V, --version")
    .option("--duration <seconds>", "end after so many seconds")
    .option("--json", "for programs: one JSON object a second, and a summary")
    .addOption(
      new Option("--demo <name>", "what the lab shows: traffic, or grants").choices(["traffic", "grants"]),
    )
    .addHelpText("after", examples)
    .showSuggestionAfterError()
    .enablePositionalOptions()
    .allowExcessArguments()
    .action(async (given, { args: [unknown] }: Command) => {
      if (unknown === undefined) return finish(await runNetd(given));
      // As usnetd is called: with its configuration file.
      if (existsSync(unknown)) return finish(await runNetd({ config: unknown, ...given }));
      const near = nearest(unknown, names());
      throw new UsageError(
        `no command "${unknown}"${near ? `; did you mean ${near}?` : "; see netd --help"}`,
      );
    });
  const names = () => root.commands.map((command) => command.name());
  // Flags of `netd` itself also count when they stand before the command: netd --admin PATH show links.
  const all = (command: Command): Record<string, unknown> => ({ ...root.opts(), ...command.opts() });

  withConfig(root.command("config"))
    .description("print the effective configuration, and where each key was set")
    .allowExcessArguments(false)
    .option("--schema", "print the JSON Schema of the configuration instead")
    .option("--json", "as JSON instead of TOML")
    .action(async (_given, command: Command) => {
      const { jsonSchema, toToml } = await import("./dump.ts");
      const given = all(command);
      if (given["schema"]) await print(`${JSON.stringify(jsonSchema(), null, 2)}\n`);
      else {
        const loaded = configure(given);
        await print(given["json"] ? `${JSON.stringify(loaded.config, null, 2)}\n` : toToml(loaded));
      }
      finish(0);
    });

  const asking = (command: Command) => {
    const given = all(command);
    const { config } = configure(given);
    return { socket: config.admin.socket, json: given["json"] === true, style: style(coloured()) };
  };
  const socketFlags = (command: Command) =>
    command
      .option("--json", "for programs: JSON as `ip -j` has it")
      .option("--admin <path>", "the daemon's admin socket")
      .option("--config <file>", "the daemon's configuration file");

  socketFlags(root.command("show"))
    .description("show what the running daemon knows")
    .allowExcessArguments(false)
    .argument("[what]", `${lists.join(", ")} or summary`, "summary")
    .action(async (what: string, _given, command: Command) => {
      if (what !== "summary" && !(lists as readonly string[]).includes(what))
        throw new UsageError(`show ${what}: expected ${lists.join(", ")} or summary`);
      await (await import("./show.ts")).show(what as ListName | "summary", asking(command));
      finish(0);
    });

  socketFlags(root.command("lookup"))
    .description("where the daemon would send a packet, and why")
    .allowExcessArguments(false)
    .argument("<address>", "destination, IPv4 or IPv6")
    .option("--from <address>", "source address")
    .option("--oif <name>", "outgoing interface")
    .option("--tos <0-255>", "TOS byte")
    .addOption(new Option("--flow <proto:sport:dport>", "which flow, such as udp:40000:53, for multipath"))
    .action(async (address: string, given: Record<string, string>, command: Command) => {
      const query = new URLSearchParams({ address });
      for (const name of ["from", "oif", "tos", "flow"])
        if (given[name] !== undefined) query.set(name, given[name]);
      parseLookup(query);
      await (await import("./show.ts")).lookup(query, asking(command));
      finish(0);
    });

  root
    .command("capture")
    .description("frames of the running daemon, both directions, each with what became of it")
    .option("--admin <path>", "the daemon's admin socket")
    .option("--config <file>", "the daemon's configuration file")
    .option("-w, --write <file>", "pcapng into a file, or - for stdout; without it, a line a frame")
    .argument("[filter...]", "which frames: pcap-filter(7), such as tcp port 80")
    .action(async (filter: string[], given: { write?: string }, command: Command) => {
      const { capture } = await import("./pcap.ts");
      const stop = new AbortController();
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort());
      const socket = configure(all(command)).config.admin.socket;
      await capture({ socket, write: given.write, filter: filter.join(" "), stop: stop.signal });
      finish(0);
    });

  const formOption = () =>
    new Option("--form <form>", "words as tcpdump -d, numbers as tcpdump -ddd, json, or js as it is run")
      .choices(FORMS)
      .default("words");
  const filters = root.command("filter").description("packet filters: classic BPF");
  filters
    .command("compile")
    .description("compile libpcap's language, such as: udp and dst port 53")
    .argument("<text...>", "pcap-filter(7); - reads texts from stdin, and prints a line of numbers for each")
    .addOption(formOption())
    .action(async (text: string[], given: { form: Form }) => {
      const { compileLines, compileText } = await import("./bytecode.ts");
      if (text.length === 1 && text[0] === "-") await compileLines();
      else await compileText(text.join(" "), given.form);
      finish(0);
    });
  filters
    .command("check")
    .description("check a program as the daemon does, and print it")
    .argument("[file]", "what tcpdump -ddd printed; stdin if missing", "-")
    .addOption(formOption())
    .action(async (file: string, given: { form: Form }) => {
      const { checkFile } = await import("./bytecode.ts");
      await checkFile(file, given.form);
      finish(0);
    });

  grantProgram(root, finish);

  const kernelFlags = (command: Command) =>
    command
      .allowExcessArguments(false)
      .option("--json", "one object a line, in the shape of `ip -j`")
      .option("--netns <name|path|pid>", "network namespace; its own if missing");
  const kernel = async (names: readonly string[], command: Command) => {
    const parts = await import("./kernel.ts");
    const kinds = names.map((name) => {
      const kind = parts.kernelKind(name);
      if (kind === undefined)
        throw new UsageError(`${command.name()} ${name}: expected ${parts.KERNEL_KINDS.join(", ")}`);
      return kind;
    });
    const given = all(command);
    const netns = given["netns"] as string | undefined;
    return { ...parts, kinds, options: { netns, json: given["json"] === true, style: style(coloured()) } };
  };

  kernelFlags(root.command("dump"))
    .description("show what the kernel has, without a daemon")
    .argument("<kind>", "links, addrs, routes, nexthops, neighs or rules")
    .action(async (name: string, _given, command: Command) => {
      const { dump, kinds, options } = await kernel([name], command);
      await dump(kinds[0]!, options);
      finish(0);
    });

  kernelFlags(root.command("monitor"))
    .description("show what changes in the kernel, as it happens")
    .argument("[kinds...]", "as for dump; all of them if missing")
    .action(async (names: string[], _given, command: Command) => {
      const { monitor, kinds, options } = await kernel(names, command);
      const stop = new AbortController();
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort());
      await monitor(kinds, options, stop.signal);
      finish(0);
    });
  return root.usage(
    `[options]                     run the daemon, or the lab\n       netd ${names().join("|")} [options]`,
  );
}

/** Runs the command line. Returns the exit code. */
async function main(args: readonly string[]): Promise<number> {
  let code = 0;
  const root = program((result) => {
    code = result;
  });
  try {
    await root.parseAsync(args, { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2; // it has said why
    const usage = error instanceof UsageError || error instanceof QueryError || error instanceof ConfigError;
    const expected = usage || error instanceof SysError || error instanceof Refusal;
    const { message, stack } = error as Error;
    const text = expected ? message : `${message} (NETD_DEBUG=1 shows where)`;
    console.error(process.env["NETD_DEBUG"] ? stack : text.replace(/^/gm, "netd: "));
    return usage ? 2 : 1;
  }
}

const code = await main(process.argv.slice(2));
await drained();
process.exit(code || Number(process.exitCode ?? 0));
