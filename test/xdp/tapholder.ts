// A child for host.test.ts: all programs and the tap in the namespace at argv[2], the firewall on; waits to be killed.
import { Netns } from "../../src/netlink/netns.ts";
import { SteerMaps } from "../../src/xdp/maps.ts";
import { SteerProgram } from "../../src/xdp/program.ts";
import { Tap } from "../../src/xdp/tap.ts";

const program = SteerProgram.load();
program.setAddress(Uint8Array.from(process.argv[4]!.split(":").map((part) => Number.parseInt(part, 16))));
Netns.open(process.argv[2]!).run(() => {
  const cardIfindex = Number(process.argv[3]);
  program.attach(cardIfindex);
  const { ifindex: tapIfindex } = Tap.create({ ifname: "nd0", mtu: 1500, address: 0x080000c0 });
  program.attachTc({ cardIfindex, tapIfindex, loIfindex: 1 });
});
const maps = new SteerMaps(program.fds);
maps.addListener({ family: 2, protocol: 17, dst: Int32Array.of(0x01004d0a), dport: 5353 });
maps.setFirewall("on");
console.log("attached");
setTimeout(() => {}, 60_000); // at most
