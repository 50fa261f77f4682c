// A lab, netd with its switch on the lab's card as a child process, and hosts behind its channels.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Lab, LAB_LLADDR, type LabOptions } from "../../src/lab/lab.ts";
import { RawClient } from "../peers/client.ts";
import { PeerHost } from "../peers/host.ts";
import { onCard } from "./card.ts";
import { NetdProcess, Scratch } from "./child.ts";
import { until } from "./wait.ts";

export const OWN = "10.77.0.1";
export const OWN6 = "fd77::1";
export const PEER = "10.77.0.2";
/** The peer's link-local address: made of its MAC. */
export const ROUTER6 = "fe80::ff:fe00:7702";

export interface ClientRow {
  client: number;
  pid: number;
  uid: number;
}

export class SwitchRig implements AsyncDisposable {
  readonly lab: Lab;
  readonly scratch = new Scratch();
  /** usnetd's protocol alone */
  readonly usnetd = join(this.scratch.path, "usnetd.socket");
  readonly control = join(this.scratch.path, "control.sock");
  netd!: NetdProcess;
  private readonly more: readonly string[];
  private readonly hosts: AsyncDisposable[] = [];

  private constructor(lab: Lab, more: readonly string[]) {
    this.lab = lab;
    this.more = more;
  }

  /** @param more further arguments of netd */
  static async start(options: LabOptions = {}, ...more: string[]): Promise<SwitchRig> {
    const rig = new SwitchRig(Lab.create(options), more);
    try {
      await rig.run();
      return rig;
    } catch (error) {
      await rig[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Starts netd, or starts it again. */
  async run(): Promise<void> {
    const sockets = `switch.sockets=${this.usnetd},${this.control}`;
    const args = onCard(this.lab, "--set", sockets, ...this.more);
    this.netd = await NetdProcess.running(this.scratch.socket, args);
    await until("the control sockets", () => existsSync(this.usnetd) && existsSync(this.control));
  }

  /** lwIP with the card's own address and MAC. */
  async lwip({
    address = `${OWN}/24,${PEER}`,
    address6 = `${OWN6},${ROUTER6}`,
    lladdr = LAB_LLADDR,
  } = {}): Promise<PeerHost> {
    const { usnetd: server, scratch, lab } = this;
    const options = { server, directory: scratch.path, ifname: lab.ifname, lladdr, address, address6 };
    const host = await PeerHost.attach("lwip", options);
    this.hosts.push(host);
    return host;
  }

  /** A kernel's stack in the namespace that `before` enters; its card is tap0. */
  async tap(before: readonly string[], lladdr = LAB_LLADDR, mtu = 1500): Promise<PeerHost> {
    const { usnetd: server, scratch, lab } = this;
    const options = { server, directory: scratch.path, ifname: lab.ifname, lladdr, mtu, before };
    const host = await PeerHost.attach("tap", options);
    this.hosts.push(host);
    return host;
  }

  raw(server = this.control): RawClient {
    return RawClient.attach(server, this.scratch.path, this.lab.ifname);
  }

  clients(): Promise<ClientRow[]> {
    return this.netd.ask<ClientRow[]>("clients");
  }

  /** Commands on the far side of the wire, and on the daemon's own host. */
  get far(): string[] {
    return this.lab.peerHost.command();
  }

  get near(): string[] {
    return this.lab.daemonHost.command();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const host of this.hosts.reverse()) await host[Symbol.asyncDispose]();
    if (this.netd) {
      const ended = await this.netd.stop();
      if (ended.err !== "" && ended.signal !== "SIGKILL") console.error(ended.err);
    }
    this.scratch[Symbol.dispose]();
    this.lab.close();
  }
}
