// What a run left behind, found by comparing before and after: fds of BPF objects, sockets, namespaces and shared memory;
// our threads in another namespace; interfaces of this one; files. The lab prints the difference; it should be none.
// netd pins no BPF object, and its namespaces have no name: without a fd or a thread that holds it, each is gone. (A
// JIT helper thread of Bun's that was born while its maker was elsewhere goes when it has been idle for ten seconds,
// or with the process: not ours to wait for.)
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";

export interface Inventory {
  readonly items: ReadonlySet<string>;
}

/** The fds that hold something outside of Bun's own bookkeeping, by what they point to. */
function fds(): string[] {
  const found: string[] = [];
  for (const fd of readdirSync("/proc/self/fd")) {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      if (/^(net:|\/memfd:netd|anon_inode:bpf|socket:)/.test(target)) found.push(`fd ${fd} ${target}`);
    } catch {
      // closed meanwhile: the directory's own fd
    }
  }
  return found;
}

const threads = (): string[] =>
  readdirSync("/proc/self/task").flatMap((tid) => {
    try {
      const name = readFileSync(`/proc/self/task/${tid}/comm`, "utf8").trimEnd();
      const net = readlinkSync(`/proc/self/task/${tid}/ns/net`);
      const abroad = name.startsWith("netd-") && net !== readlinkSync("/proc/self/ns/net");
      return abroad ? [`thread ${name} in ${net}`] : [];
    } catch {
      return []; // ended meanwhile
    }
  });

const interfaces = (): string[] => readdirSync("/sys/class/net").map((name) => `interface ${name}`);

/** Everything of those kinds that there is now. `files` are paths that must not stay. */
export function inventory(files: readonly string[]): Inventory {
  const items = [
    ...fds(),
    ...threads(),
    ...interfaces(),
    ...files.filter((path) => existsSync(path)).map((path) => `file ${path}`),
  ];
  return { items: new Set(items) };
}

/** What is there now and was not in `before`. Waits a moment: the kernel frees BPF objects and sockets by and by. */
export async function leftovers(before: Inventory, files: readonly string[]): Promise<string[]> {
  for (let wait = 1; ; wait *= 2) {
    const left = [...inventory(files).items].filter((item) => !before.items.has(item));
    if (left.length === 0 || wait > 1024) return left;
    await Bun.sleep(wait);
  }
}
