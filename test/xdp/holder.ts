// A child for program.test.ts: attaches to a card in the namespace at argv[2], says so, and waits to be killed.
import { Netns } from "../../src/netlink/netns.ts";
import { SteerProgram } from "../../src/xdp/program.ts";
import { createSocket } from "../../src/xdp/socket.ts";

Netns.open(process.argv[2]!).run(() => {
  const ifindex = Number(process.argv[3]);
  const options = { ifname: "nd0", ifindex, queue: 0, frames: 64, frameBytes: 2048, rxSize: 64, txSize: 64 };
  SteerProgram.load().attach(ifindex);
  createSocket({ ...options, mode: "auto" });
});
console.log("attached");
setInterval(() => {}, 1000);
