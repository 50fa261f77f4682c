// Runs the command line in a child process, as a user would.
import { join } from "node:path";

const main = join(import.meta.dir, "../../src/main.ts");

export interface Run {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs netd. @param lines close its stdout after so many lines were read */
export async function netd(
  args: readonly string[],
  { env = {}, lines = Number.POSITIVE_INFINITY }: { env?: Record<string, string>; lines?: number } = {},
): Promise<Run> {
  const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("NETD_")));
  const child = Bun.spawn([process.execPath, main, ...args], {
    env: { ...clean, ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const err = child.stderr.text();
  const reader = child.stdout.getReader();
  const decoder = new TextDecoder();
  let out = "";
  while (out.split("\n", lines + 1).length <= lines) {
    const { value, done } = await reader.read();
    if (done) break;
    out += decoder.decode(value, { stream: true });
  }
  await reader.cancel();
  return { code: await child.exited, out, err: await err };
}
