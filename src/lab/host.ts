// A host of a made-up network: an anonymous namespace, with its own request socket. Topologies of the lab, of tests
// and of benches are built of these; nothing here needs the `ip` command.
import { writeFileSync } from "node:fs";
import { SysError } from "../../ffi/errno.ts";
import { type AddrSpec, newAddr } from "../netlink/addr.ts";
import { IFA_F_NODAD, IFF_RUNNING, IFF_UP } from "../netlink/constants.ts";
import { delLink, getLink, type LinkSpec, type NewLinkSpec, newLink, setLink } from "../netlink/link.ts";
import { Netns } from "../netlink/netns.ts";
import { Rtnetlink } from "../netlink/request.ts";
import { newRoute, type RouteSpec } from "../netlink/routeset.ts";

const ETIMEDOUT = 110;
const WAIT_MS = 5000;

export class Host {
  readonly netns: Netns;
  readonly nl: Rtnetlink;
  private readonly made: string[] = [];

  /** A new namespace with lo up. IPv6 addresses are usable at once: no duplicate detection, no router solicitation. */
  constructor(name: string) {
    this.netns = Netns.create(name);
    try {
      for (const conf of ["all", "default"]) {
        this.sysctl(`net/ipv6/conf/${conf}/accept_dad`, 0);
        this.sysctl(`net/ipv6/conf/${conf}/dad_transmits`, 0);
        this.sysctl(`net/ipv6/conf/${conf}/router_solicitations`, 0);
      }
      this.nl = new Rtnetlink(this.netns);
      this.nl.call((m) => setLink(m, { name: "lo", up: true }));
    } catch (error) {
      this.netns.close();
      throw error;
    }
  }

  ifindex(name: string): number {
    return this.nl.ifindex(name);
  }

  /** Makes a link, and deletes it at close, so that it goes at once and not when the namespace does. */
  link(spec: NewLinkSpec & { name: string }): number {
    this.nl.call((m) => newLink(m, spec));
    this.made.push(spec.name);
    return this.ifindex(spec.name);
  }

  /** A veth pair from here to `other`, both ends up and running. Returns the two ifindexes. */
  veth(
    name: string,
    other: Host,
    otherName: string,
    ours: LinkSpec = {},
    theirs: LinkSpec = {},
  ): [number, number] {
    const near = this.link({
      ...ours,
      name,
      kind: "veth",
      peer: { ...theirs, name: otherName, netnsFd: other.netns.fd },
    });
    this.up(name);
    other.up(otherName);
    this.waitRunning(name);
    other.waitRunning(otherName);
    return [near, other.ifindex(otherName)];
  }

  up(name: string): void {
    this.nl.call((m) => setLink(m, { name, up: true }));
  }

  down(name: string): void {
    this.nl.call((m) => setLink(m, { name, up: false }));
  }

  /** "10.0.0.1/24" on the link `name`. */
  addr(name: string, local: string, more: Partial<AddrSpec> = {}): void {
    const flags = local.includes(":") ? IFA_F_NODAD : 0;
    this.nl.call((m) => newAddr(m, { ifindex: this.ifindex(name), local, flags, ...more }));
  }

  route(spec: RouteSpec): void {
    this.nl.call((m) => newRoute(m, spec));
  }

  /** Returns when the link is up and has its carrier; the kernel tells that a moment after it was set up. */
  waitRunning(name: string): void {
    const wanted = IFF_UP | IFF_RUNNING;
    const end = performance.now() + WAIT_MS;
    for (;;) {
      let flags = 0;
      this.nl.get(
        (m) => getLink(m, { name }),
        (words, _bytes, off) => {
          flags = words[(off >> 2) + 6]!;
        },
      );
      if ((flags & wanted) === wanted) return;
      if (performance.now() > end) throw new SysError(`wait for ${name} to run`, ETIMEDOUT);
      Bun.sleepSync(1);
    }
  }

  /** Writes /proc/sys/`key` as this namespace has it. */
  sysctl(key: string, value: string | number): void {
    this.netns.run(() => writeFileSync(`/proc/sys/${key}`, String(value)));
  }

  /** `command`, to be run in this namespace by a child process. */
  command(...command: string[]): string[] {
    return ["nsenter", `--net=${this.netns.path}`, "--", ...command];
  }

  /** Deletes the links that were made here, and leaves the namespace to end. */
  close(): void {
    for (const name of this.made.reverse()) {
      try {
        this.nl.call((m) => delLink(m, { name }));
      } catch {
        // It is gone, or was renamed or moved away by the test: then it goes with its namespace.
      }
    }
    this.nl.close();
    this.netns.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
