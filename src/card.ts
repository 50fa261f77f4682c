// `netd --interface IF`: the daemon on a card that exists, until its time is over or it is told to end.
import { writeFileSync } from "node:fs";
import type { Config, RunOptions } from "./config.ts";
import { Daemon } from "./daemon.ts";
import { Live } from "./live.ts";
import { shedPrivileges } from "./privileges.ts";
import { EndSignals, Interrupted, untilStopped } from "./until.ts";

/** Returns the exit code. @throws what Daemon.start throws, and the failure of a Worker; nothing is left behind */
export async function runCard(config: Config, options: RunOptions): Promise<number> {
  using end = new EndSignals();
  shedPrivileges(config.interface.netns !== undefined);
  writeFileSync("/proc/self/comm", "netd"); // for ps, top, ss and who wants this card too: else it is the runtime's
  let daemon: Daemon;
  try {
    daemon = await Daemon.start(config, end.signal);
  } catch (error) {
    if (error instanceof Interrupted) return 0;
    throw error;
  }
  const live = new Live(options.json, `netd on ${config.interface.name}`);
  const { views } = daemon;
  const update = () => live.update(views.sample());
  try {
    live.hints([
      `services: ${views.summary().services.join(", ") || "none"}`,
      `ask it: ${options.self} show neighs, ${options.self} lookup ADDRESS`,
    ]);
    await untilStopped(options.duration, update, end.signal, [daemon.failed]);
    return 0;
  } finally {
    const last = views.sample();
    await daemon.stop();
    live.summary({ ...last, leftovers: [] });
  }
}
