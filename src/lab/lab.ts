// The lab: two namespaces and a veth pair, made through our own netlink code. The demo, tests and benches run in it.
//
//   daemon                                     peer: the kernel's own stack
//   nd0   10.77.0.1/24  fd77::1/64  <--veth--> peer0  10.77.0.2/24  10.77.0.3/24  fd77::2/64
//   10.78.0.0/24 via 10.77.0.2                 lo     10.78.0.2/24  fd78::2/64
//   fd78::/64    via fd77::2
//
// Anonymous, so that nothing outlives the process, however it ends; close deletes the pair at once.
import type { Netns } from "../netlink/netns.ts";
import { Host } from "./host.ts";
import { type Offload, setOffload } from "./offload.ts";

export const LAB_LLADDR = "02:00:00:00:77:01";
export const LAB_PEER_LLADDR = "02:00:00:00:77:02";

export interface LabOptions {
  /** of both ends; 1500 if missing */
  mtu?: number;
  /** receive and transmit queues of both ends; 1 if missing */
  queues?: number;
  /** further addresses with their prefix lengths */
  addrs?: readonly string[];
  peerAddrs?: readonly string[];
  /**
   * Offloads to set, as a veth has them if missing. A veth has `tx` on: what the peer's kernel sends then carries
   * partial checksums, since nobody on the way would look. `peerOffloads: { tx: false }` makes them whole.
   */
  offloads?: Partial<Record<Offload, boolean>>;
  peerOffloads?: Partial<Record<Offload, boolean>>;
}

export class Lab {
  readonly ifname = "nd0";
  readonly peerIfname = "peer0";
  readonly ifindex: number;
  readonly peerIfindex: number;
  readonly daemonHost: Host;
  readonly peerHost: Host;

  private constructor(options: LabOptions) {
    const { mtu = 1500, queues = 1 } = options;
    const link = { mtu, txQueues: queues, rxQueues: queues };
    this.daemonHost = new Host("lab daemon");
    try {
      this.peerHost = new Host("lab peer");
    } catch (error) {
      this.daemonHost.close();
      throw error;
    }
    try {
      const { daemonHost: near, peerHost: far, ifname, peerIfname } = this;
      [this.ifindex, this.peerIfindex] = near.veth(
        ifname,
        far,
        peerIfname,
        { ...link, lladdr: LAB_LLADDR },
        { ...link, lladdr: LAB_PEER_LLADDR },
      );
      for (const local of ["10.77.0.1/24", "fd77::1/64", ...(options.addrs ?? [])]) near.addr(ifname, local);
      for (const local of ["10.77.0.2/24", "10.77.0.3/24", "fd77::2/64", ...(options.peerAddrs ?? [])])
        far.addr(peerIfname, local);
      for (const local of ["10.78.0.2/24", "fd78::2/64"]) far.addr("lo", local);
      near.route({ dst: "10.78.0.0/24", via: "10.77.0.2" });
      near.route({ dst: "fd78::/64", via: "fd77::2" });
      near.netns.run(() => setOffloads(ifname, options.offloads));
      far.netns.run(() => setOffloads(peerIfname, options.peerOffloads));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Everything is up and running when this returns. @throws SysError; then nothing is left */
  static create(options: LabOptions = {}): Lab {
    return new Lab(options);
  }

  get daemon(): Netns {
    return this.daemonHost.netns;
  }

  get peer(): Netns {
    return this.peerHost.netns;
  }

  close(): void {
    this.daemonHost.close();
    this.peerHost.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function setOffloads(ifname: string, offloads: LabOptions["offloads"] = {}): void {
  for (const [name, on] of Object.entries(offloads)) setOffload(ifname, name as Offload, on);
}
