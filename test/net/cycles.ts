// A child for daemon.leaks.test.ts: starts and stops a daemon argv[2] times in this one process, with a little traffic each
// time, and some starts that fail or are aborted in between; prints what the process has before and after, as JSON.
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { Daemon } from "../../src/daemon.ts";
import { Lab } from "../../src/lab/lab.ts";
import { alive, type BpfIds, bpfIds } from "../xdp/bpf.ts";
import { configFor } from "./card.ts";
import { Scratch } from "./child.ts";
import { UdpClient } from "./udp.ts";
import { until } from "./wait.ts";

/** What a process can lose: fds by what they are, threads, mappings, resident and unevictable memory in KiB. */
export interface Holdings {
  fds: Record<string, number>;
  threads: number;
  maps: number;
  rss: number;
  locked: number;
}

function holdings(): Holdings {
  Bun.gc(true);
  const fds: Record<string, number> = {};
  for (const fd of readdirSync("/proc/self/fd"))
    try {
      const kind = readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/g, "#");
      fds[kind] = (fds[kind] ?? 0) + 1;
    } catch {
      // the directory's own
    }
  const status = readFileSync("/proc/self/status", "latin1");
  const kib = (name: string) => Number(status.match(new RegExp(`${name}:\\s*(\\d+)`))![1]);
  const maps = readFileSync("/proc/self/maps", "latin1").split("\n").length;
  return {
    fds,
    threads: readdirSync("/proc/self/task").length,
    maps,
    rss: kib("VmRSS"),
    locked: kib("VmPin"),
  };
}

const times = Number(process.argv[2]);
const lab = Lab.create();
const scratch = new Scratch();
const seen: BpfIds = { map: [], prog: [], link: [] };
const client = await UdpClient.open(lab.peer, "10.77.0.2");

const config = configFor(lab, scratch.socket, { switch: { sockets: [`${scratch.path}/control.sock`] } });
const refuse = { ...config, poll: { ...config.poll, cores: [1000] } }; // the net Worker cannot be pinned

async function cycle(i: number): Promise<void> {
  const daemon = await Daemon.start(config);
  await client.echo("10.77.0.1", 7, { every: 10 });
  const ids = bpfIds();
  for (const kind of ["map", "prog", "link"] as const) seen[kind].push(...ids[kind]);
  await daemon.stop();
  if (i % 5 === 0) await Daemon.start(refuse).catch(() => {});
  if (i % 5 === 1) {
    const abort = new AbortController();
    setTimeout(() => abort.abort(new Error("enough")), i);
    await Daemon.start(config, abort.signal).then(
      (made) => made.stop(),
      () => {},
    );
  }
}

const WARM = 5;
for (let i = 0; i < WARM; i++) await cycle(i);
const before = holdings();
for (let i = 0; i < times; i++) await cycle(i);
// The kernel frees BPF objects, and Bun the threads of ended Workers, a moment later.
const settled = () => alive(seen) === 0 && holdings().threads <= before.threads;
await until("all to be given back", settled, 5000).catch(() => {});
const after = holdings();
const files = readdirSync(scratch.path);
console.log(JSON.stringify({ before, after, made: seen.prog.length, alive: alive(seen), files }));
client.close();
scratch[Symbol.dispose]();
lab.close();
process.exit(0);
