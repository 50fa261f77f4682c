// What a permission server needs, for tests: keys, a policy, a state, and a real etcd on loopback in the test's own namespace.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Decision, Desk, readDeskPolicy } from "../../src/grants/desk.ts";
import { generateKey, type PrivateKey, thumbprint } from "../../src/grants/keys.ts";
import { type Ask, signRequest } from "../../src/grants/request.ts";
import type { State } from "../../src/grants/state.ts";
import { until } from "../net/wait.ts";
import { HOST, ISSUER, issuerKey, NOW } from "./make.ts";

export const web = generateKey();
export const admin = generateKey();
export const stranger = generateKey();

export const POLICY = `
issuer = "${ISSUER}"

[[who]]
name = "web"
keys = ["${thumbprint(web)}"]
hosts = ["${HOST}", "host-b"]
seconds = 600
[[who.allow]]
protocols = ["tcp", "udp"]
addresses = ["10.77.0.0/24"]
ports = [[8000, 9999]]
packets_per_second = 1000

[[who]]
name = "admin"
keys = ["${thumbprint(admin)}"]
admin = true
`;

/** A desk and what it logs; it stands at NOW, or where it is told. */
export function deskWith(state: State, now: () => number = () => NOW) {
  const log: Decision[] = [];
  const policy = readDeskPolicy(POLICY, "policy");
  const desk = new Desk({ policy, key: issuerKey, state, audit: (decision) => log.push(decision), now });
  const ask = async (what: Ask, key: PrivateKey, at = now()) =>
    (await desk.decide(await signRequest(what, ISSUER, key, at))) as {
      grant: string;
      list: string;
      grants: object[];
    };
  return { desk, log, ask };
}

/** etcd of one member, with nothing in it. */
export class EtcdProcess implements AsyncDisposable {
  readonly hosts: string;
  private readonly args: string[];
  private child!: Bun.Subprocess;

  private constructor(directory: string) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const ports = [0, 0].map(() => Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } }));
    const [client, peer] = ports.map(({ port }) => `http://127.0.0.1:${port}`) as [string, string];
    for (const port of ports) port.stop(true);
    this.hosts = client.slice("http://".length);
    this.args = ["--data-dir", directory, "--listen-client-urls", client, "--advertise-client-urls", client];
    this.args.push("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer);
    this.args.push("--initial-cluster", `default=${peer}`, "--logger", "zap", "--log-level", "error");
  }

  /** @param directory for its data, which goes with the test */
  static async start(directory: string): Promise<EtcdProcess> {
    const etcd = new EtcdProcess(join(directory, "etcd"));
    await etcd.run();
    return etcd;
  }

  /** Starts it, or starts it again with what it had. */
  async run(): Promise<void> {
    this.child = Bun.spawn(["etcd", ...this.args], { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
    await until("etcd", async () => {
      const answer = await fetch(`http://${this.hosts}/health`).catch(() => undefined);
      return answer?.ok === true;
    });
  }

  async stop(): Promise<void> {
    this.child.kill();
    await this.child.exited;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}
