// `netd` without an interface: the lab. Two namespaces joined by veth; the daemon on one side, for real; the other
// side's kernel sends UDP to the echo service in three ways: from the same subnet, from behind a gateway, and from a
// neighbour that the daemon's side has never heard of. What it prints is measured, what it made is gone afterwards.
import { type Config, defaultConfig, type RunOptions } from "../config.ts";
import { Daemon } from "../daemon.ts";
import { Live, type Sample } from "../live.ts";
import { Thread } from "../thread.ts";
import { EndSignals, Interrupted, untilStopped } from "../until.ts";
import { parseIPv4 } from "../wire/address.ts";
import type { FlowSpec } from "./flow.ts";
import { Lab } from "./lab.ts";
import { inventory, leftovers } from "./leftovers.ts";
import { TRAFFIC_COUNTERS } from "./worker.ts";

const ECHO_PORT = 7;
const SOCKET_PATH = 107; // bytes of a Unix socket's path

/** The three ways, each with so many datagrams in the air. */
const FLOWS: FlowSpec[] = [
  ["in the subnet", "10.77.0.2"],
  ["behind a gateway", "10.78.0.2"],
  ["unresolved neighbour", "10.77.0.3"],
].map(([name, source]) => ({
  name: name!,
  source: parseIPv4(source!)!,
  destination: parseIPv4("10.77.0.1")!,
  port: ECHO_PORT,
  payloadBytes: 64,
  window: 64,
}));

const hints = (peer: string, self: string): string[] => [
  "try next, from another terminal:",
  `  nsenter --net=${peer} ping -c 3 10.77.0.1   the kernel answers: netd passes on what it does not know`,
  `  nsenter --net=${peer} nc -u 10.77.0.1 7     type a line: userspace answers`,
  `  ${self} show neighs; ${self} lookup 10.78.0.9; ${self} show drops`,
];

/** Where the lab's sockets are: beside its admin socket ("admin.lab.sock"), and not at the paths of a daemon on a card. */
export function labSockets({ admin, switch: given, memif }: Config) {
  const beside = (kind: string): string => {
    const path = `${admin.socket.replace(/\.sock$/, "")}.${kind}.sock`;
    return Buffer.byteLength(path) <= SOCKET_PATH ? path : "";
  };
  const isDefault = given.sockets.join() === defaultConfig().switch.sockets.join();
  const sockets = isDefault ? [beside("lab")].filter((path) => path !== "") : given.sockets;
  const socket = memif.socket ?? beside("memif");
  return {
    switch: { ...given, sockets },
    memif: { ...memif, socket },
    files: [admin.socket, ...sockets, ...(socket === "" ? [] : [socket])],
  };
}

/** Runs the lab until its time is over or it is interrupted. Returns the exit code. */
export async function runLab(given: Config, options: RunOptions): Promise<number> {
  const live = new Live(options.json, "netd in its lab");
  const { files } = labSockets(given);
  const { result: last, left } = await tidily(files, (end) => lab(given, options, live, end));
  if (last) live.summary({ ...last, leftovers: left });
  return left.length === 0 ? 0 : 1;
}

/**
 * Runs what a signal may end. Returns what it gives (undefined if it was interrupted while starting) and what it left behind.
 * @param files paths that must not stay  @throws Error if an interrupted start left something
 */
export async function tidily<T>(
  files: readonly string[],
  run: (end: AbortSignal) => Promise<T>,
): Promise<{ readonly result: T | undefined; readonly left: readonly string[] }> {
  using end = new EndSignals();
  const before = inventory(files);
  let result: T | undefined;
  try {
    result = await run(end.signal);
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
  }
  const left = await leftovers(before, files);
  if (result === undefined && left.length > 0)
    throw new Error(`interrupted while starting; left behind: ${left.join(", ")}`);
  return { result, left };
}

async function lab(given: Config, options: RunOptions, live: Live, end: AbortSignal): Promise<Sample> {
  await using stack = new AsyncDisposableStack();
  const lab = stack.use(Lab.create());
  const { switch: switched, memif } = labSockets(given);
  const daemon = await Daemon.start(
    {
      ...given,
      interface: { ...given.interface, name: lab.ifname, netns: lab.daemon.path },
      services: [{ service: "echo", port: ECHO_PORT }, ...given.services],
      switch: switched,
      memif,
    },
    end,
  );
  stack.defer(() => daemon.stop());
  const traffic = new Thread("traffic", "traffic", TRAFFIC_COUNTERS);
  stack.defer(() => traffic.close());
  await traffic.boot({ netnsFd: lab.peer.fd, flows: FLOWS }, "ready");

  const read = (): Sample => {
    const { corrupt, lost, ...counts } = traffic.control.counters.snapshot();
    return { ...daemon.views.sample(), echo: { ...counts, lost: lost + corrupt } };
  };
  live.hints(hints(lab.peer.path, options.self));
  await untilStopped(options.duration, () => live.update(read()), end, [daemon.failed, traffic.failed]);
  await traffic.stop(); // waits for what is in the air
  return read();
}
