// usnetd's configuration, taken as it is: its variables, from a file in dotenv form or from the environment, which wins
// over the file. They count if INTERFACES is among them (usnetd requires it). What each becomes:
//
//   INTERFACES     interface.name, and switch.firewall: usnetd's kernel gets only what is opened for it
//   ALLOW_GID      switch.group                      ADD_MACS       switch.macs
//   DEBUG_PORTS    switch.open                       STATIC_PIPES   switch.static
//   NO_ZERO_COPY   interface.copy = "copy"           PCAP_LOG       log.capture
//   NO_HOST_RINGS  nothing is open for the kernel    RUST_LOG       log.level
//
// Source: usnetd's README; dotenv 0.13 (the crate that it reads its file with).
import { readFileSync } from "node:fs";
import { ConfigError, type Setting } from "./sources.ts";

const NAMES = [
  "INTERFACES",
  "ALLOW_GID",
  "DEBUG_PORTS",
  "STATIC_PIPES",
  "ADD_MACS",
  "NO_HOST_RINGS",
  "NO_ZERO_COPY",
  "PCAP_LOG",
  "RUST_LOG",
] as const;
type Name = (typeof NAMES)[number];

const LEVELS: Readonly<Record<string, string>> = {
  error: "error",
  warn: "warn",
  info: "info",
  debug: "info",
  trace: "info",
};

/** KEY=VALUE, with or without `export`; a value as it stands, in '...' as it stands, or in "..." with escapes. */
const LINE =
  /^\s*(?:export\s+)?([A-Za-z_][\w.]*)\s*=\s*(?:'([^']*)'|"((?:[^"\\]|\\.)*)"|([^\s#'"][^#'"]*?)?)\s*(?:#.*)?$/;

/** The variables of a file in dotenv form. @throws ConfigError naming the lines that are none */
export function readDotenv(text: string, file: string): Map<string, string> {
  const found = new Map<string, string>();
  const faults: string[] = [];
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(#.*)?$/.test(line)) continue;
    const match = LINE.exec(line);
    if (!match) {
      faults.push(`config file ${file}:${i + 1}: expected NAME=VALUE`);
      continue;
    }
    const [, name, single, double, plain = ""] = match;
    const unescaped = double?.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
    found.set(name!, single ?? unescaped ?? plain);
  }
  if (faults.length > 0) throw new ConfigError(faults);
  return found;
}

/** Whether a file is usnetd's: it sets INTERFACES, which is in no TOML of ours. */
const isUsnetds = (text: string): boolean => /^\s*(?:export\s+)?INTERFACES\s*=/m.test(text);

/** "eth0:TCP:22:10.0.0.1" of this interface as "tcp:22:10.0.0.1". */
function endpoints(name: Name, list: string, ifname: string): string[] {
  return list.split(",").map((entry) => {
    const [own, protocol = "", ...rest] = entry.trim().split(":");
    if (own !== ifname) throw new ConfigError([`${name}: "${entry}" is not of the interface ${ifname}`]);
    if (!/^(TCP|UDP|ICMP)$/.test(protocol))
      throw new ConfigError([`${name}: "${entry}" is neither TCP, UDP nor ICMP`]);
    return [protocol.toLowerCase(), ...rest].join(":");
  });
}

/** usnetd's variables as settings. @param from where each is set, for errors */
export function fromUsnetd(
  variables: ReadonlyMap<Name, string>,
  from: (name: Name) => string = (name) => name,
): Setting[] {
  const ifnames = (variables.get("INTERFACES") ?? "").split(",").map((name) => name.trim());
  const [ifname = ""] = ifnames;
  if (ifnames.length > 1)
    throw new ConfigError([
      `INTERFACES is "${ifnames.join()}" (${from("INTERFACES")}): one netd serves one card; start one for each`,
    ]);
  const settings: Setting[] = [];
  const add = (name: Name, key: string, value: unknown) => settings.push({ key, value, from: from(name) });
  add("INTERFACES", "interface.name", ifname);
  add("INTERFACES", "switch.firewall", true);
  for (const [name, value] of variables) {
    if (value === "") continue;
    if (name === "ALLOW_GID") add(name, "switch.group", value);
    else if (name === "DEBUG_PORTS") add(name, "switch.open", endpoints(name, value, ifname));
    else if (name === "STATIC_PIPES") add(name, "switch.static", endpoints(name, value, ifname));
    else if (name === "ADD_MACS") add(name, "switch.macs", value.toLowerCase());
    else if (name === "NO_ZERO_COPY" && value === "true") add(name, "interface.copy", "copy");
    else if (name === "PCAP_LOG") add(name, "log.capture", value);
    else if (name === "RUST_LOG") {
      // env_logger's: "debug", or "usnetd=debug,other=warn"
      const level = LEVELS[value.split(",")[0]!.split("=").at(-1)!.toLowerCase()];
      if (level) add(name, "log.level", level);
    }
  }
  if (variables.get("NO_HOST_RINGS") === "true") add("NO_HOST_RINGS", "switch.open", []);
  return settings;
}

/** What usnetd's file, if `file` is one, and its variables in the environment say. */
export function usnetdSettings(
  file: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
): { readonly isFile: boolean; readonly settings: Setting[] } {
  let text = "";
  try {
    if (file !== undefined) text = readFileSync(file, "utf8");
  } catch {
    // Not ours to say: whoever reads it as another form does.
  }
  const isFile = isUsnetds(text);
  const inFile = isFile ? readDotenv(text, file!) : new Map<string, string>();
  const variables = new Map<Name, string>();
  for (const name of NAMES) {
    const value = env[name] ?? inFile.get(name);
    if (value !== undefined) variables.set(name, value);
  }
  if (!variables.has("INTERFACES")) return { isFile, settings: [] };
  const from = (name: Name): string => (env[name] === undefined ? `${file}:${name}` : name);
  return { isFile, settings: fromUsnetd(variables, from) };
}
