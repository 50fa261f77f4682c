// netd as a user runs it: a child process, its output, and the daemon behind its admin socket.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { LookupView, SummaryView } from "../../src/view.ts";
import { until } from "./wait.ts";

const main = join(import.meta.dir, "../../src/main.ts");
const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !name.startsWith("NETD_")),
);

/** `netd` with these arguments, behind `before` (nsenter, setpriv...), as a command line. */
export const command = (args: readonly string[], before: readonly string[] = []): string[] => [
  ...before,
  process.execPath,
  main,
  ...args,
];

/** A directory for admin sockets that goes with the test. */
export class Scratch {
  readonly path: string = mkdtempSync(join(tmpdir(), "netd-test-"));
  readonly socket: string = join(this.path, "admin.sock");

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

export interface Ended {
  readonly code: number;
  readonly signal: NodeJS.Signals | number | null;
  readonly out: string;
  readonly err: string;
}

export class NetdProcess {
  readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly socket: string;
  readonly ended: Promise<Ended>;
  private over = false;

  constructor(socket: string, args: readonly string[], before: readonly string[] = [], cwd?: string) {
    this.socket = socket;
    this.child = Bun.spawn(command([...args, "--admin", socket], before), {
      env: { ...environment, NETD_SWITCH_SOCKETS: join(dirname(socket), "control.sock") },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      ...(cwd !== undefined && { cwd }),
    });
    const texts = Promise.all([this.child.stdout.text(), this.child.stderr.text(), this.child.exited]);
    this.ended = texts.then(([out, err, code]) => {
      this.over = true;
      return { code, signal: this.child.signalCode, out, err };
    });
  }

  /** Starts it and waits until it serves its admin socket. @throws Error with its stderr if it ends instead */
  static async running(
    socket: string,
    args: readonly string[],
    before: readonly string[] = [],
  ): Promise<NetdProcess> {
    const made = new NetdProcess(socket, args, before);
    await until("netd to serve its admin socket", async () => {
      if (made.over) throw new Error(`netd ended: ${(await made.ended).err}`);
      return existsSync(socket) && (await made.ask("summary").catch(() => undefined));
    });
    return made;
  }

  async ask<T = unknown>(page: string): Promise<T> {
    const response = await fetch(`http://netd/${page}`, { unix: this.socket });
    return (await response.json()) as T;
  }

  summary(): Promise<SummaryView> {
    return this.ask<SummaryView>("summary");
  }

  lookup(address: string): Promise<LookupView> {
    return this.ask<LookupView>(`lookup?address=${address}`);
  }

  /** Ends it as a user does. */
  stop(signal: NodeJS.Signals = "SIGTERM"): Promise<Ended> {
    this.child.kill(signal);
    return this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGKILL");
    await this.ended;
  }
}

/** Runs netd to its end. */
export const run = (
  socket: string,
  args: readonly string[],
  before: readonly string[] = [],
): Promise<Ended> => new NetdProcess(socket, args, before).ended;
