// The lab's traffic: a Worker that drives flows from UDP sockets of the peer's namespace and kernel.
// Boot message: TrafficBoot. Answers "ready", then "stopped" when told to stop and the last answers are in.
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";
import { Control } from "../mem/control.ts";
import { Region, type RegionRef } from "../mem/region.ts";
import { Netns } from "../netlink/netns.ts";
import { Flow, type FlowSpec } from "./flow.ts";

declare const self: Worker;

export const TRAFFIC_COUNTERS = ["sent", "received", "lost", "unresolved", "corrupt"] as const;

export interface TrafficBoot {
  netnsFd: number;
  control: RegionRef;
  flows: FlowSpec[];
}

const POLLIN = 1;
const DRAIN_MS = 1000;

function run(boot: TrafficBoot): void {
  const region = Region.open(boot.control, "read-write");
  const control = new Control(region, TRAFFIC_COUNTERS);
  const flows = Netns.of(boot.netnsFd).run(() => boot.flows.map((spec) => new Flow(spec)));
  const pollfds = new Int32Array(new ArrayBuffer(flows.length * 8));
  flows.forEach((flow, i) => {
    pollfds[i * 2] = flow.fd;
    pollfds[i * 2 + 1] = POLLIN;
  });
  const publish = () => {
    TRAFFIC_COUNTERS.forEach((name, i) => {
      control.counters.values[i] = flows.reduce((sum, flow) => sum + flow[name], 0);
    });
  };
  postMessage({ type: "ready" });
  let deadline = Number.POSITIVE_INFINITY;
  for (let turn = 0; ; turn++) {
    const now = performance.now();
    if (deadline === Number.POSITIVE_INFINITY && control.stopping) deadline = now + DRAIN_MS;
    for (const flow of flows) {
      flow.receive(now);
      if (deadline === Number.POSITIVE_INFINITY) flow.send(now);
    }
    if ((turn & 63) === 0) publish();
    if (now > deadline || (deadline !== Number.POSITIVE_INFINITY && flows.every((flow) => flow.idle))) break;
    libc.poll(ptr(pollfds), flows.length, 10);
  }
  publish();
  for (const flow of flows) flow.close();
  region.unmap();
}

self.onmessage = (event: MessageEvent<TrafficBoot>) => {
  try {
    run(event.data);
    postMessage({ type: "stopped" });
  } catch (error) {
    postMessage({ type: "error", message: (error as Error).message });
  }
};
