// What can be wrong with a start: each is one clear line that says what to do, exit code 1, and nothing is left.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Lab } from "../../src/lab/lab.ts";
import { setLink } from "../../src/netlink/link.ts";
import { attachStranger } from "../xdp/bpf.ts";
import { cardState, ip, onCard } from "./card.ts";
import { NetdProcess, run, Scratch } from "./child.ts";
import { UdpClient } from "./udp.ts";

setDefaultTimeout(60_000);

let lab: Lab;
let scratch: Scratch;
let before: object;
beforeAll(() => {
  lab = Lab.create({ queues: 2 });
  for (let i = 0; i < 20; i++) lab.daemonHost.route({ dst: `203.0.113.${i}/32`, via: "10.77.0.2" });
  scratch = new Scratch();
  chmodSync(scratch.path, 0o777);
  before = cardState(lab);
});
afterAll(() => {
  scratch[Symbol.dispose]();
  lab.close();
});

/** Runs netd, which must fail; returns what it says, one line. Nothing of it may be left. */
async function failure(args: readonly string[], wrap: readonly string[] = []): Promise<string> {
  const { code, signal, out, err } = await run(scratch.socket, [...args, "--duration", "1"], wrap);
  expect({ code, signal, out }).toEqual({ code: 1, signal: null, out: "" });
  expect(err).toMatch(/^netd: .+\n$/); // one line
  expect(readdirSync(scratch.path)).toEqual([]);
  return err.slice("netd: ".length).trimEnd();
}

/** As failure, on the lab's card, which must be as it was. */
async function refusal(...more: string[]): Promise<string> {
  const said = await failure(onCard(lab, ...more));
  expect(cardState(lab)).toEqual(before);
  return said;
}

test("an interface that is not there", async () => {
  expect(await failure(["--interface", "nope0", "--netns", lab.daemon.path])).toBe(
    "open interface nope0: ENODEV (no such interface in this namespace; ip link shows them)",
  );
  expect(await failure(["--interface", "nope0"])).toStartWith("open interface nope0: ENODEV");
});

test("a namespace that is none", async () => {
  const failed = (netns: string) => failure(["--interface", "nd0", "--netns", netns]);
  expect(await failed("nowhere")).toBe(
    "open /run/netns/nowhere: ENOENT (a network namespace is a path, a pid, or a name that `ip netns` shows)",
  );
  expect(await failed("/proc/self/ns/mnt")).toBe(
    "open /proc/self/ns/mnt: EINVAL (this is not a network namespace)",
  );
  expect(await failed("/etc/passwd")).toBe("open /etc/passwd: EINVAL (this is not a network namespace)");
});

test("a queue that the card does not have", async () => {
  expect(await refusal("--queues", "0,2")).toBe("open nd0 queue 2: EINVAL (the card has queues 0 to 1)");
});

test("what is not an Ethernet device: lo, and a tunnel", async () => {
  const said = "EINVAL (not an Ethernet device)";
  expect(await failure(["--interface", "lo", "--netns", lab.daemon.path])).toBe(`open interface lo: ${said}`);
  ip(lab.daemonHost, "tuntap", "add", "tun7", "mode", "tun");
  expect(await failure(["--interface", "tun7", "--netns", lab.daemon.path])).toBe(
    `open interface tun7: ${said}`,
  );
});

test("an MTU that no frame holds", async () => {
  for (const [host, name] of [
    [lab.daemonHost, "nd0"],
    [lab.peerHost, "peer0"],
  ] as const)
    host.nl.call((m) => setLink(m, { name, mtu: 9000 }));
  try {
    expect(await refusal()).toBe(
      "choose a frame size for MTU 9000: EINVAL (a frame must fit one page beside its headroom: lower the card's MTU to at most 3496)",
    );
  } finally {
    lab.daemonHost.nl.call((m) => setLink(m, { name: "nd0", mtu: 1500 }));
    lab.peerHost.nl.call((m) => setLink(m, { name: "peer0", mtu: 1500 }));
  }
});

test("tables too small for the interface itself", async () => {
  expect(await refusal("--set", "netbase.links=1")).toBe(
    "open interface nd0: ENOSPC (not all interfaces fit: raise netbase.links)",
  );
});

test("tables too small for the machine: no error, but a warning, and it serves by what it has", async () => {
  const netd = await NetdProcess.running(scratch.socket, onCard(lab, "--set", "netbase.routes4=9"));
  using client = await UdpClient.open(lab.peer, "10.77.0.2");
  const { warnings, tables } = await netd.summary();
  expect(tables["routes4"]).toEqual({ used: 9, capacity: 9 });
  expect(warnings.join()).toMatch(/^routes4: \d+ did not fit \(capacity 9\); raise netbase\.routes4$/);
  await client.echo("10.77.0.1");
  const { code, err } = await netd.stop();
  expect({ code, err }).toEqual({ code: 0, err: `netd: warn: ${warnings[0]}\n` });
});

test("a CPU that is not there, for all net Workers or the last", async () => {
  expect(await refusal("--cores", "1000")).toMatch(/^net-0: pin to CPU 1000: EINVAL \(poll\.cores: see /);
  expect(await refusal("--cores", "0,1000")).toMatch(/^net-1: pin to CPU 1000: EINVAL/);
});

test("a foreign XDP program, in either mode: named, with who holds it; it stays", async () => {
  for (const mode of ["native", "skb"] as const) {
    const stranger = lab.daemon.run(() => attachStranger(lab.ifindex, mode));
    const occupied = cardState(lab);
    const said = await failure(onCard(lab));
    expect(said).toMatch(
      /^attach XDP to nd0 \(auto mode\): EBUSY \(XDP program \d+ "stranger" is on this card, held by PID \d+ /,
    );
    expect(said).toContain(`PID ${process.pid} `);
    expect(cardState(lab)).toEqual(occupied);
    stranger.close();
  }
  expect(cardState(lab)).toEqual(before);
});

test("a program that nobody holds, as `ip link` leaves it: how to take it off", async () => {
  const object = join(import.meta.dir, "../../build/steer.o");
  Bun.spawnSync(
    lab.daemonHost.command("ip", "link", "set", "dev", "nd0", "xdpgeneric", "obj", object, "sec", "xdp"),
  );
  expect(cardState(lab)).not.toEqual(before);
  expect(await failure(onCard(lab))).toMatch(
    / "steer" is on this card; take it off: ip link set dev nd0 xdpgeneric off/,
  );
  ip(lab.daemonHost, "link", "set", "dev", "nd0", "xdpgeneric", "off");
  expect(cardState(lab)).toEqual(before);
});

test("a second daemon on the card, and one on the other's admin socket: who is there; the first goes on", async () => {
  using other = new Scratch();
  await using first = await NetdProcess.running(other.socket, onCard(lab));
  using client = await UdpClient.open(lab.peer, "10.77.0.2");
  await client.echo("10.77.0.1");
  const taken = cardState(lab);
  expect(await failure(onCard(lab))).toMatch(
    new RegExp(
      `^attach XDP to nd0 .*another netd runs there, PID ${first.child.pid} \\(netd\\); stop it first`,
    ),
  );
  const second = await run(other.socket, ["--interface", "nope0", "--duration", "1"]);
  expect(second.err).toBe(
    `netd: admin socket ${other.socket}: EADDRINUSE (netd with pid ${first.child.pid} on nd0 serves it; stop it, or choose another path with --admin)\n`,
  );
  expect(second.code).toBe(1);
  await client.echo("10.77.0.1", 7, { every: 5000 });
  expect((await first.summary()).pid).toBe(first.child.pid);
  expect(cardState(lab)).toEqual(taken);
  expect((await first.stop()).code).toBe(0);
  expect(cardState(lab)).toEqual(before);
});

test("an admin socket's path that is no socket, or cannot be", async () => {
  const path = join(scratch.path, "file");
  writeFileSync(path, "mine");
  const said = async (socket: string) => (await run(socket, onCard(lab, "--duration", "1"))).err;
  expect(await said(path)).toBe(`netd: admin socket ${path}: EEXIST (not a socket; choose another path)\n`);
  expect(readFileSync(path, "utf8")).toBe("mine");
  expect(await said(join(path, "below.sock"))).toMatch(/^netd: admin socket .*below.sock: ENOTDIR/);
  expect(cardState(lab)).toEqual(before);
  await Bun.file(path).delete();
});

/** As user `nobody` in the card's namespace, with these capabilities alone. */
function unprivileged(...names: string[]): string[] {
  const list = ["-all", ...names.map((name) => `+${name}`)].join(",");
  const nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set", list];
  return lab.daemonHost.command("setpriv", ...nobody, `--inh-caps=${list}`, `--ambient-caps=${list}`);
}
const NEEDED = ["net_admin", "net_raw", "bpf", "perfmon", "ipc_lock"];
const here = ["--interface", "nd0", "--echo", "7"];

test("missing privileges: each by its name", async () => {
  const without = (name: string) => failure(here, unprivileged(...NEEDED.filter((other) => other !== name)));
  const load = "needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN";
  expect(await failure(here, unprivileged())).toBe(`load XDP program steer: EPERM (${load})`);
  const socket = "/etc/netd-control.sock";
  expect(await failure([...here, "--set", `switch.sockets=${socket}`], unprivileged())).toMatch(
    /^control socket .*: EACCES \(run netd as root, or choose paths .*switch.sockets\)$/,
  );
  expect(await without("bpf")).toBe(`load XDP program steer: EPERM (${load})`);
  expect(await without("perfmon")).toBe(`load XDP program steer: EACCES (${load})`);
  expect(await without("net_admin")).toContain(load);
  expect(await without("net_raw")).toContain("EPERM (needs root, or CAP_NET_RAW)");
  const memlock = ["setpriv", "--bounding-set=-ipc_lock,-sys_resource", "--inh-caps=-ipc_lock,-sys_resource"];
  const limited = ["prlimit", "--memlock=65536:65536", ...memlock];
  expect(await failure(onCard(lab), limited)).toMatch(
    /^register UMEM of \d+ bytes: ENOBUFS \(over RLIMIT_MEMLOCK/,
  );
  expect(await failure(onCard(lab), unprivileged(...NEEDED))).toMatch(/^(open|setns) .*: (EACCES|EPERM) /);
  expect(await failure([], unprivileged(...NEEDED))).toBe(
    "unshare network namespace: EPERM (needs CAP_SYS_ADMIN (root))",
  );
  const netadmin = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
  expect(await failure([], netadmin)).toMatch(/EPERM .*CAP_NET_ADMIN/);
  expect(cardState(lab)).toEqual(before);
});

test("the capabilities that the documentation names are enough, without root", async () => {
  await using netd = await NetdProcess.running(scratch.socket, here, unprivileged(...NEEDED));
  using client = await UdpClient.open(lab.peer, "10.77.0.2");
  await client.echo("10.77.0.1");
  expect((await netd.stop()).code).toBe(0);
  expect(cardState(lab)).toEqual(before);
});

test("a missing library: what to install", async () => {
  const files = Bun.spawnSync(["ldconfig", "-p"]).stdout.toString();
  for (const [name, install] of [
    ["libxdp.so.1", "libxdp1"],
    ["libbpf.so.1", "libbpf1"],
  ] as const) {
    const path = files.match(new RegExp(`${name.replaceAll(".", "\\.")} .*=> (\\S+)`))![1]!;
    expect(existsSync(path)).toBe(true);
    const hidden = ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null "$0" && exec "$@"', path];
    expect(await failure(onCard(lab), hidden)).toMatch(
      new RegExp(`^open ${name}: ENOENT \\(.*; install it: apt-get install ${install}\\)$`),
    );
  }
  expect(cardState(lab)).toEqual(before);
});
