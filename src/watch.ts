// What the main thread looks after while the daemon runs, twice a second, as the mirror has it: services follow the
// card's addresses, the XDP program its link-layer address; a card that is gone ends the daemon, and one whose MTU has
// outgrown the frames is warned of. The net loops follow the card by themselves (src/switch/transmit.ts).
import { SysError } from "../ffi/errno.ts";
import type { NetbaseReader } from "./netbase/netbase.ts";
import type { Services } from "./services.ts";
import type { SteerProgram } from "./xdp/program.ts";
import { longestFor } from "./xdp/socket.ts";

const EVERY_MS = 500;
const ENODEV = 19;

export interface Watched {
  readonly ifname: string;
  readonly ifindex: number;
  readonly netbase: NetbaseReader;
  readonly program: SteerProgram;
  readonly services: Services;
  /** of the queue with the smallest frames */
  readonly frameBytes: number;
}

export class Watch {
  /** Rejects once there is nothing to serve any more. */
  readonly failed: Promise<never>;
  /** What is amiss with the card as it is now. */
  warnings: readonly string[] = [];
  private readonly watched: Watched;
  private readonly timer: Timer;
  private fail!: (error: Error) => void;
  private lladdr = "";

  /** Looks at once, and then again and again until it is stopped. */
  constructor(watched: Watched) {
    this.watched = watched;
    this.failed = new Promise((_, reject) => {
      this.fail = reject;
    });
    this.failed.catch(() => {});
    this.timer = setInterval(() => {
      try {
        this.look();
      } catch (error) {
        this.fail(error as Error);
      }
    }, EVERY_MS);
    this.look();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private look(): void {
    const { ifname, ifindex, netbase, program, services, frameBytes } = this.watched;
    const link = netbase.links.get(ifindex);
    if (link === undefined) {
      this.stop();
      this.fail(
        new SysError(
          `serve ${ifname}`,
          ENODEV,
          "the interface is gone: deleted, or moved to another namespace",
        ),
      );
      return;
    }
    services.sync(netbase.addrs.own4(ifindex));
    const lladdr = link.lladdr.subarray(0, 6);
    if (lladdr.join() !== this.lladdr) {
      program.setAddress(lladdr);
      this.lladdr = lladdr.join();
    }
    const longest = longestFor(frameBytes);
    const outgrown =
      link.mtu > longest
        ? [
            `MTU ${link.mtu} of ${ifname}: packets of over ${longest} bytes to services are lost until netd is restarted`,
          ]
        : [];
    this.warnings = [...outgrown, ...services.warnings];
  }
}
