// usnetd's configuration, as its README has it, becomes ours; what netd cannot do with it is said, with the line.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError, loadConfig } from "../../src/sources.ts";
import { readDotenv, usnetdSettings } from "../../src/usnetd.ts";
import { netd } from "./netd.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const dir = mkdtempSync(join(tmpdir(), "netd-usnetd-"));
afterAll(() => rmSync(dir, { recursive: true }));

let number = 0;
function file(text: string): string {
  const path = join(dir, `usnetd-${++number}.conf`);
  writeFileSync(path, text);
  return path;
}
const load = (text: string, env: Record<string, string> = {}) => {
  const { isFile, settings } = usnetdSettings(file(text), env);
  expect(isFile).toBe(true);
  return loadConfig(undefined, settings).config;
};
const refusal = (text: string): string => {
  try {
    load(text);
  } catch (error) {
    if (error instanceof ConfigError) return error.message.replaceAll(`${dir}/`, "");
    throw error;
  }
  throw new Error("no ConfigError");
};

describe("the file", () => {
  test("of usnetd's README", () => {
    const {
      interface: card,
      switch: clients,
      log,
    } = load("RUST_LOG=debug\nINTERFACES=eth0\nDEBUG_PORTS=eth0:TCP:22\nALLOW_GID=1000\n");
    expect(card.name).toBe("eth0");
    expect(clients).toMatchObject({ firewall: true, open: ["tcp:22"], group: 1000, static: [] });
    expect(clients.sockets).toContain("/run/usnetd.socket");
    expect(log.level).toBe("info");
  });

  test("every variable", () => {
    const config = load(
      [
        "export INTERFACES='eth0'   # the card",
        'DEBUG_PORTS="eth0:TCP:22:10.0.0.9,eth0:ICMP,eth0:UDP:53"',
        "STATIC_PIPES=eth0:TCP:8080,eth0:ICMP:10.0.0.2",
        "ADD_MACS=02:00:00:00:00:AA,02:00:00:00:00:02",
        "NO_ZERO_COPY=true",
        "NO_HOST_RINGS=false",
        "PCAP_LOG=/var/log/netd.pcapng",
        "RUST_LOG=usnetd=warn,other=trace",
        "OTHER=is not ours",
      ].join("\r\n"),
    );
    expect(config.switch).toMatchObject({
      open: ["tcp:22:10.0.0.9", "icmp", "udp:53"],
      static: ["tcp:8080", "icmp:10.0.0.2"],
      macs: ["02:00:00:00:00:aa", "02:00:00:00:00:02"],
    });
    expect(config.interface.copy).toBe("copy");
    expect(config.log).toEqual({ level: "warn", capture: "/var/log/netd.pcapng" });
  });

  test("NO_HOST_RINGS and NO_ZERO_COPY count where they are exactly true", () => {
    const open = (text: string) => load(`INTERFACES=eth0\nDEBUG_PORTS=eth0:TCP:22\n${text}`).switch.open;
    expect(open("NO_HOST_RINGS=true")).toEqual([]);
    for (const value of ["True", "1", "yes", ""]) expect(open(`NO_HOST_RINGS=${value}`)).toEqual(["tcp:22"]);
    expect(load("INTERFACES=eth0\nNO_ZERO_COPY=1").interface.copy).toBe("auto");
  });

  test("dotenv's forms", () => {
    const text = [
      "A=1",
      "  B = two words  # no",
      "export C='it''s'".replace("''", ""),
      'D="a\\"b\\\\c\\nd"',
      "E=",
      "# F=6",
      "",
      "G='#'",
    ];
    expect(Object.fromEntries(readDotenv(text.join("\n"), "f"))).toEqual({
      A: "1",
      B: "two words",
      C: "its",
      D: 'a"b\\c\nd',
      E: "",
      G: "#",
    });
    expect(() => readDotenv("A=1\nno\nB='x", "f")).toThrow("f:2: expected NAME=VALUE\nconfig file f:3");
  });

  test("faults name where they are", () => {
    expect(refusal("INTERFACES=eth0,eth1")).toContain("one netd serves one card");
    expect(refusal("INTERFACES=eth0\nDEBUG_PORTS=eth1:TCP:22")).toContain(
      '"eth1:TCP:22" is not of the interface eth0',
    );
    expect(refusal("INTERFACES=eth0\nDEBUG_PORTS=eth0:GRE")).toContain("neither TCP, UDP nor ICMP");
    expect(refusal("INTERFACES=eth0\nDEBUG_PORTS=eth0:TCP:99999")).toMatch(
      /switch\.open\.0 is "tcp:99999" \(usnetd-\d+\.conf:DEBUG_PORTS\)/,
    );
    expect(refusal("INTERFACES=eth0\nALLOW_GID=users")).toMatch(/switch\.group is "users" .*ALLOW_GID/);
    expect(refusal("INTERFACES=eth0\nADD_MACS=02:00")).toMatch(/switch\.macs\.0 is "02:00" .*ADD_MACS/);
  });
});

test("the real environment wins over the file, and counts without one if it has INTERFACES", () => {
  const path = "INTERFACES=eth0\nALLOW_GID=1000\n";
  expect(load(path, { ALLOW_GID: "2000" }).switch.group).toBe(2000);
  const alone = usnetdSettings(undefined, { INTERFACES: "eth7", RUST_LOG: "error" });
  expect(loadConfig(undefined, alone.settings).config).toMatchObject({
    interface: { name: "eth7" },
    log: { level: "error" },
  });
  expect(usnetdSettings(undefined, { RUST_LOG: "trace", PCAP_LOG: "x", ALLOW_GID: "1" }).settings).toEqual(
    [],
  );
});

test("by --config and NETD_CONFIG, beside our own forms; NETD_ variables and flags win over it", async () => {
  const path = file("INTERFACES=eth0\nALLOW_GID=1000\nDEBUG_PORTS=eth0:TCP:22\n");
  const ways: { args: string[]; env: Record<string, string> }[] = [
    { args: ["--config", path], env: {} },
    { args: [], env: { NETD_CONFIG: path } },
  ];
  for (const how of ways) {
    const { code, out } = await netd(["config", ...how.args, "--set", "switch.firewall=false"], {
      env: { ...how.env, NETD_SWITCH_GROUP: "7" },
    });
    expect(code).toBe(0);
    expect(out).toContain(`name = "eth0"  # ${path}:INTERFACES`);
    expect(out).toContain("group = 7  # NETD_SWITCH_GROUP");
    expect(out).toContain("firewall = false  # --set");
    expect(out).toContain(`open = ["tcp:22"]  # ${path}:DEBUG_PORTS`);
  }
  // A TOML file that only mentions the word is none of usnetd's.
  const toml = file('# INTERFACES = of usnetd\n[interface]\nname = "eth1"\n');
  expect((await netd(["config", "--config", toml])).out).toContain('name = "eth1"');
});

test("as usnetd is called, with the file as its argument", async () => {
  const path = file("INTERFACES=netd-none\nALLOW_GID=1000\n");
  const { code, err } = await netd([path, "--admin", join(dir, "admin.sock")]);
  expect({ code, err }).toEqual({
    code: 1,
    err: expect.stringContaining("open interface netd-none: ENODEV"),
  });
});
