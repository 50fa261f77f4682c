// The card that a daemon under test serves, as the kernel sees it, and the daemon inside this process.
import { type Config, defaultConfig } from "../../src/config.ts";
import { Daemon } from "../../src/daemon.ts";
import type { Host } from "../../src/lab/host.ts";
import { Lab } from "../../src/lab/lab.ts";
import { setVlanStripping } from "../../src/xdp/queues.ts";
import { Scratch } from "./child.ts";
import { until } from "./wait.ts";

/** Without a beat for so long a net Worker sleeps: awake it has one every few microseconds. */
const ASLEEP_MS = 200;

/** `ip -j ARGS` in the host's namespace. */
// biome-ignore lint/suspicious/noExplicitAny: whatever ip prints
export function ip(host: Host, ...args: string[]): any[] {
  const child = Bun.spawnSync(host.command("ip", "-j", ...args));
  if (child.exitCode !== 0) throw new Error(`ip ${args.join(" ")}: ${child.stderr}`);
  const text = child.stdout.toString();
  return text.trim() === "" ? [] : JSON.parse(text);
}

/** The XDP program on the interface as `ip link` shows it, undefined if there is none. */
export const xdpOn = (host: Host, ifname: string): object | undefined =>
  ip(host, "-d", "link", "show", "dev", ifname)[0].xdp;

/** Flags for netd on the lab's card. */
export const onCard = (lab: Lab, ...more: string[]): string[] => [
  "--interface",
  lab.ifname,
  "--netns",
  lab.daemon.path,
  "--echo",
  "7",
  ...more,
];

function stripping(ifname: string): boolean {
  const was = setVlanStripping(ifname, true);
  if (!was) setVlanStripping(ifname, false);
  return was;
}

/** What of a card netd might leave changed. */
export const cardState = (lab: Lab): object => ({
  xdp: xdpOn(lab.daemonHost, lab.ifname),
  stripping: lab.daemon.run(() => stripping(lab.ifname)),
  flags: ip(lab.daemonHost, "link", "show", "dev", lab.ifname)[0].flags,
});

export interface Options {
  interface?: Partial<Config["interface"]>;
  poll?: Partial<Config["poll"]>;
  netbase?: Partial<Config["netbase"]>;
  solicit?: Partial<Config["solicit"]>;
  services?: Config["services"];
  /** without `sockets` there is no switch */
  switch?: Partial<Config["switch"]>;
  grants?: Partial<Config["grants"]>;
}

/** The configuration of a daemon on the lab's card with echo on port 7. */
export function configFor(lab: Lab, socket: string, options: Options = {}): Config {
  const base = defaultConfig();
  return {
    ...base,
    interface: { ...base.interface, name: lab.ifname, netns: lab.daemon.path, ...options.interface },
    poll: { ...base.poll, ...options.poll },
    netbase: { ...base.netbase, ...options.netbase },
    solicit: { ...base.solicit, ...options.solicit },
    services: options.services ?? [{ service: "echo", port: 7 }],
    switch: { ...base.switch, sockets: [], ...options.switch },
    grants: { ...base.grants, ...options.grants },
    admin: { socket },
    log: { level: "error" },
  };
}

/** A lab and a daemon on its card, in this process. */
export class Rig implements AsyncDisposable {
  readonly lab: Lab;
  readonly daemon: Daemon;
  readonly scratch: Scratch;

  private constructor(lab: Lab, daemon: Daemon, scratch: Scratch) {
    this.lab = lab;
    this.daemon = daemon;
    this.scratch = scratch;
  }

  static async start(options: Options = {}, given?: Lab): Promise<Rig> {
    const lab = given ?? Lab.create();
    const scratch = new Scratch();
    try {
      return new Rig(lab, await Daemon.start(configFor(lab, scratch.socket, options)), scratch);
    } catch (error) {
      scratch[Symbol.dispose]();
      lab.close();
      throw error;
    }
  }

  /** What the net Workers have counted: totals over the queues, and drops by reason. */
  counts(): { rx: number; tx: number; drops: Record<string, number> } {
    const { rxPackets: rx, txPackets: tx, drops } = this.daemon.views.sample();
    return { rx, tx, drops: Object.fromEntries(Object.entries(drops).filter(([, n]) => n > 0)) };
  }

  /**
   * The counts once all that was done before the call is in them: a net Worker publishes at every beat, and before it
   * sleeps, when there are no beats.
   */
  async settled(): Promise<ReturnType<Rig["counts"]>> {
    for (const { thread } of this.daemon.parts.queues) {
      const { heartbeat } = thread.control;
      const end = performance.now() + ASLEEP_MS;
      await until("a net Worker to publish", () => {
        const beats = thread.control.heartbeat - heartbeat;
        return beats >= 2 || (beats === 0 && performance.now() > end);
      });
    }
    return this.counts();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.daemon.stop();
    } finally {
      this.scratch[Symbol.dispose]();
      this.lab.close();
    }
  }
}
