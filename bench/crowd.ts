// A namespace full of routes and neighbours, made by the library, for the netlink benches; and how they run children:
// each prints {"case","value"} lines (harness.ts), unpinned, since Bun compiles on other threads.
import { existsSync } from "node:fs";
import { Host } from "../src/lab/host.ts";
import { Netlink } from "../src/netlink/netlink.ts";
import { runChild, type Sample, script } from "./harness.ts";

export const ROUTES = 1_000_000;
export const NEIGHBOURS = 65_536;

const quad = (n: number): string => `${n >>> 24}.${(n >>> 16) & 255}.${(n >>> 8) & 255}.${n & 255}`;
/** The i-th route: /24s from 32.0.0.0 on, over 256 gateways in 10.0.0.0/8. */
export const route = (i: number): { dst: string; via: string } => ({
  dst: `${quad(0x20000000 + i * 256)}/24`,
  via: quad(0x0a000002 + (i % 256)),
});
export const neighbour = (i: number): { dst: string; lladdr: string } => ({
  dst: quad(0x0a000102 + i),
  lladdr: `02:00:00:${[i >>> 16, (i >>> 8) & 255, i & 255].map((b) => b.toString(16).padStart(2, "0")).join(":")}`,
});

export class Crowd {
  readonly host = new Host("bench crowd");
  readonly far = new Host("bench crowd far");
  readonly path: string = this.host.netns.path;

  constructor() {
    this.host.veth("nd0", this.far, "peer0");
    this.host.addr("nd0", "10.0.0.1/8");
  }

  async routes(from: number, to: number): Promise<void> {
    await this.each(from, to, (batch, i) => batch.routes.add(route(i)));
  }

  async neighbours(from: number, to: number): Promise<void> {
    const link = this.host.ifindex("nd0");
    await this.each(from, to, (batch, i) => batch.neighs.add({ link, ...neighbour(i) }));
  }

  async each(
    from: number,
    to: number,
    write: (batch: ReturnType<Netlink["batch"]>, i: number) => unknown,
  ): Promise<void> {
    await using nl = await Netlink.open({ netns: this.host.netns });
    const batch = nl.batch();
    for (let i = from; i < to; ) {
      for (const end = Math.min(i + 50_000, to); i < end; i++) write(batch, i);
      const [refused] = await batch.send();
      if (refused) throw refused.error;
    }
  }

  close(): void {
    this.host.close();
    this.far.close();
  }
}

export const child = (command: readonly string[]): Promise<Sample> => runChild(command, { core: -1 });
export const ours = (file: string, ...args: string[]): string[] => script(file, ...args);
export const print = (name: string, value: number): void =>
  console.log(JSON.stringify({ case: name, value }));

/** `command` in the namespace, its output thrown away: how long it takes, in ms. */
export async function timed(name: string, path: string, ...command: string[]): Promise<Sample> {
  const start = performance.now();
  const run = Bun.spawn(["nsenter", `--net=${path}`, "--", ...command], {
    stdout: "ignore",
    stderr: "inherit",
  });
  if ((await run.exited) !== 0) throw new Error(`${command.join(" ")} failed`);
  return { [name]: performance.now() - start };
}

/** Whether a Debian package's file is there, once it was tried to install what is missing. */
export function installed(file: string, debianPackage: string): boolean {
  if (existsSync(file)) return true;
  const apt = Bun.spawnSync(["apt-get", "install", "-y", "-qq", "--no-install-recommends", debianPackage], {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    stdout: "ignore",
    stderr: "ignore",
  });
  return apt.exitCode === 0 && existsSync(file);
}
