import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { type Config, defaultConfig } from "../../src/config.ts";
import { jsonSchema, toToml } from "../../src/dump.ts";
import { ConfigError, fromEnvironment, keys, loadConfig, type Setting, variable } from "../../src/sources.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const dir = mkdtempSync(join(tmpdir(), "netd-config-"));
afterAll(() => rmSync(dir, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
}

const set = (key: string, value: unknown, from = "--set"): Setting => ({ key, value, from });

/** The lines of the ConfigError that `load` throws, with the temporary directory taken out. */
function faults(load: () => unknown): string[] {
  try {
    load();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message.replaceAll(`${dir}/`, "").split("\n");
  }
  throw new Error("no ConfigError");
}

describe("sources", () => {
  test("nothing given is the default, and each call makes its own", () => {
    expect(loadConfig(undefined, []).config).toEqual(defaultConfig());
    expect(defaultConfig().poll.cores).not.toBe(defaultConfig().poll.cores);
    expect(loadConfig(undefined, []).from.size).toBe(0);
  });

  test("defaults < file < environment < flags, key by key", () => {
    const path = file(
      "order.toml",
      '[poll]\nmode = "busy"\nidleMicroseconds = 1\n[rings]\nrx = 64\ntx = 64\n',
    );
    const env = fromEnvironment({ NETD_POLL_MODE: "interrupt", NETD_RINGS_RX: "128", PATH: "/bin" });
    const { config, from } = loadConfig(path, [...env, set("rings.rx", "256", "--set")]);
    expect(config.poll).toEqual({ mode: "interrupt", idleMicroseconds: 1, cores: [] });
    expect(config.rings).toEqual({ fill: 2048, completion: 2048, rx: 256, tx: 64 });
    expect(Object.fromEntries(from)).toEqual({
      "poll.mode": "NETD_POLL_MODE",
      "poll.idleMicroseconds": `${path}:poll.idleMicroseconds`,
      "rings.rx": "--set",
      "rings.tx": `${path}:rings.tx`,
    });
  });

  test("a later list replaces an earlier one, whole", () => {
    const path = file(
      "list.toml",
      '[[services]]\nservice = "echo"\nport = 1\n[[services]]\nservice = "echo"\nport = 2\n',
    );
    expect(loadConfig(path, []).config.services).toHaveLength(2);
    expect(loadConfig(path, [set("services", "echo:3")]).config.services).toEqual([
      { service: "echo", port: 3 },
    ]);
  });

  test("the same from TOML and from JSON", () => {
    const value = { interface: { name: "eth0", queues: [0, 3] }, services: [{ service: "echo", port: 7 }] };
    const toml = 'services = [{ service = "echo", port = 7 }]\n[interface]\nname = "eth0"\nqueues = [0, 3]\n';
    const json = loadConfig(file("same.json", JSON.stringify(value)), []).config;
    expect(json).toEqual(loadConfig(file("same.toml", toml), []).config);
    expect(json.interface.queues).toEqual([0, 3]);
  });

  test("text becomes numbers, lists and services", () => {
    const from = fromEnvironment({
      NETD_INTERFACE_QUEUES: "2, 5",
      NETD_POLL_CORES: "1",
      NETD_UMEM_FRAME_BYTES: "4096",
      NETD_SOLICIT_PER_HOST_SECONDS: "0.25",
      NETD_SERVICES: "echo:7,echo:10.77.0.1:9",
    });
    const { config } = loadConfig(undefined, from);
    expect(config.interface.queues).toEqual([2, 5]);
    expect(config.poll.cores).toEqual([1]);
    expect(config.umem.frameBytes).toBe(4096);
    expect(config.solicit.perHostSeconds).toBe(0.25);
    expect(config.services).toEqual([
      { service: "echo", port: 7 },
      { service: "echo", address: "10.77.0.1", port: 9 },
    ]);
    expect(loadConfig(undefined, [set("interface.queues", "all")]).config.interface.queues).toBe("all");
    expect(loadConfig(undefined, [set("poll.cores", "")]).config.poll.cores).toEqual([]);
  });

  test("an empty variable counts as not set; NETD_DEBUG and NETD_CONFIG are no keys", () => {
    expect(fromEnvironment({ NETD_POLL_MODE: "", NETD_DEBUG: "1", NETD_CONFIG: "x", HOME: "/" })).toEqual([]);
  });

  test("each key has its own variable", () => {
    expect(new Set(keys.map(variable)).size).toBe(keys.length);
    expect(variable("poll.idleMicroseconds")).toBe("NETD_POLL_IDLE_MICROSECONDS");
  });
});

describe("errors name the key, the value, where it came from and what was expected", () => {
  test("in a file, all of them at once", () => {
    const path = file(
      "bad.toml",
      [
        'mode = "busy"',
        "[poll]",
        'mode = "bsy"',
        "idleMicrosecond = 3",
        "cores = [1, 1]",
        "[interface]",
        'name = "not a name"',
        "[rings]",
        "rx = 1000",
        "[umem]",
        'frames = "many"',
        "[solicit]",
        "perHostSeconds = -1",
        "[[services]]",
        'service = "chargen"',
        "port = 70000",
        'adress = "10.0.0.1"',
        "[[services]]",
        'service = "echo"',
      ].join("\n"),
    );
    expect(faults(() => loadConfig(path, [])).toSorted()).toEqual(
      [
        `interface.name is "not a name" (bad.toml:interface.name): expected an interface name: 1 to 15 characters without '/', ':' or spaces`,
        'poll.mode is "bsy" (bad.toml:poll.mode): expected busy, adaptive or interrupt',
        "unknown key poll.idleMicrosecond (bad.toml:poll.idleMicrosecond); did you mean poll.idleMicroseconds?",
        "poll.cores is [1,1] (bad.toml:poll.cores): expected a list of different CPU numbers from 0 to 1023",
        "rings.rx is 1000 (bad.toml:rings.rx): expected a power of two from 64 to 32768",
        'umem.frames is "many" (bad.toml:umem.frames): expected a whole number of frames from 128 to 1048576',
        "solicit.perHostSeconds is -1 (bad.toml:solicit.perHostSeconds): expected a number of seconds from 0 to 3600",
        'services.0.service is "chargen" (bad.toml:services): expected "echo"',
        "services.0.port is 70000 (bad.toml:services): expected a whole number from 1 to 65535",
        "unknown key services.0.adress (bad.toml:services); did you mean services.0.address?",
        'services.1.port is missing (bad.toml:services): expected a service such as { service = "echo", port = 7 }',
        "unknown key mode (bad.toml:mode); did you mean interface.mode?",
      ].toSorted(),
    );
  });

  test.each([
    [
      "interface.queues",
      "0,x",
      'interface.queues is [0,"x"] (--queues): expected "all", or a list of different',
    ],
    ["interface.queues", "", 'interface.queues is [] (--queues): expected "all"'],
    ["interface.mode", "fast", 'interface.mode is "fast" (--queues): expected auto, native or skb'],
    ["admin.socket", "x".repeat(108), 'admin.socket is "xxxxx'],
    ["services", "echo", "services.0.port is missing (--queues)"],
    ["services", "echo:fd00::1:7", 'services.0.address is "fd00::1" (--queues): expected an IPv4 address'],
    [
      "poll.idleMicroseconds",
      "1.5",
      "poll.idleMicroseconds is 1.5 (--queues): expected a whole number of micros",
    ],
    ["poll.idleMicroseconds", "0x10", 'poll.idleMicroseconds is "0x10" (--queues): expected a whole number'],
    ["umem.frames", "4095", "umem.frames is 4095 (--queues): expected at least as many frames as rings.fill"],
    [
      "rings.fill",
      "32768",
      "umem.frames is 8192 (default): expected at least as many frames as rings.fill and",
    ],
    ["poll", "busy", 'poll is "busy" (--queues): expected a table of keys'],
    ["poll.mod", "busy", "unknown key poll.mod (--queues); did you mean poll.mode?"],
    ["__proto__.x", "1", "unknown key __proto__ (--queues)"],
  ])("%s=%s from a flag", (key, value, expected) => {
    expect(faults(() => loadConfig(undefined, [set(key, value, "--queues")]))[0]).toStartWith(expected);
  });

  test("from the environment", () => {
    const env = { NETD_POL_MODE: "busy", NETD_INTERFACE: "eth0", NETD_XYZZY: "1" };
    expect(faults(() => fromEnvironment(env))).toEqual([
      "unknown variable NETD_POL_MODE (environment); did you mean NETD_POLL_MODE?",
      "unknown variable NETD_INTERFACE (environment); did you mean NETD_INTERFACE_NAME?",
      "unknown variable NETD_XYZZY (environment)",
    ]);
    expect(faults(() => loadConfig(undefined, fromEnvironment({ NETD_POLL_MODE: "x" })))).toEqual([
      'poll.mode is "x" (NETD_POLL_MODE): expected busy, adaptive or interrupt',
    ]);
  });

  test("a file that is not there, not readable as what it is, or not a table", () => {
    const load = (path: string) => faults(() => loadConfig(path, []))[0];
    expect(load(join(dir, "none.toml"))).toBe(
      "config file none.toml: ENOENT (is the path right, and readable?)",
    );
    expect(load(dir)).toContain(": EISDIR (");
    expect(load(file("syntax.toml", "[poll]\nmode =\n"))).toMatch(
      /^config file syntax\.toml:2: TOML Parse error/,
    );
    const long =
      '[poll]\nmode = "busy"\n\n# a list\ncores = [\n  1,\n  2,\n]\nmode = "busy"\n[rings]\nrx = 64\n';
    expect(load(file("twice.toml", long))).toMatch(
      /^config file twice\.toml:9: TOML Parse error: Cannot redefine/,
    );
    expect(load(file("syntax.json", '{"poll":'))).toMatch(/^config file syntax\.json: JSON Parse error/);
    expect(load(file("list.json", "[1]"))).toBe("config file list.json: expected a table of keys");
  });

  test("an unknown table, one that has keys and one that is empty", () => {
    const load = (text: string) => faults(() => loadConfig(file("unknown.toml", text), []));
    expect(load("[colour]\nred = 1\n")).toEqual(["unknown key colour (unknown.toml:colour.red)"]);
    expect(load("[pol]\n")).toEqual(["unknown key pol (unknown.toml:pol); did you mean poll?"]);
  });

  test("a key of a file cannot reach Object.prototype", () => {
    const path = file("proto.json", '{"__proto__": {"polluted": 1}, "poll": {"__proto__": {"polluted": 1}}}');
    expect(faults(() => loadConfig(path, [])).toSorted()).toEqual([
      "unknown key __proto__ (proto.json:__proto__.polluted)",
      "unknown key poll.__proto__ (proto.json:poll.__proto__.polluted)",
    ]);
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  });
});

/** Any configuration that is valid. */
const configs: fc.Arbitrary<Config> = fc
  .record({
    name: fc.option(fc.stringMatching(/^[a-z][a-z0-9.@"'\\-]{0,14}$/), { nil: undefined }),
    netns: fc.option(fc.string({ minLength: 1 }), { nil: undefined }),
    queues: fc.oneof(
      fc.constant("all" as const),
      fc.uniqueArray(fc.nat(1023), { minLength: 1, maxLength: 5 }),
    ),
    mode: fc.constantFrom("auto", "native", "skb"),
    poll: fc.constantFrom("busy", "adaptive", "interrupt"),
    cores: fc.uniqueArray(fc.nat(1023), { maxLength: 5 }),
    ring: fc.constantFrom(64, 512, 4096),
    perHostSeconds: fc.double({ min: 0, max: 3600, noNaN: true }),
    services: fc.array(
      fc.record(
        {
          service: fc.constant("echo" as const),
          address: fc.ipV4(),
          port: fc.integer({ min: 1, max: 65535 }),
        },
        { requiredKeys: ["service", "port"] },
      ),
      { maxLength: 4 },
    ),
    socket: fc.string({ minLength: 1, maxLength: 20 }).filter((path) => !path.includes("\0")),
  })
  .map(({ name, netns, queues, mode, poll, cores, ring, perHostSeconds, services, socket }) => {
    const config = defaultConfig();
    Object.assign(config.interface, { queues, mode }, name && { name }, netns && { netns });
    Object.assign(config.poll, { mode: poll, cores });
    Object.assign(config.rings, { rx: ring });
    config.solicit.perHostSeconds = perHostSeconds;
    config.services = services;
    config.admin.socket = socket;
    return config;
  });

describe("printed", () => {
  test("as TOML it reads back as the same, whatever it is", () => {
    fc.assert(
      fc.property(configs, (config) => {
        const path = file("printed.toml", toToml({ config, from: new Map() }));
        expect(loadConfig(path, []).config).toEqual(config);
      }),
      { numRuns: 300 },
    );
  });

  test("with where each key was set", () => {
    const text = toToml(loadConfig(undefined, [set("poll.mode", "busy", "NETD_POLL_MODE")]));
    expect(text).toContain('mode = "busy"  # NETD_POLL_MODE\n');
    expect(text).toContain("idleMicroseconds = 200\n");
  });
});

type Node = {
  type?: string;
  properties?: Record<string, Node>;
  required?: string[];
  additionalProperties?: boolean;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  anyOf?: Node[];
  items?: Node;
  uniqueItems?: boolean;
};

describe("JSON Schema", () => {
  const schema = jsonSchema() as Node & { $schema: string; title: string };

  test("covers every key, with a description and the default that applies", () => {
    expect(schema.$schema).toBe("https://json-schema.org/draft/2020-12/schema");
    expect(schema.additionalProperties).toBe(false);
    const seen: string[] = [];
    const walk = (node: Node, path: string[]): void => {
      expect(node.description, path.join(".")).toBeString();
      if (node.properties) {
        expect(node.additionalProperties, path.join(".")).toBe(false);
        for (const [key, child] of Object.entries(node.properties)) walk(child, [...path, key]);
        return;
      }
      seen.push(path.join("."));
      const value = path.reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], defaultConfig());
      expect(node.default, path.join(".")).toEqual(value);
    };
    walk(schema, []);
    expect(seen).toEqual([...keys]);
  });

  test("says what the schema checks: enumerations, ranges, formats, different items", () => {
    const { interface: card, poll, rings, services } = schema.properties!;
    expect(poll!.properties!["mode"]).toMatchObject({ enum: ["busy", "adaptive", "interrupt"] });
    expect(poll!.properties!["idleMicroseconds"]).toMatchObject({
      type: "integer",
      minimum: 0,
      maximum: 10_000_000,
    });
    expect(rings!.properties!["rx"]!.enum).toContain(2048);
    expect(card!.properties!["queues"]!.anyOf).toMatchObject([
      { const: "all" },
      { type: "array", uniqueItems: true },
    ]);
    expect(services!.items).toMatchObject({ required: ["service", "port"], additionalProperties: false });
    expect(services!.items!.properties!["address"]).toMatchObject({ format: "ipv4" });
  });
});
