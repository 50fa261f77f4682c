// A card for the tests: a veth pair `nd0` <-> `peer0` in an anonymous namespace of its own, up, with fixed addresses.
// Nothing has an IP address and IPv6 is off, so that no frame moves but the test's.
import { writeFileSync } from "node:fs";
import { newLink, setLink } from "../../src/netlink/link.ts";
import { Netns } from "../../src/netlink/netns.ts";
import { Rtnetlink } from "../../src/netlink/request.ts";

export const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
export const PEER_MAC = Uint8Array.of(2, 0, 0, 0, 0, 2);

export class Card {
  readonly netns: Netns;
  readonly ifindex = 10;
  readonly peerIfindex = 11;

  constructor(queues = 2) {
    this.netns = Netns.create("card");
    this.netns.run(() => {
      for (const which of ["all", "default"])
        writeFileSync(`/proc/sys/net/ipv6/conf/${which}/disable_ipv6`, "1");
    });
    const size = { txQueues: queues, rxQueues: queues };
    using rtnl = new Rtnetlink(this.netns);
    rtnl.call((m) => {
      newLink(m, {
        kind: "veth",
        ifindex: this.ifindex,
        name: "nd0",
        lladdr: "02:00:00:00:00:01",
        ...size,
        peer: { ifindex: this.peerIfindex, name: "peer0", lladdr: "02:00:00:00:00:02", ...size },
      });
      for (const name of ["lo", "nd0", "peer0"]) setLink(m, { name, up: true });
    });
  }

  /** As Netns.run. */
  run<T>(fn: () => T): T {
    return this.netns.run(fn);
  }

  close(): void {
    this.netns.close();
  }
}
